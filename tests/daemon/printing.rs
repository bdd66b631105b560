//! What a command prints on stdout: a reader that closes it early, and a disk that is full.

use std::fs::File;
use std::io;

use crate::harness::{Daemon, Endpoint, Step, Taskbeat, text};

/// An acknowledging endpoint and a daemon in contact with it.
struct Host {
    endpoint: Endpoint,
    _daemon: Daemon,
    id: String,
}

impl Host {
    fn start() -> Self {
        let endpoint = Endpoint::ok();
        let program = Taskbeat::run(&endpoint);
        let id = program.id();
        let daemon = program.start();
        daemon.wait_for_log(text::ACKNOWLEDGED);
        Self { endpoint, _daemon: daemon, id }
    }

    /// The commands that print on stdout, each with a name. All of them succeed.
    fn commands(&self) -> Vec<(&'static str, Taskbeat)> {
        let status = || Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", &self.id);
        // A runner that prints would get the error itself.
        let rehearsal =
            Taskbeat::new("rehearse").set("--script", "ok,terminate").command(&["sleep", "120"]);
        vec![
            ("status", status()),
            ("status --json", status().flag("--json")),
            ("check", Taskbeat::new("check")),
            ("once", Taskbeat::new("once").to(&self.endpoint.url())),
            ("rehearse", rehearsal),
        ]
    }
}

/// A pipe whose reader is gone, as in `taskbeat status | grep -q …` after the match.
fn closed_pipe() -> io::PipeWriter {
    let (_, writer) = io::pipe().unwrap();
    writer
}

#[test]
fn a_reader_that_closes_stdout_early_is_no_error() {
    let host = Host::start();
    for (name, command) in host.commands() {
        let finished = command.stdout(closed_pipe()).finish();
        assert_eq!(finished.status, 0, "{name}: {finished:?}");
        for word in ["panicked", "pipe"] {
            assert!(!finished.stderr.contains(word), "{name}: {finished:?}");
        }
    }
}

#[test]
fn a_reader_that_closes_stdout_early_does_not_change_the_status() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let once = Taskbeat::new("once").to(&endpoint.url());
    let finished = once.stdout(closed_pipe()).finish();
    assert_eq!(finished.status, 10, "{finished:?}");
}

#[test]
fn a_full_disk_is_one_plain_line_and_a_failure() {
    let host = Host::start();
    for (name, command) in host.commands() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let finished = command.stdout(full).finish();
        assert_ne!(finished.status, 0, "{name}: {finished:?}");
        let log = &finished.stderr;
        assert!(!log.contains("panicked"), "{name}: {log}");
        let lines: Vec<_> = log.lines().collect();
        let errors = lines.iter().filter(|line| line.contains("No space left"));
        assert_eq!(errors.count(), 1, "{name}: {log}");
        let last = lines.last().unwrap();
        assert!(last.starts_with("taskbeat: "), "{name}: {log}");
        // Only a rehearsal logs.
        assert!(lines.len() == 1 || name == "rehearse", "{name}: {log}");
    }
}
