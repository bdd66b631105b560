//! What the service says, and what others say in its name.

use std::time::Duration;

use super::{FEW, MANY, is_told, survives};
use crate::harness::{Endpoint, Play, Response, Server, Taskbeat};

#[test]
fn a_fault_of_the_service() {
    is_told(
        Play::fault(),
        ": InternalServiceError: An internal service error (HTTP 500)",
    );
}

#[test]
fn a_gateways_503() {
    is_told(
        Play::Say(Response::bare(503, "<h1>Service Unavailable")),
        ": Service Unavailable, without a word of the service (HTTP 503)",
    );
}

#[test]
fn a_denial() {
    is_told(
        Play::deny(),
        ": AccessDeniedException: You are not authorized (HTTP 400)",
    );
}

#[test]
fn an_expired_token() {
    is_told(
        Play::error(400, "ExpiredTokenException", "It expired"),
        ": ExpiredTokenException: It expired (HTTP 400)",
    );
}

#[test]
fn an_invalid_request() {
    is_told(
        Play::error(400, "InvalidRequestException", "Invalid"),
        ": InvalidRequestException: Invalid (HTTP 400)",
    );
}

/// Three throttles, which take nearly an interval each; all of them the same to the user.
fn is_throttled(response: &Response, words: &str) {
    let survived = survives(Play::Say(response.clone()), FEW);
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
const BARE: &str = ": Too Many Requests, without a word of the service (HTTP 429)";

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
fn a_retry_after_that_is_no_number() {
    let asks = throttle()
        .header("x-amz-retry-after", "soon")
        .header("Retry-After", "-1");
    is_throttled(&asks, RATE);
    is_throttled(
        &bare_429().header("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"),
        BARE,
    );
}

#[test]
fn what_the_service_asks_for_is_obeyed() {
    // More than it would be without, 600 to 1,200 of 9,000 ms, and less than is the most.
    for (name, value) in [("x-amz-retry-after", "2500"), ("Retry-After", "2")] {
        let asks = Response::error(503, "ServiceUnavailable", "Later").header(name, value);
        let endpoint = Endpoint::play([Play::Say(asks)], Play::Ok);
        let _daemon = Taskbeat::run(&endpoint).set("--interval", "9s").start();
        let requests = endpoint.wait_for(2);
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_secs(2), "{name}: {waited:?}");
    }
}

#[test]
fn what_a_throttle_asks_for_is_obeyed() {
    // At 2 s nobody who is throttled for the fourth time would wait for longer than 390 of 900 parts, 867 ms.
    const ASKED: Duration = Duration::from_secs(1);
    let mut daemons = Vec::new();
    for response in [throttle(), bare_429()] {
        for (name, value) in [("x-amz-retry-after", "1000"), ("Retry-After", "1")] {
            let mut script = vec![Play::Say(response.clone()); 3];
            script.push(Play::Say(response.clone().header(name, value)));
            let endpoint = Endpoint::play(script, Play::Ok);
            let daemon = Taskbeat::run(&endpoint).set("--interval", "2s").start();
            daemons.push((endpoint, daemon, name));
        }
    }
    for (endpoint, _daemon, name) in daemons {
        let requests = endpoint.wait_for(5);
        let waited = requests[4].at - requests[3].at;
        assert!(waited >= ASKED, "{name}: {waited:?}");
    }
}

#[test]
fn redirects_lead_nowhere() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Server::start(|_| Response::acknowledge(true));
        let place = elsewhere.url();
        let portal = Response::new(status, r#"{"terminate":true}"#)
            .header("Location", &format!("{place}/login?token=a-secret"));
        let survived = survives(Play::Say(portal), FEW);
        let line = survived.line();
        let said = format!("not followed to {place}/login (HTTP {status})");
        assert!(line.contains(&said), "{line}");
        assert!(elsewhere.requests().is_empty(), "credentials went there");
    }
}

#[test]
fn the_page_of_a_captive_portal() {
    let page = Response::bare(200, "<html><body>Welcome to our lobby</body></html>");
    is_told(
        Play::Say(page.header("Content-Type", "text/html")),
        ": unusable answer: Error at offset 0: unexpected token '<' (HTTP 200)",
    );
}

/// A success that says neither to terminate nor not to.
fn is_no_answer(body: &str) {
    let own = Response::new(200, body);
    let somebody_elses = Response::bare(200, body);
    for response in [own, somebody_elses] {
        let survived = survives(Play::Say(response), MANY);
        let line = survived.line();
        assert!(line.contains(": unusable answer: "), "{line}");
        assert!(!line.contains("interceptor"), "{line}");
    }
}

#[test]
fn an_empty_body() {
    is_no_answer("");
}

#[test]
fn an_empty_object() {
    is_no_answer("{}");
}

#[test]
fn null() {
    is_no_answer("null");
}

#[test]
fn a_terminate_that_is_null() {
    is_no_answer(r#"{"terminate":null}"#);
}

#[test]
fn a_terminate_that_is_text() {
    is_no_answer(r#"{"terminate":"true"}"#);
}

#[test]
fn a_terminate_in_an_array() {
    is_no_answer(r#"[{"terminate":true}]"#);
}

#[test]
fn json_that_breaks_off() {
    is_no_answer(r#"{"terminate":true"#);
}

#[test]
fn an_answer_without_a_request_id() {
    for terminate in [true, false] {
        let body = format!(r#"{{"terminate":{terminate}}}"#);
        is_told(
            Play::Say(Response::bare(200, &body)),
            ": unusable answer: the answer has no request id, so it is not the service's own (HTTP 200)",
        );
    }
}

#[test]
fn unknown_members_of_an_answer_do_no_harm() {
    let endpoint = Endpoint::play([], Play::body(r#"{"terminate":true,"new":{"a":[1]}}"#));
    assert_eq!(Taskbeat::run(&endpoint).finish().status, 0);
}

#[test]
fn faults_that_take_turns_are_not_loud_at_each_turn() {
    let turns = [Play::fault(), Play::deny()];
    let script: Vec<_> = turns.iter().cycle().take(12).cloned().collect();
    let endpoint = Endpoint::play(script, Play::Hang);
    // In an interval that is longer than all of it each may be loud once. In turns they wait the first wait of their
    // classes, a sixth to a third of a second.
    let daemon = Taskbeat::run(&endpoint)
        .flag("-v")
        .set("--interval", "5m")
        .start();
    daemon.wait_for_lines("DEBUG heartbeat failed again", 10);
    endpoint.wait_for(13);
    let log = daemon.log();
    assert_eq!(log.matches("WARN heartbeat failed").count(), 2, "{log}");
}

#[test]
fn a_fleet_over_the_accounts_limit_is_told_of_it_once() {
    let endpoint = Endpoint::play([], Play::throttle());
    let program = Taskbeat::run(&endpoint).set("--interval", "100ms");
    let id = program.id();
    let daemon = program.start();
    let line = daemon.wait_for_log("over its limit");
    assert!(
        line.contains("WARN") && line.contains("1 heartbeat per second"),
        "{line}"
    );
    let status = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", &id);
    let text = status.finish().text();
    assert!(
        text.contains("limit         the account is over it"),
        "{text}"
    );
    endpoint.wait_for_more(5);
    endpoint.now_play(Play::Ok);
    daemon.wait_for_log("within its limit again");
    let log = daemon.log();
    assert_eq!(log.matches("over its limit").count(), 1, "{log}");
}
