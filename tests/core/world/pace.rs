//! The law of pace, written from the contract and not from the schedule.
//!
//! The law does not see the runner at all: its starts and exits change nothing. Only a reload and a
//! suspension bring a heartbeat forward.

use std::time::Duration;

use taskbeat::core::{Event, Failure, FailureClass, Outcome, Policy, State, Time};

/// Durations are computed in another way than the schedule's.
const ROUNDING: Duration = Duration::from_micros(1);

/// A reload brings a failed heartbeat forward at most once in this time.
const RELOAD_PACE: Duration = Duration::from_secs(10);

/// Bounds of the next heartbeat's start.
#[derive(Clone)]
pub(super) struct Pace {
    earliest: Time,
    /// `None` while no heartbeat has begun the schedule.
    latest: Option<Time>,
    /// When the newest heartbeat started.
    started: Time,
    in_flight: bool,
    /// How long the host was suspended while the heartbeat was in flight.
    suspended: Duration,
    /// The class of the newest failure, and how many of it came in a row.
    failed: Option<(FailureClass, i32)>,
    /// The newest heartbeat failed.
    failing: bool,
    /// When a reload last brought a failed heartbeat forward.
    reloaded: Option<Time>,
    /// How often the heartbeat was withheld since the last one; `None` if it was not.
    withheld: Option<i32>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            earliest: Time::ZERO,
            latest: None,
            started: Time::ZERO,
            in_flight: false,
            suspended: Duration::ZERO,
            failed: None,
            failing: false,
            reloaded: None,
            withheld: None,
        }
    }

    /// A heartbeat starts, or its health check.
    pub(super) fn attempt(&mut self, now: Time) {
        let early = self.earliest - now;
        assert!(early <= ROUNDING, "a heartbeat {early:?} early");
        if let Some(latest) = self.latest {
            let late = now - latest;
            assert!(late <= ROUNDING, "a heartbeat {late:?} late");
        }
        // The check has a limit of its own.
        self.latest = None;
    }

    /// The runner is unhealthy. The next check follows after a second that doubles, up to 5 min.
    pub(super) fn withheld(&mut self, now: Time, policy: &Policy) {
        let times = self.withheld.get_or_insert(0);
        let seconds = 2.0_f64.powi(*times).min(300.0);
        *times += 1;
        self.earliest = now + policy.interval.mul_f64(seconds / 900.0);
        self.latest = Some(self.earliest);
    }

    /// A heartbeat starts, at once or after its check.
    pub(super) fn send(&mut self, now: Time) {
        self.attempt(now);
        self.withheld = None;
        self.started = now;
        self.in_flight = true;
        self.suspended = Duration::ZERO;
    }

    /// An event came in the state `before`, under `policy`.
    pub(super) fn observe(&mut self, now: Time, event: Event, before: State, policy: &Policy) {
        match event {
            Event::HeartbeatEnded(outcome, _) => {
                self.in_flight = false;
                self.heartbeat_ended(now, outcome, policy);
            }
            Event::Reloaded(policy) if before != State::Starting => self.reloaded(now, &policy),
            Event::Resumed(gap) if self.in_flight => self.suspended += gap,
            Event::Resumed(gap) => {
                self.earliest = self.earliest - gap;
                self.latest = self.latest.map(|latest| (latest - gap).max(now));
            }
            Event::LeaderStopped(false) if self.withheld.is_some() => {
                self.earliest = self.earliest.min(now);
                self.latest = self.latest.map(|latest| latest.min(now));
            }
            // While no runner runs, no heartbeat starts.
            Event::RunnerStarted => self.latest = self.latest.map(|latest| latest.max(now)),
            Event::Due
            | Event::StartFailed(_)
            | Event::LeaderExited(_)
            | Event::LeaderStopped(_)
            | Event::RunnerGone
            | Event::CommandEnded(..)
            | Event::Stop(_)
            | Event::Reloaded(_) => {}
        }
    }

    fn heartbeat_ended(&mut self, now: Time, outcome: Outcome, policy: &Policy) {
        let latest = match outcome {
            Outcome::Acknowledged { .. } => {
                self.failed = None;
                self.failing = false;
                let check = policy.health_check.unwrap_or_default();
                let shortest = policy.interval.mul_f64(1.0 - policy.jitter);
                let shortest = shortest.min(policy.interval.saturating_sub(check));
                self.earliest = self.started + shortest - self.suspended;
                self.started + policy.interval - self.suspended
            }
            Outcome::Failed(failure) => {
                let in_a_row = match self.failed {
                    Some((class, count)) if class == failure.class => count + 1,
                    Some(_) | None => 1,
                };
                self.failed = Some((failure.class, in_a_row));
                self.failing = true;
                self.earliest = now + shortest_backoff(failure, in_a_row, policy.interval);
                now + policy.interval
            }
        };
        self.latest = Some(latest.max(now));
    }

    fn reloaded(&mut self, now: Time, policy: &Policy) {
        let failing = self.failing || self.withheld.is_some();
        let retries = failing && self.reloaded.is_none_or(|last| now - last >= RELOAD_PACE);
        let by_interval = self.started + policy.interval;
        let bound = match self.reloaded {
            _ if retries => now,
            Some(last) if self.withheld.is_some() => by_interval.max(last + RELOAD_PACE),
            Some(_) | None => by_interval,
        };
        if retries {
            self.reloaded = Some(now);
            self.failed = self.failed.filter(|(class, _)| *class != FailureClass::Throttled);
        }
        if !self.in_flight {
            self.earliest = self.earliest.min(bound);
            self.latest = self.latest.map(|latest| latest.min(bound).max(now));
        }
    }
}

/// The shortest backoff after `in_a_row` failures of this class, at an interval of 15 minutes: a
/// second that doubles, of which the upper half is drawn, up to 30 s or 5 min. A throttled
/// heartbeat waits longer. The service may ask for more.
fn shortest_backoff(failure: Failure, in_a_row: i32, interval: Duration) -> Duration {
    let part = |seconds: f64| interval.mul_f64(seconds / 900.0);
    let doubled = 2.0_f64.powi(in_a_row - 1);
    let (seconds, longest) = match failure.class {
        FailureClass::Transient => (doubled.min(30.0) / 2.0, 850.0),
        FailureClass::Rejected => (doubled.min(300.0) / 2.0, 270.0),
        FailureClass::Throttled if in_a_row == 1 => (100.0, 850.0),
        FailureClass::Throttled => (10.0, 850.0),
    };
    let asked = failure.retry_after.unwrap_or_default();
    part(seconds).max(asked.min(part(longest)))
}
