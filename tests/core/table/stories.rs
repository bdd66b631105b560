//! What follows from more than one event after another.

use std::time::Duration;

use taskbeat::core::{Cause, Event, Exit, FailureClass, Policy, RunnerKind, Time};

use super::{
    COMMAND_ENDED, LEADER_EXITED, NOW, STOP, UP, acknowledged, agent, at, failed, grace, interval,
    later, lost_contact_after, running, show_actions, show_state, staying_idle, with_command,
};
use crate::policy;

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn stops_within_a_second_of_the_first_are_the_same_stop() {
    let terminate = acknowledged(true);
    for (name, policy, past, expected) in [
        ("operator", policy(), vec![], "KillRunner"),
        ("terminate", policy(), vec![terminate], "KillRunner"),
        ("command", with_command(), vec![terminate], "Kill on-terminate, KillRunner"),
        ("descendants", policy(), vec![LEADER_EXITED], "KillRunner"),
    ] {
        let mut agent = running(RunnerKind::Child, policy, &past);
        agent.handle(NOW, STOP);
        let state = agent.state();
        for later in [0, 1, 500, 999] {
            let actions = agent.handle(NOW + later * MILLISECOND, STOP);
            assert_eq!(show_actions(&actions), "-", "{name}, {later} ms later");
            assert_eq!(agent.state(), state, "{name}, {later} ms later");
        }
        let actions = agent.handle(NOW + 1000 * MILLISECOND, STOP);
        assert_eq!(show_actions(&actions), expected, "{name}");
    }
}

#[test]
fn a_stop_before_the_start_exits_by_its_signal_if_there_is_a_child() {
    for (kind, expected) in [
        (RunnerKind::Child, "Exit 130"),
        (RunnerKind::None, "Exit 0"),
        (RunnerKind::Attached, "Exit 0"),
        (RunnerKind::Followed, "Exit 0"),
    ] {
        for past in [&[][..], &[Event::Due]] {
            let actions = agent(kind, policy(), past).handle(NOW, Event::Stop(2));
            assert_eq!(show_actions(&actions), expected, "{kind:?} after {past:?}");
        }
    }
}

#[test]
fn a_runner_that_the_command_stopped_is_not_stopped_again() {
    for kind in [RunnerKind::Attached, RunnerKind::Followed] {
        let mut agent = running(kind, with_command(), &[acknowledged(true), LEADER_EXITED]);
        let actions = agent.handle(NOW, COMMAND_ENDED);
        assert_eq!(show_actions(&actions), "Exit 0", "{kind:?}");
    }
}

#[test]
fn the_first_final_cause_fixes_the_status() {
    let stopped = Event::LeaderExited(Exit(143));
    let terminate = acknowledged(true);
    for (name, policy, past, expected) in [
        ("exited", policy(), vec![LEADER_EXITED, STOP], 3),
        ("stopped", policy(), vec![STOP, stopped], 143),
        ("killed unseen", policy(), vec![STOP], 137),
        ("terminate while the runner drains", policy(), vec![STOP, terminate, stopped], 0),
        ("exit while terminate is obeyed", policy(), vec![terminate, LEADER_EXITED, STOP], 0),
        (
            "terminate after lost contact",
            lost_contact_after(0),
            vec![Event::Due, terminate, stopped],
            69,
        ),
    ] {
        let mut agent = running(RunnerKind::Child, policy, &past);
        let actions = agent.handle(NOW, Event::RunnerGone);
        assert_eq!(show_actions(&actions), format!("Exit {expected}"), "{name}");
    }
}

#[test]
fn terminate_is_obeyed_in_every_state_that_waits_for_a_response() {
    for (name, kind, past, expected) in [
        ("running", RunnerKind::Child, vec![], "StopRunner"),
        ("stopping", RunnerKind::Child, vec![STOP], "-"),
        ("waiting", RunnerKind::Followed, vec![LEADER_EXITED], "Exit 0"),
    ] {
        let mut agent = running(kind, policy(), &past);
        let actions = agent.handle(NOW, acknowledged(true));
        assert_eq!(show_actions(&actions), expected, "{name}");
        assert_eq!(agent.schedule().due(), None, "{name}");
    }
    let past = [LEADER_EXITED, acknowledged(true)];
    let agent = running(RunnerKind::Followed, with_command(), &past);
    assert_eq!(show_state(agent.state()), "OnTerminate 20s");
}

