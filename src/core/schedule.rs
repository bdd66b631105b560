//! When heartbeats start, and whether the service is in contact.

use std::time::Duration;

use super::failure::{Throttling, backoff, recheck_backoff};
use super::{Action, CommandName, Failure, FailureClass, Policy, Random, Time};

/// Contact is lost when no heartbeat was acknowledged for this many intervals: one of them may fail
/// and be retried without an alarm.
const CONTACT: u32 = 2;

/// The shortest time without an acknowledgement that counts as lost contact, so that one slow
/// response at an interval of milliseconds is not an alarm.
const MIN_CONTACT: Duration = Duration::from_secs(1);

/// Reloads bring a failed heartbeat forward at most once in this time, so that a script that
/// reloads in a loop cannot flood the service.
const RELOAD_PACE: Duration = Duration::from_secs(10);

/// The schedule of one daemon's heartbeats.
///
/// At most one heartbeat is in flight. After an acknowledged one, the next is due an interval after
/// its start, less the jitter. After a failed one, the next is due a backoff after its end; the
/// backoff depends on the class of the failure and on how many of that class came in a row, and is
/// always drawn at random, so that a fleet that failed together comes back spread out.
///
/// While the runner is unhealthy, the heartbeat that is due is withheld: it is checked again after
/// a backoff, and sent with the first success.
///
/// A restart of the runner does not change the due time.
#[derive(Clone, Debug)]
pub struct Schedule {
    next: Next,
    /// When the newest heartbeat started.
    started: Time,
    /// How long the host was suspended since then: the next heartbeat is due earlier by as much.
    suspended: Duration,
    /// When the last acknowledged heartbeat started.
    acknowledged: Option<Time>,
    contact: Contact,
    unhealthy: Option<Unhealthy>,
    /// Failures since the last acknowledgement.
    failures: u32,
    last_failure: Option<Failure>,
    /// How many failures in a row were of the last one's class.
    alike: usize,
    throttling: Option<Throttling>,
    /// True if interval and jitter alone set the due time: not a start, a failure, a reload or a
    /// suspension, which may have hit the whole fleet at once.
    routine: bool,
    /// When a reload last brought a failed heartbeat forward.
    reloaded: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The runner has not run yet.
    NotBegun,
    At(Time),
    /// The health check of the heartbeat that is due runs.
    Checking {
        /// When it is killed.
        until: Time,
    },
    InFlight,
    /// No heartbeat follows any more.
    Ended,
}

/// A runner that is stopped by a signal, or fails its health checks.
#[derive(Clone, Copy, Debug)]
struct Unhealthy {
    since: Time,
    /// How often the heartbeat was withheld.
    withheld: usize,
}

/// Whether the service acknowledges the heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// None was acknowledged yet. Lost at `until`.
    Pending {
        /// Two intervals after the first heartbeat; `None` before it.
        until: Option<Time>,
    },
    /// Heartbeats are acknowledged, each within two intervals of the one before.
    Held {
        /// When the first of them was acknowledged.
        since: Time,
        /// When contact is lost, unless one more is acknowledged.
        until: Time,
    },
    /// None was acknowledged for two intervals.
    Lost {
        /// When the two intervals were over.
        since: Time,
    },
}

impl Contact {
    /// The action that announces the change from `before`. `None` for the first acknowledgement,
    /// which has a log line of its own.
    pub(super) fn change_from(self, before: Self) -> Option<Action> {
        match (before, self) {
            (Self::Pending { .. } | Self::Held { .. }, Self::Lost { .. }) => {
                Some(Action::ContactLost)
            }
            (Self::Lost { since: lost }, Self::Held { since, .. }) => {
                Some(Action::ContactRegained(since - lost))
            }
            (Self::Pending { .. } | Self::Held { .. } | Self::Lost { .. }, _) => None,
        }
    }
}

impl Default for Schedule {
    /// No heartbeat is due until [`begin`](Self::begin).
    fn default() -> Self {
        Self {
            next: Next::NotBegun,
            started: Time::ZERO,
            suspended: Duration::ZERO,
            acknowledged: None,
            contact: Contact::Pending { until: None },
            unhealthy: None,
            failures: 0,
            last_failure: None,
            alike: 0,
            throttling: None,
            routine: false,
            reloaded: None,
        }
    }
}

