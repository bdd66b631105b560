//! Texts of the log that tests wait for. A test about one message spells it out itself.

pub(crate) const TASKBEAT_STARTED: &str = "taskbeat starts";
pub(crate) const RUNNER_STARTED: &str = "the runner is running";
pub(crate) const RUNNER_ENDED: &str = "the runner exited";

pub(crate) const ACKNOWLEDGED: &str = "heartbeat acknowledged";
pub(crate) const TERMINATE: &str = "heartbeat acknowledged: terminate";
pub(crate) const FAILED: &str = "heartbeat failed";

/// A stop that changes the cause or the deadline of a ladder, or begins one.
pub(crate) const STOP: &str = "stop requested";
/// The beginning of a ladder, followed by the names of the processes.
pub(crate) const STOPPING: &str = ": stop signal to ";
pub(crate) const SIGKILL: &str = "SIGKILL to ";

pub(crate) const RELOADED: &str = "settings reloaded";
pub(crate) const RELOAD_REFUSED: &str = "reload refused";
