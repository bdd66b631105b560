//! Somebody else's process, held by a pidfd: signalled alone, never its group, never reaped.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, test_kill_process,
};
use tokio::io::unix::AsyncFd;
use tracing::error;

use super::tree::Process;
use crate::sys;

/// The process that had the id when we attached.
pub(super) struct Attached {
    pub(super) process: Process,
    pidfd: AsyncFd<OwnedFd>,
}

impl Attached {
    /// Attaches to `pid`, which must be running and ours to signal.
    pub(super) fn to(pid: Pid) -> io::Result<Self> {
        if pid == getpid() {
            return Err(io::Error::other("this is taskbeat itself"));
        }
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // Looked up after it was opened, so that it is the process that the descriptor holds, or
        // one that will be seen to have ended at once.
        let process = Process::look_up(pid).ok_or(Errno::SRCH)?;
        test_kill_process(pid)?;
        Ok(Self {
            process,
            pidfd: sys::watch(pidfd)?,
        })
    }

    /// Waits for its end. Cancel safe.
    pub(super) async fn ended(&self) {
        // An error means that the runtime is going away, and we with it.
        let _ = self.pidfd.readable().await;
    }

    /// Sends `signal`, and names whom; nobody if it is gone, or has become somebody whom we may not signal.
    pub(super) fn signal(&self, signal: Signal) -> Vec<Process> {
        // What it calls itself may have changed since we attached.
        let now = Process::look_up(self.process.pid);
        let process = now.filter(|now| now.identity() == self.process.identity());
        let process = process.unwrap_or_else(|| self.process.clone());
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) => vec![process],
            Err(Errno::SRCH) => vec![],
            Err(error) => {
                let signal = signal.as_raw();
                error!("cannot send signal {signal} to {process}: {error}");
                vec![]
            }
        }
    }
}
