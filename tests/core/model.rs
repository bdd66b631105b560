//! Every reachable state of the agent, under every order of events.
//!
//! A breadth-first search over the [`World`], which checks the laws at every step. Two worlds are
//! the same if they differ only in times and counters that no decision depends on: of the times
//! ahead only the order counts, and those in the past are all alike.
//!
//! From every state that is found, two more promises are checked: two stops end the daemon, and so
//! does `terminate`, within a bounded number of deadlines, whatever the runner does.

use std::collections::{HashSet, VecDeque};
use std::thread;
use std::time::Duration;

use taskbeat::core::{AfterTerminate, Failure, FailureClass, Outcome, Policy, RunnerKind, State};

use crate::world::{Incident, World};
use crate::{count, policy};

const SECOND: Duration = Duration::from_secs(1);

/// More deadlines than any stop has: the ladder's two, and those of heartbeats meanwhile.
const ENOUGH: usize = 200;

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next deadline comes.
    Deadline,
    /// A second passes, so that a stop is not the same stop any more.
    Second,
    Happen(Incident),
}

fn steps(policies: [Policy; 2]) -> Vec<Step> {
    let failed = |class| Outcome::Failed(Failure { class, retry_after: None });
    let outcomes = [
        Outcome::Acknowledged { terminate: false },
        Outcome::Acknowledged { terminate: true },
        failed(FailureClass::Transient),
        failed(FailureClass::Throttled),
    ];
    let beats = outcomes.map(|outcome| Incident::HeartbeatEnds(outcome, 0.0));
    let others = [
        Incident::LeaderExits(143),
        Incident::RunnerExits,
        Incident::Restart,
        Incident::CommandEnds,
        Incident::CheckEnds(true),
        Incident::CheckEnds(false),
        Incident::ContactCommandEnds,
        Incident::LeaderStops(true),
        Incident::LeaderStops(false),
        Incident::Stop,
        Incident::Suspension(Duration::from_hours(1)),
    ];
    let reloads = policies.map(Incident::Reload);
    let incidents = beats.into_iter().chain(others).chain(reloads).map(Step::Happen);
    [Step::Deadline, Step::Second].into_iter().chain(incidents).collect()
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Deadline => {
            if let Some(deadline) = world.agent().deadline() {
                world.pass(deadline);
            }
        }
        Step::Second => world.pass(world.now() + SECOND),
        Step::Happen(incident) => world.happen(incident),
    }
}

/// What the next decisions depend on: the agent as `Debug` shows it, and the facts of the world,
/// with times by their order and with small counters.
fn key(world: &World) -> String {
    let now = world.now().since_start();
    let text = format!("{:?} {}", world.agent(), world.facts());
    let times = || text.split("Time(").skip(1).filter_map(|rest| rest.split(')').next());
    let mut ahead: Vec<Duration> = times().map(duration).filter(|time| *time > now).collect();
    ahead.sort();
    ahead.dedup();
    let order = |time: &str| match ahead.binary_search(&duration(time)) {
        Ok(place) => format!("+{place}"),
        Err(_) => "past".to_owned(),
    };
    let key = match (world.exit(), text.find("schedule: "), text.find(", leader_exit: ")) {
        (Some(exit), ..) => return format!("{exit:?}"),
        // No heartbeat follows, so the rest of the schedule decides nothing any more.
        (None, Some(from), Some(to)) if text.contains("next: Ended") => {
            [&text[..from], "ended", &text[to..]].concat()
        }
        (None, ..) => text.clone(),
    };
    let key = replace(&key, "Time(", order);
    let key = replace(&key, "suspended: ", |gap| (!duration(gap).is_zero()).to_string());
    ["failures: ", "alike: ", "withheld: "].iter().fold(key, |key, counter| {
        replace(&key, counter, |count| count.parse().unwrap_or(0).min(1).to_string())
    })
}

/// `text` with each word that follows `prefix` replaced.
fn replace(text: &str, prefix: &str, by: impl Fn(&str) -> String) -> String {
    let mut parts = text.split(prefix);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find([')', ',', ' ']).unwrap_or(part.len());
        replaced += prefix;
        replaced += &by(&part[..end]);
        replaced += &part[end..];
    }
    replaced
}

/// A duration as `Debug` shows it.
fn duration(text: &str) -> Duration {
    let unit = text.find(|letter: char| letter.is_alphabetic()).unwrap_or(text.len());
    let Ok(number) = text[..unit].parse::<f64>() else {
        panic!("not a duration: {text}");
    };
    Duration::from_secs_f64(match &text[unit..] {
        "s" => number,
        "ms" => number / 1e3,
        "µs" => number / 1e6,
        _ => number / 1e9,
    })
}

/// Lets everything end that taskbeat waits for, except the runner, until the daemon is at rest.
fn check_end(mut world: World, by: Incident) {
    let before = format!("{:?}", world.agent());
    world.happen(by);
    for _ in 0..ENOUGH {
        let at_rest = matches!(world.agent().state(), State::Idle | State::Stopped);
        if at_rest || world.exit().is_some() {
            return;
        }
        let Some(deadline) = world.agent().deadline() else { break };
        world.pass(deadline);
        if let Incident::Stop = by {
            world.happen(Incident::Stop);
        }
    }
    panic!("{by:?} does not end this: {before}");
}

/// Explores everything that can follow from the start of a daemon. Returns the numbers of states
/// and of transitions.
fn explore(kind: RunnerKind, policy: Policy) -> (usize, usize) {
    let steps = steps([policy, Policy { interval: policy.interval / 2, ..policy }]);
    let mut found = HashSet::new();
    let mut open = VecDeque::from([World::new(kind, policy)]);
    let mut transitions = 0;
    while let Some(world) = open.pop_front() {
        for step in &steps {
            let mut next = world.clone();
            take(&mut next, *step);
            next.forget_history();
            transitions += 1;
            if found.insert(key(&next)) {
                check_end(next.clone(), Incident::Stop);
                if next.is_in_flight() {
                    let terminate = Outcome::Acknowledged { terminate: true };
                    check_end(next.clone(), Incident::HeartbeatEnds(terminate, 0.0));
                }
                open.push_back(next);
            }
        }
    }
    (found.len(), transitions)
}

/// By default with the default policy alone.
#[test]
fn the_promises_hold_in_every_reachable_state() {
    let policies = [
        policy(),
        Policy { lost_contact_after: Some(policy().interval * 3), ..policy() },
        Policy { on_terminate: true, after_terminate: AfterTerminate::Idle, ..policy() },
        Policy { health_check: Some(SECOND), on_contact_change: true, ..policy() },
    ];
    let kinds = [RunnerKind::Child, RunnerKind::Followed, RunnerKind::Attached, RunnerKind::None];
    let policies = &policies[..count(4, 1) as usize];
    thread::scope(|scope| {
        for (number, policy) in (1..).zip(policies) {
            for kind in kinds {
                scope.spawn(move || {
                    let (states, transitions) = explore(kind, *policy);
                    println!(
                        "{kind:?}, policy {number}: {states} states, {transitions} transitions"
                    );
                });
            }
        }
    });
}
