//! What systemd is told. Without systemd, or with one that does not listen, nothing happens.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::core::{Action, Cause, Event, RunnerKind, State, Time};
use crate::daemon::{Observer, Turn};
use crate::status::Snapshot;

/// Names systemd's socket in the environment.
const SOCKET: &str = "NOTIFY_SOCKET";

/// What is left to do after the ladder, at most: the last lines of the log.
const MARGIN: Duration = Duration::from_secs(10);

/// How often the status is told anew: it speaks of minutes.
const STATUS_PERIOD: Duration = Duration::from_mins(1);

/// How much systemd may leave unread before what follows is dropped.
const UNREAD: usize = 64;

/// How long our end waits for what is still unread: a unit that ends before it was ready has failed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Tells systemd when we are ready, what we are at, and how long a stop may take.
#[derive(Debug)]
pub struct Systemd {
    ready: bool,
    stopping: bool,
    status: String,
    /// To the thread that sends them; `None` when the end has come.
    datagrams: Option<SyncSender<String>>,
    /// Disconnected when that thread has sent them all.
    sent: Receiver<()>,
}

impl Observer for Systemd {
    fn observe(&mut self, step: &Turn<'_>) {
        let looking = || {
            step.runner.kind() == RunnerKind::Followed
                && step
                    .done
                    .iter()
                    .any(|(action, _)| *action == Action::StartRunner)
        };
        if !self.ready && (step.event == Event::RunnerUp || looking()) {
            self.ready = true;
            self.notify(&[NotifyState::Ready]);
        }
        if !self.stopping
            && let Some(left) = stop_time_left(step)
        {
            self.stopping = true;
            // In one datagram: STOPPING alone would start systemd's own, shorter, timeout.
            let usec = (left + MARGIN).as_micros();
            let extend = format!("EXTEND_TIMEOUT_USEC={usec}");
            self.notify(&[NotifyState::Stopping, NotifyState::Custom(&extend)]);
        }
        self.say(&Snapshot::take(
            step.now,
            step.agent,
            step.runner,
            step.failure,
        ));
    }

    fn pulse(&mut self, snapshot: &Snapshot) {
        if watchdog().is_some() {
            self.notify(&[NotifyState::Watchdog]);
        }
        self.say(snapshot);
    }
}

impl Systemd {
    /// Begins. The socket of a systemd that is busy makes its writers wait: that is the work of a thread, never of the
    /// loop.
    #[must_use]
    pub fn start() -> Self {
        let (datagrams, unsent) = sync_channel::<String>(UNREAD);
        let (sending, sent) = channel();
        let socket = std::env::var_os(SOCKET).unwrap_or_default();
        let tell = move || {
            let _sending: Sender<()> = sending;
            for datagram in unsent {
                // Whoever started us may have left a socket's name behind that nobody reads.
                let _ = send(&socket, &datagram);
            }
        };
        // Without the thread nothing is told, which is no reason to leave the runner without heartbeats.
        let _ = thread::Builder::new()
            .name("systemd".to_owned())
            .spawn(tell);
        Self {
            ready: false,
            stopping: false,
            status: String::new(),
            datagrams: Some(datagrams),
            sent,
        }
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        if let Some(datagrams) = &self.datagrams {
            let _ = datagrams.try_send(lines.join("\n"));
        }
    }

    fn say(&mut self, snapshot: &Snapshot) {
        let status = snapshot.line();
        if status != self.status {
            self.notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.datagrams = None;
        let _ = self.sent.recv_timeout(LAST_WORDS);
    }
}

/// How often systemd wants to hear of us: twice in the watchdog's time, and often enough for a
/// status in minutes. Never if there is no systemd.
#[must_use]
pub fn pulse() -> Option<Duration> {
    std::env::var_os(SOCKET)?;
    let half = watchdog().map(|limit| limit / 2);
    Some(half.unwrap_or(STATUS_PERIOD).min(STATUS_PERIOD))
}

/// Within which time systemd wants to hear of us, if it does. None at all is no time.
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Sends `datagram` to the socket of this name, which is a path, or abstract if it begins with an `@`.
fn send(socket: &OsStr, datagram: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(datagram.as_bytes(), &address)?;
    Ok(())
}

/// How long the ladder may still take, once one has begun that we end with. One that leaves us idle is no stop to
/// systemd, which would wait for our end in vain.
fn stop_time_left(step: &Turn<'_>) -> Option<Duration> {
    if step.agent.state().cause() == Some(Cause::Terminate) && step.agent.stays_idle() {
        return None;
    }
    let grace = step.agent.policy().grace;
    let last_wait = crate::core::LAST_WAIT;
    let from_now = |until: Time| until - step.now;
    match step.agent.state() {
        State::Hooking { until } => Some(from_now(until) + grace + last_wait),
        State::Stopping { until, .. } => Some(from_now(until) + last_wait),
        State::Killing { until, .. } => Some(from_now(until)),
        State::Starting | State::Waiting | State::Running | State::Idle | State::Stopped => None,
    }
}
