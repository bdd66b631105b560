//! What systemd is told, by a socket that plays it.

use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use taskbeat::status::{Phase, Snapshot, StopCause};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::{Endpoint, PATIENCE, Play, Taskbeat, runner};

struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: Option<TempDir>,
}

impl Systemd {
    fn listen() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::at(path, socket, Some(directory))
    }

    fn listen_abstractly() -> Self {
        let name = format!("taskbeat-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self::at(format!("@{name}").into(), socket, None)
    }

    fn at(path: PathBuf, socket: UnixDatagram, directory: Option<TempDir>) -> Self {
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
    systemd.hear_until("STATUS=not acknowledged yet");
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
        // All that may be needed, and not for ever.
        assert!((77..137).contains(&stop_time(&heard)), "{heard:?}");
        daemon.wait_for_output("draining");
        daemon.say(b"go\n");
        daemon.wait();
    }
}

#[test]
fn the_time_of_the_on_terminate_command_is_asked_for_too() {
    let systemd = Systemd::listen();
    let endpoint = Endpoint::play([], Play::Terminate);
    let daemon = Taskbeat::run(&endpoint)
        .set("--grace", "77s")
        .set("--on-terminate", "exec sleep 1000")
        .env("NOTIFY_SOCKET", &systemd.path)
        .script(runner::PLAIN)
        .start();
    let heard = systemd.hear_until("STOPPING=1");
    // Both of them may take their grace.
    assert!((154..214).contains(&stop_time(&heard)), "{heard:?}");
    drop(daemon);
}

