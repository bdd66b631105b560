//! Health checks, stopped runners, and the command that reports contact.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Endpoint, ExternalRunner, Step, Taskbeat, eventually, is_alive, let_pass, runner, signal, text,
    wait_for_end,
};

const WITHHELD: &str = "the runner is unhealthy, heartbeats are withheld: ";
const HEALTHY: &str = "the runner is healthy again after ";

/// Three intervals of the tests below.
const A_WHILE: Duration = Duration::from_millis(600);

fn checked(endpoint: &Endpoint, command: &str) -> Taskbeat {
    Taskbeat::run(endpoint)
        .set("--interval", "200ms")
        .set("--health-timeout", "100ms")
        .set("--health-check", command)
        .script(runner::PLAIN)
}

#[test]
fn heartbeats_are_sent_only_while_the_check_succeeds() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("healthy");
    let check = "echo starting; printf 'not\\001 yet\\n\\n' >&2; test -e healthy";
    let daemon =
        program.set("--interval", "5s").set("--health-check", check).script(runner::PLAIN).start();
    let line = daemon.wait_for_log(WITHHELD);
    assert!(line.contains("WARN"), "{line}");
    assert!(line.ends_with("health-check exited with status 1: not  yet"), "{line}");
    let_pass(A_WHILE);
    assert!(endpoint.requests().is_empty());
    // The first heartbeat waits for the first success.
    fs::write(&file, "").unwrap();
    daemon.wait_for_log(HEALTHY);
    daemon.wait_for_log(text::ACKNOWLEDGED);
    fs::remove_file(&file).unwrap();
    daemon.wait_for_lines(WITHHELD, 2);
    assert_eq!(endpoint.requests().len(), 1);
    daemon.signal(Signal::TERM);
    daemon.finish();
}

#[test]
fn the_status_tells_why_heartbeats_are_withheld() {
    let endpoint = Endpoint::ok();
    let program = checked(&endpoint, "echo 503; exit 22");
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_log(WITHHELD);
    let status = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", id).finish();
    let health = "\nhealth        unhealthy for 0s, heartbeats withheld: \
        health-check exited with status 22: 503\n";
    assert!(status.text().contains(health), "{status:?}");
    assert_eq!(status.status, 69, "{status:?}");
}

/// It hangs and ignores SIGTERM, it fills a pipe, it leaves children that hold the pipe open.
#[test]
fn no_check_delays_more_than_its_limit() {
    for (command, sent) in [
        ("trap '' TERM; sleep 120 & echo $! >>group; wait", false),
        ("yes | head -c 1000000; sleep 120 & exit 0", true),
        ("setsid sleep 120 & exit 0", true),
        ("kill -KILL $$", false),
        ("/nonexistent/command", false),
    ] {
        let endpoint = Endpoint::ok();
        let program = checked(&endpoint, command);
        let group = program.home().join("group");
        let daemon = program.start();
        if sent {
            // On a slow machine a check may run into its limit.
            endpoint.wait_for(2);
        } else {
            daemon.wait_for_log(WITHHELD);
            let_pass(A_WHILE);
            assert!(endpoint.requests().is_empty(), "{command}");
        }
        if command.contains("group") {
            // Of the first check, because the newest one may still run.
            let pid = || fs::read_to_string(&group).ok()?.lines().next()?.parse().ok();
            eventually("a check starts its group", || pid().is_some());
            let pid = pid().unwrap();
            eventually("the group is killed", || !is_alive(pid));
            assert!(daemon.log().contains("health-check did not end within 100ms"));
        }
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.finish().status, 143, "{command}");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_check_and_kills_it() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint)
        .set("--interval", "15m")
        .set("--health-check", "echo $$ >check; sleep 120");
    let file = program.home().join("check");
    let daemon = program.script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    let pid = || fs::read_to_string(&file).ok()?.trim().parse().ok();
    eventually("the check runs", || pid().is_some());
    let check = pid().unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
    wait_for_end(check);
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_runner_that_is_stopped_by_a_signal_sends_no_heartbeat_until_it_continues() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--interval", "200ms").script(runner::PLAIN).start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.wait_for(1);
    signal(runner, Signal::STOP);
    let line = daemon.wait_for_log(WITHHELD);
    assert!(line.ends_with("the runner is stopped by a signal (state T)"), "{line}");
    let sent = endpoint.requests().len();
    let_pass(A_WHILE);
    assert_eq!(endpoint.requests().len(), sent);
    signal(runner, Signal::CONT);
    daemon.wait_for_log(HEALTHY);
    endpoint.wait_for(sent + 1);
    daemon.signal(Signal::TERM);
    daemon.finish();
}

