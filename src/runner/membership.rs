//! Which processes belong to the runner.
//!
//! Every process below taskbeat belongs to the runner, whichever process group or session it has
//! moved to, unless
//!
//! - it was there before the runner, as a child of the program that became taskbeat by exec, or
//! - it is a command beside the runner, or a helper of the SDK (`credential_process`).
//!
//! A process shares the fate of its topmost ancestor below taskbeat. So whatever those two kinds
//! start does not belong to the runner either, even if it outlives them: the mark of
//! [`Process::is_beside_runner`] is inherited, unless it clears its environment.

use std::collections::HashSet;

use rustix::process::Pid;

use super::tree::{Process, ProcessKey, Tree};

/// The rule, for one runner.
pub(super) struct Membership {
    leader: Pid,
    /// The processes that were below taskbeat before the runner.
    earlier: HashSet<ProcessKey>,
}

impl Membership {
    pub(super) fn new(leader: Pid, earlier: &Tree) -> Self {
        let earlier = earlier.processes().map(Process::key).collect();
        Self { leader, earlier }
    }

    /// The processes of `tree` that belong to the runner. `beside` tells the marked ones.
    pub(super) fn select(&self, tree: &Tree, beside: impl Fn(&Process) -> bool) -> Vec<Process> {
        let members = tree.processes().filter(|process| {
            let earlier =
                tree.lineage(process).any(|ancestor| self.earlier.contains(&ancestor.key()));
            !earlier
                && tree
                    .lineage(process)
                    .last()
                    .is_some_and(|topmost| topmost.pid == self.leader || !beside(topmost))
        });
        let mut members: Vec<Process> = members.cloned().collect();
        members.sort_by_key(|process| (process.started, process.pid.as_raw_pid()));
        members
    }

    /// True if this child of taskbeat belongs to the runner.
    pub(super) fn includes_child(&self, child: &Process) -> bool {
        child.pid == self.leader
            || !self.earlier.contains(&child.key()) && !child.is_beside_runner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKBEAT: i32 = 1;
    const LEADER: i32 = 10;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid: Pid::from_raw(pid).unwrap(),
            name: format!("p{pid}"),
            parent,
            group: pid,
            started: 0,
        }
    }

    fn tree(links: &[(i32, i32)]) -> Tree {
        Tree::made_of(links.iter().map(|(pid, parent)| process(*pid, *parent)))
    }

    /// The members of a tree of `(process, parent)`, if those in `beside` are marked.
    fn members(earlier: &[(i32, i32)], links: &[(i32, i32)], beside: &[i32]) -> Vec<i32> {
        let leader = Pid::from_raw(LEADER).unwrap();
        let membership = Membership::new(leader, &tree(earlier));
        let marked = |process: &Process| beside.contains(&process.pid.as_raw_pid());
        let members = membership.select(&tree(links), marked);
        members.iter().map(|member| member.pid.as_raw_pid()).collect()
    }

    #[test]
    fn the_leader_and_its_descendants_belong_to_the_runner() {
        let links = [(LEADER, TASKBEAT), (11, LEADER), (12, 11)];
        assert_eq!(members(&[], &links, &[]), [LEADER, 11, 12]);
    }

    #[test]
    fn an_orphan_and_its_descendants_belong_to_the_runner() {
        let links = [(20, TASKBEAT), (21, 20)];
        assert_eq!(members(&[], &links, &[]), [20, 21]);
    }

    #[test]
    fn commands_beside_the_runner_and_their_descendants_do_not() {
        let links = [(LEADER, TASKBEAT), (30, TASKBEAT), (31, 30)];
        assert_eq!(members(&[], &links, &[30, 31]), [LEADER]);
        // A descendant that cleared its environment.
        assert_eq!(members(&[], &links, &[30]), [LEADER]);
    }

    #[test]
    fn what_a_command_left_behind_does_not() {
        let links = [(LEADER, TASKBEAT), (31, TASKBEAT)];
        assert_eq!(members(&[], &links, &[31]), [LEADER]);
    }

    #[test]
    fn a_mark_below_the_leader_changes_nothing() {
        let links = [(LEADER, TASKBEAT), (11, LEADER)];
        assert_eq!(members(&[], &links, &[LEADER, 11]), [LEADER, 11]);
    }

    #[test]
    fn earlier_processes_and_their_descendants_do_not() {
        let links = [(5, TASKBEAT), (6, 5), (7, 6), (LEADER, TASKBEAT)];
        assert_eq!(members(&[(5, TASKBEAT), (6, 5)], &links, &[]), [LEADER]);
        // The first of them has ended, and the kernel made the second a child of taskbeat.
        let links = [(6, TASKBEAT), (7, 6), (LEADER, TASKBEAT)];
        assert_eq!(members(&[(5, TASKBEAT), (6, 5)], &links, &[]), [LEADER]);
    }

    #[test]
    fn a_process_whose_parent_has_just_ended_counts_as_an_orphan() {
        assert_eq!(members(&[], &[(41, 40)], &[]), [41]);
        assert_eq!(members(&[], &[(41, 40)], &[41]), Vec::<i32>::new());
    }

    #[test]
    fn a_circle_of_reused_ids_ends() {
        assert_eq!(members(&[], &[(50, 51), (51, 50)], &[]), [50, 51]);
    }

    #[test]
    fn a_child_belongs_to_the_runner_unless_it_is_earlier_or_beside_it() {
        // No process has these ids. That of the tests looks like taskbeat, as a helper does that
        // has not yet been replaced by its program.
        let [leader, other, earlier] = [i32::MAX, i32::MAX - 1, i32::MAX - 2];
        let copy = std::process::id().cast_signed();
        let includes = |leader: i32, child: i32| {
            let earlier = tree(&[(earlier, TASKBEAT), (leader, TASKBEAT)]);
            let membership = Membership::new(Pid::from_raw(leader).unwrap(), &earlier);
            membership.includes_child(&process(child, TASKBEAT))
        };
        assert!(includes(leader, leader));
        assert!(includes(leader, other));
        assert!(!includes(leader, earlier));
        assert!(!includes(leader, copy));
        assert!(includes(copy, copy));
    }
}
