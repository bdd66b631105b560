//! Whatever the service or the network does, only terminate stops the runner: the rest is retried.

use std::fs;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use rustix::process::Signal;

use crate::harness::{Endpoint, Play, Request, Response, Taskbeat, is_alive, runner};

/// `fault` is loud in the log and retried, the runner runs on; terminate ends it as ever.
fn is_retried(fault: Play) {
    let endpoint = Endpoint::play([fault], Play::Ok);
    let daemon = Taskbeat::run(&endpoint).script(runner::OBEDIENT).start();
    let pid = daemon.wait_for_pid("ready");
    daemon.wait_for_log("WARN heartbeat failed");
    daemon.wait_for_log("the service answers again");
    endpoint.wait_for(3);
    assert!(is_alive(pid));
    assert!(!daemon.output().contains("stopped"));
    endpoint.now_play(Play::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().ends_with("stopped\n"), "{finished:?}");
}

#[test]
fn a_throttle_is_retried() {
    is_retried(Play::throttle());
}

#[test]
fn a_throttle_that_asks_for_distance_is_retried() {
    // More than the daemon is ready to wait: 200 of 300 ms.
    let throttle = Response::error(400, "ThrottlingException", "Rate exceeded");
    is_retried(Play::Say(throttle.header("x-amz-retry-after", "3600000")));
}

#[test]
fn a_bare_429_is_retried() {
    is_retried(Play::Say(
        Response::bare(429, "").header("Retry-After", "3600"),
    ));
}

#[test]
fn a_fault_of_the_service_is_retried() {
    is_retried(Play::fault());
}

#[test]
fn a_gateways_503_is_retried() {
    is_retried(Play::Say(Response::bare(503, "<h1>Service Unavailable")));
}

#[test]
fn a_denial_is_retried() {
    is_retried(Play::deny());
}

#[test]
fn an_expired_token_is_retried() {
    is_retried(Play::error(400, "ExpiredTokenException", "It expired"));
}

#[test]
fn an_invalid_request_is_retried() {
    is_retried(Play::error(400, "InvalidRequestException", "Invalid"));
}

#[test]
fn a_service_that_does_not_answer_is_retried() {
    is_retried(Play::Hang);
}

#[test]
fn a_reset_is_retried() {
    is_retried(Play::ResetBefore);
}

#[test]
fn a_reset_in_the_middle_of_the_answer_is_retried() {
    is_retried(Play::ResetWithin);
}

#[test]
fn a_captive_portal_is_no_acknowledgement() {
    let page = Response::bare(200, "<html><body>Welcome to our lobby</body></html>");
    is_retried(Play::Say(page.header("Content-Type", "text/html")));
}

#[test]
fn a_redirect_is_no_acknowledgement() {
    let portal = Response::bare(302, "").header("Location", "http://portal.invalid/login");
    is_retried(Play::Say(portal));
}

#[test]
fn an_empty_body_is_no_acknowledgement() {
    is_retried(Play::body(""));
}

#[test]
fn an_empty_object_is_no_acknowledgement() {
    is_retried(Play::body("{}"));
}

#[test]
fn null_is_no_acknowledgement() {
    is_retried(Play::body("null"));
}

