//! The policies that decide when a runner calls: the core of taskbeat, and the usual alternatives.

use std::time::Duration;

use fastrand::Rng;
use taskbeat::core::{
    Action, AfterTerminate, Agent, Event, Failure, FailureClass, Outcome, Policy, Random,
    RunnerKind, Time,
};

/// The interval of every fleet.
pub(crate) const INTERVAL: Duration = Duration::from_mins(15);

/// The outcome of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallResult {
    Acknowledged,
    Throttled,
    Unreachable,
}

/// One runner's heartbeats.
pub(crate) trait Beat {
    /// A call starts.
    fn call(&mut self, now: Time);

    /// Ends the call, and returns when the next one starts.
    fn next(&mut self, now: Time, outcome: CallResult, rng: &mut Rng) -> Time;

    /// The settings are read again, and are the same. Returns when the next call starts then.
    fn reload(&mut self, _: Time) -> Option<Time> {
        None
    }
}

/// The policies to compare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tick,
    SdkTick,
    FullJitter,
    Taskbeat,
    /// taskbeat with an interval of seconds, in slow motion, so that the limit and the goals are
    /// the same.
    Scaled,
}

/// The factor of the slow motion.
const SCALE: u32 = 100;

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Tick, Self::SdkTick, Self::FullJitter, Self::Taskbeat];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tick => "tick, no retry",
            Self::SdkTick => "tick, SDK's 3 attempts",
            Self::FullJitter => "full jitter to 60 s",
            Self::Taskbeat => "taskbeat",
            Self::Scaled => "taskbeat at 9 s",
        }
    }

    /// The time from a call to its response.
    ///
    /// It is not a part of the interval, so it is longer in slow motion. At 9 s the goals are met
    /// with 10 ms. With 100 ms they are missed, because the runners that have waited longest retry
    /// after 0.1 to 0.2 s, and would call less often.
    pub(crate) fn latency(self) -> Duration {
        match self {
            Self::Tick | Self::SdkTick | Self::FullJitter | Self::Taskbeat => {
                Duration::from_millis(100)
            }
            Self::Scaled => Duration::from_millis(10) * SCALE,
        }
    }

    /// A runner that boots now.
    pub(crate) fn boot(self, now: Time) -> Box<dyn Beat> {
        match self {
            Self::Tick => Box::new(Tick { due: now, attempts: 1, failures: 0 }),
            Self::SdkTick => Box::new(Tick { due: now, attempts: 3, failures: 0 }),
            Self::FullJitter => Box::new(FullJitter { started: now, failures: 0 }),
            Self::Taskbeat => Box::new(Core::boot(now, 1)),
            Self::Scaled => Box::new(Core::boot(now, SCALE)),
        }
    }
}

/// The core of the daemon, slowed down by `scale`.
struct Core {
    agent: Agent,
    scale: u32,
}

/// A core whose runner has just started, so that its first heartbeat is in flight.
pub(crate) fn boot(runner: RunnerKind, now: Time, interval: Duration) -> Agent {
    let policy = Policy {
        interval,
        jitter: 0.1,
        grace: Duration::ZERO,
        lost_contact_after: None,
        on_terminate: false,
        health_check: None,
        on_contact_change: false,
        after_terminate: AfterTerminate::Exit,
    };
    let mut agent = Agent::new(runner, policy);
    agent.handle(now, Event::Due);
    let actions = agent.handle(now, Event::RunnerStarted);
    assert_eq!(actions, [Action::Send { renew: false }]);
    agent
}

/// The end of a heartbeat, as an event of the core.
pub(crate) fn ended(outcome: CallResult, rng: &mut Rng) -> Event {
    let failed = |class| Outcome::Failed(Failure { class, retry_after: None });
    let outcome = match outcome {
        CallResult::Acknowledged => Outcome::Acknowledged { terminate: false },
        CallResult::Throttled => failed(FailureClass::Throttled),
        CallResult::Unreachable => failed(FailureClass::Transient),
    };
    Event::HeartbeatEnded(outcome, Random::new(rng.f64()))
}

impl Core {
    fn boot(now: Time, scale: u32) -> Self {
        let time = Time::after_start(now.since_start() / scale);
        let agent = boot(RunnerKind::None, time, INTERVAL / scale);
        Self { agent, scale }
    }

    fn due(&self) -> Option<Time> {
        let due = self.agent.schedule().due()?;
        Some(Time::after_start(due.since_start() * self.scale))
    }

    fn handle(&mut self, now: Time, event: Event) {
        let time = Time::after_start(now.since_start() / self.scale);
        self.agent.handle(time, event);
    }
}

impl Beat for Core {
    fn call(&mut self, now: Time) {
        // The first call starts with the boot.
        if !self.agent.schedule().in_flight() {
            self.handle(now, Event::Due);
        }
    }

    fn next(&mut self, now: Time, outcome: CallResult, rng: &mut Rng) -> Time {
        self.handle(now, ended(outcome, rng));
        self.due().unwrap_or(now)
    }

    fn reload(&mut self, now: Time) -> Option<Time> {
        self.handle(now, Event::Reloaded(*self.agent.policy()));
        self.due()
    }
}

/// A fixed tick. A failed call is retried as by the AWS SDK, or not at all, and then at the next
/// tick.
struct Tick {
    due: Time,
    attempts: i32,
    failures: i32,
}

impl Beat for Tick {
    fn call(&mut self, _: Time) {}

    fn next(&mut self, now: Time, outcome: CallResult, rng: &mut Rng) -> Time {
        self.failures += 1;
        if outcome != CallResult::Acknowledged && self.failures < self.attempts {
            return now + full_jitter(self.failures - 1, 20.0, rng);
        }
        self.failures = 0;
        while self.due <= now {
            self.due = self.due + INTERVAL;
        }
        self.due
    }
}

/// The usual recommendation: exponential backoff with full jitter, without a limit of attempts.
struct FullJitter {
    started: Time,
    failures: i32,
}

impl Beat for FullJitter {
    fn call(&mut self, now: Time) {
        self.started = now;
    }

    fn next(&mut self, now: Time, outcome: CallResult, rng: &mut Rng) -> Time {
        if outcome == CallResult::Acknowledged {
            self.failures = 0;
            return self.started + INTERVAL;
        }
        self.failures += 1;
        now + full_jitter(self.failures - 1, 60.0, rng)
    }
}

fn full_jitter(failures: i32, longest: f64, rng: &mut Rng) -> Duration {
    Duration::from_secs_f64(rng.f64() * 2.0_f64.powi(failures.min(20)).min(longest))
}
