//! The controlling terminal, in which the runner and we are one job.

use std::collections::HashMap;
use std::fs::File;

use procfs::process::{Stat, all_processes};
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use signal_hook::consts::SIGHUP;

use super::sys;
use super::tree::own_group;

/// The terminal that we were started in. Given back when it is dropped.
///
/// In it the runner shares our process group: the kernel then sends Ctrl-C and Ctrl-Z to both of
/// us, the runner may read, and the shell that started us sees one job.
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// The terminal that controls us; none for those who ignore its hang-up (`nohup`): they and
    /// their runner are to outlive it.
    #[must_use]
    pub fn find() -> Option<Self> {
        let terminal = File::open("/dev/tty").ok()?;
        (!sys::is_ignored(SIGHUP)).then_some(Self(terminal))
    }

    /// Whether somebody would continue our job if the terminal stopped it: the kernel's rule for
    /// Ctrl-Z, which spares a job of which no member is the child of a shell of its session.
    pub(crate) fn has_job_control() -> bool {
        let group = own_group();
        let all = all_processes().into_iter().flatten().flatten();
        let all: HashMap<i32, Stat> = all
            .filter_map(|process| Some((process.pid, process.stat().ok()?)))
            .collect();
        let mut members = all.values().filter(|process| process.pgrp == group);
        members.any(|member| {
            all.get(&member.ppid)
                .is_some_and(|parent| parent.session == member.session && parent.pgrp != group)
        })
    }
}

impl Drop for Terminal {
    /// A runner that was a shell leaves the terminal to a group that is gone; whoever shares our
    /// group could not read any more.
    fn drop(&mut self) {
        let abandoned =
            tcgetpgrp(&self.0).is_ok_and(|group| test_kill_process_group(group).is_err());
        if let (true, Some(group)) = (abandoned, Pid::from_raw(own_group())) {
            // From the background this stops the caller, unless it does not want to hear of it.
            let _ = sys::without_sigttou(|| tcsetpgrp(&self.0, group));
        }
    }
}
