//! A fleet in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use taskbeat::core::Time;

use crate::crash::CrashLoop;
use crate::limit::Limit;
use crate::measure::Measure;
use crate::policies::{Beat, CallResult, INTERVAL, Kind};

/// The limit of a call without a response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The time until the start has no more effect on a fleet, and the time it is watched from then on.
const SETTLING: Duration = Duration::from_hours(4);
const WATCH: Duration = Duration::from_hours(24);

const OUTAGE: Duration = Duration::from_mins(30);

/// One runner in this many crashes in a loop.
const CRASHING: usize = 10;

/// The events that a fleet lives through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// All runners boot within five seconds.
    Boot,
    /// No call reaches the service for half an hour.
    Outage,
    /// No event.
    Steady,
    /// The whole fleet is reloaded at once, while one runner in ten crashes in a loop, or none.
    /// Only the others are watched.
    Reload(Option<CrashLoop>),
}

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::Boot, Self::Outage, Self::Steady];

    /// The time in which the runners boot.
    fn boot(self) -> Duration {
        match self {
            Self::Boot => Duration::from_secs(5),
            Self::Outage | Self::Steady | Self::Reload(_) => INTERVAL,
        }
    }

    fn outage(self) -> Range<Time> {
        let from = Time::ZERO + SETTLING;
        match self {
            Self::Outage => from..from + OUTAGE,
            Self::Boot | Self::Steady | Self::Reload(_) => from..from,
        }
    }

    /// The start of gaps that count. During the outage no policy could avoid a gap.
    fn blamed(self) -> Time {
        match self {
            Self::Outage => self.outage().end,
            Self::Boot | Self::Steady | Self::Reload(_) => Time::ZERO,
        }
    }

    /// The time in which the fleet is watched.
    fn watched(self) -> Range<Time> {
        let from = match self {
            Self::Boot => Time::ZERO,
            Self::Outage | Self::Steady | Self::Reload(_) => self.outage().end,
        };
        from..from + WATCH
    }

    /// The time at which the whole fleet is reloaded.
    fn reload(self) -> Option<Time> {
        matches!(self, Self::Reload(_)).then_some(self.watched().start)
    }

    /// True for the runners whose figures count.
    fn counts(self, runner: usize) -> bool {
        self.reload().is_none() || !runner.is_multiple_of(CRASHING)
    }

    fn crash_loop(self, runner: usize) -> Option<CrashLoop> {
        match self {
            Self::Reload(crash_loop) if !self.counts(runner) => crash_loop,
            Self::Boot | Self::Outage | Self::Steady | Self::Reload(_) => None,
        }
    }
}

/// A fleet, and the time of each runner's next call.
struct Fleet {
    runners: Vec<Box<dyn Beat>>,
    next: Vec<Time>,
    calls: BinaryHeap<Reverse<(Time, usize)>>,
}

impl Fleet {
    fn add(&mut self, runner: Box<dyn Beat>, first: Time) {
        self.calls.push(Reverse((first, self.runners.len())));
        self.runners.push(runner);
        self.next.push(first);
    }

    fn call_at(&mut self, runner: usize, time: Time) {
        self.next[runner] = time;
        self.calls.push(Reverse((time, runner)));
    }

    /// The next call. A call that a reload has moved is still in the heap, with its old time.
    fn pop(&mut self) -> Option<(Time, usize)> {
        loop {
            let Reverse((time, runner)) = self.calls.pop()?;
            if self.next[runner] == time {
                return Some((time, runner));
            }
        }
    }

    fn reload(&mut self, now: Time) {
        for runner in 0..self.runners.len() {
            if let Some(next) = self.runners[runner].reload(now) {
                self.call_at(runner, next);
            }
        }
    }
}

/// Plays `scenario` with `size` runners.
pub(crate) fn play(scenario: Scenario, size: u32, kind: Kind, seed: u64) -> Measure {
    let mut rng = Rng::with_seed(seed);
    let mut limit = Limit::full();
    let outage = scenario.outage();
    let watched = scenario.watched();
    let mut reload = scenario.reload();
    let mut fleet = Fleet { runners: Vec::new(), next: Vec::new(), calls: BinaryHeap::new() };
    let mut booted = Vec::new();
    for (runner, _) in (0..size).enumerate() {
        let now = Time::ZERO + scenario.boot().mul_f64(rng.f64());
        booted.push(scenario.counts(runner).then_some(now));
        let beat = match scenario.crash_loop(runner) {
            Some(crash_loop) => crash_loop.boot(now),
            None => kind.boot(now),
        };
        fleet.add(beat, now);
    }
    let latency = kind.latency();
    let mut measure = Measure::new(watched.clone(), scenario.blamed(), booted);

    while let Some((now, runner)) = fleet.pop() {
        if let Some(time) = reload.take_if(|time| *time <= now) {
            fleet.call_at(runner, now);
            fleet.reload(time);
            continue;
        }
        if now >= watched.end {
            break;
        }
        let (outcome, took) = if outage.contains(&now) {
            let took = if rng.bool() { Duration::ZERO } else { TIMEOUT };
            (CallResult::Unreachable, took)
        } else if limit.allow(now) {
            (CallResult::Acknowledged, latency)
        } else {
            (CallResult::Throttled, latency)
        };
        measure.called(now, runner, outcome);
        fleet.runners[runner].call(now);
        let next = fleet.runners[runner].next(now + took, outcome, &mut rng);
        fleet.call_at(runner, next);
    }
    measure.close();
    measure
}
