//! The rules of the schedule: backoffs, the account's limit, jitter, reloads and contact.

mod backoff;
mod limit;

use std::ops::RangeInclusive;
use std::time::Duration;

use taskbeat::core::{Contact, Failure, FailureClass, Policy, Random, Schedule, Time};

use crate::policy;

/// The largest random number.
const LARGEST: f64 = 1.0;

const SECOND: Duration = Duration::from_secs(1);

/// A schedule with a heartbeat in flight.
struct Beating {
    schedule: Schedule,
    policy: Policy,
    now: Time,
}

impl Beating {
    /// At the default interval of 15 minutes.
    fn new() -> Self {
        Self::with_interval(policy().interval)
    }

    fn with_interval(interval: Duration) -> Self {
        let policy = Policy { interval, ..policy() };
        let mut schedule = Schedule::default();
        schedule.begin(Time::ZERO, &policy);
        schedule.start(Time::ZERO);
        Self { schedule, policy, now: Time::ZERO }
    }

    /// The heartbeat fails and is retried when it is due. Returns the backoff, and true if the
    /// retry needs a new client.
    fn fail(
        &mut self,
        class: FailureClass,
        retry_after: Option<Duration>,
        random: f64,
    ) -> (Duration, bool) {
        let failure = Failure { class, retry_after };
        let random = Random::new(random);
        self.schedule.failed(self.now, &self.policy, failure, random);
        let Some(due) = self.schedule.due() else {
            panic!("given up");
        };
        let backoff = due - self.now;
        self.now = due;
        (backoff, self.schedule.start(due))
    }

    /// The bounds of the backoff after one more failure, in seconds. It fails with the longest one.
    fn span(&mut self, class: FailureClass) -> RangeInclusive<f64> {
        let seconds = |backoff: Duration| (backoff.as_secs_f64() * 1e3).round() / 1e3;
        let mut shortest = Self { schedule: self.schedule.clone(), ..*self };
        let (shortest, _) = shortest.fail(class, None, 0.0);
        let (longest, _) = self.fail(class, None, LARGEST);
        seconds(shortest)..=seconds(longest)
    }

    /// The heartbeat is acknowledged. The next one has not started.
    fn acknowledge(&mut self) {
        let random = Random::new(0.0);
        self.schedule.acknowledged(self.now, &self.policy, random);
    }

    /// The heartbeat is acknowledged, and the next one starts an interval later.
    fn acknowledge_and_go_on(&mut self) {
        self.acknowledge();
        self.now = self.now + self.policy.interval;
        self.schedule.start(self.now);
    }

    fn reload(&mut self) {
        self.schedule.reload(self.now, &self.policy);
    }

    fn suspend(&mut self) {
        self.schedule.resume(Duration::from_hours(1));
    }
}

fn minutes(minutes: u64) -> Time {
    Time::ZERO + Duration::from_mins(minutes)
}

#[test]
fn jitter_only_shortens_the_interval_and_by_no_more_than_its_part() {
    for (jitter, random, expected) in [
        (0.0, LARGEST, 900.0),
        (0.1, 0.0, 900.0),
        (0.1, 0.5, 855.0),
        (0.1, LARGEST, 810.0),
        (0.5, LARGEST, 450.0),
    ] {
        let mut schedule = Beating::new().schedule;
        let policy = Policy { jitter, ..policy() };
        schedule.acknowledged(minutes(1), &policy, Random::new(random));
        let due = schedule.due().unwrap_or_default().since_start();
        let off = (due.as_secs_f64() - expected).abs();
        assert!(off < 1e-6, "{jitter} {random}: {due:?}");
    }
}

#[test]
fn every_second_failure_that_a_client_may_cause_renews_it() {
    for (class, expected) in [
        (FailureClass::Transient, [false, true, false, true]),
        (FailureClass::Rejected, [false, true, false, true]),
        (FailureClass::Throttled, [false; 4]),
    ] {
        let mut beating = Beating::new();
        let renewed = [(); 4].map(|()| beating.fail(class, None, 0.5).1);
        assert_eq!(renewed, expected, "{class:?}");
    }
}

