//! Responses of the service, and of others in its place.

use std::time::Duration;

use super::{FEW, MANY, logs, survives};
use crate::harness::{Endpoint, Response, Server, Step, Taskbeat};

#[test]
fn a_fault_of_the_service() {
    logs(Step::fault(), ": InternalServiceError: An internal service error (HTTP 500)");
}

#[test]
fn a_503_of_a_gateway() {
    logs(
        Step::Respond(Response::bare(503, "<h1>Service Unavailable")),
        ": HTTP 503 Service Unavailable, not from Data Pipeline",
    );
}

#[test]
fn a_denial() {
    logs(Step::deny(), ": AccessDeniedException: You are not authorized (HTTP 400)");
}

#[test]
fn an_expired_token() {
    logs(
        Step::error(400, "ExpiredTokenException", "It expired"),
        ": ExpiredTokenException: It expired (HTTP 400)",
    );
}

#[test]
fn an_invalid_request() {
    logs(
        Step::error(400, "InvalidRequestException", "Invalid"),
        ": InvalidRequestException: Invalid (HTTP 400)",
    );
}

/// `once` tells classes of failures apart by its exit status.
#[test]
fn the_class_of_a_status() {
    for (status, exit) in [(401, 77), (403, 77), (408, 69), (429, 69), (500, 69), (503, 69)] {
        let endpoint = Endpoint::play([], Step::Respond(Response::bare(status, "")));
        let finished = Taskbeat::new("once").to(&endpoint.url()).finish();
        assert_eq!(finished.status, exit, "{status}: {finished:?}");
    }
}

/// Three throttles take nearly an interval each, and all of them look the same.
fn is_throttled(response: &Response, words: &str) {
    let survived = survives(Step::Respond(response.clone()), FEW);
    assert!(survived.line().contains(words), "{}", survived.line());
    // At 300 ms, 100 of 900 s are 33 ms, and 810 are 270.
    let [first, second] = [0, 1].map(|at| survived.requests[at + 1].at - survived.requests[at].at);
    assert!(first >= Duration::from_millis(33), "{first:?}");
    assert!(second >= Duration::from_millis(270), "{second:?}");
}

fn throttle() -> Response {
    Response::error(400, "ThrottlingException", "Rate exceeded")
}

fn bare_429() -> Response {
    Response::bare(429, "slow down")
}

const RATE: &str = ": ThrottlingException: Rate exceeded (HTTP 400)";
const BARE: &str = ": HTTP 429 Too Many Requests, not from Data Pipeline";

#[test]
fn a_throttle() {
    is_throttled(&throttle(), RATE);
}

#[test]
fn a_bare_429() {
    is_throttled(&bare_429(), BARE);
}

#[test]
fn a_throttle_that_asks_for_more_than_an_interval() {
    is_throttled(&throttle().header("x-amz-retry-after", "3600000"), RATE);
}

#[test]
fn a_429_that_asks_for_more_than_an_interval() {
    is_throttled(&bare_429().header("Retry-After", "3600"), BARE);
}

#[test]
fn a_retry_after_that_is_not_a_number() {
    let asks = throttle().header("x-amz-retry-after", "soon").header("Retry-After", "-1");
    is_throttled(&asks, RATE);
    is_throttled(&bare_429().header("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"), BARE);
}

const RETRY_AFTER: [(&str, &str); 2] = [("x-amz-retry-after", "2500"), ("Retry-After", "2")];

#[test]
fn retry_after_of_the_service_is_obeyed() {
    // More than the first backoff, 600 to 1,200 of 9,000 ms, and less than the maximum.
    for (name, value) in RETRY_AFTER {
        let asks = Response::error(503, "ServiceUnavailable", "Later").header(name, value);
        let endpoint = Endpoint::play([Step::Respond(asks)], Step::Ok);
        let _daemon = Taskbeat::run(&endpoint).set("--interval", "9s").start();
        let requests = endpoint.wait_for(2);
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_secs(2), "{name}: {waited:?}");
    }
}

#[test]
fn retry_after_without_a_request_id_is_ignored() {
    for (name, value) in RETRY_AFTER {
        for id in [None, Some("")] {
            let mut page = Response::bare(503, "<h1>Maintenance").header(name, value);
            if let Some(id) = id {
                page = page.header("x-amzn-RequestId", id);
            }
            let endpoint = Endpoint::play([Step::Respond(page)], Step::Ok);
            let _daemon = Taskbeat::run(&endpoint).set("--interval", "9s").start();
            let requests = endpoint.wait_for(2);
            let waited = requests[1].at - requests[0].at;
            assert!(waited < Duration::from_secs(2), "{name}, {id:?}: {waited:?}");
        }
    }
}

#[test]
fn retry_after_of_a_throttle_is_obeyed() {
    // At 2 s the fourth throttle waits at most 390 of 900 parts by itself, 867 ms.
    const ASKED: Duration = Duration::from_secs(1);
    let mut daemons = Vec::new();
    for (name, value) in [("x-amz-retry-after", "1000"), ("Retry-After", "1")] {
        let mut script = vec![Step::Respond(throttle()); 3];
        script.push(Step::Respond(throttle().header(name, value)));
        let endpoint = Endpoint::play(script, Step::Ok);
        let daemon = Taskbeat::run(&endpoint).set("--interval", "2s").start();
        daemons.push((endpoint, daemon, name));
    }
    for (endpoint, _daemon, name) in daemons {
        let requests = endpoint.wait_for(5);
        let waited = requests[4].at - requests[3].at;
        assert!(waited >= ASKED, "{name}: {waited:?}");
    }
}

