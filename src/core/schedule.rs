//! When the next heartbeat starts: the interval, its jitter, and the backoff after a failure.

use std::time::Duration;

use super::{Policy, Time};

/// A random number in `[0, 1)`, drawn by the shell so that the core stays a function of its input.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Random(f64);

impl Random {
    /// Takes `value`, moved into `[0, 1)` where it lies outside.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() {
            0.0
        } else {
            value.clamp(0.0, 1.0 - f64::EPSILON)
        })
    }
}

/// Why a heartbeat was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// How long the service asks us to stay away.
    pub retry_after: Option<Duration>,
}

/// The kinds of failure, by what the service said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// It said nothing that counts: no connection, a timeout, a 5xx, a body that is not its own.
    Transient,
    /// It said that the account is over its limit.
    Throttled,
    /// It said no: credentials, signature, validation.
    Rejected,
}

/// For so many intervals a runner is throttled before it speaks of the account's limit.
const OVER_LIMIT: u32 = 3;

/// For so many it is not throttled before it takes that back. That takes longer, for in a fleet that does not fit two of
/// five heartbeats are lucky, and some runners are so for hours.
const WITHIN_LIMIT: u32 = 8;

/// Backoffs are written in seconds of the default interval and keep their part of any other.
const DEFAULT_INTERVAL: f64 = 900.0;

/// A backoff is drawn between these, both in seconds of the default interval.
type Span = (f64, f64);

/// The first wait of a runner that is throttled after what hits whole fleets at once: a start, an outage.
///
/// The account has 1 call per second and a burst of 100, for everybody, and only tells who comes too early. So the
/// burst refills first, as a cushion. Then a fleet that fits comes back evenly, a call per second, and all of it before
/// its next heartbeats are due.
const SPREAD: Span = (100.0, 730.0);

/// Whoever is throttled after that, or at a time of its own, belongs to a fleet that does not fit, and leaves the limit
/// to the others for nearly an interval, and then twice for some minutes.
const YIELDS: [Span; 3] = [(810.0, 880.0), (350.0, 390.0), (350.0, 390.0)];

/// After those it is one of the longest unheard, and asks more often than anybody else: the oldest come first.
const OLDEST: Span = (10.0, 20.0);

/// It does so this many times, which is enough for twice as many runners as fit. In a fleet far beyond that everybody
/// is old, and asking often helps nobody, so then it yields again.
const OLDEST_TRIES: usize = 36;

/// The longest wait that the service may ask for: less than an interval, whoever asks.
const LONGEST: f64 = 880.0;

/// The width that is left to the draw when it asks for as much as that, or more.
const ASKED_WIDTH: f64 = 30.0;

/// The longest wait after a transient failure. It costs nobody's limit, and the sooner after an outage a fleet learns
/// that it is throttled, the sooner all of it is back.
const TRANSIENT: f64 = 30.0;

/// The longest wait after a rejection: who mended the credentials should not have to wait for the next interval.
const REJECTED: f64 = 300.0;

impl FailureClass {
    /// Where the backoff lies after a failure with `before` others of this class right before it.
    fn span(self, before: usize) -> Span {
        match self {
            Self::Transient => doubled(before, TRANSIENT),
            Self::Rejected => doubled(before, REJECTED),
            Self::Throttled => {
                let round = YIELDS.len() + OLDEST_TRIES;
                before.checked_sub(1).map_or(SPREAD, |later| {
                    YIELDS.get(later % round).copied().unwrap_or(OLDEST)
                })
            }
        }
    }

    /// The longest backoff, even if the service asks for more.
    fn longest(self) -> f64 {
        match self {
            Self::Transient | Self::Throttled => LONGEST,
            Self::Rejected => REJECTED,
        }
    }
}

/// A second at first, twice as much each time, and half of it drawn.
fn doubled(before: usize, longest: f64) -> Span {
    let high = f64::from(1_u32 << before.min(20)).min(longest);
    (high / 2.0, high)
}

