//! Every state × event pair.
//!
//! A cell reads `event: state -> actions | deadline | changes`. `=` is the state as it was, `-` no action, and the
//! deadline is counted from the event. The changes are what else the event made different, left out where there are
//! none; while the state is as it was, what other events lead to is one of them.

use std::time::Duration;

use taskbeat::core::{
    Action, AfterTerminate, Agent, Event, Exit, Failure, FailureClass, Job, Outcome, Policy,
    Random, RunnerKind, State, Time,
};

/// The time at which the tested event comes; everything before it happened at [`Time::ZERO`].
const NOW: Duration = Duration::from_secs(10);

/// The defaults, without the jitter.
pub(crate) fn policy() -> Policy {
    Policy {
        interval: Duration::from_mins(15),
        jitter: 0.0,
        grace: Duration::from_secs(30),
        lost_contact_after: None,
        on_terminate: false,
        after_terminate: AfterTerminate::Exit,
    }
}

/// Settings that no deadline in the table depends on.
fn reloaded() -> Policy {
    Policy {
        jitter: 0.1,
        ..policy()
    }
}

fn acknowledged(terminate: bool) -> Event {
    Event::HeartbeatEnded(Outcome::Acknowledged { terminate }, Random::new(0.0))
}

fn failed(class: FailureClass) -> Event {
    let fault = Failure {
        class,
        retry_after: None,
    };
    Event::HeartbeatEnded(Outcome::Failed(fault), Random::new(0.0))
}

