//! Orphans: processes whose parent ended, and which the kernel made our children; and helpers that the SDK gave up.

use std::fs;

use procfs::process::{Process, Task};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, waitid};

use super::sys;
use super::tree::{descendants, own_group};

/// In the environment of whatever the SDK starts (`credential_process`), and of nobody else: neither the runner nor
/// what we were started with has it. Its value is our process id.
pub(super) const HELPER_OF: &str = "_TASKBEAT_HELPER_OF";

/// Marks what is started from now on. To be called before any thread is.
pub(crate) fn mark_helpers() {
    sys::set_variable(HELPER_OF, &getpid().to_string());
}

/// Reaps every dead child but those in `held`, whose owners reap them, and, unless `idle`, those of
/// our own process group: such a one may be a `credential_process` that the SDK waits for.
///
/// When it waits for none, those that still run hang: the SDK has given them up, and would start others.
///
/// One by one and by id: waiting for any child would take theirs, too.
pub(super) fn reap(held: &[Pid], idle: bool) {
    let Ok(tasks) = Process::myself().and_then(|us| us.tasks()) else {
        return;
    };
    let children = tasks
        .flatten()
        .filter_map(|task: Task| task.children().ok())
        .flatten();
    let mut hanging = false;
    for child in children {
        let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) else {
            continue;
        };
        if held.contains(&pid) {
            continue;
        }
        if is_orphan(pid, idle) {
            let _ = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
        } else {
            hanging |= idle && is_helper(pid);
        }
    }
    if hanging {
        // With what they started, whose id for it nobody else knows.
        for process in descendants() {
            if is_helper(process.pid) {
                let _ = process.signal(Signal::KILL);
            }
        }
    }
}

fn is_orphan(pid: Pid, own_group_too: bool) -> bool {
    Process::new(pid.as_raw_pid())
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.state == 'Z' && (own_group_too || stat.pgrp != own_group()))
}

/// Whether the SDK started it, or somebody whom the SDK started.
pub(super) fn is_helper(pid: Pid) -> bool {
    let mark = format!("{HELPER_OF}={}", getpid().as_raw_pid());
    fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).is_ok_and(|variables| {
        variables
            .split(|byte| *byte == 0)
            .any(|found| found == mark.as_bytes())
    })
}
