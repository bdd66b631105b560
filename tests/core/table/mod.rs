//! Every state × event pair.
//!
//! A row of the table is one state, its columns are the events. A cell reads
//! `event: state -> actions | deadline | changes`. `=` is the state as it was, `-` is no action.
//! The deadline is counted from the event. The changes are facts that the event made different. As
//! long as the state is as it was, they include the actions that a later event now leads to.
//!
//! The snapshots are the specification. Check a changed one against the contract, then write it
//! with `cargo insta test --accept --test core`.

mod health;
mod running;
mod stopping;
mod stories;

use std::time::Duration;

use taskbeat::core::{
    Action, AfterTerminate, Agent, CommandName, CommandResult, Contact, Event, Exit, Failure,
    FailureClass, Outcome, Policy, Random, RunnerKind, State, Time,
};

use crate::policy;

/// The operator asks for a stop, by SIGTERM.
const STOP: Event = Event::Stop(15);

const LEADER_EXITED: Event = Event::LeaderExited(Exit(3));

const COMMAND_ENDED: Event =
    Event::CommandEnded(CommandName::OnTerminate, CommandResult::Exited(Exit::OK));

/// The tested event comes after this time.
const NOW: Time = at(10);

/// The moment `seconds` after the daemon's start.
const fn at(seconds: u64) -> Time {
    Time::after_start(Duration::from_secs(seconds))
}

/// Settings that no deadline in the table depends on.
fn reloaded() -> Policy {
    Policy { jitter: 0.1, ..policy() }
}

fn acknowledged(terminate: bool) -> Event {
    Event::HeartbeatEnded(Outcome::Acknowledged { terminate }, Random::new(0.0))
}

fn failed(class: FailureClass) -> Event {
    let failure = Failure { class, retry_after: None };
    Event::HeartbeatEnded(Outcome::Failed(failure), Random::new(0.0))
}

fn checked(exit: Exit) -> Event {
    Event::CommandEnded(CommandName::HealthCheck, CommandResult::Exited(exit))
}

fn interval(seconds: u64) -> Policy {
    Policy { interval: Duration::from_secs(seconds), ..policy() }
}

fn grace(seconds: u64, policy: Policy) -> Policy {
    Policy { grace: Duration::from_secs(seconds), ..policy }
}

fn with_command() -> Policy {
    Policy { on_terminate: true, ..policy() }
}

fn staying_idle() -> Policy {
    Policy { after_terminate: AfterTerminate::Idle, ..policy() }
}

fn lost_contact_after(seconds: u64) -> Policy {
    Policy { lost_contact_after: Some(Duration::from_secs(seconds)), ..policy() }
}