/// How long to wait after `fault`. What the service asks for moves the span and leaves its width as long as there is
/// room, so that a fleet that is told the same does not come back as one.
fn backoff(interval: Duration, fault: Failure, before: usize, random: Random) -> Duration {
    let part = |seconds: f64| interval.mul_f64(seconds / DEFAULT_INTERVAL);
    let (low, high) = fault.class.span(before);
    let longest = fault.class.longest();
    let asked = fault.retry_after.unwrap_or_default();
    let earliest = asked.min(part(longest - ASKED_WIDTH)).max(part(low));
    let latest = (earliest + part(high - low)).min(part(longest));
    earliest + latest.saturating_sub(earliest).mul_f64(random.0)
}

/// Whether a series of throttles, from the first to the last, is as long as only a fleet beyond the limit has it.
fn is_over_limit((first, last): (Time, Time), policy: &Policy) -> bool {
    last - first >= policy.interval * OVER_LIMIT
}

/// The schedule of one runner's heartbeats.
///
/// At most one is in flight. An acknowledged one puts the next an interval after its own start, less the jitter; a
/// failed one puts the next a backoff after its end, which follows from the class of the failure and from how many of
/// that class came in a row. It is always drawn, so that a fleet that failed together comes back spread out.
#[derive(Clone, Debug)]
pub struct Schedule {
    next: Next,
    /// When the newest heartbeat started, whatever became of it.
    started: Time,
    /// By how much the host's suspension brought the one after it forward.
    forward: Duration,
    /// The start of the last acknowledged heartbeat, or else the runner's start.
    heard: Time,
    /// Since when the heartbeats were acknowledged, each in time.
    contact_since: Option<Time>,
    failures: u32,
    last_fault: Option<Failure>,
    /// The first and the last of the throttles of one series.
    throttles: Option<(Time, Time)>,
    /// How many failures in a row were of the last one's class.
    alike: usize,
    /// Whether the next heartbeat comes at a time of its own: not after a start, a failure, a reload or a suspension,
    /// which may have hit the whole fleet.
    routine: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Never,
    InFlight,
    At(Time),
}

impl Schedule {
    /// No heartbeat, until [`begin`](Self::begin).
    #[must_use]
    pub fn new() -> Self {
        Self {
            next: Next::Never,
            started: Time::ZERO,
            forward: Duration::ZERO,
            heard: Time::ZERO,
            contact_since: None,
            failures: 0,
            last_fault: None,
            throttles: None,
            alike: 0,
            routine: false,
        }
    }

    /// The runner runs: the first heartbeat is due at once.
    pub fn begin(&mut self, now: Time) {
        *self = Self {
            next: Next::At(now),
            heard: now,
            ..Self::new()
        };
    }

    /// The runner does not run any more, or the service wants no more: no heartbeat follows.
    /// True when one is in flight, which is to be abandoned.
    pub fn end(&mut self) -> bool {
        std::mem::replace(&mut self.next, Next::Never) == Next::InFlight
    }

