//! The controlling terminal, in which taskbeat and the runner are one job.

use std::fs::File;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, kill_process, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT};

use super::tree::{group_and_session, parent_of};
use crate::core::Exit;
use crate::sys;

/// The terminal in which taskbeat was started. It is given back when this is dropped.
///
/// In it the runner shares taskbeat's process group: the kernel sends Ctrl-C and Ctrl-Z to both,
/// the runner may read, and the shell sees one job.
#[derive(Debug)]
pub(crate) struct Terminal {
    file: File,
    shares_group: bool,
    /// The terminal's signals that taskbeat was started to ignore.
    ignored: Vec<i32>,
    /// The settings at taskbeat's start.
    modes: Option<Termios>,
    /// True if a signal ended the runner, which then could not restore the terminal.
    spoiled: bool,
}

impl Terminal {
    /// The terminal that controls taskbeat; `None` without one. Call it before signals are caught.
    pub(crate) fn find() -> Option<Self> {
        let file = File::open("/dev/tty").ok()?;
        let modes = tcgetattr(&file).ok();
        // nohup, and a script that starts taskbeat in the background, keep the terminal's signals
        // away from it. Then only a runner in the foreground shares the group, because it may read.
        let ignored = [SIGHUP, SIGINT, SIGQUIT].into_iter();
        let ignored: Vec<i32> = ignored.filter(|signal| sys::is_ignored(*signal)).collect();
        let kept_away = ignored.contains(&SIGHUP) || ignored.contains(&SIGINT);
        let mut terminal = Self { file, shares_group: !kept_away, ignored, modes, spoiled: false };
        terminal.shares_group |= terminal.is_foreground();
        Some(terminal)
    }

    /// True if the runner is in taskbeat's process group.
    pub(crate) fn shares_group(&self) -> bool {
        self.shares_group
    }

    /// The signals that the runner is to ignore: in taskbeat's group, the same as taskbeat was
    /// started to ignore, as without taskbeat.
    pub(super) fn ignored_signals(&self) -> Vec<i32> {
        if self.shares_group { self.ignored.clone() } else { vec![] }
    }

    /// Records the runner's exit. A shell restores the terminal after a job that a signal ended,
    /// but the job that it sees is taskbeat.
    pub(super) fn runner_exited(&mut self, exit: Exit) {
        self.spoiled = exit.is_by_signal();
    }

    /// Stops taskbeat, as the rest of its job, until a shell continues it. Deadlines that pass
    /// meanwhile are due then. Without a shell that could continue it, nothing happens.
    ///
    /// `leader` is the process group of the runner's leader. If the leader is a shell that had its
    /// own group in the foreground, it gets the foreground back.
    pub(super) fn suspend(&self, leader: Option<Pid>) {
        if !(self.shares_group && has_job_control()) {
            return;
        }
        // It cannot fail: the signal and the process exist. It returns when taskbeat is continued.
        let _ = kill_process(getpid(), Signal::STOP);
        if let Some(leader) = leader.filter(|leader| leader.as_raw_pid() != own_group())
            && self.is_foreground()
        {
            let _ = sys::without_sigttou(|| tcsetpgrp(&self.file, leader));
        }
    }

    fn is_foreground(&self) -> bool {
        tcgetpgrp(&self.file).ok().map(Pid::as_raw_pid) == Some(own_group())
    }
}

/// True if taskbeat's process group is not orphaned: the parent of one of its members is in another
/// group of the same session, as a shell is. The kernel stops no other job for Ctrl-Z.
fn has_job_control() -> bool {
    let Some(own) = group_and_session(getpid().as_raw_pid()) else {
        return false;
    };
    let mut process = getpid().as_raw_pid();
    while let Some(parent) = parent_of(process)
        && let Some((group, session)) = group_and_session(parent)
    {
        if group != own.0 {
            return session == own.1;
        }
        process = parent;
    }
    false
}

fn own_group() -> i32 {
    group_and_session(getpid().as_raw_pid()).map_or(0, |(group, _)| group)
}

impl Drop for Terminal {
    /// A runner that was a shell leaves the terminal to a process group that is gone. Other members
    /// of taskbeat's group could not read any more.
    fn drop(&mut self) {
        let (Ok(front), Some(own)) = (tcgetpgrp(&self.file), Pid::from_raw(own_group())) else {
            return;
        };
        // Another user's group exists, although it cannot be signalled.
        let abandoned = test_kill_process_group(front) == Err(Errno::SRCH);
        if !abandoned && front != own {
            return;
        }
        // From the background these calls would stop taskbeat.
        let _ = sys::without_sigttou(|| {
            if abandoned {
                let _ = tcsetpgrp(&self.file, own);
            }
            if let (true, Some(modes)) = (self.spoiled, &self.modes) {
                let _ = tcsetattr(&self.file, OptionalActions::Now, modes);
            }
        });
    }
}
