//! Resources that the host runs out of.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tokio::time::Instant;

use super::calls::ABORT;
use super::{FEW, MANY, survives_with};
use crate::harness::{
    Daemon, Endpoint, OTHER_USER, Response, Step, Taskbeat, children, descriptors, eventually,
    in_parallel, is_alive, processor_time, runner, signal, wait_for_end,
};

/// Sets the soft limit of a running daemon to `most`. As its own user, because others may not.
fn limit(pid: i32, user: &[&str], most: &str) {
    let pid = pid.to_string();
    let words = [user, &["prlimit", "--pid", &pid, most]].concat();
    let status = Command::new(words[0]).args(&words[1..]).status();
    assert!(status.unwrap().success(), "{words:?}");
}

/// Waits until the next heartbeat is in flight. What this returns makes the endpoint answer it with
/// `response`.
fn in_flight(endpoint: &Endpoint, response: Response) -> Sender<()> {
    let (answer, now) = channel();
    let now = Mutex::new(now);
    endpoint.switch_to(Step::handler(move |_| {
        // It fails if the test fails, which drops the sender.
        let _ = now.lock().unwrap().recv();
        response.clone()
    }));
    endpoint.wait_for_more(1);
    answer
}

const FEW_FILES: &str = "--nofile=3:";
const MANY_FILES: &str = "--nofile=1000:";
const NO_FORK: &str = "--nproc=1:";

#[test]
fn descriptors_that_are_exhausted() {
    let endpoint = Endpoint::play([Step::Ok], Step::OkAndClose);
    let program =
        Taskbeat::run(&endpoint).set("--interval", "2s").flag("-v").script(runner::OBEDIENT);
    let id = program.id();
    let daemon = program.start();
    daemon.wait_for_log("heartbeat acknowledged");
    limit(daemon.pid(), &[], FEW_FILES);
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(line.contains("Too many open files (os error 24)"), "{line}");
    // A status request that cannot be accepted stays pending, and must not make the loop spin.
    let (before, start) = (processor_time(daemon.pid()), Instant::now());
    let status = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", &id);
    let finished = status.finish();
    assert_eq!(finished.status, 69, "{finished:?}");
    // A loop that spins uses a processor, and heartbeats that fail use little of one.
    let busy = Duration::from_millis(10 * (processor_time(daemon.pid()) - before));
    let lasted = start.elapsed();
    assert!(busy < lasted / 3, "{busy:?} of {lasted:?}");
    limit(daemon.pid(), &[], MANY_FILES);
    survives_with(&endpoint, daemon, 1);
}

#[test]
fn terminate_is_obeyed_without_descriptors() {
    for scope in ["group", "process"] {
        let endpoint = Endpoint::ok();
        let daemon = Taskbeat::run(&endpoint)
            .set("--on-terminate", "echo hook")
            .set("--stop-scope", scope)
            .script(runner::PLAIN)
            .start();
        let runner = daemon.wait_for_pid("ready");
        daemon.wait_for_log("heartbeat acknowledged");
        let answer = in_flight(&endpoint, Response::acknowledge(true));
        limit(daemon.pid(), &[], FEW_FILES);
        answer.send(()).unwrap();
        // The grace is an hour, so the stop signal ended the runner.
        let finished = daemon.finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let words = "WARN on-terminate: cannot run /bin/sh";
        assert!(finished.stderr.contains(words), "{finished:?}");
        assert!(!is_alive(runner));
    }
}

#[test]
fn a_runner_that_does_not_stop_is_killed_without_descriptors() {
    let endpoint = Endpoint::ok();
    let deaf = "trap '' TERM; (nap member) & nap ready";
    let daemon = Taskbeat::run(&endpoint).set("--grace", "100ms").script(deaf).start();
    let runner = [daemon.wait_for_pid("ready"), daemon.wait_for_pid("member")];
    daemon.wait_for_log("heartbeat acknowledged");
    let answer = in_flight(&endpoint, Response::acknowledge(true));
    limit(daemon.pid(), &[], FEW_FILES);
    answer.send(()).unwrap();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    for process in runner {
        wait_for_end(process);
    }
}

