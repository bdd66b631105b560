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

/// The most memory that a process has had, in bytes.
pub(crate) fn peak_memory(pid: i32) -> u64 {
    let status = Process::new(pid).and_then(|process| process.status());
    status.unwrap().vmhwm.unwrap() * 1024
}

/// The memory that a process has now, in bytes.
pub(crate) fn memory(pid: i32) -> u64 {
    let status = Process::new(pid).and_then(|process| process.status());
    status.unwrap().vmrss.unwrap() * 1024
}

/// How long a process has been on a processor, in ticks of 10 ms.
pub(crate) fn processor_time(pid: i32) -> u64 {
    let stat = Process::new(pid)
        .and_then(|process| process.stat())
        .unwrap();
    stat.utime + stat.stime
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: i32) -> usize {
    Process::new(pid)
        .and_then(|process| process.fd_count())
        .unwrap()
}

/// Waits for the end of a process that is not ours: it can only be looked for.
pub(crate) fn wait_for_end(pid: i32) {
    let start = Instant::now();
    while is_alive(pid) {
        assert!(start.elapsed() < PATIENCE, "process {pid} does not end");
        thread::sleep(Duration::from_millis(1));
    }
}
