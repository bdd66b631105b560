//! A hundred thousand random faults, and the laws after each of them.

use std::time::Duration;

use fastrand::Rng;
use taskbeat::core::{
    AfterTerminate, Exit, Failure, FailureClass, Outcome, Policy, RunnerKind, State, Time,
};

use crate::laws::{What, World};

const FAULTS: u32 = 100_000;
const LIVES: u64 = 100;

/// Whatever the service may answer but terminate.
fn answer(rng: &mut Rng) -> Outcome {
    let class = match rng.u8(..5) {
        0 => FailureClass::Transient,
        1 => FailureClass::Throttled,
        2 => FailureClass::Rejected,
        _ => return Outcome::Acknowledged { terminate: false },
    };
    let asked = Duration::from_millis(1 << rng.u32(..30));
    Outcome::Failed(Failure {
        class,
        retry_after: rng.bool().then_some(asked),
    })
}

fn policy(rng: &mut Rng) -> Policy {
    Policy {
        interval: Duration::from_millis(rng.u64(10..=900_000)),
        jitter: rng.f64() / 2.0,
        grace: Duration::from_secs(30),
        lost_contact_after: None,
        on_terminate: rng.bool(),
        after_terminate: AfterTerminate::Exit,
    }
}

/// One daemon's life: faults, suspensions, reloads, and never a reason to stop the runner until the service says so.
fn live(seed: u64) -> u32 {
    let mut rng = Rng::with_seed(seed);
    let policy = policy(&mut rng);
    let mut world = World::new(RunnerKind::Child, policy);
    world.pass(Time::ZERO);
    let mut faults = 0;
    while faults < FAULTS / u32::try_from(LIVES).unwrap_or(1) {
        // An answer may take a while, and what comes meanwhile comes meanwhile.
        let next = world.now() + policy.interval.mul_f64(rng.f64() / 10.0);
        world.pass(world.deadline().unwrap_or(next).min(next));
        let what = match rng.u8(..20) {
            0 => What::Resume(Duration::from_secs(rng.u64(..100_000))),
            1 => What::Reload,
            2 => What::Nothing,
            _ => What::Outcome(answer(&mut rng), rng.f64()),
        };
        faults +=
            u32::from(matches!(what, What::Outcome(Outcome::Failed(_), _)) && world.is_in_flight());
        world.happen(what);
        assert_eq!(world.state(), State::Running, "seed {seed}, {what:?}");
        assert!(
            world.is_in_flight() || world.deadline().is_some(),
            "seed {seed}: given up"
        );
    }
    // And then terminate is obeyed as ever.
    while !world.is_in_flight() {
        world.pass(world.deadline().unwrap_or_default());
    }
    world.happen(What::Outcome(
        Outcome::Acknowledged { terminate: true },
        0.0,
    ));
    assert_ne!(world.state(), State::Running, "seed {seed}");
    world.happen(What::HookEnds);
    world.happen(What::EverybodyEnds);
    assert_eq!(world.exit(), Some(Exit::OK), "seed {seed}");
    faults
}

#[test]
fn no_fault_stops_the_runner() {
    let faults: u32 = (0..LIVES).map(live).sum();
    assert_eq!(faults, FAULTS);
}