#[test]
fn a_start_without_descriptors() {
    let endpoint = Endpoint::ok();
    let start = |most: &str| {
        Taskbeat::run(&endpoint).via(&["prlimit", most]).script(runner::OBEDIENT).finish()
    };
    // Too few for taskbeat, and too few for the runner.
    for most in 3..=14 {
        let finished = start(&format!("--nofile={most}:{most}"));
        assert!(
            [70, 127].contains(&finished.status) || finished.stderr.contains("shared libraries"),
            "{most}: {finished:?}"
        );
    }
}

/// A daemon of another user than root, whose processes the kernel does not limit. With the words
/// that run a program as that user.
fn as_user(endpoint: &Endpoint) -> (Taskbeat, &'static [&'static str]) {
    let program = Taskbeat::run(endpoint);
    if geteuid().is_root() { (program.by_other_user(), &OTHER_USER) } else { (program, &[]) }
}

#[test]
fn terminate_is_obeyed_when_fork_is_refused() {
    let endpoint = Endpoint::ok();
    let (program, user) = as_user(&endpoint);
    let daemon = program.set("--on-terminate", "echo hook").script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    daemon.wait_for_log("heartbeat acknowledged");
    let answer = in_flight(&endpoint, Response::acknowledge(true));
    limit(daemon.pid(), user, NO_FORK);
    answer.send(()).unwrap();
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(finished.text().lines().last(), Some("stopped"), "{finished:?}");
    let words =
        "WARN on-terminate: cannot run /bin/sh: Resource temporarily unavailable (os error 11)";
    assert!(finished.stderr.contains(words), "{finished:?}");
}

#[test]
fn heartbeats_fail_while_threads_are_refused() {
    let endpoint = Endpoint::ok();
    let (program, user) = as_user(&endpoint);
    let daemon = program.flag("-v").script(runner::OBEDIENT).start();
    let runner = daemon.wait_for_pid("ready");
    daemon.wait_for_log("heartbeat acknowledged");
    limit(daemon.pid(), user, NO_FORK);
    let line = daemon.wait_for_log("WARN heartbeat failed");
    let words = ": cannot start a thread: Resource temporarily unavailable (os error 11)";
    assert!(line.ends_with(words), "{line}");
    daemon.wait_for_lines("failed again", MANY / 2);
    assert!(is_alive(runner));
    limit(daemon.pid(), user, "--nproc=10000:");
    survives_with(&endpoint, daemon, 1);
}

#[test]
fn a_start_when_fork_is_refused() {
    let endpoint = Endpoint::ok();
    let (program, _) = as_user(&endpoint);
    let finished = program.via(&["prlimit", "--nproc=1:1"]).script(runner::OBEDIENT).finish();
    assert_eq!(finished.status, 70, "{finished:?}");
    assert!(finished.stderr.contains("Resource temporarily unavailable"), "{finished:?}");
    assert!(endpoint.requests().is_empty());
}

const NO_MEMORY: &str = "--as=1:";
const ENOUGH: &str = "--as=unlimited:";

/// Without memory, a heartbeat is sent, fails or waits.
fn heartbeats_or_waits(daemon: &Daemon) -> usize {
    let log = daemon.log();
    log.matches(" heartbeat ").count() + log.matches("out of memory, waiting").count()
}

#[test]
fn memory_that_is_exhausted() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).flag("-v").script(runner::OBEDIENT).start();
    let runner = daemon.wait_for_pid("ready");
    daemon.wait_for_log("heartbeat acknowledged");
    limit(daemon.pid(), &[], NO_MEMORY);
    let before = heartbeats_or_waits(&daemon);
    eventually("a heartbeat without memory", || heartbeats_or_waits(&daemon) > before);
    assert!(is_alive(runner));
    limit(daemon.pid(), &[], ENOUGH);
    endpoint.wait_for_more(2);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
}

