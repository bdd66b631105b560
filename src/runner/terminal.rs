//! The controlling terminal, in which the runner and we are one job.

use std::collections::HashMap;
use std::fs::File;

use procfs::process::{Stat, all_processes};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT};

use super::tree::own_group;
use crate::core::Exit;
use crate::sys;

/// The terminal that we were started in. Given back when it is dropped.
///
/// In it the runner shares our process group: the kernel then sends Ctrl-C and Ctrl-Z to both of
/// us, the runner may read, and the shell that started us sees one job.
#[derive(Debug)]
pub struct Terminal {
    file: File,
    shares_job: bool,
    /// How it was set when we came.
    modes: Option<Termios>,
    /// Whether a signal ended the runner, which then had no time to put it right.
    spoiled: bool,
}

impl Terminal {
    /// The terminal that controls us; none for those who ignore its hang-up (`nohup`): they and
    /// their runner are to outlive it.
    #[must_use]
    pub fn find() -> Option<Self> {
        let file = File::open("/dev/tty").ok()?;
        let modes = tcgetattr(&file).ok();
        (!sys::is_ignored(SIGHUP)).then_some(Self {
            file,
            // A script that puts us into the background makes us ignore its Ctrl-C, and so it is not for the runner.
            shares_job: !sys::is_ignored(SIGINT),
            modes,
            spoiled: false,
        })
    }

    /// Whether the runner is in one job with us.
    pub(crate) fn shares_job(&self) -> bool {
        self.shares_job
    }

    /// The runner ended. A shell puts the terminal right after a job that a signal ended, but to the shell that started
    /// us nothing like that has happened.
    pub(super) fn runner_ended(&mut self, exit: Exit) {
        self.spoiled = exit.is_by_signal();
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
        let (Ok(front), Some(ours)) = (tcgetpgrp(&self.file), Pid::from_raw(own_group())) else {
            return;
        };
        // A group of another user is there, too, though it cannot be signalled.
        let abandoned = test_kill_process_group(front) == Err(Errno::SRCH);
        if !abandoned && front != ours {
            return;
        }
        // From the background this stops the caller, unless it does not want to hear of it.
        let _ = sys::without_sigttou(|| {
            if abandoned {
                let _ = tcsetpgrp(&self.file, ours);
            }
            if let (true, Some(modes)) = (self.spoiled, &self.modes) {
                let _ = tcsetattr(&self.file, OptionalActions::Now, modes);
            }
        });
    }
}
