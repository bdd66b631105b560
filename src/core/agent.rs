//! The agent: every state × event pair, decided.

use std::fmt;
use std::time::Duration;

use super::{AfterTerminate, Exit, Failure, Policy, Random, RunnerKind, Schedule, Time};

/// How long after SIGKILL we wait for what cannot be killed.
pub const LAST_WAIT: Duration = Duration::from_secs(5);

/// What ended a leader that was still there when we stopped waiting for it.
const SIGKILL: u8 = 9;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The deadline of [`Agent::deadline`] has come.
    Due,
    /// The runner runs: it was started, or found.
    RunnerUp,
    /// The runner could not be started.
    RunnerRefused(Exit),
    /// The runner's leader ended. Others that it left behind may still be there.
    RunnerEnded(Exit),
    /// Nothing is left of a runner whose leader ended.
    RunnerGone,
    /// The heartbeat in flight has its answer.
    HeartbeatEnded(Outcome, Random),
    /// The `on-terminate` command ended.
    HookEnded,
    /// The operator wants us to stop.
    Stop,
    /// The operator changed the settings.
    Reloaded(Policy),
    /// The host was suspended for this long, which no other time here counts.
    Resumed(Duration),
    /// A signal that is not ours alone.
    Job(Job),
}

/// Signals that go to the runner, too, whatever the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// This one is the runner's alone.
    Forward(i32),
    /// Stop, both of us. The signal that the runner is to stop by; none when it had one already.
    Suspend(Option<i32>),
    /// Go on, both of us.
    Continue,
}

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service took it, and says whether the runner is to terminate.
    Acknowledged {
        /// True: the runner is to stop for good.
        terminate: bool,
    },
    /// It was not acknowledged.
    Failed(Failure),
}

/// What the shell is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the runner, or begin to look for it.
    StartRunner,
    /// Send a heartbeat.
    Send {
        /// Build a new client first.
        renew: bool,
    },
    /// Forget the heartbeat in flight.
    Abandon,
    /// Run the `on-terminate` command.
    StartHook,
    /// End the `on-terminate` command.
    KillHook,
    /// Send the stop signal to those of the runner that did not get it yet.
    StopRunner,
    /// Send SIGKILL to whatever is left of the runner.
    KillRunner,
    /// Send this signal to the runner.
    Forward(i32),
    /// Send SIGCONT to the runner.
    Continue,
    /// Stop ourselves, as job control does, until somebody continues us.
    Suspend,
    /// Leave the loop with this status.
    Exit(Exit),
}

/// Why the runner is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The runner's leader ended by itself; what it left behind is cleared away.
    Ended,
    /// The operator said so. The only cause that another one may still replace.
    Operator,
    /// The service was silent for too long.
    LostContact,
    /// The service said so.
    Terminate,
}

/// What the agent is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has been started.
    Starting,
    /// The runner does not run, and heartbeats would not be true.
    Waiting,
    /// The runner runs, the heartbeats go out.
    Running,
    /// `terminate` came; the `on-terminate` command has until then.
    Hooking {
        /// When the command is ended and the ladder begins.
        until: Time,
    },
    /// The stop signal was sent.
    Stopping {
        /// Why.
        cause: Cause,
        /// When SIGKILL follows.
        until: Time,
    },
    /// SIGKILL was sent.
    Killing {
        /// Why the runner is being stopped.
        cause: Cause,
        /// When we stop waiting for what cannot be killed.
        until: Time,
    },
    /// `terminate` was obeyed; all that is left is to wait for the operator.
    Idle,
    /// The loop was told to exit.
    Stopped,
}

impl State {
    /// Why the runner is being stopped, if it is.
    #[must_use]
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Hooking { .. } => Some(Cause::Terminate),
            Self::Stopping { cause, .. } | Self::Killing { cause, .. } => Some(cause),
            Self::Starting | Self::Waiting | Self::Running | Self::Idle | Self::Stopped => None,
        }
    }
}

/// The whole state of the daemon that decisions depend on.
///
/// The shell hands it each [`Event`] with the time and carries out the [`Action`]s in their order. It waits no longer
/// than to [`deadline`](Self::deadline), which follows from the state, so that no timer can be forgotten.
#[derive(Clone, Debug)]
pub struct Agent {
    runner: RunnerKind,
    policy: Policy,
    state: State,
    schedule: Schedule,
    /// The leader's status, once it ended.
    ended: Option<Exit>,
    /// True when nothing of the runner is there (any more).
    gone: bool,
    /// When the runner was seen to run.
    since: Option<Time>,
    /// How many stops the operator asked for.
    stops: u8,
}

