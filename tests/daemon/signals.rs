//! Signals that are not ours alone.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Daemon, Endpoint, Play, Taskbeat, eventually, signal, state_of};

/// A leader and a member of its group, which both say which signals they get.
const BOTH: &str = r#"
talk() {
    for name in QUIT USR1 USR2 WINCH HUP; do trap "echo $1 got $name" $name; done
    trap 'exit 42' TERM
    (trap '' QUIT USR1 USR2 WINCH HUP; nap $1-ready) &
    while :; do wait; done
}
talk member & talk leader"#;

const FORWARDED: [(Signal, &str); 4] = [
    (Signal::QUIT, "QUIT"),
    (Signal::USR1, "USR1"),
    (Signal::USR2, "USR2"),
    (Signal::WINCH, "WINCH"),
];

fn start(program: Taskbeat) -> Daemon {
    let daemon = program.script(BOTH).start();
    daemon.wait_for_output("leader-ready");
    daemon.wait_for_output("member-ready");
    daemon
}

#[test]
fn signals_for_the_runner_go_to_its_group() {
    let endpoint = Endpoint::ok();
    let daemon = start(Taskbeat::run(&endpoint));
    for (signal, name) in FORWARDED {
        daemon.signal(signal);
        daemon.wait_for_output(&format!("leader got {name}"));
        // What a script starts in the background ignores SIGQUIT.
        if signal != Signal::QUIT {
            daemon.wait_for_output(&format!("member got {name}"));
        }
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

#[test]
fn with_the_scope_process_signals_for_the_runner_go_to_its_leader_alone() {
    let endpoint = Endpoint::ok();
    let daemon = start(Taskbeat::run(&endpoint).set("--stop-scope", "process"));
    for (signal, name) in FORWARDED {
        daemon.signal(signal);
        daemon.wait_for_output(&format!("leader got {name}"));
    }
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.text().contains("member got"), "{finished:?}");
}

#[test]
fn a_hang_up_without_a_terminal_is_no_stop_and_not_the_runners() {
    let endpoint = Endpoint::ok();
    let daemon = start(Taskbeat::run(&endpoint));
    daemon.signal(Signal::HUP);
    endpoint.wait_for_more(2);
    daemon.signal(Signal::USR1);
    daemon.wait_for_output("leader got USR1");
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.text().contains("got HUP"), "{finished:?}");
}

#[test]
fn nobody_but_a_child_gets_our_signals() {
    let endpoint = Endpoint::ok();
    let mut attached = crate::harness::Bystander::plain();
    for pid in [None, Some(attached.pid())] {
        let mut program = Taskbeat::run(&endpoint);
        if let Some(pid) = pid {
            program = program.set("--pid", pid.to_string());
        }
        let daemon = program.start();
        daemon.wait_for_log("heartbeat acknowledged");
        for (signal, _) in FORWARDED {
            daemon.signal(signal);
        }
        endpoint.wait_for_more(2);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.finish().status, 0);
    }
    assert!(attached.is_alive());
    attached.kill();
}

#[test]
fn job_control_stops_and_continues_the_runner_and_us() {
    let endpoint = Endpoint::ok();
    for stop in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
        // A runner that leaves these signals alone.
        let daemon = Taskbeat::run(&endpoint).command(&["cat"]).with_stdin();
        let daemon = daemon.start();
        let runner = pid_of_runner(&daemon);
        daemon.signal(stop);
        eventually("both are stopped", || {
            [daemon.pid(), runner]
                .into_iter()
                .all(|pid| state_of(pid) == 'T')
        });
        daemon.signal(Signal::CONT);
        eventually("both go on", || {
            [daemon.pid(), runner]
                .into_iter()
                .all(|pid| state_of(pid) == 'S')
        });
        endpoint.wait_for_more(2);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.finish().status, 143);
    }
}

fn pid_of_runner(daemon: &Daemon) -> i32 {
    let line = daemon.wait_for_log("the runner runs");
    line.rsplit('=').next().unwrap().parse().unwrap()
}

#[test]
fn a_heartbeat_that_was_due_while_we_were_stopped_goes_out_at_once() {
    // Long enough for a machine that is busy, and the next heartbeat would be that far away.
    const INTERVAL: Duration = Duration::from_secs(4);
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--interval", "4s").start();
    daemon.wait_for_log("heartbeat acknowledged");
    daemon.signal(Signal::TSTP);
    eventually("we are stopped", || state_of(daemon.pid()) == 'T');
    thread::sleep(INTERVAL);
    assert_eq!(endpoint.requests().len(), 1);
    let continued = tokio::time::Instant::now();
    daemon.signal(Signal::CONT);
    let heartbeat = endpoint.wait_for(2)[1].at;
    assert!(heartbeat - continued < INTERVAL / 2);
}

#[test]
fn a_stop_wakes_a_runner_that_job_control_stopped() {
    for scope in ["group", "process"] {
        let endpoint = Endpoint::ok();
        let daemon = start(Taskbeat::run(&endpoint).set("--stop-scope", scope));
        let runner = pid_of_runner(&daemon);
        signal(runner, Signal::STOP);
        eventually("it is stopped", || state_of(runner) == 'T');
        endpoint.now_play(Play::Terminate);
        let finished = daemon.finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert!(finished.stderr.contains("status=42"), "{finished:?}");
    }
}
