//! The runner as our child: its leader, its group, and whatever it leaves behind.

use std::collections::HashSet;
use std::ffi::OsString;
use std::future;

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group, set_child_subreaper};

use super::spawn::Spawned;
use super::tree::{Identity, Process, children, descendants, own_group};
use super::{Refusal, Stop, reaper};
use crate::config::StopScope;
use crate::core::{Event, Exit};

/// The leader, from its start until nothing is left of what it started.
///
/// The leader is reaped last: as long as it is a zombie its id, and so the id of its group, cannot
/// be reused.
pub(super) struct Child {
    leader: Spawned,
    /// Whether the leader was started in a group of its own, and not in ours.
    own_group: bool,
    stop: Stop,
    /// Who was below us before: the children of whoever became us by exec.
    others: HashSet<Identity>,
    /// Who had the stop signal. Nobody gets it twice from us: many programs take the second one as "at
    /// once".
    told: HashSet<Identity>,
    /// Who was told by the terminal but ignores that, as the background jobs of a script do. They
    /// are the leader's to stop, and ours when it has ended.
    spared: HashSet<Identity>,
    phase: Phase,
    killing: bool,
}

/// How often a kill looks for what slipped through.
const CHASE: usize = 200;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Running,
    LeaderEnded,
    Gone,
}

