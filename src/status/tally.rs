//! What happened since the daemon started, as far as the agent does not remember it.

use serde::{Deserialize, Serialize};

use crate::clock::WallTime;
use crate::core::{Agent, Cause, Event, FailureClass, Outcome, Time};

/// Counts the events of the loop, for the snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    /// Heartbeats that have ended or were withheld, by result.
    pub(crate) heartbeats: Heartbeats,
    /// Duration of the newest heartbeat that has ended.
    pub(crate) heartbeat_seconds: Option<f64>,
    /// How often the runner was started or found.
    pub(crate) runner_starts: u64,
    /// How often a stop of the runner began, or got another cause.
    pub(crate) stops: StopCounts,
    /// The wall-clock time of [`Time::ZERO`].
    #[serde(skip)]
    pub(crate) epoch: WallTime,
    /// Why the runner is being stopped, or was.
    #[serde(skip)]
    cause: Option<Cause>,
    /// How often the heartbeat that is due was withheld.
    #[serde(skip)]
    withheld: usize,
}

/// How many heartbeats had each result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Heartbeats {
    pub(crate) acknowledged: u64,
    pub(crate) transient: u64,
    pub(crate) throttled: u64,
    pub(crate) rejected: u64,
    /// Withheld.
    pub(crate) unhealthy: u64,
}

/// How many stops had each cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct StopCounts {
    pub(crate) leader_exited: u64,
    pub(crate) operator: u64,
    pub(crate) lost_contact: u64,
    pub(crate) terminate: u64,
}

impl Tally {
    /// Counts what `event` did to `agent` at `now`.
    pub(crate) fn count(&mut self, now: Time, event: Event, agent: &Agent) {
        if let Event::HeartbeatEnded(outcome, _) = event {
            *self.heartbeats.of(outcome) += 1;
            self.heartbeat_seconds = Some((now - agent.schedule().started()).as_secs_f64());
        }
        let before = std::mem::replace(&mut self.withheld, agent.schedule().withheld());
        if self.withheld > before {
            self.heartbeats.unhealthy += 1;
        }
        if event == Event::RunnerStarted {
            self.runner_starts += 1;
        }
        let before = std::mem::replace(&mut self.cause, agent.stop_cause());
        if let Some(cause) = self.cause.filter(|_| self.cause != before) {
            *self.stops.by(cause) += 1;
        }
    }

    /// The wall-clock time of `time`.
    pub(crate) fn wall_time(&self, time: Time) -> WallTime {
        self.epoch.of(time)
    }
}

impl Heartbeats {
    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Acknowledged { .. } => &mut self.acknowledged,
            Outcome::Failed(failure) => match failure.class {
                FailureClass::Transient => &mut self.transient,
                FailureClass::Throttled => &mut self.throttled,
                FailureClass::Rejected => &mut self.rejected,
            },
        }
    }
}

impl StopCounts {
    fn by(&mut self, cause: Cause) -> &mut u64 {
        match cause {
            Cause::Ended => &mut self.leader_exited,
            Cause::Operator => &mut self.operator,
            Cause::LostContact => &mut self.lost_contact,
            Cause::Terminate => &mut self.terminate,
        }
    }
}
