//! Random lives of the daemon. The [`World`] checks every law at every step of them.

use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;
use taskbeat::core::{
    AfterTerminate, Event, Exit, Failure, FailureClass, Outcome, Policy, RunnerKind, State, Time,
};

use crate::world::{Incident, World};
use crate::{count, policy};

/// A service that is broken for weeks.
const FAILURES_IN_A_ROW: usize = 5_000;

const ACKNOWLEDGED: Outcome = Outcome::Acknowledged { terminate: false };

/// One life of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    kind: RunnerKind,
    policy: Policy,
    start_fails: bool,
    /// Each comes after this part of the time to the next deadline.
    incidents: Vec<(f64, Incident)>,
}

fn failures() -> impl Strategy<Value = Outcome> {
    let class = prop::sample::select(vec![
        FailureClass::Transient,
        FailureClass::Throttled,
        FailureClass::Rejected,
    ]);
    let seconds = prop::option::of(0..100_000_u64);
    (class, seconds).prop_map(|(class, seconds)| {
        Outcome::Failed(Failure { class, retry_after: seconds.map(Duration::from_secs) })
    })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(ACKNOWLEDGED),
        3 => Just(Outcome::Acknowledged { terminate: true }),
        4 => failures(),
    ]
}

fn incidents() -> impl Strategy<Value = Incident> {
    let heartbeat_ends = (outcomes(), 0.0..1.0)
        .prop_map(|(outcome, random)| Incident::HeartbeatEnds(outcome, random));
    prop_oneof![
        24 => heartbeat_ends,
        6 => Just(Incident::Restart),
        4 => any::<u8>().prop_map(Incident::LeaderExits),
        4 => Just(Incident::RunnerExits),
        6 => Just(Incident::CommandEnds),
        8 => any::<bool>().prop_map(Incident::CheckEnds),
        3 => Just(Incident::ContactCommandEnds),
        2 => any::<bool>().prop_map(Incident::LeaderStops),
        3 => Just(Incident::Stop),
        2 => policies().prop_map(Incident::Reload),
        2 => (0..100_000_u64).prop_map(|s| Incident::Suspension(Duration::from_secs(s))),
    ]
}

pub(crate) fn lives() -> impl Strategy<Value = Life> {
    let start_fails = prop::bool::weighted(0.1);
    let incidents = prop::collection::vec((0.0..1.5, incidents()), 1..40);
    (kinds(), policies(), start_fails, incidents).prop_map(
        |(kind, policy, start_fails, incidents)| Life { kind, policy, start_fails, incidents },
    )
}

fn policies() -> impl Strategy<Value = Policy> {
    let after_terminate = prop_oneof![Just(AfterTerminate::Exit), Just(AfterTerminate::Idle)];
    (
        prop_oneof![10..=5_000_u64, 10..=900_000_u64],
        0.0..=0.5,
        0..100_000_u64,
        prop::option::weighted(0.3, 2.1..10.0),
        any::<bool>(),
        (prop::option::weighted(0.3, 0.001..0.5), any::<bool>()),
        after_terminate,
    )
        .prop_map(|(interval, jitter, grace, lost, on_terminate, health, after_terminate)| {
            let interval = Duration::from_millis(interval);
            Policy {
                interval,
                jitter,
                grace: Duration::from_millis(grace),
                lost_contact_after: lost.map(|times: f64| interval.mul_f64(times)),
                on_terminate,
                health_check: health.0.map(|part: f64| interval.mul_f64(part)),
                on_contact_change: health.1,
                after_terminate,
            }
        })
}

fn kinds() -> impl Strategy<Value = RunnerKind> {
    prop_oneof![
        2 => Just(RunnerKind::None),
        4 => Just(RunnerKind::Child),
        1 => Just(RunnerKind::Attached),
        3 => Just(RunnerKind::Followed)
    ]
}

/// Lives `life` to its end. Returns each event with the states before and after it.
pub(crate) fn live(life: &Life) -> Vec<(State, Event, State)> {
    let mut world = World::new(life.kind, life.policy).with_failing_start(life.start_fails);
    let (running, rest) = life.incidents.split_at(life.incidents.len() / 2);
    let (stopping, killing) = rest.split_at(rest.len() / 2);
    // Two stops end it in the time of the ladder, whatever else happens.
    for incidents in [running, stopping] {
        world.live(incidents);
        world.pass(world.now() + Duration::from_secs(1));
        world.happen(Incident::Stop);
    }
    world.live(killing);
    world.pass(world.now() + Duration::from_secs(5));
    assert!(world.exit().is_some(), "the ladder does not end: {:?}", world.agent());
    world.into_history()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: count(300, 50),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_hold(life in lives()) {
        live(&life);
    }

    #[test]
    fn a_stop_takes_the_grace_and_five_seconds(policy in policies()) {
        let policy = Policy { lost_contact_after: None, ..policy };
        let mut world = World::new(RunnerKind::Child, policy);
        world.pass(Time::ZERO);
        world.happen(Incident::Stop);
        let until = policy.grace + Duration::from_secs(5);
        while world.exit().is_none() {
            let deadline = world.agent().deadline();
            world.pass(deadline.expect("a deadline while stopping"));
            world.happen(Incident::HeartbeatEnds(ACKNOWLEDGED, 0.5));
            world.happen(Incident::CheckEnds(true));
        }
        prop_assert_eq!(world.exit(), Some(Exit::by_signal(9)));
        prop_assert_eq!(world.stops_and_kills(), (1, 1));
        prop_assert_eq!(world.now().since_start(), until);
    }

    #[test]
    fn a_failure_never_stops_the_runner(
        policy in policies(),
        failures in prop::collection::vec(failures(), 1..20),
    ) {
        let policy = Policy { lost_contact_after: None, health_check: None, ..policy };
        let mut world = World::new(RunnerKind::Child, policy);
        world.pass(Time::ZERO);
        for failure in failures.iter().cycle().take(FAILURES_IN_A_ROW) {
            world.happen(Incident::HeartbeatEnds(*failure, 0.7));
            prop_assert_eq!(world.agent().state(), State::Running);
            let due = world.agent().schedule().due();
            prop_assert!(due.is_some(), "given up");
            world.pass(due.unwrap_or_default());
        }
        prop_assert_eq!(world.stops_and_kills(), (0, 0));
        prop_assert_eq!(world.exit(), None);
    }
}

/// A month of checks that take any part of their limit: no heartbeat is late by them.
#[test]
fn a_month_with_health_checks() {
    let policy = Policy { health_check: Some(Duration::from_secs(30)), jitter: 0.1, ..policy() };
    let mut world = World::new(RunnerKind::Child, policy);
    let month = Time::ZERO + Duration::from_hours(30 * 24);
    let mut rng = Rng::with_seed(1);
    let (mut sent, mut last) = (0, Time::ZERO);
    while world.now() < month {
        world.pass(world.agent().deadline().unwrap_or_default());
        world.pass(world.now() + Duration::from_secs_f64(29.9 * rng.f64()));
        world.happen(Incident::CheckEnds(true));
        assert!(world.is_in_flight(), "the check was too slow");
        assert!(world.now() - last <= policy.interval, "late: {:?}", world.now() - last);
        (sent, last) = (sent + 1, world.now());
        world.happen(Incident::HeartbeatEnds(ACKNOWLEDGED, rng.f64()));
    }
    // All at the full interval would be 2880, all at the shortest 3200.
    assert!((2880..=3400).contains(&sent), "{sent}");
    assert_eq!(world.stops_and_kills(), (0, 0));
}
