//! Processes that the kernel made children of taskbeat when their parent ended, and those that the
//! SDK started and has given up.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, waitid};

use super::tree::{BESIDE_RUNNER, Tree, children, group_and_session};
use crate::sys;

/// Marks what is started from now on as not the runner's. Call it before any thread is started.
pub(crate) fn mark_beside_runner() {
    sys::set_variable(BESIDE_RUNNER, Some(&getpid().as_raw_pid().to_string()));
}

/// Reaps every dead child but those in `held`, whose owners reap them, and, while a heartbeat is in
/// flight, those in taskbeat's process group: the SDK may be waiting for one of these.
///
/// Each is reaped by its id, because waiting for any child would take those of the SDK as well.
pub(super) fn reap(held: &[Pid], in_flight: bool) {
    let group = |pid: Pid| group_and_session(pid.as_raw_pid()).map(|(group, _)| group);
    let own = group(getpid());
    for child in children(getpid()) {
        if held.contains(&child) || in_flight && group(child) == own {
            continue;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::Pid(child), options);
    }
}

/// Kills what the SDK started and has given up. Call it while no heartbeat is in flight.
///
/// A process that has made a session of its own is a daemon (an agent that caches credentials), and
/// is left alone.
pub(super) fn kill_abandoned() {
    let session = |pid: Pid| group_and_session(pid.as_raw_pid()).map(|(_, session)| session);
    let Some(own) = session(getpid()) else {
        return;
    };
    let may_be_abandoned = |pid: &Pid| session(*pid) == Some(own);
    if !children(getpid()).iter().any(may_be_abandoned) {
        return;
    }
    for process in Tree::below_taskbeat().processes() {
        if process.session == own && process.is_beside_runner() {
            let _ = process.signal(Signal::KILL);
        }
    }
}
