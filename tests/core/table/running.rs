//! The rows before a stop: starting, waiting and running.

use std::time::Duration;

use insta::assert_snapshot;
use taskbeat::core::{Event, FailureClass, RunnerKind};

use super::{
    LEADER_EXITED, NOW, acknowledged, agent, at, failed, interval, later, lost_contact_after, row,
    running,
};
use crate::policy;

#[test]
fn starting() {
    let agent = agent(RunnerKind::Child, policy(), &[]);
    assert_snapshot!(row(&agent), @"
    due: Waiting -> StartRunner | never
    started: = -> - | -10s
    start-failed: = -> - | -10s
    leader-exited: = -> - | -10s
    gone: = -> - | -10s
    ack: = -> - | -10s
    terminate: = -> - | -10s
    failed: = -> - | -10s
    command-ended: = -> - | -10s
    healthy: = -> - | -10s
    unhealthy: = -> - | -10s
    stopped: = -> - | -10s | stopped
    stop: Exiting -> Exit 143 | never
    reload: = -> - | -10s | new policy
    resumed: = -> - | -10s
    ");
}

#[test]
fn waiting_for_the_first_runner() {
    let agent = agent(RunnerKind::Followed, policy(), &[Event::Due]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | never
    started: Running -> Send | 1800s | runner is new, scheduled
    start-failed: Exiting -> Exit 127 | never
    leader-exited: = -> - | never
    gone: = -> - | never
    ack: = -> - | never
    terminate: Exiting -> Exit 0 | never
    failed: = -> - | never
    command-ended: = -> - | never
    healthy: = -> - | never
    unhealthy: = -> - | never
    stopped: = -> - | never | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | never | new policy
    resumed: = -> - | never
    ");
}

#[test]
fn waiting_between_heartbeats() {
    let agent = running(RunnerKind::Followed, policy(), &[acknowledged(false), LEADER_EXITED]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 1790s
    started: Running -> - | 890s | runner is new
    start-failed: Exiting -> Exit 127 | never
    leader-exited: = -> - | 1790s
    gone: = -> - | 1790s
    ack: = -> - | 1790s
    terminate: Exiting -> Exit 0 | never
    failed: = -> - | 1790s
    command-ended: = -> - | 1790s
    healthy: = -> - | 1790s
    unhealthy: = -> - | 1790s
    stopped: = -> - | 1790s | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | 1790s | new policy
    resumed: = -> - | 1790s
    ");
}

#[test]
fn waiting_with_a_heartbeat_in_flight() {
    let agent = running(RunnerKind::Followed, policy(), &[LEADER_EXITED]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 1790s
    started: Running -> - | 1790s | runner is new
    start-failed: Exiting -> Exit 127 | never
    leader-exited: = -> - | 1790s
    gone: = -> - | 1790s
    ack: = -> - | 1790s | contact
    terminate: Exiting -> Exit 0 | never
    failed: = -> - | 1790s | 1 failed
    command-ended: = -> - | 1790s
    healthy: = -> - | 1790s
    unhealthy: = -> - | 1790s
    stopped: = -> - | 1790s | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | 1790s | new policy
    resumed: = -> - | 1790s
    ");
}

#[test]
fn waiting_with_a_heartbeat_due() {
    let agent =
        running(RunnerKind::Followed, policy(), &[failed(FailureClass::Transient), LEADER_EXITED]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 1790s
    started: Running -> Send | 1790s | runner is new
    start-failed: Exiting -> Exit 127 | never
    leader-exited: = -> - | 1790s
    gone: = -> - | 1790s
    ack: = -> - | 1790s
    terminate: Exiting -> Exit 0 | never
    failed: = -> - | 1790s
    command-ended: = -> - | 1790s
    healthy: = -> - | 1790s
    unhealthy: = -> - | 1790s
    stopped: = -> - | 1790s | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | 1790s | new policy
    resumed: = -> - | 1790s
    ");
}

#[test]
fn running_with_a_heartbeat_in_flight() {
    let agent = running(RunnerKind::Child, policy(), &[]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 1790s
    started: = -> - | 1790s
    start-failed: = -> - | 1790s
    leader-exited: Ladder Stop Ended 30s -> Abandon, StopRunner | 30s | ended
    gone: = -> - | 1790s
    ack: = -> - | 890s | contact
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | contact, ended
    failed: = -> - | 0.5s | 1 failed
    command-ended: = -> - | 1790s
    healthy: = -> - | 1790s
    unhealthy: = -> - | 1790s
    stopped: = -> - | 1790s | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | 30s
    reload: = -> - | 1790s | new policy
    resumed: = -> - | 1790s
    ");
}

#[test]
fn running_between_heartbeats() {
    let agent = running(RunnerKind::Child, policy(), &[acknowledged(false)]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 890s
    started: = -> - | 890s
    start-failed: = -> - | 890s
    leader-exited: Ladder Stop Ended 30s -> StopRunner | 30s | ended
    gone: = -> - | 890s
    ack: = -> - | 890s
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | ended
    failed: = -> - | 890s
    command-ended: = -> - | 890s
    healthy: = -> - | 890s
    unhealthy: = -> - | 890s
    stopped: = -> - | 890s | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | 30s
    reload: = -> - | 890s | new policy
    resumed: = -> - | -10s
    ");
}

#[test]
fn running_in_backoff() {
    let agent = running(RunnerKind::Child, policy(), &[failed(FailureClass::Transient)]);
    assert_snapshot!(row(&agent), @"
    due: = -> Send | 1790s
    started: = -> - | -9.5s
    start-failed: = -> - | -9.5s
    leader-exited: Ladder Stop Ended 30s -> StopRunner | 30s | ended
    gone: = -> - | -9.5s
    ack: = -> - | -9.5s
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | ended
    failed: = -> - | -9.5s
    command-ended: = -> - | -9.5s
    healthy: = -> - | -9.5s
    unhealthy: = -> - | -9.5s
    stopped: = -> - | -9.5s | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | -9.5s
    reload: = -> - | -9.5s | new policy
    resumed: = -> - | -10s
    ");
}

#[test]
fn running_when_contact_ends() {
    let agent = running(
        RunnerKind::Child,
        interval(5),
        &[acknowledged(false), Event::Resumed(Duration::from_secs(5)), Event::Due],
    );
    assert_snapshot!(row(&agent), @"
    due: = -> ContactLost | never | no contact
    started: = -> ContactLost | never | no contact
    start-failed: = -> ContactLost | never | no contact
    leader-exited: Ladder Stop Ended 30s -> Abandon, StopRunner | 30s | ended
    gone: = -> ContactLost | never | no contact
    ack: = -> ContactLost | -5s | no contact
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | ended
    failed: = -> ContactLost | 0.003s | no contact, 1 failed
    command-ended: = -> ContactLost | never | no contact
    healthy: = -> ContactLost | never | no contact
    unhealthy: = -> ContactLost | never | no contact
    stopped: = -> ContactLost | never | no contact, stopped
    stop: Ladder Stop Operator 30s -> ContactLost, StopRunner | 30s | no contact
    reload: = -> ContactLost | never | new policy, no contact
    resumed: = -> ContactLost | never | no contact
    ");
}

#[test]
fn running_out_of_contact() {
    let mut agent = later(running(RunnerKind::Child, interval(4), &[]), at(8));
    agent.handle(at(9), failed(FailureClass::Transient));
    agent.handle(at(9), Event::Reloaded(interval(4)));
    let agent = later(agent, NOW);
    assert_snapshot!(row(&agent), @"
    due: = -> - | never
    started: = -> - | never
    start-failed: = -> - | never
    leader-exited: Ladder Stop Ended 30s -> Abandon, StopRunner | 30s | ended
    gone: = -> - | never
    ack: = -> Regained 2s | 3s | contact, 0 failed
    terminate: Ladder Stop Terminate 30s -> Regained 2s, StopRunner | 30s | contact, ended, 0 failed
    failed: = -> - | 0.004s | 2 failed
    command-ended: = -> - | never
    healthy: = -> - | never
    unhealthy: = -> - | never
    stopped: = -> - | never | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | 30s
    reload: = -> - | never | new policy
    resumed: = -> - | never
    ");
}

#[test]
fn running_when_the_policy_for_lost_contact_applies() {
    let agent = running(RunnerKind::Child, lost_contact_after(10), &[acknowledged(false)]);
    assert_snapshot!(row(&agent), @"
    due: Ladder Stop LostContact 30s -> StopRunner | 30s
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
    stopped: = -> - | 0s | stopped
    stop: Ladder Stop Operator 30s -> StopRunner | 30s
    reload: = -> - | 890s | new policy
    resumed: = -> - | -10s
    ");
}

#[test]
fn running_without_a_runner() {
    let agent = running(RunnerKind::None, policy(), &[]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 1790s
    started: = -> - | 1790s
    start-failed: = -> - | 1790s
    leader-exited: Exiting -> Abandon, Exit 3 | never
    gone: = -> - | 1790s
    ack: = -> - | 890s | contact
    terminate: Exiting -> Exit 0 | never
    failed: = -> - | 0.5s | 1 failed
    command-ended: = -> - | 1790s
    healthy: = -> - | 1790s
    unhealthy: = -> - | 1790s
    stopped: = -> - | 1790s | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | 1790s | new policy
    resumed: = -> - | 1790s
    ");
}

#[test]
fn running_attached() {
    let agent = running(RunnerKind::Attached, policy(), &[]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 1790s
    started: = -> - | 1790s
    start-failed: = -> - | 1790s
    leader-exited: Exiting -> Abandon, Exit 3 | never
    gone: = -> - | 1790s
    ack: = -> - | 890s | contact
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | contact, ended
    failed: = -> - | 0.5s | 1 failed
    command-ended: = -> - | 1790s
    healthy: = -> - | 1790s
    unhealthy: = -> - | 1790s
    stopped: = -> - | 1790s | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | 1790s | new policy
    resumed: = -> - | 1790s
    ");
}

#[test]
fn running_followed() {
    let agent = running(RunnerKind::Followed, policy(), &[]);
    assert_snapshot!(row(&agent), @"
    due: = -> - | 1790s
    started: = -> - | 1790s
    start-failed: = -> - | 1790s
    leader-exited: Waiting -> - | 1790s
    gone: = -> - | 1790s
    ack: = -> - | 890s | contact
    terminate: Ladder Stop Terminate 30s -> StopRunner | 30s | contact, ended
    failed: = -> - | 0.5s | 1 failed
    command-ended: = -> - | 1790s
    healthy: = -> - | 1790s
    unhealthy: = -> - | 1790s
    stopped: = -> - | 1790s | stopped
    stop: Exiting -> Exit 0 | never
    reload: = -> - | 1790s | new policy
    resumed: = -> - | 1790s
    ");
}
