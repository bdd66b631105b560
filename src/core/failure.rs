//! Failed heartbeats: their classes, and how long to wait before the next attempt.

use std::fmt;
use std::time::Duration;

use super::{Policy, Time};

/// A random number in `[0, 1)`. The shell draws it, so that the core stays a function of its input.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Random(f64);

impl Random {
    /// Takes `value`, clamped into `[0, 1)`; NaN becomes 0.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0 - f64::EPSILON) })
    }

    pub(super) fn part_of(self, whole: Duration) -> Duration {
        whole.mul_f64(self.0)
    }
}

/// Why a heartbeat was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// How long the service asks taskbeat to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
}

/// The kinds of failure. Each has a backoff of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// No usable response: no connection, a timeout, a 5xx, or a body that is not the service's.
    Transient,
    /// The account is over its limit.
    Throttled,
    /// The service refused the heartbeat: credentials, signature or validation.
    Rejected,
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Rejected => "rejected",
        })
    }
}

/// Report the account as over its limit after this many intervals of throttling.
const OVER_LIMIT: u32 = 3;

/// Report it as within its limit after this many intervals without a throttle. In a fleet that is
/// too large, two of five heartbeats succeed, and some runners are lucky for hours.
const WITHIN_LIMIT: u32 = 8;

/// Backoffs are given in seconds of the default interval and scale with any other interval.
const DEFAULT_INTERVAL: f64 = 900.0;

/// The bounds between which a backoff is drawn, in seconds of the default interval.
type Span = (f64, f64);

// The three backoffs below were chosen with `benches/fleet`, which simulates fleets of up to 10,000
// runners against the account's limit and checks the goals.

/// The first backoff after a throttle that may have hit the whole fleet at once: at a start, or
/// after an outage.
///
/// The account has 1 call per second and a burst of 100, shared by all runners. The first 100 s let
/// the burst refill as a cushion. After that, a fleet that fits the limit comes back at one call
/// per second, all of it before its next heartbeats are due.
const SPREAD: Span = (100.0, 730.0);

/// The backoffs of a runner that is throttled again, or at a routine heartbeat: its fleet is too
/// large. It yields the limit to the others for nearly an interval, then twice for some minutes.
const YIELDS: [Span; 3] = [(810.0, 880.0), (350.0, 390.0), (350.0, 390.0)];

/// The backoff after those. Such a runner has waited longest, so it retries more often than the
/// others and is served before them.
const OLDEST: Span = (10.0, 20.0);

/// How many retries follow each other that closely: enough for a fleet of twice the limit. In a
/// larger fleet every runner is old and frequent retries help none of them, so it yields again.
const OLDEST_TRIES: usize = 36;

/// The longest backoff, even if the service asks for more: less than an interval.
const LONGEST: f64 = 880.0;

/// The minimum random width if the service asks for the longest backoff or more.
const ASKED_WIDTH: f64 = 30.0;

/// The longest backoff after a transient failure. Such a failure costs nothing of the account's
/// limit, and after an outage a fleet that learns early that it is throttled comes back early.
const TRANSIENT: f64 = 30.0;

/// The longest backoff after a rejection, so that mended credentials are used within minutes.
const REJECTED: f64 = 300.0;

/// The longest backoff between health checks, so that a healthy runner is reported within minutes.
const UNHEALTHY: f64 = 300.0;

impl FailureClass {
    /// The bounds of the backoff after `before` failures of this class and one more.
    fn span(self, before: usize) -> Span {
        match self {
            Self::Transient => doubled(before, TRANSIENT),
            Self::Rejected => doubled(before, REJECTED),
            Self::Throttled => {
                let round = YIELDS.len() + OLDEST_TRIES;
                before
                    .checked_sub(1)
                    .map_or(SPREAD, |later| YIELDS.get(later % round).copied().unwrap_or(OLDEST))
            }
        }
    }

    fn longest(self) -> f64 {
        match self {
            Self::Transient | Self::Throttled => LONGEST,
            Self::Rejected => REJECTED,
        }
    }
}

/// One second at first, then twice as long each time. The upper half of it is drawn.
fn doubled(before: usize, longest: f64) -> Span {
    let high = f64::from(1_u32 << before.min(20)).min(longest);
    (high / 2.0, high)
}

/// How long to wait after `failure`.
///
/// A `Retry-After` moves the span and keeps its width as far as there is room, so that a fleet that
/// receives the same delay does not come back at the same moment.
pub(super) fn backoff(
    interval: Duration,
    failure: Failure,
    before: usize,
    random: Random,
) -> Duration {
    let part = |seconds: f64| interval.mul_f64(seconds / DEFAULT_INTERVAL);
    let (low, high) = failure.class.span(before);
    let longest = failure.class.longest();
    let asked = failure.retry_after.unwrap_or_default();
    let earliest = asked.min(part(longest - ASKED_WIDTH)).max(part(low));
    let latest = (earliest + part(high - low)).min(part(longest));
    earliest + random.part_of(latest.saturating_sub(earliest))
}

/// How long to wait for the next health check after `before` failed ones and one more. It is a
/// matter of this host alone, so nothing is drawn.
pub(super) fn recheck_backoff(interval: Duration, before: usize) -> Duration {
    let (_, seconds) = doubled(before, UNHEALTHY);
    interval.mul_f64(seconds / DEFAULT_INTERVAL)
}

/// A series of throttles, from the first to the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttling {
    first: Time,
    last: Time,
}

impl Throttling {
    /// The series that a throttle at `now` continues or begins.
    pub(super) fn extended(series: Option<Self>, now: Time, policy: &Policy) -> Self {
        let first = series
            .filter(|series| series.is_recent(now, policy))
            .map_or(now, |series| series.first);
        Self { first, last: now }
    }

    /// True if the series has gone on for three intervals and is recent. A fleet that fits the
    /// limit has no throttles any more within one interval of a common start.
    pub(super) fn is_over_limit(self, now: Time, policy: &Policy) -> bool {
        self.is_long(policy) && self.is_recent(now, policy)
    }

    fn is_long(self, policy: &Policy) -> bool {
        self.last - self.first >= policy.interval * OVER_LIMIT
    }

    /// False if the last throttle is too old for the next one to belong to the same series.
    fn is_recent(self, now: Time, policy: &Policy) -> bool {
        let intervals = if self.is_long(policy) { WITHIN_LIMIT } else { OVER_LIMIT };
        now - self.last < policy.interval * intervals
    }
}
