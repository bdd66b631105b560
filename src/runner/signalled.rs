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

impl Signalled {
    /// The result, if it is an error, in words.
    pub(crate) fn error(&self) -> Option<String> {
        self.result.err().map(|error| match error {
            Errno::PERM => "not permitted".to_owned(),
            _ => error.to_string(),
        })
    }
}

impl fmt::Display for Signalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.process)?;
        self.error().map_or(Ok(()), |error| write!(f, " ({error})"))
    }
}
