//! The loop: it waits for the next event, lets the core decide, and carries out the actions.

mod journal;
mod service;

#[cfg(test)]
mod tests;

use futures_util::{Stream, StreamExt};
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{Duration, Interval, MissedTickBehavior, interval};
use tracing::error;

pub(crate) use journal::Journal;
pub(crate) use service::{NoReload, Reload, Response, Service};

use crate::clock::Clock;
use crate::commands::{Commands, Ended, Facts};
use crate::core::{
    Action, Agent, CommandName, CommandResult, Event, Exit, Policy, Random, RunnerKind, State, Time,
};
use crate::runner::{Runner, Signalled};
use crate::signals::{SignalEvent, Stop, is_job_control};
use crate::status::{Requests, Snapshot, SnapshotRequest, Tally};
use crate::sys::{caught_signal, wait_for_memory};
use crate::text;

/// The period of a timer that is not needed. Each event sets it anew.
const NO_DEADLINE: Duration = Duration::from_hours(1);

/// Time from the start to the first keep-alive, which reports readiness. A shell that cannot
/// execute the runner has exited by then, so the start of the unit fails.
const FIRST_KEEPALIVE: Duration = Duration::from_millis(500);

/// The parts of the daemon. Each owns its resource alone.
pub(crate) struct Daemon<S, T, H, R> {
    pub(crate) policy: Policy,
    /// The runner, not yet started.
    pub(crate) runner: Runner,
    pub(crate) commands: Commands,
    pub(crate) service: S,
    /// The stops, caught before anything is started.
    pub(crate) stops: T,
    pub(crate) signals: H,
    pub(crate) status_requests: Requests,
    /// How often [`Observer::keepalive`] is called; `None` for never.
    pub(crate) keepalive: Option<Duration>,
    pub(crate) reload: R,
}

/// What is known beyond the agent's decisions, for people.
#[derive(Default)]
pub(crate) struct Details {
    /// How the newest heartbeat ended.
    pub(crate) response: Option<Response>,
    /// Why the runner was last found unhealthy.
    pub(crate) unhealthy: String,
    tally: Tally,
}

/// One turn of the loop, for the observers.
pub(crate) struct Turn<'a> {
    pub(crate) now: Time,
    pub(crate) event: Event,
    pub(crate) details: &'a Details,
    pub(crate) done: &'a [Done],
    pub(crate) agent: &'a Agent,
    pub(crate) runner: &'a Runner,
    /// The state after this turn.
    pub(crate) snapshot: &'a Snapshot,
}

/// An action that was carried out.
pub(crate) struct Done {
    pub(crate) action: Action,
    pub(crate) signalled: Vec<Signalled>,
}

impl Turn<'_> {
    /// The runner's exit status, which only a child's parent can know.
    pub(crate) fn status(&self, exit: Exit) -> Option<u8> {
        (self.runner.kind() == RunnerKind::Child).then_some(exit.0)
    }
}

