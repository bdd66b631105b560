//! The built-in endpoint: `ReportTaskRunnerHeartbeat` of Data Pipeline, answered from a script.
//!
//! `rehearse` runs the daemon against it, and any AWS client with any credentials can call it. Each
//! `taskrunnerId` has its own position in the script, so that a second client does not consume the
//! steps of the first. Requests that the service would refuse (unsigned, malformed) consume no
//! step.
//!
//! Requests, connections and memory are bounded, but there is no encryption and no access control:
//! the endpoint is meant for loopback.
//!
//! ```text
//! socket ──▶ server ──▶ protocol: a valid HeartbeatRequest? ──▶ script: the next Step
//!        ◀────────────  protocol: its Reply                 ◀──┘
//! ```

mod protocol;
mod script;
mod server;

#[cfg(test)]
mod tests;

pub(crate) use protocol::HeartbeatRequest;
pub(crate) use script::{Script, Step};
pub(crate) use server::{Played, serve};
