//! The states of the agent.

use std::time::Duration;

use super::{Action, Time};

/// How long taskbeat waits after SIGKILL for processes that cannot be killed.
pub const LAST_WAIT: Duration = Duration::from_secs(5);

/// Why the runner is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its leader exited by itself. The descendants that are left get the ladder.
    Ended,
    /// The operator asked for it. `terminate` replaces this cause if it comes meanwhile.
    Operator,
    /// The policy for lost contact demands it.
    LostContact,
    /// The service answered `terminate`.
    Terminate,
}

/// A rung of the ladder by which a runner is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The stop signal was sent. SIGKILL follows after the grace.
    Stop,
    /// SIGKILL was sent. taskbeat gives up after [`LAST_WAIT`].
    Kill,
}

/// The state of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The runner has not been started.
    Starting,
    /// The runner does not run. No heartbeat is sent.
    Waiting,
    /// The runner runs. Heartbeats are sent.
    Running,
    /// The `on-terminate` command runs. The ladder follows.
    OnTerminate {
        /// When the command is killed.
        until: Time,
    },
    /// The runner is being stopped.
    Ladder {
        /// What was sent last.
        rung: Rung,
        /// Why.
        cause: Cause,
        /// When the next rung follows.
        until: Time,
    },
    /// `terminate` was obeyed. taskbeat waits for the operator.
    Idle,
    /// The loop exits.
    Exiting,
}

impl State {
    /// When this step of a stop ends; `None` if the runner is not being stopped.
    #[must_use]
    pub fn until(self) -> Option<Time> {
        match self {
            Self::OnTerminate { until } | Self::Ladder { until, .. } => Some(until),
            Self::Starting | Self::Waiting | Self::Running | Self::Idle | Self::Exiting => None,
        }
    }
}

impl Cause {
    /// The cause after `terminate` was received: it replaces an operator's stop.
    pub(super) fn or_terminate(self) -> Self {
        match self {
            Self::Operator => Self::Terminate,
            Self::Ended | Self::LostContact | Self::Terminate => self,
        }
    }
}

impl Rung {
    pub(super) fn action(self) -> Action {
        match self {
            Self::Stop => Action::StopRunner,
            Self::Kill => Action::KillRunner,
        }
    }
}
