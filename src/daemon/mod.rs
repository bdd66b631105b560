//! The shell: one loop that names the next event, lets the core decide, and carries out what it
//! decided.

mod journal;
mod service;

use futures_util::{Stream, StreamExt};
use rustix::process::{Signal, getpid, kill_process};
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tracing::error;

pub use journal::Journal;
pub use service::{Response, Service};

use crate::clock::Clock;
use crate::core::{self, Action, Agent, Event, Exit, Job, Outcome, Policy, Random, State, Time};
use crate::runner::{Process, Runner};
use crate::signals::Heard;
use crate::status::{Claim, Snapshot};

/// The timer's period while the core has no deadline: only a number, every event sets it anew.
const NO_DEADLINE: Duration = Duration::from_hours(1);

/// What the daemon is made of. Each part owns its resource alone.
pub struct Daemon<S, H> {
    /// The settings that the core acts on.
    pub policy: Policy,
    /// The runner, not yet started.
    pub runner: Runner,
    /// Where heartbeats go.
    pub service: S,
    /// What is heard, from before anything is started.
    pub signals: H,
    /// The claim on the task runner id, whose socket answers who asks; none in a rehearsal.
    pub instance: Option<Claim>,
    /// How often observers are told how things are, events or not; never when `None`.
    pub pulse: Option<Duration>,
    /// Reads the settings again and applies what is not the core's; `None` when they are refused.
    pub reload: Reload<S>,
}

/// Reads the settings again.
pub type Reload<S> = Box<dyn FnMut(&mut S) -> Option<Policy>>;

/// One turn of the loop, for those who tell others about it.
pub struct Turn<'a> {
    /// When.
    pub now: Time,
    /// What happened.
    pub event: Event,
    /// The reply, if the event is an answer.
    pub reply: Option<&'a Response>,
    /// What was done about it, and to which processes.
    pub done: &'a [(Action, Vec<Process>)],
    /// The agent after it.
    pub agent: &'a Agent,
    /// The runner after it.
    pub runner: &'a Runner,
    /// Why the newest heartbeat failed, if it did.
    pub failure: Option<&'a str>,
}

impl Turn<'_> {
    /// The runner's status, when it ended with `exit`. Of somebody else's process nobody tells us one.
    pub(crate) fn status(&self, exit: Exit) -> Option<u8> {
        (self.runner.kind() == core::RunnerKind::Child).then_some(exit.0)
    }
}