impl Child {
    pub(super) fn start(argv: &[OsString], stop: Stop, own_group: bool) -> Result<Self, Refusal> {
        // What the runner's children leave behind becomes our child, and not that of PID 1.
        set_child_subreaper(Some(getpid())).map_err(|error| {
            let program = argv.first().cloned().unwrap_or_default();
            Refusal::new(&program, Exit::INTERNAL, error.into())
        })?;
        let others = descendants(&HashSet::new());
        Ok(Self {
            leader: Spawned::start(argv, own_group)?,
            own_group,
            stop,
            others: others.iter().map(Process::identity).collect(),
            told: HashSet::new(),
            spared: HashSet::new(),
            phase: Phase::Running,
            killing: false,
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.leader.pid
    }

    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// The leader's end, then that of the others. `hook` is a child, too, and reaped by its owner. Cancel safe. A caller
    /// that is told of a SIGCHLD meanwhile calls it again: the others have no descriptor to wait for.
    pub(super) async fn next(&mut self, hook: Option<Pid>) -> Event {
        match self.phase {
            Phase::Running => {
                let exit = self.leader.ended().await;
                self.phase = Phase::LeaderEnded;
                Event::RunnerEnded(exit)
            }
            Phase::LeaderEnded => {
                if self.killing {
                    self.kill();
                }
                // The heartbeats have ended, and so nobody else waits for a child of ours.
                let held: Vec<Pid> = hook.into_iter().chain([self.leader.pid]).collect();
                reaper::reap(&held, true);
                let mut left = children().into_iter();
                if left.any(|pid| pid != self.leader.pid && !self.was_before(pid) && !reaper::is_helper(pid)) {
                    future::pending::<()>().await;
                }
                self.leader.reap();
                self.phase = Phase::Gone;
                Event::RunnerGone
            }
            Phase::Gone => future::pending().await,
        }
    }

    /// Sends the stop signal to those it is meant for who did not have it, and names them. It comes
    /// with SIGCONT, for a stopped process would not see it.
    pub(super) fn stop(&mut self) -> Vec<Process> {
        let targets = self.untold();
        self.signal(&targets, self.stop.signal);
        self.signal(&self.in_scope(), Signal::CONT);
        self.told.extend(targets.iter().map(Process::identity));
        targets
    }

    /// The terminal has sent its SIGINT to our whole group.
    pub(super) fn was_told(&mut self) {
        let ours = own_group();
        for process in self.untold() {
            if process.group != ours {
                continue;
            }
            if !process.ignores(Signal::INT) {
                self.told.insert(process.identity());
            } else if process.pid != self.leader.pid {
                self.spared.insert(process.identity());
            }
        }
    }

    /// Sends `signal` to those who would get the stop signal.
    pub(super) fn forward(&self, signal: Signal) {
        self.signal(&self.in_scope(), signal);
    }

    /// Sends SIGKILL to everything that is left, and names it. From now on whatever turns up late
    /// gets it, too.
    pub(super) fn kill(&mut self) -> Vec<Process> {
        self.killing = true;
        let mut left = self.left();
        if self.own_group && self.phase != Phase::Gone {
            // Without descriptors to spare nobody is found, and no single one can be signalled.
            let _ = kill_process_group(self.leader.pid, Signal::KILL);
        }
        signal_each(&left, Signal::KILL);
        for process in self.chase() {
            if left.iter().all(|named| named.pid != process.pid) {
                left.push(process);
            }
        }
        left
    }

    /// Kills what forks and ends faster than all of /proc can be read: its newest is our child as soon as the one before
    /// it has ended, and the list of our children is short. The ids are theirs until we reap them.
    fn chase(&self) -> Vec<Process> {
        let ours = own_group();
        let mut caught = Vec::new();
        let mut seen = HashSet::new();
        for _ in 0..CHASE {
            let new = children().into_iter().filter(|pid| seen.insert(*pid));
            let mut alive = false;
            for process in new.filter_map(Process::look_up) {
                if !self.others.contains(&process.identity()) && !self.is_helper(&process, ours) {
                    alive = true;
                    let _ = kill_process(process.pid, Signal::KILL);
                    caught.push(process);
                }
            }
            if !alive {
                break;
            }
        }
        caught
    }

    /// The living processes of the runner.
    pub(super) fn left(&self) -> Vec<Process> {
        let mut left = descendants(&self.others);
        let ours = own_group();
        left.retain(|process| !self.is_helper(process, ours));
        left
    }

    /// Whether it is what the SDK started (`credential_process`), or about to become that. Such are in our own group.
    fn is_helper(&self, process: &Process, ours: i32) -> bool {
        let not_the_runners = self.own_group && process.parent == getpid().as_raw_pid();
        process.group == ours && not_the_runners || reaper::is_helper(process.pid)
    }

    /// Whether this child of ours was there before the runner.
    fn was_before(&self, pid: Pid) -> bool {
        Process::look_up(pid).is_some_and(|process| self.others.contains(&process.identity()))
    }

    fn untold(&self) -> Vec<Process> {
        let mut targets = self.in_scope();
        targets.retain(|process| !self.told.contains(&process.identity()));
        if self.phase == Phase::Running {
            targets.retain(|process| !self.spared.contains(&process.identity()));
        }
        targets
    }

    /// The leader, or its group; once the leader ended, everybody. A leader that has changed its group has two.
    fn in_scope(&self) -> Vec<Process> {
        let mut all = self.left();
        if self.phase != Phase::Running {
            return all;
        }
        let leader = all.iter().find(|process| process.pid == self.leader.pid);
        let groups = [
            leader.map(|leader| leader.group),
            self.own_group.then_some(self.leader.pid.as_raw_pid()),
        ];
        all.retain(|process| match self.stop.scope {
            StopScope::Group => groups.contains(&Some(process.group)),
            StopScope::Leader => process.pid == self.leader.pid,
        });
        all
    }

    fn signal(&self, targets: &[Process], signal: Signal) {
        // Our own group is not ours alone: the shell may have put a whole pipeline into it.
        let running_alone = self.phase == Phase::Running && self.own_group;
        match self.stop.scope {
            // In one call, so that no fork is missed.
            StopScope::Group if running_alone => {
                let _ = kill_process_group(self.leader.pid, signal);
                let elsewhere = |process: &&Process| process.group != self.leader.pid.as_raw_pid();
                signal_each(targets.iter().filter(elsewhere), signal);
            }
            // By its id, which is its own until it is reaped: that takes no descriptor.
            StopScope::Leader if running_alone => {
                let _ = kill_process(self.leader.pid, signal);
            }
            StopScope::Group | StopScope::Leader => signal_each(targets, signal),
        }
    }
}

/// A process that is gone by now needs no signal.
fn signal_each<'a>(processes: impl IntoIterator<Item = &'a Process>, signal: Signal) {
    for process in processes {
        let _ = process.signal(signal);
    }
}