#[test]
fn a_ladder_that_leaves_us_idle_is_no_stop() {
    let systemd = Systemd::listen();
    let endpoint = Endpoint::play([Play::Ok], Play::Terminate);
    let mut daemon = Taskbeat::run(&endpoint)
        .set("--after-terminate", "idle")
        .env("NOTIFY_SOCKET", &systemd.path)
        .script(runner::PLAIN)
        .start();
    let heard = systemd.hear_until("STATUS=terminated, idle").concat();
    assert!(!heard.contains("STOPPING"), "{heard}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_stop_makes_a_ladder_final_that_would_have_left_us_idle() {
    // In the ladder itself, and while the on-terminate command runs before it.
    for (hook, status) in [
        (false, "stopping the runner"),
        (true, "the on-terminate command runs"),
    ] {
        let systemd = Systemd::listen();
        let endpoint = Endpoint::ok();
        let mut program = Taskbeat::run(&endpoint)
            .with_stdin()
            .set("--after-terminate", "idle")
            .set("--grace", "77s")
            .env("NOTIFY_SOCKET", &systemd.path);
        if hook {
            program = program.set("--on-terminate", "exec sleep 1000");
        }
        let mut daemon = program.script(runner::DRAINING).start();
        daemon.wait_for_pid("ready");
        endpoint.now_play(Play::Terminate);
        let heard = systemd.hear_until(&format!("STATUS={status}")).concat();
        assert!(!heard.contains("STOPPING"), "{heard}");
        daemon.signal(Signal::TERM);
        let heard = systemd.hear_until("STOPPING=1");
        let time = if hook { 154..214 } else { 70..137 };
        assert!(time.contains(&stop_time(&heard)), "{heard:?}");
        if !hook {
            daemon.wait_for_output("draining");
            daemon.say(b"go\n");
            assert_eq!(daemon.wait(), 0);
        }
    }
}

/// For how many seconds the last of these datagrams asks.
fn stop_time(heard: &[String]) -> u64 {
    let stopping = heard.last().unwrap();
    let micros = stopping
        .lines()
        .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="))
        .unwrap_or_else(|| panic!("{stopping}"));
    micros.parse::<u64>().unwrap() / 1_000_000
}

#[test]
fn the_status_tells_how_the_heartbeats_fare() {
    let systemd = Systemd::listen();
    let endpoint = Endpoint::play([], Play::deny());
    let daemon = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", &systemd.path)
        .start();
    let failing = |line: &str| line.contains("AccessDeniedException");
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

#[test]
fn an_abstract_socket_is_one_like_any_other() {
    let systemd = Systemd::listen_abstractly();
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", &systemd.path)
        .start();
    systemd.hear_until("READY=1");
    drop(daemon);
}

#[test]
fn the_watchdog_is_content_however_long_the_service_is_away() {
    // No answer at all, and a wait of minutes after a throttle.
    for play in [Play::Hang, Play::throttle()] {
        let systemd = Systemd::listen();
        let endpoint = Endpoint::play([], play);
        let daemon = Taskbeat::run(&endpoint)
            .set("--interval", "15m")
            .env("NOTIFY_SOCKET", &systemd.path)
            .env("WATCHDOG_USEC", "20000")
            .start();
        endpoint.wait_for(1);
        for _ in 0..20 {
            systemd.hear_until("WATCHDOG=1");
        }
        drop(daemon);
    }
}

#[test]
fn a_loop_that_hangs_does_not_keep_the_watchdog_content() {
    let systemd = Systemd::listen();
    let endpoint = Endpoint::play([], Play::Hang);
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("taskbeat.toml");
    std::fs::write(&file, "").unwrap();
    let daemon = program
        .set("--config", &file)
        .env("NOTIFY_SOCKET", &systemd.path)
        .env("WATCHDOG_USEC", "20000")
        .start();
    systemd.hear_until("WATCHDOG=1");
    // An open and empty pipe of the test: reading it hangs.
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(pipe, &file).unwrap();
    daemon.signal(Signal::HUP);
    // A hundred of its periods.
    systemd
        .socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let start = Instant::now();
    while systemd.socket.recv(&mut [0; 4096]).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it goes on");
    }
    drop(daemon);
}

#[test]
fn without_a_watchdog_for_us_there_is_no_keep_alive() {
    for (name, value) in [
        ("WATCHDOG_USEC", "0"),
        ("WATCHDOG_USEC", "soon"),
        // For another process than us.
        ("WATCHDOG_PID", "1"),
    ] {
        let systemd = Systemd::listen();
        let endpoint = Endpoint::play([Play::Ok, Play::Ok], Play::Terminate);
        let finished = Taskbeat::run(&endpoint)
            .env("NOTIFY_SOCKET", &systemd.path)
            .env("WATCHDOG_USEC", "20000")
            .env(name, value)
            .script(runner::PLAIN)
            .finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let heard = systemd.heard().concat();
        assert!(heard.contains("STOPPING=1"), "{heard}");
        assert!(!heard.contains("WATCHDOG"), "{name}={value}: {heard}");
    }
}

#[test]
fn the_status_is_for_people_who_are_tired() {
    const DAY: f64 = 86_400.0;
    let fine = Snapshot {
        state: Phase::Running,
        acknowledged_seconds_ago: Some(200.0),
        next_heartbeat_in_seconds: Some(12.5 * 60.0),
        runner_pid: Some(4711),
        runner_uptime_seconds: Some(6.9 * 3600.0),
        ..Snapshot::default()
    };
    let failing = Snapshot {
        failures: 7,
        failure: Some("ThrottlingException: Rate exceeded (HTTP 400)".to_owned()),
        next_heartbeat_in_seconds: Some(59.0),
        ..fine.clone()
    };
    let waiting = Snapshot {
        state: Phase::Waiting,
        next_heartbeat_in_seconds: None,
        runner_pid: None,
        ..fine.clone()
    };
    let rows = [
        (
            fine.clone(),
            "acknowledged 3 min ago, next in 12 min; runner pid 4711 up 6 h",
        ),
        (
            Snapshot {
                acknowledged_seconds_ago: None,
                next_heartbeat_in_seconds: None,
                runner_uptime_seconds: Some(0.5),
                ..fine.clone()
            },
            "not acknowledged yet, waiting for a response; runner pid 4711 up less than 1 min",
        ),
        (
            failing.clone(),
            "7 heartbeats in a row failed, last acknowledged 3 min ago, next in less than 1 min; \
             runner pid 4711 up 6 h; ThrottlingException: Rate exceeded (HTTP 400)",
        ),
        (
            Snapshot {
                over_limit: true,
                ..failing.clone()
            },
            "7 heartbeats in a row failed, last acknowledged 3 min ago, next in less than 1 min; \
             the AWS account is over its limit; runner pid 4711 up 6 h; \
             ThrottlingException: Rate exceeded (HTTP 400)",
        ),
        (
            Snapshot {
                failures: 1,
                acknowledged_seconds_ago: None,
                runner_pid: None,
                ..failing
            },
            "1 heartbeat failed, never acknowledged, next in less than 1 min; \
             ThrottlingException: Rate exceeded (HTTP 400)",
        ),
        (
            waiting.clone(),
            "waiting for the runner; acknowledged 3 min ago",
        ),
        (
            Snapshot {
                acknowledged_seconds_ago: None,
                ..waiting
            },
            "waiting for the runner",
        ),
        (
            Snapshot {
                state: Phase::Stopping,
                stop_cause: Some(StopCause::Terminate),
                next_heartbeat_in_seconds: None,
                runner_uptime_seconds: Some(2.0 * DAY),
                ..fine
            },
            "stopping the runner: terminate received; acknowledged 3 min ago; \
             runner pid 4711 up 2 d",
        ),
    ];
    for (snapshot, expected) in rows {
        assert_eq!(snapshot.line(), expected);
    }
}
