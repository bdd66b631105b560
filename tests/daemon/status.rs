//! One instance for each task runner, which says how it is.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{Endpoint, Finished, Play, Taskbeat, eventually, runner};

fn ask(id: &str, flags: &[&str]) -> Finished {
    let mut status = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", id);
    for flag in flags {
        status = status.flag(*flag);
    }
    status.finish()
}

#[test]
fn a_second_instance_with_the_same_id_is_refused_and_told_of_the_first() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).script(runner::PLAIN);
    let id = program.id();
    let first = program.start();
    first.wait_for_pid("ready");
    let second = Taskbeat::run(&endpoint)
        .env("TASKBEAT_TASKRUNNER_ID", &id)
        .script("echo started")
        .finish();
    assert_eq!(
        (second.status, second.text().as_str()),
        (75, ""),
        "{second:?}"
    );
    let said = format!("taskrunner-id {id:?}: process {}", first.pid());
    assert!(second.stderr.contains(&said), "{second:?}");
    // With an id of its own there is room for it.
    let third = Taskbeat::run(&endpoint).script("exit 3").finish();
    assert_eq!(third.status, 3, "{third:?}");
    first.signal(Signal::TERM);
    assert_eq!(first.finish().status, 143);
}

#[test]
fn the_claim_is_gone_with_us_however_we_ended() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let id = program.id();
    let first = program.start();
    first.wait_for_log("taskbeat starts");
    first.signal(Signal::KILL);
    crate::harness::wait_for_end(first.pid());
    let second = Taskbeat::run(&endpoint)
        .env("TASKBEAT_TASKRUNNER_ID", id)
        .script("exit 3")
        .finish();
    assert_eq!(second.status, 3, "{second:?}");
    drop(first);
}

#[test]
fn ids_as_long_as_allowed_that_differ_in_the_last_character_are_two() {
    let endpoint = Endpoint::ok();
    let long = "r".repeat(1000);
    let unique = Taskbeat::new("status").id();
    let [one, other] = ["1", "2"].map(|last| format!("{unique}{}{last}", &long[unique.len()..]));
    let start = |id: &str| Taskbeat::run(&endpoint).env("TASKBEAT_TASKRUNNER_ID", id);
    let first = start(&one).start();
    first.wait_for_log("taskbeat starts");
    assert_eq!(start(&one).script("exit 3").finish().status, 75);
    assert_eq!(start(&other).script("exit 3").finish().status, 3);
}

#[test]
fn the_status_is_0_in_contact_and_69_otherwise() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).script(runner::PLAIN);
    let id = program.id();
    let nobody = ask(&id, &[]);
    assert_eq!(nobody.status, 69, "{nobody:?}");
    assert!(nobody.stderr.contains("nobody on this host"), "{nobody:?}");
    let daemon = program.start();
    let leader = daemon.wait_for_pid("ready");
    daemon.wait_for_log("heartbeat acknowledged");
    let good = ask(&id, &[]);
    assert_eq!(good.status, 0, "{good:?}");
    assert!(good.text().contains("in contact    yes"), "{good:?}");
    let pid = format!("runner        pid {leader}");
    assert!(good.text().contains(&pid), "{good:?}");
    endpoint.now_play(Play::deny());
    eventually("contact is lost", || ask(&id, &[]).status == 69);
    let bad = ask(&id, &[]);
    assert!(bad.text().contains("in contact    NO, for "), "{bad:?}");
    assert!(bad.text().contains("AccessDenied"), "{bad:?}");
    endpoint.now_play(Play::Ok);
    eventually("contact is back", || ask(&id, &[]).status == 0);
    drop(daemon);
}