#[test]
fn the_policy_counts_from_the_last_acknowledged_heartbeat_and_failures_never_push_it_out() {
    let limit = at(1860);
    let policy = lost_contact_after(1860);
    let mut agent = running(RunnerKind::Child, policy, &[acknowledged(false)]);
    let mut actions = Vec::new();
    for _ in 0..200 {
        if let Some(deadline) = agent.deadline().filter(|deadline| *deadline < limit) {
            actions.extend(agent.handle(deadline, Event::Due));
            agent.handle(deadline, failed(FailureClass::Transient));
        }
    }
    assert!(show_actions(&actions).contains("ContactLost"));
    assert_eq!(agent.deadline(), Some(limit));
    let actions = agent.handle(limit, Event::Due);
    assert_eq!(show_actions(&actions), "StopRunner");
}

#[test]
fn a_reload_retries_a_failed_heartbeat_and_shortens_a_longer_interval() {
    for (name, event, expected) in [
        ("failed", failed(FailureClass::Throttled), NOW),
        ("acknowledged", acknowledged(false), at(60)),
    ] {
        let mut agent = running(RunnerKind::None, policy(), &[event]);
        agent.handle(NOW, Event::Reloaded(interval(60)));
        assert_eq!(agent.deadline(), Some(expected), "{name}");
        assert_eq!(*agent.policy(), interval(60), "{name}");
    }
}

#[test]
fn a_suspension_brings_the_heartbeat_after_it_forward() {
    let resumed = |minutes| Event::Resumed(Duration::from_mins(minutes));
    let answered = acknowledged(false);
    let failed = failed(FailureClass::Transient);
    for (name, past, minutes) in [
        ("between two", vec![answered, resumed(10), resumed(2)], 3),
        ("in flight", vec![resumed(10), resumed(2), answered], 3),
        ("first in flight", vec![resumed(10), answered, resumed(2)], 3),
        // The retry came after the suspension, so the service missed nothing.
        (
            "in flight, failed",
            vec![resumed(10), failed, Event::Reloaded(policy()), Event::Due, answered],
            15,
        ),
    ] {
        let agent = running(RunnerKind::Child, policy(), &past);
        let expected = Time::ZERO + Duration::from_mins(minutes);
        assert_eq!(agent.deadline(), Some(expected), "{name}");
    }
}

#[test]
fn a_suspension_counts_for_no_other_deadline() {
    let policy = lost_contact_after(1860);
    let mut agent = running(RunnerKind::Child, policy, &[acknowledged(false)]);
    agent.handle(NOW, Event::Resumed(Duration::from_hours(10)));
    let actions = agent.handle(NOW, Event::Due);
    assert_eq!(show_actions(&actions), "Send");
    // In contact until two intervals after the last acknowledged heartbeat.
    assert_eq!(agent.deadline(), Some(at(1800)));
}

#[test]
fn a_followed_runner_that_comes_back_resumes_the_schedule() {
    let failed = failed(FailureClass::Throttled);
    for (name, past, actions, due, failures) in [
        ("between two", vec![acknowledged(false)], "-", Some(at(900)), 0),
        ("in backoff", vec![failed], "-", Some(at(100)), 1),
        ("in flight", vec![], "-", None, 0),
        (
            "brought forward",
            vec![acknowledged(false), Event::Resumed(Duration::from_hours(1))],
            "Send",
            None,
            0,
        ),
    ] {
        let policy = lost_contact_after(1900);
        let past = [past, vec![LEADER_EXITED]].concat();
        let mut agent = running(RunnerKind::Followed, policy, &past);
        let contact = agent.schedule().contact();
        let found = agent.handle(NOW, Event::RunnerStarted);
        assert_eq!(show_actions(&found), actions, "{name}");
        assert_eq!(agent.schedule().due(), due, "{name}");
        assert_eq!(agent.schedule().failures(), failures, "{name}");
        assert_eq!(agent.schedule().contact(), contact, "{name}");
        // The policy for lost contact counts from the start of the new runner.
        let agent = later(agent, at(1909));
        assert_eq!(show_state(agent.state()), "Running", "{name}");
        let agent = later(agent, at(1910));
        assert_eq!(show_state(agent.state()), "Ladder Stop LostContact 1930s", "{name}");
    }
}

#[test]
fn the_response_to_a_heartbeat_counts_after_the_followed_runner_exited() {
    for (name, response, due) in [
        ("acknowledged", acknowledged(false), at(900)),
        ("throttled", failed(FailureClass::Throttled), at(105)),
    ] {
        let mut agent = running(RunnerKind::Followed, policy(), &[LEADER_EXITED]);
        agent.handle(at(5), response);
        assert_eq!(agent.schedule().due(), Some(due), "{name}");
        let actions = agent.handle(NOW, Event::RunnerStarted);
        assert_eq!(show_actions(&actions), "-", "{name}");
        let actions = agent.handle(due, Event::Due);
        assert_eq!(show_actions(&actions), "Send", "{name}");
    }
}

