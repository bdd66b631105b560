//! The account limit: a token bucket, as AWS documents it.

use std::time::Duration;

use taskbeat::core::Time;

/// Calls that may come at once.
pub(crate) const BURST: u32 = 100;

/// Calls per second in the long run.
pub(crate) const PER_SECOND: u32 = 1;

/// The bucket. A refused call takes no token.
pub(crate) struct Limit {
    tokens: f64,
    at: Time,
}

impl Limit {
    pub(crate) fn full() -> Self {
        Self { tokens: f64::from(BURST), at: Time::ZERO }
    }

    /// True if a call at `now` is allowed.
    pub(crate) fn allow(&mut self, now: Time) -> bool {
        let refilled = (now - self.at).as_secs_f64() * f64::from(PER_SECOND);
        self.tokens = (self.tokens + refilled).min(f64::from(BURST));
        self.at = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// The shortest time in which the limit allows a heartbeat of each of `size` runners.
pub(crate) fn least(size: u32) -> Duration {
    Duration::from_secs(u64::from(size.saturating_sub(BURST) / PER_SECOND))
}

/// The time between two heartbeats of a runner if all runners share the limit equally; at least an
/// interval.
pub(crate) fn fair_share(size: u32, interval: Duration) -> Duration {
    interval.max(Duration::from_secs(u64::from(size / PER_SECOND)))
}
