//! The controlling terminal, in which the runner and we are one job.

use std::fs::File;

use procfs::ProcResult;
use procfs::process::Process;
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

    /// Whether somebody would continue us if the terminal stopped us: the kernel's rule for Ctrl-Z,
    /// which spares a job that no shell of its session controls.
    pub(crate) fn has_job_control() -> bool {
        let stat = |process: ProcResult<Process>| process.and_then(|process| process.stat());
        let Ok(us) = stat(Process::myself()) else {
            return false;
        };
        stat(Process::new(us.ppid))
            .is_ok_and(|parent| parent.session == us.session && parent.pgrp != us.pgrp)
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