impl Agent {
    /// An agent that has not started anything. Its first deadline is at once.
    #[must_use]
    pub fn new(runner: RunnerKind, policy: Policy) -> Self {
        Self {
            runner,
            policy,
            state: State::Starting,
            schedule: Schedule::new(),
            ended: None,
            gone: true,
            since: None,
            stops: 0,
        }
    }

    /// What the agent is at.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The schedule of the heartbeats.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The settings in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether we stay, idle, once `terminate` was obeyed. An operator who said stop meanwhile does not want us to.
    #[must_use]
    pub fn stays_idle(&self) -> bool {
        self.policy.after_terminate == AfterTerminate::Idle && self.stops == 0
    }

    /// When the runner was seen to run, the last time.
    #[must_use]
    pub fn runner_since(&self) -> Option<Time> {
        self.since
    }

    /// When [`Event::Due`] is to come, if nothing else comes first.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let heartbeat = self.schedule.due();
        match self.state {
            State::Starting => Some(Time::ZERO),
            State::Waiting | State::Idle | State::Stopped => None,
            State::Running => earliest(heartbeat, self.lost_contact()),
            State::Hooking { until } => Some(until),
            State::Stopping { until, .. } | State::Killing { until, .. } => {
                earliest(heartbeat, Some(until))
            }
        }
    }

    /// True while the service's last word stands: acknowledged within two intervals, or `terminate`,
    /// after which there are no more heartbeats.
    #[must_use]
    pub fn in_contact(&self, now: Time) -> bool {
        let terminated = self.state.cause() == Some(Cause::Terminate);
        terminated || self.state == State::Idle || self.schedule.in_contact(now, &self.policy)
    }

    /// True while the account seems to have more runners than its limit has room for.
    #[must_use]
    pub fn over_limit(&self, now: Time) -> bool {
        self.schedule.over_limit(now, &self.policy)
    }

    /// Decides what follows from `event` at `now`.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Action> {
        match self.state {
            State::Starting => self.starting(event),
            State::Waiting => self.waiting(now, event),
            State::Running => self.running(now, event),
            State::Hooking { until } => self.hooking(now, event, until),
            State::Stopping { cause, until } => self.stopping(now, event, cause, until),
            State::Killing { cause, until } => self.killing(now, event, cause, until),
            State::Idle => self.idle(event),
            State::Stopped => self.stopped(event),
        }
    }

    fn starting(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Due => {
                self.state = State::Waiting;
                vec![Action::StartRunner]
            }
            Event::Stop => self.exit(Exit::OK),
            Event::Reloaded(policy) => self.reload(policy),
            Event::RunnerUp
            | Event::RunnerRefused(_)
            | Event::RunnerEnded(_)
            | Event::RunnerGone
            | Event::HeartbeatEnded(..)
            | Event::HookEnded
            | Event::Resumed(_) => vec![],
            Event::Job(job) => self.job(job),
        }
    }

    fn waiting(&mut self, now: Time, event: Event) -> Vec<Action> {
        match event {
            Event::RunnerUp => {
                self.state = State::Running;
                self.runner_up(now);
                self.schedule.begin(now);
                self.heartbeat(now)
            }
            Event::RunnerRefused(exit) => self.exit(exit),
            Event::HeartbeatEnded(Outcome::Acknowledged { terminate: true }, _) => {
                self.terminate(now)
            }
            Event::Stop => self.exit(Exit::OK),
            Event::Reloaded(policy) => self.reload(policy),
            Event::Due
            | Event::RunnerEnded(_)
            | Event::RunnerGone
            | Event::HeartbeatEnded(..)
            | Event::HookEnded
            | Event::Resumed(_) => vec![],
            Event::Job(job) => self.job(job),
        }
    }

    fn running(&mut self, now: Time, event: Event) -> Vec<Action> {
        match event {
            Event::Due if self.lost_contact().is_some_and(|lost| lost <= now) => {
                self.stop(now, Cause::LostContact)
            }
            Event::Due => self.heartbeat(now),
            Event::RunnerEnded(exit) => {
                let abandoned = self.runner_ended(exit);
                let then = match self.runner {
                    RunnerKind::Child => self.stop(now, Cause::Ended),
                    RunnerKind::Followed => {
                        self.state = State::Waiting;
                        vec![]
                    }
                    RunnerKind::Attached | RunnerKind::None => self.exit(exit),
                };
                [abandoned, then].concat()
            }
            Event::HeartbeatEnded(Outcome::Acknowledged { terminate: true }, _) => {
                self.terminate(now)
            }
            Event::HeartbeatEnded(answer, random) => self.answered(now, answer, random),
            Event::Stop => {
                self.count_stop();
                match self.runner {
                    RunnerKind::Child => self.stop(now, Cause::Operator),
                    RunnerKind::None | RunnerKind::Attached | RunnerKind::Followed => {
                        self.exit(Exit::OK)
                    }
                }
            }
            Event::Reloaded(policy) => {
                self.schedule.reload(now, &policy);
                self.reload(policy)
            }
            Event::Resumed(gap) => self.resumed(gap),
            Event::RunnerUp | Event::RunnerRefused(_) | Event::RunnerGone | Event::HookEnded => {
                vec![]
            }
            Event::Job(job) => self.job(job),
        }
    }

    fn hooking(&mut self, now: Time, event: Event, until: Time) -> Vec<Action> {
        match event {
            Event::Due if until <= now => {
                [vec![Action::KillHook], self.stop(now, Cause::Terminate)].concat()
            }
            Event::HookEnded => self.stop(now, Cause::Terminate),
            Event::Stop if self.count_stop() => {
                [vec![Action::KillHook], self.kill(now, Cause::Terminate)].concat()
            }
            Event::RunnerUp => {
                self.runner_up(now);
                vec![]
            }
            Event::RunnerEnded(exit) => self.runner_ended(exit),
            Event::RunnerGone => {
                self.gone = true;
                vec![]
            }
            Event::Due
            | Event::Stop
            | Event::RunnerRefused(_)
            | Event::HeartbeatEnded(..)
            | Event::Reloaded(_)
            | Event::Resumed(_) => vec![],
            Event::Job(job) => self.job(job),
        }
    }

    fn stopping(&mut self, now: Time, event: Event, cause: Cause, until: Time) -> Vec<Action> {
        match event {
            Event::Due if until <= now => self.kill(now, cause),
            Event::Due => self.heartbeat(now),
            Event::Stop if self.count_stop() => self.kill(now, cause),
            Event::RunnerEnded(exit) => {
                // The others get the stop signal, too, if it went to the leader alone so far.
                let abandoned = self.runner_ended(exit);
                [abandoned, self.finish_or(Action::StopRunner, cause)].concat()
            }
            Event::RunnerGone => self.finish(cause),
            Event::HeartbeatEnded(Outcome::Acknowledged { terminate: true }, _) => {
                self.schedule.end();
                let cause = cause.risen_to_terminate();
                self.state = State::Stopping { cause, until };
                vec![]
            }
            Event::HeartbeatEnded(answer, random) => self.answered(now, answer, random),
            Event::Resumed(gap) => self.resumed(gap),
            Event::Stop
            | Event::RunnerUp
            | Event::RunnerRefused(_)
            | Event::HookEnded
            | Event::Reloaded(_) => vec![],
            Event::Job(job) => self.job(job),
        }
    }

    fn killing(&mut self, now: Time, event: Event, cause: Cause, until: Time) -> Vec<Action> {
        match event {
            Event::Due if until <= now => self.finish(cause),
            Event::Due => self.heartbeat(now),
            Event::RunnerEnded(exit) => {
                let abandoned = self.runner_ended(exit);
                [abandoned, self.finish_or(Action::KillRunner, cause)].concat()
            }
            Event::RunnerGone => self.finish(cause),
            Event::HeartbeatEnded(Outcome::Acknowledged { terminate: true }, _) => {
                self.schedule.end();
                let cause = cause.risen_to_terminate();
                self.state = State::Killing { cause, until };
                vec![]
            }
            Event::HeartbeatEnded(answer, random) => self.answered(now, answer, random),
            Event::Resumed(gap) => self.resumed(gap),
            // No more than that can be done to the runner, but an operator who says so does not want us to stay.
            Event::Stop => {
                self.count_stop();
                vec![]
            }
            Event::RunnerUp | Event::RunnerRefused(_) | Event::HookEnded | Event::Reloaded(_) => {
                vec![]
            }
            Event::Job(job) => self.job(job),
        }
    }

    fn idle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Stop => self.exit(Exit::OK),
            // One that could not be killed in time, after all.
            Event::RunnerEnded(exit) => self.runner_ended(exit),
            Event::Due
            | Event::RunnerUp
            | Event::RunnerRefused(_)
            | Event::RunnerGone
            | Event::HeartbeatEnded(..)
            | Event::HookEnded
            | Event::Reloaded(_)
            | Event::Resumed(_) => vec![],
            Event::Job(job) => self.job(job),
        }
    }

    fn stopped(&self, event: Event) -> Vec<Action> {
        match event {
            Event::Due
            | Event::RunnerUp
            | Event::RunnerRefused(_)
            | Event::RunnerEnded(_)
            | Event::RunnerGone
            | Event::HeartbeatEnded(..)
            | Event::HookEnded
            | Event::Stop
            | Event::Reloaded(_)
            | Event::Resumed(_) => vec![],
            Event::Job(job) => self.job(job),
        }
    }

    /// Signals reach a child only, and only while its leader lives.
    fn job(&self, job: Job) -> Vec<Action> {
        let alive = self.runner == RunnerKind::Child && !self.gone && self.ended.is_none();
        let to_runner = match job {
            Job::Forward(signal) | Job::Suspend(Some(signal)) => Some(Action::Forward(signal)),
            Job::Suspend(None) => None,
            Job::Continue => Some(Action::Continue),
        };
        let to_us = matches!(job, Job::Suspend(_)).then_some(Action::Suspend);
        let to_runner = to_runner.filter(|_| alive);
        to_runner.into_iter().chain(to_us).collect()
    }

    fn runner_up(&mut self, now: Time) {
        self.since = Some(now);
        self.gone = self.runner == RunnerKind::None;
    }

    /// The heartbeats end with the leader. Of an attached runner nothing else is ours to look after.
    fn runner_ended(&mut self, exit: Exit) -> Vec<Action> {
        self.ended = Some(exit);
        self.gone = self.runner != RunnerKind::Child;
        if self.schedule.end() {
            vec![Action::Abandon]
        } else {
            vec![]
        }
    }

    fn heartbeat(&mut self, now: Time) -> Vec<Action> {
        if self.schedule.due().is_some_and(|due| due <= now) {
            let renew = self.schedule.start(now);
            vec![Action::Send { renew }]
        } else {
            vec![]
        }
    }

    fn answered(&mut self, now: Time, answer: Outcome, random: Random) -> Vec<Action> {
        if self.schedule.in_flight() {
            match answer {
                Outcome::Acknowledged { .. } => {
                    self.schedule.acknowledged(now, &self.policy, random)
                }
                Outcome::Failed(fault) => self.schedule.failed(now, &self.policy, fault, random),
            }
        }
        vec![]
    }

    fn resumed(&mut self, gap: Duration) -> Vec<Action> {
        self.schedule.bring_forward(gap);
        vec![]
    }

    fn reload(&mut self, policy: Policy) -> Vec<Action> {
        self.policy = policy;
        vec![]
    }

    /// When the service will have been silent for too long.
    fn lost_contact(&self) -> Option<Time> {
        let after = self.policy.lost_contact_after?;
        Some(self.schedule.heard() + after)
    }

    /// Counts a stop of the operator; true from the second one on.
    fn count_stop(&mut self) -> bool {
        self.stops = self.stops.saturating_add(1);
        self.stops >= 2
    }

    fn terminate(&mut self, now: Time) -> Vec<Action> {
        self.schedule.end();
        if self.policy.on_terminate {
            let until = now + self.policy.grace;
            self.state = State::Hooking { until };
            vec![Action::StartHook]
        } else {
            self.stop(now, Cause::Terminate)
        }
    }

    /// The first step of the ladder.
    fn stop(&mut self, now: Time, cause: Cause) -> Vec<Action> {
        let until = now + self.policy.grace;
        self.state = State::Stopping { cause, until };
        self.finish_or(Action::StopRunner, cause)
    }

    /// The second step.
    fn kill(&mut self, now: Time, cause: Cause) -> Vec<Action> {
        let until = now + LAST_WAIT;
        self.state = State::Killing { cause, until };
        self.finish_or(Action::KillRunner, cause)
    }

    fn finish_or(&mut self, action: Action, cause: Cause) -> Vec<Action> {
        if self.gone {
            self.finish(cause)
        } else {
            vec![action]
        }
    }

    /// The ladder is over: nobody is left, or nobody who can be killed.
    fn finish(&mut self, cause: Cause) -> Vec<Action> {
        match cause {
            Cause::Terminate if self.stays_idle() => {
                self.state = State::Idle;
                vec![]
            }
            Cause::Terminate => self.exit(Exit::OK),
            Cause::LostContact => self.exit(Exit::UNAVAILABLE),
            Cause::Ended | Cause::Operator => {
                self.exit(self.ended.unwrap_or(Exit::by_signal(SIGKILL)))
            }
        }
    }

    fn exit(&mut self, exit: Exit) -> Vec<Action> {
        self.state = State::Stopped;
        vec![Action::Exit(exit)]
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "its leader ended",
            Self::Operator => "the operator says stop",
            Self::LostContact => "contact with the service is lost",
            Self::Terminate => "the service says terminate",
        })
    }
}

impl Cause {
    /// Only an operator's stop leaves the exit status open, so only that one gives way.
    fn risen_to_terminate(self) -> Self {
        match self {
            Self::Operator => Self::Terminate,
            Self::Ended | Self::LostContact | Self::Terminate => self,
        }
    }
}

fn earliest(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
