//! The processes below us, as /proc shows them.

use std::collections::{HashMap, HashSet};
use std::fmt;

use procfs::process::{Stat, all_processes};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// A living process. A process id can be reused; together with the start time it cannot.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its name, as in `ps -o comm`.
    pub name: String,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Clock ticks from the host's boot to its start.
    pub(super) started: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever made it chose its name, and may have put a line of a log into it.
        write!(f, "{}[{}]", self.name.escape_debug(), self.pid.as_raw_pid())
    }
}

impl Process {
    /// What stays the same through exec, adoption and a change of group.
    pub(super) fn identity(&self) -> Identity {
        (self.pid, self.started)
    }

    /// The process with this id; `None` when there is none or it is dead already.
    pub(super) fn look_up(pid: Pid) -> Option<Self> {
        let process = procfs::process::Process::new(pid.as_raw_pid()).ok()?;
        Self::from_stat(process.stat().ok()?)
    }

    fn from_stat(stat: Stat) -> Option<Self> {
        // A zombie with more than one thread has lost its first thread only.
        let dead = matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads <= 1;
        let pid = Pid::from_raw(stat.pid).filter(|_| !dead)?;
        Some(Self {
            pid,
            name: stat.comm,
            parent: stat.ppid,
            group: stat.pgrp,
            started: stat.starttime,
        })
    }

    /// Whether it ignores `signal`.
    pub(super) fn ignores(&self, signal: Signal) -> bool {
        procfs::process::Process::new(self.pid.as_raw_pid())
            .and_then(|process| process.status())
            .is_ok_and(|status| status.sigign >> (signal.as_raw() - 1) & 1 == 1)
    }

    /// Sends `signal` to this very process, and to no other that got its id meanwhile.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty())?;
        // The descriptor holds whichever process had the id when it was opened; only now is the comparison final.
        if Self::look_up(self.pid).is_some_and(|now| now.identity() == self.identity()) {
            pidfd_send_signal(pidfd, signal)
        } else {
            Err(Errno::SRCH)
        }
    }
}

/// A process for as long as the host is up.
pub(super) type Identity = (Pid, u64);

/// Every living process below us: children, their children, and so on, but for `others` and those below them.
pub(super) fn descendants(others: &HashSet<Identity>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    // A process that ended while we read is no descendant any more.
    for stat in all_processes().into_iter().flatten() {
        let stat = stat.and_then(|process| process.stat());
        if let Some(process) = stat.ok().and_then(Process::from_stat) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid().as_raw_pid()];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if !others.contains(&child.identity()) {
                parents.push(child.pid.as_raw_pid());
                found.push(child);
            }
        }
    }
    found
}

/// Our children, dead or alive. Whatever is below us is one of them or below one of them, even if it changes faster than
/// all of /proc can be read: the kernel adds to the end of this list, and nobody leaves it before we reap them.
pub(super) fn children() -> Vec<Pid> {
    let tasks = procfs::process::Process::myself().and_then(|us| us.tasks());
    let children = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| task.children().ok());
    let pid = |child| i32::try_from(child).ok().and_then(Pid::from_raw);
    children.flatten().filter_map(pid).collect()
}

/// Our own process group; 0 when it was made outside of our PID namespace, which system call
/// wrappers do not expect.
pub(super) fn own_group() -> i32 {
    procfs::process::Process::myself()
        .and_then(|us| us.stat())
        .map_or(0, |stat| stat.pgrp)
}
