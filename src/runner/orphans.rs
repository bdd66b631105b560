//! Processes that the kernel made children of taskbeat when their parent ended.

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

use super::tree::children;

/// Reaps dead children except those in `held` and helpers, which their owners reap.
///
/// Each is reaped by its id, because waiting for any child would take theirs as well.
pub(super) fn reap(held: &[Pid]) {
    for child in children(getpid()) {
        // Locked, so that a child that another thread starts meanwhile is not taken for an orphan.
        let Some(others) = crate::helpers::try_lock() else {
            return;
        };
        if !held.contains(&child) && !others.contains(&child) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let _ = waitid(WaitId::Pid(child), options);
        }
    }
}
