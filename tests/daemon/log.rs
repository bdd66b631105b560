//! The lines of the log: their format, their level, and a reader that does not read.

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Endpoint, Step, Taskbeat, runner, skip_without, text};

#[test]
fn every_line_of_the_json_format_is_an_object() {
    let message = "It is \"quoted\",\nand \u{1b}[31mcoloured";
    let deny = Step::error(400, "AccessDeniedException", message);
    let endpoint = Endpoint::play([deny, Step::throttle(), Step::Ok], Step::Terminate);
    let finished = Taskbeat::run(&endpoint)
        .set("--log-format", "json")
        .flag("-vv")
        .script(runner::PLAIN)
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let lines: Vec<Value> = finished
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for key in ["timestamp", "level", "message"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    let messages = lines.iter().filter_map(|line| line["message"].as_str());
    let messages: Vec<_> = messages.collect();
    for (text, count) in [(text::RUNNER_STARTED, 1), (text::FAILED, 2), (text::ACKNOWLEDGED, 2)] {
        let found = messages.iter().filter(|message| message.contains(text));
        assert_eq!(found.count(), count, "{text}: {messages:?}");
    }
}

#[test]
fn the_status_of_a_child_is_logged_and_that_of_an_attached_runner_is_unknown() {
    for attached in [false, true] {
        let endpoint = Endpoint::play([Step::Ok], Step::Terminate);
        let program = Taskbeat::run(&endpoint);
        let finished = if attached {
            let words = ["sh", "-c", r#"sleep 1000 & exec "$@" --pid $!"#, "sh"];
            program.via(&words).finish()
        } else {
            program.script(runner::PLAIN).finish()
        };
        assert_eq!(finished.status, 0, "{finished:?}");
        let fields = |text| {
            let lines = finished.stderr.lines();
            let found = lines.filter_map(|line| line.split_once(text));
            found.map(|(_, fields)| fields.trim().to_owned()).collect::<Vec<_>>()
        };
        let [pid] = &fields(text::RUNNER_STARTED)[..] else {
            panic!("{finished:?}");
        };
        let status = if attached { "" } else { "status=143 " };
        assert_eq!(fields(text::RUNNER_ENDED), [format!("{status}{pid}")]);
    }
}

#[test]
fn control_characters_of_the_service_do_not_reach_the_terminal() {
    let message = "first\nsecond \u{1b}[2J\r\u{7}third";
    let endpoint = Endpoint::play([], Step::error(400, "AccessDeniedException", message));
    let daemon = Taskbeat::run(&endpoint).start();
    let line = daemon.wait_for_log(text::FAILED);
    assert!(line.contains("AccessDeniedException"), "{line}");
    endpoint.wait_for(2);
    let log = daemon.log();
    assert!(!log.contains('\u{1b}'), "{log}");
    // Each line begins with a timestamp.
    assert!(log.lines().all(|line| line.starts_with("20")), "{log}");
}

#[test]
fn a_long_message_of_the_service_is_cut() {
    let message = "ä".repeat(20_000);
    let endpoint = Endpoint::play([], Step::error(400, "AccessDeniedException", &message));
    let daemon = Taskbeat::run(&endpoint).start();
    let line = daemon.wait_for_log(text::FAILED);
    assert!(line.contains("AccessDeniedException: ää"), "{line}");
    let length = line.chars().filter(|letter| *letter == 'ä').count();
    assert!((900..1_000).contains(&length), "{length}");
}

#[test]
fn the_level_selects_the_lines() {
    for (level, logs) in [("off", false), ("error", false), ("info", true)] {
        let endpoint = Endpoint::play([], Step::Terminate);
        let finished = Taskbeat::run(&endpoint).set("--log", level).finish();
        assert_eq!(finished.status, 0, "{level}: {finished:?}");
        let info = finished.stderr.contains(text::TASKBEAT_STARTED);
        assert_eq!(info, logs, "{level}: {finished:?}");
        assert_eq!(!finished.stderr.is_empty(), logs, "{level}: {finished:?}");
    }
}

#[test]
fn a_blocked_stderr_stops_neither_the_runner_nor_the_heartbeats() {
    let endpoint = Endpoint::ok();
    // The shell keeps the other end of a full pipe open and never reads it.
    let full = "exec 3<>pipe; dd if=/dev/zero of=pipe bs=4096 oflag=nonblock count=64 2>dd; \
                exec \"$@\" 2>pipe";
    let program = Taskbeat::run(&endpoint);
    let pipe = program.home().join("pipe");
    let made = Command::new("mkfifo").arg(pipe).status().unwrap();
    assert!(made.success());
    let daemon = program
        .via(&["sh", "-c", full, "sh"])
        .set("--interval", "20ms")
        .flag("-vv")
        .script("exec 3>&-; trap 'echo stopped; exit 42' TERM; nap ready & wait; exit 99")
        .start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(50);
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(finished.text().lines().last(), Some("stopped"));
}

/// Makes the pipe that it shares with taskbeat small and, as Node does, non-blocking. Then sleeps.
const NON_BLOCKING: &str = r#"
    use Fcntl; $| = 1; my $set_size = 1031;
    fcntl(STDERR, $set_size, 4096) or die; fcntl(STDERR, F_SETFL, O_NONBLOCK) or die;
    $SIG{TERM} = sub { exit 42 }; print "ready $$\n"; sleep 120 while 1;"#;

#[test]
fn no_line_is_lost_if_the_runner_makes_stderr_non_blocking() {
    if Command::new("perl").arg("-e1").status().is_err() {
        return skip_without("perl");
    }
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let pipe = program.home().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let opened = pipe.clone();
    // It reads nothing before the pipe has been full for many heartbeats.
    let (start, wait) = channel();
    let reader = thread::spawn(move || {
        let mut reader = File::open(opened).unwrap();
        wait.recv().unwrap();
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        log
    });
    let mut daemon = program
        .via(&["sh", "-c", "exec \"$@\" 2>pipe", "sh"])
        .set("--interval", "10ms")
        .command(&["perl", "-e", NON_BLOCKING])
        .start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(200);
    start.send(()).unwrap();
    endpoint.wait_for_more(5);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), 42);
    let log = reader.join().unwrap();
    let acknowledged = log.matches(text::ACKNOWLEDGED).count();
    assert!(acknowledged >= 200, "{acknowledged} of 200 lines: {log}");
    assert!(!log.contains("dropped"), "{log}");
}
