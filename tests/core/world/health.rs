//! The law of health, written from the contract and not from the agent.

use std::time::Duration;

use taskbeat::core::{Action, CommandName, CommandResult, Event, Exit, Policy, State, Time};

/// The facts about the runner's health.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) leader_stopped: bool,
    checking: bool,
    /// Since when heartbeats are withheld.
    unhealthy: Option<Time>,
}

impl Health {
    pub(super) fn is_checking(&self) -> bool {
        self.checking
    }

    pub(super) fn check_starts(&mut self) {
        assert!(!self.leader_stopped, "a check of a stopped runner");
        assert!(!std::mem::replace(&mut self.checking, true), "two checks at a time");
    }

    /// Returns true if a check ran.
    pub(super) fn check_ends(&mut self) -> bool {
        std::mem::take(&mut self.checking)
    }

    /// A heartbeat is sent because of `event`.
    pub(super) fn check_send(&self, event: Event, policy: &Policy) {
        assert!(!self.leader_stopped, "a heartbeat of a stopped runner");
        assert_eq!(self.unhealthy, None, "a heartbeat of an unhealthy runner");
        let checked = matches!(
            event,
            Event::CommandEnded(CommandName::HealthCheck, CommandResult::Exited(Exit::OK))
        );
        assert!(checked || policy.health_check.is_none(), "a heartbeat without a check");
    }

    /// Losing and regaining health alternate.
    pub(super) fn lost(&mut self, now: Time) {
        assert_eq!(self.unhealthy.replace(now), None, "lost twice");
    }

    pub(super) fn regained(&mut self, now: Time, after: Duration) {
        let lasted = self.unhealthy.take().map(|since| now - since);
        assert_eq!(lasted, Some(after), "regained");
    }

    /// True if `event` withholds a heartbeat: a check has failed or was too slow, or the heartbeat
    /// of a stopped runner was due.
    pub(super) fn withholds(
        &self,
        event: Event,
        was_due: bool,
        before: State,
        actions: &[Action],
    ) -> bool {
        let beats = matches!(before, State::Running | State::Ladder { .. });
        let sent = actions.iter().any(|action| matches!(action, Action::Send { .. }));
        match event {
            Event::CommandEnded(CommandName::HealthCheck, _) => beats && !sent,
            Event::Due if beats => {
                let late = actions.contains(&Action::KillCommand(CommandName::HealthCheck));
                let stops = actions.contains(&Action::StopRunner);
                late || was_due && self.leader_stopped && !stops
            }
            Event::Due
            | Event::RunnerStarted
            | Event::StartFailed(_)
            | Event::LeaderExited(_)
            | Event::LeaderStopped(_)
            | Event::RunnerGone
            | Event::HeartbeatEnded(..)
            | Event::CommandEnded(..)
            | Event::Stop(_)
            | Event::Reloaded(_)
            | Event::Resumed(_) => false,
        }
    }
}
