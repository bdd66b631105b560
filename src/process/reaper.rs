//! Orphans: processes whose parent ended, and which the kernel made our children.

use procfs::process::{Process, Task};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::tree::own_group;

/// Reaps every dead child but those in `held`, whose owners reap them, and, unless `own_group_too`,
/// those of our own process group: such a one may be a `credential_process` that the SDK waits for.
///
/// One by one and by id: waiting for any child would take theirs, too.
pub(super) fn reap(held: &[Pid], own_group_too: bool) {
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
        if !held.contains(&pid) && is_orphan(pid, own_group_too) {
            let _ = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
        }
    }
}

fn is_orphan(pid: Pid, own_group_too: bool) -> bool {
    Process::new(pid.as_raw_pid())
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.state == 'Z' && (own_group_too || stat.pgrp != own_group()))
}
