//! The world around one agent, which checks the laws at every step.

mod contact;
mod health;
mod pace;

use std::time::Duration;

use taskbeat::core::{
    Action, Agent, CommandName, CommandResult, Event, Exit, Outcome, Policy, Random, Rung,
    RunnerKind, State, Time,
};

use self::contact::ContactLaw;
use self::health::Health;
use self::pace::Pace;

/// Stops within this time of the first one are the same stop.
const SAME_STOP: Duration = Duration::from_secs(1);

/// The time limit of `on-contact-change`.
const CONTACT_COMMAND: Duration = Duration::from_secs(30);

/// What can happen to the daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Incident {
    /// The heartbeat in flight ends, if there is one.
    HeartbeatEnds(Outcome, f64),
    LeaderExits(u8),
    /// The leader and all its descendants exit.
    RunnerExits,
    CommandEnds,
    /// The health check ends, if it runs, with success or without.
    CheckEnds(bool),
    ContactCommandEnds,
    /// A signal stops the leader, or continues it.
    LeaderStops(bool),
    Stop,
    Reload(Policy),
    Suspension(Duration),
    /// Another supervisor starts the followed runner, again if it runs.
    Restart,
}

/// The world: its facts, and what the agent did to them.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of the world, and independent of the others"
)]
#[derive(Clone)]
pub(crate) struct World {
    agent: Agent,
    kind: RunnerKind,
    now: Time,
    start_fails: bool,
    leader_runs: bool,
    descendants_run: bool,
    leader_exit: Option<Exit>,
    /// When the runner started.
    since: Time,
    /// When the heartbeat in flight started.
    in_flight: Option<Time>,
    /// When the last acknowledged heartbeat started.
    acknowledged: Option<Time>,
    command_runs: bool,
    terminated: bool,
    /// The policy for lost contact stopped the runner.
    given_up: bool,
    first_stop: Option<Time>,
    /// How often the runner that runs was stopped and killed.
    stops: usize,
    kills: usize,
    /// The contract has a reason to stop the runner.
    may_stop: bool,
    exit: Option<Exit>,
    pace: Pace,
    contact: ContactLaw,
    health: Health,
    /// When `on-contact-change` started, while it runs.
    contact_command: Option<Time>,
    /// Each event, with the states before and after it.
    history: Vec<(State, Event, State)>,
}

impl World {
    pub(crate) fn new(kind: RunnerKind, policy: Policy) -> Self {
        Self {
            agent: Agent::new(kind, policy),
            kind,
            now: Time::ZERO,
            start_fails: false,
            leader_runs: false,
            descendants_run: false,
            leader_exit: None,
            since: Time::ZERO,
            in_flight: None,
            acknowledged: None,
            command_runs: false,
            terminated: false,
            given_up: false,
            first_stop: None,
            stops: 0,
            kills: 0,
            may_stop: false,
            exit: None,
            pace: Pace::new(),
            contact: ContactLaw::new(),
            health: Health::default(),
            contact_command: None,
            history: Vec::new(),
        }
    }

    /// The runner cannot be started.
    pub(crate) fn with_failing_start(self, start_fails: bool) -> Self {
        Self { start_fails, ..self }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        self.exit
    }

    pub(crate) fn stops_and_kills(&self) -> (usize, usize) {
        (self.stops, self.kills)
    }

    /// The events since the last call, with the states before and after them.
    pub(crate) fn take_history(&mut self) -> Vec<(State, Event, State)> {
        std::mem::take(&mut self.history)
    }

    /// The facts that the next incidents and laws depend on.
    pub(crate) fn facts(&self) -> String {
        let stopped_recently = self.first_stop.is_some_and(|first| self.now - first < SAME_STOP);
        let running = (self.start_fails, self.leader_runs, self.descendants_run, self.command_runs);
        let past = (self.terminated, self.given_up, self.may_stop, stopped_recently);
        let sent = (self.stops.min(2), self.kills.min(2), self.leader_exit);
        format!("{running:?} {past:?} {sent:?} {:?} {:?}", self.health, self.exit)
    }

    pub(crate) fn into_history(self) -> Vec<(State, Event, State)> {
        self.history
    }

