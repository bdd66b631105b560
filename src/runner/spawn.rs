//! Starting a child process, and holding it until it is reaped.

use std::ffi::OsString;
use std::fmt;
use std::future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};
use tokio::io::unix::AsyncFd;

use crate::config::{environment, escaped};
use crate::core::Exit;
use crate::sys;

/// Variables that are meant for taskbeat alone.
const NOT_INHERITED: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// Removes the variables that are meant for taskbeat alone.
pub(crate) fn remove_own_variables(command: &mut Command) {
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
}

/// Why a process could not be started or attached to.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub(crate) struct StartError {
    pub(super) what: String,
    pub(super) reason: String,
    /// taskbeat's exit status: 126 or 127 as in a shell, 70 if the kernel lacks resources. If it
    /// cannot attach: 1 if the process does not exist, else 78.
    pub(crate) exit: Exit,
}

/// A child of taskbeat. Its id cannot be reused before [`reap`](Self::reap).
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

/// The process group and session of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In taskbeat's process group.
    SameGroup,
    /// The leader of a new process group.
    NewGroup,
    /// The leader of a new session.
    NewSession,
}

impl Spawned {
    /// Starts `argv` with taskbeat's standard streams. `adapt` makes further changes to the
    /// command. Call it on the main thread, because the child is killed when the thread ends.
    pub(crate) fn start(
        argv: &[OsString],
        placement: Placement,
        ignored: Vec<i32>,
        adapt: impl FnOnce(&mut Command),
    ) -> Result<Self, StartError> {
        let program = argv.first().cloned().unwrap_or_default();
        let refuse = |exit, reason: &dyn fmt::Display| StartError {
            what: format!("cannot run {}", escaped(&program.to_string_lossy())),
            reason: reason.to_string(),
            exit,
        };
        let mut command = Command::new(&program);
        command.args(argv.iter().skip(1));
        remove_own_variables(&mut command);
        match placement {
            Placement::SameGroup => {}
            Placement::NewGroup => {
                command.process_group(0);
            }
            Placement::NewSession => sys::in_new_session(&mut command),
        }
        command.envs(environment::removed().iter().cloned());
        adapt(&mut command);
        sys::prepare_child(&mut command, ignored);
        let mut child = command.spawn().map_err(|error| {
            let exit = match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => Exit::NOT_FOUND,
                Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => Exit::INTERNAL,
                _ => Exit::NOT_EXECUTABLE,
            };
            let word = program.to_string_lossy();
            if exit == Exit::NOT_FOUND && argv.len() == 1 && word.contains(' ') {
                let line = word.replace('\'', r"'\''");
                return refuse(
                    exit,
                    &format!("{error}; a shell line needs a shell: sh -c '{line}'"),
                );
            }
            refuse(exit, &error)
        })?;
        // From here on the pidfd is the handle: std would reap the child too early.
        let pid = Pid::from_child(&child);
        let pidfd = open_pidfd(pid).map_err(|error| {
            let _ = child.kill().and_then(|()| child.wait());
            refuse(Exit::INTERNAL, &error)
        })?;
        Ok(Self { pid, pidfd })
    }

    /// Waits for its exit, and leaves it a zombie. Cancel safe. Poll it again after each SIGCHLD.
    pub(crate) async fn exited(&self) -> Exit {
        future::poll_fn(|context| self.poll_exited(context)).await
    }

    /// As [`exited`](Self::exited).
    pub(crate) fn poll_exited(&self, context: &mut Context<'_>) -> Poll<Exit> {
        // A pidfd stays readable once the process has exited, so the guard is never cleared.
        if ready!(self.pidfd.poll_read_ready(context)).is_err() {
            return Poll::Ready(Exit::INTERNAL);
        }
        match self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => Poll::Ready(exit_of(&status)),
            // A tracer has not reaped it yet. The kernel sends SIGCHLD when it has.
            Ok(None) => Poll::Pending,
            Err(_) => Poll::Ready(Exit::INTERNAL),
        }
    }

    /// True if it has stopped (by a signal) since this was last asked.
    pub(crate) fn take_stopped(&self) -> bool {
        matches!(self.wait(WaitIdOptions::STOPPED), Ok(Some(_)))
    }

    /// Gives the id of an exited process back to the kernel.
    pub(crate) fn reap(&self) {
        let _ = self.wait(WaitIdOptions::EXITED);
    }

    fn wait(&self, options: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
        let pidfd = self.pidfd.get_ref().as_fd();
        waitid(WaitId::PidFd(pidfd), options | WaitIdOptions::NOHANG)
    }
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    let number = |code: i32| u8::try_from(code).ok();
    let exit = match status.terminating_signal() {
        Some(signal) => number(signal).map(Exit::by_signal),
        None => status.exit_status().and_then(number).map(Exit),
    };
    exit.unwrap_or(Exit::INTERNAL)
}

/// A descriptor for the process `pid`, which the runtime can wait for.
///
/// # Errors
///
/// The process does not exist, or the kernel refuses pidfds: it is older than 5.10, or a sandbox
/// forbids them.
pub(super) fn open_pidfd(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|error| match error {
        Errno::NOSYS | Errno::INVAL => io::Error::other(
            "the kernel offers no pidfds; taskbeat needs Linux 5.10 or later and a sandbox that \
             allows pidfd_open",
        ),
        other => other.into(),
    })?;
    sys::watch(pidfd)
}
