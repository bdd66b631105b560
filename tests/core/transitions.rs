//! The transitions of random lives, which the state diagram shows.
//!
//! The laws are worth as much as the lives that they are checked in. They contain all that can
//! happen to the daemon, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use insta::assert_snapshot;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use taskbeat::core::{CommandName, Event, Outcome, Rung, State};

use crate::laws::{live, lives};

/// The same lives in each run, so that a rare transition is found in all runs or in none.
const LIVES: usize = 6_000;

/// A transition that is rarer than this may be missing in another version of proptest.
const OFTEN: usize = 3;

/// The names of the states before and after an event.
pub(crate) type Arrow = (&'static str, &'static str);

/// The arrows of the diagram at the top of `src/core/agent/mod.rs`, and of the text below it.
const ARROWS: [Arrow; 12] = [
    ("Starting", "Waiting"),
    ("Waiting", "Running"),
    ("Running", "Waiting"),
    ("Running", "OnTerminate"),
    ("Running", "Rung::Stop"),
    ("OnTerminate", "Rung::Stop"),
    ("Rung::Stop", "Rung::Kill"),
    ("Rung::Kill", "Idle"),
    ("Rung::Kill", "Exiting"),
    ("Idle", "Exiting"),
    // In the text.
    ("Waiting", "OnTerminate"),
    ("OnTerminate", "Rung::Kill"),
];

pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Starting => "Starting",
        State::Waiting => "Waiting",
        State::Running => "Running",
        State::OnTerminate { .. } => "OnTerminate",
        State::Ladder { rung: Rung::Stop, .. } => "Rung::Stop",
        State::Ladder { rung: Rung::Kill, .. } => "Rung::Kill",
        State::Idle => "Idle",
        State::Exiting => "Exiting",
    }
}

fn event_name(event: Event) -> Option<&'static str> {
    Some(match event {
        Event::Due => "Due",
        Event::RunnerStarted => "RunnerStarted",
        Event::StartFailed(_) => "StartFailed",
        Event::LeaderExited(_) => "LeaderExited",
        Event::RunnerGone => "RunnerGone",
        Event::HeartbeatEnded(Outcome::Acknowledged { terminate: false }, _) => "acknowledged",
        Event::HeartbeatEnded(Outcome::Acknowledged { terminate: true }, _) => "terminate",
        Event::HeartbeatEnded(Outcome::Failed(_), _) => "failed",
        Event::CommandEnded(name, _) => match name {
            CommandName::OnTerminate => "CommandEnded",
            CommandName::HealthCheck => "checked",
            // Leads to no other state.
            CommandName::OnContactChange => return None,
        },
        Event::LeaderStopped(_) => "LeaderStopped",
        Event::Stop(_) => "stop",
        Event::Reloaded(_) => "Reloaded",
        Event::Resumed(_) => "Resumed",
    })
}

#[test]
fn the_lives_contain_every_transition_that_the_daemon_can_make() {
    let transitions = transitions();
    let arrows = transitions.keys().copied().collect();
    check_diagram(&arrows);
    find_arrows(&arrows);
    let mut lines = Vec::new();
    for ((before, after), events) in &transitions {
        let often = events.values().all(|times| *times >= OFTEN);
        assert!(often, "too rare to be found always: {before} -> {after}: {events:?}");
        let events: Vec<_> = events.keys().copied().collect();
        lines.push(format!("{before} -> {after}\n  {}", events.join(", ")));
    }
    assert_snapshot!(lines.join("\n"), @"
    Idle -> Exiting
      stop
    Idle -> Idle
      Due, LeaderExited, LeaderStopped, Reloaded, Resumed, RunnerGone
    OnTerminate -> Exiting
      CommandEnded, Due, stop
    OnTerminate -> Idle
      CommandEnded, Due
    OnTerminate -> OnTerminate
      Due, LeaderExited, LeaderStopped, Resumed, RunnerGone, RunnerStarted, stop
    OnTerminate -> Rung::Kill
      stop
    OnTerminate -> Rung::Stop
      CommandEnded, Due
    Rung::Kill -> Exiting
      Due, LeaderExited, RunnerGone
    Rung::Kill -> Idle
      Due, LeaderExited, RunnerGone
    Rung::Kill -> Rung::Kill
      Due, LeaderExited, LeaderStopped, Resumed, acknowledged, checked, failed, stop, terminate
    Rung::Stop -> Exiting
      LeaderExited, RunnerGone
    Rung::Stop -> Idle
      LeaderExited, RunnerGone
    Rung::Stop -> Rung::Kill
      Due, stop
    Rung::Stop -> Rung::Stop
      Due, LeaderExited, LeaderStopped, Resumed, acknowledged, checked, failed, stop, terminate
    Running -> Exiting
      Due, LeaderExited, stop, terminate
    Running -> Idle
      terminate
    Running -> OnTerminate
      terminate
    Running -> Rung::Stop
      Due, LeaderExited, stop, terminate
    Running -> Running
      Due, LeaderStopped, Reloaded, Resumed, acknowledged, checked, failed
    Running -> Waiting
      LeaderExited
    Starting -> Exiting
      stop
    Starting -> Starting
      Reloaded, Resumed
    Starting -> Waiting
      Due
    Waiting -> Exiting
      StartFailed, stop, terminate
    Waiting -> Idle
      terminate
    Waiting -> OnTerminate
      terminate
    Waiting -> Running
      RunnerStarted
    Waiting -> Waiting
      Due, LeaderStopped, Reloaded, Resumed, acknowledged, failed
    ");
}

/// How often each event led from one state to another.
fn transitions() -> BTreeMap<Arrow, BTreeMap<&'static str, usize>> {
    let mut transitions = BTreeMap::<_, BTreeMap<_, usize>>::new();
    let mut random = TestRunner::deterministic();
    for _ in 0..LIVES {
        let Ok(life) = lives().new_tree(&mut random) else {
            panic!("no life is rejected");
        };
        for (before, event, after) in live(&life.current()) {
            let states = (state_name(before), state_name(after));
            let events = transitions.entry(states).or_default();
            if let Some(name) = event_name(event) {
                *events.entry(name).or_default() += 1;
            }
        }
    }
    transitions
}

/// Each transition is an arrow of the diagram, or skips what has no process to wait for.
pub(crate) fn check_diagram(found: &BTreeSet<Arrow>) {
    let others: Vec<_> = found
        .iter()
        .filter(|(before, after)| before != after)
        .filter(|arrow| !ARROWS.contains(arrow) && !["Idle", "Exiting"].contains(&arrow.1))
        .collect();
    assert!(others.is_empty(), "transitions that are not in the diagram: {others:?}");
    let source = include_str!("../../src/core/agent/mod.rs");
    let diagram = source.split("```").nth(1).unwrap_or_default();
    for (before, after) in ARROWS {
        assert!(diagram.contains(before) && diagram.contains(after), "{before}, {after}");
    }
}

/// The diagram has no arrow that is not found.
pub(crate) fn find_arrows(found: &BTreeSet<Arrow>) {
    for arrow in ARROWS {
        assert!(found.contains(&arrow), "no life makes {arrow:?}");
    }
}