#[test]
fn a_check_that_succeeds_does_not_hide_that_the_runner_is_stopped_by_a_signal() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let (begun, go) = (program.home().join("begun"), program.home().join("go"));
    let check = "touch begun; until [ -e go ]; do sleep 0.01; done";
    let daemon = program.set("--health-check", check).flag("-v").script(runner::PLAIN).start();
    let runner = daemon.wait_for_pid("ready");
    eventually("the check runs", || begun.exists());
    signal(runner, Signal::STOP);
    daemon.wait_for_log("the runner's leader changed state");
    fs::write(&go, "").unwrap();
    let line = daemon.wait_for_log(WITHHELD);
    assert!(line.ends_with("the runner is stopped by a signal (state T)"), "{line}");
    signal(runner, Signal::CONT);
    daemon.wait_for_log(HEALTHY);
    endpoint.wait_for(1);
    daemon.signal(Signal::TERM);
    daemon.finish();
}

#[test]
fn a_check_that_ends_with_its_runner_is_no_check_that_took_too_long() {
    let endpoint = Endpoint::ok();
    let mut runner = ExternalRunner::plain();
    let program = Taskbeat::run(&endpoint);
    let (id, again) = (program.id(), program.home().join("again"));
    fs::write(program.home().join("pid"), format!("{}\n", runner.pid())).unwrap();
    let check = "[ -e failed ] || { touch failed; exit 3; }; touch again; exec sleep 120";
    let daemon = program.set("--pid-file", "pid").set("--health-check", check).start();
    daemon.wait_for_log(WITHHELD);
    eventually("the second check runs", || again.exists());
    runner.kill();
    daemon.wait_for_log("waiting for the runner");
    let status = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", id).finish();
    assert!(status.text().contains("health-check exited with status 3\n"), "{status:?}");
}

#[test]
fn an_attached_runner_that_is_stopped_by_a_signal_sends_no_heartbeat() {
    let endpoint = Endpoint::ok();
    let runner = ExternalRunner::start("echo ready; exec sleep 120");
    signal(runner.pid(), Signal::STOP);
    let daemon = Taskbeat::run(&endpoint)
        .set("--interval", "200ms")
        .set("--pid", runner.pid().to_string())
        .start();
    daemon.wait_for_log(WITHHELD);
    assert!(endpoint.requests().is_empty());
    signal(runner.pid(), Signal::CONT);
    daemon.wait_for_log(HEALTHY);
    endpoint.wait_for(1);
}

#[test]
fn a_command_reports_when_contact_is_lost_and_regained() {
    let endpoint = Endpoint::play([], Step::fault());
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("contact");
    let facts = r#"echo "$TASKBEAT_CONTACT $TASKBEAT_LAST_ACKNOWLEDGED" >>contact"#;
    let daemon = program
        .set("--interval", "300ms")
        .set("--on-contact-change", facts)
        .script(runner::PLAIN)
        .start();
    let line = daemon.wait_for_log("contact lost");
    assert!(line.contains("WARN"), "{line}");
    let reports = |count| {
        eventually("a report", || {
            fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == count)
        });
        fs::read_to_string(&file).unwrap()
    };
    assert_eq!(reports(1), "lost \n");
    endpoint.switch_to(Step::Ok);
    daemon.wait_for_log("contact regained");
    let reports = reports(2);
    let regained = reports.lines().last().unwrap();
    assert!(regained.starts_with("regained 20") && regained.ends_with('Z'), "{regained}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 143);
}
