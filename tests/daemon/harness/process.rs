//! Processes as /proc shows them: most are not children of the test, so they can only be polled.

use std::fs;
use std::thread;
use std::time::Duration;

use procfs::process::{Process, Stat, all_processes};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::TIMEOUT;

/// Sends a signal to a process, which may be gone.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Polls until `holds` is true, and fails with `what` if it does not become true.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    assert!(becomes_true(holds), "timed out: {what}");
}

/// Polls until `holds` is true; false if it does not become true within [`TIMEOUT`].
pub(crate) fn becomes_true(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > TIMEOUT {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Waits for the end of a process that is not a child of the test.
pub(crate) fn wait_for_end(pid: i32) {
    eventually(&format!("process {pid} ends"), || !is_alive(pid));
}

fn process(pid: i32) -> Process {
    Process::new(pid).unwrap()
}

fn stat(pid: i32) -> Option<Stat> {
    Process::new(pid).and_then(|process| process.stat()).ok()
}

/// True while the process runs; false for a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| runs(&stat))
}

fn runs(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X')
}

/// The state of a process as `ps` shows it; a space if it is gone.
pub(crate) fn state_of(pid: i32) -> char {
    stat(pid).map_or(' ', |stat| stat.state)
}

/// The process group of a process; 0 if it is gone.
pub(crate) fn group_of(pid: i32) -> i32 {
    stat(pid).map_or(0, |stat| stat.pgrp)
}

/// The children of a process, including zombies.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = list.split_whitespace().map(|pid| pid.parse().unwrap());
    pids.collect()
}

/// The living processes of a session.
pub(crate) fn in_session(session: i32) -> Vec<i32> {
    living().filter(|stat| stat.session == session).map(|stat| stat.pid).collect()
}

/// The living processes with the variable `mark` (`NAME=VALUE`) in their environment, which
/// descendants inherit.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let is_marked = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == mark.as_bytes())
    };
    living().map(|stat| stat.pid).filter(is_marked).collect()
}

fn living() -> impl Iterator<Item = Stat> {
    let all = all_processes().unwrap().flatten();
    all.filter_map(|process| process.stat().ok()).filter(runs)
}

/// The resident memory of a process at its peak, in bytes.
pub(crate) fn peak_memory(pid: i32) -> u64 {
    process(pid).status().unwrap().vmhwm.unwrap() * 1024
}

/// The resident memory of a process, in bytes.
pub(crate) fn memory(pid: i32) -> u64 {
    process(pid).status().unwrap().vmrss.unwrap() * 1024
}

/// The resident memory of a process without that of files, in bytes.
pub(crate) fn anonymous_memory(pid: i32) -> u64 {
    process(pid).status().unwrap().rssanon.unwrap() * 1024
}

/// The CPU time of a process, in ticks of 10 ms.
pub(crate) fn processor_time(pid: i32) -> u64 {
    let stat = process(pid).stat().unwrap();
    stat.utime + stat.stime
}

/// The number of open file descriptors of a process.
pub(crate) fn descriptors(pid: i32) -> u64 {
    u64::try_from(process(pid).fd_count().unwrap()).unwrap()
}
