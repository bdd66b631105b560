//! Rehearsals: the real daemon and runner, with the built-in endpoint as the service.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, ExternalRunner, Taskbeat, runner, text};

/// A rehearsal of `script`. It needs no identity, no credentials and no region.
fn rehearse(script: &str) -> Taskbeat {
    Taskbeat::new("rehearse")
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
        .without("AWS_REGION")
        .without("TASKBEAT_TASKRUNNER_ID")
        .env("TASKBEAT_INTERVAL", "100ms")
        .set("--script", script)
}

/// The number of lines of the report that contain all of `words`.
fn count(report: &str, words: &[&str]) -> usize {
    let holds = |line: &&str| words.iter().all(|word| line.contains(word));
    report.lines().filter(holds).count()
}

#[test]
fn a_runner_that_stops_within_its_grace_passes() {
    let script = "ok*2,throttle,error,reject,html,reset,hang,ok,terminate";
    // A second passes before `terminate` (the hang), so the runner's trap is set.
    let finished = rehearse(script).script(runner::OBEDIENT).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let report = finished.text();
    assert_eq!(count(&report, &["ok", "acknowledged"]), 3, "{report}");
    for (step, result) in [
        ("throttle", "throttled, retried"),
        ("error", "transient, retried"),
        ("reject", "rejected, retried"),
        ("html", "transient, retried"),
        ("reset", "transient, retried"),
        ("hang", "transient, retried"),
        ("terminate", "acknowledged, terminate"),
    ] {
        assert_eq!(count(&report, &[step, result]), 1, "{step}: {report}");
    }
    assert_eq!(count(&report, &["started, pid"]), 1, "{report}");
    assert_eq!(count(&report, &["+", "stop signal to sh["]), 1, "{report}");
    let ended = ["+", "leader exited, status 42"];
    assert_eq!(count(&report, &ended), 1, "{report}");
    let gone = ["+", "no process left"];
    assert_eq!(count(&report, &gone), 1, "{report}");
    let verdict = "passed: 10 of 10 steps, no process had to be killed";
    assert_eq!(count(&report, &[verdict]), 1, "{report}");
    // The runner's own output is passed on.
    assert_eq!(count(&report, &["stopped"]), 1, "{report}");
}

#[test]
fn the_default_script_ignores_proxies() {
    let finished = Taskbeat::new("rehearse")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .without("NO_PROXY")
        .without("no_proxy")
        .script(runner::PLAIN)
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let verdict = "passed: 6 of 6 steps";
    assert_eq!(count(&finished.text(), &[verdict]), 1, "{finished:?}");
}

#[test]
fn a_rehearsal_needs_no_trust_store() {
    let finished = rehearse("ok,terminate")
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .script(runner::PLAIN)
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
}

#[test]
fn a_rehearsal_ignores_fips_and_dual_stack_settings() {
    for name in ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"] {
        let by_variable = rehearse("ok,terminate").env(name, "true");
        let by_profile = rehearse("ok,terminate");
        let config = by_profile.home().join("config");
        let key = name.trim_start_matches("AWS_").to_lowercase();
        fs::write(&config, format!("[default]\n{key} = true\n")).unwrap();
        let by_profile = by_profile.env("AWS_CONFIG_FILE", config);
        for program in [by_variable, by_profile] {
            let finished = program.script(runner::PLAIN).finish();
            assert_eq!(finished.status, 0, "{name}: {finished:?}");
        }
    }
}

#[test]
fn a_script_without_terminate_ends_with_an_operators_stop() {
    // Without a trap the runner's status does not depend on when the stop signal arrives.
    let finished = rehearse("ok*3").script(runner::PLAIN).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let report = finished.text();
    assert_eq!(count(&report, &[text::STOP]), 1, "{report}");
    assert_eq!(count(&report, &["exit status 143"]), 1, "{report}");
}

/// A rehearsal whose steps before `terminate` take a second, in which the runner sets its traps.
fn slow_rehearsal() -> Taskbeat {
    rehearse("ok*6,terminate").set("--interval", "200ms").set("--grace", "200ms")
}

