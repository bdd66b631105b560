//! Every reachable state of the agent, under every order of events.
//!
//! A breadth-first search over the [`World`], which checks the laws at every step. Two worlds are
//! the same if they differ only in times and counters that no decision depends on: of the times
//! ahead only the order counts, and those in the past are all alike.
//!
//! From every state that is found, two more promises are checked: two stops end the daemon, and so
//! does `terminate`, within a bounded number of deadlines, whatever the runner does.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use taskbeat::core::{AfterTerminate, Failure, FailureClass, Outcome, Policy, RunnerKind, State};

use crate::transitions::{Arrow, check_diagram, find_arrows, state_name};
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
    if let Some(exit) = world.exit() {
        return format!("{exit:?}");
    }
    let mut text = format!("{:?} {}", world.agent(), world.facts());
    if let (Some(from), Some(to)) = (text.find("schedule: "), text.find(", leader_exit: "))
        && text[from..to].contains("next: Ended")
    {
        // No heartbeat follows, so the rest of the schedule decides nothing any more.
        text.replace_range(from..to, "ended");
    }
    let now = world.now().since_start();
    let words = || text.split_inclusive(' ');
    let mut ahead: Vec<_> = words().filter_map(time).map(|(time, _)| time).collect();
    ahead.retain(|time| *time > now);
    ahead.sort();
    ahead.dedup();
    let (mut key, mut before) = (String::with_capacity(text.len()), "");
    for word in words() {
        match before {
            "suspended: " => key += if word.starts_with("0ns") { "0" } else { "1" },
            "failures: " | "alike: " | "withheld: " => {
                key += if word.starts_with('0') { "0" } else { "1" };
            }
            _ => match time(word) {
                Some((time, rest)) => {
                    let place = ahead.binary_search(&time).ok();
                    let place = format!("{place:?}");
                    key += &place;
                    key += rest;
                }
                None => key += word,
            },
        }
        before = word;
    }
    key
}

/// The time in a word such as `Some(Time(15s)), `, and what follows it.
fn time(word: &str) -> Option<(Duration, &str)> {
    if !word.contains('T') {
        return None;
    }
    let (_, rest) = word.split_once("Time(")?;
    let (time, rest) = rest.split_once(')')?;
    Some((duration(time), rest))
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
fn check_end(before: &World, by: Incident) {
    let mut world = before.clone();
    world.happen(by);
    for _ in 0..ENOUGH {
        let at_rest = matches!(world.agent().state(), State::Idle | State::Exiting);
        if at_rest || world.exit().is_some() {
            return;
        }
        let Some(deadline) = world.agent().deadline() else { break };
        world.pass(deadline);
        if let Incident::Stop = by {
            world.happen(Incident::Stop);
        }
    }
    panic!("{by:?} does not end this: {:?}", before.agent());
}

/// What can follow from the start of a daemon.
#[derive(Default)]
struct Explored {
    states: HashSet<String>,
    /// Steps after which something happened.
    transitions: usize,
    arrows: BTreeSet<Arrow>,
}

impl Explored {
    fn all(kind: RunnerKind, policy: Policy) -> Self {
        let steps = steps([policy, Policy { interval: policy.interval / 2, ..policy }]);
        let mut explored = Self::default();
        let mut open = VecDeque::from([World::new(kind, policy)]);
        if matches!(kind, RunnerKind::Child | RunnerKind::Attached) {
            open.push_back(World::new(kind, policy).with_failing_start(true));
        }
        while let Some(world) = open.pop_front() {
            for step in &steps {
                let mut next = world.clone();
                take(&mut next, *step);
                if explored.is_new(&mut next, *step) {
                    check_end(&next, Incident::Stop);
                    if next.is_in_flight() {
                        let terminate = Outcome::Acknowledged { terminate: true };
                        check_end(&next, Incident::HeartbeatEnds(terminate, 0.0));
                    }
                    open.push_back(next);
                }
            }
        }
        explored
    }

    /// Counts a step that led to `next`. Returns true if that was not reached before.
    fn is_new(&mut self, next: &mut World, step: Step) -> bool {
        let history = next.take_history();
        if history.is_empty() && !matches!(step, Step::Second) {
            return false;
        }
        let arrow = |(before, _, after)| (state_name(before), state_name(after));
        self.arrows.extend(history.iter().copied().map(arrow));
        self.transitions += usize::from(!history.is_empty());
        self.states.insert(key(next))
    }
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
    let arrows = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for (number, policy) in (1..).zip(policies) {
            for kind in kinds {
                let arrows = &arrows;
                scope.spawn(move || {
                    let mut explored = Explored::all(kind, *policy);
                    let (states, transitions) = (explored.states.len(), explored.transitions);
                    println!(
                        "{kind:?}, policy {number}: {states} states, {transitions} transitions"
                    );
                    let mut arrows = arrows.lock().unwrap_or_else(PoisonError::into_inner);
                    arrows.append(&mut explored.arrows);
                });
            }
        }
    });
    let arrows = arrows.into_inner().unwrap_or_else(PoisonError::into_inner);
    check_diagram(&arrows);
    if policies.len() == 4 {
        find_arrows(&arrows);
    }
}
