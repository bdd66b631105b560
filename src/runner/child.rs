//! The runner as a child process: its leader, its process group, and its descendants.

use std::collections::HashSet;
use std::ffi::OsString;
use std::future;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group, set_child_subreaper};
use tracing::warn;

use super::membership::Membership;
use super::orphans;
use super::signalled::{Signalled, StopSettings};
use super::spawn::{Placement, Spawned, StartError};
use super::tree::{Process, ProcessKey, Tree, children, group_and_session};
use crate::config::StopScope;
use crate::core::{Event, Exit};

/// Maximum number of rounds in which a kill looks for processes that were forked meanwhile.
const CHASE: usize = 200;

/// The runner, from its leader's start until no process of it is left.
///
/// The leader is reaped last: as long as it is a zombie, its id, and so the id of its process
/// group, cannot be reused.
pub(super) struct Child {
    leader: Spawned,
    placement: Placement,
    stop: StopSettings,
    membership: Membership,
    /// Processes that have the stop signal. None gets it twice, because many programs take the
    /// second one as "at once".
    signalled: HashSet<ProcessKey>,
    phase: ChildPhase,
    killing: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum ChildPhase {
    Running,
    /// Running, and Ctrl-C has sent SIGINT to the whole process group.
    Interrupted,
    LeaderExited,
    Gone,
}

impl Child {
    /// Starts the runner. `ignored` are the signals that it ignores from the start.
    pub(super) fn start(
        argv: &[OsString],
        stop: StopSettings,
        placement: Placement,
        ignored: Vec<i32>,
    ) -> Result<Self, StartError> {
        // Orphans of the runner become children of taskbeat, and not of PID 1.
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            warn!("the kernel does not let taskbeat adopt the runner's orphans: {error}");
        }
        let earlier = Tree::below_taskbeat();
        let leader = Spawned::start(argv, placement, ignored, |_| ())?;
        Ok(Self {
            membership: Membership::new(leader.pid, &earlier),
            leader,
            placement,
            stop,
            signalled: HashSet::new(),
            phase: ChildPhase::Running,
            killing: false,
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.leader.pid
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, ChildPhase::Running | ChildPhase::Interrupted)
    }

    /// Waits for the leader's exit. Cancel safe. Call it again after each SIGCHLD.
    pub(super) async fn leader_exited(&mut self) -> Exit {
        if !self.is_running() {
            return future::pending().await;
        }
        let exit = self.leader.exited().await;
        self.phase = ChildPhase::LeaderExited;
        exit
    }

    /// True if the leader has stopped (by a signal) since this was last asked.
    pub(super) fn take_stopped(&self) -> bool {
        self.is_running() && self.leader.take_stopped()
    }

    /// The leader's process group now.
    pub(super) fn group(&self) -> Option<Pid> {
        let (group, _) = group_and_session(self.leader.pid.as_raw_pid())?;
        Pid::from_raw(group)
    }

    /// After the leader's exit: kills latecomers if the runner is being killed, reaps the dead, and
    /// tells if nothing is left. `held` are children that their owners reap.
    pub(super) fn clear_away(&mut self, held: &[Pid]) -> Option<Event> {
        if self.phase != ChildPhase::LeaderExited {
            return None;
        }
        if self.killing {
            self.kill();
        }
        let held = [held, &[self.leader.pid]].concat();
        let mut dead: Vec<Pid> = vec![];
        loop {
            orphans::reap(&held);
            let mut newly_dead = vec![];
            for child in children(getpid()).into_iter().filter(|child| !held.contains(child)) {
                match Process::look_up(child) {
                    Some(child) if self.membership.includes_child(&child) => return None,
                    None if !dead.contains(&child) => newly_dead.push(child),
                    Some(_) | None => {}
                }
            }
            if newly_dead.is_empty() {
                break;
            }
            // A child that has died meanwhile may have left children of its own to taskbeat.
            dead.append(&mut newly_dead);
        }
        self.leader.reap();
        self.phase = ChildPhase::Gone;
        Some(Event::RunnerGone)
    }

