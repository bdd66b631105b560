//! The rows of a runner with a health check, and of a runner that a signal has stopped.

use std::time::Duration;

use insta::assert_snapshot;
use taskbeat::core::{Agent, CommandName, CommandResult, Event, Exit, Policy, RunnerKind, Time};

use super::{
    LEADER_EXITED, NOW, STOP, UP, acknowledged, agent, at, checked, interval, later, reloaded, row,
    running, show_actions,
};
use crate::policy;

/// A check may take 30 s.
fn checking() -> Policy {
    Policy { health_check: Some(Duration::from_secs(30)), ..policy() }
}

const STOPPED: Event = Event::LeaderStopped(true);

#[test]
fn checking_before_the_first_heartbeat() {
    let agent = running(RunnerKind::Child, checking(), &[]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: Ladder Stop Ended 30s -> Kill health-check, StopRunner | 30s | ended
    gone: = -> - | 20s
    ack: = -> - | 20s
    terminate: Ladder Stop Terminate 30s -> Kill health-check, StopRunner | 30s | ended
    failed: = -> - | 20s
    command-ended: = -> - | 20s
    healthy: = -> Send | 1790s
    unhealthy: = -> HealthLost | 1s | unhealthy
    stopped: = -> - | 20s | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | 20s
    reload: = -> - | 20s | new policy
    resumed: = -> - | 20s
    ");
}

#[test]
fn unhealthy() {
    let agent = running(RunnerKind::Child, checking(), &[checked(Exit(1))]);
    assert_snapshot!(row(&agent), @"
    due: = -> Start health-check | 30s
    started: = -> - | -9s
    start-failed: = -> - | -9s
    leader-exited: Ladder Stop Ended 30s -> StopRunner | 30s | ended
    gone: = -> - | -9s
    ack: = -> - | -9s
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | ended
    failed: = -> - | -9s
    command-ended: = -> - | -9s
    healthy: = -> - | -9s
    unhealthy: = -> - | -9s
    stopped: = -> - | -9s | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | -9s
    reload: = -> - | -9s | new policy
    resumed: = -> - | -10s
    ");
}

#[test]
fn checking_again() {
    let agent = later(running(RunnerKind::Child, checking(), &[checked(Exit(1))]), at(1));
    assert_snapshot!(row(&agent), @"
    due: = -> - | 21s
    started: = -> - | 21s
    start-failed: = -> - | 21s
    leader-exited: Ladder Stop Ended 30s -> Kill health-check, StopRunner | 30s | ended
    gone: = -> - | 21s
    ack: = -> - | 21s
    terminate: Ladder Stop Terminate 30s -> Kill health-check, StopRunner | 30s | ended
    failed: = -> - | 21s
    command-ended: = -> - | 21s
    healthy: = -> HealthRegained 10s, Send | 1790s | not unhealthy
    unhealthy: = -> - | 2s
    stopped: = -> - | 21s | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | 21s
    reload: = -> - | 21s | new policy
    resumed: = -> - | 21s
    ");
}

#[test]
fn checking_while_the_runner_stops() {
    let agent = running(RunnerKind::Child, checking(), &[STOP]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: = -> Kill health-check, StopRunner | 20s | ended, then gone: Exit 3
    gone: Exiting -> Exit 137 | never
    ack: = -> - | 20s
    terminate: Ladder Stop Terminate 20s -> Kill health-check | 20s | ended
    failed: = -> - | 20s
    command-ended: = -> - | 20s
    healthy: = -> Send | 20s
    unhealthy: = -> HealthLost | 1s | unhealthy
    stopped: = -> - | 20s | stopped
    stop: Ladder Kill Operator 5s -> KillRunner | 5s
    reload: = -> - | 20s
    resumed: = -> - | 20s
    ");
}

#[test]
fn checking_a_followed_runner() {
    let agent = running(RunnerKind::Followed, checking(), &[]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: Waiting -> Kill health-check | 1790s
    gone: = -> - | 20s
    ack: = -> - | 20s
    terminate: Ladder Stop Terminate 30s -> Kill health-check, StopRunner | 30s | ended
    failed: = -> - | 20s
    command-ended: = -> - | 20s
    healthy: = -> Send | 1790s
    unhealthy: = -> HealthLost | 1s | unhealthy
    stopped: = -> - | 20s | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | 20s | new policy
    resumed: = -> - | 20s
    ");
}

#[test]
fn stopped_by_a_signal_with_a_heartbeat_due() {
    let ten = interval(10);
    let agent = running(RunnerKind::Child, ten, &[acknowledged(false), STOPPED]);
    assert_snapshot!(row(&agent), @"
    due: = -> HealthLost | 0.011s | unhealthy
    started: = -> - | 0s
    start-failed: = -> - | 0s
    leader-exited: Ladder Stop Ended 30s -> StopRunner | 30s | ended
    gone: = -> - | 0s
    ack: = -> - | 0s
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | ended
    failed: = -> - | 0s
    command-ended: = -> - | 0s
    healthy: = -> - | 0s
    unhealthy: = -> - | 0s
    stopped: = -> - | 0s
    stop: Ladder Stop Operator 30s -> StopRunner | 0s
    reload: = -> - | 0s | new policy
    resumed: = -> - | -10s
    ");
}

/// What follows when a deadline comes.
fn due(agent: &mut Agent) -> (Time, String) {
    let now = agent.deadline().unwrap_or_default();
    (now, show_actions(&agent.handle(now, Event::Due)))
}

#[test]
fn checks_are_repeated_with_a_backoff_of_one_second_to_five_minutes() {
    let mut agent = agent(RunnerKind::Child, checking(), &UP);
    let mut now = Time::ZERO;
    let backoffs = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
    for (before, seconds) in backoffs.into_iter().enumerate() {
        let first = before == 0;
        assert_eq!(agent.schedule().withheld(), before);
        let actions = agent.handle(now, checked(Exit(1)));
        assert_eq!(show_actions(&actions), if first { "HealthLost" } else { "-" });
        let (due, check) = due(&mut agent);
        assert_eq!((due - now, &*check), (Duration::from_secs(seconds), "Start health-check"));
        now = due;
    }
    let actions = agent.handle(now, checked(Exit::OK));
    assert_eq!(show_actions(&actions), "HealthRegained 1111s, Send");
}

#[test]
fn a_check_that_takes_too_long_is_killed_and_withholds_the_heartbeat() {
    let mut agent = running(RunnerKind::Child, checking(), &[]);
    assert_eq!(due(&mut agent), (at(30), "Kill health-check, HealthLost".to_owned()));
    assert_eq!(due(&mut agent), (at(31), "Start health-check".to_owned()));
    assert_eq!(due(&mut agent), (at(61), "Kill health-check".to_owned()));
}

/// The check takes its time from the interval, so that the heartbeat is not late.
#[test]
fn a_check_begins_by_its_limit_before_the_interval_ends() {
    for (jitter, expected) in [(0.0, 870), (0.1, 870)] {
        let policy = Policy { jitter, ..checking() };
        let agent = running(RunnerKind::Child, policy, &[checked(Exit::OK), acknowledged(false)]);
        assert_eq!(agent.deadline(), Some(at(expected)), "{jitter}");
    }
}

#[test]
fn a_runner_that_continues_is_reported_at_once() {
    let ten = interval(10);
    let mut agent = running(RunnerKind::Child, ten, &[acknowledged(false), STOPPED]);
    assert_eq!(due(&mut agent), (NOW, "HealthLost".to_owned()));
    agent.handle(NOW, Event::LeaderStopped(false));
    assert_eq!(due(&mut agent), (NOW, "HealthRegained 0s, Send".to_owned()));
}

#[test]
fn a_followed_runner_that_exits_during_its_check_leaves_the_heartbeat_due() {
    let mut agent = running(RunnerKind::Followed, checking(), &[]);
    assert_eq!(show_actions(&agent.handle(at(1), LEADER_EXITED)), "Kill health-check");
    let again = agent.handle(at(5), Event::RunnerStarted);
    assert_eq!(show_actions(&again), "Start health-check");
}

#[test]
fn a_reload_checks_an_unhealthy_runner_at_once() {
    let mut agent = later(running(RunnerKind::Child, checking(), &[]), at(10_000));
    let policy = Policy { health_check: None, ..reloaded() };
    agent.handle(at(10_000), Event::Reloaded(policy));
    assert_eq!(due(&mut agent).0, at(10_000));
}

#[test]
fn reloads_check_an_unhealthy_runner_once_in_ten_seconds() {
    let policy = Policy { health_check: checking().health_check, ..reloaded() };
    // Its newest heartbeat is much older than an interval.
    let mut agent = later(running(RunnerKind::Child, checking(), &[]), at(10_000));
    agent.handle(at(10_000), Event::Reloaded(policy));
    assert_eq!(due(&mut agent), (at(10_000), "Start health-check".to_owned()));
    agent.handle(at(10_001), checked(Exit(1)));
    agent.handle(at(10_002), Event::Reloaded(policy));
    assert_eq!(due(&mut agent).0, at(10_010));
}

#[test]
fn a_second_reload_leaves_the_backoff_of_a_check_as_it_is() {
    let policy = Policy { health_check: Some(Duration::from_mins(10)), ..policy() };
    let failed = checked(Exit(1));
    let mut agent =
        running(RunnerKind::Child, policy, &[checked(Exit::OK), acknowledged(false), failed]);
    let mut now = NOW;
    for _ in 0..8 {
        now = due(&mut agent).0;
        agent.handle(now, failed);
    }
    agent.handle(now, Event::Reloaded(policy));
    assert_eq!(due(&mut agent), (now, "Start health-check".to_owned()));
    agent.handle(now, failed);
    let next = agent.deadline();
    assert!(next > Some(now + Duration::from_secs(10)), "{next:?}");
    agent.handle(now + Duration::from_secs(2), Event::Reloaded(policy));
    assert_eq!(agent.deadline(), next);
}

/// One command at a time reports contact: the newest change.
#[test]
fn a_contact_command_has_thirty_seconds_and_gives_way_to_the_next() {
    let policy = Policy { on_contact_change: true, ..interval(10) };
    let mut agent = running(RunnerKind::Child, policy, &[]);
    assert_eq!(due(&mut agent), (at(20), "ContactLost, Start on-contact-change".to_owned()));
    // The first heartbeat took longer than two intervals, the second does not.
    for (seconds, event, expected) in [
        (25, acknowledged(false), "-"),
        (25, Event::Due, "Send"),
        (26, acknowledged(false), "Regained 6s, Kill on-contact-change, Start on-contact-change"),
        (35, Event::Due, "Send"),
        (45, Event::Due, "ContactLost, Kill on-contact-change, Start on-contact-change"),
        (75, Event::Due, "Kill on-contact-change"),
        (75, Event::Due, "-"),
    ] {
        assert_eq!(show_actions(&agent.handle(at(seconds), event)), expected, "{seconds}");
    }
}

#[test]
fn a_contact_command_that_has_ended_is_not_killed() {
    let policy = Policy { on_contact_change: true, ..interval(10) };
    let mut agent = running(RunnerKind::Child, policy, &[]);
    assert_eq!(due(&mut agent), (at(20), "ContactLost, Start on-contact-change".to_owned()));
    let ended = CommandResult::Exited(Exit(1));
    agent.handle(at(21), Event::CommandEnded(CommandName::OnContactChange, ended));
    assert_eq!(show_actions(&agent.handle(at(100), Event::Due)), "-");
}