#[test]
fn a_runner_that_must_be_killed_fails() {
    let finished = slow_rehearsal().script(runner::IGNORES_STOP).finish();
    assert_eq!(finished.status, 1, "{finished:?}");
    let report = finished.text();
    let killed = format!("{}sleep[", text::SIGKILL);
    assert_eq!(count(&report, &["+", &killed]), 1, "{report}");
    let verdict = ["FAILED: 7 of 7 steps", "the runner had to be killed"];
    assert_eq!(count(&report, &verdict), 1, "{report}");
}

#[test]
fn a_runner_whose_leftover_must_be_killed_fails() {
    let script = "trap 'exit 0' TERM; (trap '' TERM; nap leftover) & nap ready & wait";
    let finished = slow_rehearsal().script(script).finish();
    assert_eq!(finished.status, 1, "{finished:?}");
    let report = finished.text();
    let verdict = ["FAILED: 7 of 7 steps", "the runner had to be killed"];
    assert_eq!(count(&report, &verdict), 1, "{report}");
}

#[test]
fn a_runner_that_ends_by_itself_fails() {
    for status in ["0", "1"] {
        let finished = rehearse("ok*2,hang,terminate")
            .command(&["sh", "-c", &format!("exit {status}")])
            .finish();
        assert_eq!(finished.status, 1, "{finished:?}");
        let report = finished.text();
        assert_eq!(count(&report, &["FAILED", "of 4 steps"]), 1, "{report}");
    }
}

#[test]
fn the_report_names_no_status_of_an_attached_runner() {
    let mut runner = ExternalRunner::plain();
    let rehearsal = rehearse("ok*2,terminate").set("--pid", runner.pid().to_string());
    let finished = rehearsal.finish();
    assert_eq!(runner.wait_for_end(), Some(Signal::TERM.as_raw()));
    assert_eq!(finished.status, 0, "{finished:?}");
    let report = finished.text();
    assert_eq!(count(&report, &["+", "  exited"]), 1, "{report}");
    assert_eq!(count(&report, &["exited, status"]), 0, "{report}");
}

#[test]
fn a_runner_that_cannot_be_started_fails() {
    let finished = rehearse("terminate").command(&["/nonexistent/runner"]).finish();
    assert_eq!(finished.status, 1, "{finished:?}");
}

#[test]
fn an_unknown_step_is_refused() {
    let finished = rehearse("ok,applause").script("echo started").finish();
    assert_eq!(finished.status, 64, "{finished:?}");
    assert_eq!(finished.text(), "");
    let error = "`applause` is not a step; allowed are ok, throttle, ";
    assert!(finished.stderr.contains(error), "{finished:?}");
}

/// The URL of the rehearsal's endpoint, which the log shows.
fn url(rehearsal: &Daemon) -> String {
    let line = rehearsal.wait_for_log("endpoint http://");
    let words = line.split_whitespace();
    words.skip_while(|word| *word != "endpoint").nth(1).unwrap().to_owned()
}

#[test]
fn another_client_of_the_endpoint_gets_the_script_from_its_beginning() {
    let rehearsal = rehearse("ok,throttle,reject,terminate")
        .set("--listen", "127.0.0.1:0")
        .set("--interval", "15m")
        .script(runner::OBEDIENT)
        .start();
    rehearsal.wait_for_pid("ready");
    rehearsal.wait_for_log(text::ACKNOWLEDGED);
    let url = url(&rehearsal);
    for (status, response) in [
        (0, Some(json!({ "terminate": false }))),
        (69, None),
        (77, None),
        (10, Some(json!({ "terminate": true }))),
        (10, Some(json!({ "terminate": true }))),
    ] {
        let once =
            Taskbeat::new("once").set("--endpoint-url", &url).set("--taskrunner-id", "another");
        let finished = once.finish();
        assert_eq!(finished.status, status, "{finished:?}");
        let printed: Option<Value> = serde_json::from_slice(&finished.stdout).ok();
        assert_eq!(printed, response);
    }
    // The rehearsal's own script is still at its first step.
    rehearsal.signal(Signal::TERM);
    let finished = rehearsal.finish();
    assert_eq!(finished.status, 1, "{finished:?}");
    let verdict = "FAILED: 1 of 4 steps, no process had to be killed";
    assert_eq!(count(&finished.text(), &[verdict]), 1, "{finished:?}");
}
