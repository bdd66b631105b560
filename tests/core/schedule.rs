//! The rules of the schedule: what each class of failure costs, and what no service and no random can change.

use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::prelude::*;
use taskbeat::core::{Failure, FailureClass, Policy, Random, Schedule, Time};

use crate::table::policy;

const LAST: f64 = 1.0;

/// A schedule of which nothing was acknowledged yet.
struct Failing {
    schedule: Schedule,
    policy: Policy,
    now: Time,
}

impl Failing {
    fn new(interval: Duration) -> Self {
        let mut schedule = Schedule::new();
        schedule.begin(Time::ZERO);
        Self {
            schedule,
            policy: Policy {
                interval,
                ..policy()
            },
            now: Time::ZERO,
        }
    }

    /// Fails once more. How long until the next try, and does the one after this failure want a new client?
    fn fail(
        &mut self,
        class: FailureClass,
        retry_after: Option<Duration>,
        random: f64,
    ) -> (Duration, bool) {
        let fault = Failure { class, retry_after };
        self.schedule
            .failed(self.now, &self.policy, fault, Random::new(random));
        let Some(due) = self.schedule.due() else {
            panic!("given up");
        };
        let backoff = due - self.now;
        self.now = due;
        (backoff, self.schedule.start(due))
    }

    /// Between which seconds the backoff after one more failure lies; it happens with the longest.
    fn span(&mut self, class: FailureClass) -> RangeInclusive<f64> {
        let seconds = |backoff: Duration| (backoff.as_secs_f64() * 1e3).round() / 1e3;
        let mut shortest = Self {
            schedule: self.schedule.clone(),
            ..*self
        };
        seconds(shortest.fail(class, None, 0.0).0)..=seconds(self.fail(class, None, LAST).0)
    }
}

fn minutes(minutes: u64) -> Time {
    Time::ZERO + Duration::from_mins(minutes)
}

fn lone() -> Failing {
    Failing::new(Duration::from_mins(15))
}

#[test]
fn a_transient_failure_is_retried_within_a_second_and_later_every_half_minute() {
    let mut failing = lone();
    let spans: Vec<_> = (0..7)
        .map(|_| failing.span(FailureClass::Transient))
        .collect();
    let expected = [
        0.5..=1.0,
        1.0..=2.0,
        2.0..=4.0,
        4.0..=8.0,
        8.0..=16.0,
        15.0..=30.0,
        15.0..=30.0,
    ];
    assert_eq!(spans, expected);
}

#[test]
fn a_rejected_heartbeat_never_waits_longer_than_five_minutes() {
    let mut failing = lone();
    assert_eq!(failing.span(FailureClass::Rejected), 0.5..=1.0);
    let last = (0..1_000)
        .map(|_| failing.span(FailureClass::Rejected))
        .last();
    assert_eq!(last, Some(150.0..=300.0));
    let asked = Some(Duration::from_hours(1));
    let (backoff, _) = failing.fail(FailureClass::Rejected, asked, LAST);
    assert!(backoff <= Duration::from_mins(5), "{backoff:?}");
}

/// The waits of a throttled runner after its first one.
fn yields_and_then_is_among_the_oldest(failing: &mut Failing) {
    assert_eq!(failing.span(FailureClass::Throttled), 810.0..=880.0);
    assert_eq!(failing.span(FailureClass::Throttled), 350.0..=390.0);
    assert_eq!(failing.span(FailureClass::Throttled), 350.0..=390.0);
    for _ in 0..36 {
        assert_eq!(failing.span(FailureClass::Throttled), 10.0..=20.0);
    }
}

#[test]
fn a_throttled_runner_spreads_then_yields_then_is_among_the_oldest_and_then_yields_again() {
    let mut failing = lone();
    assert_eq!(failing.span(FailureClass::Throttled), 100.0..=730.0);
    for _ in 0..2 {
        yields_and_then_is_among_the_oldest(&mut failing);
    }
}

#[test]
fn a_runner_that_is_throttled_at_a_time_of_its_own_yields_at_once() {
    let mut failing = lone();
    acknowledged(&mut failing);
    for _ in 0..2 {
        yields_and_then_is_among_the_oldest(&mut failing);
    }
}

/// Acknowledges the heartbeat in flight. The next one is yet to start.
fn heard(failing: &mut Failing) {
    failing
        .schedule
        .acknowledged(failing.now, &failing.policy, Random::new(0.0));
}

fn reload(failing: &mut Failing) {
    failing.schedule.reload(failing.now, &failing.policy);
}

fn suspend(failing: &mut Failing) {
    failing.schedule.bring_forward(Duration::from_hours(1));
}

fn fail(class: FailureClass) -> impl Fn(&mut Failing) {
    move |failing| {
        failing.fail(class, None, LAST);
    }
}

