//! What decides when a runner calls: the real core, and what people use instead.

use std::time::Duration;

use fastrand::Rng;
use taskbeat::core::{
    Action, AfterTerminate, Agent, Event, Failure, FailureClass, Outcome, Policy, Random,
    RunnerKind, Time,
};

/// The interval of every fleet.
pub(crate) const INTERVAL: Duration = Duration::from_mins(15);

/// What became of a call.
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

    /// The call has its outcome. When does the next one start?
    fn next(&mut self, now: Time, outcome: CallResult, rng: &mut Rng) -> Time;
}

/// The policies that are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tick,
    SdkTick,
    FullJitter,
    Taskbeat,
    /// Ours with an interval of seconds, seen in slow motion: so the limit is the same, and so are the goals.
    Scaled,
}

/// How slow the motion is.
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

    /// How long an answer takes.
    ///
    /// It is no part of the interval, so to a fleet that is scaled down it is longer. At 9 s the goals are met with
    /// 10 ms, and with 100 ms there is no room left: it makes the oldest, who wait for 0.1 to 0.2 s, ask less often.
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
            Self::Tick => Box::new(Tick {
                due: now,
                attempts: 1,
                failures: 0,
            }),
            Self::SdkTick => Box::new(Tick {
                due: now,
                attempts: 3,
                failures: 0,
            }),
            Self::FullJitter => Box::new(FullJitter {
                started: now,
                failures: 0,
            }),
            Self::Taskbeat => Box::new(Core::boot(now, 1)),
            Self::Scaled => Box::new(Core::boot(now, SCALE)),
        }
    }
}

/// The core that the daemon runs, in motion that is as slow as `scale` says.
struct Core {
    agent: Agent,
    scale: u32,
}

impl Core {
    fn boot(now: Time, scale: u32) -> Self {
        let mut agent = Agent::new(
            RunnerKind::None,
            Policy {
                interval: INTERVAL / scale,
                jitter: 0.1,
                grace: Duration::ZERO,
                lost_contact_after: None,
                on_terminate: false,
                after_terminate: AfterTerminate::Exit,
            },
        );
        let time = Time::after_start(now.since_start() / scale);
        agent.handle(time, Event::Due);
        let actions = agent.handle(time, Event::RunnerStarted);
        debug_assert_eq!(actions, [Action::Send { renew: false }]);
        Self { agent, scale }
    }

    fn handle(&mut self, now: Time, event: Event) {
        let time = Time::after_start(now.since_start() / self.scale);
        self.agent.handle(time, event);
    }
}

impl Beat for Core {
    fn call(&mut self, now: Time) {
        // The first one went out with the boot.
        if !self.agent.schedule().in_flight() {
            self.handle(now, Event::Due);
        }
    }

    fn next(&mut self, now: Time, outcome: CallResult, rng: &mut Rng) -> Time {
        let failed = |class| {
            Outcome::Failed(Failure {
                class,
                retry_after: None,
            })
        };
        let answer = match outcome {
            CallResult::Acknowledged => Outcome::Acknowledged { terminate: false },
            CallResult::Throttled => failed(FailureClass::Throttled),
            CallResult::Unreachable => failed(FailureClass::Transient),
        };
        let event = Event::HeartbeatEnded(answer, Random::new(rng.f64()));
        self.handle(now, event);
        let deadline = self.agent.deadline();
        deadline.map_or(now, |due| Time::after_start(due.since_start() * self.scale))
    }
}

/// A fixed tick. A call that fails is tried again as the AWS SDK does, or not at all, and then waits for the next tick.
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

/// The backoff that every guide recommends, never given up.
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

fn full_jitter(before: i32, longest: f64, rng: &mut Rng) -> Duration {
    Duration::from_secs_f64(rng.f64() * 2.0_f64.powi(before.min(20)).min(longest))
}
