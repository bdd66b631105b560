//! The claim on the taskrunner id, and `taskbeat status`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{
    Endpoint, Finished, Step, Taskbeat, eventually, let_pass, runner, text, wait_for_end,
};

/// The line of the status while contact lasts.
const IN_CONTACT: &str = "in contact    yes";

/// Runs `taskbeat status` for the taskrunner id.
fn ask(id: &str, flags: &[&str]) -> Finished {
    let mut status = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", id);
    for flag in flags {
        status = status.flag(*flag);
    }
    status.finish()
}

#[test]
fn a_second_instance_with_the_same_id_is_refused_and_names_the_first() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).script(runner::PLAIN);
    let id = program.id();
    let first = program.start();
    first.wait_for_pid("ready");
    let second =
        Taskbeat::run(&endpoint).env("TASKBEAT_TASKRUNNER_ID", &id).script("echo started").finish();
    assert_eq!((second.status, second.text().as_str()), (75, ""), "{second:?}");
    let claimed = format!("reports taskrunner-id {id:?} (process {})", first.pid());
    assert!(second.stderr.contains(&claimed), "{second:?}");
    // An instance with another id starts.
    let third = Taskbeat::run(&endpoint).script("exit 3").finish();
    assert_eq!(third.status, 3, "{third:?}");
    first.signal(Signal::TERM);
    assert_eq!(first.finish().status, 143);
}

#[test]
fn a_killed_instance_leaves_no_claim() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let id = program.id();
    let first = program.start();
    first.wait_for_log(text::TASKBEAT_STARTED);
    first.signal(Signal::KILL);
    wait_for_end(first.pid());
    let second =
        Taskbeat::run(&endpoint).env("TASKBEAT_TASKRUNNER_ID", id).script("exit 3").finish();
    assert_eq!(second.status, 3, "{second:?}");
    drop(first);
}

#[test]
fn long_ids_that_differ_in_the_last_character_are_two() {
    let endpoint = Endpoint::ok();
    // An id may have 1024 characters, the name of a socket 108 bytes.
    let long = "r".repeat(1000);
    let unique = Taskbeat::new("status").id();
    let [one, other] = ["1", "2"].map(|last| format!("{unique}{}{last}", &long[unique.len()..]));
    let start = |id: &str| Taskbeat::run(&endpoint).env("TASKBEAT_TASKRUNNER_ID", id);
    let first = start(&one).start();
    first.wait_for_log(text::TASKBEAT_STARTED);
    assert_eq!(start(&one).script("exit 3").finish().status, 75);
    assert_eq!(start(&other).script("exit 3").finish().status, 3);
}

#[test]
fn the_status_is_0_in_contact_and_69_otherwise() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).script(runner::PLAIN);
    let id = program.id();
    let absent = ask(&id, &[]);
    assert_eq!(absent.status, 69, "{absent:?}");
    assert!(absent.stderr.contains("no taskbeat is running"), "{absent:?}");
    let daemon = program.start();
    let leader = daemon.wait_for_pid("ready");
    daemon.wait_for_log(text::ACKNOWLEDGED);
    let good = ask(&id, &[]);
    assert_eq!(good.status, 0, "{good:?}");
    assert!(good.text().contains(IN_CONTACT), "{good:?}");
    let pid = format!("runner        pid {leader}");
    assert!(good.text().contains(&pid), "{good:?}");
    endpoint.switch_to(Step::deny());
    eventually("contact is lost", || ask(&id, &[]).status == 69);
    let bad = ask(&id, &[]);
    assert!(bad.text().contains("in contact    NO, lost for "), "{bad:?}");
    assert!(bad.text().contains("AccessDenied"), "{bad:?}");
    endpoint.switch_to(Step::Ok);
    eventually("contact is regained", || ask(&id, &[]).status == 0);
    drop(daemon);
}

#[test]
fn the_status_as_json_has_typed_fields() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).set("--interval", "15m").script(runner::PLAIN);
    let id = program.id();
    let daemon = program.start();
    let leader = daemon.wait_for_pid("ready");
    daemon.wait_for_log(text::ACKNOWLEDGED);
    let finished = ask(&id, &["--json"]);
    assert_eq!(finished.status, 0, "{finished:?}");
    let status: Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["runner_pid"], leader);
    assert_eq!(status["state"], "running");
    assert_eq!(status["in_contact"], true);
    assert_eq!(status["contact_lost_seconds_ago"], Value::Null);
    assert_eq!(status["failures"], 0);
    assert_eq!(status["failure"], Value::Null);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["taskrunner_id"], id);
    assert_eq!(status["worker_group"], Value::Null);
    assert_eq!(status["runner_up"], true);
    assert_eq!(status["runner_starts"], 1);
    assert_eq!(status["heartbeats"]["acknowledged"], 1);
    assert_eq!(status["log_lines_dropped"], 0);
    let next = status["next_heartbeat_in_seconds"].as_f64().unwrap();
    assert!((1.0..=900.0).contains(&next), "{status}");
    for seconds in [
        "uptime_seconds",
        "contact_began_seconds_ago",
        "acknowledged_seconds_ago",
        "runner_uptime_seconds",
    ] {
        assert!(status[seconds].as_f64().unwrap() >= 0.0, "{status}");
    }
    // A moment stays where it is, to the millisecond.
    let again: Value = serde_json::from_slice(&ask(&id, &["--json"]).stdout).unwrap();
    for (time, seconds) in [
        ("started_at", "uptime_seconds"),
        ("contact_began_at", "contact_began_seconds_ago"),
        ("acknowledged_at", "acknowledged_seconds_ago"),
        ("runner_started_at", "runner_uptime_seconds"),
    ] {
        assert_eq!(status[time], again[time]);
        let at = humantime::parse_rfc3339(status[time].as_str().unwrap()).unwrap();
        let ago = at.elapsed().unwrap().as_secs_f64();
        let shown = status[seconds].as_f64().unwrap();
        assert!((shown - 1.0..shown + 60.0).contains(&ago), "{time}: {ago} {shown}");
    }
    let text = ask(&id, &[]).text();
    let at = &status["acknowledged_at"].as_str().unwrap()[..19];
    assert!(text.contains(&format!("ago, at {at}Z")), "{at}: {text}");
}

