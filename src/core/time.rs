//! The core's only notion of time.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment: awake time since the daemon started.
///
/// It counts `CLOCK_MONOTONIC`, which stands still while the host is suspended and cannot be set.
/// The core never reads a clock; each event comes with its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Duration);

impl Time {
    /// The daemon's start.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment `awake` after the daemon's start.
    #[must_use]
    pub const fn after_start(awake: Duration) -> Self {
        Self(awake)
    }

    /// How long the daemon had been awake at this moment.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The time from `earlier` to `self`; zero if `earlier` is later.
impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}
