//! The texts of a snapshot, and the claim while another instance starts or exits.

use std::os::fd::OwnedFd;
use std::pin::pin;

use futures_util::FutureExt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

use super::Snapshots;
use super::snapshot::{Phase, Snapshot, StopCause};
use super::socket::{ClaimError, StatusReply, claim, name};
use crate::core::Cause;

#[test]
fn a_snapshot_fits_one_line() {
    const DAY: f64 = 86_400.0;
    let fine = Snapshot {
        state: Phase::Running,
        acknowledged_seconds_ago: Some(200.0),
        next_heartbeat_in_seconds: Some(12.5 * 60.0),
        runner_pid: Some(4711),
        runner_uptime_seconds: Some(6.9 * 3600.0),
        ..Snapshot::default()
    };
    let failing = Snapshot {
        failures: 7,
        failure: Some("ThrottlingException: Rate exceeded (HTTP 400)".to_owned()),
        next_heartbeat_in_seconds: Some(59.0),
        ..fine.clone()
    };
    let waiting = Snapshot {
        state: Phase::Waiting,
        next_heartbeat_in_seconds: None,
        runner_pid: None,
        ..fine.clone()
    };
    let rows = [
        (fine.clone(), "acknowledged 3 min ago, next in 12 min; runner pid 4711 up 6 h"),
        (
            Snapshot {
                acknowledged_seconds_ago: None,
                next_heartbeat_in_seconds: None,
                runner_uptime_seconds: Some(0.5),
                ..fine.clone()
            },
            "not acknowledged yet, next under way; runner pid 4711 up less than 1 min",
        ),
        (
            failing.clone(),
            "7 heartbeats in a row failed, last acknowledged 3 min ago, next in less than 1 min; \
             runner pid 4711 up 6 h; ThrottlingException: Rate exceeded (HTTP 400)",
        ),
        (
            Snapshot { over_limit: true, ..failing.clone() },
            "7 heartbeats in a row failed, last acknowledged 3 min ago, next in less than 1 min; \
             the AWS account is over its limit; runner pid 4711 up 6 h; \
             ThrottlingException: Rate exceeded (HTTP 400)",
        ),
        (
            Snapshot { failures: 1, acknowledged_seconds_ago: None, runner_pid: None, ..failing },
            "1 heartbeat failed, never acknowledged, next in less than 1 min; \
             ThrottlingException: Rate exceeded (HTTP 400)",
        ),
        (waiting.clone(), "waiting for the runner; acknowledged 3 min ago"),
        (Snapshot { acknowledged_seconds_ago: None, ..waiting }, "waiting for the runner"),
        (
            Snapshot {
                state: Phase::Stopping,
                stop_cause: Some(StopCause::Terminate),
                next_heartbeat_in_seconds: None,
                runner_uptime_seconds: Some(2.0 * DAY),
                ..fine
            },
            "stopping the runner: terminate received; acknowledged 3 min ago; \
             runner pid 4711 up 2 d",
        ),
    ];
    for (snapshot, expected) in rows {
        assert_eq!(snapshot.line(), expected);
    }
}

#[test]
fn causes_of_a_stop() {
    let causes = [Cause::Ended, Cause::Operator, Cause::LostContact, Cause::Terminate];
    let names = ["the leader exited", "stop requested", "contact lost", "terminate received"];
    assert_eq!(causes.map(|cause| StopCause::from(cause).to_string()), names);
}

#[test]
fn a_reply_of_another_version_is_full_although_fields_are_missing_or_new() {
    let mut expected =
        Snapshot { version: "9".to_owned(), in_contact: true, ..Snapshot::default() };
    expected.tally.heartbeats.acknowledged = 3;
    expected.tally.stops.terminate = 1;
    let text = br#"{"version": "9", "in_contact": true, "heartbeats": {"acknowledged": 3},
        "stops": {"terminate": 1}, "new": true}"#;
    assert_eq!(StatusReply::parse(text).unwrap(), StatusReply::Full(Box::new(expected)));
    let contact = StatusReply::Contact { in_contact: true };
    assert_eq!(StatusReply::parse(br#"{"in_contact": true}"#).unwrap(), contact);
    for broken in [&b"{}"[..], br#"{"in_contact": true, "version": 9}"#, br#"{"pid": 1}"#] {
        assert!(StatusReply::parse(broken).is_err());
    }
}

/// The socket of another instance between bind(2) and listen(2), or before its end.
fn bound(id: &str) -> OwnedFd {
    let name = name(id);
    let address = SocketAddrUnix::new_abstract_name(&name.as_encoded_bytes()[1..]).unwrap();
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&socket, &address).unwrap();
    socket
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_for_another_instance_that_starts_or_exits() {
    let id = format!("starts-{}", std::process::id());
    let other = bound(&id);
    let mut claiming = pin!(claim(&id, Snapshots::channel().0));
    assert!(claiming.as_mut().now_or_never().is_none());
    listen(&other, 1).unwrap();
    assert!(matches!(claiming.await, Err(ClaimError::Taken { .. })));

    let id = format!("exits-{}", std::process::id());
    let other = bound(&id);
    let mut claiming = pin!(claim(&id, Snapshots::channel().0));
    assert!(claiming.as_mut().now_or_never().is_none());
    drop(other);
    assert!(claiming.await.is_ok());

    // It does neither.
    let id = format!("hangs-{}", std::process::id());
    let _other = bound(&id);
    let claimed = claim(&id, Snapshots::channel().0).await;
    assert!(matches!(claimed, Err(ClaimError::Foreign { .. })));
}