    /// Lets `until` come, with every deadline before it.
    pub(crate) fn pass(&mut self, until: Time) {
        let mut turns = 0;
        while let Some(deadline) = self.agent.deadline().filter(|time| *time <= until) {
            self.now = self.now.max(deadline);
            self.handle(Event::Due);
            turns += 1;
            assert!(turns < 10_000, "a deadline never passes: {:?}", self.agent);
        }
        self.now = self.now.max(until);
    }

    /// Lets this part of the time to the next deadline pass. An incident after less than the whole
    /// of it comes before the deadline, even if both are at the same time.
    fn wait(&mut self, part: f64) {
        let without_deadline = self.agent.policy().interval / 2;
        let left = self.agent.deadline().map(|deadline| deadline - self.now);
        let until = self.now + left.unwrap_or(without_deadline).mul_f64(part);
        if part < 1.0 {
            self.now = until;
        } else {
            self.pass(until);
        }
    }

    /// Each incident happens after its part of the time to the next deadline.
    pub(crate) fn live(&mut self, incidents: &[(f64, Incident)]) {
        for (part, incident) in incidents {
            self.wait(*part);
            self.happen(*incident);
        }
    }

    pub(crate) fn happen(&mut self, incident: Incident) {
        if self.exit.is_some() {
            return;
        }
        match incident {
            Incident::HeartbeatEnds(outcome, random) => self.heartbeat_ends(outcome, random),
            Incident::LeaderExits(status) => {
                if self.is_watched() && std::mem::take(&mut self.leader_runs) {
                    self.may_stop |= self.kind == RunnerKind::Child;
                    self.leader_exit = Some(Exit(status));
                    self.handle(Event::LeaderExited(Exit(status)));
                }
            }
            Incident::RunnerExits => {
                self.happen(Incident::LeaderExits(143));
                if std::mem::take(&mut self.descendants_run) {
                    self.handle(Event::RunnerGone);
                }
            }
            Incident::CommandEnds => {
                if std::mem::take(&mut self.command_runs) {
                    let result = CommandResult::Exited(Exit::OK);
                    self.handle(Event::CommandEnded(CommandName::OnTerminate, result));
                }
            }
            Incident::CheckEnds(healthy) => {
                if self.health.check_ends() {
                    let result = CommandResult::Exited(Exit(u8::from(!healthy)));
                    self.handle(Event::CommandEnded(CommandName::HealthCheck, result));
                }
            }
            Incident::ContactCommandEnds => {
                if self.contact_command.take().is_some() {
                    let result = CommandResult::Exited(Exit::OK);
                    self.handle(Event::CommandEnded(CommandName::OnContactChange, result));
                }
            }
            Incident::LeaderStops(stopped) => {
                if self.leader_runs && self.is_watched() {
                    self.health.leader_stopped = stopped;
                    self.handle(Event::LeaderStopped(stopped));
                }
            }
            Incident::Stop => {
                self.may_stop |= self.kind == RunnerKind::Child;
                self.handle(Event::Stop(15));
            }
            // The daemon ignores reloads while stopping.
            Incident::Reload(_) if self.agent.state().until().is_some() => {}
            Incident::Reload(policy) => self.handle(Event::Reloaded(policy)),
            Incident::Suspension(gap) => self.handle(Event::Resumed(gap)),
            Incident::Restart => {
                if self.kind == RunnerKind::Followed {
                    self.happen(Incident::LeaderExits(1));
                    if self.is_watched() {
                        self.runner_starts();
                    }
                }
            }
        }
    }

    /// The heartbeat in flight ends, if there is one.
    fn heartbeat_ends(&mut self, outcome: Outcome, random: f64) {
        let Some(started) = self.in_flight.take() else {
            return;
        };
        if let Outcome::Acknowledged { terminate } = outcome {
            self.acknowledged = Some(started);
            self.terminated |= terminate;
            self.may_stop |= terminate;
            self.contact.acknowledged(self.now, started, self.agent.policy());
        }
        self.handle(Event::HeartbeatEnded(outcome, Random::new(random)));
    }

