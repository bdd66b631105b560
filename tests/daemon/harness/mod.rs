//! Fixtures of the daemon's tests: the real binary, a scripted endpoint, processes and terminals.

mod endpoint;
mod external;
mod http;
mod metadata;
mod namespace;
mod process;
pub(crate) mod runner;
mod server;
mod stream;
mod taskbeat;
mod terminal;
mod tls;

use std::time::Duration;

pub(crate) use endpoint::{Endpoint, Play};
pub(crate) use external::Bystander;
pub(crate) use http::{Request, Response};
pub(crate) use metadata::Metadata;
pub(crate) use namespace::{missing, pid_namespace};
pub(crate) use process::{
    children, descriptors, eventually, group_of, in_session, is_alive, marked, memory, peak_memory,
    processor_time, signal, state_of, wait_for_end,
};
pub(crate) use server::Server;
pub(crate) use taskbeat::{Daemon, Finished, Taskbeat};
pub(crate) use terminal::Terminal;
pub(crate) use tls::{Authority, Certified, Tls};

/// How long a test waits before it fails. It is a limit against hangs, never a measure of speed.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The prefix of the task runner ids of this run of the tests.
fn id_prefix() -> String {
    format!("tr-{}-", std::process::id())
}
