//! What systemd is told, by a socket that plays it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::{Endpoint, PATIENCE, Play, Taskbeat, runner};

struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: TempDir,
}

impl Systemd {
    fn listen() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            path,
            _directory: directory,
        }
    }

    /// The next datagram.
    fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The datagrams that are there already.
    fn heard(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let next = || {
            self.socket
                .recv(&mut buffer)
                .ok()
                .map(|length| String::from_utf8(buffer[..length].to_vec()).unwrap())
        };
        std::iter::from_fn(next).collect()
    }

    /// The next datagram with a line that begins so; those before it are returned, too.
    fn hear_until(&self, line: &str) -> Vec<String> {
        self.hear_until_line(|said| said.starts_with(line))
    }

    /// The next datagram with such a line; those before it are returned, too.
    fn hear_until_line(&self, is_it: impl Fn(&str) -> bool) -> Vec<String> {
        let start = Instant::now();
        let mut heard = Vec::new();
        while start.elapsed() < PATIENCE {
            let datagram = self.hear();
            let found = datagram.lines().any(&is_it);
            heard.push(datagram);
            if found {
                return heard;
            }
        }
        panic!("it is not among {heard:?}");
    }
}

#[test]
fn we_are_ready_when_the_runner_runs() {
    let systemd = Systemd::listen();
    let endpoint = Endpoint::play([], Play::Hang);
    let daemon = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", &systemd.path)
        .script(runner::PLAIN)
        .start();
    let heard = systemd.hear_until("READY=1");
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = std::fs::read_to_string(children).unwrap();
    assert!(!children.is_empty(), "{heard:?}");
    assert!(!heard.concat().contains("STOPPING"), "{heard:?}");
}

#[test]
fn we_are_ready_without_a_runner_and_without_a_service() {
    let systemd = Systemd::listen();
    let closed = Endpoint::closed();
    let daemon = Taskbeat::new("run")
        .to(&closed.url())
        .env("NOTIFY_SOCKET", &systemd.path)
        .start();
    systemd.hear_until("READY=1");
    systemd.hear_until("STATUS=running");
    drop(daemon);
}

#[test]
fn we_are_never_ready_when_the_runner_cannot_be_started() {
    let systemd = Systemd::listen();
    let endpoint = Endpoint::ok();
    let finished = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", &systemd.path)
        .command(&["/nonexistent/runner"])
        .finish();
    assert_eq!(finished.status, 127, "{finished:?}");
    let heard = systemd.heard();
    assert!(!heard.concat().contains("READY=1"), "{heard:?}");
}

#[test]
fn a_runner_that_ends_at_once_has_been_ready() {
    for _ in 0..5 {
        let systemd = Systemd::listen();
        let endpoint = Endpoint::play([], Play::Hang);
        let finished = Taskbeat::run(&endpoint)
            .env("NOTIFY_SOCKET", &systemd.path)
            .command(&["true"])
            .finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let heard = systemd.heard();
        assert!(heard.concat().contains("READY=1"), "{heard:?}");
    }
}

#[test]
fn a_stop_is_announced_together_with_the_time_it_may_take() {
    for terminate in [false, true] {
        let systemd = Systemd::listen();
        let endpoint = Endpoint::ok();
        let mut daemon = Taskbeat::run(&endpoint)
            .with_stdin()
            .set("--grace", "77s")
            .env("NOTIFY_SOCKET", &systemd.path)
            .script(runner::DRAINING)
            .start();
        daemon.wait_for_pid("ready");
        if terminate {
            endpoint.now_play(Play::Terminate);
        } else {
            daemon.signal(Signal::TERM);
        }
        let heard = systemd.hear_until("STOPPING=1");
        let stopping = heard.last().unwrap();
        let micros = stopping
            .lines()
            .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="))
            .unwrap_or_else(|| panic!("{stopping}"));
        let micros: u64 = micros.parse().unwrap();
        // All that may be needed, and not for ever.
        assert!(micros >= 77_000_000, "{stopping}");
        assert!(micros <= 77_000_000 + 60_000_000, "{stopping}");
        daemon.wait_for_output("draining");
        daemon.say(b"go\n");
        daemon.wait();
    }
}

#[test]
fn the_status_tells_how_the_heartbeats_fare() {
    let systemd = Systemd::listen();
    let endpoint = Endpoint::play([], Play::deny());
    let daemon = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", &systemd.path)
        .start();
    let failing = |line: &str| line.contains("failed: AccessDeniedException");
    systemd.hear_until_line(failing);
    endpoint.now_play(Play::Ok);
    systemd.hear_until_line(|line| line.contains("acknowledged") && !failing(line));
    drop(daemon);
}

#[test]
fn a_socket_that_nobody_listens_to_is_no_reason_to_fail() {
    let systemd = Systemd::listen();
    let deaf = systemd.path.clone();
    // The name stays, the socket behind it is closed.
    drop(systemd.socket);
    let missing = PathBuf::from("/nonexistent/notify");
    for path in [deaf, missing, PathBuf::from("not a path"), PathBuf::new()] {
        let endpoint = Endpoint::play([Play::Ok], Play::Terminate);
        let finished = Taskbeat::run(&endpoint)
            .env("NOTIFY_SOCKET", path)
            .script(runner::PLAIN)
            .finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert_eq!(endpoint.requests().len(), 2);
    }
}

#[test]
fn a_socket_that_is_never_read_does_not_stop_us() {
    let systemd = Systemd::listen();
    // The kernel keeps some datagrams for a reader that is late; these are more.
    systemd.socket.set_nonblocking(true).unwrap();
    let stuffing = UnixDatagram::unbound().unwrap();
    stuffing.set_nonblocking(true).unwrap();
    while stuffing.send_to(b"STATUS=full", &systemd.path).is_ok() {}
    let endpoint = Endpoint::play([Play::Ok], Play::Terminate);
    let finished = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", &systemd.path)
        .script(runner::PLAIN)
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
}
