//! Report the heartbeat, and stop the runner when the service says so.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Daemon, Endpoint, Play, Taskbeat, runner};

#[test]
fn a_heartbeat_is_a_request_of_the_api() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let daemon = Taskbeat::run(&endpoint).set("--worker-group", "wg-1");
    let id = daemon.id();
    assert_eq!(daemon.finish().status, 0);
    let request = &endpoint.requests()[0];
    assert_eq!(request.line, "POST / HTTP/1.1");
    let target = "DataPipeline.ReportTaskRunnerHeartbeat";
    assert_eq!(request.header("x-amz-target"), target);
    let json = "application/x-amz-json-1.1";
    assert_eq!(request.header("content-type"), json);
    let expected = json!({
        "taskrunnerId": id, "workerGroup": "wg-1", "hostname": "runner.example"
    });
    assert_eq!(request.body, expected);
}

#[test]
fn a_worker_group_that_is_not_set_is_left_out() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let daemon = Taskbeat::run(&endpoint);
    let id = daemon.id();
    assert_eq!(daemon.finish().status, 0);
    let expected = json!({ "taskrunnerId": id, "hostname": "runner.example" });
    assert_eq!(endpoint.requests()[0].body, expected);
}

#[test]
fn the_hostname_is_the_systems_unless_it_is_set() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let daemon = Taskbeat::run(&endpoint).without("TASKBEAT_HOSTNAME");
    assert_eq!(daemon.finish().status, 0);
    let system = rustix::system::uname();
    let hostname = system.nodename().to_str().unwrap();
    assert_eq!(endpoint.requests()[0].body["hostname"], hostname);
}

#[test]
fn text_beyond_ascii_arrives_as_it_was_given() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let daemon = Taskbeat::run(&endpoint);
    let name = format!("Läufer \"{}\" \\ 走る 🏃", daemon.id());
    let daemon = daemon.set("--taskrunner-id", &name);
    assert_eq!(daemon.finish().status, 0);
    assert_eq!(endpoint.requests()[0].body["taskrunnerId"], name);
}

#[test]
fn a_heartbeat_is_signed_for_the_region_and_the_service() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let daemon = Taskbeat::run(&endpoint).set("--region", "ap-southeast-2");
    assert_eq!(daemon.finish().status, 0);
    let request = &endpoint.requests()[0];
    let authorization = request.header("authorization");
    let date = &request.header("x-amz-date")[..8];
    let credential = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{date}/ap-southeast-2/datapipeline/aws4_request,"
    );
    assert!(authorization.starts_with(&credential), "{authorization}");
    for signed in ["host", "x-amz-date", "x-amz-target"] {
        assert!(authorization.contains(signed), "{authorization}");
    }
    assert!(!request.headers.contains_key("x-amz-security-token"));
}

#[test]
fn a_session_token_is_sent_and_signed() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let daemon = Taskbeat::run(&endpoint).env("AWS_SESSION_TOKEN", "a-session-token");
    assert_eq!(daemon.finish().status, 0);
    let request = &endpoint.requests()[0];
    assert_eq!(request.header("x-amz-security-token"), "a-session-token");
    let authorization = request.header("authorization");
    assert!(
        authorization.contains("x-amz-security-token"),
        "{authorization}"
    );
}

#[test]
fn heartbeats_come_one_after_the_other_at_the_interval() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--interval", "300ms").start();
    let requests = endpoint.wait_for(6);
    // The first one brings up the client on its way and so arrives late.
    let (second, sixth) = (requests[1].at, requests[5].at);
    // Four intervals of 300 ms, of which the second heartbeat may have lost some on its way.
    let spread = sixth - second;
    assert!(spread > Duration::from_millis(900), "{spread:?}");
    let fresh = |name| {
        requests
            .windows(2)
            .all(|two| two[0].header(name) != two[1].header(name))
    };
    assert!(fresh("amz-sdk-invocation-id"));
    drop(daemon);
}

#[test]
fn jitter_only_shortens_the_interval() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--jitter", "50%").start();
    endpoint.wait_for(6);
    endpoint.now_play(Play::Terminate);
    let log = daemon.finish().stderr;
    let waits = log.lines().filter_map(|line| line.split("next in ").nth(1));
    let waits: Vec<Duration> = waits
        .map(|wait| wait.split(" request_id").next().unwrap())
        .map(|wait| humantime::parse_duration(wait).unwrap())
        .collect();
    assert!(waits.len() >= 5, "{log}");
    let interval = Duration::from_millis(300);
    assert!(waits.iter().all(|wait| *wait <= interval), "{log}");
}

#[test]
fn the_runner_runs_before_the_first_heartbeat_goes_out() {
    let endpoint = Endpoint::play([], Play::Hang);
    let daemon = Taskbeat::run(&endpoint).script(runner::PLAIN).start();
    endpoint.wait_for(1);
    daemon.wait_for_pid("ready");
}

/// Terminate comes after these steps: the runner gets its signal, the exit status is 0, and nothing more is sent.
fn terminates_after(steps: &[Play]) {
    let endpoint = Endpoint::play(steps.to_vec(), Play::Ok);
    // A runner that takes some intervals to stop, in which heartbeats would show.
    let script = "trap 'echo stopped; sleep 0.3; exit 42' TERM; nap ready & wait; exit 99";
    let daemon = Taskbeat::run(&endpoint)
        .set("--interval", "60ms")
        .script(script)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(steps.len());
    endpoint.now_play(Play::Terminate);
    terminated(daemon, &endpoint);
}

fn terminated(daemon: Daemon, endpoint: &Endpoint) {
    daemon.wait_for_log("heartbeat acknowledged: terminate");
    let told = endpoint.requests().len();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains("stopped\n"), "{finished:?}");
    assert_eq!(
        endpoint.requests().len(),
        told,
        "a heartbeat after terminate"
    );
}

#[test]
fn terminate_is_obeyed_on_the_first_heartbeat() {
    let endpoint = Endpoint::play([], Play::Terminate);
    // The answer may come before the runner has set its trap, and that may be its end.
    let daemon = Taskbeat::run(&endpoint).script(runner::PLAIN);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn terminate_is_obeyed_on_a_later_heartbeat() {
    terminates_after(&[Play::Ok, Play::Ok, Play::Ok]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_throttle() {
    terminates_after(&[Play::throttle()]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_fault_of_the_service() {
    terminates_after(&[Play::fault(), Play::fault(), Play::fault()]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_reset() {
    terminates_after(&[Play::ResetBefore, Play::ResetWithin]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_timeout() {
    terminates_after(&[Play::Hang]);
}

#[test]
fn without_a_runner_terminate_ends_the_heartbeats() {
    let endpoint = Endpoint::play([Play::Ok, Play::throttle()], Play::Terminate);
    let finished = Taskbeat::run(&endpoint).set("--interval", "60ms").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(endpoint.requests().len(), 3);
}

#[test]
fn a_terminate_that_comes_while_the_operators_stop_runs_makes_the_status_0() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint)
        .with_stdin()
        .script(runner::DRAINING)
        .start();
    daemon.wait_for_pid("ready");
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for_output("draining");
    endpoint.now_play(Play::Terminate);
    daemon.wait_for_log("heartbeat acknowledged: terminate");
    let told = endpoint.requests().len();
    daemon.say(b"go\n");
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains("drained"), "{finished:?}");
    assert_eq!(endpoint.requests().len(), told);
}
