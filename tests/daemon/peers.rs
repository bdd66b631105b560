//! The status socket has no owner and no permissions, so both sides check who the other one is.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::harness::{Endpoint, Finished, OTHER_USER, Taskbeat, runner, skip_without_root};

fn socket_name(id: &str) -> String {
    let hash = Sha256::digest(id);
    let hex: Vec<_> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("taskbeat/{}", hex.concat())
}

fn status(id: &str) -> Taskbeat {
    Taskbeat::new("status").set("--taskrunner-id", id)
}

/// Another user's process that claims the id, and answers that all is well.
fn forger(id: &str) -> Child {
    let script = r#"
        use Socket; $| = 1; $SIG{PIPE} = "IGNORE";
        socket my $listener, AF_UNIX, SOCK_STREAM, 0 or die;
        bind $listener, pack("Sa*", AF_UNIX, "\0$ARGV[0]") or die;
        listen $listener, 9; print "ready\n";
        my $forged = "{\"in_contact\":true}";
        while (accept my $client, $listener) { print $client $forged; close $client }"#;
    let mut forger = Command::new(OTHER_USER[0])
        .args(&OTHER_USER[1..])
        .args(["perl", "-e", script, &socket_name(id)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    forger.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    forger
}

#[test]
fn another_users_claim_neither_keeps_the_daemon_from_starting_nor_is_believed() {
    if !geteuid().is_root() {
        return skip_without_root();
    }
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).script(runner::OBEDIENT);
    let id = program.id();
    let mut listener = forger(&id);
    let daemon = program.start();
    let warning = daemon.wait_for_log("WARN process");
    assert!(warning.contains("user id 65534 has claimed taskrunner-id"), "{warning}");
    endpoint.wait_for(3);
    let forged = status(&id).finish();
    assert_eq!(forged.status, 69, "{forged:?}");
    assert!(forged.stderr.contains("is not trusted: it comes from user id 65534"), "{forged:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
    listener.kill().and_then(|()| listener.wait()).unwrap();
}

#[test]
fn other_users_learn_only_whether_the_daemon_is_in_contact() {
    if !geteuid().is_root() {
        return skip_without_root();
    }
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).script(runner::OBEDIENT);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_log("heartbeat acknowledged");
    let text = status(&id).by_other_user().finish();
    assert_eq!(text.status, 0, "{text:?}");
    assert_eq!(text.text(), "in contact    yes (ask as root or as taskbeat's user for more)\n");
    let json = status(&id).flag("--json").by_other_user().finish();
    assert_eq!(json.text(), "{\"in_contact\":true}\n");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

/// Lets `status` ask a listener of the same user, which answers with `reply`.
pub(crate) fn answered(reply: impl Fn(&mut dyn Write) + Send + 'static) -> Finished {
    let program = Taskbeat::new("status");
    let id = program.id();
    let address = SocketAddr::from_abstract_name(socket_name(&id)).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        reply(&mut client);
    });
    program.set("--taskrunner-id", id).finish()
}

#[test]
fn a_reply_that_drips_ends_after_five_seconds() {
    let start = Instant::now();
    let finished = answered(|client| {
        while client.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(200));
        }
    });
    assert_eq!(finished.status, 69, "{finished:?}");
    assert!(finished.stderr.contains("does not answer"), "{finished:?}");
    // Far from a time at which it would have ended by itself.
    assert!(start.elapsed() < Duration::from_secs(25));
}

#[test]
fn a_reply_without_end_is_cut_off() {
    let finished = answered(|client| while client.write_all(&[b' '; 4096]).is_ok() {});
    assert_eq!(finished.status, 69, "{finished:?}");
    assert!(finished.stderr.contains("cannot be read: it is too long"), "{finished:?}");
}

#[test]
fn a_reply_is_printed_without_control_characters() {
    let text = serde_json::json!({
        "version": "1", "taskrunner_id": "t", "pid": 1, "started_at": "2026-11-26T05:00:00Z",
        "uptime_seconds": 1.0, "state": "running", "in_contact": false, "failures": 1,
        "failure": "\u{1b}[31mred\u{9b}31m\nline", "over_limit": false, "runner_starts": 0,
        "heartbeats": {
            "acknowledged": 0, "transient": 1, "throttled": 0, "rejected": 0, "unhealthy": 0,
        },
        "stops": {"leader-exited": 0, "operator": 0, "lost-contact": 0, "terminate": 0},
        "log_lines_dropped": 0,
    });
    let finished = answered(move |client| client.write_all(text.to_string().as_bytes()).unwrap());
    assert_eq!(finished.status, 69, "{finished:?}");
    let shown = finished.text();
    assert!(shown.contains("1 in a row:  [31mred 31m line"), "{shown:?}");
    assert!(!shown.replace('\n', "").contains(char::is_control), "{shown:?}");
}