#[test]
fn the_status_counts_heartbeats_by_their_results() {
    let endpoint = Endpoint::play(
        [Step::Ok, Step::throttle(), Step::fault(), Step::deny(), Step::deny()],
        Step::Ok,
    );
    let program = Taskbeat::run(&endpoint).script(runner::PLAIN);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_lines(text::ACKNOWLEDGED, 2);
    let status: Value = serde_json::from_slice(&ask(&id, &["--json"]).stdout).unwrap();
    let counts = &status["heartbeats"];
    assert_eq!(counts["throttled"], 1, "{status}");
    assert_eq!(counts["transient"], 1, "{status}");
    assert_eq!(counts["rejected"], 2, "{status}");
    assert!(counts["acknowledged"].as_u64().unwrap() >= 2, "{status}");
    assert!(status["heartbeat_seconds"].as_f64().unwrap() > 0.0, "{status}");
    drop(daemon);
}

#[test]
fn a_daemon_that_was_never_acknowledged_is_not_in_contact_and_reports_the_failure() {
    let endpoint = Endpoint::play([], Step::deny());
    let program = Taskbeat::run(&endpoint);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_log(text::FAILED);
    let finished = ask(&id, &["--json"]);
    assert_eq!(finished.status, 69, "{finished:?}");
    let status: Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!(status["acknowledged_seconds_ago"], Value::Null);
    assert_eq!(status["runner_pid"], Value::Null);
    assert!(status["failures"].as_u64().unwrap() >= 1);
    assert!(status["failure"].as_str().unwrap().contains("AccessDenied"));
    let text = ask(&id, &[]).text();
    assert!(text.contains("in contact    NO, not yet"), "{text}");
    drop(daemon);
}

/// The name of the abstract socket for a taskrunner id.
fn socket(id: &str) -> String {
    let hash = Sha256::digest(id);
    let digits: Vec<_> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("taskbeat/{}", digits.concat())
}

#[test]
fn status_requests_cannot_starve_heartbeats_and_deadlines() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint)
        .set("--interval", "50ms")
        .set("--grace", "300ms")
        .script(runner::IGNORES_STOP);
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
        // The ladder has a deadline after 300 ms.
        daemon.signal(Signal::TERM);
        let status = daemon.wait();
        over.store(true, Ordering::Relaxed);
        assert_eq!(status, 137);
    });
}

#[test]
fn an_instance_with_a_full_backlog_delays_neither_status_nor_start() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_log(text::ACKNOWLEDGED);
    daemon.signal(Signal::STOP);
    let address = SocketAddrUnix::new_abstract_name(socket(&id).as_bytes()).unwrap();
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut backlog = Vec::new();
    loop {
        let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        if connect(&client, &address).is_err() {
            break;
        }
        backlog.push(client);
        assert!(backlog.len() < 100_000);
    }
    let unanswered = ask(&id, &[]);
    assert_eq!(unanswered.status, 69, "{unanswered:?}");
    // It cannot be asked who it is, so it may belong to any user.
    let second = Taskbeat::run(&endpoint).env("TASKBEAT_TASKRUNNER_ID", &id).start();
    second.wait_for_log("WARN an unknown process has claimed taskrunner-id");
    second.wait_for_log(text::ACKNOWLEDGED);
    daemon.signal(Signal::CONT);
}

#[test]
fn after_terminate_contact_is_not_lost_and_an_ended_leader_is_not_shown() {
    const INTERVAL: Duration = Duration::from_millis(50);
    let endpoint = Endpoint::ok();
    // The leader ends at once and leaves a process that ignores SIGTERM.
    let script =
        "(trap '' TERM; nap left) & trap 'exit 42' TERM; nap ready & while :; do wait; done";
    let program = Taskbeat::run(&endpoint).set("--interval", "50ms").script(script);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_pid("left");
    daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log(text::RUNNER_ENDED);
    // Contact would be lost after two intervals.
    let_pass(6 * INTERVAL);
    let status = ask(&id, &[]);
    assert_eq!(status.status, 0, "{status:?}");
    for line in
        ["state         stopping the runner: terminate received", IN_CONTACT, "runner        none"]
    {
        assert!(status.text().contains(line), "{line}: {status:?}");
    }
    daemon.signal(Signal::TERM);
    daemon.stop_again();
    assert_eq!(daemon.finish().status, 0);
}
