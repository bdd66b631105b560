//! One ladder for every stop, at whatever moment, and whatever the runner left behind.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tokio::time::Instant;

use crate::harness::{
    Daemon, Endpoint, Step, Taskbeat, eventually, group_of, is_alive, pid_namespace, runner,
    signal, skip_without, skip_without_root,
};

const STOPS: [Signal; 2] = [Signal::TERM, Signal::INT];

/// Stops within this time of the first one are the same stop.
const SAME_STOP: Duration = Duration::from_secs(1);

/// Stops an obedient runner at a given moment with each stop signal of an operator.
fn stops(endpoint: impl Fn() -> Endpoint, moment: impl Fn(&Endpoint, &Daemon)) {
    for signal in STOPS {
        let endpoint = endpoint();
        // The next heartbeat, and the one after a backoff, are far away.
        let daemon =
            Taskbeat::run(&endpoint).set("--interval", "15m").script(runner::OBEDIENT).start();
        daemon.wait_for_pid("ready");
        moment(&endpoint, &daemon);
        let sent = endpoint.requests().len();
        daemon.signal(signal);
        let finished = daemon.finish();
        assert_eq!(finished.status, 42, "{signal:?} {finished:?}");
        assert!(finished.text().ends_with("stopped\n"), "{finished:?}");
        assert_eq!(endpoint.requests().len(), sent);
    }
}

#[test]
fn a_stop_does_not_wait_for_the_first_answer() {
    stops(|| Endpoint::play([], Step::Hang), |endpoint, _| drop(endpoint.wait_for(1)));
}

#[test]
fn a_stop_between_two_heartbeats_is_obeyed_at_once() {
    stops(Endpoint::ok, |_, daemon| {
        daemon.wait_for_log("heartbeat acknowledged");
    });
}

#[test]
fn a_stop_does_not_wait_for_the_backoff() {
    stops(
        || Endpoint::play([], Step::throttle()),
        |_, daemon| drop(daemon.wait_for_log("heartbeat failed")),
    );
}

#[test]
fn a_stop_does_not_wait_for_a_later_answer() {
    for signal in STOPS {
        let endpoint = Endpoint::play([Step::Ok], Step::Hang);
        let daemon = Taskbeat::run(&endpoint).script(runner::OBEDIENT).start();
        daemon.wait_for_pid("ready");
        endpoint.wait_for(2);
        daemon.signal(signal);
        let finished = daemon.finish();
        assert_eq!(finished.status, 42, "{signal:?} {finished:?}");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_connection() {
    let closed = Endpoint::closed();
    for signal in STOPS {
        let daemon = Taskbeat::new("run")
            .to(&closed.url())
            .set("--interval", "15m")
            .script(runner::OBEDIENT)
            .start();
        daemon.wait_for_pid("ready");
        daemon.wait_for_log("heartbeat failed");
        daemon.signal(signal);
        assert_eq!(daemon.finish().status, 42, "{signal:?}");
    }
}

#[test]
fn a_second_stop_kills_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint).script(runner::IGNORES_STOP).start();
        daemon.wait_for_pid("ready");
        daemon.signal(first);
        daemon.wait_for_log("stop requested: stop signal to ");
        thread::sleep(SAME_STOP);
        daemon.signal(second);
        let finished = daemon.finish();
        assert_eq!(finished.status, 137, "{finished:?}");
    }
}

#[test]
fn stops_within_a_second_are_the_same_stop() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).with_stdin().script(runner::DRAINING);
    let mut daemon = daemon.start();
    daemon.wait_for_pid("ready");
    // timeout(1) sends the pair within a fraction of a millisecond.
    for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
        daemon.signal(signal);
    }
    daemon.wait_for_output("draining");
    endpoint.wait_for_more(2);
    daemon.write_stdin(b"go\n");
    assert_eq!(daemon.finish().status, 42);
}

/// As systemd does with `KillMode=control-group`. The runner may be dead before its exit is seen.
#[test]
fn a_stop_of_the_runner_and_taskbeat_together_is_not_called_ctrl_c() {
    for _ in 0..5 {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint).script(runner::PLAIN).start();
        let runner = daemon.wait_for_pid("ready");
        signal(runner, Signal::TERM);
        daemon.signal(Signal::TERM);
        let finished = daemon.finish();
        assert_eq!(finished.status, 143, "{finished:?}");
        assert!(!finished.stderr.contains("Ctrl-C"), "{finished:?}");
    }
}

