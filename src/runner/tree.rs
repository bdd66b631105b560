//! The processes below taskbeat, as /proc shows them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::process::Command;

use procfs::process::Stat;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, test_kill_process,
};

/// Marks processes beside the runner in their environment; its value is taskbeat's process id.
const BESIDE_RUNNER: &str = "_TASKBEAT_BESIDE_RUNNER";

/// Maximum number of walks until nothing new appears.
const WALKS: usize = 200;

/// A living process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// Its name, as in `ps -o comm`.
    pub(crate) name: String,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Clock ticks from the host's boot to its start.
    pub(super) started: u64,
}

/// Identifies a process as long as the host is up: an id can be reused, but not with the same start
/// time. It survives exec, adoption and a change of the process group.
pub(super) type ProcessKey = (Pid, u64);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A process chooses its name, which may contain line breaks.
        write!(f, "{}[{}]", self.name.escape_debug(), self.pid.as_raw_pid())
    }
}

impl Process {
    pub(super) fn key(&self) -> ProcessKey {
        (self.pid, self.started)
    }

    /// The process with this id; `None` if there is none or it is dead already.
    pub(super) fn look_up(pid: Pid) -> Option<Self> {
        Self::from_stat(stat(pid.as_raw_pid())?)
    }

    fn from_stat(stat: Stat) -> Option<Self> {
        // A zombie with more than one thread has only lost its first thread.
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

    /// Sends `signal` to this process, and to no other that got its id meanwhile.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty())?;
        // The descriptor holds the process that had the id when it was opened, so compare after.
        if Self::look_up(self.pid).is_some_and(|now| now.key() == self.key()) {
            pidfd_send_signal(pidfd, signal)
        } else {
            Err(Errno::SRCH)
        }
    }

    /// # Errors
    ///
    /// taskbeat may not signal the process.
    pub(super) fn check_permission(&self) -> Result<(), Errno> {
        match test_kill_process(self.pid) {
            Err(Errno::PERM) => Err(Errno::PERM),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// True if it is a command or a helper beside the runner, or a process that these started.
    pub(super) fn is_beside_runner(&self) -> bool {
        let file = |name| format!("/proc/{}/{name}", self.pid.as_raw_pid());
        let mark = format!("{BESIDE_RUNNER}={}", getpid().as_raw_pid());
        let marked = fs::read(file("environ")).is_ok_and(|variables| {
            let mut variables = variables.split(|byte| *byte == 0);
            variables.any(|variable| variable == mark.as_bytes())
        });
        // Before its exec, a child is still a copy of taskbeat.
        let words = |path: &str| fs::read(path).ok();
        marked
            || words(&file("cmdline")).is_some_and(|copy| Some(copy) == words("/proc/self/cmdline"))
    }
}

/// Marks `command` and all that it starts as not the runner's.
pub(crate) fn mark_beside_runner(command: &mut Command) {
    command.env(BESIDE_RUNNER, getpid().as_raw_pid().to_string());
}

fn stat(pid: i32) -> Option<Stat> {
    procfs::process::Process::new(pid).ok()?.stat().ok()
}

/// Some living processes, each with its parent.
pub(super) struct Tree(HashMap<Pid, Process>);

impl Tree {
    /// All processes below taskbeat.
    pub(super) fn below_taskbeat() -> Self {
        let mut found = HashMap::new();
        for_each_descendant(getpid(), children, |pid| {
            if let Some(process) = Process::look_up(pid) {
                found.insert(pid, process);
            }
        });
        Self(found)
    }

    #[cfg(test)]
    pub(super) fn made_of(processes: impl IntoIterator<Item = Process>) -> Self {
        Self(processes.into_iter().map(|process| (process.pid, process)).collect())
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.values()
    }

    /// The process and its ancestors in this tree, upwards.
    pub(super) fn lineage<'a>(&'a self, process: &'a Process) -> impl Iterator<Item = &'a Process> {
        // A parent whose id was reused could make a circle.
        std::iter::successors(Some(process), |process| {
            Pid::from_raw(process.parent).and_then(|parent| self.0.get(&parent))
        })
        .take(self.0.len())
    }
}

/// Calls `visit` once for each process below `root`, dead or alive.
///
/// A child of a process that ends moves to taskbeat, at the end of its list of children. So the
/// walk is repeated until it finds nothing new.
fn for_each_descendant(
    root: Pid,
    mut children: impl FnMut(Pid) -> Vec<Pid>,
    mut visit: impl FnMut(Pid),
) {
    let mut seen = HashSet::new();
    for _ in 0..WALKS {
        let before = seen.len();
        let mut walked = HashSet::new();
        let mut parents = vec![root];
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                if seen.insert(child) {
                    visit(child);
                }
                if walked.insert(child) {
                    parents.push(child);
                }
            }
        }
        if seen.len() == before {
            break;
        }
    }
}

/// The children of a process, dead or alive: those of all of its threads.
pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", parent.as_raw_pid()));
    let files =
        threads.into_iter().flatten().flatten().map(|thread| thread.path().join("children"));
    let lists: String = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    let pid = |child: &str| child.parse().ok().and_then(Pid::from_raw);
    lists.split_whitespace().filter_map(pid).collect()
}

/// The process group and session of `pid`; 0 if they were made outside of taskbeat's PID namespace,
/// which wrappers of the system calls do not expect.
pub(super) fn group_and_session(pid: i32) -> Option<(i32, i32)> {
    stat(pid).map(|stat| (stat.pgrp, stat.session))
}

/// True if a signal has stopped the process. A debugger's stop is not meant.
pub(super) fn is_stopped(pid: Pid) -> bool {
    stat(pid.as_raw_pid()).is_some_and(|stat| stat.state == 'T')
}

/// The parent of `pid`.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    stat(pid).map(|stat| stat.ppid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_moves_to_taskbeat_during_a_walk_is_found_by_the_next() {
        let [root, parent, moving] = [1, 2, 3].map(|pid| Pid::from_raw(pid).unwrap());
        let mut lists = [vec![parent], vec![parent, moving], vec![moving]].into_iter();
        let children = |pid| if pid == root { lists.next().unwrap() } else { vec![] };
        let mut visited = vec![];
        for_each_descendant(root, children, |pid| visited.push(pid));
        assert_eq!(visited, [parent, moving]);
        assert_eq!(lists.len(), 0);
    }
}
