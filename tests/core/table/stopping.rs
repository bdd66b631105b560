//! The rows of a stop: the `on-terminate` command, the ladder, and what follows it.

use insta::assert_snapshot;
use taskbeat::core::{Agent, Event, Exit, RunnerKind};

use super::{
    LEADER_EXITED, NOW, STOP, acknowledged, at, grace, later, lost_contact_after, row, running,
    staying_idle, with_command,
};
use crate::policy;

/// A child that the operator's second stop killed at 7 s.
fn killed(past: &[Event]) -> Agent {
    let mut agent = running(RunnerKind::Child, policy(), &[past, &[STOP]].concat());
    agent.handle(at(7), STOP);
    agent
}

#[test]
fn on_terminate() {
    let agent = running(RunnerKind::Child, with_command(), &[acknowledged(true)]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s | runner is new
    start-failed: = -> - | 20s
    leader-exited: = -> - | 20s
    gone: = -> - | 20s | then command-ended: Exit 0
    ack: = -> - | 20s
    terminate: = -> - | 20s
    failed: = -> - | 20s
    command-ended: Ladder Stop Terminate 30s -> StopRunner | 30s
    healthy: = -> - | 20s
    unhealthy: = -> - | 20s
    stopped: = -> - | 20s | stopped
    stop: = -> - | 20s | then stop: Kill on-terminate, KillRunner
    reload: = -> - | 20s
    resumed: = -> - | 20s
    ");
}

#[test]
fn on_terminate_when_its_grace_is_over() {
    let agent = running(RunnerKind::Child, grace(10, with_command()), &[acknowledged(true)]);
    assert_snapshot!(row(&agent), @"
    due: Ladder Stop Terminate 10s -> Kill on-terminate, StopRunner | 10s
    started: = -> - | 0s | runner is new
    start-failed: = -> - | 0s
    leader-exited: = -> - | 0s
    gone: = -> - | 0s | then command-ended: Exit 0
    ack: = -> - | 0s
    terminate: = -> - | 0s
    failed: = -> - | 0s
    command-ended: Ladder Stop Terminate 10s -> StopRunner | 10s
    healthy: = -> - | 0s
    unhealthy: = -> - | 0s
    stopped: = -> - | 0s | stopped
    stop: = -> - | 0s | then stop: Kill on-terminate, KillRunner
    reload: = -> - | 0s
    resumed: = -> - | 0s
    ");
}

#[test]
fn on_terminate_without_the_runner() {
    let agent = running(RunnerKind::Followed, with_command(), &[acknowledged(true), LEADER_EXITED]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s | runner is new, then command-ended: StopRunner
    start-failed: = -> - | 20s
    leader-exited: = -> - | 20s
    gone: = -> - | 20s
    ack: = -> - | 20s
    terminate: = -> - | 20s
    failed: = -> - | 20s
    command-ended: Exiting -> Exit 0 | never
    healthy: = -> - | 20s
    unhealthy: = -> - | 20s
    stopped: = -> - | 20s | stopped
    stop: = -> - | 20s | then stop: Kill on-terminate, Exit 0
    reload: = -> - | 20s
    resumed: = -> - | 20s
    ");
}

#[test]
fn ladder_after_the_operators_stop() {
    let agent = running(RunnerKind::Child, policy(), &[acknowledged(false), STOP]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: = -> StopRunner | 20s | ended, then gone: Exit 3
    gone: Exiting -> Exit 137 | never
    ack: = -> - | 20s
    terminate: Ladder Stop Terminate 20s -> - | 20s | ended
    failed: = -> - | 20s
    command-ended: = -> - | 20s
    healthy: = -> - | 20s
    unhealthy: = -> - | 20s
    stopped: = -> - | 20s | stopped
    stop: Ladder Kill Operator 5s -> KillRunner | 5s
    reload: = -> - | 20s
    resumed: = -> - | -10s
    ");
}

#[test]
fn ladder_with_a_heartbeat_in_flight() {
    let agent = running(RunnerKind::Child, policy(), &[STOP]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: = -> Abandon, StopRunner | 20s | ended, then gone: Exit 3
    gone: Exiting -> Exit 137 | never
    ack: = -> - | 20s | contact
    terminate: Ladder Stop Terminate 20s -> - | 20s | contact, ended
    failed: = -> - | 0.5s | 1 failed
    command-ended: = -> - | 20s
    healthy: = -> - | 20s
    unhealthy: = -> - | 20s
    stopped: = -> - | 20s | stopped
    stop: Ladder Kill Operator 5s -> KillRunner | 5s
    reload: = -> - | 20s
    resumed: = -> - | 20s
    ");
}

#[test]
fn ladder_after_terminate() {
    let agent = running(RunnerKind::Child, policy(), &[acknowledged(true)]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: = -> StopRunner | 20s
    gone: Exiting -> Exit 0 | never
    ack: = -> - | 20s
    terminate: = -> - | 20s
    failed: = -> - | 20s
    command-ended: = -> - | 20s
    healthy: = -> - | 20s
    unhealthy: = -> - | 20s
    stopped: = -> - | 20s | stopped
    stop: = -> - | 20s | then stop: KillRunner
    reload: = -> - | 20s
    resumed: = -> - | 20s
    ");
}

#[test]
fn ladder_after_terminate_for_an_attached_runner() {
    let agent = running(RunnerKind::Attached, policy(), &[acknowledged(true)]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: Exiting -> Exit 0 | never
    gone: Exiting -> Exit 0 | never
    ack: = -> - | 20s
    terminate: = -> - | 20s
    failed: = -> - | 20s
    command-ended: = -> - | 20s
    healthy: = -> - | 20s
    unhealthy: = -> - | 20s
    stopped: = -> - | 20s | stopped
    stop: = -> - | 20s | then stop: KillRunner
    reload: = -> - | 20s
    resumed: = -> - | 20s
    ");
}

#[test]
fn ladder_after_the_leader_exited() {
    let agent = running(RunnerKind::Child, policy(), &[Event::LeaderExited(Exit(5))]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 20s
    started: = -> - | 20s
    start-failed: = -> - | 20s
    leader-exited: = -> StopRunner | 20s | then gone: Exit 3
    gone: Exiting -> Exit 5 | never
    ack: = -> - | 20s
    terminate: = -> - | 20s
    failed: = -> - | 20s
    command-ended: = -> - | 20s
    healthy: = -> - | 20s
    unhealthy: = -> - | 20s
    stopped: = -> - | 20s | stopped
    stop: = -> - | 20s | then stop: KillRunner
    reload: = -> - | 20s
    resumed: = -> - | 20s
    ");
}

#[test]
fn ladder_after_lost_contact() {
    let agent = later(running(RunnerKind::Child, lost_contact_after(5), &[]), at(5));
    assert_snapshot!(row(&agent), @"
    due: = -> - | 25s
    started: = -> - | 25s
    start-failed: = -> - | 25s
    leader-exited: = -> Abandon, StopRunner | 25s | ended
    gone: Exiting -> Exit 69 | never
    ack: = -> - | 25s | contact
    terminate: = -> - | 25s | contact, ended
    failed: = -> - | 0.5s | 1 failed
    command-ended: = -> - | 25s
    healthy: = -> - | 25s
    unhealthy: = -> - | 25s
    stopped: = -> - | 25s | stopped
    stop: = -> - | 25s | then stop: KillRunner
    reload: = -> - | 25s
    resumed: = -> - | 25s
    ");
}

#[test]
fn ladder_when_the_grace_is_over() {
    let agent = running(RunnerKind::Child, grace(10, policy()), &[acknowledged(false), STOP]);
    assert_snapshot!(row(&agent), @"
    due: Ladder Kill Operator 5s -> KillRunner | 5s
    started: = -> - | 0s
    start-failed: = -> - | 0s
    leader-exited: = -> StopRunner | 0s | ended, then gone: Exit 3
    gone: Exiting -> Exit 137 | never
    ack: = -> - | 0s
    terminate: Ladder Stop Terminate 0s -> - | 0s | ended
    failed: = -> - | 0s
    command-ended: = -> - | 0s
    healthy: = -> - | 0s
    unhealthy: = -> - | 0s
    stopped: = -> - | 0s | stopped
    stop: Ladder Kill Operator 5s -> KillRunner | 5s
    reload: = -> - | 0s
    resumed: = -> - | -10s
    ");
}

#[test]
fn ladder_kill_with_a_heartbeat_in_flight() {
    let agent = killed(&[]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 2s
    started: = -> - | 2s
    start-failed: = -> - | 2s
    leader-exited: = -> Abandon, KillRunner | 2s | ended, then gone: Exit 3
    gone: Exiting -> Exit 137 | never
    ack: = -> - | 2s | contact
    terminate: Ladder Kill Terminate 2s -> - | 2s | contact, ended
    failed: = -> - | 0.5s | 1 failed
    command-ended: = -> - | 2s
    healthy: = -> - | 2s
    unhealthy: = -> - | 2s
    stopped: = -> - | 2s | stopped
    stop: = -> - | 2s
    reload: = -> - | 2s
    resumed: = -> - | 2s
    ");
}

#[test]
fn ladder_kill_between_heartbeats() {
    let agent = killed(&[acknowledged(false)]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 2s
    started: = -> - | 2s
    start-failed: = -> - | 2s
    leader-exited: = -> KillRunner | 2s | ended, then gone: Exit 3
    gone: Exiting -> Exit 137 | never
    ack: = -> - | 2s
    terminate: Ladder Kill Terminate 2s -> - | 2s | ended
    failed: = -> - | 2s
    command-ended: = -> - | 2s
    healthy: = -> - | 2s
    unhealthy: = -> - | 2s
    stopped: = -> - | 2s | stopped
    stop: = -> - | 2s
    reload: = -> - | 2s
    resumed: = -> - | -10s
    ");
}

#[test]
fn ladder_kill_when_the_last_wait_is_over() {
    let agent = later(running(RunnerKind::Child, grace(5, policy()), &[acknowledged(true)]), at(9));
    assert_snapshot!(row(&agent), @"
    due: Exiting -> Exit 0 | never
    started: = -> - | 0s
    start-failed: = -> - | 0s
    leader-exited: = -> KillRunner | 0s
    gone: Exiting -> Exit 0 | never
    ack: = -> - | 0s
    terminate: = -> - | 0s
    failed: = -> - | 0s
    command-ended: = -> - | 0s
    healthy: = -> - | 0s
    unhealthy: = -> - | 0s
    stopped: = -> - | 0s | stopped
    stop: = -> - | 0s
    reload: = -> - | 0s
    resumed: = -> - | 0s
    ");
}

#[test]
fn idle() {
    let agent = running(RunnerKind::None, staying_idle(), &[acknowledged(true)]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | never
    started: = -> - | never
    start-failed: = -> - | never
    leader-exited: = -> - | never
    gone: = -> - | never
    ack: = -> - | never
    terminate: = -> - | never
    failed: = -> - | never
    command-ended: = -> - | never
    healthy: = -> - | never
    unhealthy: = -> - | never
    stopped: = -> - | never | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | never
    resumed: = -> - | never
    ");
}

#[test]
fn idle_beside_a_child_that_cannot_be_killed() {
    let agent =
        later(running(RunnerKind::Child, grace(5, staying_idle()), &[acknowledged(true)]), NOW);
    assert_snapshot!(row(&agent), @"
    due: = -> - | never
    started: = -> - | never
    start-failed: = -> - | never
    leader-exited: = -> - | never
    gone: = -> - | never
    ack: = -> - | never
    terminate: = -> - | never
    failed: = -> - | never
    command-ended: = -> - | never
    healthy: = -> - | never
    unhealthy: = -> - | never
    stopped: = -> - | never | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | never
    resumed: = -> - | never
    ");
}

#[test]
fn stopped() {
    let agent = running(RunnerKind::None, policy(), &[STOP]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | never
    started: = -> - | never
    start-failed: = -> - | never
    leader-exited: = -> - | never
    gone: = -> - | never
    ack: = -> - | never
    terminate: = -> - | never
    failed: = -> - | never
    command-ended: = -> - | never
    healthy: = -> - | never
    unhealthy: = -> - | never
    stopped: = -> - | never
    stop: = -> - | never
    reload: = -> - | never
    resumed: = -> - | never
    ");
}
