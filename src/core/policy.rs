//! What the user decided that the core acts on.

use std::time::Duration;

/// What the heartbeats speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerKind {
    /// Nobody that we know: only heartbeats.
    None,
    /// Our child. Its end is ours.
    Child,
    /// Somebody else's process. Its end is ours.
    Attached,
    /// Somebody else's process that its own supervisor restarts. After its end we wait for the next one.
    Followed,
}

/// What follows when `terminate` was obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterTerminate {
    /// Exit with status 0.
    Exit,
    /// Stay up, silent, for supervisors that restart whatever exits.
    Idle,
}

/// The timings and choices that SIGHUP may replace while the runner runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// From the start of an acknowledged heartbeat to the latest start of the next: 10 ms to 15 min.
    pub interval: Duration,
    /// The largest part of the interval, 0 to 0.5, by which a heartbeat may go out early.
    pub jitter: f64,
    /// From the stop signal to SIGKILL; the time of the `on-terminate` command, too.
    pub grace: Duration,
    /// How long the service may be silent before the runner is stopped: more than two intervals.
    pub lost_contact_after: Option<Duration>,
    /// True when there is an `on-terminate` command.
    pub on_terminate: bool,
    /// What follows when `terminate` was obeyed.
    pub after_terminate: AfterTerminate,
}