#[test]
fn two_stops_kill_after_terminate() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).script(runner::IGNORES_STOP).start();
    daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log("terminate received: stop signal to ");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stop requested");
    thread::sleep(SAME_STOP);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.stderr.contains("SIGKILL to sleep["));
}

#[test]
fn the_runners_own_status_is_passed_on() {
    for status in [0, 1, 42, 127, 255] {
        let endpoint = Endpoint::play([], Step::Hang);
        let script = format!("exit {status}");
        let finished = Taskbeat::run(&endpoint).script(&script).finish();
        assert_eq!(finished.status, status, "{finished:?}");
    }
}

#[test]
fn a_runner_that_a_signal_ended_makes_the_status_128_and_its_number() {
    for (name, status) in [("KILL", 137), ("HUP", 129), ("ABRT", 134), ("USR1", 138)] {
        let endpoint = Endpoint::play([], Step::Hang);
        let script = format!("kill -s {name} $$");
        let finished = Taskbeat::run(&endpoint).script(&script).finish();
        assert_eq!(finished.status, status, "{finished:?}");
    }
}

#[test]
fn a_runner_without_a_trap_makes_the_status_143_at_the_operators_stop() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).script(runner::PLAIN).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 143);
}

#[test]
fn the_stop_signal_can_be_chosen() {
    let endpoint = Endpoint::ok();
    let script = "trap 'exit 1' TERM; trap 'exit 43' USR2; nap ready & wait; exit 99";
    let daemon = Taskbeat::run(&endpoint).set("--stop-signal", "SIGUSR2").script(script).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 43);
}

#[test]
fn without_a_runner_a_stop_exits_0() {
    for signal in STOPS {
        for play in [Step::Ok, Step::Hang, Step::throttle()] {
            let endpoint = Endpoint::play([], play);
            let daemon = Taskbeat::run(&endpoint).start();
            endpoint.wait_for(1);
            daemon.signal(signal);
            let finished = daemon.finish();
            assert_eq!(finished.status, 0, "{signal:?} {finished:?}");
        }
    }
}

#[test]
fn a_runner_that_ignores_the_stop_signal_is_killed_after_the_grace() {
    let endpoint = Endpoint::ok();
    let daemon =
        Taskbeat::run(&endpoint).set("--grace", "300ms").script(runner::IGNORES_STOP).start();
    let pid = daemon.wait_for_pid("ready");
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!is_alive(pid));
    let killed = finished.stderr.lines().find(|line| line.contains("SIGKILL to "));
    assert!(killed.is_some_and(|line| line.contains(&format!("[{pid}]"))), "{finished:?}");
}

#[test]
fn a_stopped_runner_is_continued_to_receive_the_stop_signal() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .script("trap 'exit 42' TERM; (echo leader $$; nap ready) & wait; exit 99")
        .start();
    daemon.wait_for_pid("ready");
    let leader = daemon.wait_for_pid("leader");
    let leader = rustix::process::Pid::from_raw(leader).unwrap();
    rustix::process::kill_process_group(leader, Signal::STOP).unwrap();
    daemon.wait_for_log("heartbeats are withheld");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

/// The leader exits and leaves a process that ignores the stop signal. That is killed before
/// taskbeat exits.
fn leaves_nothing_behind(leave: &str) {
    let endpoint = Endpoint::ok();
    let script = format!("trap 'exit 3' TERM; {leave}\n nap ready & wait; exit 99");
    // At the operator's stop, and at terminate.
    for (stop, status) in [(Some(Signal::TERM), 3), (None, 0)] {
        endpoint.switch_to(Step::Ok);
        let daemon = Taskbeat::run(&endpoint).set("--grace", "300ms").script(&script).start();
        let leftover = daemon.wait_for_pid("leftover");
        daemon.wait_for_pid("ready");
        match stop {
            Some(signal) => daemon.signal(signal),
            None => endpoint.switch_to(Step::Terminate),
        }
        let mut daemon = daemon;
        assert_eq!(daemon.wait(), status);
        assert!(!is_alive(leftover), "it outlived taskbeat");
        let killed = daemon.wait_for_log("SIGKILL to ");
        assert!(killed.contains(&format!("[{leftover}]")), "{killed}");
    }
}

