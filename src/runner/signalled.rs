//! The stop signal, and the processes to which a signal was sent.

use std::fmt;

use rustix::io::Errno;
use rustix::process::Signal;

use super::tree::Process;
use crate::config::StopScope;

/// How a runner is asked to stop.
#[derive(Clone, Copy)]
pub(super) struct StopSettings {
    pub(super) signal: Signal,
    pub(super) scope: StopScope,
}

/// A process to which a signal was sent.
#[derive(Clone, Debug)]
pub(crate) struct Signalled {
    pub(crate) process: Process,
    /// Why the signal could not be sent, if it could not.
    pub(crate) result: Result<(), Errno>,
}

impl fmt::Display for Signalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.result {
            Ok(()) => write!(f, "{}", self.process),
            Err(Errno::PERM) => write!(f, "{} (not permitted)", self.process),
            Err(error) => write!(f, "{} ({error})", self.process),
        }
    }
}
