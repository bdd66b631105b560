//! Starting a process that is ours, and holding it until it is reaped.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::io::unix::AsyncFd;

use super::Refusal;
use super::reaper::HELPER_OF;
use crate::config::environment;
use crate::core::Exit;
use crate::sys;

/// Variables that speak of our own service manager and would mislead others, and the mark of those
/// that are not the runner's.
const OURS: [&str; 7] = [
    HELPER_OF,
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// A child of ours. Its id is its own until [`reap`](Self::reap).
pub(super) struct Spawned {
    pub(super) pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

impl Spawned {
    /// Starts `argv` with our standard streams, in a process group of its own or in ours. Call it
    /// on the main thread: the child dies with the thread.
    pub(super) fn start(argv: &[OsString], own_group: bool) -> Result<Self, Refusal> {
        let program = argv.first().cloned().unwrap_or_default();
        let refuse = |exit, source| Refusal::new(&program, exit, source);
        let mut command = Command::new(&program);
        command.args(argv.iter().skip(1));
        if own_group {
            command.process_group(0);
        }
        for variable in OURS {
            command.env_remove(variable);
        }
        command.envs(environment::removed().iter().map(|name| (name, "")));
        sys::as_our_child(&mut command);
        let mut child = command.spawn().map_err(|error| {
            let exit = match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => Exit::NOT_FOUND,
                Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => Exit::INTERNAL,
                _ => Exit::NOT_EXECUTABLE,
            };
            refuse(exit, error)
        })?;
        // From here on the pidfd is the handle; std's would reap the child too early.
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(sys::watch)
            .map_err(|error| {
                let _ = child.kill().and_then(|()| child.wait());
                refuse(Exit::INTERNAL, error)
            })?;
        Ok(Self { pid, pidfd })
    }

    /// Waits for its end, and leaves it a zombie. Cancel safe.
    pub(super) async fn ended(&self) -> Exit {
        // A pidfd is readable for good once the process ended, so the guard is never cleared.
        match self.pidfd.readable().await {
            Ok(_) => self.wait(WaitIdOptions::NOWAIT).unwrap_or(Exit::INTERNAL),
            Err(_) => Exit::INTERNAL,
        }
    }

    /// Gives the id of a process that ended back to the kernel.
    pub(super) fn reap(&self) {
        self.wait(WaitIdOptions::empty());
    }

    fn wait(&self, options: WaitIdOptions) -> Option<Exit> {
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), options).ok()??;
        let number = |code: i32| u8::try_from(code).ok();
        match status.terminating_signal() {
            Some(signal) => number(signal).map(Exit::by_signal),
            None => status.exit_status().and_then(number).map(Exit),
        }
    }
}
