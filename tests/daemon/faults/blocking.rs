//! Files that block their reader, as on a hung network file system: an inherited pipe in their
//! place, to which the test writes nothing. What is no file is refused, and blocks nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use tokio::time::Instant;

use super::{FEW, keys, once_fails, survives_with, without_keys};
use crate::harness::{Daemon, Endpoint, Step, Taskbeat, is_alive, replace_file, runner};

/// Puts the program's stdin into the place of a file.
fn block(path: &Path) {
    let _ = fs::remove_file(path);
    symlink("/dev/stdin", path).unwrap();
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
            let program = without_keys(Taskbeat::new(subcommand)).flag(flag).with_stdin();
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

/// A daemon that has read a good file. Because the service fails, it reads again, and is blocked.
fn blocked(case: &Case, endpoint: &Endpoint) -> Daemon {
    let program = without_keys(Taskbeat::run(endpoint))
        .flag("-v")
        .set("--interval", "1s")
        .with_stdin()
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
    let program = without_keys(Taskbeat::run(&endpoint)).flag("-v").with_stdin();
    let path = program.home().join(case.file);
    block(&path);
    let mut daemon = (case.prepare)(program.script(runner::OBEDIENT), &path).start();
    daemon.wait_for_lines(": not tried: 4 earlier attempts still hang", FEW);
    replace_file(&path, &case.good);
    // It ends the reads that hang.
    daemon.close_stdin();
    survives_with(&endpoint, daemon, FEW);
}

#[test]
fn a_stop_while_a_file_blocks() {
    let endpoint = Endpoint::ok();
    let [case, ..] = cases();
    let program = without_keys(Taskbeat::run(&endpoint)).with_stdin();
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

/// What can be in the place of a file: how a message names it.
const NO_FILES: [&str; 4] =
    ["it is a FIFO", "it is a socket", "it is a device", "it is longer than 1 MiB"];

/// Makes one of [`NO_FILES`].
fn make(name: &str, path: &Path) {
    match name {
        "it is a FIFO" => mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap(),
        "it is a socket" => drop(UnixListener::bind(path).unwrap()),
        "it is a device" => symlink("/dev/zero", path).unwrap(),
        _ => fs::write(path, "#".repeat(1 << 20)).unwrap(),
    }
}

#[test]
fn what_is_no_file_is_refused() {
    for reason in NO_FILES {
        for case in cases() {
            let program = without_keys(Taskbeat::new("once"));
            let path = program.home().join(case.file);
            make(reason, &path);
            let message = once_fails((case.prepare)(program, &path), 69);
            let path = path.display().to_string();
            assert!(message.contains(&path) && message.ends_with(reason), "{message}");
        }
        let program = Taskbeat::new("check").flag("--online").to("https://127.0.0.1:9");
        let path = program.home().join("bundle");
        make(reason, &path);
        let message = once_fails(program.env("AWS_CA_BUNDLE", &path), 69);
        let path = path.display();
        let words = format!("no certificate in {path} (AWS_CA_BUNDLE or ca_bundle): {reason}");
        assert!(message.ends_with(&words), "{message}");
    }
}

#[test]
fn heartbeats_recover_when_a_file_replaces_a_fifo() {
    let [case, ..] = cases();
    let endpoint = Endpoint::ok();
    let program = without_keys(Taskbeat::run(&endpoint)).flag("-v");
    let path = program.home().join(case.file);
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    let daemon = (case.prepare)(program.script(runner::OBEDIENT), &path).start();
    // More attempts than threads may hang.
    let words = format!("cannot read {} (AWS_CONFIG_FILE): it is a FIFO", path.display());
    daemon.wait_for_lines(&words, 2 * FEW);
    replace_file(&path, &case.good);
    survives_with(&endpoint, daemon, 1).line();
}

#[test]
fn dev_null_is_an_empty_file() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::new("once").to(&endpoint.url()).set("--config", "/dev/null");
    let program = program.env("AWS_CONFIG_FILE", "/dev/null");
    let finished = program.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
}
