//! Notifications to systemd. Without systemd, or if it does not read them, nothing happens.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::core::{Action, Cause, Event, Exit, LAST_WAIT, Rung, RunnerKind, State};
use crate::daemon::{Observer, Turn};
use crate::status::Snapshot;

/// The variable that names systemd's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// What may be left to do after the ladder: writing the last lines of the log.
const MARGIN: Duration = Duration::from_secs(10);

/// How often the status is sent if no event changes it. Its smallest unit is a minute.
const STATUS_PERIOD: Duration = Duration::from_mins(1);

/// How many datagrams may wait for systemd. Further ones are dropped.
const UNREAD: usize = 64;

/// How long taskbeat's exit waits for datagrams that are not sent yet: a unit that ends before it
/// was ready has failed.
const LAST_DATAGRAMS: Duration = Duration::from_secs(1);

/// Sends systemd readiness, status, and how long a stop may take.
#[derive(Debug, Default)]
pub(crate) struct Systemd {
    ready: bool,
    stopping: bool,
    status: String,
    sender: Option<DatagramSender>,
}

/// A thread that sends datagrams, because a busy systemd makes its senders wait.
#[derive(Debug)]
struct DatagramSender {
    datagrams: Option<SyncSender<String>>,
    /// Disconnected when the thread has sent all of them.
    sent: Receiver<()>,
}

impl Observer for Systemd {
    fn observe(&mut self, turn: &Turn<'_>) {
        if self.sender.is_none() {
            return;
        }
        if is_ready(turn) {
            self.send_ready();
        }
        if !self.stopping
            && let Some(left) = stop_time_left(turn)
        {
            self.stopping = true;
            // In one datagram: STOPPING=1 alone would start systemd's own, shorter, timeout.
            let extend = format!("EXTEND_TIMEOUT_USEC={}", (left + MARGIN).as_micros());
            self.notify(&[NotifyState::Stopping, NotifyState::Custom(&extend)]);
        }
        self.send_status(turn.snapshot);
    }

    fn keepalive(&mut self, snapshot: &Snapshot) {
        self.send_ready();
        if watchdog().is_some() {
            self.notify(&[NotifyState::Watchdog]);
        }
        self.send_status(snapshot);
    }
}

impl Systemd {
    /// Starts to notify the systemd that the environment names, if there is one.
    pub(crate) fn start() -> Self {
        let socket = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty());
        Self { sender: socket.and_then(DatagramSender::start), ..Self::default() }
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        if let Some(DatagramSender { datagrams, .. }) = &self.sender
            && let Some(datagrams) = datagrams
        {
            let _ = datagrams.try_send(lines.join("\n"));
        }
    }

    fn send_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.notify(&[NotifyState::Ready]);
        }
    }

    fn send_status(&mut self, snapshot: &Snapshot) {
        let status = snapshot.line();
        if status != self.status {
            self.notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

impl DatagramSender {
    /// `None` if the kernel has no free thread: heartbeats are more important.
    fn start(socket: OsString) -> Option<Self> {
        let (datagrams, unsent) = sync_channel::<String>(UNREAD);
        let (sending, sent) = channel();
        let run = move || {
            let _sending: Sender<()> = sending;
            for datagram in unsent {
                // The variable may be left over, and name a socket that is gone.
                let _ = send(&socket, &datagram);
            }
        };
        let thread = thread::Builder::new().name("systemd".to_owned());
        thread.spawn(run).ok()?;
        Some(Self { datagrams: Some(datagrams), sent })
    }
}

impl Drop for DatagramSender {
    fn drop(&mut self) {
        self.datagrams = None;
        let _ = self.sent.recv_timeout(LAST_DATAGRAMS);
    }
}

/// How often [`Observer::keepalive`] is to be called: twice in the watchdog's time, and often
/// enough for a status in minutes. `None` without systemd.
pub(crate) fn keepalive() -> Option<Duration> {
    std::env::var_os(SOCKET)?;
    let half = watchdog().map(|limit| limit / 2);
    Some(half.unwrap_or(STATUS_PERIOD).min(STATUS_PERIOD))
}

/// The watchdog's time, if there is one.
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Sends `datagram` to the socket of this name: a path, or an abstract name after an `@`.
fn send(socket: &OsStr, datagram: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(datagram.as_bytes(), &address)?;
    Ok(())
}

/// True once the runner was found or is being looked for. A child that keeps running is ready with
/// the first keep-alive. If it cannot be executed, which a shell reports as its exit status, the
/// start of the unit fails.
fn is_ready(turn: &Turn<'_>) -> bool {
    match (turn.runner.kind(), turn.event) {
        (RunnerKind::Child, Event::LeaderExited(exit)) => {
            !matches!(exit, Exit::NOT_EXECUTABLE | Exit::NOT_FOUND)
        }
        (RunnerKind::Child, _) => {
            turn.agent.stop_cause().is_some_and(|cause| cause != Cause::Ended)
        }
        (RunnerKind::Followed, _) => {
            turn.done.iter().any(|done| done.action == Action::StartRunner)
        }
        (RunnerKind::Attached | RunnerKind::None, event) => event == Event::RunnerStarted,
    }
}

/// How long the rest of the ladder may take. `None` without one, and if taskbeat stays idle after
/// it: `STOPPING=1` would make systemd wait for an exit.
fn stop_time_left(turn: &Turn<'_>) -> Option<Duration> {
    let state = turn.agent.state();
    if turn.agent.stop_cause() == Some(Cause::Terminate) && turn.agent.stays_idle() {
        return None;
    }
    let (until, later_steps) = match state {
        State::OnTerminate { until } => (until, turn.agent.policy().grace + LAST_WAIT),
        State::Ladder { rung: Rung::Stop, until, .. } => (until, LAST_WAIT),
        State::Ladder { rung: Rung::Kill, until, .. } => (until, Duration::ZERO),
        State::Starting | State::Waiting | State::Running | State::Idle | State::Exiting => {
            return None;
        }
    };
    Some(until - turn.now + later_steps)
}