    fn runner_starts(&mut self) {
        self.leader_runs = true;
        self.descendants_run = self.kind == RunnerKind::Child;
        self.since = self.now;
        self.stops = 0;
        self.kills = 0;
        if std::mem::take(&mut self.health.leader_stopped) {
            self.handle(Event::LeaderStopped(false));
        }
        self.contact.runner_started(self.now, self.agent.policy());
        self.handle(Event::RunnerStarted);
    }

    /// After `terminate`, a process of another supervisor is left alone.
    fn is_watched(&self) -> bool {
        match self.agent.state() {
            State::Starting | State::Exiting => false,
            State::Idle => self.kind == RunnerKind::Child,
            State::Waiting | State::Running | State::OnTerminate { .. } | State::Ladder { .. } => {
                self.kind != RunnerKind::None
            }
        }
    }

    /// Hands the event to the agent, carries out its actions, and checks the laws.
    fn handle(&mut self, event: Event) {
        let before = self.agent.state();
        let policy = *self.agent.policy();
        let was_due = self.agent.schedule().due().is_some_and(|due| due <= self.now);
        let actions = self.agent.handle(self.now, event);
        let after = self.agent.state();
        self.history.push((before, event, after));
        self.pace.observe(self.now, event, before, &policy);
        if self.health.withholds(event, was_due, before, &actions) {
            self.pace.withheld(self.now, &policy);
        }
        let contact = self.agent.schedule().contact();
        let ended = !self.heartbeat_follows();
        self.contact.check(self.now, ended, &actions, contact);
        if let Event::Stop(_) = event {
            self.check_stop(&actions);
        }
        // Of all that falls due while the runner runs, only lost contact ends this state.
        if before == State::Running && event == Event::Due && after != before {
            self.check_given_up();
        }
        for action in actions {
            assert_eq!(self.exit, None, "an action follows the exit");
            self.act(action, before, event);
        }
        self.check_state();
        let command = self.contact_command.map(|started| self.now - started);
        assert!(command.is_none_or(|runs| runs <= CONTACT_COMMAND), "a command without limit");
    }

    fn act(&mut self, action: Action, before: State, event: Event) {
        // Once, and once more when the leader has exited: its descendants may not have received it.
        let may_repeat = matches!(event, Event::LeaderExited(_));
        match action {
            Action::StartRunner => self.start_runner(),
            Action::Send { .. } => {
                assert!(!self.terminated, "a heartbeat after terminate");
                assert!(self.leader_runs, "a heartbeat without a runner");
                assert_eq!(self.in_flight, None, "two heartbeats in flight");
                self.health.check_send(event, self.agent.policy());
                self.pace.send(self.now);
                self.in_flight = Some(self.now);
            }
            Action::Abandon => assert!(self.in_flight.take().is_some(), "nothing to abandon"),
            Action::StartCommand(CommandName::OnTerminate) => {
                assert!(self.terminated && !self.command_runs);
                self.command_runs = true;
            }
            Action::KillCommand(CommandName::OnTerminate) => {
                assert!(std::mem::take(&mut self.command_runs));
            }
            Action::StartCommand(CommandName::HealthCheck) => {
                assert!(self.leader_runs && !self.terminated, "a check of no runner");
                assert_eq!(self.in_flight, None, "a check beside a heartbeat");
                self.health.check_starts();
                self.pace.attempt(self.now);
            }
            Action::KillCommand(CommandName::HealthCheck) => {
                assert!(self.health.check_ends(), "no check to kill");
            }
            Action::StartCommand(CommandName::OnContactChange) => {
                assert!(self.agent.policy().on_contact_change);
                assert_eq!(self.contact_command.replace(self.now), None, "two at a time");
            }
            Action::KillCommand(CommandName::OnContactChange) => {
                assert!(self.contact_command.take().is_some(), "no command to kill");
            }
            Action::HealthLost => self.health.lost(self.now),
            Action::HealthRegained(after) => self.health.regained(self.now, after),
            Action::StopRunner => {
                assert!(self.may_stop, "no reason to stop the runner");
                assert!(self.runner_exists(), "no runner to stop");
                assert!(self.stops == 0 || may_repeat, "stopped twice");
                self.stops += 1;
            }
            Action::KillRunner => {
                let command_ran = matches!(before, State::OnTerminate { .. });
                assert!(self.stops + self.kills > 0 || command_ran, "never stopped");
                assert!(self.runner_exists(), "no runner to kill");
                assert!(self.kills == 0 || may_repeat, "killed twice");
                self.kills += 1;
            }
            Action::ContactLost | Action::ContactRegained(_) => {}
            Action::Exit(exit) => {
                assert_eq!(exit, self.contracted_exit(event));
                self.exit = Some(exit);
            }
        }
    }

