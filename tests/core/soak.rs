//! Random failures by the thousand, and the laws after each of them.

use std::time::Duration;

use fastrand::Rng;
use taskbeat::core::{
    AfterTerminate, Exit, Failure, FailureClass, Outcome, Policy, RunnerKind, State, Time,
};

use crate::count;
use crate::world::{Incident, World};

const LIVES: u32 = 100;

/// Any response but `terminate`.
fn outcome(rng: &mut Rng) -> Outcome {
    let class = match rng.u8(..5) {
        0 => FailureClass::Transient,
        1 => FailureClass::Throttled,
        2 => FailureClass::Rejected,
        _ => return Outcome::Acknowledged { terminate: false },
    };
    let asked = Duration::from_millis(1 << rng.u32(..30));
    Outcome::Failed(Failure { class, retry_after: rng.bool().then_some(asked) })
}

fn policy(rng: &mut Rng) -> Policy {
    Policy {
        interval: Duration::from_millis(rng.u64(10..=900_000)),
        jitter: rng.f64() / 2.0,
        grace: Duration::from_secs(30),
        lost_contact_after: None,
        on_terminate: rng.bool(),
        health_check: None,
        on_contact_change: false,
        after_terminate: AfterTerminate::Exit,
    }
}

/// One life of the daemon: failures, suspensions and reloads never stop the runner, until the
/// service answers `terminate`.
fn live(seed: u32, failures: u32) {
    let mut rng = Rng::with_seed(seed.into());
    let policy = policy(&mut rng);
    let mut world = World::new(RunnerKind::Child, policy);
    world.pass(Time::ZERO);
    let mut failed = 0;
    while failed < failures {
        // A response takes up to a tenth of the interval, and other events come before it.
        let next = world.now() + policy.interval.mul_f64(rng.f64() / 10.0);
        world.pass(world.agent().deadline().unwrap_or(next).min(next));
        let incident = match rng.u8(..20) {
            0 => Incident::Suspension(Duration::from_secs(rng.u64(..100_000))),
            1 => Incident::Reload(policy),
            2 => continue,
            _ => Incident::HeartbeatEnds(outcome(&mut rng), rng.f64()),
        };
        let fails = matches!(incident, Incident::HeartbeatEnds(Outcome::Failed(_), _));
        failed += u32::from(fails && world.is_in_flight());
        world.happen(incident);
        let state = world.agent().state();
        assert_eq!(state, State::Running, "seed {seed}, {incident:?}");
    }
    while !world.is_in_flight() {
        world.pass(world.agent().deadline().unwrap_or_default());
    }
    let terminate = Outcome::Acknowledged { terminate: true };
    world.happen(Incident::HeartbeatEnds(terminate, 0.0));
    world.happen(Incident::CommandEnds);
    world.happen(Incident::RunnerExits);
    assert_eq!(world.exit(), Some(Exit::OK), "seed {seed}");
}

#[test]
fn no_failure_stops_the_runner() {
    let failures = count(1_000, 100);
    for seed in 0..LIVES {
        live(seed, failures);
    }
}
