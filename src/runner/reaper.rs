//! Orphans: processes whose parent ended, and which the kernel made our children; and helpers that the SDK gave up.

use std::fs;

use procfs::process::Process;
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

use super::tree::{children, own_group};
use crate::sys;

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
/// One by one and by id: waiting for any child would take theirs, too.
pub(super) fn reap(held: &[Pid], idle: bool) {
    let ours = own_group();
    for pid in children() {
        // Locked, so that none that is started meanwhile is taken for an orphan.
        let Some(others) = crate::children::running() else {
            return;
        };
        if held.contains(&pid) || others.contains(&pid) || !idle && group_of(pid) == Some(ours) {
            continue;
        }
        let _ = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
    }
}

fn group_of(pid: Pid) -> Option<i32> {
    let stat = Process::new(pid.as_raw_pid()).and_then(|process| process.stat());
    Some(stat.ok()?.pgrp)
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