#[test]
fn a_deaf_process_of_the_group_is_killed() {
    leaves_nothing_behind("(trap '' TERM; nap leftover) &");
}

#[test]
fn a_deaf_process_in_a_session_of_its_own_is_killed() {
    leaves_nothing_behind("(trap '' TERM; exec setsid sh -c 'echo leftover $$; exec sleep 120') &");
}

#[test]
fn a_deaf_daemon_of_the_runner_is_killed() {
    leaves_nothing_behind("(trap '' TERM; (setsid sh -c 'echo leftover $$; exec sleep 120' &) &)");
}

#[test]
fn what_a_runner_that_exited_by_itself_left_behind_gets_the_stop_signal() {
    let endpoint = Endpoint::ok();
    // The processes that are left have taskbeat's output open, which it does not wait for.
    let script = "nap group & (setsid sh -c 'echo away $$; exec sleep 120' &) ; read -r go; exit 5";
    let mut daemon = Taskbeat::run(&endpoint).with_stdin().script(script).start();
    let left = [daemon.wait_for_pid("group"), daemon.wait_for_pid("away")];
    daemon.write_stdin(b"go\n");
    assert_eq!(daemon.wait(), 5);
    assert!(!left.into_iter().any(is_alive));
    let finished = daemon.finish();
    assert!(!finished.stderr.contains("SIGKILL to"), "{finished:?}");
}

#[test]
fn a_runner_that_ended_by_itself_keeps_its_status_when_a_leftover_is_killed() {
    let endpoint = Endpoint::ok();
    let script = "(trap '' TERM; nap leftover) & read -r go; exit 5";
    let mut daemon =
        Taskbeat::run(&endpoint).with_stdin().set("--grace", "300ms").script(script).start();
    let leftover = daemon.wait_for_pid("leftover");
    daemon.write_stdin(b"go\n");
    assert_eq!(daemon.wait(), 5);
    assert!(!is_alive(leftover));
}

/// A leader and a member of its group, which both print that they got the stop signal. The leader
/// then reads a line.
const PAIR: &str = "
member() { trap 'echo member stops; exit 0' TERM; nap ready & wait; }
trap 'echo leader stops; read -r go; echo leader ends; exit 42' TERM
member & wait; exit 99";

#[test]
fn the_stop_signal_goes_to_the_whole_group() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint).with_stdin().script(PAIR).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_output("leader stops");
    daemon.wait_for_output("member stops");
    assert!(!daemon.output().contains("leader ends"));
    daemon.write_stdin(b"go\n");
    assert_eq!(daemon.finish().status, 42);
}

#[test]
fn with_the_scope_process_the_others_get_the_stop_signal_when_the_leader_has_exited() {
    let endpoint = Endpoint::ok();
    let mut daemon =
        Taskbeat::run(&endpoint).with_stdin().set("--stop-scope", "process").script(PAIR).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_output("leader stops");
    endpoint.wait_for_more(2);
    daemon.write_stdin(b"go\n");
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    let text = finished.text();
    let at = |line: &str| text.find(line).unwrap_or_else(|| panic!("no {line}: {text}"));
    assert!(at("leader ends") < at("member stops"), "{text}");
}

#[test]
fn a_stop_before_the_start_starts_nothing() {
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let endpoint = Endpoint::ok();
        // The signal is pending behind the mask until taskbeat catches it.
        let blocked = format!("--block-signal={signal}");
        let pending = format!("kill -s {signal} $$; exec \"$@\"");
        let daemon = Taskbeat::run(&endpoint)
            .via(&["env", &blocked, "sh", "-c", &pending, "sh"])
            .script("echo started");
        let finished = daemon.finish();
        assert_eq!(finished.status, status, "{finished:?}");
        assert_eq!(finished.text(), "");
        assert!(endpoint.requests().is_empty());
    }
}

#[test]
fn heartbeats_go_on_while_the_runner_drains() {
    let endpoint = Endpoint::ok();
    let mut daemon = Taskbeat::run(&endpoint)
        .with_stdin()
        .set("--interval", "60ms")
        .script(runner::DRAINING)
        .start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_output("draining");
    endpoint.wait_for_more(5);
    daemon.write_stdin(b"go\n");
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(finished.text().ends_with("drained\n"), "{finished:?}");
}

