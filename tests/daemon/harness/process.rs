//! Processes, as /proc shows them.

use std::thread;
use std::time::Duration;

use procfs::process::Process;
use tokio::time::Instant;

use super::PATIENCE;

/// True while the process runs; one that is dead but not reaped does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    Process::new(pid)
        .and_then(|process| process.stat())
        .is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Waits for the end of a process that is not ours: it can only be looked for.
pub(crate) fn wait_for_end(pid: i32) {
    let start = Instant::now();
    while is_alive(pid) {
        assert!(start.elapsed() < PATIENCE, "process {pid} does not end");
        thread::sleep(Duration::from_millis(1));
    }
}
