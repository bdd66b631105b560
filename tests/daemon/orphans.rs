//! Descendants that left the runner's group, session or parent still belong to the runner.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    Endpoint, Step, Taskbeat, children, eventually, group_of, is_alive, marked, skip_without,
};

/// A traditional daemon: it forks twice and leads a session of its own.
const DAEMON: &str =
    "(setsid sh -c '(nap() { exec sh -c \"echo daemon \\$\\$; exec sleep 120\"; }; nap) &' &)";

#[test]
fn a_daemon_of_the_runner_becomes_a_child_of_taskbeat_and_is_stopped() {
    for terminate in [false, true] {
        let endpoint = Endpoint::ok();
        let script = format!("{DAEMON}; trap 'exit 42' TERM; nap ready & wait; exit 99");
        let mut running = Taskbeat::run(&endpoint).script(&script).start();
        running.wait_for_pid("ready");
        let daemon = running.wait_for_pid("daemon");
        eventually("it is a child of taskbeat", || children(running.pid()).contains(&daemon));
        if terminate {
            endpoint.switch_to(Step::Terminate);
        } else {
            running.signal(Signal::TERM);
        }
        assert_eq!(running.wait(), if terminate { 0 } else { 42 });
        assert!(!is_alive(daemon));
        let log = running.finish().stderr;
        assert!(log.contains(&format!("[{daemon}]")), "{log}");
        assert!(!log.contains("SIGKILL to"), "{log}");
    }
}

#[test]
fn what_left_the_group_gets_the_stop_signal_when_the_leader_has_exited() {
    let endpoint = Endpoint::ok();
    let script = format!(
        "{DAEMON}; trap 'echo draining; read -r go; echo drained; exit 42' TERM
        nap ready & wait; exit 99"
    );
    let mut running = Taskbeat::run(&endpoint).with_stdin().script(&script).start();
    running.wait_for_pid("ready");
    let daemon = running.wait_for_pid("daemon");
    running.signal(Signal::TERM);
    running.wait_for_output("draining");
    endpoint.wait_for_more(2);
    assert!(is_alive(daemon));
    running.write_stdin(b"go\n");
    assert_eq!(running.wait(), 42);
    assert!(!is_alive(daemon));
}

#[test]
fn every_process_of_a_tree_that_ignores_the_stop_is_killed_and_named() {
    let endpoint = Endpoint::ok();
    // Each level leads a session and outlives its parent, and all of them ignore the stop signal.
    let script = "trap '' TERM
        leave() { setsid sh -c 'echo '$1' $$; exec sleep 120' & }
        (leave one &) ; (leave two; (leave three &) &)
        trap 'exit 42' TERM; (trap '' TERM; nap ready) & wait; exit 99";
    let mut running = Taskbeat::run(&endpoint).set("--grace", "300ms").script(script).start();
    let words = ["one", "two", "three", "ready"];
    let pids = words.map(|word| running.wait_for_pid(word));
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), 42);
    let killed = running.wait_for_log("SIGKILL to ");
    for pid in pids {
        // Not even a zombie is left.
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(killed.contains(&format!("[{pid}]")), "{killed}");
    }
}

#[test]
fn what_forks_while_it_is_killed_does_not_get_away() {
    let endpoint = Endpoint::ok();
    let mark = format!("MARK_OF_TEST=forks-{}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    // A chain in which each link leads a session, starts the next one and exits. It ignores the
    // stop signal, and would end by itself after some seconds. Links without a nap exit before
    // /proc is read.
    for (nap, links) in [("sleep 0.02", 1000), (":", 5000)] {
        let link = format!(
            "{nap}; LINKS=$((LINKS + 1)); export LINKS
            [ $LINKS -gt {links} ] || setsid sh -c \"$LINK\" & exit"
        );
        let script =
            "(trap '' TERM; sh -c \"$LINK\") & trap 'exit 42' TERM; nap ready & wait; exit 99";
        let mut running = Taskbeat::run(&endpoint)
            .set("--grace", "100ms")
            .env("LINK", link)
            .env(name, value)
            .script(script)
            .start();
        running.wait_for_pid("ready");
        running.signal(Signal::TERM);
        let status = running.wait();
        let left = marked(&mark);
        assert_eq!((status, left), (42, vec![]), "{nap}");
    }
}

#[test]
fn a_grandchild_that_has_the_output_open_is_stopped() {
    let endpoint = Endpoint::ok();
    let script = "(setsid sh -c 'echo holder $$; exec sleep 120' &); read -r go; exit 5";
    let mut running = Taskbeat::run(&endpoint).with_stdin().script(script).start();
    let holder = running.wait_for_pid("holder");
    running.write_stdin(b"go\n");
    assert_eq!(running.wait(), 5);
    assert!(!is_alive(holder));
    let stopped = running.wait_for_log("the leader exited: stop signal to ");
    assert!(stopped.contains(&format!("[{holder}]")), "{stopped}");
}

#[test]
fn an_orphan_in_the_process_group_of_taskbeat_is_killed_and_named() {
    if Command::new("perl").arg("-e1").status().is_err() {
        return skip_without("perl");
    }
    let endpoint = Endpoint::ok();
    let joining = r#"
        $| = 1; $SIG{TERM} = "IGNORE"; exit if fork; select undef, undef, undef, 0.1;
        setpgrp(0, getpgrp($ENV{LEADER})) or die $!; print "joined $$\n"; sleep 120 while 1;"#;
    let script = "export LEADER=$PPID; perl -e \"$JOINING\"
        trap 'exit 42' TERM; nap ready & wait; exit 99";
    let mut running = Taskbeat::run(&endpoint)
        .env("JOINING", joining)
        .set("--grace", "300ms")
        .script(script)
        .start();
    running.wait_for_pid("ready");
    let orphan = running.wait_for_pid("joined");
    assert_eq!(group_of(orphan), group_of(running.pid()));
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), 42);
    assert!(!is_alive(orphan));
    running.wait_for_log(&format!("SIGKILL to perl[{orphan}]"));
}