#[test]
fn failed_heartbeats_are_retried_while_the_runner_drains() {
    let endpoint = Endpoint::play([], Step::fault());
    let mut daemon = Taskbeat::run(&endpoint).with_stdin().script(runner::DRAINING).start();
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_output("draining");
    endpoint.wait_for_more(3);
    daemon.write_stdin(b"go\n");
    assert_eq!(daemon.finish().status, 42);
}

#[test]
fn a_traced_runner_keeps_its_status() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip_without("strace");
    }
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let log = program.home().join("strace");
    let daemon = program.script("nap leader; exit 99").start();
    let leader = daemon.wait_for_pid("leader");
    let mut tracer = Command::new("strace")
        .args(["-o", log.to_str().unwrap(), "-p", &leader.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is traced", || {
        fs::read_to_string(format!("/proc/{leader}/status"))
            .is_ok_and(|status| status.contains(&format!("TracerPid:\t{}", tracer.id())))
    });
    signal(leader, Signal::KILL);
    assert_eq!(daemon.finish().status, 137);
    tracer.wait().unwrap();
}

#[test]
fn if_the_leader_changed_its_group_both_groups_get_the_stop_signal() {
    if Command::new("perl").arg("-e1").status().is_err() {
        return skip_without("perl");
    }
    let endpoint = Endpoint::ok();
    // The leader follows its child into that child's group, and leaves another child behind.
    let leader = r#"
        $| = 1; $SIG{TERM} = sub { print "leader stops\n"; wait; wait; exit 42 };
        for my $name ("new", "old") {
            next if my $pid = fork;
            setpgrp if $name eq "new";
            $SIG{TERM} = sub { print "$name stops\n"; exit };
            print "$name $$\n"; sleep 120 while 1;
        }
        my $line = <STDIN>; setpgrp(0, $line); print "ready $$\n"; sleep 120 while 1;"#;
    let mut daemon = Taskbeat::run(&endpoint).with_stdin().command(&["perl", "-e", leader]).start();
    let new = daemon.wait_for_pid("new");
    daemon.wait_for_pid("old");
    daemon.write_stdin(format!("{new}\n").as_bytes());
    let leader = daemon.wait_for_pid("ready");
    assert_eq!(group_of(leader), new);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    for name in ["leader", "new", "old"] {
        let count = finished.text().matches(&format!("{name} stops")).count();
        assert_eq!(count, 1, "{name}: {finished:?}");
    }
}

#[test]
fn a_process_that_cannot_be_killed_is_named_after_five_seconds() {
    // Inside its namespace, process 1 cannot be killed.
    let Some(namespace) = pid_namespace() else {
        return;
    };
    let endpoint = Endpoint::ok();
    let first = r#""$@" & wait $!; echo "status $?""#;
    let daemon = Taskbeat::run(&endpoint)
        .via(&namespace)
        .via(&["sh", "-c", first, "sh"])
        .set("--pid", "1")
        .set("--grace", "100ms")
        .start();
    daemon.wait_for_log("heartbeat acknowledged");
    endpoint.switch_to(Step::Terminate);
    daemon.wait_for_log("SIGKILL to sh[1]");
    let killed = Instant::now();
    daemon.wait_for_log("ERROR cannot be killed: sh[1]");
    assert!(killed.elapsed() > Duration::from_secs(4));
    daemon.wait_for_output("status 0");
}

#[test]
fn a_process_that_taskbeat_may_not_signal_is_named_with_the_reason() {
    if !geteuid().is_root() {
        return skip_without_root();
    }
    let endpoint = Endpoint::ok();
    // Another user's process, which root cannot signal without CAP_KILL.
    let other = "setpriv --reuid=65534 --clear-groups sh -c 'echo other $$; exec sleep 120' &";
    let mut daemon = Taskbeat::run(&endpoint)
        .via(&["setpriv", "--bounding-set=-kill"])
        .set("--grace", "300ms")
        .script(&format!("{other} trap 'exit 42' TERM; nap ready & wait; exit 99"))
        .start();
    let other = daemon.wait_for_pid("other");
    daemon.wait_for_pid("ready");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(&format!("[{other}] (not permitted)"));
    let left = daemon.wait_for_log("cannot be killed: ");
    assert!(left.contains(&format!("[{other}]")), "{left}");
    assert_eq!(daemon.wait(), 42);
    signal(other, Signal::KILL);
}
