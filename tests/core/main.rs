//! The pure core: every decision, and the laws that hold whatever happens.

mod exit;
mod laws;
mod model;
mod names;
mod schedule;
mod soak;
mod table;
mod transitions;
mod world;

use std::time::Duration;

use taskbeat::core::{AfterTerminate, Policy};

/// The defaults, without the jitter.
fn policy() -> Policy {
    Policy {
        interval: Duration::from_mins(15),
        jitter: 0.0,
        grace: Duration::from_secs(30),
        lost_contact_after: None,
        on_terminate: false,
        health_check: None,
        on_contact_change: false,
        after_terminate: AfterTerminate::Exit,
    }
}

/// How many random cases a test runs: `full` if `TASKBEAT_TEST_FULL=1` is set, else `few`.
fn count(full: u32, few: u32) -> u32 {
    if std::env::var("TASKBEAT_TEST_FULL").as_deref() == Ok("1") { full } else { few }
}
