//! Who is whose child, in which state: what /proc shows of processes that are not the test's own children.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use procfs::process::{Process, Stat, all_processes};
use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// Sends `signal` to a process of the test; one that is gone is not missed.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Looks again and again until `holds`: /proc tells nobody that it changed.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let look = Duration::from_millis(2);
    for _ in 0..PATIENCE.as_millis() / look.as_millis() {
        if holds() {
            return;
        }
        thread::sleep(look);
    }
    assert!(holds(), "{what}: it does not come to that");
}

fn stat(pid: i32) -> Option<Stat> {
    Process::new(pid).and_then(|process| process.stat()).ok()
}

/// The state of a process, as in `ps`; a space when it is gone.
pub(crate) fn state_of(pid: i32) -> char {
    stat(pid).map_or(' ', |stat| stat.state)
}

/// The process group of a process; 0 when it is gone.
pub(crate) fn group_of(pid: i32) -> i32 {
    stat(pid).map_or(0, |stat| stat.pgrp)
}

/// The children of a process, zombies among them.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = list.split_whitespace().map(|pid| pid.parse().unwrap());
    pids.collect()
}

/// The living processes of a session.
pub(crate) fn in_session(session: i32) -> Vec<i32> {
    let stats = all_processes().unwrap().flatten();
    let stats = stats.filter_map(|process| process.stat().ok());
    let alive = stats.filter(|stat| stat.session == session && stat.state != 'Z');
    alive.map(|stat| stat.pid).collect()
}

/// The living processes with `mark` in their environment, which the kernel copies at each fork.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let is_marked = |process: &Process| {
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let found = environment
            .windows(mark.len())
            .any(|part| part == mark.as_bytes());
        found && !matches!(state_of(process.pid), 'Z' | 'X' | ' ')
    };
    let all = all_processes().unwrap().flatten();
    all.filter(is_marked).map(|process| process.pid).collect()
}

/// A process of the test, to attach to.
pub(crate) struct Bystander {
    child: Child,
}

impl Bystander {
    /// Runs a script, which says one line when it is ready.
    pub(crate) fn start(script: &str) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let said = BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready);
        assert!(said.unwrap() > 0, "{script} said nothing");
        Self { child }
    }

    /// One that does as it is told.
    pub(crate) fn plain() -> Self {
        Self::start("echo ready; exec sleep 120")
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn is_alive(&self) -> bool {
        super::is_alive(self.pid())
    }

    /// Waits for its end, and returns the signal that ended it.
    pub(crate) fn ended_by(&mut self) -> Option<i32> {
        eventually("the end of a bystander", || !self.is_alive());
        self.child.wait().unwrap().signal()
    }

    pub(crate) fn kill(&mut self) {
        // It may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.kill();
    }
}