/// From too little for the loader to enough for every heartbeat. Later there is enough.
#[test]
fn a_start_with_too_little_memory() {
    let endpoint = Endpoint::ok();
    let waits = AtomicUsize::new(0);
    in_parallel(24..48, |megabytes| {
        // The shell shows which signal ended taskbeat.
        let daemon = Taskbeat::run(&endpoint)
            .via(&["sh", "-c", "\"$@\"; exit $?", "sh"])
            .via(&["prlimit", &format!("--as={megabytes}000000:")])
            .script(runner::PLAIN)
            .start();
        let begins = || heartbeats_or_waits(&daemon) > 0 || !is_alive(daemon.pid());
        eventually("taskbeat begins or ends", begins);
        let taskbeat = children(daemon.pid());
        for pid in &taskbeat {
            let _ = Command::new("prlimit").args(["--pid", &pid.to_string(), ENOUGH]).status();
        }
        let beats = || daemon.log().contains("heartbeat acknowledged");
        eventually("heartbeats or the end", || beats() || !is_alive(daemon.pid()));
        for pid in taskbeat {
            signal(pid, Signal::TERM);
        }
        let finished = daemon.finish();
        let has = |words| finished.stderr.contains(words);
        let holds = match finished.status {
            143 => has("heartbeat acknowledged"),
            70 | 127 => !finished.stderr.is_empty() && !has("the runner is running"),
            // The C library can abort at the start of a thread.
            ABORT => has("Fatal glibc error") || !has("the runner is running"),
            _ => false,
        };
        assert!(holds, "{megabytes} MB: {finished:?}");
        waits.fetch_add(usize::from(has("out of memory, waiting")), Ordering::Relaxed);
    });
    assert!(waits.into_inner() > 0, "no daemon had to wait for memory");
}

/// `RUST_MIN_STACK` is meant for a runner in Rust, which gets it.
#[test]
fn a_small_stack_for_the_runners_threads() {
    for stack in ["1", "65536"] {
        let endpoint = Endpoint::play([], Step::fault());
        let script = format!("echo stack $RUST_MIN_STACK; {}", runner::OBEDIENT);
        let daemon = Taskbeat::run(&endpoint).env("RUST_MIN_STACK", stack).script(&script).start();
        daemon.wait_for_output(&format!("stack {stack}"));
        survives_with(&endpoint, daemon, FEW);
    }
}

#[test]
fn a_disk_that_is_full() {
    let endpoint = Endpoint::play([Step::fault(), Step::Ok, Step::deny()], Step::Ok);
    let daemon = Taskbeat::run(&endpoint)
        .via(&["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"])
        .flag("-vv")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(MANY);
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(finished.text().lines().last(), Some("stopped"));
}

#[test]
fn a_disk_that_is_full_for_a_while() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let path = program.home().join("log");
    let log = || fs::read_to_string(&path).unwrap_or_default();
    // A file size limit behaves like a full disk if the signal that comes with it is ignored.
    let daemon = program
        .via(&["env", "--ignore-signal=XFSZ"])
        .via(&["sh", "-c", "exec \"$@\" 2>log", "sh"])
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    eventually("a heartbeat is acknowledged", || log().contains("heartbeat acknowledged"));
    // A part of the next line fits.
    limit(daemon.pid(), &[], &format!("--fsize={}:", log().len() + 10));
    endpoint.switch_to(Step::fault());
    endpoint.wait_for_more(MANY);
    assert!(!log().contains("heartbeat failed"), "{}", log());
    limit(daemon.pid(), &[], "--fsize=unlimited:");
    eventually("lost lines are counted", || log().contains("log lines so far"));
    eventually("the failure is logged again", || log().contains("WARN heartbeat failed"));
    assert!(log().lines().all(|line| line.starts_with("20")), "{}", log());
    endpoint.switch_to(Step::Terminate);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn a_log_that_is_not_read_for_a_while() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint);
    let path = daemon.home().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // The pipe is full from the start.
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let mut full: File = options.open(&path).unwrap();
    while full.write(&[b'\n'; 4096]).is_ok() {}
    while full.write(b"\n").is_ok() {}
    let daemon = daemon
        .via(&["sh", "-c", "exec \"$@\" 2>pipe", "sh"])
        .set("--interval", "10ms")
        .flag("-vv")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    // Each logs more than one line, of which 1,000 are kept and the others are dropped.
    endpoint.wait_for(700);
    let reader = BufReader::new(File::open(&path).unwrap());
    let counted = reader.lines().map(Result::unwrap).find(|line| line.contains("log lines so far"));
    assert!(counted.unwrap().contains("stderr blocked or disk full"));
    assert!(descriptors(daemon.pid()) < 30);
    // The reader of stdout is not held up.
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(finished.text().lines().last(), Some("stopped"));
}
