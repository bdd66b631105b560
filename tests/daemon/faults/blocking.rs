//! Files that block their reader, as on a hung network file system: FIFOs in their place.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::{FEW, keys, once_fails, survives_with, without_keys};
use crate::harness::{Daemon, Endpoint, Step, Taskbeat, is_alive, replace_file, runner};

/// Puts a FIFO without a writer into the place of a file.
fn block(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A file that taskbeat reads for each client, how to name it, and what the message says.
struct Case {
    file: &'static str,
    good: String,
    prepare: fn(Taskbeat, &Path) -> Taskbeat,
    doing: &'static str,
}

fn cases() -> [Case; 4] {
    [
        Case {
            file: "config",
            good: keys("default", "AKIDCONFIG"),
            prepare: |program, file| program.env("AWS_CONFIG_FILE", file),
            doing: "reading PATH",
        },
        Case {
            file: "credentials",
            good: keys("default", "AKIDCREDENTIALS"),
            prepare: |program, file| program.env("AWS_SHARED_CREDENTIALS_FILE", file),
            doing: "reading PATH",
        },
        Case {
            file: "token",
            good: "TOKEN".to_owned(),
            prepare: |program, file| {
                program
                    .env("AWS_WEB_IDENTITY_TOKEN_FILE", file)
                    .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/runner")
            },
            doing: "getting credentials from web identity (token file PATH)",
        },
        Case {
            file: "token",
            good: "TOKEN".to_owned(),
            prepare: |program, file| {
                program
                    .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9")
                    .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file)
            },
            doing: "getting credentials from container (token file PATH)",
        },
    ]
}

#[test]
fn once_and_check_end_within_their_limit() {
    for case in cases() {
        for (subcommand, flag) in [("once", "-v"), ("check", "--online")] {
            let program = without_keys(Taskbeat::new(subcommand)).flag(flag);
            let path = program.home().join(case.file);
            block(&path);
            let start = Instant::now();
            let message = once_fails((case.prepare)(program, &path), 69);
            let took = start.elapsed();
            let doing = case.doing.replace("PATH", &path.display().to_string());
            assert_eq!(message, format!("taskbeat: timed out after 1s {doing}"));
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
    }
}

/// A daemon that reads a good file first, and then a FIFO because the service fails.
fn blocked(case: &Case, endpoint: &Endpoint) -> Daemon {
    let program = without_keys(Taskbeat::run(endpoint))
        .flag("-v")
        .set("--interval", "1s")
        .script(runner::OBEDIENT);
    let path = program.home().join(case.file);
    replace_file(&path, &case.good);
    let daemon = (case.prepare)(program, &path).start();
    daemon.wait_for_log("WARN heartbeat failed");
    block(&path);
    let doing = case.doing.replace("PATH", &path.display().to_string());
    daemon.wait_for_log(&format!(": timed out after 1s {doing}"));
    daemon
}

#[test]
fn the_rest_of_the_daemon_goes_on() {
    for case in cases() {
        let endpoint = Endpoint::play([], Step::fault());
        let daemon = blocked(&case, &endpoint);
        let runner = daemon.wait_for_pid("ready");
        // No more threads than four hang, and failures without a thread are failures, too.
        daemon.wait_for_lines(": not tried: 4 earlier attempts still hang", FEW);
        let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        assert!(threads.count() <= 8);
        assert!(is_alive(runner));
        daemon.signal(Signal::TERM);
        let finished = daemon.finish();
        assert_eq!(finished.status, 42, "{finished:?}");
    }
}

#[test]
fn heartbeats_recover_when_the_file_does() {
    let [case, ..] = cases();
    let endpoint = Endpoint::play([], Step::fault());
    let program = without_keys(Taskbeat::run(&endpoint)).flag("-v");
    let path = program.home().join(case.file);
    block(&path);
    let daemon = (case.prepare)(program.script(runner::OBEDIENT), &path).start();
    daemon.wait_for_lines(": not tried: 4 earlier attempts still hang", FEW);
    let fifo = path.with_extension("fifo");
    fs::rename(&path, &fifo).unwrap();
    replace_file(&path, &case.good);
    // A writer that leaves ends the reads that hang.
    drop(File::options().write(true).open(fifo).unwrap());
    survives_with(&endpoint, daemon, FEW);
}

#[test]
fn a_stop_while_a_file_blocks() {
    let endpoint = Endpoint::ok();
    let [case, ..] = cases();
    let program = without_keys(Taskbeat::run(&endpoint));
    let path = program.home().join(case.file);
    block(&path);
    // The heartbeat's limit is 30 s.
    let program = (case.prepare)(program, &path).set("--interval", "15m");
    let daemon = program.script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
}
