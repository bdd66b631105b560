//! Runners that crash in a loop.

use std::time::Duration;

use fastrand::Rng;
use taskbeat::core::{Action, Agent, Event, Exit, RunnerKind, Time};

use crate::policies::{Beat, CallResult, INTERVAL, boot, ended};

/// The time from the start of the runner to its crash.
const LIFE: Duration = Duration::from_millis(300);

/// The time from a crash of a followed runner until its own supervisor has restarted it.
const PAUSE: Duration = Duration::from_millis(200);

/// The delays before the restarts of a unit, of which the last one repeats: `RestartSec=` of
/// systemd/taskbeat.service, and the steps of systemd/drop-ins/restarts.conf.
const DELAYS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(95), Duration::from_mins(15)];

/// The way in which taskbeat meets the next runner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashLoop {
    /// A child: taskbeat exits with the runner, and systemd starts both again.
    Child,
    /// A followed runner: taskbeat stays.
    Followed,
}

impl CrashLoop {
    pub(crate) const ALL: [Self; 2] = [Self::Child, Self::Followed];

    /// A host whose runner starts for the first time.
    pub(crate) fn boot(self, now: Time) -> Box<dyn Beat> {
        match self {
            Self::Child => Box::new(Child { started: now, restarts: 0 }),
            Self::Followed => {
                let followed = Followed {
                    agent: boot(RunnerKind::Followed, now, INTERVAL),
                    is_up: true,
                    change: now + LIFE,
                };
                Box::new(Lookahead { present: followed.clone(), future: followed })
            }
        }
    }
}

/// taskbeat with a child. Each start is a new process without a memory.
struct Child {
    started: Time,
    restarts: usize,
}

impl Beat for Child {
    fn call(&mut self, now: Time) {
        self.started = now;
        // It calls because it starts: `boot` checks that.
        boot(RunnerKind::Child, now, INTERVAL);
    }

    fn next(&mut self, _: Time, _: CallResult, _: &mut Rng) -> Time {
        let delay = DELAYS[self.restarts.min(DELAYS.len() - 1)];
        self.restarts += 1;
        self.started + LIFE + delay
    }
}

/// taskbeat and a followed runner.
#[derive(Clone)]
struct Followed {
    agent: Agent,
    is_up: bool,
    /// When the runner crashes, or is back.
    change: Time,
}

impl Followed {
    /// Plays the next event that comes at `until` at the latest. `None` if there is none, or else
    /// its time, and true if a call starts.
    fn step(&mut self, until: Time) -> Option<(Time, bool)> {
        let due = self.agent.deadline().filter(|due| *due < self.change);
        let now = due.unwrap_or(self.change);
        if now > until {
            return None;
        }
        let event = match (due, self.is_up) {
            (Some(_), _) => Event::Due,
            (None, true) => Event::LeaderExited(Exit(1)),
            (None, false) => Event::RunnerStarted,
        };
        if due.is_none() {
            self.is_up = !self.is_up;
            self.change = now + if self.is_up { LIFE } else { PAUSE };
        }
        let actions = self.agent.handle(now, event);
        let calls = actions.iter().any(|it| matches!(it, Action::Send { .. }));
        Some((now, calls))
    }

    /// Plays until a call starts, and returns when.
    fn until_call(&mut self) -> Time {
        let end_of_time = Time::after_start(Duration::MAX);
        loop {
            if let Some((now, true)) = self.step(end_of_time) {
                return now;
            }
        }
    }
}

/// A followed runner in the present, and in the future in which its next call starts.
struct Lookahead {
    present: Followed,
    future: Followed,
}

impl Beat for Lookahead {
    fn call(&mut self, _: Time) {
        self.present = self.future.clone();
    }

    fn next(&mut self, now: Time, outcome: CallResult, rng: &mut Rng) -> Time {
        while self.present.step(now).is_some() {}
        self.present.agent.handle(now, ended(outcome, rng));
        self.future = self.present.clone();
        self.future.until_call()
    }

    fn reload(&mut self, now: Time) -> Option<Time> {
        while self.present.step(now).is_some() {}
        let policy = *self.present.agent.policy();
        self.present.agent.handle(now, Event::Reloaded(policy));
        self.future = self.present.clone();
        Some(self.future.until_call())
    }
}
