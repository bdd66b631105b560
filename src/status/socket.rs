//! The local socket of a task runner id: whoever listens there is the one instance, and answers.
//!
//! Its name is in the abstract namespace, where binding is exclusive and the kernel lets go of it
//! with its owner: no stale lock, nothing on disk. The namespace belongs to the network namespace,
//! so containers with networks of their own do not see each other.

use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::Snapshot;

/// How long an instance may take to answer. It does so between two events.
const PATIENCE: Duration = Duration::from_secs(5);

/// The claim on a task runner id, held for as long as it lives.
pub struct Claim(tokio::net::UnixListener);

/// Why a task runner id could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else has it.
    #[error("another instance on this host reports taskrunner-id {id:?}: process {pid}")]
    Taken {
        /// The task runner id.
        id: String,
        /// The process that has it.
        pid: String,
    },
    /// The kernel refused.
    #[error("cannot claim the taskrunner-id: {0}")]
    Socket(#[from] io::Error),
}

impl Claim {
    /// Claims `taskrunner_id` on this host. To be called inside of a runtime.
    ///
    /// # Errors
    ///
    /// Another process has it, or there are no free descriptors.
    pub fn claim(taskrunner_id: &str) -> Result<Self, ClaimError> {
        let address = SocketAddr::from_abstract_name(name(taskrunner_id))?;
        let listener = match UnixListener::bind_addr(&address) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ClaimError::Taken {
                    id: taskrunner_id.to_owned(),
                    pid: owner(taskrunner_id).unwrap_or_else(|_| "unknown".to_owned()),
                });
            }
            Err(error) => return Err(error.into()),
        };
        listener.set_nonblocking(true)?;
        Ok(Self(tokio::net::UnixListener::from_std(listener)?))
    }

    /// Waits for somebody who wants to know. Cancel safe.
    pub async fn asked(&self) -> StatusRequest {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => return StatusRequest(stream),
                // No descriptors for it: not to be tried again at once.
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

/// Somebody who wants to know how we are.
pub struct StatusRequest(tokio::net::UnixStream);

impl StatusRequest {
    /// Tells them, without waiting: a new socket has room for more than this.
    pub fn tell(&self, snapshot: &Snapshot) {
        if let Ok(text) = serde_json::to_vec(snapshot) {
            let _ = self.0.try_write(&text);
        }
    }
}

/// Asks the instance that reports `taskrunner_id` how it is; `None` when there is none.
///
/// # Errors
///
/// It does not answer within 5 seconds, or nothing that makes sense.
pub fn ask(taskrunner_id: &str) -> io::Result<Option<Snapshot>> {
    let mut stream = match connect(taskrunner_id) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(Some(serde_json::from_str(&text)?))
}

/// The process that listens. The kernel tells it to whoever connects.
fn owner(taskrunner_id: &str) -> io::Result<String> {
    let stream = connect(taskrunner_id)?;
    let peer = socket_peercred(&stream)?;
    Ok(peer.pid.as_raw_pid().to_string())
}

/// Connects at once, or not at all: nobody waits behind others whom an instance that is stopped does not answer.
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

/// An id may be longer than a socket's name, so the name holds its hash.
fn name(taskrunner_id: &str) -> String {
    let mut name = "taskbeat/".to_owned();
    for byte in Sha256::digest(taskrunner_id) {
        name.extend(
            [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
        );
    }
    name
}
