//! The local socket of a taskrunner id: its listener is the only instance, and answers `status`.
//!
//! Its name is in the abstract namespace, where binding is exclusive and ends with the process: no
//! stale lock, nothing on disk. The namespace is that of the network, so containers with networks
//! of their own do not see each other.
//!
//! Such a socket has no owner and no permissions: any user can bind the name first, and any user
//! can connect. So both sides check the user id of the other one, which the kernel reports.

use std::io::{self, ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, UCred, socket_with,
};
use rustix::process::{Uid, geteuid};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::Snapshot;

/// How long an instance may take to answer. It answers between two events.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest reply that is read, in bytes. Real ones have less than 2 kB.
const LONGEST: u64 = 64 * 1024;

/// The user ids of service accounts: those of the system, and those of systemd's `DynamicUser=`.
const SERVICE_ACCOUNTS: [std::ops::RangeInclusive<u32>; 2] = [1..=999, 61_184..=65_519];

/// The claim on a taskrunner id. It ends when this is dropped.
pub(crate) struct Claim(tokio::net::UnixListener);

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
    Unreadable(String),
}

/// What a daemon replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Reply {
    /// Everything, for root and the daemon's own user.
    Full(Box<Snapshot>),
    /// What any other user may know.
    Contact { in_contact: bool },
}

impl Reply {
    pub(crate) fn in_contact(&self) -> bool {
        match self {
            Self::Full(snapshot) => snapshot.in_contact,
            Self::Contact { in_contact } => *in_contact,
        }
    }
}

impl Claim {
    /// Claims `taskrunner_id` on this host. Call it inside a runtime.
    ///
    /// # Errors
    ///
    /// Another process has it, or no descriptor is free.
    pub(crate) fn new(taskrunner_id: &str) -> Result<Self, ClaimError> {
        let address = SocketAddr::from_abstract_name(name(taskrunner_id))?;
        let listener = match UnixListener::bind_addr(&address) {
            Ok(listener) => listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(taken(taskrunner_id));
            }
            Err(error) => return Err(error.into()),
        };
        listener.set_nonblocking(true)?;
        Ok(Self(tokio::net::UnixListener::from_std(listener)?))
    }

    /// Waits for a status request. Cancel safe.
    pub(crate) async fn request(&self) -> StatusRequest {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => return StatusRequest(stream),
                // No descriptor is free. Do not retry at once.
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

/// A connection over which `status` waits for a reply.
pub(crate) struct StatusRequest(tokio::net::UnixStream);

impl StatusRequest {
    /// Replies without waiting: a new socket has room for more than this.
    pub(crate) fn reply(&self, snapshot: &Snapshot) {
        let user = socket_peercred(&self.0).map(|peer| peer.uid);
        let reply = if user.is_ok_and(|user| user.is_root() || user == geteuid()) {
            Reply::Full(Box::new(snapshot.clone()))
        } else {
            Reply::Contact { in_contact: snapshot.in_contact }
        };
        if let Ok(text) = serde_json::to_vec(&reply) {
            let _ = self.0.try_write(&text);
        }
    }
}

/// Asks the instance that reports `taskrunner_id` for its status.
///
/// # Errors
///
/// There is none, it cannot be trusted, or it does not answer within 5 seconds.
pub(crate) fn ask(taskrunner_id: &str) -> Result<Reply, AskError> {
    let id = taskrunner_id.to_owned();
    let stream = match connect(taskrunner_id) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return Err(AskError::NotRunning(id));
        }
        Err(_) => return Err(AskError::NoAnswer),
    };
    let peer = socket_peercred(&stream).map_err(|_| AskError::NoAnswer)?;
    if !is_trusted(peer.uid) {
        return Err(AskError::Untrusted { id, uid: peer.uid.as_raw(), pid: pid_of(&peer) });
    }
    let text = read(stream).map_err(|error| {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            AskError::NoAnswer
        } else {
            AskError::Unreadable(error.to_string())
        }
    })?;
    let mut reply =
        serde_json::from_slice(&text).map_err(|error| AskError::Unreadable(error.to_string()))?;
    if let Reply::Full(snapshot) = &mut reply {
        for text in [&mut snapshot.failure, &mut snapshot.unhealthy].into_iter().flatten() {
            *text = text.replace(char::is_control, " ");
        }
    }
    Ok(reply)
}

/// Reads until the end, within the limits of time and size for the whole reply.
fn read(mut stream: UnixStream) -> io::Result<Vec<u8>> {
    let until = Instant::now() + LIMIT;
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // A timeout of zero would mean none.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut part)? {
            0 => return Ok(text),
            _ if left.is_zero() => return Err(ErrorKind::TimedOut.into()),
            length => text.extend_from_slice(&part[..length]),
        }
        if text.len() as u64 > LONGEST {
            return Err(io::Error::other("it is too long"));
        }
    }
}

/// True if a process of this user can be taken for the daemon: other users could have bound the
/// name first.
fn is_trusted(user: Uid) -> bool {
    let service = SERVICE_ACCOUNTS.iter().any(|range| range.contains(&user.as_raw()));
    user.is_root() || user == geteuid() || service
}

/// Why the id is taken. Only root and the same user can keep taskbeat from starting. If even the
/// connection fails, the owner is unknown, and taskbeat starts.
fn taken(taskrunner_id: &str) -> ClaimError {
    let id = taskrunner_id.to_owned();
    let peer = connect(taskrunner_id).and_then(|stream| Ok(socket_peercred(&stream)?));
    match peer {
        Ok(peer) if peer.uid.is_root() || peer.uid == geteuid() => {
            ClaimError::Taken { id, pid: pid_of(&peer) }
        }
        Ok(peer) => ClaimError::Foreign {
            id,
            owner: format!("process {} of user id {}", pid_of(&peer), peer.uid.as_raw()),
        },
        Err(_) => ClaimError::Foreign { id, owner: "an unknown process".to_owned() },
    }
}

/// The process id of the peer; 0 if it is in another PID namespace.
fn pid_of(peer: &UCred) -> i32 {
    peer.pid.as_raw_pid()
}

/// Connects at once, or not at all: a stopped instance lets connections wait for ever.
fn connect(taskrunner_id: &str) -> io::Result<UnixStream> {
    let name = SocketAddrUnix::new_abstract_name(name(taskrunner_id).as_bytes())?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    net::connect(&socket, &name)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The socket's name. An id may be longer than a name, so the name holds its hash.
fn name(taskrunner_id: &str) -> String {
    let mut name = "taskbeat/".to_owned();
    for byte in Sha256::digest(taskrunner_id) {
        name.extend(
            [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
        );
    }
    name
}