#[test]
fn redirects_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Server::start(|_| Response::acknowledge(true));
        let place = elsewhere.url();
        let address = place.strip_prefix("http://").unwrap();
        let portal = Response::new(status, r#"{"terminate":true}"#)
            .header("Location", &format!("http://a-user:a-secret@{address}/login?token=a-secret"));
        let survived = survives(Step::Respond(portal), FEW);
        let line = survived.line();
        let words = format!(", redirect to http://***@{address}/login?*** not followed");
        assert!(line.contains(&words), "{line}");
        assert!(line.contains(&format!(": HTTP {status} ")), "{line}");
        assert!(elsewhere.requests().is_empty(), "credentials went there");
    }
}

#[test]
fn the_page_of_a_captive_portal() {
    let page = Response::bare(200, "<html><body>Welcome to our lobby</body></html>");
    logs(
        Step::Respond(page.header("Content-Type", "text/html")),
        ": unusable answer: Error at offset 0: unexpected token '<' (HTTP 200)",
    );
}

/// A success with this body is no acknowledgement.
fn is_unusable(body: &str) {
    for response in [Response::new(200, body), Response::bare(200, body)] {
        let survived = survives(Step::Respond(response), MANY);
        let line = survived.line();
        assert!(line.contains(": unusable answer: "), "{line}");
        assert!(!line.contains("interceptor"), "{line}");
    }
}

#[test]
fn an_empty_body() {
    is_unusable("");
}

#[test]
fn an_empty_object() {
    is_unusable("{}");
}

#[test]
fn null() {
    is_unusable("null");
}

#[test]
fn a_terminate_that_is_null() {
    is_unusable(r#"{"terminate":null}"#);
}

#[test]
fn a_terminate_that_is_text() {
    is_unusable(r#"{"terminate":"true"}"#);
}

#[test]
fn a_terminate_in_an_array() {
    is_unusable(r#"[{"terminate":true}]"#);
}

#[test]
fn json_that_breaks_off() {
    is_unusable(r#"{"terminate":true"#);
}

#[test]
fn an_answer_without_a_request_id() {
    for terminate in [true, false] {
        let body = format!(r#"{{"terminate":{terminate}}}"#);
        for response in
            [Response::bare(200, &body), Response::bare(200, &body).header("x-amzn-RequestId", "")]
        {
            let words = ": unusable answer: no request id, so it does not come from Data Pipeline \
                         (HTTP 200)";
            logs(Step::Respond(response), words);
        }
    }
}

#[test]
fn a_success_other_than_200_is_no_acknowledgement() {
    for status in [201, 202, 203, 205, 206, 226, 299] {
        for terminate in [true, false] {
            let body = format!(r#"{{"terminate":{terminate}}}"#);
            let endpoint = Endpoint::play([], Step::Respond(Response::new(status, &body)));
            let finished = Taskbeat::new("once").to(&endpoint.url()).finish();
            assert_eq!(finished.status, 69, "{status}: {finished:?}");
            let words =
                format!("unusable answer: only HTTP 200 acknowledges a heartbeat (HTTP {status})");
            assert!(finished.stderr.contains(&words), "{finished:?}");
        }
    }
}

#[test]
fn unknown_members_of_an_answer_are_ignored() {
    let endpoint = Endpoint::play([], Step::body(r#"{"terminate":true,"new":{"a":[1]}}"#));
    assert_eq!(Taskbeat::run(&endpoint).finish().status, 0);
}

#[test]
fn failures_that_alternate_are_logged_at_warn_once_each() {
    let turns = [Step::fault(), Step::deny()];
    let script: Vec<_> = turns.iter().cycle().take(12).cloned().collect();
    let endpoint = Endpoint::play(script, Step::Hang);
    // All of it happens within one interval. Failures that alternate wait for the first backoff of
    // their classes, a sixth to a third of a second.
    let daemon = Taskbeat::run(&endpoint).flag("-v").set("--interval", "5m").start();
    daemon.wait_for_lines("DEBUG heartbeat failed again", 10);
    endpoint.wait_for(13);
    let log = daemon.log();
    assert_eq!(log.matches("WARN heartbeat failed").count(), 2, "{log}");
}

#[test]
fn an_account_over_its_limit_is_logged_once() {
    let endpoint = Endpoint::play([], Step::throttle());
    let program = Taskbeat::run(&endpoint).set("--interval", "100ms");
    let id = program.id();
    let daemon = program.start();
    let line = daemon.wait_for_log("over its limit");
    assert!(line.contains("WARN") && line.contains("1 heartbeat per second"), "{line}");
    let status = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", &id);
    let text = status.finish().text();
    assert!(text.contains("limit         the AWS account is over 1"), "{text}");
    endpoint.wait_for_more(5);
    endpoint.switch_to(Step::Ok);
    daemon.wait_for_log("within its limit again");
    let log = daemon.log();
    assert_eq!(log.matches("over its limit").count(), 1, "{log}");
}
