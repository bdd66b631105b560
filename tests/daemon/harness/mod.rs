//! What every test of the daemon needs: an endpoint that plays a script, and the daemon itself.

mod endpoint;
mod family;
mod namespace;
mod process;
pub(crate) mod runner;
mod stream;
mod taskbeat;
mod terminal;

use std::time::Duration;

pub(crate) use endpoint::{Endpoint, Play, Request, Response};
pub(crate) use family::{
    Bystander, children, eventually, group_of, in_session, marked, signal, state_of,
};
pub(crate) use namespace::{missing, pid_namespace};
pub(crate) use process::{is_alive, wait_for_end};
pub(crate) use taskbeat::{Daemon, Finished, Taskbeat};
pub(crate) use terminal::Terminal;

/// How long a test waits for what must happen. It belongs to hangs, never to speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the ids of all task runners of this run of the tests begin with.
fn our_runners() -> String {
    format!("tr-{}-", std::process::id())
}
