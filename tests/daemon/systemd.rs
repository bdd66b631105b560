//! `sd_notify`: readiness, stops, status and watchdog, as a notification socket receives them.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::{Endpoint, Step, TIMEOUT, Taskbeat, children, runner};

/// The socket of a service manager.
struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: Option<TempDir>,
}

impl NotifySocket {
    fn bind() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::at(path, socket, Some(directory))
    }

    fn bind_abstract() -> Self {
        let name = format!("taskbeat-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self::at(format!("@{name}").into(), socket, None)
    }

    fn at(path: PathBuf, socket: UnixDatagram, directory: Option<TempDir>) -> Self {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { socket, path, _directory: directory }
    }

    /// Waits for the next datagram.
    fn receive(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The datagrams that were sent until now. The socket does not wait from then on.
    fn received(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let next = || {
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        };
        std::iter::from_fn(next).collect()
    }

    /// Waits for a datagram with a line that starts with `prefix`. Returns it after those before.
    fn receive_until(&self, prefix: &str) -> Vec<String> {
        self.receive_until_line(|line| line.starts_with(prefix))
    }

    /// Waits for a datagram with a line that `matches`. Returns it after those before.
    fn receive_until_line(&self, matches: impl Fn(&str) -> bool) -> Vec<String> {
        let start = Instant::now();
        let mut received = Vec::new();
        while start.elapsed() < TIMEOUT {
            let datagram = self.receive();
            let found = datagram.lines().any(&matches);
            received.push(datagram);
            if found {
                return received;
            }
        }
        panic!("timed out, received: {received:?}");
    }
}

#[test]
fn ready_is_sent_when_the_runner_runs() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::play([], Step::Hang);
    let daemon =
        Taskbeat::run(&endpoint).env("NOTIFY_SOCKET", &notify.path).script(runner::PLAIN).start();
    let received = notify.receive_until("READY=1");
    assert_eq!(children(daemon.pid()).len(), 1, "{received:?}");
    assert!(!received.concat().contains("STOPPING"), "{received:?}");
}

#[test]
fn ready_is_sent_without_a_runner_and_without_a_service() {
    let notify = NotifySocket::bind();
    let closed = Endpoint::closed();
    let daemon = Taskbeat::new("run").to(&closed.url()).env("NOTIFY_SOCKET", &notify.path).start();
    notify.receive_until("READY=1");
    notify.receive_until("STATUS=not acknowledged yet");
    drop(daemon);
}

#[test]
fn ready_is_not_sent_if_the_runner_cannot_be_started() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::ok();
    for runner in [&["/nonexistent/runner"][..], &["sh", "-c", "exec /nonexistent/runner"]] {
        let finished =
            Taskbeat::run(&endpoint).env("NOTIFY_SOCKET", &notify.path).command(runner).finish();
        assert_eq!(finished.status, 127, "{finished:?}");
        let received = notify.received();
        assert!(!received.concat().contains("READY=1"), "{received:?}");
    }
}

#[test]
fn ready_is_sent_for_a_runner_that_ends_at_once() {
    for (runner, status) in [("true", 0), ("false", 1)] {
        let notify = NotifySocket::bind();
        let endpoint = Endpoint::play([], Step::Hang);
        let finished =
            Taskbeat::run(&endpoint).env("NOTIFY_SOCKET", &notify.path).command(&[runner]).finish();
        assert_eq!(finished.status, status, "{finished:?}");
        let received = notify.received();
        assert!(received.concat().contains("READY=1"), "{received:?}");
    }
}

#[test]
fn ready_is_sent_before_the_exit_after_terminate_at_once() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::play([], Step::Terminate);
    let finished =
        Taskbeat::run(&endpoint).env("NOTIFY_SOCKET", &notify.path).script(runner::PLAIN).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let received = notify.received().concat();
    assert!(received.contains("READY=1"), "{received}");
    // systemd keeps the last status of a unit that has ended.
    assert!(received.contains("STATUS=exiting: terminate received"), "{received}");
}

