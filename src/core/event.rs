//! The events that the core decides on, and the actions that follow.

use std::fmt;
use std::time::Duration;

use super::{Exit, Failure, Policy, Random};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The deadline of [`Agent::deadline`](super::Agent::deadline) has come.
    Due,
    /// The runner runs: it was started or found.
    RunnerStarted,
    /// The runner could not be started.
    StartFailed(Exit),
    /// The runner's leader exited. Its descendants may still be there.
    LeaderExited(Exit),
    /// A signal has stopped the leader (true), or continued it (false). For a runner that is found
    /// stopped, this event precedes `RunnerStarted`.
    LeaderStopped(bool),
    /// No process of the runner is left, after its leader exited.
    RunnerGone,
    /// The heartbeat in flight has ended.
    HeartbeatEnded(Outcome, Random),
    /// A command beside the runner has ended.
    CommandEnded(CommandName, CommandResult),
    /// The operator asks for a stop, by the signal of this number.
    Stop(u8),
    /// The settings were reloaded.
    Reloaded(Policy),
    /// The host was suspended for this long, which no other time here includes.
    Resumed(Duration),
}

/// How a heartbeat ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service accepted it.
    Acknowledged {
        /// True if the runner is to stop for good.
        terminate: bool,
    },
    /// It was not acknowledged.
    Failed(Failure),
}

/// The commands beside the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandName {
    /// `on-terminate`: runs after `terminate`, before the runner is stopped.
    OnTerminate,
    /// `health-check`: runs before each heartbeat, which is sent if it succeeds.
    HealthCheck,
    /// `on-contact-change`: runs when contact is lost or regained.
    OnContactChange,
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnTerminate => "on-terminate",
            Self::HealthCheck => "health-check",
            Self::OnContactChange => "on-contact-change",
        })
    }
}

/// How a command beside the runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandResult {
    /// It exited with this status.
    Exited(Exit),
    /// It could not be started.
    NotStarted,
}

/// What the shell is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the runner, or begin to look for it.
    StartRunner,
    /// Send a heartbeat.
    Send {
        /// Build a new client first.
        renew: bool,
    },
    /// Give up the heartbeat in flight.
    Abandon,
    /// Run this command.
    StartCommand(CommandName),
    /// End this command, which has not ended by itself.
    KillCommand(CommandName),
    /// Send the stop signal to those processes of the runner that have not received it.
    StopRunner,
    /// Send SIGKILL to every process of the runner.
    KillRunner,
    /// Contact with the service is lost.
    ContactLost,
    /// Contact is back after this time.
    ContactRegained(Duration),
    /// The runner is unhealthy, so heartbeats are withheld.
    HealthLost,
    /// The runner is healthy again after this time.
    HealthRegained(Duration),
    /// Leave the loop with this status.
    Exit(Exit),
}