/// Somebody who watches the daemon and tells others: the log, systemd, a rehearsal's report.
pub trait Observer {
    /// A turn of the loop is over.
    fn observe(&mut self, step: &Turn<'_>);

    /// The loop is alive, and this is how things are.
    fn pulse(&mut self, _: &Snapshot) {}
}

impl<S: Service, H: Stream<Item = Heard> + Unpin> Daemon<S, H> {
    /// Runs to the end.
    pub async fn run(mut self, observers: &mut [&mut dyn Observer]) -> Exit {
        let mut clock = Clock::start();
        let mut agent = Agent::new(self.runner.kind(), self.policy);
        let mut timer = interval(NO_DEADLINE);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulse = interval(self.pulse.unwrap_or(NO_DEADLINE));
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = None;
        let mut failure: Option<String> = None;
        // Lets the runtime look at its descriptors: a stop that came before us is to be seen first.
        yield_now().await;
        loop {
            let deadline = agent.deadline();
            match deadline {
                Some(time) => timer.reset_at(clock.instant(time)),
                None => timer.reset(),
            }
            if next.is_none() {
                next = clock.gap().map(Event::Resumed);
            }
            let mut reply = None;
            // Biased, so that a stop that is already there comes before a start.
            let event = select! {
                biased;
                Some(event) = async { next.take() } => Some(event),
                Some(heard) = self.signals.next() => self.meaning(heard, &agent),
                event = self.runner.next(), if self.is_watched(&agent) => Some(event),
                told = self.service.answer() => {
                    let answer = reply.insert(told).answer;
                    Some(Event::HeartbeatEnded(answer, Random::new(fastrand::f64())))
                }
                _ = timer.tick() => Some(Event::Due),
                () = clock.alarm(deadline) => None,
                _ = pulse.tick(), if self.pulse.is_some() => {
                    let snapshot = self.snapshot(clock.now(), &agent, failure.as_deref());
                    for observer in observers.iter_mut() {
                        observer.pulse(&snapshot);
                    }
                    None
                }
                // The last: anybody on the host may ask, and as often as they like.
                asker = asked(self.instance.as_ref()) => {
                    asker.tell(&self.snapshot(clock.now(), &agent, failure.as_deref()));
                    None
                }
            };
            let Some(event) = event else { continue };
            let now = clock.now();
            let mut done = Vec::new();
            let mut exit = None;
            for action in agent.handle(now, event) {
                let mut processes = Vec::new();
                match action {
                    Action::StartRunner => next = self.start(),
                    Action::Send { renew } => self.service.send(renew),
                    Action::Abandon => self.service.abandon(),
                    Action::StartHook => self.runner.start_hook(),
                    Action::KillHook => self.runner.kill_hook(),
                    Action::StopRunner => processes = self.runner.stop(),
                    Action::KillRunner => processes = self.runner.kill(),
                    Action::Forward(signal) => self.forward(signal),
                    Action::Continue => self.runner.forward(Signal::CONT),
                    Action::Suspend => suspend(),
                    Action::Exit(status) => exit = Some(status),
                }
                done.push((action, processes));
            }
            if let Some(Response {
                answer, message, ..
            }) = &reply
            {
                failure = matches!(answer, Outcome::Failed(_)).then(|| message.clone());
                self.runner.clear_up();
            }
            let step = Turn {
                now,
                event,
                reply: reply.as_ref(),
                done: &done,
                agent: &agent,
                runner: &self.runner,
                failure: failure.as_deref(),
            };
            for observer in observers.iter_mut() {
                observer.observe(&step);
            }
            if let Some(exit) = exit {
                // The next one that adopts them may not care.
                self.runner.clear_up();
                return exit;
            }
        }
    }

    /// After `terminate` nobody else's process is our runner any more, even if somebody starts it again.
    fn is_watched(&self, agent: &Agent) -> bool {
        agent.state() != State::Idle || self.runner.kind() == core::RunnerKind::Child
    }

    fn snapshot(&self, now: Time, agent: &Agent, failure: Option<&str>) -> Snapshot {
        Snapshot::take(now, agent, &self.runner, failure)
    }

    fn meaning(&mut self, heard: Heard, agent: &Agent) -> Option<Event> {
        match heard {
            Heard::Stop { told } => {
                if told {
                    self.runner.was_told();
                }
                Some(Event::Stop)
            }
            Heard::Child => {
                self.runner.reap_orphans(!agent.schedule().in_flight());
                None
            }
            // Whoever is on the way out has no use for new settings.
            Heard::Reload if agent.state().cause().is_some() => None,
            Heard::Reload => (self.reload)(&mut self.service).map(Event::Reloaded),
            Heard::Forward(signal) => Some(Event::Job(Job::Forward(signal))),
            Heard::Suspend(signal) => Some(Event::Job(Job::Suspend(signal))),
            Heard::Continue => Some(Event::Job(Job::Continue)),
            Heard::Nothing => None,
        }
    }

    fn start(&mut self) -> Option<Event> {
        match self.runner.start() {
            Ok(true) => Some(Event::RunnerUp),
            Ok(false) => None,
            Err(refusal) => {
                error!("{refusal}");
                Some(Event::RunnerRefused(refusal.exit))
            }
        }
    }

    fn forward(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.runner.forward(signal);
        }
    }
}

async fn asked(instance: Option<&Claim>) -> crate::status::StatusRequest {
    match instance {
        Some(instance) => instance.asked().await,
        None => std::future::pending().await,
    }
}

/// Stops us where we stand. All deadlines that pass meanwhile have come when we go on.
fn suspend() {
    // It cannot fail: the signal and the process exist.
    let _ = kill_process(getpid(), Signal::STOP);
}
