//! A fleet in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use taskbeat::core::Time;

use crate::limit::Limit;
use crate::measure::Measure;
use crate::policies::{Beat, CallResult, INTERVAL, Kind};

/// The limit of a call without a response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The time until the start has no more effect on a fleet, and the time it is watched from then on.
const SETTLING: Duration = Duration::from_hours(4);
const WATCH: Duration = Duration::from_hours(24);

const OUTAGE: Duration = Duration::from_mins(30);

/// The events that a fleet lives through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// All runners boot within five seconds.
    Boot,
    /// No call reaches the service for half an hour.
    Outage,
    /// No event.
    Steady,
}

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::Boot, Self::Outage, Self::Steady];

    /// The time in which the runners boot.
    fn boot(self) -> Duration {
        match self {
            Self::Boot => Duration::from_secs(5),
            Self::Outage | Self::Steady => INTERVAL,
        }
    }

    fn outage(self) -> Range<Time> {
        let from = Time::ZERO + SETTLING;
        match self {
            Self::Outage => from..from + OUTAGE,
            Self::Boot | Self::Steady => from..from,
        }
    }

    /// The start of gaps that count. During the outage no policy could avoid a gap.
    fn blamed(self) -> Time {
        match self {
            Self::Outage => self.outage().end,
            Self::Boot | Self::Steady => Time::ZERO,
        }
    }

    /// The time in which the fleet is watched.
    fn watched(self) -> Range<Time> {
        let from = match self {
            Self::Boot => Time::ZERO,
            Self::Outage | Self::Steady => self.outage().end,
        };
        from..from + WATCH
    }
}

/// Plays `scenario` with `size` runners.
pub(crate) fn play(scenario: Scenario, size: u32, kind: Kind, seed: u64) -> Measure {
    let mut rng = Rng::with_seed(seed);
    let mut limit = Limit::full();
    let outage = scenario.outage();
    let watched = scenario.watched();
    let mut fleet: Vec<Box<dyn Beat>> = Vec::new();
    let mut booted = Vec::new();
    for _ in 0..size {
        let now = Time::ZERO + scenario.boot().mul_f64(rng.f64());
        booted.push(now);
        fleet.push(kind.boot(now));
    }
    let calls = booted.iter().copied().zip(0..);
    let mut calls: BinaryHeap<Reverse<(Time, usize)>> = calls.map(Reverse).collect();
    let latency = kind.latency();
    let mut measure = Measure::new(watched.clone(), scenario.blamed(), booted);

    while let Some(Reverse((now, runner))) = calls.pop() {
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
        fleet[runner].call(now);
        let next = fleet[runner].next(now + took, outcome, &mut rng);
        calls.push(Reverse((next, runner)));
    }
    measure.close();
    measure
}
