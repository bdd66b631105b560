//! Policies that are off by default: `on-terminate`, `after-terminate` and `lost-contact-after`.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Daemon, Endpoint, ExternalRunner, Step, Taskbeat, in_parallel, is_alive, let_pass, runner,
    text, wait_for_end,
};

/// Waits for the line `word PID` of a command, and returns the process id.
fn pid_in_log(daemon: &Daemon, word: &str) -> i32 {
    let line = daemon.wait_for_log(&format!("{word} "));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_on_terminate_command_runs_before_the_ladder() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let go = program.home().join("go");
    let command = "echo command; until [ -e go ]; do sleep 0.01; done; echo command ends";
    let daemon = program.set("--on-terminate", command).script(runner::OBEDIENT).start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log("command");
    assert!(is_alive(runner));
    assert!(!daemon.log().contains(text::STOPPING));
    fs::write(go, "").unwrap();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let (before, after) = finished.stderr.split_once("\ncommand ends\n").unwrap();
    assert!(!before.contains(text::STOPPING) && after.contains(text::STOPPING), "{finished:?}");
    assert!(finished.text().ends_with("stopped\n"), "{finished:?}");
}

#[test]
fn an_on_terminate_command_is_killed_with_its_group_after_the_grace() {
    let endpoint = Endpoint::ok();
    let command = "trap '' TERM; (echo member $(exec sh -c 'echo $PPID'); exec sleep 120) & \
        echo command $$; wait";
    let daemon = Taskbeat::run(&endpoint)
        .set("--on-terminate", command)
        .set("--grace", "300ms")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    let killed = ["command", "member"].map(|word| pid_in_log(&daemon, word));
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains("stopped\n"), "{finished:?}");
    for pid in killed {
        wait_for_end(pid);
    }
}

#[test]
fn a_failed_on_terminate_command_does_not_keep_the_ladder_from_starting() {
    for command in ["exit 3", "/nonexistent/command", "kill -KILL $$"] {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint)
            .set("--on-terminate", command)
            .script(runner::OBEDIENT)
            .start();
        daemon.wait_for_pid("ready");
        endpoint.switch_to(Step::Terminate);
        let finished = daemon.finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert!(finished.text().contains("stopped\n"), "{finished:?}");
        let failed = "on-terminate";
        assert!(finished.stderr.contains(failed), "{finished:?}");
    }
}

#[test]
fn the_on_terminate_command_runs_without_a_runner() {
    let endpoint = Endpoint::play([Step::Ok], Step::Terminate);
    let finished = Taskbeat::run(&endpoint).set("--on-terminate", "echo command").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.stderr.contains("\ncommand\n"), "{finished:?}");
}

#[test]
fn the_on_terminate_command_can_stop_an_attached_runner() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let mut runner = ExternalRunner::plain();
    let finished = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .set("--on-terminate", format!("kill -USR1 {}", runner.pid()))
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.wait_for_end(), Some(Signal::USR1.as_raw()));
}

#[test]
fn an_operators_stop_does_not_run_the_on_terminate_command() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .set("--on-terminate", "echo command")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.stderr.contains("\ncommand\n"), "{finished:?}");
}

#[test]
fn two_stops_kill_the_on_terminate_command_and_the_runner_at_once() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .set("--on-terminate", "echo command $$; exec sleep 120")
        .script(runner::IGNORES_STOP)
        .start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    let command = pid_in_log(&daemon, "command");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(text::STOP);
    assert!(is_alive(command) && is_alive(runner));
    daemon.stop_again();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let killed = format!("{}on-terminate", text::SIGKILL);
    assert!(finished.stderr.contains(&killed), "{finished:?}");
    assert!(!is_alive(runner));
    wait_for_end(command);
}

#[test]
fn an_idle_daemon_sends_nothing_and_is_in_contact_until_it_is_stopped() {
    const INTERVAL: Duration = Duration::from_millis(50);
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint)
        .set("--after-terminate", "idle")
        .set("--interval", "50ms")
        .script(runner::OBEDIENT);
    let id = program.id();
    let daemon = program.start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log(text::TERMINATE);
    let sent = endpoint.requests().len();
    wait_for_end(runner);
    daemon.wait_for_log(text::RUNNER_ENDED);
    let_pass(6 * INTERVAL);
    assert_eq!(endpoint.requests().len(), sent);
    let status = Taskbeat::new("status").set("--taskrunner-id", id).finish();
    assert_eq!(status.status, 0, "{status:?}");
    assert!(status.text().contains("idle"), "{status:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
    assert_eq!(endpoint.requests().len(), sent);
}

#[test]
fn an_operators_stop_during_the_ladder_of_terminate_overrides_idle() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint)
        .with_stdin()
        .set("--after-terminate", "idle")
        .script(runner::DRAINING)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_output("draining");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(text::STOP);
    daemon.write_stdin(b"go\n");
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn lost_contact_stops_the_runner_however_heartbeats_fail() {
    let faults = [Step::fault(), Step::throttle(), Step::deny(), Step::Hang];
    in_parallel(faults, |fault| {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint)
            .set("--interval", "100ms")
            .set("--lost-contact-after", "1s")
            .script(runner::OBEDIENT)
            .start();
        daemon.wait_for_pid("ready");
        endpoint.wait_for_more(2);
        endpoint.switch_to(fault);
        let finished = daemon.finish();
        assert_eq!(finished.status, 69, "{finished:?}");
        assert!(finished.text().contains("stopped\n"), "{finished:?}");
        let cause = format!("contact lost{}", text::STOPPING);
        assert!(finished.stderr.contains(&cause), "{finished:?}");
    });
}

#[test]
fn lost_contact_counts_from_the_runners_start_before_the_first_acknowledgement() {
    let closed = Endpoint::closed();
    let finished = Taskbeat::new("run")
        .to(&closed.url())
        .set("--interval", "100ms")
        .set("--lost-contact-after", "500ms")
        .script(runner::OBEDIENT)
        .finish();
    assert_eq!(finished.status, 69, "{finished:?}");
}

#[test]
fn each_acknowledgement_postpones_the_loss_of_contact() {
    // Each series of failures is shorter than the limit, six of them are longer.
    let series = [Step::fault(), Step::fault(), Step::fault(), Step::Ok];
    let script = std::iter::repeat_n(series, 12).flatten();
    let endpoint = Endpoint::play(script, Step::Ok);
    let daemon = Taskbeat::run(&endpoint)
        .set("--interval", "600ms")
        .set("--lost-contact-after", "2500ms")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(4 * 6);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
}
