//! Wrong clocks. The clock of the machine stays as it is; the service's differs from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use rustix::process::Signal;

use crate::harness::{Endpoint, Request, Response, Step, Taskbeat, eventually, runner, state_of};

/// The difference of clocks that the service accepts, in seconds.
const TOLERANCE: i64 = 300;

/// A service whose clock is `ahead` of the machine's by this many seconds. It rejects requests that
/// were not signed at its own time with `code`, and sends its time with each response.
fn service(ahead: Arc<AtomicI64>, code: &'static str) -> (Endpoint, Arc<AtomicUsize>) {
    let rejected = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&rejected);
    let judge = move |request: &Request| {
        let now = DateTime::from(
            std::time::UNIX_EPOCH.elapsed().map(|now| std::time::UNIX_EPOCH + now).unwrap(),
        );
        let date = DateTime::from_secs(now.secs() + ahead.load(Ordering::Relaxed));
        let response = if (signed(request) - date.secs()).abs() <= TOLERANCE {
            Response::acknowledge(false)
        } else {
            count.fetch_add(1, Ordering::Relaxed);
            Response::error(403, code, "Signature expired")
        };
        response.header("Date", &date.fmt(Format::HttpDate).unwrap())
    };
    (Endpoint::play([], Step::handler(judge)), rejected)
}

/// When the request was signed, by its own header.
fn signed(request: &Request) -> i64 {
    let date = request.header("x-amz-date");
    let [year, month, day] = [&date[..4], &date[4..6], &date[6..8]];
    let [hour, minute, second] = [&date[9..11], &date[11..13], &date[13..15]];
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    DateTime::from_str(&text, Format::DateTime).unwrap().secs()
}

/// One rejection corrects the clock for all later heartbeats, each on a thread of its own.
fn is_corrected(ahead: i64) {
    for code in ["InvalidSignatureException", "RequestTimeTooSkewed"] {
        let (endpoint, rejected) = service(Arc::new(AtomicI64::new(ahead)), code);
        let daemon = Taskbeat::run(&endpoint).set("--interval", "50ms").start();
        let line = daemon.wait_for_log("WARN heartbeat failed");
        assert!(line.contains(code), "{line}");
        daemon.wait_for_log("heartbeats are acknowledged again");
        endpoint.wait_for(20);
        assert_eq!(rejected.load(Ordering::Relaxed), 1, "{code}, {ahead} s");
    }
}

const HOUR: i64 = 3600;

#[test]
fn a_clock_that_is_an_hour_slow() {
    is_corrected(HOUR);
}

#[test]
fn a_clock_that_is_an_hour_fast() {
    is_corrected(-HOUR);
}

#[test]
fn a_clock_that_is_at_1970() {
    is_corrected(56 * 365 * 24 * HOUR);
}

#[test]
fn a_clock_that_is_stepped_costs_one_heartbeat() {
    for step in [HOUR, -HOUR] {
        let ahead = Arc::new(AtomicI64::new(0));
        // Only the difference matters: the wall clock does not decide when heartbeats are sent.
        let (endpoint, rejected) = service(Arc::clone(&ahead), "RequestTimeTooSkewed");
        let daemon = Taskbeat::run(&endpoint).set("--interval", "50ms").start();
        daemon.wait_for_log("heartbeat acknowledged");
        ahead.store(step, Ordering::Relaxed);
        daemon.wait_for_log("heartbeats are acknowledged again");
        endpoint.wait_for_more(10);
        assert_eq!(rejected.load(Ordering::Relaxed), 1, "{step} s");
    }
}

#[test]
fn a_process_that_is_stopped_and_continued() {
    const INTERVAL: Duration = Duration::from_secs(2);
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--interval", "2s").script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    daemon.wait_for_log("heartbeat acknowledged");
    daemon.signal(Signal::STOP);
    eventually("taskbeat is stopped", || state_of(daemon.pid()) == 'T');
    // Two heartbeats are missed.
    thread::sleep(2 * INTERVAL);
    assert_eq!(endpoint.requests().len(), 1);
    daemon.signal(Signal::CONT);
    let requests = endpoint.wait_for(3);
    // One is sent at once, and the next one an interval later.
    let gap = requests[2].at - requests[1].at;
    assert!(gap > INTERVAL / 2, "{gap:?}");
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.stderr.contains("WARN heartbeat"), "{finished:?}");
}