#[test]
fn what_may_have_hit_the_whole_fleet_makes_it_spread() {
    let after = |what: &str, happened: &[&dyn Fn(&mut Failing)]| {
        let mut failing = lone();
        acknowledged(&mut failing);
        for happens in happened {
            happens(&mut failing);
        }
        failing.schedule.start(failing.now);
        assert_eq!(
            failing.span(FailureClass::Throttled),
            100.0..=730.0,
            "{what}"
        );
    };
    after("an outage", &[&fail(FailureClass::Transient)]);
    after("a reload", &[&heard, &reload]);
    after("a retry now", &[&fail(FailureClass::Throttled), &reload]);
    after("a suspension", &[&heard, &suspend]);
    after("a suspension before the answer", &[&suspend, &heard]);
}

#[test]
fn each_class_counts_its_own_failures_in_a_row() {
    let mut failing = lone();
    for _ in 0..100 {
        failing.fail(FailureClass::Transient, None, LAST);
    }
    assert_eq!(failing.span(FailureClass::Throttled), 100.0..=730.0);
    assert_eq!(failing.span(FailureClass::Throttled), 810.0..=880.0);
    assert_eq!(failing.span(FailureClass::Rejected), 0.5..=1.0);
    assert_eq!(failing.span(FailureClass::Throttled), 100.0..=730.0);
}

#[test]
fn an_acknowledged_heartbeat_forgets_the_failures() {
    let mut failing = lone();
    for _ in 0..5 {
        failing.fail(FailureClass::Throttled, None, LAST);
    }
    heard(&mut failing);
    assert_eq!(failing.schedule.failures(), 0);
    assert_eq!(failing.span(FailureClass::Throttled), 810.0..=880.0);
}

#[test]
fn what_the_service_asks_for_is_obeyed_and_leaves_a_fleet_spread() {
    let minutes = |minutes| Some(Duration::from_mins(minutes));
    for (class, asked, shortest, longest) in [
        (FailureClass::Transient, minutes(2), 120.0, 120.5),
        (FailureClass::Throttled, minutes(1), 100.0, 730.0),
        (FailureClass::Throttled, minutes(3), 180.0, 810.0),
        (FailureClass::Throttled, minutes(5), 300.0, 880.0),
        (FailureClass::Throttled, minutes(600), 850.0, 880.0),
        (FailureClass::Transient, minutes(600), 850.0, 850.5),
        (FailureClass::Rejected, minutes(600), 270.0, 270.5),
    ] {
        for (random, expected) in [(0.0, shortest), (LAST, longest)] {
            let (backoff, _) = lone().fail(class, asked, random);
            let off = (backoff.as_secs_f64() - expected).abs();
            assert!(off < 1e-6, "{class:?} {asked:?} {random}: {backoff:?}");
        }
    }
}

#[test]
fn jitter_only_shortens_the_interval_and_by_no_more_than_its_part() {
    for (jitter, random, expected) in [
        (0.0, LAST, 900.0),
        (0.1, 0.0, 900.0),
        (0.1, 0.5, 855.0),
        (0.1, LAST, 810.0),
        (0.5, LAST, 450.0),
    ] {
        let mut schedule = lone().schedule;
        let policy = Policy { jitter, ..policy() };
        schedule.start(Time::ZERO);
        schedule.acknowledged(minutes(1), &policy, Random::new(random));
        let due = schedule.due().unwrap_or_default().since_start();
        let off = (due.as_secs_f64() - expected).abs();
        assert!(off < 1e-6, "{jitter} {random}: {due:?}");
    }
}

#[test]
fn contact_lasts_two_intervals_from_the_start_of_the_last_acknowledged_heartbeat() {
    let policy = policy();
    let mut schedule = lone().schedule;
    schedule.start(Time::ZERO);
    assert!(
        !schedule.in_contact(Time::ZERO, &policy),
        "not heard of yet"
    );
    schedule.acknowledged(minutes(1), &policy, Random::new(0.0));
    assert!(schedule.in_contact(minutes(30) - Duration::from_millis(1), &policy));
    assert!(!schedule.in_contact(minutes(30), &policy));
}

#[test]
fn contact_began_with_the_first_of_the_heartbeats_that_were_acknowledged_in_time() {
    let mut schedule = lone().schedule;
    for (started, acknowledged, began) in [
        (0, 1, 1),
        (15, 16, 1),
        // Two intervals after the start of the last one: meanwhile there was no contact.
        (44, 45, 45),
        (50, 51, 45),
    ] {
        schedule.start(minutes(started));
        schedule.acknowledged(minutes(acknowledged), &policy(), Random::new(0.0));
        assert_eq!(schedule.contact_since(), Some(minutes(began)), "{started}");
    }
}

#[test]
fn every_second_failure_that_a_client_may_cause_renews_it() {
    for (class, expected) in [
        (FailureClass::Transient, [false, true, false, true]),
        (FailureClass::Rejected, [false, true, false, true]),
        (FailureClass::Throttled, [false; 4]),
    ] {
        let mut failing = lone();
        let renewed = [(); 4].map(|()| failing.fail(class, None, 0.5).1);
        assert_eq!(renewed, expected, "{class:?}");
    }
}

