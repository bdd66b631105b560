//! One instance per task runner on a host, and what it tells those who ask.

mod snapshot;
mod socket;

pub use self::snapshot::Snapshot;
pub use self::socket::{Claim, ClaimError, StatusRequest, ask};
