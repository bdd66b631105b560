//! Rehearsals: the real daemon and runner, with the built-in endpoint as the service.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, ExternalRunner, Taskbeat, Terminal, let_pass, runner, text};

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

/// A rehearsal of the random script of a seed.
fn rehearse_seed(seed: &str) -> Taskbeat {
    Taskbeat::new("rehearse").env("TASKBEAT_INTERVAL", "100ms").set("--seed", seed)
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
    for (line, words) in [
        (1, ["endpoint", "http://127.0.0.1:", " plays ok*2,throttle,error,"]),
        (1, ["runner", "sh[", "started"]),
        (1, ["1  ok", r#"; sent {"taskrunnerId":"rehearsal","#, r#""hostname":"runner.example"}"#]),
        (3, ["heartbeat", " ok ", "acknowledged in "]),
        (1, ["3  throttle", "throttled in ", "ms: ThrottlingException: Rate exceeded"]),
        (1, ["4  error", "transient in ", "ms: InternalServiceError: "]),
        (1, ["5  reject", "rejected in ", "ms: AccessDeniedException: "]),
        (1, ["6  html", "transient in ", "HTTP 200"]),
        (1, ["7  reset", "transient in ", "next in"]),
        (1, ["8  hang", "transient in ", "timed out after 1s"]),
        (1, ["10 terminate", "acknowledged in ", ""]),
        (1, ["stop", "+0ms", "SIGTERM to sh["]),
        (1, ["runner", "ms  ", "leader exited, status 42"]),
        (1, ["runner", "ms  ", "no process left"]),
        (1, ["passed: 10 of 10 steps, ", "the runner stopped within ", "exit status 0"]),
    ] {
        assert_eq!(
            count(&report, &[&["taskbeat | "][..], &words].concat()),
            line,
            "{words:?}: {report}"
        );
    }
    // The runner's own output goes on unchanged, and the log has only errors.
    assert!(report.contains("\nstopped\n"), "{report}");
    assert_eq!(finished.stderr, "");
}

#[test]
fn only_a_terminal_shows_colours() {
    for (variable, value, coloured) in
        [("TERM", "xterm", true), ("TERM", "dumb", false), ("NO_COLOR", "1", false)]
    {
        let mut terminal = Terminal::open();
        let program = rehearse("ok,terminate").env(variable, value).command(&["sleep", "120"]);
        let mut rehearsal = terminal.alone(program);
        let verdict = terminal.wait_for("passed: 2 of 2 steps");
        assert_eq!(rehearsal.wait(), 0);
        assert_eq!(verdict.contains("\u{1b}["), coloured, "{variable}={value}: {verdict:?}");
        assert_eq!(terminal.text().contains("\u{1b}["), coloured, "{}", terminal.text());
    }
    let finished =
        rehearse("ok,terminate").env("TERM", "xterm").command(&["sleep", "120"]).finish();
    assert!(!finished.text().contains('\u{1b}'), "{finished:?}");
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
    assert_eq!(count(&report, &["stop ", "requested"]), 1, "{report}");
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
    assert_eq!(count(&report, &["ms  ", &killed]), 1, "{report}");
    let verdict = ["FAILED: 7 of 7 steps", "the runner had to be killed"];
    assert_eq!(count(&report, &verdict), 1, "{report}");
}

#[test]
fn the_verdict_says_what_to_change() {
    let group = [("--stop-scope", "group"), ("--stop-signal", "TERM")];
    let leader = [("--stop-scope", "process"), ("--stop-signal", "TERM")];
    let other_signal = [("--stop-scope", "group"), ("--stop-signal", "USR1")];
    // The trap would run after the command in the foreground.
    let trap = "trap 'exit 0' TERM; sh -c 'echo ready; exec sleep 120'";
    for (settings, script, advice) in [
        (group, "trap '' TERM; nap ready", "sleep[] ignored SIGTERM: remove `trap ''` or"),
        (leader, trap, "sh[] did not end within 200ms: a shell runs its trap only when"),
        (leader, trap, "sleep[] received no SIGTERM, which --stop-scope process sends to"),
        (
            other_signal,
            "mkfifo fifo; exec dd <>fifo",
            "dd[] did not end within 200ms: let it end sooner, or raise --grace",
        ),
    ] {
        let rehearsal = slow_rehearsal();
        let rehearsal = settings.iter().fold(rehearsal, |it, (flag, value)| it.set(flag, *value));
        let finished = rehearsal.script(script).finish();
        assert_eq!(finished.status, 1, "{finished:?}");
        let report = without_ids(&finished.text());
        assert_eq!(count(&report, &[advice]), 1, "{advice}: {report}");
    }
}

#[test]
fn ctrl_c_and_a_second_stop_blame_no_process() {
    for (grace, second_stop, advice) in [("200ms", false, 1), ("1h", true, 0)] {
        let mut terminal = Terminal::open();
        let program = rehearse("ok*9").set("--interval", "15m").set("--grace", grace);
        let mut rehearsal = terminal.alone(program.script("trap '' INT TERM; nap ready"));
        terminal.wait_for("ready ");
        terminal.press("\u{3}");
        terminal.wait_for("stop       requested");
        if second_stop {
            // Stops within a second are the same.
            let_pass(Duration::from_millis(1100));
            terminal.press("\u{3}");
        }
        terminal.wait_for("  a stop ended the rehearsal");
        assert_eq!(rehearsal.wait(), 1);
        let shown = terminal.text();
        assert_eq!(count(&shown, &["the runner had to be killed"]), 1, "{shown}");
        assert_eq!(count(&shown, &["sleep[", "did not end within"]), advice, "{shown}");
        assert_eq!(count(&shown, &["received no"]), 0, "{shown}");
    }
}

/// The text with `sleep[]` in place of `sleep[4711]`.
fn without_ids(text: &str) -> String {
    let mut parts = text.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    let digits = |part: &str| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    parts.fold(first, |text, part| format!("{text}[{}", digits(part)))
}

#[test]
fn heartbeats_of_an_unhealthy_runner_are_withheld_and_named() {
    let check = "test -e healthy || { echo HTTP 503; exit 22; }";
    let finished = rehearse("ok,terminate")
        .set("--health-check", check)
        .script("touch healthy; nap ready")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    // On a slow machine a check may run into its limit.
    let never = rehearse("ok,terminate").set("--interval", "40ms").set("--health-check", check);
    let finished = never.script(runner::PLAIN).finish();
    assert_eq!(finished.status, 1, "{finished:?}");
    let report = finished.text();
    let line = "health     heartbeats are withheld: health-check exited with status 22: HTTP 503";
    assert!(count(&report, &[line]) > 0, "{report}");
    assert_eq!(count(&report, &["heartbeats were withheld, see `health` above"]), 1, "{report}");
    assert_eq!(count(&report, &["FAILED: 0 of 2 steps, "]), 1, "{report}");
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
        assert_eq!(count(&report, &["the runner exited by itself: "]), 1, "{report}");
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
    let pid = runner.pid();
    let first = format!("sleep[{pid}] attached; `terminate` really stops it");
    assert_eq!(count(&report, &[&first]), 1, "{report}");
    assert_eq!(count(&report, &["ms  leader exited"]), 1, "{report}");
    assert_eq!(count(&report, &["exited, status"]), 0, "{report}");
}

#[test]
fn a_rehearsal_follows_a_pid_file_and_ends_with_terminate() {
    let mut runner = ExternalRunner::plain();
    // A setting of production that would keep the rehearsal up.
    let rehearsal = rehearse("ok,terminate").set("--after-terminate", "idle");
    let file = rehearsal.home().join("pid");
    let rehearsal = rehearsal.set("--pid-file", &file).start();
    rehearsal.wait_for_output("waiting for the pid file");
    let pid = runner.pid();
    fs::write(&file, pid.to_string()).unwrap();
    let finished = rehearsal.finish();
    assert_eq!(runner.wait_for_end(), Some(Signal::TERM.as_raw()));
    assert_eq!(finished.status, 0, "{finished:?}");
    let report = finished.text();
    let first = format!("sleep[{pid}] attached; `terminate` really stops it");
    assert_eq!(count(&report, &[&first]), 1, "{report}");
}

#[test]
fn a_stop_while_a_rehearsal_waits_for_its_runner() {
    let rehearsal = rehearse("ok,terminate").set("--pid-file", "/nonexistent").start();
    rehearsal.wait_for_output("waiting for the pid file");
    rehearsal.signal(Signal::TERM);
    let finished = rehearsal.finish();
    assert_eq!(finished.status, 1, "{finished:?}");
    let report = finished.text();
    assert_eq!(count(&report, &["a stop ended the rehearsal"]), 1, "{report}");
    assert_eq!(count(&report, &["exited by itself"]), 0, "{report}");
}

#[test]
fn contact_is_lost_in_an_outage_and_regained() {
    let finished = rehearse("ok,hang*3,ok,terminate").command(&["sleep", "120"]).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let report = finished.text();
    let lost = "contact    lost: no acknowledged heartbeat for two intervals";
    assert_eq!(count(&report, &[lost]), 1, "{report}");
    assert_eq!(count(&report, &["contact    regained after "]), 1, "{report}");
}

#[test]
fn an_endpoint_that_other_hosts_can_reach_is_called_open() {
    for (listen, open) in [("0.0.0.0:0", 1), ("127.0.0.1:0", 0)] {
        let finished = rehearse("ok").set("--listen", listen).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert_eq!(count(&finished.text(), &["; any host can use it"]), open, "{finished:?}");
    }
}

#[test]
fn a_seed_replays_a_script() {
    for _ in 0..2 {
        let finished = rehearse_seed("42").command(&["sleep", "120"]).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let report = finished.text();
        assert_eq!(count(&report, &[" plays ", ",terminate (--seed 42)"]), 1, "{report}");
    }
}

#[test]
fn with_json_stdout_has_the_report_alone() {
    let script = "echo out; echo err >&2; nap ready";
    let rehearsal = rehearse("ok,throttle,terminate").flag("--json").script(script);
    let finished = rehearsal.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let report: Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!(report["passed"], true);
    assert_eq!((&report["played"], &report["steps"]), (&json!(3), &json!(3)));
    let events = report["timeline"].as_array().unwrap().iter();
    let results: Vec<_> = events.filter_map(|entry| entry["result"].as_str()).collect();
    assert_eq!(results, ["acknowledged", "throttled", "terminate"]);
    for line in ["\nout\n", "\nerr\n", "\nready ", "taskbeat | passed: 3 of 3 steps"] {
        let all = format!("\n{}", finished.stderr);
        assert_eq!(all.matches(line).count(), 1, "{line}: {all}");
    }
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
        .set("--log", "info")
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
    let report = finished.text();
    let verdict = "FAILED: 1 of 4 steps, the runner stopped within ";
    assert_eq!(count(&report, &[verdict]), 1, "{report}");
    assert_eq!(count(&report, &["a stop ended the rehearsal"]), 1, "{report}");
}