/// The columns of the table.
fn events() -> [(&'static str, Event); 15] {
    [
        ("due", Event::Due),
        ("started", Event::RunnerStarted),
        ("start-failed", Event::StartFailed(Exit::NOT_FOUND)),
        ("leader-exited", LEADER_EXITED),
        ("gone", Event::RunnerGone),
        ("ack", acknowledged(false)),
        ("terminate", acknowledged(true)),
        ("failed", failed(FailureClass::Transient)),
        ("command-ended", COMMAND_ENDED),
        ("healthy", checked(Exit::OK)),
        ("unhealthy", checked(Exit(1))),
        ("stopped", Event::LeaderStopped(true)),
        ("stop", STOP),
        ("reload", Event::Reloaded(reloaded())),
        ("resumed", Event::Resumed(Duration::from_hours(1))),
    ]
}

/// The events whose actions depend on more than the state.
const DEPENDENT: [&str; 3] = ["gone", "command-ended", "stop"];

const UP: [Event; 2] = [Event::Due, Event::RunnerStarted];

/// An agent whose runner runs, after `more` events, all of them at the daemon's start.
fn running(kind: RunnerKind, policy: Policy, more: &[Event]) -> Agent {
    agent(kind, policy, &[&UP, more].concat())
}

/// An agent after the events of its `past`, all of them at the daemon's start.
fn agent(kind: RunnerKind, policy: Policy, past: &[Event]) -> Agent {
    let mut agent = Agent::new(kind, policy);
    for event in past {
        agent.handle(Time::ZERO, *event);
    }
    agent
}

/// An agent whose deadlines up to `until` have come.
fn later(mut agent: Agent, until: Time) -> Agent {
    for _ in 0..10_000 {
        let Some(deadline) = agent.deadline().filter(|deadline| *deadline <= until) else {
            return agent;
        };
        agent.handle(deadline, Event::Due);
    }
    panic!("a deadline never passes: {agent:?}");
}

/// A row of the table: each event at [`NOW`].
fn row(before: &Agent) -> String {
    let cell = |(name, event)| {
        let mut agent = before.clone();
        let actions = agent.handle(NOW, event);
        let state = if agent.state() == before.state() {
            "=".to_owned()
        } else {
            show_state(agent.state())
        };
        let deadline = show_deadline(agent.deadline());
        let changes = show_changes(before, &agent);
        let actions = show_actions(&actions);
        format!("{name}: {state} -> {actions} | {deadline}{changes}\n")
    };
    events().into_iter().map(cell).collect()
}

fn show_state(state: State) -> String {
    match state {
        State::OnTerminate { until } => format!("OnTerminate {}s", seconds_to(until)),
        State::Ladder { rung, cause, until } => {
            format!("Ladder {rung:?} {cause:?} {}s", seconds_to(until))
        }
        State::Starting | State::Waiting | State::Running | State::Idle | State::Exiting => {
            format!("{state:?}")
        }
    }
}

fn show_deadline(deadline: Option<Time>) -> String {
    deadline.map_or("never".to_owned(), |time| format!("{}s", seconds_to(time)))
}

/// Seconds from [`NOW`], to the millisecond; negative before it.
fn seconds_to(time: Time) -> f64 {
    let seconds = time.since_start().as_secs_f64() - NOW.since_start().as_secs_f64();
    (seconds * 1e3).round() / 1e3
}

fn show_actions(actions: &[Action]) -> String {
    let show = |action: &Action| match action {
        Action::Send { renew: false } => "Send".to_owned(),
        Action::Send { renew: true } => "SendRenewed".to_owned(),
        Action::Exit(exit) => format!("Exit {}", exit.0),
        Action::ContactRegained(after) => format!("Regained {}s", after.as_secs()),
        Action::HealthRegained(after) => format!("HealthRegained {}s", after.as_secs()),
        Action::StartCommand(name) => format!("Start {name}"),
        Action::KillCommand(name) => format!("Kill {name}"),
        Action::StartRunner
        | Action::Abandon
        | Action::StopRunner
        | Action::KillRunner
        | Action::ContactLost
        | Action::HealthLost => format!("{action:?}"),
    };
    if actions.is_empty() {
        return "-".to_owned();
    }
    actions.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn show_changes(before: &Agent, after: &Agent) -> String {
    let same_state = after.state() == before.state();
    let facts = |agent| {
        let mut facts = show_facts(agent);
        if same_state {
            facts.extend(show_prospects(agent));
        }
        facts
    };
    let old = facts(before);
    let mut changes = facts(after);
    changes.retain(|fact| !old.contains(fact));
    if changes.is_empty() || after.state() == State::Exiting {
        return String::new();
    }
    format!(" | {}", changes.join(", "))
}

/// Facts that state, actions and deadline do not show.
fn show_facts(agent: &Agent) -> Vec<String> {
    let schedule = agent.schedule();
    let either = |is, yes: &str, no: &str| if is { yes } else { no }.to_owned();
    let follows = schedule.in_flight() || schedule.is_checking() || schedule.due().is_some();
    let contact = match schedule.contact() {
        Contact::Pending { .. } => "contact pending",
        Contact::Held { .. } => "contact",
        Contact::Lost { .. } => "no contact",
    };
    vec![
        either(*agent.policy() == reloaded(), "new policy", "old policy"),
        either(agent.runner_since() == Some(NOW), "runner is new", "runner is old"),
        contact.to_owned(),
        either(follows, "scheduled", "ended"),
        either(agent.is_leader_stopped(), "stopped", "not stopped"),
        either(schedule.unhealthy_since().is_some(), "unhealthy", "not unhealthy"),
        format!("{} failed", schedule.failures()),
    ]
}

/// The actions of the [`DEPENDENT`] events a second later.
fn show_prospects(agent: &Agent) -> Vec<String> {
    let show = |(name, event)| {
        let mut actions = agent.clone().handle(NOW + Duration::from_secs(1), event);
        actions.retain(|action| *action != Action::ContactLost);
        format!("then {name}: {}", show_actions(&actions))
    };
    let dependent = |(name, _): &(&str, Event)| DEPENDENT.contains(name);
    events().into_iter().filter(dependent).map(show).collect()
}
