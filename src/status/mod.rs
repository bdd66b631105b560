//! The status of a running daemon: what it is, and how it is asked for.

mod snapshot;
mod socket;

pub use self::snapshot::{Phase, Snapshot, StopCause};
pub use self::socket::{AskError, Claim, ClaimError, Reply, StatusRequest, ask};
