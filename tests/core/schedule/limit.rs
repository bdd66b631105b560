//! When throttles mean that the account is over its limit.

use taskbeat::core::FailureClass;

use super::{Beating, LARGEST};

impl Beating {
    fn throttle(&mut self, random: f64) {
        self.fail(FailureClass::Throttled, None, random);
    }

    /// Throttles for this many intervals, as often as the schedule retries.
    fn throttle_for(&mut self, intervals: f64) {
        let until = self.now + self.policy.interval.mul_f64(intervals);
        self.throttle(0.0);
        for _ in 0..1_000 {
            if self.now >= until {
                return;
            }
            self.throttle(0.0);
        }
        panic!("no time passes");
    }

    fn over_limit(&self) -> bool {
        self.schedule.over_limit(self.now, &self.policy)
    }
}

#[test]
fn a_fleet_that_comes_back_in_an_interval_is_not_over_the_limit() {
    let mut beating = Beating::new();
    beating.throttle_for(0.9);
    for _ in 0..11 {
        beating.acknowledge_and_go_on();
        assert!(!beating.over_limit());
    }
    beating.throttle_for(2.0);
    assert!(!beating.over_limit());
}

#[test]
fn throttled_for_three_intervals_is_over_the_limit_until_eight_passed_without() {
    let mut beating = Beating::new();
    beating.throttle_for(3.2);
    // In a fleet that does not fit, some heartbeats are acknowledged at once, too.
    for _ in 0..8 {
        assert!(beating.over_limit());
        beating.acknowledge_and_go_on();
    }
    assert!(!beating.over_limit());
}

#[test]
fn throttled_now_and_then_when_over_the_limit_is_over_it_still() {
    let mut beating = Beating::new();
    beating.throttle_for(3.2);
    for _ in 0..10 {
        for _ in 0..7 {
            beating.acknowledge_and_go_on();
            assert!(beating.over_limit());
        }
        beating.throttle(0.0);
    }
}

#[test]
fn throttled_before_each_heartbeat_of_three_intervals_is_over_the_limit() {
    let mut beating = Beating::new();
    let mut over_limit = Vec::new();
    for _ in 0..4 {
        beating.throttle_for(0.1);
        beating.acknowledge_and_go_on();
        over_limit.push(beating.over_limit());
    }
    assert_eq!(over_limit, [false, false, true, true]);
}

#[test]
fn a_reload_forgets_the_limit() {
    for acknowledged in [false, true] {
        let mut beating = Beating::new();
        beating.throttle_for(3.2);
        if acknowledged {
            beating.acknowledge_and_go_on();
        }
        assert!(beating.over_limit());
        // The new settings may belong to another account.
        beating.reload();
        assert!(!beating.over_limit(), "acknowledged: {acknowledged}");
    }
}

#[test]
fn a_throttle_now_and_then_is_not_over_the_limit() {
    let mut beating = Beating::new();
    for _ in 0..10 {
        beating.throttle(LARGEST);
        for _ in 0..3 {
            beating.acknowledge_and_go_on();
            assert!(!beating.over_limit());
        }
    }
}

#[test]
fn one_throttle_before_other_failures_does_not_mean_the_limit() {
    let mut beating = Beating::new();
    beating.throttle(LARGEST);
    for _ in 0..1_000 {
        beating.fail(FailureClass::Transient, None, LARGEST);
        assert!(!beating.over_limit());
    }
}

#[test]
fn other_failures_do_not_mean_the_limit() {
    for class in [FailureClass::Transient, FailureClass::Rejected] {
        let mut beating = Beating::new();
        for _ in 0..1_000 {
            beating.fail(class, None, LARGEST);
            assert!(!beating.over_limit());
        }
    }
}
