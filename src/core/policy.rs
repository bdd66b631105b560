//! The settings that the core acts on.

use std::time::Duration;

/// What the heartbeats report on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerKind {
    /// No process: taskbeat only sends heartbeats.
    None,
    /// A child process. taskbeat exits when it exits.
    Child,
    /// Another supervisor's process (`--pid`). taskbeat exits when it exits.
    Attached,
    /// Another supervisor's process that may be restarted (`--pid-file`). When it exits, taskbeat
    /// waits for the next one.
    Followed,
}

/// What taskbeat does once `terminate` was obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterTerminate {
    /// Exit with status 0.
    Exit,
    /// Stay up and send nothing, for supervisors that restart whatever exits.
    Idle,
}

/// The timings and choices that a reload may replace while the runner runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// From the start of an acknowledged heartbeat to the latest start of the next: 10 ms to 15 m.
    pub interval: Duration,
    /// The largest part of the interval, 0 to 0.5, by which a heartbeat may start early.
    pub jitter: f64,
    /// From the stop signal to SIGKILL; also the time limit of `on-terminate`.
    pub grace: Duration,
    /// Stop the runner after this time without an acknowledgement: more than two intervals.
    pub lost_contact_after: Option<Duration>,
    /// True if there is an `on-terminate` command.
    pub on_terminate: bool,
    /// The time limit of the `health-check` command, if there is one: less than the interval.
    pub health_check: Option<Duration>,
    /// True if there is an `on-contact-change` command.
    pub on_contact_change: bool,
    /// What follows when `terminate` was obeyed.
    pub after_terminate: AfterTerminate,
}
