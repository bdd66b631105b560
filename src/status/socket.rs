//! The local socket of a taskrunner id: its listener is the only instance, and answers `status`.
//!
//! Its name is in the abstract namespace, where binding is exclusive and ends with the process: no
//! stale lock, nothing on disk. The namespace is that of the network, so containers with networks
//! of their own do not see each other.
//!
//! Such a socket has no owner and no permissions: any user can bind the name first, and any user
//! can connect. So both sides check the user id of the other one, which the kernel reports.

use std::ffi::OsString;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::unix::{UCred, uid_t};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use super::{Snapshot, Snapshots};

/// How long an instance may take to answer. It answers between two events.
const LIMIT: Duration = Duration::from_secs(5);

/// How long an instance may have bound its socket without listening: it is starting or exiting.
const SETTLING: Duration = Duration::from_secs(2);

/// The size, in bytes, at which a reply is too long. Real ones have less than 3 kB.
const TOO_LONG: usize = 64 * 1024;

/// The user ids of service accounts: those of the system, and those of systemd's `DynamicUser=`.
const SERVICE_ACCOUNTS: [RangeInclusive<uid_t>; 2] = [1..=999, 61_184..=65_519];

/// Why a taskrunner id could not be claimed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Another instance, of root or of the same user, has it.
    #[error("another taskbeat on this host reports taskrunner-id {id:?} (process {pid})")]
    Taken { id: String, pid: i32 },
    /// A process of another user listens, which may be no taskbeat at all.
    #[error(
        "{owner} has claimed taskrunner-id {id:?} on this host; heartbeats are sent all the same, \
         but `taskbeat status` does not work"
    )]
    Foreign { id: String, owner: String },
    #[error("cannot claim the taskrunner-id: {0}")]
    Socket(#[from] io::Error),
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no taskbeat is running on this host for taskrunner-id {0:?}")]
    NotRunning(String),
    /// The process that listens belongs to a user that cannot be trusted.
    #[error(
        "the status of taskrunner-id {id:?} is not trusted: it comes from user id {uid} (process \
         {pid}); ask as that user if it runs taskbeat"
    )]
    Untrusted { id: String, uid: u32, pid: i32 },
    /// The instance does not answer: it is stopped or busy.
    #[error("taskbeat does not answer (process stopped or too many requests)")]
    NoAnswer,
    #[error("taskbeat's reply cannot be read: {0}")]
    Unreadable(io::Error),
}

/// What a daemon replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum StatusReply {
    /// What any user may know.
    Contact { in_contact: bool },
    /// Everything, for root and the daemon's own user.
    Full(Box<Snapshot>),
}

impl StatusReply {
    pub(crate) fn in_contact(&self) -> bool {
        match self {
            Self::Full(snapshot) => snapshot.in_contact,
            Self::Contact { in_contact } => *in_contact,
        }
    }

    /// Reads what another process has sent, which may be another version of taskbeat.
    pub(crate) fn parse(text: &[u8]) -> io::Result<Self> {
        let mut reply = serde_json::from_slice(text)?;
        if let Self::Full(snapshot) = &mut reply {
            if snapshot.version.is_empty() {
                return Err(io::Error::other("it has no version"));
            }
            snapshot.replace_control_characters();
        }
        Ok(reply)
    }
}

/// Claims `taskrunner_id` on this host, for as long as the runtime lives, and answers `status`.
///
/// # Errors
///
/// Another process has it, or no descriptor is free.
pub(crate) async fn claim(taskrunner_id: &str, snapshots: Snapshots) -> Result<(), ClaimError> {
    let deadline = Instant::now() + SETTLING;
    loop {
        match UnixListener::bind(name(taskrunner_id)) {
            Ok(listener) => {
                tokio::spawn(serve(listener, snapshots));
                return Ok(());
            }
            Err(error) if error.kind() != ErrorKind::AddrInUse => return Err(error.into()),
            Err(_) => {}
        }
        let stream = UnixStream::connect(name(taskrunner_id)).await;
        match stream.and_then(|stream| stream.peer_cred()) {
            Err(error) if is_refused(&error) && Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            owner => return Err(taken(taskrunner_id, &owner)),
        }
    }
}

/// True if the process that has bound the socket does not listen, or if there is none.
fn is_refused(error: &io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionRefused
}

async fn serve(listener: UnixListener, snapshots: Snapshots) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                if let Some(snapshot) = snapshots.take().await {
                    reply(&client, snapshot);
                }
            }
            // No descriptor is free. Do not retry at once.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Replies without waiting: a new socket has room for more than this.
fn reply(client: &UnixStream, snapshot: Snapshot) {
    let user = client.peer_cred().map(|peer| peer.uid());
    let reply = if user.is_ok_and(is_root_or_same) {
        StatusReply::Full(Box::new(snapshot))
    } else {
        StatusReply::Contact { in_contact: snapshot.in_contact }
    };
    if let Ok(text) = serde_json::to_vec(&reply) {
        let _ = client.try_write(&text);
    }
}

/// Asks the instance that reports `taskrunner_id` for its status.
///
/// # Errors
///
/// There is none, it cannot be trusted, or it does not answer within 5 seconds.
pub(crate) async fn ask(taskrunner_id: &str) -> Result<StatusReply, AskError> {
    let id = taskrunner_id.to_owned();
    let stream = match UnixStream::connect(name(taskrunner_id)).await {
        Ok(stream) => stream,
        Err(error) if is_refused(&error) => return Err(AskError::NotRunning(id)),
        // The backlog of an instance that is stopped is full.
        Err(_) => return Err(AskError::NoAnswer),
    };
    let peer = stream.peer_cred().map_err(AskError::Unreadable)?;
    // Another user could have bound the name first.
    let is_service = SERVICE_ACCOUNTS.iter().any(|range| range.contains(&peer.uid()));
    if !is_root_or_same(peer.uid()) && !is_service {
        return Err(AskError::Untrusted { id, uid: peer.uid(), pid: pid_of(&peer) });
    }
    let reply = timeout(LIMIT, read(stream)).await.map_err(|_| AskError::NoAnswer)?;
    reply.map_err(AskError::Unreadable)
}

async fn read(stream: UnixStream) -> io::Result<StatusReply> {
    let mut text = Vec::new();
    if stream.take(TOO_LONG as u64).read_to_end(&mut text).await? == TOO_LONG {
        return Err(io::Error::other("it is too long"));
    }
    StatusReply::parse(&text)
}

fn is_root_or_same(user: uid_t) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// Why the id is taken. Only root and the same user can keep taskbeat from starting. If even the
/// connection fails, the owner is unknown, and taskbeat starts.
fn taken(taskrunner_id: &str, owner: &io::Result<UCred>) -> ClaimError {
    let id = taskrunner_id.to_owned();
    match owner {
        Ok(peer) if is_root_or_same(peer.uid()) => ClaimError::Taken { id, pid: pid_of(peer) },
        Ok(peer) => ClaimError::Foreign {
            id,
            owner: format!("process {} of user id {}", pid_of(peer), peer.uid()),
        },
        Err(_) => ClaimError::Foreign { id, owner: "an unknown process".to_owned() },
    }
}

/// The process id of the peer; 0 if it is in another PID namespace.
fn pid_of(peer: &UCred) -> i32 {
    peer.pid().unwrap_or_default()
}

/// The socket's name; the zero byte makes it abstract. An id may be longer than a name, so the name
/// holds its hash.
pub(super) fn name(taskrunner_id: &str) -> OsString {
    let mut name = "\0taskbeat/".to_owned();
    for byte in Sha256::digest(taskrunner_id) {
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}