    /// Ctrl-C has sent SIGINT to taskbeat's process group. If the leader is in it, nothing else is
    /// sent while it lives, so that its handler can end what it has started.
    pub(super) fn interrupted_by_terminal(&mut self) {
        let group = |pid: Pid| group_and_session(pid.as_raw_pid()).map(|(group, _)| group);
        if self.phase == ChildPhase::Running && group(self.leader.pid) == group(getpid()) {
            self.phase = ChildPhase::Interrupted;
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.phase == ChildPhase::Interrupted
    }

    /// Sends the stop signal to the processes in scope that do not have it. It comes with SIGCONT,
    /// because a stopped process would not receive it.
    pub(super) fn stop(&mut self) -> Vec<Signalled> {
        if self.is_interrupted() {
            let _ = kill_process(self.leader.pid, Signal::CONT);
            return vec![];
        }
        let in_scope = self.in_scope();
        let mut targets = in_scope.clone();
        targets.retain(|process| !self.signalled.contains(&process.key()));
        let signalled = self.signal(targets, self.stop.signal);
        self.signal(in_scope, Signal::CONT);
        let keys = signalled.iter().map(|signalled| signalled.process.key());
        self.signalled.extend(keys);
        signalled
    }

    /// Sends `signal` to the leader's process group or to the leader alone, by the stop scope.
    pub(super) fn forward(&self, signal: Signal) {
        if self.is_running() {
            let _ = self.signal_leader(signal);
        }
    }

    /// Sends SIGKILL to everything that is left. From now on, latecomers get it as well.
    pub(super) fn kill(&mut self) -> Vec<Signalled> {
        self.killing = true;
        let left = self.left();
        if self.has_own_group() && self.phase != ChildPhase::Gone {
            // In one call, so that no fork is missed, and without a descriptor, which may be
            // lacking.
            let _ = kill_process_group(self.leader.pid, Signal::KILL);
        }
        let mut killed = signal_each(left, Signal::KILL);
        for late in self.chase() {
            if killed.iter().all(|known| known.process.pid != late.process.pid) {
                killed.push(late);
            }
        }
        killed
    }

    /// Kills processes that fork and exit faster than the tree can be read. The newest one becomes
    /// a child of taskbeat as soon as the one before it has exited, and the list of children is
    /// short.
    fn chase(&self) -> Vec<Signalled> {
        let mut killed = Vec::new();
        let mut seen = HashSet::new();
        for _ in 0..CHASE {
            let new = children(getpid()).into_iter().filter(|pid| seen.insert(*pid));
            let new: Vec<Process> = new
                .filter_map(Process::look_up)
                .filter(|child| self.membership.includes_child(child))
                .collect();
            if new.is_empty() {
                break;
            }
            // The id of a child cannot be reused before it is reaped.
            let kill = |process: Process| Signalled {
                result: kill_process(process.pid, Signal::KILL),
                process,
            };
            killed.extend(new.into_iter().map(kill));
        }
        killed
    }

    /// The living processes of the runner.
    pub(super) fn left(&self) -> Vec<Process> {
        let tree = Tree::below_taskbeat();
        self.membership.select(&tree, Process::is_beside_runner)
    }

    /// The processes that the stop signal is for: the leader or its process group; once it has
    /// exited, all. A leader that has changed its group has two.
    fn in_scope(&self) -> Vec<Process> {
        let mut processes = self.left();
        if !self.is_running() {
            return processes;
        }
        let leader = processes.iter().find(|process| process.pid == self.leader.pid);
        let own_group = self.has_own_group().then_some(self.leader.pid.as_raw_pid());
        let groups = [leader.map(|leader| leader.group), own_group];
        processes.retain(|process| match self.stop.scope {
            StopScope::Group => groups.contains(&Some(process.group)),
            StopScope::Leader => process.pid == self.leader.pid,
        });
        processes
    }

    fn has_own_group(&self) -> bool {
        self.placement == Placement::NewGroup
    }

    /// True if a signal to the leader goes to its whole group. taskbeat's own group may have other
    /// members: a shell puts a whole pipeline into it.
    fn signals_group(&self) -> bool {
        self.has_own_group() && self.stop.scope == StopScope::Group
    }

    /// Signals the leader or its process group in one call, so that no fork is missed.
    fn signal_leader(&self, signal: Signal) -> Result<(), Errno> {
        if self.signals_group() {
            kill_process_group(self.leader.pid, signal)
        } else {
            kill_process(self.leader.pid, signal)
        }
    }

    /// Signals the leader or its process group, and the other targets by pidfd.
    fn signal(&self, targets: Vec<Process>, signal: Signal) -> Vec<Signalled> {
        if !self.is_running() {
            return signal_each(targets, signal);
        }
        let result = self.signal_leader(signal);
        let leader = self.leader.pid;
        let whole_group = self.signals_group();
        let reached = |process: &Process| {
            if whole_group { process.group == leader.as_raw_pid() } else { process.pid == leader }
        };
        let (reached, elsewhere): (Vec<_>, Vec<_>) = targets.into_iter().partition(reached);
        let reached = reached.into_iter().map(|process| Signalled {
            // The call for the group reports an error only if no member could be signalled.
            result: result.and_then(|()| process.check_permission()),
            process,
        });
        reached.chain(signal_each(elsewhere, signal)).collect()
    }
}

/// A process that has exited meanwhile needs no signal.
fn signal_each(processes: Vec<Process>, signal: Signal) -> Vec<Signalled> {
    let send = |process: Process| {
        let result = match process.signal(signal) {
            Err(Errno::SRCH) => Ok(()),
            result => result,
        };
        Signalled { process, result }
    };
    processes.into_iter().map(send).collect()
}