    fn start_runner(&mut self) {
        match self.kind {
            RunnerKind::Child | RunnerKind::Attached if self.start_fails => {
                self.leader_exit = Some(Exit::NOT_FOUND);
                self.handle(Event::StartFailed(Exit::NOT_FOUND));
            }
            RunnerKind::None | RunnerKind::Child | RunnerKind::Attached => self.runner_starts(),
            RunnerKind::Followed => {}
        }
    }

    fn runner_exists(&self) -> bool {
        self.kind != RunnerKind::None && (self.leader_runs || self.descendants_run)
    }

    /// The exit status of the contract.
    fn contracted_exit(&self, event: Event) -> Exit {
        let never_started = self.leader_exit.is_none() && !self.leader_runs;
        match (self.kind, event) {
            _ if self.given_up => Exit::UNAVAILABLE,
            _ if self.terminated => Exit::OK,
            (RunnerKind::Child, Event::Stop(signal)) if never_started => Exit::by_signal(signal),
            (RunnerKind::Child, _) if self.leader_runs => Exit::by_signal(9),
            (RunnerKind::Child | RunnerKind::Attached, _) => self.leader_exit.unwrap_or(Exit::OK),
            (RunnerKind::None | RunnerKind::Followed, _) => Exit::OK,
        }
    }

    /// Duplicates of the first stop never kill. The first one after them does.
    fn check_stop(&mut self, actions: &[Action]) {
        let first = *self.first_stop.get_or_insert(self.now);
        let kills = actions.contains(&Action::KillRunner);
        if self.now - first < SAME_STOP {
            assert!(!kills, "a duplicate of the stop kills the runner");
        } else if self.runner_exists() && self.exit.is_none() {
            match self.agent.state() {
                State::Ladder { rung: Rung::Kill, .. } | State::Idle | State::Exiting => {}
                state @ (State::Starting
                | State::Waiting
                | State::Running
                | State::OnTerminate { .. }
                | State::Ladder { rung: Rung::Stop, .. }) => {
                    panic!("the second stop leaves the runner in {state:?}")
                }
            }
        }
    }

    fn check_given_up(&mut self) {
        let last = self.acknowledged.map_or(self.since, |time| time.max(self.since));
        let allowed = self.agent.policy().lost_contact_after;
        let silent = self.now - last;
        assert!(allowed.is_some_and(|allowed| silent >= allowed), "given up after {silent:?}");
        self.given_up = true;
        self.may_stop = true;
    }

    fn check_state(&self) {
        let to_be_stopped = self.may_stop && self.runner_exists();
        match self.agent.state() {
            State::Ladder { rung: Rung::Stop, .. } => assert!(self.stops > 0, "not stopped"),
            State::Ladder { rung: Rung::Kill, .. } => assert!(self.kills > 0, "not killed"),
            State::Idle | State::Exiting => {
                assert!(!to_be_stopped || self.kills > 0, "the runner is left alone");
            }
            State::Starting | State::Waiting | State::Running | State::OnTerminate { .. } => {}
        }
        if self.exit.is_some() {
            return;
        }
        assert_eq!(self.agent.schedule().in_flight(), self.in_flight.is_some());
        assert_eq!(self.agent.schedule().is_checking(), self.health.is_checking());
        if self.terminated {
            assert!(!self.heartbeat_follows(), "a heartbeat follows terminate");
            assert!(
                self.agent.stop_cause().is_some(),
                "terminate is not obeyed in {:?}",
                self.agent.state()
            );
        } else if self.leader_runs {
            assert!(self.heartbeat_follows(), "heartbeats were given up");
        }
    }

    fn heartbeat_follows(&self) -> bool {
        let schedule = self.agent.schedule();
        schedule.in_flight() || schedule.is_checking() || schedule.due().is_some()
    }
}
