//! The pure core: every decision, and the laws that hold whatever happens.

mod table;

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
        after_terminate: AfterTerminate::Exit,
    }
}