#[test]
fn a_stop_is_sent_together_with_the_time_it_may_take() {
    for terminate in [false, true] {
        let notify = NotifySocket::bind();
        let endpoint = Endpoint::ok();
        let mut daemon = Taskbeat::run(&endpoint)
            .with_stdin()
            .set("--grace", "77s")
            .env("NOTIFY_SOCKET", &notify.path)
            .script(runner::DRAINING)
            .start();
        daemon.wait_for_pid("ready");
        if terminate {
            endpoint.switch_to(Step::Terminate);
        } else {
            daemon.signal(Signal::TERM);
        }
        let received = notify.receive_until("STOPPING=1");
        // The grace, and at most a minute for the rest.
        assert!((77..137).contains(&stop_time(&received)), "{received:?}");
        daemon.wait_for_output("draining");
        daemon.write_stdin(b"go\n");
        daemon.wait();
    }
}

#[test]
fn the_time_of_a_stop_includes_the_on_terminate_command() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::play([], Step::Terminate);
    let daemon = Taskbeat::run(&endpoint)
        .set("--grace", "77s")
        .set("--on-terminate", "exec sleep 1000")
        .env("NOTIFY_SOCKET", &notify.path)
        .script(runner::PLAIN)
        .start();
    let received = notify.receive_until("STOPPING=1");
    // The command and the ladder have a grace each.
    assert!((154..214).contains(&stop_time(&received)), "{received:?}");
    drop(daemon);
}

#[test]
fn stopping_is_not_sent_if_taskbeat_idles_after_terminate() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::play([Step::Ok], Step::Terminate);
    let mut daemon = Taskbeat::run(&endpoint)
        .set("--after-terminate", "idle")
        .env("NOTIFY_SOCKET", &notify.path)
        .script(runner::PLAIN)
        .start();
    let received = notify.receive_until("STATUS=idle after terminate").concat();
    assert!(!received.contains("STOPPING"), "{received}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn an_operators_stop_during_terminate_is_sent_although_taskbeat_was_to_idle() {
    // While the ladder runs, and while the on-terminate command runs before it.
    for (command, status, time) in [
        (None, "stopping the runner", 70..137),
        (Some("exec sleep 1000"), "running on-terminate", 154..214),
    ] {
        let notify = NotifySocket::bind();
        let endpoint = Endpoint::ok();
        let mut program = Taskbeat::run(&endpoint)
            .with_stdin()
            .set("--after-terminate", "idle")
            .set("--grace", "77s")
            .env("NOTIFY_SOCKET", &notify.path);
        if let Some(command) = command {
            program = program.set("--on-terminate", command);
        }
        let mut daemon = program.script(runner::DRAINING).start();
        daemon.wait_for_pid("ready");
        endpoint.switch_to(Step::Terminate);
        let received = notify.receive_until(&format!("STATUS={status}")).concat();
        assert!(!received.contains("STOPPING"), "{received}");
        daemon.signal(Signal::TERM);
        let received = notify.receive_until("STOPPING=1");
        assert!(time.contains(&stop_time(&received)), "{received:?}");
        if command.is_none() {
            daemon.wait_for_output("draining");
            daemon.write_stdin(b"go\n");
            assert_eq!(daemon.wait(), 0);
        }
    }
}

/// The seconds that the last of these datagrams asks for.
fn stop_time(received: &[String]) -> u64 {
    let stopping = received.last().unwrap();
    let micros = stopping
        .lines()
        .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="))
        .unwrap_or_else(|| panic!("{stopping}"));
    micros.parse::<u64>().unwrap() / 1_000_000
}

#[test]
fn the_status_shows_a_failure_until_the_next_acknowledgement() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::play([], Step::deny());
    let daemon = Taskbeat::run(&endpoint).env("NOTIFY_SOCKET", &notify.path).start();
    let failing = |line: &str| line.contains("AccessDeniedException");
    notify.receive_until_line(failing);
    endpoint.switch_to(Step::Ok);
    notify.receive_until_line(|line| line.contains("acknowledged") && !failing(line));
    drop(daemon);
}

