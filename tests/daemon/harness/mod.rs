//! What every test of the daemon needs: an endpoint that plays a script, and the daemon itself.

mod endpoint;
mod family;
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

pub(crate) use endpoint::{Endpoint, Play, Request, Response};
pub(crate) use family::{
    Bystander, children, eventually, group_of, in_session, marked, signal, state_of,
};
pub(crate) use metadata::Metadata;
pub(crate) use namespace::{missing, pid_namespace};
pub(crate) use process::{
    descriptors, is_alive, memory, peak_memory, processor_time, wait_for_end,
};
pub(crate) use server::Server;
pub(crate) use taskbeat::{Daemon, Finished, Taskbeat};
pub(crate) use terminal::Terminal;
pub(crate) use tls::{Authority, Certified, Tls};

/// How long a test waits for what must happen. It belongs to hangs, never to speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The size of a long test: `quick` by default, `full` with `TASKBEAT_TEST_FULL=1`, as in CI.
///
/// A quick test still has to fail for the defect that it guards against.
pub(crate) fn rounds<T>(quick: T, full: T) -> T {
    match std::env::var("TASKBEAT_TEST_FULL").as_deref() {
        Ok("1") => full,
        _ => quick,
    }
}

/// What the ids of all task runners of this run of the tests begin with.
fn our_runners() -> String {
    format!("tr-{}-", std::process::id())
}