    /// When the next heartbeat starts; `None` while one is in flight and when none is to follow.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        match self.next {
            Next::At(time) => Some(time),
            Next::Never | Next::InFlight => None,
        }
    }

    /// True while an answer is awaited.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.next == Next::InFlight
    }

    /// True while the last acknowledged heartbeat started less than two intervals ago: one of them
    /// may fail and be tried again without alarm.
    #[must_use]
    pub fn in_contact(&self, now: Time, policy: &Policy) -> bool {
        self.contact_ends(policy).is_some_and(|end| now < end)
    }

    /// When the present contact ends unless a heartbeat is acknowledged, or when the last one did; `None` before the
    /// first.
    #[must_use]
    pub fn contact_ends(&self, policy: &Policy) -> Option<Time> {
        self.contact_since.map(|_| self.heard + policy.interval * 2)
    }

    /// When the present contact began, or the last one if there is none; `None` before the first.
    #[must_use]
    pub fn contact_since(&self) -> Option<Time> {
        self.contact_since
    }

    /// How many heartbeats failed since the last acknowledged one.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The start of the last acknowledged heartbeat, or else the runner's start.
    #[must_use]
    pub fn heard(&self) -> Time {
        self.heard
    }

    /// True when throttles have come for three intervals, and the last one is not long ago. After a common start a fleet
    /// that fits is through with them in less than one interval.
    #[must_use]
    pub fn over_limit(&self, now: Time, policy: &Policy) -> bool {
        self.throttles(now, policy)
            .is_some_and(|series| is_over_limit(series, policy))
    }

    /// The series of throttles, unless the last one is too long ago for the next to belong to it.
    fn throttles(&self, now: Time, policy: &Policy) -> Option<(Time, Time)> {
        self.throttles.filter(|series| {
            let intervals = if is_over_limit(*series, policy) {
                WITHIN_LIMIT
            } else {
                OVER_LIMIT
            };
            now - series.1 < policy.interval * intervals
        })
    }

    /// Brings the next heartbeat forward: the service has waited for `gap` longer than we were awake.
    pub fn bring_forward(&mut self, gap: Duration) {
        match self.next {
            Next::At(time) => {
                self.next = Next::At(time - gap);
                self.routine = false;
            }
            Next::InFlight => self.forward += gap,
            Next::Never => {}
        }
    }

    /// The settings changed: a heartbeat that failed is tried again now, and none is later than the
    /// new interval. What failed under the old ones makes nobody wait under the new ones.
    pub fn reload(&mut self, now: Time, policy: &Policy) {
        if let Next::At(time) = self.next {
            let latest = if self.failures > 0 {
                now
            } else {
                self.heard + policy.interval
            };
            self.next = Next::At(time.min(latest));
        }
        self.failures = 0;
        self.last_fault = None;
        self.throttles = None;
        self.routine = false;
    }

    /// A heartbeat starts. True when it should use a new client: every second time after failures that the client
    /// itself may be the cause of (dead connections, stale credentials). Not every time, because a client corrects
    /// its clock by the first refusal and succeeds with the second attempt.
    pub fn start(&mut self, now: Time) -> bool {
        self.next = Next::InFlight;
        self.started = now;
        self.forward = Duration::ZERO;
        self.failures > 0
            && self.failures.is_multiple_of(2)
            && self
                .last_fault
                .is_some_and(|fault| fault.class != FailureClass::Throttled)
    }

    /// The heartbeat in flight was acknowledged.
    pub fn acknowledged(&mut self, now: Time, policy: &Policy, random: Random) {
        if !self.in_contact(now, policy) {
            self.contact_since = Some(now);
        }
        let early = policy.interval.mul_f64(policy.jitter * random.0);
        self.next = Next::At(self.started + policy.interval.saturating_sub(early) - self.forward);
        self.heard = self.started;
        self.failures = 0;
        self.last_fault = None;
        self.routine = self.forward.is_zero();
    }

    /// The heartbeat in flight failed.
    pub fn failed(&mut self, now: Time, policy: &Policy, fault: Failure, random: Random) {
        let last = self.last_fault.map(|fault| fault.class);
        let before = if last == Some(fault.class) {
            self.alike
        } else {
            // Who is throttled at a time of its own need not find out first whether the fleet fits.
            usize::from(self.routine && fault.class == FailureClass::Throttled)
        };
        self.next = Next::At(now + backoff(policy.interval, fault, before, random));
        if fault.class == FailureClass::Throttled {
            let series = self.throttles(now, policy);
            self.throttles = Some((series.map_or(now, |(first, _)| first), now));
        }
        self.alike = before.saturating_add(1);
        self.routine = false;
        self.failures = self.failures.saturating_add(1);
        self.last_fault = Some(fault);
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new()
    }
}