/// Reports what the daemon does: the log, systemd, a rehearsal.
pub(crate) trait Observer {
    /// A turn of the loop is over.
    fn observe(&mut self, turn: &Turn<'_>);

    /// The loop is alive, and this is its state.
    fn keepalive(&mut self, _: &Snapshot) {}
}

/// Why the loop woke up.
enum Wake<L> {
    Event(Event),
    Command(Ended),
    Stop(Stop),
    Response(Response),
    Settings(L),
    Signal(SignalEvent),
    Status(SnapshotRequest),
    Keepalive,
    /// A suspension ended: the clock is read again.
    Alarm,
}

impl<S, T, H, R> Daemon<S, T, H, R>
where
    S: Service,
    T: Stream<Item = Stop> + Unpin,
    H: Stream<Item = SignalEvent> + Unpin,
    R: Reload<S>,
{
    /// Runs until the core exits.
    pub(crate) async fn run(mut self, observers: &mut [&mut dyn Observer]) -> Exit {
        wait_for_memory();
        let mut clock = Clock::start();
        let mut agent = Agent::new(self.runner.kind(), self.policy);
        let mut timer = timer(NO_DEADLINE);
        let mut keepalive = self::timer(self.keepalive.unwrap_or(NO_DEADLINE));
        keepalive.reset_after(FIRST_KEEPALIVE);
        let mut next = None;
        let mut details = Details::default();
        // Lets the runtime look at its descriptors, so that a stop that is already there comes
        // first.
        yield_now().await;
        loop {
            let deadline = agent.deadline();
            match deadline {
                Some(time) => timer.reset_at(clock.instant(time)),
                None => timer.reset(),
            }
            let known = next.take().or_else(|| clock.gap().map(Event::Resumed));
            let wake = match known {
                Some(event) => Wake::Event(event),
                None => self.wake(&agent, &clock, deadline, &mut timer, &mut keepalive).await,
            };
            let now = clock.now();
            details.tally.epoch = clock.epoch();
            let event = match wake {
                // Before each event that may send a heartbeat.
                Wake::Event(event @ (Event::Due | Event::RunnerStarted)) => {
                    let change = self.leader_stopped(&agent);
                    next = change.map(|_| event);
                    change.or(Some(event))
                }
                Wake::Event(event) => Some(event),
                Wake::Command(ended) => {
                    // The state of a stopped leader outweighs the result of its check.
                    if ended.name == CommandName::HealthCheck && !agent.is_leader_stopped() {
                        details.unhealthy = describe(&ended);
                    }
                    Some(Event::CommandEnded(ended.name, ended.result))
                }
                Wake::Stop(stop) => Some(self.stop(stop)),
                Wake::Response(ended) => {
                    let outcome = details.response.insert(ended).outcome;
                    let random = Random::new(fastrand::f64());
                    Some(Event::HeartbeatEnded(outcome, random))
                }
                Wake::Settings(settings) => self.reloaded(settings, &agent),
                Wake::Signal(signal) => self.signal(signal, &agent),
                Wake::Status(request) => {
                    // It fails if the client has gone.
                    let _ = request.send(self.snapshot(now, &agent, &details));
                    None
                }
                Wake::Keepalive => {
                    let snapshot = self.snapshot(now, &agent, &details);
                    for observer in observers.iter_mut() {
                        observer.keepalive(&snapshot);
                    }
                    None
                }
                Wake::Alarm => None,
            };
            let Some(event) = event else { continue };
            let actions = agent.handle(now, event).into_iter();
            let done: Vec<Done> =
                actions.map(|action| self.act(action, &agent, &details, &mut next)).collect();
            details.note(event, &done, agent.policy());
            details.tally.count(now, event, &agent);
            if matches!(event, Event::LeaderExited(_)) {
                next = next.or_else(|| self.clear_away());
            }
            let turn = Turn {
                now,
                event,
                details: &details,
                done: &done,
                agent: &agent,
                runner: &self.runner,
                snapshot: &self.snapshot(now, &agent, &details),
            };
            for observer in observers.iter_mut() {
                observer.observe(&turn);
            }
            if let Some(Action::Exit(exit)) = done.last().map(|done| done.action) {
                // The process that adopts taskbeat's children may not reap them.
                self.commands.kill_all();
                self.clear_away();
                return exit;
            }
        }
    }

    /// Waits for what comes next, in the order of importance.
    async fn wake(
        &mut self,
        agent: &Agent,
        clock: &Clock,
        deadline: Option<Time>,
        timer: &mut Interval,
        keepalive: &mut Interval,
    ) -> Wake<R::Settings> {
        // After `terminate`, a followed runner that is started again is left alone.
        let watched = agent.state() != State::Idle || self.runner.kind() == RunnerKind::Child;
        select! {
            biased;
            Some(stop) = self.stops.next() => Wake::Stop(stop),
            event = self.runner.next(), if watched => Wake::Event(event),
            ended = self.commands.next() => Wake::Command(ended),
            response = self.service.response() => Wake::Response(response),
            _ = timer.tick() => Wake::Event(Event::Due),
            () = clock.alarm(deadline) => Wake::Alarm,
            _ = keepalive.tick(), if self.keepalive.is_some() => Wake::Keepalive,
            settings = self.reload.settings() => Wake::Settings(settings),
            // The last two can come at any rate, so they must not starve the others.
            Some(signal) = self.signals.next() => Wake::Signal(signal),
            Some(request) = self.status_requests.recv() => Wake::Status(request),
        }
    }

    fn stop(&mut self, stop: Stop) -> Event {
        if stop.from_terminal {
            self.runner.interrupted_by_terminal();
        }
        Event::Stop(stop.signal)
    }

    fn reloaded(&mut self, settings: R::Settings, agent: &Agent) -> Option<Event> {
        // Reloads are ignored while stopping.
        if agent.state().until().is_some() {
            return None;
        }
        let policy = self.reload.apply(settings, &mut self.service);
        policy.map(Event::Reloaded)
    }

    /// The event for a leader that a signal has stopped or continued.
    fn leader_stopped(&self, agent: &Agent) -> Option<Event> {
        let stopped = self.runner.is_leader_stopped();
        (stopped != agent.is_leader_stopped()).then_some(Event::LeaderStopped(stopped))
    }

    fn signal(&mut self, signal: SignalEvent, agent: &Agent) -> Option<Event> {
        match signal {
            SignalEvent::ChildChanged => {
                if self.runner.kind() == RunnerKind::Child {
                    self.runner.follow_into_stop();
                }
                return self.clear_away().or_else(|| self.leader_stopped(agent));
            }
            SignalEvent::Reload => self.reload.begin(),
            SignalEvent::Forward { signal, from_terminal } => {
                if self.runner.kind() == RunnerKind::Child {
                    if !from_terminal {
                        self.runner.forward(caught_signal(signal));
                    }
                } else if is_job_control(signal) {
                    self.runner.follow_into_stop();
                }
            }
        }
        None
    }

    fn snapshot(&self, now: Time, agent: &Agent, details: &Details) -> Snapshot {
        let Details { response, unhealthy, tally } = details;
        let failure = response.as_ref().map(|response| response.message.as_str());
        let identity = self.service.identity();
        Snapshot::take(now, agent, &self.runner, identity, failure, unhealthy, tally)
    }

    fn clear_away(&mut self) -> Option<Event> {
        self.runner.clear_away(&self.commands.pids())
    }

    /// Carries out an action. `next` is the event that follows at once, if there is one.
    fn act(
        &mut self,
        action: Action,
        agent: &Agent,
        details: &Details,
        next: &mut Option<Event>,
    ) -> Done {
        let mut signalled = Vec::new();
        match action {
            Action::StartRunner => *next = self.start(),
            Action::Send { renew } => self.service.send(renew),
            Action::Abandon => self.service.abandon(),
            Action::StartCommand(name) => {
                let acknowledged = agent.schedule().acknowledged_at();
                let facts = Facts {
                    taskrunner_id: self.service.identity().taskrunner_id.clone(),
                    runner: self.runner.pid(),
                    in_contact: agent.schedule().in_contact(),
                    last_acknowledged: acknowledged
                        .map(|time| details.tally.wall_time(time).to_string())
                        .unwrap_or_default(),
                };
                self.commands.start(name, &facts);
            }
            Action::KillCommand(name) => self.commands.kill(name),
            Action::StopRunner => signalled = self.runner.stop(),
            Action::KillRunner => signalled = self.runner.kill(),
            Action::ContactLost
            | Action::ContactRegained(_)
            | Action::HealthLost
            | Action::HealthRegained(_)
            | Action::Exit(_) => {}
        }
        Done { action, signalled }
    }

    fn start(&mut self) -> Option<Event> {
        match self.runner.start() {
            Ok(true) => Some(Event::RunnerStarted),
            Ok(false) => None,
            Err(error) => {
                error!("{error}");
                Some(Event::StartFailed(error.exit))
            }
        }
    }
}

impl Details {
    /// Notes why the runner is unhealthy, if that is not the result of a check.
    fn note(&mut self, event: Event, done: &[Done], policy: &Policy) {
        let late = Action::KillCommand(CommandName::HealthCheck);
        if event == Event::LeaderStopped(true) {
            "the runner is stopped by a signal (state T)".clone_into(&mut self.unhealthy);
        } else if let (Event::Due, Some(limit)) = (event, policy.health_check)
            && done.iter().any(|done| done.action == late)
        {
            self.unhealthy = format!("health-check did not end within {}", text::duration(limit));
        }
    }
}

/// Why a health check failed.
fn describe(check: &Ended) -> String {
    let result = match check.result {
        CommandResult::Exited(exit) => format!("health-check exited with status {}", exit.0),
        CommandResult::NotStarted => "health-check could not be started".to_owned(),
    };
    if check.last_line.is_empty() { result } else { format!("{result}: {}", check.last_line) }
}

fn timer(period: Duration) -> Interval {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
