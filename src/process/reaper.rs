//! Orphans: processes whose parent ended, and which the kernel made our children; and those that the SDK gave up.

use procfs::process::{Process, Task};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::tree::own_group;

/// What is to become of children in our own process group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnGroup {
    /// Such a one may be a `credential_process` that the SDK waits for.
    Keep,
    /// The SDK waits for none; but the runner may have left them.
    Reap,
    /// None is the runner's: one that still runs hangs, and the SDK, which has given it up, would start another.
    End,
}

/// Reaps every dead child but those in `held`, whose owners reap them.
///
/// One by one and by id: waiting for any child would take theirs, too.
pub(super) fn reap(held: &[Pid], own: OwnGroup) {
    let Ok(tasks) = Process::myself().and_then(|us| us.tasks()) else {
        return;
    };
    let children = tasks
        .flatten()
        .filter_map(|task: Task| task.children().ok())
        .flatten();
    for child in children {
        let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) else {
            continue;
        };
        if held.contains(&pid) {
            continue;
        }
        let Ok(stat) = Process::new(child.cast_signed()).and_then(|process| process.stat()) else {
            continue;
        };
        let is_own = stat.pgrp == own_group();
        if stat.state != 'Z' {
            if is_own && own == OwnGroup::End {
                // Its id is its own: nobody else reaps it.
                let _ = kill_process(pid, Signal::KILL);
            }
        } else if !is_own || own != OwnGroup::Keep {
            let _ = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
        }
    }
}
