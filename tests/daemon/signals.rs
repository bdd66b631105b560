//! Signals that are not stops.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::harness::{Daemon, Endpoint, Taskbeat, eventually, signal, state_of};

/// A leader and a member of its group, which both print the signals that they get.
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
fn signals_are_forwarded_to_the_group() {
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
fn with_the_scope_process_signals_are_forwarded_to_the_leader_alone() {
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
fn a_hang_up_without_a_terminal_is_neither_a_stop_nor_forwarded() {
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
fn under_nohup_a_hang_up_is_ignored_and_other_signals_are_forwarded() {
    let endpoint = Endpoint::ok();
    let daemon = start(Taskbeat::run(&endpoint).via(&["env", "--ignore-signal=HUP"]));
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::USR1);
    daemon.wait_for_output("leader got USR1");
    endpoint.wait_for_more(2);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(!finished.text().contains("got HUP"), "{finished:?}");
    assert!(!finished.stderr.contains("reload"), "{finished:?}");
}

#[test]
fn signals_are_forwarded_to_a_child_only() {
    let endpoint = Endpoint::ok();
    let mut attached = crate::harness::ExternalRunner::plain();
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
fn without_a_terminal_job_control_stops_and_continues_the_runner_alone() {
    let endpoint = Endpoint::ok();
    for stop in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
        // It does not change the disposition of these signals.
        let daemon = Taskbeat::run(&endpoint).command(&["cat"]).with_stdin();
        let daemon = daemon.start();
        let runner = pid_of_runner(&daemon);
        daemon.signal(stop);
        eventually("the runner is stopped", || state_of(runner) == 'T');
        assert_ne!(state_of(daemon.pid()), 'T');
        daemon.signal(Signal::CONT);
        eventually("the runner goes on", || state_of(runner) == 'S');
        endpoint.wait_for_more(2);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.finish().status, 143);
    }
}

/// All signals that would end a process by default, but stops, faults and those below.
fn forwarded() -> Vec<i32> {
    let named = [
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGSTKFLT,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
    ];
    let realtime = libc::SIGRTMIN()..=libc::SIGRTMAX();
    named.into_iter().chain(realtime).collect()
}

#[test]
fn every_signal_that_would_end_taskbeat_is_forwarded() {
    let endpoint = Endpoint::ok();
    let script = "for number in $SIGNALS; do trap \"echo got $number.\" $number; done
        trap 'exit 42' TERM; echo ready; while :; do sleep 0.1; done";
    let numbers: Vec<String> = forwarded().iter().map(ToString::to_string).collect();
    let daemon = Taskbeat::run(&endpoint)
        .env("SIGNALS", numbers.join(" "))
        .command(&["bash", "-c", script])
        .start();
    daemon.wait_for_output("ready");
    for number in numbers {
        signal_number(daemon.pid(), &number);
        daemon.wait_for_output(&format!("got {number}."));
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

fn signal_number(pid: i32, number: &str) {
    let sent = Command::new("kill").args(["-s", number, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn limits_and_broken_pipes_do_not_end_taskbeat() {
    let endpoint = Endpoint::ok();
    let daemon = start(Taskbeat::run(&endpoint));
    for signal in [Signal::PIPE, Signal::XCPU, Signal::XFSZ] {
        daemon.signal(signal);
    }
    endpoint.wait_for_more(2);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

#[test]
fn a_flood_of_signals_starves_neither_heartbeats_nor_stops() {
    let endpoint = Endpoint::ok();
    let script = "trap '' WINCH USR1 QUIT CONT; trap 'exit 42' TERM; nap ready & wait; exit 99";
    let program = Taskbeat::run(&endpoint);
    let id = program.id();
    let mut daemon = program.script(script).start();
    daemon.wait_for_pid("ready");
    let pid = daemon.pid();
    let done = Arc::new(AtomicBool::new(false));
    let flood = {
        let done = Arc::clone(&done);
        let flood = [Signal::WINCH, Signal::USR1, Signal::CONT];
        thread::spawn(move || {
            // At most as long as a test may take.
            let until = Instant::now() + Duration::from_mins(1);
            while !done.load(Ordering::Relaxed) && Instant::now() < until {
                for each in flood {
                    signal(pid, each);
                }
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    endpoint.wait_for_more(10);
    let status = Taskbeat::new("status").set("--taskrunner-id", id).finish();
    assert_eq!(status.status, 0, "{status:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), 42);
    done.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

fn pid_of_runner(daemon: &Daemon) -> i32 {
    let line = daemon.wait_for_log("the runner is running");
    line.rsplit('=').next().unwrap().parse().unwrap()
}

#[test]
fn a_heartbeat_that_was_due_while_taskbeat_was_stopped_goes_out_at_once() {
    // Long enough for a machine that is busy, and the next heartbeat would be that far away.
    const INTERVAL: Duration = Duration::from_secs(4);
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--interval", "4s").start();
    daemon.wait_for_log("heartbeat acknowledged");
    daemon.signal(Signal::STOP);
    eventually("taskbeat is stopped", || state_of(daemon.pid()) == 'T');
    thread::sleep(INTERVAL);
    assert_eq!(endpoint.requests().len(), 1);
    let continued = Instant::now();
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
        daemon.signal(Signal::TERM);
        let finished = daemon.finish();
        assert_eq!(finished.status, 42, "{finished:?}");
    }
}