#[test]
fn a_terminate_that_is_null_is_no_answer() {
    is_retried(Play::body(r#"{"terminate":null}"#));
}

#[test]
fn a_terminate_that_is_text_is_no_terminate() {
    is_retried(Play::body(r#"{"terminate":"true"}"#));
}

#[test]
fn an_array_is_no_acknowledgement() {
    is_retried(Play::body(r#"[{"terminate":true}]"#));
}

#[test]
fn json_that_breaks_off_is_no_terminate() {
    is_retried(Play::body(r#"{"terminate":true"#));
}

#[test]
fn an_answer_without_a_request_id_is_no_acknowledgement() {
    is_retried(Play::Say(Response::bare(200, r#"{"terminate":false}"#)));
}

#[test]
fn a_terminate_without_a_request_id_is_no_terminate() {
    is_retried(Play::Say(Response::bare(200, r#"{"terminate":true}"#)));
}

#[test]
fn a_body_without_an_end_in_sight_is_no_answer() {
    let padding = "x".repeat(1024 * 1024);
    let body = format!(r#"{{"terminate":true,"padding":"{padding}"}}"#);
    is_retried(Play::body(&body));
}

#[test]
fn unknown_members_of_an_answer_do_no_harm() {
    let endpoint = Endpoint::play([], Play::body(r#"{"terminate":true,"new":{"a":[1]}}"#));
    assert_eq!(Taskbeat::run(&endpoint).finish().status, 0);
}

#[test]
fn a_connection_that_is_refused_is_retried() {
    let closed = Endpoint::closed();
    let daemon = Taskbeat::new("run")
        .to(&closed.url())
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    daemon.wait_for_log("WARN heartbeat failed");
    let endpoint = closed.open([Play::Ok], Play::Terminate);
    daemon.wait_for_log("the service answers again");
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(endpoint.requests().len(), 2);
}

#[test]
fn an_outage_is_told_once_and_its_end_as_well() {
    let endpoint = Endpoint::play([], Play::deny());
    let daemon = Taskbeat::run(&endpoint).set("--interval", "60ms").start();
    endpoint.wait_for(10);
    endpoint.now_play(Play::Ok);
    daemon.wait_for_log("the service answers again");
    let log = daemon.log();
    assert_eq!(log.matches("heartbeat failed").count(), 1, "{log}");
    assert!(log.contains("AccessDeniedException"), "{log}");
}

#[test]
fn a_clock_that_is_wrong_is_corrected_by_the_second_attempt() {
    for code in ["InvalidSignatureException", "RequestTimeTooSkewed"] {
        let skewed = move |request: &Request| {
            let ahead = DateTime::from_secs(seconds(request) + 3600);
            let date = ahead.fmt(Format::HttpDate).unwrap();
            Response::error(403, code, "Signature expired").header("Date", &date)
        };
        let endpoint = Endpoint::play([Play::judge(skewed)], Play::Ok);
        let _daemon = Taskbeat::run(&endpoint).start();
        let requests = endpoint.wait_for(2);
        let gap = seconds(&requests[1]) - seconds(&requests[0]);
        assert!(gap >= 3590, "{code}: corrected by {gap} s");
    }
}

/// When the request says it was signed.
fn seconds(request: &Request) -> i64 {
    let date = request.header("x-amz-date");
    let [year, month, day] = [&date[..4], &date[4..6], &date[6..8]];
    let [hour, minute, second] = [&date[9..11], &date[11..13], &date[13..15]];
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    DateTime::from_str(&text, Format::DateTime).unwrap().secs()
}

#[test]
fn a_key_that_is_rotated_in_the_profile_is_found() {
    let endpoint = Endpoint::play(
        [],
        Play::judge(|request| {
            if request.header("authorization").contains("AKIDNEW") {
                Response::acknowledge(true)
            } else {
                let message = "The security token included in the request is invalid.";
                Response::error(400, "UnrecognizedClientException", message)
            }
        }),
    );
    let daemon = Taskbeat::run(&endpoint)
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY");
    let credentials = daemon.home().join("credentials");
    let write = |id: &str| {
        let text =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = a-secret\n");
        // At once, as an agent that rotates keys does it.
        let new = credentials.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &credentials).unwrap();
    };
    write("AKIDOLD");
    let daemon = daemon
        .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    let requests = endpoint.wait_for(2);
    assert!(requests[0].header("authorization").contains("AKIDOLD"));
    write("AKIDNEW");
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().ends_with("stopped\n"), "{finished:?}");
}

#[test]
fn without_credentials_the_runner_runs_and_the_log_says_so_once() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
        .set("--interval", "60ms")
        .flag("-v")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(line.contains("credentials"), "{line}");
    daemon.wait_for_log("DEBUG heartbeat failed again");
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert_eq!(
        finished.stderr.matches("WARN").count(),
        1,
        "{}",
        finished.stderr
    );
    assert!(endpoint.requests().is_empty());
}

#[test]
fn credentials_that_come_late_are_found() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY");
    let credentials = daemon.home().join("credentials");
    let daemon = daemon
        .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
        .start();
    daemon.wait_for_log("WARN heartbeat failed");
    let text = "[default]\naws_access_key_id = AKIDLATE\naws_secret_access_key = a-secret\n";
    fs::write(&credentials, text).unwrap();
    let request = &endpoint.wait_for(1)[0];
    assert!(request.header("authorization").contains("AKIDLATE"));
}