#[test]
fn contact_is_lost_and_regained_once_also_while_no_runner_runs() {
    let past = [acknowledged(false), LEADER_EXITED];
    let mut agent = running(RunnerKind::Followed, policy(), &past);
    let lost = at(1800);
    assert_eq!(agent.deadline(), Some(lost));
    let actions = agent.handle(lost, Event::Due);
    assert_eq!(show_actions(&actions), "ContactLost");
    assert_eq!(agent.deadline(), None);
    let actions = agent.handle(at(1900), Event::RunnerStarted);
    assert_eq!(show_actions(&actions), "Send");
    let actions = agent.handle(at(1901), acknowledged(false));
    assert_eq!(show_actions(&actions), "Regained 101s");
}

#[test]
fn contact_stands_after_terminate() {
    let policy = Policy { on_terminate: true, ..staying_idle() };
    let mut agent = agent(RunnerKind::Child, policy, &UP);
    assert!(!agent.schedule().in_contact());
    let mut now = Time::ZERO;
    for event in [acknowledged(true), COMMAND_ENDED, Event::Due, Event::Due] {
        agent.handle(now, event);
        assert!(agent.schedule().in_contact(), "{:?}", agent.state());
        now = agent.deadline().unwrap_or(now);
    }
    assert_eq!(show_state(agent.state()), "Idle");
    agent.handle(now + Duration::from_hours(365 * 24), Event::Due);
    assert!(agent.schedule().in_contact());
}

#[test]
fn taskbeat_does_not_stay_idle_if_the_operator_asked_for_a_stop() {
    // The next rung follows with the next Due.
    let idle = grace(0, staying_idle());
    let command = Policy { on_terminate: true, ..idle };
    let terminate = acknowledged(true);
    for (name, policy, past, expected) in [
        ("no stop", idle, vec![terminate], "-"),
        ("before", idle, vec![STOP, terminate], "Exit 0"),
        ("during the command", command, vec![terminate, STOP, COMMAND_ENDED], "Exit 0"),
        ("at the first rung", idle, vec![terminate, STOP], "Exit 0"),
        ("at the last rung", idle, vec![terminate, Event::Due, STOP], "Exit 0"),
    ] {
        let mut agent = running(RunnerKind::Child, policy, &past);
        let actions = agent.handle(Time::ZERO, Event::RunnerGone);
        assert_eq!(show_actions(&actions), expected, "{name}");
    }
}

#[test]
fn a_stop_has_a_cause_a_beginning_and_an_end_of_each_step() {
    let mut agent = running(RunnerKind::Child, policy(), &[]);
    let mut known = Vec::new();
    for (seconds, event) in [(1, Event::Due), (10, STOP), (20, STOP), (21, acknowledged(true))] {
        agent.handle(at(seconds), event);
        known.push((agent.stop_cause(), agent.first_stop(), agent.state().until()));
    }
    let stop = Some(at(10));
    assert_eq!(
        known,
        [
            (None, None, None),
            (Some(Cause::Operator), stop, Some(at(40))),
            (Some(Cause::Operator), stop, Some(at(25))),
            (Some(Cause::Terminate), stop, Some(at(25))),
        ]
    );
    let agent = running(RunnerKind::Child, with_command(), &[acknowledged(true)]);
    assert_eq!(agent.state().until(), Some(at(30)));
}

#[test]
fn throttles_for_three_intervals_mean_that_the_account_is_over_its_limit() {
    let mut agent = running(RunnerKind::None, policy(), &[]);
    let mut over_limit = Vec::new();
    for minutes in [0, 15, 30, 45] {
        let now = at(60 * minutes);
        agent.handle(now, Event::Due);
        agent.handle(now, failed(FailureClass::Throttled));
        over_limit.push(agent.over_limit(now));
    }
    assert_eq!(over_limit, [false, false, false, true]);
    // Until eight intervals have passed without one.
    let until = 60 * (45 + 8 * 15);
    assert!(agent.over_limit(at(until - 1)));
    assert!(!agent.over_limit(at(until)));
}

#[test]
fn the_schedule_knows_the_newest_heartbeat_and_the_last_acknowledged_one() {
    let mut agent = running(RunnerKind::None, policy(), &[acknowledged(false)]);
    let mut known = Vec::new();
    for (seconds, event) in [(900, Event::Due), (901, acknowledged(false)), (1800, Event::Due)] {
        agent.handle(at(seconds), event);
        known.push((agent.schedule().started(), agent.schedule().acknowledged_at()));
    }
    let [first, second, third] = [0, 900, 1800].map(at);
    assert_eq!(known, [(second, Some(first)), (second, Some(second)), (third, Some(second))]);
}