#[test]
fn contact_lasts_two_intervals_from_the_start_of_the_last_acknowledged_heartbeat() {
    let mut schedule = Beating::new().schedule;
    assert!(!schedule.in_contact());
    assert_eq!(schedule.contact_deadline(), Some(minutes(30)));
    schedule.acknowledged(minutes(1), &policy(), Random::new(0.0));
    assert!(schedule.in_contact());
    schedule.check_contact(minutes(30) - Duration::from_millis(1));
    assert!(schedule.in_contact());
    schedule.check_contact(minutes(30));
    let since = minutes(30);
    assert_eq!(schedule.contact(), Contact::Lost { since });
    assert_eq!(schedule.contact_deadline(), None);
}

#[test]
fn contact_lasts_a_second_at_least() {
    let mut beating = Beating::with_interval(Duration::from_millis(10));
    let second = Time::ZERO + SECOND;
    assert_eq!(beating.schedule.contact_deadline(), Some(second));
    beating.acknowledge();
    assert_eq!(beating.schedule.contact_deadline(), Some(second));
}

#[test]
fn contact_began_with_the_first_of_the_heartbeats_that_were_acknowledged_in_time() {
    let mut schedule = Beating::new().schedule;
    for (started, acknowledged, began) in [
        (0, 1, 1),
        (15, 16, 1),
        // Two intervals after the start of the heartbeat before, contact was lost.
        (44, 46, 46),
        (50, 51, 46),
    ] {
        schedule.start(minutes(started));
        schedule.check_contact(minutes(acknowledged));
        schedule.acknowledged(minutes(acknowledged), &policy(), Random::new(0.0));
        let Contact::Held { since, .. } = schedule.contact() else {
            panic!("no contact after the heartbeat at {started}");
        };
        assert_eq!(since, minutes(began), "{started}");
    }
}

#[test]
fn reloads_bring_a_failed_heartbeat_forward_once_in_ten_seconds() {
    let mut schedule = Beating::new().schedule;
    let failure = Failure { class: FailureClass::Rejected, retry_after: None };
    for (seconds, expected) in [(0, 0), (1, 150), (9, 150), (10, 10), (11, 150), (20, 20)] {
        // Each reload meets a heartbeat that is due 150 s after the start.
        for _ in 0..20 {
            let random = Random::new(0.0);
            schedule.start(Time::ZERO);
            schedule.failed(Time::ZERO, &policy(), failure, random);
        }
        schedule.reload(Time::ZERO + seconds * SECOND, &policy());
        let due = Time::ZERO + expected * SECOND;
        assert_eq!(schedule.due(), Some(due), "after {seconds} s");
    }
}

#[test]
fn every_reload_shortens_the_wait_to_the_new_interval() {
    let mut beating = Beating::new();
    let short = Policy { interval: Duration::from_secs(5), ..policy() };
    beating.fail(FailureClass::Throttled, None, 0.0);
    beating.reload();
    let started = beating.now;
    let failure = Failure { class: FailureClass::Throttled, retry_after: None };
    let random = Random::new(LARGEST);
    beating.schedule.failed(started, &policy(), failure, random);
    // Too soon after the other reload for a retry at once.
    beating.schedule.reload(started + SECOND, &short);
    assert_eq!(beating.schedule.due(), Some(started + short.interval));
}

#[test]
fn a_runner_that_comes_back_begins_nothing_anew() {
    let mut schedule = Beating::new().schedule;
    schedule.acknowledged(minutes(1), &policy(), Random::new(0.0));
    let contact = schedule.contact();
    schedule.begin(minutes(2), &policy());
    assert_eq!(schedule.due(), Some(minutes(15)));
    assert_eq!(schedule.contact(), contact);
}
