//! What a command prints: a reader that closes it early or does not read, and a disk that is full.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::{ioctl_fionbio, ioctl_fionread};
use rustix::process::Signal;

use crate::harness::{Daemon, Endpoint, Step, Taskbeat, eventually, text, wait_for_end};

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
            ("check --help", Taskbeat::new("check").flag("--help")),
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

/// Writes stderr to a full disk.
fn without_stderr(program: Taskbeat) -> Taskbeat {
    program.via(&["sh", "-c", r#"exec "$@" 2>/dev/full"#, "sh"])
}

#[test]
fn a_stderr_on_a_full_disk_keeps_no_json_from_stdout() {
    let rehearsal = Taskbeat::new("rehearse").set("--script", "ok,terminate").flag("--json");
    let finished = without_stderr(rehearsal.command(&["sleep", "120"])).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains(r#""passed":true"#), "{finished:?}");
}

#[test]
fn a_usage_error_is_one_even_if_it_cannot_be_printed() {
    let finished = without_stderr(Taskbeat::new("run").flag("--nope")).finish();
    assert_eq!(finished.status, 64, "{finished:?}");
}

/// A pipe with room for this many bytes, which is not read.
fn full_pipe(room: usize) -> (io::PipeReader, io::PipeWriter) {
    let (mut reader, mut writer) = io::pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    ioctl_fionbio(&writer, false).unwrap();
    let size = ioctl_fionread(&reader).unwrap();
    let mut full = vec![0; usize::try_from(size).unwrap()];
    reader.read_exact(&mut full).unwrap();
    writer.write_all(&full[room..]).unwrap();
    (reader, writer)
}

#[test]
fn a_signal_ends_a_run_whose_errors_are_not_read() {
    let (reader, writer) = full_pipe(300);
    let before = ioctl_fionread(&reader).unwrap();
    // The first error has room, the others have not.
    let wrong = "x".repeat(200);
    let daemon = Taskbeat::new("run")
        .set("--grace", &wrong)
        .set("--interval", &wrong)
        .set("--jitter", &wrong)
        .via(&["sh", "-c", r#"exec "$@" 2>&1"#, "sh"])
        .stdout(writer)
        .start();
    eventually("an error is printed", || ioctl_fionread(&reader).unwrap() > before);
    daemon.signal(Signal::TERM);
    wait_for_end(daemon.pid());
}

#[test]
fn a_signal_ends_a_rehearsal_whose_report_is_not_read() {
    let (_reader, writer) = full_pipe(0);
    let daemon = Taskbeat::new("rehearse")
        .set("--script", "terminate")
        .flag("--json")
        .command(&["sleep", "120"])
        // The pipe becomes stderr.
        .via(&["sh", "-c", r#"exec "$@" 3>&1 1>&2 2>&3 3>&-"#, "sh"])
        .stdout(writer)
        .start();
    daemon.wait_for_log(r#""passed":true"#);
    daemon.signal(Signal::TERM);
    wait_for_end(daemon.pid());
}
