//! The status of a running daemon: what it is, and how it is asked for.
//!
//! ```text
//!   socket (taskbeat status) ──┐
//!                              ├── SnapshotRequest ──▶ the loop ── Snapshot ──▶ back
//!   http (metrics-listen) ─────┘
//! ```

mod http;
mod openmetrics;
mod requests;
mod snapshot;
mod socket;
mod tally;

#[cfg(test)]
mod tests;

pub(crate) use self::http::listen;
pub(crate) use self::openmetrics::openmetrics;
pub(crate) use self::requests::{Requests, SnapshotRequest, Snapshots};
pub(crate) use self::snapshot::{Snapshot, StopCause};
pub(crate) use self::socket::{AskError, ClaimError, StatusReply, ask, claim};
pub(crate) use self::tally::Tally;
