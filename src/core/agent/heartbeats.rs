//! What the agent decides about heartbeats: when one is sent or withheld, and what reports contact.

use std::time::Duration;

use super::{Agent, is_past};
use crate::core::{Action, CommandName, CommandResult, Event, Exit, Outcome, Random, Time};

/// Time limit of `on-contact-change`.
const CONTACT_COMMAND: Duration = Duration::from_secs(30);

impl Agent {
    /// The host was suspended for `gap`.
    pub(super) fn resumed(&mut self, gap: Duration) -> Vec<Action> {
        self.schedule.resume(gap);
        vec![]
    }

    /// A runner that is stopped by a signal does no work, so its heartbeats are withheld.
    pub(super) fn leader_stopped(&mut self, now: Time, stopped: bool) -> Vec<Action> {
        if !stopped {
            self.schedule.recheck(now);
        }
        vec![]
    }

    pub(super) fn command_ended(
        &mut self,
        now: Time,
        name: CommandName,
        result: CommandResult,
    ) -> Vec<Action> {
        if name != CommandName::HealthCheck || !self.schedule.is_checking() {
            vec![]
        } else if result == CommandResult::Exited(Exit::OK) && !self.leader_stopped {
            self.send(now)
        } else {
            self.withhold(now)
        }
    }

    /// Sends the heartbeat if it is due and the runner is healthy.
    pub(super) fn heartbeat(&mut self, now: Time) -> Vec<Action> {
        if !is_past(self.schedule.deadline(), now) {
            vec![]
        } else if self.schedule.is_checking() {
            let kill = vec![Action::KillCommand(CommandName::HealthCheck)];
            [kill, self.withhold(now)].concat()
        } else if self.leader_stopped {
            self.withhold(now)
        } else if let Some(limit) = self.policy.health_check {
            self.schedule.check(now + limit);
            vec![Action::StartCommand(CommandName::HealthCheck)]
        } else {
            self.send(now)
        }
    }

    pub(super) fn send(&mut self, now: Time) -> Vec<Action> {
        let healthy = self.schedule.healthy(now);
        let renew = self.schedule.start(now);
        healthy.into_iter().chain([Action::Send { renew }]).collect()
    }

    pub(super) fn withhold(&mut self, now: Time) -> Vec<Action> {
        self.schedule.withhold(now, &self.policy).into_iter().collect()
    }

    pub(super) fn heartbeat_ended(
        &mut self,
        now: Time,
        outcome: Outcome,
        random: Random,
    ) -> Vec<Action> {
        self.record(now, outcome, random);
        if outcome == (Outcome::Acknowledged { terminate: true }) {
            self.terminate(now)
        } else {
            vec![]
        }
    }

    pub(super) fn record(&mut self, now: Time, outcome: Outcome, random: Random) {
        if !self.schedule.in_flight() {
            return;
        }
        match outcome {
            Outcome::Acknowledged { .. } => self.schedule.acknowledged(now, &self.policy, random),
            Outcome::Failed(failure) => self.schedule.failed(now, &self.policy, failure, random),
        }
    }

    /// Replaces a command that still runs: it reports a contact that has changed again.
    pub(super) fn start_contact_command(&mut self, now: Time) -> Vec<Action> {
        let name = CommandName::OnContactChange;
        let old = self.contact_command.replace(now + CONTACT_COMMAND);
        let kill = old.map(|_| Action::KillCommand(name));
        kill.into_iter().chain([Action::StartCommand(name)]).collect()
    }

    pub(super) fn end_contact_command(&mut self, now: Time, event: Event) -> Vec<Action> {
        let name = CommandName::OnContactChange;
        let late = event == Event::Due && is_past(self.contact_command, now);
        if late || matches!(event, Event::CommandEnded(ended, _) if ended == name) {
            self.contact_command = None;
        }
        if late { vec![Action::KillCommand(name)] } else { vec![] }
    }
}
