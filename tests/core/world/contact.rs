//! The law of contact, written from the contract and not from the schedule.

use std::time::Duration;

use taskbeat::core::{Action, Contact, Policy, Time};

/// Two intervals, at least a second.
fn contact_time(policy: &Policy) -> Duration {
    (policy.interval * 2).max(Duration::from_secs(1))
}

/// Contact as the last acknowledged heartbeat implies it.
#[derive(Clone)]
pub(super) struct ContactLaw {
    /// When contact is lost, or was; `None` before the first start of the runner.
    until: Option<Time>,
    lost: bool,
    /// A heartbeat was just acknowledged.
    acknowledged: bool,
    /// It ended a loss of contact of this length.
    regained: Option<Duration>,
}

impl ContactLaw {
    pub(super) fn new() -> Self {
        Self { until: None, lost: false, acknowledged: false, regained: None }
    }

    /// The runner runs, for the first time or again.
    pub(super) fn runner_started(&mut self, now: Time, policy: &Policy) {
        self.until.get_or_insert(now + contact_time(policy));
    }

    /// The heartbeat that started at `started` was acknowledged.
    pub(super) fn acknowledged(&mut self, now: Time, started: Time, policy: &Policy) {
        self.regained = self.until.filter(|_| self.lost).map(|until| now - until);
        self.lost = false;
        self.acknowledged = true;
        self.until = Some(started + contact_time(policy));
    }

    /// Checks the actions of one event against it. `ended` if no heartbeat follows any more, so
    /// that contact stays as it is.
    pub(super) fn check(&mut self, now: Time, ended: bool, actions: &[Action], contact: Contact) {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let mut regained = self.regained.take();
        let mut edges = Vec::new();
        if let Some(until) = self.until
            && !self.lost
            && !ended
            && until <= now
        {
            self.lost = true;
            // A response that took longer than two intervals is no contact.
            assert!(acknowledged || until == now, "lost at {now:?}, not at {until:?}");
            if regained.take().is_none() {
                edges.push(Action::ContactLost);
            }
        }
        edges.extend(regained.map(Action::ContactRegained));
        let is_edge = |action: &Action| match action {
            Action::ContactLost | Action::ContactRegained(_) => true,
            Action::StartRunner
            | Action::Send { .. }
            | Action::Abandon
            | Action::HealthLost
            | Action::HealthRegained(_)
            | Action::StartCommand(_)
            | Action::KillCommand(_)
            | Action::StopRunner
            | Action::KillRunner
            | Action::Exit(_) => false,
        };
        let found: Vec<_> = actions.iter().copied().filter(is_edge).collect();
        assert_eq!(found, edges, "the edges of contact");
        let found = match contact {
            Contact::Pending { until } => (until, false),
            Contact::Held { until, .. } => (Some(until), false),
            Contact::Lost { since } => (Some(since), true),
        };
        assert_eq!(found, (self.until, self.lost), "the state of contact");
    }
}
