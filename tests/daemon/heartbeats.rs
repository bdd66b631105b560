//! The heartbeat, its schedule, and `terminate`.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Endpoint, Step, Taskbeat, children, runner, text};

#[test]
fn a_heartbeat_is_a_request_of_api_version_2012_10_29() {
    let endpoint = Endpoint::play([], Step::Terminate);
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
fn an_unset_worker_group_is_left_out() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let daemon = Taskbeat::run(&endpoint);
    let id = daemon.id();
    assert_eq!(daemon.finish().status, 0);
    let expected = json!({ "taskrunnerId": id, "hostname": "runner.example" });
    assert_eq!(endpoint.requests()[0].body, expected);
}

#[test]
fn the_hostname_defaults_to_the_systems() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let daemon = Taskbeat::run(&endpoint).without("TASKBEAT_HOSTNAME");
    assert_eq!(daemon.finish().status, 0);
    let system = rustix::system::uname();
    let hostname = system.nodename().to_str().unwrap();
    assert_eq!(endpoint.requests()[0].body["hostname"], hostname);
}

#[test]
fn text_beyond_ascii_is_sent_unchanged() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let daemon = Taskbeat::run(&endpoint);
    let name = format!("Läufer \"{}\" \\ 走る 🏃", daemon.id());
    let daemon = daemon.set("--taskrunner-id", &name);
    assert_eq!(daemon.finish().status, 0);
    assert_eq!(endpoint.requests()[0].body["taskrunnerId"], name);
}

#[test]
fn a_heartbeat_is_signed_for_the_region_and_the_service() {
    let endpoint = Endpoint::play([], Step::Terminate);
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
    let endpoint = Endpoint::play([], Step::Terminate);
    let daemon = Taskbeat::run(&endpoint).env("AWS_SESSION_TOKEN", "a-session-token");
    assert_eq!(daemon.finish().status, 0);
    let request = &endpoint.requests()[0];
    assert_eq!(request.header("x-amz-security-token"), "a-session-token");
    let authorization = request.header("authorization");
    assert!(authorization.contains("x-amz-security-token"), "{authorization}");
}

#[test]
fn heartbeats_follow_each_other_at_the_interval() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--interval", "300ms").start();
    let requests = endpoint.wait_for(6);
    // The first heartbeat is late, because it builds the client. Four intervals follow the second.
    // It may be late, too, on a busy machine, but not by half of them.
    let spread = requests[5].at - requests[1].at;
    assert!(spread > Duration::from_millis(600), "{spread:?}");
    // Each is a call of its own, not a retry of the SDK.
    let ids = requests.iter().map(|request| request.header("amz-sdk-invocation-id"));
    let ids: BTreeSet<&str> = ids.collect();
    assert_eq!(ids.len(), requests.len(), "{ids:?}");
    drop(daemon);
}

#[test]
fn jitter_only_shortens_the_interval() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--jitter", "50%").start();
    endpoint.wait_for(6);
    endpoint.switch_to(Step::Terminate);
    let log = daemon.finish().stderr;
    // Shown as `next in 284ms request_id=…`.
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
fn the_runner_starts_before_the_first_heartbeat() {
    let endpoint = Endpoint::play([], Step::Hang);
    let daemon = Taskbeat::run(&endpoint).script(runner::PLAIN).start();
    endpoint.wait_for(1);
    assert_eq!(children(daemon.pid()).len(), 1);
    // Nor does the runner wait for the response.
    daemon.wait_for_pid("ready");
}

/// After these steps, `terminate` stops the runner: exit status 0, and no heartbeat follows.
fn terminates_after(steps: &[Step]) {
    let endpoint = Endpoint::play(steps.to_vec(), Step::Ok);
    // The runner takes some intervals to stop, so that further heartbeats would be seen.
    let script = "trap 'echo stopped; sleep 0.3; exit 42' TERM; nap ready & wait; exit 99";
    let daemon = Taskbeat::run(&endpoint).set("--interval", "60ms").script(script).start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(steps.len());
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log(text::TERMINATE);
    let sent = endpoint.requests().len();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains("stopped\n"), "{finished:?}");
    let requests = endpoint.requests().len();
    assert_eq!(requests, sent, "a heartbeat after terminate");
}

#[test]
fn terminate_is_obeyed_on_the_first_heartbeat() {
    let endpoint = Endpoint::play([], Step::Terminate);
    // The response may come before a runner has set its traps, so this one has none.
    let finished = Taskbeat::run(&endpoint).script(runner::PLAIN).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn terminate_is_obeyed_on_a_later_heartbeat() {
    terminates_after(&[Step::Ok, Step::Ok, Step::Ok]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_throttle() {
    terminates_after(&[Step::throttle()]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_fault_of_the_service() {
    terminates_after(&[Step::fault(), Step::fault(), Step::fault()]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_reset() {
    terminates_after(&[Step::ResetBefore, Step::ResetWithin]);
}

#[test]
fn terminate_is_obeyed_on_the_retry_after_a_timeout() {
    terminates_after(&[Step::Hang]);
}

#[test]
fn terminate_without_a_runner_ends_the_heartbeats() {
    let endpoint = Endpoint::play([Step::Ok, Step::throttle()], Step::Terminate);
    let finished = Taskbeat::run(&endpoint).set("--interval", "60ms").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(endpoint.requests().len(), 3);
}

#[test]
fn terminate_during_an_operators_stop_makes_the_status_0() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint).with_stdin().script(runner::DRAINING).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_output("draining");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log(text::TERMINATE);
    let sent = endpoint.requests().len();
    daemon.write_stdin(b"go\n");
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains("drained"), "{finished:?}");
    assert_eq!(endpoint.requests().len(), sent);
}