/// Throttles for `intervals`, as often as the schedule tries, and then acknowledges if `heard`.
fn throttled(failing: &mut Failing, intervals: f64, heard: bool) {
    let until = failing.now + failing.policy.interval.mul_f64(intervals);
    failing.fail(FailureClass::Throttled, None, 0.0);
    while failing.now < until {
        failing.fail(FailureClass::Throttled, None, 0.0);
    }
    if heard {
        acknowledged(failing);
    }
}

fn acknowledged(failing: &mut Failing) {
    heard(failing);
    failing.now = failing.now + failing.policy.interval;
    failing.schedule.start(failing.now);
}

fn over_limit(failing: &Failing) -> bool {
    failing.schedule.over_limit(failing.now, &failing.policy)
}

#[test]
fn a_fleet_that_comes_back_in_an_interval_is_not_over_the_limit() {
    let mut failing = lone();
    throttled(&mut failing, 0.9, true);
    for _ in 0..10 {
        assert!(!over_limit(&failing));
        acknowledged(&mut failing);
    }
    throttled(&mut failing, 2.0, false);
    assert!(!over_limit(&failing));
}

#[test]
fn throttled_for_three_intervals_is_over_the_limit_until_eight_passed_without() {
    let mut failing = lone();
    throttled(&mut failing, 3.2, false);
    // Some that are acknowledged at once say nothing else: so it is in a fleet that does not fit.
    for _ in 0..8 {
        assert!(over_limit(&failing));
        acknowledged(&mut failing);
    }
    assert!(!over_limit(&failing));
}

#[test]
fn throttled_now_and_then_when_over_the_limit_is_over_it_still() {
    let mut failing = lone();
    throttled(&mut failing, 3.2, false);
    for _ in 0..10 {
        for _ in 0..7 {
            acknowledged(&mut failing);
            assert!(over_limit(&failing));
        }
        failing.fail(FailureClass::Throttled, None, 0.0);
    }
}

#[test]
fn throttled_before_each_heartbeat_of_three_intervals_is_over_the_limit() {
    let mut failing = lone();
    let mut seen = Vec::new();
    for _ in 0..4 {
        throttled(&mut failing, 0.1, true);
        seen.push(over_limit(&failing));
    }
    assert_eq!(seen, [false, false, true, true]);
    // Other settings may speak of another account.
    reload(&mut failing);
    assert!(!over_limit(&failing));
}

#[test]
fn a_throttle_now_and_then_is_not_over_the_limit() {
    let mut failing = lone();
    for _ in 0..10 {
        failing.fail(FailureClass::Throttled, None, LAST);
        for _ in 0..3 {
            acknowledged(&mut failing);
            assert!(!over_limit(&failing));
        }
    }
}

#[test]
fn one_throttle_before_other_failures_says_nothing_about_the_limit() {
    let mut failing = lone();
    failing.fail(FailureClass::Throttled, None, LAST);
    for _ in 0..1_000 {
        failing.fail(FailureClass::Transient, None, LAST);
        assert!(!over_limit(&failing));
    }
}

#[test]
fn after_a_reload_the_backoff_begins_anew() {
    let mut failing = lone();
    for _ in 0..20 {
        failing.fail(FailureClass::Rejected, None, LAST);
    }
    reload(&mut failing);
    assert_eq!(failing.span(FailureClass::Rejected), 0.5..=1.0);
}

#[test]
fn other_failures_say_nothing_about_the_limit() {
    for class in [FailureClass::Transient, FailureClass::Rejected] {
        let mut failing = lone();
        for _ in 0..1_000 {
            failing.fail(class, None, LAST);
            assert!(!over_limit(&failing));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_backoff_is_under_the_interval_and_keeps_its_part_of_it(
        milliseconds in 10_u64..=900_000,
        turns in prop::collection::vec((0..3_usize, prop::option::of(0.0..100.0), 0.0..=1.0), 1..100),
    ) {
        let interval = Duration::from_millis(milliseconds);
        let mut whole = lone();
        let mut small = Failing::new(interval);
        for (class, intervals, random) in turns {
            let class = [FailureClass::Transient, FailureClass::Throttled, FailureClass::Rejected][class];
            let asked = |interval: Duration| intervals.map(|times| interval.mul_f64(times));
            let (long, _) = whole.fail(class, asked(whole.policy.interval), random);
            let (backoff, _) = small.fail(class, asked(interval), random);
            prop_assert!(backoff < interval, "{:?}", backoff);
            let most = if class == FailureClass::Rejected { 270.0 } else { 850.0 };
            let obeyed = asked(interval).unwrap_or_default().min(interval.mul_f64(most / 900.0));
            prop_assert!(backoff >= obeyed, "{:?} of {:?}", backoff, obeyed);
            let part = |backoff: Duration, interval: Duration| backoff.as_secs_f64() / interval.as_secs_f64();
            let off = part(backoff, interval) - part(long, whole.policy.interval);
            prop_assert!(off.abs() < 1e-6, "{} off", off);
        }
    }
}
