//! The backoff after each class of failure, and the bounds that no service and no chance exceeds.

use std::time::Duration;

use proptest::prelude::*;
use taskbeat::core::FailureClass;

use super::{Beating, LARGEST};

/// A throttle that may have hit the whole fleet at once.
const SPREAD: std::ops::RangeInclusive<f64> = 100.0..=730.0;

#[test]
fn a_transient_failure_is_retried_within_a_second_and_later_every_half_minute() {
    let mut beating = Beating::new();
    let spans = [(); 7].map(|()| beating.span(FailureClass::Transient));
    let expected =
        [0.5..=1.0, 1.0..=2.0, 2.0..=4.0, 4.0..=8.0, 8.0..=16.0, 15.0..=30.0, 15.0..=30.0];
    assert_eq!(spans, expected);
}

#[test]
fn a_rejected_heartbeat_never_waits_longer_than_five_minutes() {
    let mut beating = Beating::new();
    assert_eq!(beating.span(FailureClass::Rejected), 0.5..=1.0);
    let last = (0..1_000).map(|_| beating.span(FailureClass::Rejected)).last();
    assert_eq!(last, Some(150.0..=300.0));
    let asked = Some(Duration::from_hours(1));
    let (backoff, _) = beating.fail(FailureClass::Rejected, asked, LARGEST);
    assert!(backoff <= Duration::from_mins(5), "{backoff:?}");
}

/// The waits of a throttled runner after its first one.
fn yields_and_then_is_among_the_oldest(beating: &mut Beating) {
    assert_eq!(beating.span(FailureClass::Throttled), 810.0..=880.0);
    assert_eq!(beating.span(FailureClass::Throttled), 350.0..=390.0);
    assert_eq!(beating.span(FailureClass::Throttled), 350.0..=390.0);
    for _ in 0..36 {
        assert_eq!(beating.span(FailureClass::Throttled), 10.0..=20.0);
    }
}

#[test]
fn a_throttled_runner_spreads_then_yields_then_is_among_the_oldest_and_then_yields_again() {
    let mut beating = Beating::new();
    assert_eq!(beating.span(FailureClass::Throttled), SPREAD);
    for _ in 0..2 {
        yields_and_then_is_among_the_oldest(&mut beating);
    }
}

#[test]
fn a_runner_that_is_throttled_at_a_routine_heartbeat_yields_at_once() {
    let mut beating = Beating::new();
    beating.acknowledge_and_go_on();
    for _ in 0..2 {
        yields_and_then_is_among_the_oldest(&mut beating);
    }
}

#[test]
fn a_throttle_after_an_event_that_may_have_hit_the_whole_fleet_spreads() {
    let after = |name: &str, event: &dyn Fn(&mut Beating)| {
        let mut beating = Beating::new();
        beating.acknowledge_and_go_on();
        event(&mut beating);
        beating.schedule.start(beating.now);
        assert_eq!(beating.span(FailureClass::Throttled), SPREAD, "{name}");
    };
    after("an outage", &|beating| {
        beating.fail(FailureClass::Transient, None, LARGEST);
    });
    after("a reload", &|beating| {
        beating.acknowledge();
        beating.reload();
    });
    after("a reload after a throttle", &|beating| {
        beating.fail(FailureClass::Throttled, None, LARGEST);
        beating.reload();
    });
    after("a suspension", &|beating| {
        beating.acknowledge();
        beating.suspend();
    });
    after("a suspension before the response", &|beating| {
        beating.suspend();
        beating.acknowledge();
    });
}

#[test]
fn each_class_counts_its_own_failures_in_a_row() {
    let mut beating = Beating::new();
    for _ in 0..100 {
        beating.fail(FailureClass::Transient, None, LARGEST);
    }
    assert_eq!(beating.span(FailureClass::Throttled), SPREAD);
    assert_eq!(beating.span(FailureClass::Throttled), 810.0..=880.0);
    assert_eq!(beating.span(FailureClass::Rejected), 0.5..=1.0);
    assert_eq!(beating.span(FailureClass::Throttled), SPREAD);
}

#[test]
fn an_acknowledged_heartbeat_forgets_the_failures() {
    let mut beating = Beating::new();
    for _ in 0..5 {
        beating.fail(FailureClass::Throttled, None, LARGEST);
    }
    beating.acknowledge_and_go_on();
    assert_eq!(beating.schedule.failures(), 0);
    assert_eq!(beating.span(FailureClass::Throttled), 810.0..=880.0);
}

#[test]
fn a_reload_does_not_shorten_the_backoff_of_the_next_failure() {
    let mut beating = Beating::new();
    for _ in 0..20 {
        beating.fail(FailureClass::Rejected, None, LARGEST);
    }
    beating.reload();
    assert_eq!(beating.span(FailureClass::Rejected), 150.0..=300.0);
}

#[test]
fn retry_after_is_obeyed_and_leaves_a_fleet_spread() {
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
        for (random, expected) in [(0.0, shortest), (LARGEST, longest)] {
            let (backoff, _) = Beating::new().fail(class, asked, random);
            let off = (backoff.as_secs_f64() - expected).abs();
            assert!(off < 1e-6, "{class:?} {asked:?} {random}: {backoff:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::count(256, 64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_backoff_is_under_the_interval_and_keeps_its_part_of_it(
        milliseconds in 10_u64..=900_000,
        failures in prop::collection::vec(
            (0..3_usize, prop::option::of(0.0..100.0), 0.0..=1.0),
            1..100,
        ),
    ) {
        const CLASSES: [FailureClass; 3] =
            [FailureClass::Transient, FailureClass::Throttled, FailureClass::Rejected];
        let interval = Duration::from_millis(milliseconds);
        let mut whole = Beating::new();
        let mut small = Beating::with_interval(interval);
        for (class, intervals, random) in failures {
            let class = CLASSES[class];
            let asked = |interval: Duration| intervals.map(|times| interval.mul_f64(times));
            let (long, _) = whole.fail(class, asked(whole.policy.interval), random);
            let (backoff, _) = small.fail(class, asked(interval), random);
            prop_assert!(backoff < interval, "{:?}", backoff);
            let most = if class == FailureClass::Rejected { 270.0 } else { 850.0 };
            let obeyed = asked(interval).unwrap_or_default().min(interval.mul_f64(most / 900.0));
            prop_assert!(backoff >= obeyed, "{:?} of {:?}", backoff, obeyed);
            let part = |backoff: Duration, interval: Duration| {
                backoff.as_secs_f64() / interval.as_secs_f64()
            };
            let off = part(backoff, interval) - part(long, whole.policy.interval);
            prop_assert!(off.abs() < 1e-6, "{} off", off);
        }
    }
}
