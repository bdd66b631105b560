//! One instance per task runner on a host, and what it tells those who ask.

mod instance;
mod snapshot;

pub use self::instance::{Asker, ClaimError, Instance, ask};
pub use self::snapshot::Snapshot;