#[test]
fn the_status_can_be_read_by_programs() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint)
        .set("--interval", "15m")
        .script(runner::PLAIN);
    let id = program.id();
    let daemon = program.start();
    let leader = daemon.wait_for_pid("ready");
    daemon.wait_for_log("heartbeat acknowledged");
    let finished = ask(&id, &["--json"]);
    assert_eq!(finished.status, 0, "{finished:?}");
    let told: Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!(told["pid"], daemon.pid());
    assert_eq!(told["runner_pid"], leader);
    assert_eq!(told["state"], "running");
    assert_eq!(told["in_contact"], true);
    assert_eq!(told["contact_lost_seconds_ago"], Value::Null);
    assert_eq!(told["failures"], 0);
    assert_eq!(told["failure"], Value::Null);
    let next = told["next_heartbeat_in_seconds"].as_f64().unwrap();
    assert!((1.0..=900.0).contains(&next), "{told}");
    for seconds in [
        "uptime_seconds",
        "contact_began_seconds_ago",
        "acknowledged_seconds_ago",
        "runner_uptime_seconds",
    ] {
        assert!(told[seconds].as_f64().unwrap() >= 0.0, "{told}");
    }
}

#[test]
fn a_daemon_that_never_reached_the_service_is_not_in_contact_and_says_why() {
    let endpoint = Endpoint::play([], Play::deny());
    let program = Taskbeat::run(&endpoint);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_log("heartbeat failed");
    let finished = ask(&id, &["--json"]);
    assert_eq!(finished.status, 69, "{finished:?}");
    let told: Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!(told["acknowledged_seconds_ago"], Value::Null);
    assert_eq!(told["runner_pid"], Value::Null);
    assert!(told["failures"].as_u64().unwrap() >= 1);
    assert!(told["failure"].as_str().unwrap().contains("AccessDenied"));
    let shown = ask(&id, &[]).text();
    assert!(shown.contains("in contact    NO, never yet"), "{shown}");
    drop(daemon);
}

/// The name of the socket of a task runner.
fn socket(id: &str) -> String {
    let hash = Sha256::digest(id);
    let digits: Vec<_> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("taskbeat/{}", digits.concat())
}

#[test]
fn a_crowd_that_asks_holds_nothing_up() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint)
        .set("--interval", "50ms")
        .set("--grace", "300ms")
        .script(runner::DEAF);
    let address = SocketAddr::from_abstract_name(socket(&program.id())).unwrap();
    let mut daemon = program.start();
    daemon.wait_for_pid("ready");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = UnixStream::connect_addr(&address);
                }
            });
        }
        endpoint.wait_for_more(10);
        // The deadline of the ladder comes, too.
        daemon.signal(Signal::TERM);
        let status = daemon.wait();
        over.store(true, Ordering::Relaxed);
        assert_eq!(status, 137);
    });
}

#[test]
fn nobody_waits_behind_those_whom_a_stopped_instance_does_not_answer() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_log("heartbeat acknowledged");
    daemon.signal(Signal::STOP);
    let address = SocketAddrUnix::new_abstract_name(socket(&id).as_bytes()).unwrap();
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut waiting = Vec::new();
    loop {
        let one = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        if connect(&one, &address).is_err() {
            break;
        }
        waiting.push(one);
        assert!(waiting.len() < 100_000);
    }
    let unanswered = ask(&id, &[]);
    assert_eq!(unanswered.status, 69, "{unanswered:?}");
    let second = Taskbeat::run(&endpoint)
        .env("TASKBEAT_TASKRUNNER_ID", &id)
        .finish();
    assert_eq!(second.status, 75, "{second:?}");
    daemon.signal(Signal::CONT);
}

#[test]
fn a_runner_that_drains_after_terminate_is_no_lost_contact_and_one_that_ended_is_not_shown() {
    let endpoint = Endpoint::ok();
    // The leader ends at once, and leaves one who does not.
    let script =
        "(trap '' TERM; nap left) & trap 'exit 42' TERM; nap ready & while :; do wait; done";
    let program = Taskbeat::run(&endpoint)
        .set("--interval", "50ms")
        .script(script);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_pid("left");
    daemon.wait_for_pid("ready");
    endpoint.now_play(Play::Terminate);
    daemon.wait_for_log("the runner exited");
    // More than two intervals, in which nothing is to happen.
    thread::sleep(std::time::Duration::from_millis(300));
    let status = ask(&id, &[]);
    assert_eq!(status.status, 0, "{status:?}");
    for line in [
        "state         stopping the runner: terminate received",
        "in contact    yes",
        "runner        none",
    ] {
        assert!(status.text().contains(line), "{line}: {status:?}");
    }
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stop requested");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}
