//! Helper processes (`credential_process`): another thread than the main one waits for them, so
//! they are not reaped as orphans. Each has a process group of its own.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Poll, ready};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{ChildStdout, Command};

use crate::runner::{mark_beside_runner, remove_own_variables};
use crate::sys;

/// The ids of helpers that are not reaped yet. Locked while a helper is started or reaped, so that
/// the list is always exact.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// The helpers, as long as the guard is held. `None` while a helper is being started, which may
/// take long on a file system that hangs: do not wait for it.
pub(crate) fn try_lock() -> Option<MutexGuard<'static, Vec<Pid>>> {
    match RUNNING.try_lock() {
        Ok(running) => Some(running),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Kills all of them, with their process groups, because taskbeat exits. No helper can be started
/// afterwards. If the start of a helper hangs, the kernel kills the helper when taskbeat has ended.
pub(crate) fn kill_all() {
    for _ in 0..START_LIMIT.as_millis() {
        if let Some(running) = try_lock() {
            for pid in running.iter() {
                let _ = kill_process_group(*pid, Signal::KILL);
            }
            mem::forget(running);
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// How long [`kill_all`] waits for the start of a helper. It takes about a millisecond, and longer
/// on a busy host.
const START_LIMIT: Duration = Duration::from_secs(1);

fn lock() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child and its process group, which is killed if this is dropped before the child ends.
pub(crate) struct Helper {
    child: tokio::process::Child,
    pid: Pid,
}

impl Helper {
    /// Starts `command`, on the runtime of this thread. The helper is killed when the thread ends.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        mark_beside_runner(command.as_std_mut());
        remove_own_variables(command.as_std_mut());
        sys::prepare_child(command.as_std_mut(), vec![]);
        let mut running = lock();
        let child = command.process_group(0).spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        running.push(pid);
        Ok(Self { child, pid })
    }

    /// Its standard output, if that is a pipe; once.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end, and reaps it.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let mut ended = pin!(self.child.wait());
        poll_fn(|context| {
            let mut running = lock();
            let status = ready!(ended.as_mut().poll(context));
            running.retain(|pid| *pid != self.pid);
            Poll::Ready(status)
        })
        .await
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let mut running = lock();
        if running.contains(&self.pid) {
            let _ = kill_process_group(self.pid, Signal::KILL);
            running.retain(|pid| *pid != self.pid);
        }
    }
}
