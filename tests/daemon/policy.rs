//! What the user switched on: commands, idling, and the end of patience.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Bystander, Endpoint, Play, Taskbeat, is_alive, runner, wait_for_end};

#[test]
fn the_command_at_terminate_runs_before_the_ladder() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint)
        .with_stdin()
        .set("--on-terminate", "echo hook; read -r go; echo hook ends")
        .script(runner::OBEDIENT)
        .start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.now_play(Play::Terminate);
    daemon.wait_for_output("hook");
    assert!(is_alive(runner));
    assert!(!daemon.log().contains("stopping "));
    daemon.say(b"go\n");
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let text = finished.text();
    assert!(text.ends_with("hook\nhook ends\nstopped\n"), "{text}");
}

#[test]
fn a_command_at_terminate_that_does_not_end_is_killed_with_its_group_after_the_grace() {
    let endpoint = Endpoint::ok();
    let hook = "trap '' TERM; (echo member $(exec sh -c 'echo $PPID'); exec sleep 120) & \
        echo hook $$; wait";
    let daemon = Taskbeat::run(&endpoint)
        .set("--on-terminate", hook)
        .set("--grace", "300ms")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.now_play(Play::Terminate);
    let killed = [daemon.wait_for_pid("hook"), daemon.wait_for_pid("member")];
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains("stopped\n"), "{finished:?}");
    for pid in killed {
        wait_for_end(pid);
    }
}

#[test]
fn a_command_at_terminate_that_fails_is_no_obstacle() {
    for hook in ["exit 3", "/nonexistent/command", "kill -KILL $$"] {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint)
            .set("--on-terminate", hook)
            .script(runner::OBEDIENT)
            .start();
        daemon.wait_for_pid("ready");
        endpoint.now_play(Play::Terminate);
        let finished = daemon.finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert!(finished.text().contains("stopped\n"), "{finished:?}");
        let said = "the on-terminate command failed";
        assert!(finished.stderr.contains(said), "{finished:?}");
    }
}

#[test]
fn without_a_runner_the_command_at_terminate_runs_too() {
    let endpoint = Endpoint::play([Play::Ok], Play::Terminate);
    let finished = Taskbeat::run(&endpoint)
        .set("--on-terminate", "echo hook")
        .finish();
    assert_eq!((finished.status, finished.text().as_str()), (0, "hook\n"));
}

#[test]
fn the_command_at_terminate_can_stop_an_attached_runner() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let mut runner = Bystander::plain();
    let finished = Taskbeat::run(&endpoint)
        .set("--pid", runner.pid().to_string())
        .set("--on-terminate", format!("kill -USR1 {}", runner.pid()))
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(runner.ended_by(), Some(Signal::USR1.as_raw()));
}

#[test]
fn an_operators_stop_does_not_run_the_command_at_terminate() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .set("--on-terminate", "echo hook")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.text().contains("hook"), "{finished:?}");
}

#[test]
fn two_stops_end_the_command_at_terminate_and_the_runner_at_once() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .set("--on-terminate", "echo hook $$; exec sleep 120")
        .script(runner::DEAF)
        .start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.now_play(Play::Terminate);
    let hook = daemon.wait_for_pid("hook");
    daemon.wait_for_log("the on-terminate command runs, for 1h at most");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stop requested");
    assert!(is_alive(hook) && is_alive(runner));
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("SIGKILL to the on-terminate command")
    );
    assert!(!is_alive(runner));
    wait_for_end(hook);
}

#[test]
fn an_idle_daemon_is_silent_and_in_contact_until_it_is_stopped() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint)
        .set("--after-terminate", "idle")
        .set("--interval", "50ms")
        .script(runner::OBEDIENT);
    let id = program.id();
    let daemon = program.start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.now_play(Play::Terminate);
    daemon.wait_for_log("heartbeat acknowledged: terminate");
    let sent = endpoint.requests().len();
    wait_for_end(runner);
    daemon.wait_for_log("the runner exited");
    // Several intervals, in which nothing is to happen.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(endpoint.requests().len(), sent);
    let status = Taskbeat::new("status").set("--taskrunner-id", id).finish();
    assert_eq!(status.status, 0, "{status:?}");
    assert!(status.text().contains("idle"), "{status:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
    assert_eq!(endpoint.requests().len(), sent);
}

#[test]
fn an_operators_stop_before_the_end_of_the_ladder_leaves_nobody_idle() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint)
        .with_stdin()
        .set("--after-terminate", "idle")
        .script(runner::DRAINING)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.now_play(Play::Terminate);
    daemon.wait_for_output("draining");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stop requested");
    daemon.say(b"go\n");
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn lost_contact_stops_the_runner_however_often_heartbeats_fail() {
    for play in [Play::fault(), Play::throttle(), Play::deny(), Play::Hang] {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint)
            .set("--interval", "100ms")
            .set("--lost-contact-after", "1s")
            .script(runner::OBEDIENT)
            .start();
        daemon.wait_for_pid("ready");
        endpoint.wait_for_more(2);
        endpoint.now_play(play);
        let finished = daemon.finish();
        assert_eq!(finished.status, 69, "{finished:?}");
        assert!(finished.text().contains("stopped\n"), "{finished:?}");
        let said = "contact lost: stop signal to ";
        assert!(finished.stderr.contains(said), "{finished:?}");
    }
}

#[test]
fn lost_contact_counts_from_the_runners_start_when_nothing_was_ever_acknowledged() {
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
fn acknowledged_heartbeats_put_the_loss_of_contact_off() {
    // Each series of failures is shorter than what is lost contact, all together are longer.
    let series = [Play::fault(), Play::fault(), Play::fault(), Play::Ok];
    let script = std::iter::repeat_n(series, 12).flatten();
    let endpoint = Endpoint::play(script, Play::Ok);
    let daemon = Taskbeat::run(&endpoint)
        .set("--interval", "1s")
        .set("--lost-contact-after", "4s")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    // Five intervals, at least: twice as long as the policy's patience is not needed to tell.
    endpoint.wait_for(4 * 6);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
}