#[test]
fn a_broken_notification_socket_is_ignored() {
    let notify = NotifySocket::bind();
    let closed = notify.path.clone();
    // The name stays in the file system.
    drop(notify.socket);
    let absent = PathBuf::from("/nonexistent/notify");
    for path in [closed, absent, PathBuf::from("not a path"), PathBuf::new()] {
        let endpoint = Endpoint::play([Step::Ok], Step::Terminate);
        let finished = Taskbeat::run(&endpoint)
            .set("--interval", "100ms")
            .env("NOTIFY_SOCKET", path)
            .script(runner::PLAIN)
            .finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert_eq!(endpoint.requests().len(), 2);
    }
}

#[test]
fn a_full_notification_socket_does_not_block_taskbeat() {
    let notify = NotifySocket::bind();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"STATUS=full", &notify.path).is_ok() {}
    let endpoint = Endpoint::play([Step::Ok], Step::Terminate);
    let finished =
        Taskbeat::run(&endpoint).env("NOTIFY_SOCKET", &notify.path).script(runner::PLAIN).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
}

#[test]
fn the_notification_socket_may_be_abstract() {
    let notify = NotifySocket::bind_abstract();
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).env("NOTIFY_SOCKET", &notify.path).start();
    notify.receive_until("READY=1");
    drop(daemon);
}

#[test]
fn the_watchdog_is_fed_while_the_service_is_away() {
    // During a request without a response, and during the minutes after a throttle.
    for step in [Step::Hang, Step::throttle()] {
        let notify = NotifySocket::bind();
        let endpoint = Endpoint::play([], step);
        let daemon = Taskbeat::run(&endpoint)
            .set("--interval", "15m")
            .env("NOTIFY_SOCKET", &notify.path)
            .env("WATCHDOG_USEC", "20000")
            .start();
        endpoint.wait_for(1);
        for _ in 0..20 {
            notify.receive_until("WATCHDOG=1");
        }
        drop(daemon);
    }
}

#[test]
fn the_watchdog_is_not_fed_while_the_loop_hangs() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::play([], Step::Hang);
    let daemon = Taskbeat::run(&endpoint)
        .env("NOTIFY_SOCKET", &notify.path)
        .env("WATCHDOG_USEC", "20000")
        .start();
    notify.receive_until("WATCHDOG=1");
    // As good as a loop that hangs.
    daemon.signal(Signal::STOP);
    // The last datagrams, and then none for a hundred times their period.
    notify.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let start = Instant::now();
    while notify.socket.recv(&mut [0; 4096]).is_ok() {
        assert!(start.elapsed() < TIMEOUT, "it is still fed");
    }
    drop(daemon);
}

#[test]
fn a_reload_that_hangs_blocks_neither_the_watchdog_nor_heartbeats_nor_a_stop() {
    let notify = NotifySocket::bind();
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("taskbeat.toml");
    fs::write(&file, "").unwrap();
    let daemon = program
        .set("--config", &file)
        .env("NOTIFY_SOCKET", &notify.path)
        .env("WATCHDOG_USEC", "20000")
        .script(runner::OBEDIENT)
        .start();
    daemon.wait_for_pid("ready");
    // An open and empty pipe of the test: reading it hangs.
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(pipe, &file).unwrap();
    daemon.signal(Signal::HUP);
    for _ in 0..20 {
        notify.receive_until("WATCHDOG=1");
    }
    endpoint.wait_for_more(3);
    let refused = "reload refused, nothing changed: the settings";
    daemon.wait_for_log(&format!("{refused} could not be read within 10s; a file hangs"));
    // For a second one no further thread is started.
    daemon.signal(Signal::HUP);
    daemon.wait_for_log(&format!("{refused} are still being read for an earlier reload"));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

#[test]
fn no_watchdog_is_fed_without_a_valid_request_to_this_process() {
    for (name, value) in [("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "soon"), ("WATCHDOG_PID", "1")]
    {
        let notify = NotifySocket::bind();
        let endpoint = Endpoint::play([Step::Ok, Step::Ok], Step::Terminate);
        let finished = Taskbeat::run(&endpoint)
            .set("--interval", "100ms")
            .env("NOTIFY_SOCKET", &notify.path)
            .env("WATCHDOG_USEC", "20000")
            .env(name, value)
            .script(runner::PLAIN)
            .finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let received = notify.received().concat();
        assert!(received.contains("STOPPING=1"), "{received}");
        assert!(!received.contains("WATCHDOG"), "{name}={value}: {received}");
    }
}
