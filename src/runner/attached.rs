//! Another supervisor's process, held by a pidfd: taskbeat signals it alone, never its process
//! group, and never reaps it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::signalled::Signalled;
use super::spawn::open_pidfd;
use super::tree::Process;

/// The process that had the id when taskbeat attached to it.
pub(super) struct Attached {
    pub(super) process: Process,
    pidfd: AsyncFd<OwnedFd>,
}

impl Attached {
    /// Attaches to the process `pid`.
    pub(super) fn to(pid: Pid) -> io::Result<Self> {
        if pid == getpid() {
            return Err(io::Error::other("this is taskbeat itself"));
        }
        if is_thread(pid) {
            return Err(io::Error::other("this is a thread, not a process"));
        }
        let pidfd = open_pidfd(pid)?;
        // Looked up after the descriptor was opened: it is the process that the descriptor holds,
        // or the descriptor shows at once that the process has exited.
        let process = Process::look_up(pid).ok_or(Errno::SRCH)?;
        Ok(Self { process, pidfd })
    }

    /// Waits for its exit. Cancel safe.
    pub(super) async fn exited(&self) {
        // An error means that the runtime, and with it taskbeat, is about to end.
        let _ = self.pidfd.readable().await;
    }

    /// Sends `signal`. `None` if the process has exited.
    pub(super) fn signal(&self, signal: Signal) -> Option<Signalled> {
        // Its name may have changed since taskbeat attached.
        let process = Process::look_up(self.process.pid)
            .filter(|now| now.key() == self.process.key())
            .unwrap_or_else(|| self.process.clone());
        let result = pidfd_send_signal(self.pidfd.get_ref(), signal);
        (result != Err(Errno::SRCH)).then_some(Signalled { process, result })
    }
}

fn is_thread(pid: Pid) -> bool {
    let status = procfs::process::Process::new(pid.as_raw_pid()).and_then(|task| task.status());
    status.is_ok_and(|status| status.tgid != pid.as_raw_pid())
}