/// The columns of the table.
fn events() -> [(&'static str, Event); 16] {
    [
        ("due", Event::Due),
        ("up", Event::RunnerUp),
        ("refused", Event::RunnerRefused(Exit::NOT_FOUND)),
        ("ended", Event::RunnerEnded(Exit(3))),
        ("gone", Event::RunnerGone),
        ("ack", acknowledged(false)),
        ("terminate", acknowledged(true)),
        ("failed", failed(FailureClass::Transient)),
        ("hooked", Event::HookEnded),
        ("stop", Event::Stop),
        ("reload", Event::Reloaded(reloaded())),
        ("resumed", Event::Resumed(Duration::from_hours(1))),
        ("usr1", Event::Job(Job::Forward(10))),
        ("tstp", Event::Job(Job::Suspend(Some(20)))),
        ("ctrl-z", Event::Job(Job::Suspend(None))),
        ("cont", Event::Job(Job::Continue)),
    ]
}

/// An agent that went through `past`, all of it at the start.
fn agent(runner: RunnerKind, policy: Policy, past: &[Event]) -> Agent {
    let mut agent = Agent::new(runner, policy);
    for event in past {
        agent.handle(Time::ZERO, *event);
    }
    agent
}

fn show_state(state: State) -> String {
    let left = |until: Time| (until - Time::after_start(NOW)).as_secs();
    match state {
        State::Hooking { until } => format!("Hooking {}s", left(until)),
        State::Stopping { cause, until } => format!("Stopping {cause:?} {}s", left(until)),
        State::Killing { cause, until } => format!("Killing {cause:?} {}s", left(until)),
        State::Starting | State::Waiting | State::Running | State::Idle | State::Stopped => {
            format!("{state:?}")
        }
    }
}

fn show_actions(actions: &[Action]) -> String {
    let show = |action: &Action| match action {
        Action::Send { renew: false } => "Send".to_owned(),
        Action::Send { renew: true } => "SendRenewed".to_owned(),
        Action::Exit(exit) => format!("Exit {}", exit.0),
        Action::Forward(signal) => format!("Forward {signal}"),
        Action::StartRunner
        | Action::Abandon
        | Action::StartHook
        | Action::KillHook
        | Action::StopRunner
        | Action::KillRunner
        | Action::Continue
        | Action::Suspend => format!("{action:?}"),
    };
    if actions.is_empty() {
        return "-".to_owned();
    }
    actions.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// What state, actions and deadline do not show.
fn show_facts(agent: &Agent) -> Vec<String> {
    let now = Time::after_start(NOW);
    let schedule = agent.schedule();
    let either = |is, yes: &str, no: &str| if is { yes } else { no }.to_owned();
    let to_come = schedule.in_flight() || schedule.due().is_some();
    vec![
        either(*agent.policy() == reloaded(), "new policy", "old policy"),
        either(agent.runner_since() == Some(now), "up now", "up before"),
        either(agent.in_contact(now), "in contact", "no contact"),
        either(to_come, "heartbeats", "no heartbeats"),
        format!("{} failed", schedule.failures()),
    ]
}

/// What those events lead to that depend on more than the state.
fn show_prospects(agent: &Agent) -> Vec<String> {
    let depends = |(name, _): &(&str, Event)| ["gone", "hooked", "stop", "usr1"].contains(name);
    let show = |(name, event)| {
        let actions = agent.clone().handle(Time::after_start(NOW), event);
        format!("{name}: {}", show_actions(&actions))
    };
    events().into_iter().filter(depends).map(show).collect()
}

fn show_changes(before: &Agent, after: &Agent) -> String {
    let all = |agent| {
        let mut all = show_facts(agent);
        if after.state() == before.state() {
            all.extend(show_prospects(agent));
        }
        all
    };
    let [old, mut changes] = [all(before), all(after)];
    changes.retain(|fact| !old.contains(fact));
    // Nobody asks one that exits.
    if changes.is_empty() || after.state() == State::Stopped {
        return String::new();
    }
    format!(" | {}", changes.join(", "))
}

/// Compares a whole row, and shows it whole when it differs.
fn row(agent: &Agent, expected: &str) {
    let mut found = String::new();
    for (name, event) in events() {
        let before = agent;
        let mut agent = before.clone();
        let actions = agent.handle(Time::after_start(NOW), event);
        let deadline = agent.deadline().map_or("never".to_owned(), |time| {
            format!("{}s", (time - Time::ZERO).as_secs_f64() - NOW.as_secs_f64())
        });
        let state = if agent.state() == before.state() {
            "=".to_owned()
        } else {
            show_state(agent.state())
        };
        let actions = show_actions(&actions);
        found.extend([name, ": ", &state, " -> ", &actions, " | ", &deadline]);
        found.extend([&show_changes(before, &agent), "\n"]);
    }
    let lines = expected.trim().lines().map(str::trim);
    let expected: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert_eq!(expected, found, "expected:\n{expected}\nfound:\n{found}");
}

const UP: [Event; 2] = [Event::Due, Event::RunnerUp];

fn past(more: &[Event]) -> Vec<Event> {
    [&UP, more].concat()
}

#[test]
fn starting() {
    row(
        &agent(RunnerKind::Child, policy(), &[]),
        "
        due: Waiting -> StartRunner | never
        up: = -> - | -10s
        refused: = -> - | -10s
        ended: = -> - | -10s
        gone: = -> - | -10s
        ack: = -> - | -10s
        terminate: = -> - | -10s
        failed: = -> - | -10s
        hooked: = -> - | -10s
        stop: Stopped -> Exit 0 | never
        reload: = -> - | -10s | new policy
        resumed: = -> - | -10s
        usr1: = -> - | -10s
        tstp: = -> Suspend | -10s
        ctrl-z: = -> Suspend | -10s
        cont: = -> - | -10s
        ",
    );
}

#[test]
fn waiting() {
    row(
        &agent(RunnerKind::Followed, policy(), &[Event::Due]),
        "
        due: = -> - | never
        up: Running -> Send | never | up now, heartbeats
        refused: Stopped -> Exit 127 | never
        ended: = -> - | never
        gone: = -> - | never
        ack: = -> - | never
        terminate: Stopped -> Exit 0 | never
        failed: = -> - | never
        hooked: = -> - | never
        stop: Stopped -> Exit 0 | never
        reload: = -> - | never | new policy
        resumed: = -> - | never
        usr1: = -> - | never
        tstp: = -> Suspend | never
        ctrl-z: = -> Suspend | never
        cont: = -> - | never
        ",
    );
}

#[test]
fn running_child_in_flight() {
    row(
        &agent(RunnerKind::Child, policy(), &UP),
        "
        due: = -> - | never
        up: = -> - | never
        refused: = -> - | never
        ended: Stopping Ended 30s -> Abandon, StopRunner | 30s | no heartbeats
        gone: = -> - | never
        ack: = -> - | 890s | in contact
        terminate: Stopping Terminate 30s -> StopRunner | 30s | in contact, no heartbeats
        failed: = -> - | 0.5s | 1 failed
        hooked: = -> - | never
        stop: Stopping Operator 30s -> StopRunner | 30s
        reload: = -> - | never | new policy
        resumed: = -> - | never
        usr1: = -> Forward 10 | never
        tstp: = -> Forward 20, Suspend | never
        ctrl-z: = -> Suspend | never
        cont: = -> Continue | never
        ",
    );
}

#[test]
fn running_child_between_heartbeats() {
    row(
        &agent(RunnerKind::Child, policy(), &past(&[acknowledged(false)])),
        "
        due: = -> - | 890s
        up: = -> - | 890s
        refused: = -> - | 890s
        ended: Stopping Ended 30s -> StopRunner | 30s | no heartbeats
        gone: = -> - | 890s
        ack: = -> - | 890s
        terminate: Stopping Terminate 30s -> StopRunner | 30s | no heartbeats
        failed: = -> - | 890s
        hooked: = -> - | 890s
        stop: Stopping Operator 30s -> StopRunner | 30s
        reload: = -> - | 890s | new policy
        resumed: = -> - | -10s
        usr1: = -> Forward 10 | 890s
        tstp: = -> Forward 20, Suspend | 890s
        ctrl-z: = -> Suspend | 890s
        cont: = -> Continue | 890s
        ",
    );
}

#[test]
fn running_child_in_backoff() {
    row(
        &agent(
            RunnerKind::Child,
            policy(),
            &past(&[failed(FailureClass::Transient)]),
        ),
        "
        due: = -> Send | never
        up: = -> - | -9.5s
        refused: = -> - | -9.5s
        ended: Stopping Ended 30s -> StopRunner | 30s | no heartbeats
        gone: = -> - | -9.5s
        ack: = -> - | -9.5s
        terminate: Stopping Terminate 30s -> StopRunner | 30s | in contact, no heartbeats
        failed: = -> - | -9.5s
        hooked: = -> - | -9.5s
        stop: Stopping Operator 30s -> StopRunner | -9.5s
        reload: = -> - | -9.5s | new policy, 0 failed
        resumed: = -> - | -10s
        usr1: = -> Forward 10 | -9.5s
        tstp: = -> Forward 20, Suspend | -9.5s
        ctrl-z: = -> Suspend | -9.5s
        cont: = -> Continue | -9.5s
        ",
    );
}

#[test]
fn running_without_a_runner() {
    row(
        &agent(RunnerKind::None, policy(), &UP),
        "
        due: = -> - | never
        up: = -> - | never
        refused: = -> - | never
        ended: Stopped -> Abandon, Exit 3 | never
        gone: = -> - | never
        ack: = -> - | 890s | in contact
        terminate: Stopped -> Exit 0 | never
        failed: = -> - | 0.5s | 1 failed
        hooked: = -> - | never
        stop: Stopped -> Exit 0 | never
        reload: = -> - | never | new policy
        resumed: = -> - | never
        usr1: = -> - | never
        tstp: = -> Suspend | never
        ctrl-z: = -> Suspend | never
        cont: = -> - | never
        ",
    );
}

#[test]
fn running_attached() {
    row(
        &agent(RunnerKind::Attached, policy(), &UP),
        "
        due: = -> - | never
        up: = -> - | never
        refused: = -> - | never
        ended: Stopped -> Abandon, Exit 3 | never
        gone: = -> - | never
        ack: = -> - | 890s | in contact
        terminate: Stopping Terminate 30s -> StopRunner | 30s | in contact, no heartbeats
        failed: = -> - | 0.5s | 1 failed
        hooked: = -> - | never
        stop: Stopped -> Exit 0 | never
        reload: = -> - | never | new policy
        resumed: = -> - | never
        usr1: = -> - | never
        tstp: = -> Suspend | never
        ctrl-z: = -> Suspend | never
        cont: = -> - | never
        ",
    );
}

#[test]
fn running_followed() {
    row(
        &agent(RunnerKind::Followed, policy(), &UP),
        "
        due: = -> - | never
        up: = -> - | never
        refused: = -> - | never
        ended: Waiting -> Abandon | never | no heartbeats
        gone: = -> - | never
        ack: = -> - | 890s | in contact
        terminate: Stopping Terminate 30s -> StopRunner | 30s | in contact, no heartbeats
        failed: = -> - | 0.5s | 1 failed
        hooked: = -> - | never
        stop: Stopped -> Exit 0 | never
        reload: = -> - | never | new policy
        resumed: = -> - | never
        usr1: = -> - | never
        tstp: = -> Suspend | never
        ctrl-z: = -> Suspend | never
        cont: = -> - | never
        ",
    );
}

fn hooked() -> Policy {
    Policy {
        on_terminate: true,
        ..policy()
    }
}

#[test]
fn hooking() {
    row(
        &agent(RunnerKind::Child, hooked(), &past(&[acknowledged(true)])),
        "
        due: = -> - | 20s
        up: = -> - | 20s | up now
        refused: = -> - | 20s
        ended: = -> - | 20s | usr1: -
        gone: = -> - | 20s | hooked: Exit 0, usr1: -
        ack: = -> - | 20s
        terminate: = -> - | 20s
        failed: = -> - | 20s
        hooked: Stopping Terminate 30s -> StopRunner | 30s
        stop: = -> - | 20s | stop: KillHook, KillRunner
        reload: = -> - | 20s
        resumed: = -> - | 20s
        usr1: = -> Forward 10 | 20s
        tstp: = -> Forward 20, Suspend | 20s
        ctrl-z: = -> Suspend | 20s
        cont: = -> Continue | 20s
        ",
    );
}

#[test]
fn hooking_after_the_runner_ended() {
    row(
        &agent(
            RunnerKind::Followed,
            hooked(),
            &past(&[acknowledged(true), Event::RunnerEnded(Exit::RUNNER_LOST)]),
        ),
        "
        due: = -> - | 20s
        up: = -> - | 20s | up now, hooked: StopRunner
        refused: = -> - | 20s
        ended: = -> - | 20s
        gone: = -> - | 20s
        ack: = -> - | 20s
        terminate: = -> - | 20s
        failed: = -> - | 20s
        hooked: Stopped -> Exit 0 | never
        stop: = -> - | 20s | stop: KillHook, Exit 0
        reload: = -> - | 20s
        resumed: = -> - | 20s
        usr1: = -> - | 20s
        tstp: = -> Suspend | 20s
        ctrl-z: = -> Suspend | 20s
        cont: = -> - | 20s
        ",
    );
}

#[test]
fn stopping_for_the_operator() {
    row(
        &agent(
            RunnerKind::Child,
            policy(),
            &past(&[acknowledged(false), Event::Stop]),
        ),
        "
        due: = -> - | 20s
        up: = -> - | 20s
        refused: = -> - | 20s
        ended: = -> StopRunner | 20s | no heartbeats, gone: Exit 3, usr1: -
        gone: Stopped -> Exit 137 | never
        ack: = -> - | 20s
        terminate: Stopping Terminate 20s -> - | 20s | no heartbeats
        failed: = -> - | 20s
        hooked: = -> - | 20s
        stop: Killing Operator 5s -> KillRunner | 5s
        reload: = -> - | 20s
        resumed: = -> - | -10s
        usr1: = -> Forward 10 | 20s
        tstp: = -> Forward 20, Suspend | 20s
        ctrl-z: = -> Suspend | 20s
        cont: = -> Continue | 20s
        ",
    );
}

#[test]
fn stopping_for_terminate() {
    row(
        &agent(RunnerKind::Child, policy(), &past(&[acknowledged(true)])),
        "
        due: = -> - | 20s
        up: = -> - | 20s
        refused: = -> - | 20s
        ended: = -> StopRunner | 20s | usr1: -
        gone: Stopped -> Exit 0 | never
        ack: = -> - | 20s
        terminate: = -> - | 20s
        failed: = -> - | 20s
        hooked: = -> - | 20s
        stop: = -> - | 20s | stop: KillRunner
        reload: = -> - | 20s
        resumed: = -> - | 20s
        usr1: = -> Forward 10 | 20s
        tstp: = -> Forward 20, Suspend | 20s
        ctrl-z: = -> Suspend | 20s
        cont: = -> Continue | 20s
        ",
    );
}

#[test]
fn stopping_what_the_leader_left() {
    row(
        &agent(
            RunnerKind::Child,
            policy(),
            &past(&[Event::RunnerEnded(Exit(5))]),
        ),
        "
        due: = -> - | 20s
        up: = -> - | 20s
        refused: = -> - | 20s
        ended: = -> StopRunner | 20s | gone: Exit 3
        gone: Stopped -> Exit 5 | never
        ack: = -> - | 20s
        terminate: = -> - | 20s
        failed: = -> - | 20s
        hooked: = -> - | 20s
        stop: = -> - | 20s | stop: KillRunner
        reload: = -> - | 20s
        resumed: = -> - | 20s
        usr1: = -> - | 20s
        tstp: = -> Suspend | 20s
        ctrl-z: = -> Suspend | 20s
        cont: = -> - | 20s
        ",
    );
}

#[test]
fn stopping_attached() {
    row(
        &agent(RunnerKind::Attached, policy(), &past(&[acknowledged(true)])),
        "
        due: = -> - | 20s
        up: = -> - | 20s
        refused: = -> - | 20s
        ended: Stopped -> Exit 0 | never
        gone: Stopped -> Exit 0 | never
        ack: = -> - | 20s
        terminate: = -> - | 20s
        failed: = -> - | 20s
        hooked: = -> - | 20s
        stop: = -> - | 20s | stop: KillRunner
        reload: = -> - | 20s
        resumed: = -> - | 20s
        usr1: = -> - | 20s
        tstp: = -> Suspend | 20s
        ctrl-z: = -> Suspend | 20s
        cont: = -> - | 20s
        ",
    );
}

#[test]
fn killing_in_flight() {
    row(
        &agent(
            RunnerKind::Child,
            policy(),
            &past(&[Event::Stop, Event::Stop]),
        ),
        "
        due: Stopped -> Exit 137 | never
        up: = -> - | -5s
        refused: = -> - | -5s
        ended: = -> Abandon, KillRunner | -5s | no heartbeats, gone: Exit 3, usr1: -
        gone: Stopped -> Exit 137 | never
        ack: = -> - | -5s | in contact
        terminate: Killing Terminate 0s -> - | -5s | in contact, no heartbeats
        failed: = -> - | -5s | 1 failed
        hooked: = -> - | -5s
        stop: = -> - | -5s
        reload: = -> - | -5s
        resumed: = -> - | -5s
        usr1: = -> Forward 10 | -5s
        tstp: = -> Forward 20, Suspend | -5s
        ctrl-z: = -> Suspend | -5s
        cont: = -> Continue | -5s
        ",
    );
}

#[test]
fn killing_between_heartbeats() {
    row(
        &agent(
            RunnerKind::Child,
            policy(),
            &past(&[acknowledged(false), Event::Stop, Event::Stop]),
        ),
        "
        due: Stopped -> Exit 137 | never
        up: = -> - | -5s
        refused: = -> - | -5s
        ended: = -> KillRunner | -5s | no heartbeats, gone: Exit 3, usr1: -
        gone: Stopped -> Exit 137 | never
        ack: = -> - | -5s
        terminate: Killing Terminate 0s -> - | -5s | no heartbeats
        failed: = -> - | -5s
        hooked: = -> - | -5s
        stop: = -> - | -5s
        reload: = -> - | -5s
        resumed: = -> - | -10s
        usr1: = -> Forward 10 | -5s
        tstp: = -> Forward 20, Suspend | -5s
        ctrl-z: = -> Suspend | -5s
        cont: = -> Continue | -5s
        ",
    );
}

#[test]
fn idle() {
    let idle = Policy {
        after_terminate: AfterTerminate::Idle,
        ..policy()
    };
    row(
        &agent(RunnerKind::None, idle, &past(&[acknowledged(true)])),
        "
        due: = -> - | never
        up: = -> - | never
        refused: = -> - | never
        ended: = -> - | never
        gone: = -> - | never
        ack: = -> - | never
        terminate: = -> - | never
        failed: = -> - | never
        hooked: = -> - | never
        stop: Stopped -> Exit 0 | never
        reload: = -> - | never
        resumed: = -> - | never
        usr1: = -> - | never
        tstp: = -> Suspend | never
        ctrl-z: = -> Suspend | never
        cont: = -> - | never
        ",
    );
}

#[test]
fn stopped() {
    row(
        &agent(RunnerKind::None, policy(), &past(&[Event::Stop])),
        "
        due: = -> - | never
        up: = -> - | never
        refused: = -> - | never
        ended: = -> - | never
        gone: = -> - | never
        ack: = -> - | never
        terminate: = -> - | never
        failed: = -> - | never
        hooked: = -> - | never
        stop: = -> - | never
        reload: = -> - | never
        resumed: = -> - | never
        usr1: = -> - | never
        tstp: = -> Suspend | never
        ctrl-z: = -> Suspend | never
        cont: = -> - | never
        ",
    );
}

#[test]
fn hooking_for_too_long() {
    let impatient = Policy {
        grace: Duration::from_secs(10),
        ..hooked()
    };
    let mut agent = agent(RunnerKind::Child, impatient, &past(&[acknowledged(true)]));
    let actions = agent.handle(Time::after_start(NOW), Event::Due);
    assert_eq!(show_actions(&actions), "KillHook, StopRunner");
    assert_eq!(show_state(agent.state()), "Stopping Terminate 10s");
}

#[test]
fn two_stops_kill_whatever_started_the_ladder() {
    for (name, policy, events, expected) in [
        ("operator", policy(), vec![Event::Stop], "KillRunner"),
        (
            "terminate",
            policy(),
            vec![acknowledged(true), Event::Stop],
            "KillRunner",
        ),
        (
            "hook",
            hooked(),
            vec![acknowledged(true), Event::Stop],
            "KillHook, KillRunner",
        ),
        (
            "leftovers",
            policy(),
            vec![Event::RunnerEnded(Exit(5)), Event::Stop],
            "KillRunner",
        ),
    ] {
        let mut agent = agent(RunnerKind::Child, policy, &past(&events));
        let actions = agent.handle(Time::after_start(NOW), Event::Stop);
        assert_eq!(show_actions(&actions), expected, "{name}");
    }
}

#[test]
fn the_runner_that_the_hook_stopped_is_not_stopped_again() {
    let ended = [acknowledged(true), Event::RunnerEnded(Exit::RUNNER_LOST)];
    for runner in [RunnerKind::Attached, RunnerKind::Followed] {
        let mut agent = agent(runner, hooked(), &past(&ended));
        let actions = agent.handle(Time::after_start(NOW), Event::HookEnded);
        assert_eq!(show_actions(&actions), "Exit 0", "{runner:?}");
    }
}

#[test]
fn the_first_final_cause_fixes_the_status() {
    let lost = Policy {
        lost_contact_after: Some(Duration::ZERO),
        ..policy()
    };
    for (name, policy, events, expected) in [
        (
            "ended",
            policy(),
            vec![Event::RunnerEnded(Exit(5)), Event::Stop],
            5,
        ),
        (
            "stopped",
            policy(),
            vec![Event::Stop, Event::RunnerEnded(Exit(143))],
            143,
        ),
        ("unkillable", policy(), vec![Event::Stop], 137),
        (
            "terminate while it drains",
            policy(),
            vec![
                Event::Stop,
                acknowledged(true),
                Event::RunnerEnded(Exit(143)),
            ],
            0,
        ),
        (
            "an end while terminate is obeyed",
            policy(),
            vec![acknowledged(true), Event::RunnerEnded(Exit(5)), Event::Stop],
            0,
        ),
        (
            "lost contact, then terminate",
            lost,
            vec![
                Event::Due,
                acknowledged(true),
                Event::RunnerEnded(Exit(143)),
            ],
            69,
        ),
    ] {
        let mut agent = agent(RunnerKind::Child, policy, &past(&events));
        let actions = agent.handle(Time::after_start(NOW), Event::RunnerGone);
        assert_eq!(show_actions(&actions), format!("Exit {expected}"), "{name}");
    }
}

#[test]
fn lost_contact_counts_from_the_last_acknowledged_one_and_failures_never_push_it_out() {
    let lost = Policy {
        lost_contact_after: Some(Duration::from_mins(31)),
        ..policy()
    };
    let mut agent = agent(RunnerKind::Child, lost, &past(&[acknowledged(false)]));
    let limit = Time::ZERO + Duration::from_mins(31);
    while let Some(deadline) = agent.deadline().filter(|deadline| *deadline < limit) {
        agent.handle(deadline, Event::Due);
        agent.handle(deadline, failed(FailureClass::Transient));
    }
    assert_eq!(agent.deadline(), Some(limit));
    let actions = agent.handle(limit, Event::Due);
    assert_eq!(show_actions(&actions), "StopRunner");
}

#[test]
fn a_reload_retries_what_failed_and_shortens_what_is_too_long() {
    let now = Time::after_start(NOW);
    let short = Policy {
        interval: Duration::from_mins(1),
        ..policy()
    };
    for (name, event, expected) in [
        ("failed", failed(FailureClass::Throttled), Some(now)),
        (
            "acknowledged",
            acknowledged(false),
            Some(Time::ZERO + short.interval),
        ),
    ] {
        let mut agent = agent(RunnerKind::None, policy(), &past(&[event]));
        agent.handle(now, Event::Reloaded(short));
        assert_eq!(agent.deadline(), expected, "{name}");
        assert_eq!(*agent.policy(), short);
    }
}

#[test]
fn a_suspension_brings_the_heartbeat_after_it_forward() {
    let resumed = |minutes| Event::Resumed(Duration::from_mins(minutes));
    let retried = [
        failed(FailureClass::Transient),
        Event::Reloaded(policy()),
        Event::Due,
    ];
    for (name, events, minutes) in [
        (
            "between two",
            vec![acknowledged(false), resumed(10), resumed(2)],
            3,
        ),
        (
            "in flight",
            vec![resumed(10), resumed(2), acknowledged(false)],
            3,
        ),
        (
            "in flight, and then between two",
            vec![resumed(10), acknowledged(false), resumed(2)],
            3,
        ),
        // The retry has come after it, so that the service has waited for nothing.
        (
            "in flight, of one that failed",
            [
                vec![resumed(10)],
                retried.to_vec(),
                vec![acknowledged(false)],
            ]
            .concat(),
            15,
        ),
    ] {
        let agent = agent(RunnerKind::Child, policy(), &past(&events));
        let expected = Time::ZERO + Duration::from_mins(minutes);
        assert_eq!(agent.deadline(), Some(expected), "{name}");
    }
}

#[test]
fn a_suspension_counts_for_no_other_deadline() {
    let now = Time::after_start(NOW);
    let lost = Policy {
        lost_contact_after: Some(Duration::from_mins(31)),
        ..policy()
    };
    let mut agent = agent(RunnerKind::Child, lost, &past(&[acknowledged(false)]));
    agent.handle(now, Event::Resumed(Duration::from_hours(10)));
    let actions = agent.handle(now, Event::Due);
    assert_eq!(show_actions(&actions), "Send");
    assert_eq!(agent.deadline(), Some(Time::ZERO + Duration::from_mins(31)));
}

#[test]
fn every_runner_begins_anew() {
    let now = Time::after_start(NOW);
    let silence = Duration::from_mins(31);
    let lost = Policy {
        lost_contact_after: Some(silence),
        ..policy()
    };
    let ended = Event::RunnerEnded(Exit::RUNNER_LOST);
    for (name, events) in [
        ("the first, late", vec![Event::Due]),
        ("after a good one", past(&[acknowledged(false), ended])),
        (
            "after a bad one",
            past(&[failed(FailureClass::Transient), ended]),
        ),
    ] {
        let mut agent = agent(RunnerKind::Followed, lost, &events);
        let actions = agent.handle(now, Event::RunnerUp);
        assert_eq!(show_actions(&actions), "Send", "{name}");
        assert_eq!(agent.deadline(), Some(now + silence), "{name}");
        assert_eq!(agent.schedule().failures(), 0, "{name}");
        assert!(!agent.in_contact(now), "{name}");
    }
}

#[test]
fn terminate_is_the_last_word_and_stands_for_good() {
    let idle = Policy {
        after_terminate: AfterTerminate::Idle,
        ..hooked()
    };
    let mut agent = agent(RunnerKind::Child, idle, &UP);
    let mut now = Time::ZERO;
    let mut states = Vec::new();
    for event in [acknowledged(true), Event::HookEnded, Event::Due, Event::Due] {
        assert!(!agent.schedule().in_contact(now, &idle));
        agent.handle(now, event);
        states.push(show_state(agent.state()));
        let year = Duration::from_hours(365 * 24);
        assert!(agent.in_contact(now + year), "{states:?}");
        now = agent.deadline().unwrap_or(now);
    }
    assert_eq!(
        states.last().map(String::as_str),
        Some("Idle"),
        "{states:?}"
    );
}

#[test]
fn an_operator_who_said_stop_meanwhile_does_not_want_us_to_stay() {
    let idle = Policy {
        after_terminate: AfterTerminate::Idle,
        // The ladder goes on with the next Due.
        grace: Duration::ZERO,
        ..policy()
    };
    let hooked = Policy {
        on_terminate: true,
        ..idle
    };
    let terminate = acknowledged(true);
    for (name, policy, events, expected) in [
        ("nobody", idle, vec![terminate], "-"),
        ("before", idle, vec![Event::Stop, terminate], "Exit 0"),
        (
            "at the command",
            hooked,
            vec![terminate, Event::Stop, Event::HookEnded],
            "Exit 0",
        ),
        (
            "at the first step",
            idle,
            vec![terminate, Event::Stop],
            "Exit 0",
        ),
        (
            "at the last step",
            idle,
            vec![terminate, Event::Due, Event::Stop],
            "Exit 0",
        ),
    ] {
        let mut agent = agent(RunnerKind::Child, policy, &past(&events));
        let actions = agent.handle(Time::ZERO, Event::RunnerGone);
        assert_eq!(show_actions(&actions), expected, "{name}");
    }
}
