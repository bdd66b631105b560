//! The status of a running daemon: what it is, and how it is asked for.

mod snapshot;
mod socket;

#[cfg(test)]
mod tests;

pub(crate) use self::snapshot::Snapshot;
pub(crate) use self::socket::{AskError, Claim, ClaimError, Reply, StatusRequest, ask};