impl Schedule {
    /// The runner runs. The daemon's first heartbeat is due at once; after that this changes
    /// nothing, so that a runner that restarts in a loop cannot flood the service.
    pub fn begin(&mut self, now: Time, policy: &Policy) {
        if self.next == Next::NotBegun {
            self.next = Next::At(now);
            let until = Some(contact_until(now, policy));
            self.contact = Contact::Pending { until };
        }
    }

    /// No heartbeat follows any more. Returns the action that ends the present one.
    pub fn end(&mut self) -> Option<Action> {
        match std::mem::replace(&mut self.next, Next::Ended) {
            Next::InFlight => Some(Action::Abandon),
            Next::Checking { .. } => Some(Action::KillCommand(CommandName::HealthCheck)),
            Next::NotBegun | Next::At(_) | Next::Ended => None,
        }
    }

    /// When the next heartbeat, or its health check, starts; `None` while one of them is under way
    /// and when none is to follow.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        match self.next {
            Next::At(time) => Some(time),
            Next::NotBegun | Next::Checking { .. } | Next::InFlight | Next::Ended => None,
        }
    }

    /// When the next step of a heartbeat is due: its start, or the end of its health check.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.next {
            Next::At(time) | Next::Checking { until: time } => Some(time),
            Next::NotBegun | Next::InFlight | Next::Ended => None,
        }
    }

    /// True while the health check runs.
    #[must_use]
    pub fn is_checking(&self) -> bool {
        matches!(self.next, Next::Checking { .. })
    }

    /// The health check of the heartbeat that is due starts. It is killed at `until`.
    pub(super) fn check(&mut self, until: Time) {
        self.next = Next::Checking { until };
    }

    /// The runner has exited. The heartbeat stays due. Returns the action that ends its check.
    pub(super) fn cancel_check(&mut self, now: Time) -> Option<Action> {
        let cancelled = self.is_checking();
        if cancelled {
            self.next = Next::At(now);
        }
        cancelled.then_some(Action::KillCommand(CommandName::HealthCheck))
    }

    /// The runner is unhealthy: its heartbeat is checked again after a backoff.
    pub(super) fn withhold(&mut self, now: Time, policy: &Policy) -> Option<Action> {
        let first = self.unhealthy.is_none();
        let unhealthy = self.unhealthy.get_or_insert(Unhealthy { since: now, withheld: 0 });
        self.next = Next::At(now + recheck_backoff(policy.interval, unhealthy.withheld));
        unhealthy.withheld = unhealthy.withheld.saturating_add(1);
        first.then_some(Action::HealthLost)
    }

    /// What made the runner unhealthy may be over: a heartbeat that was withheld is due at once.
    pub(super) fn recheck(&mut self, now: Time) {
        if let (Next::At(time), Some(_)) = (self.next, self.unhealthy) {
            self.next = Next::At(time.min(now));
        }
    }

    /// The runner is healthy.
    pub(super) fn healthy(&mut self, now: Time) -> Option<Action> {
        let unhealthy = self.unhealthy.take();
        unhealthy.map(|unhealthy| Action::HealthRegained(now - unhealthy.since))
    }

    /// How often the heartbeat that is due was withheld.
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.unhealthy.map_or(0, |unhealthy| unhealthy.withheld)
    }

    /// Since when heartbeats are withheld, because the runner is unhealthy.
    #[must_use]
    pub fn unhealthy_since(&self) -> Option<Time> {
        self.unhealthy.map(|unhealthy| unhealthy.since)
    }

    /// True while a response is awaited.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.next == Next::InFlight
    }

    /// The state of contact.
    #[must_use]
    pub fn contact(&self) -> Contact {
        self.contact
    }

    /// True if the service acknowledges the heartbeats.
    #[must_use]
    pub fn in_contact(&self) -> bool {
        matches!(self.contact, Contact::Held { .. })
    }

    /// When contact is lost, unless a heartbeat is acknowledged before.
    #[must_use]
    pub fn contact_deadline(&self) -> Option<Time> {
        match self.contact {
            _ if self.next == Next::Ended => None,
            Contact::Pending { until } => until,
            Contact::Held { until, .. } => Some(until),
            Contact::Lost { .. } => None,
        }
    }

    /// Contact is lost if its deadline has passed.
    pub fn check_contact(&mut self, now: Time) {
        if let Some(since) = self.contact_deadline().filter(|deadline| *deadline <= now) {
            self.contact = Contact::Lost { since };
        }
    }

    /// How many heartbeats failed since the last acknowledged one.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the newest heartbeat started.
    #[must_use]
    pub fn started(&self) -> Time {
        self.started
    }

    /// When the last acknowledged heartbeat started.
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<Time> {
        self.acknowledged
    }

    /// True if the account seems to have more runners than its limit has room for: throttles have
    /// come for three intervals, and the last one is recent.
    #[must_use]
    pub fn over_limit(&self, now: Time, policy: &Policy) -> bool {
        self.throttling.is_some_and(|series| series.is_over_limit(now, policy))
    }

    /// Brings the next heartbeat forward by `gap`, the time that the host was suspended: the
    /// service's clock went on meanwhile.
    pub fn resume(&mut self, gap: Duration) {
        match self.next {
            Next::At(time) => {
                self.next = Next::At(time - gap);
                self.routine = false;
            }
            Next::InFlight => self.suspended += gap,
            Next::NotBegun | Next::Checking { .. } | Next::Ended => {}
        }
    }

    /// The settings changed. The next heartbeat is due no later than the new interval demands.
    ///
    /// A heartbeat that failed or was withheld is tried at once, at most every ten seconds: what
    /// failed under the old settings does not delay the first attempt under the new ones.
    pub fn reload(&mut self, now: Time, policy: &Policy) {
        self.routine = false;
        // The new settings may belong to another account.
        self.throttling = None;
        let too_soon = self.reloaded.is_some_and(|reloaded| now - reloaded < RELOAD_PACE);
        let retry = (self.failures > 0 || self.unhealthy.is_some()) && !too_soon;
        if retry {
            self.reloaded = Some(now);
            // The whole fleet may have been reloaded, so the next throttle spreads it. Other
            // failures go on with their backoff, so that reloads in a row cannot speed them up.
            self.last_failure =
                self.last_failure.filter(|failure| failure.class != FailureClass::Throttled);
        }
        if let Next::At(time) = self.next {
            let latest = match self.reloaded {
                _ if retry => now,
                // The newest heartbeat may have started long ago.
                Some(last) if self.unhealthy.is_some() => {
                    (self.started + policy.interval).max(last + RELOAD_PACE)
                }
                Some(_) | None => self.started + policy.interval,
            };
            self.next = Next::At(time.min(latest));
        }
    }

    /// A heartbeat starts. Returns true if it needs a new client: every second time after failures
    /// that the client itself may cause (dead connections, stale credentials). Not every time,
    /// because a client learns the clock skew from a refusal and succeeds with its second attempt.
    pub fn start(&mut self, now: Time) -> bool {
        self.next = Next::InFlight;
        self.started = now;
        self.suspended = Duration::ZERO;
        self.failures.is_multiple_of(2)
            && self.last_failure.is_some_and(|failure| failure.class != FailureClass::Throttled)
    }

    /// The heartbeat in flight was acknowledged.
    pub fn acknowledged(&mut self, now: Time, policy: &Policy, random: Random) {
        let until = contact_until(self.started, policy);
        let since = match self.contact {
            Contact::Held { since, .. } => since,
            Contact::Pending { .. } | Contact::Lost { .. } => now,
        };
        self.contact = Contact::Held { since, until };
        // The check begins earlier by its limit, so that the heartbeat after it is not late.
        let check = policy.health_check.unwrap_or_default();
        let jitter = policy.interval.mul_f64(policy.jitter);
        let early = check + random.part_of(jitter.saturating_sub(check));
        let wait = policy.interval.saturating_sub(early);
        self.next = Next::At(self.started + wait - self.suspended);
        self.acknowledged = Some(self.started);
        self.failures = 0;
        self.last_failure = None;
        self.routine = self.suspended.is_zero();
    }

    /// The heartbeat in flight failed.
    pub fn failed(&mut self, now: Time, policy: &Policy, failure: Failure, random: Random) {
        let throttled = failure.class == FailureClass::Throttled;
        let last = self.last_failure.map(|failure| failure.class);
        let before = if last == Some(failure.class) {
            self.alike
        } else {
            // A throttle at a routine heartbeat already shows that the fleet is too large, so the
            // first spread is skipped.
            usize::from(self.routine && throttled)
        };
        self.next = Next::At(now + backoff(policy.interval, failure, before, random));
        if throttled {
            self.throttling = Some(Throttling::extended(self.throttling, now, policy));
        }
        self.alike = before.saturating_add(1);
        self.routine = false;
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(failure);
    }
}

/// When contact is lost if the heartbeat that started at `started` is the last one acknowledged.
fn contact_until(started: Time, policy: &Policy) -> Time {
    started + (policy.interval * CONTACT).max(MIN_CONTACT)
}
