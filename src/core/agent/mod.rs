//! The agent: what follows from each event in each state.
//!
//! ```text
//! Starting ── Due ──▶ Waiting ── RunnerStarted ──▶ Running
//!                        ▲                            │
//!                        └── LeaderExited, followed ──┤
//!                                                     │
//!             terminate, with an on-terminate command ├──▶ OnTerminate
//!                                                     │         │ CommandEnded, grace over
//!    terminate, stop, lost contact, LeaderExited ─────┴─────────┴──▶ Ladder, Rung::Stop
//!                                                                       │ grace over, second stop
//!                                                                       ▼
//!                                                                    Ladder, Rung::Kill
//!                                                                       │ RunnerGone, 5 s over
//!                                                                       ▼
//!                                after-terminate = idle ──▶ Idle ── stop ──▶ Exiting
//! ```
//!
//! If no process is left, the remaining steps are skipped: their arrows lead to `Exiting` or `Idle`
//! directly. A failed start, or a stop in `Starting` or `Waiting`, leads to `Exiting`.
//! `terminate` can also come in `Waiting`, as the response to the last heartbeat of a followed
//! runner that has exited. A second stop in `OnTerminate` leads to `Rung::Kill`.

mod heartbeats;

use std::time::Duration;

use super::{
    Action, AfterTerminate, Cause, CommandName, Event, Exit, LAST_WAIT, Outcome, Policy, Rung,
    RunnerKind, Schedule, State, Time,
};

/// Stops that arrive within this time of the first one are the same stop: timeout(1) signals twice,
/// npm relays the terminal's SIGINT, supervisors repeat themselves.
const SAME_STOP: Duration = Duration::from_secs(1);

/// The signal that is assumed to have ended a leader whose exit was not seen.
const SIGKILL: u8 = 9;

/// All that decisions depend on.
///
/// The shell hands each [`Event`] to [`handle`](Self::handle) with its time and carries out the
/// [`Action`]s in their order. It waits no longer than [`deadline`](Self::deadline), which is
/// derived from the state, so that no timer can be forgotten.
#[derive(Clone, Debug)]
pub struct Agent {
    kind: RunnerKind,
    policy: Policy,
    state: State,
    schedule: Schedule,
    /// The leader's exit status.
    leader_exit: Option<Exit>,
    /// True while no process of the runner exists.
    gone: bool,
    /// True while the leader is stopped by a signal.
    leader_stopped: bool,
    /// When `on-contact-change` is killed; `None` while it does not run.
    contact_command: Option<Time>,
    /// When the runner was last started or found.
    runner_since: Option<Time>,
    /// Why the runner is being stopped, or was.
    stop_cause: Option<Cause>,
    /// When the operator first asked for a stop.
    first_stop: Option<Time>,
}

impl Agent {
    /// An agent that has not started anything. Its first deadline is at once.
    #[must_use]
    pub fn new(kind: RunnerKind, policy: Policy) -> Self {
        Self {
            kind,
            policy,
            state: State::Starting,
            schedule: Schedule::default(),
            leader_exit: None,
            gone: true,
            leader_stopped: false,
            contact_command: None,
            runner_since: None,
            stop_cause: None,
            first_stop: None,
        }
    }

    /// The state.
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

    /// True if taskbeat stays up, idle, after `terminate`: unless the operator asked for a stop.
    #[must_use]
    pub fn stays_idle(&self) -> bool {
        self.policy.after_terminate == AfterTerminate::Idle && self.first_stop.is_none()
    }

    /// Why the runner is being stopped, or was. `None` if there was no ladder.
    #[must_use]
    pub fn stop_cause(&self) -> Option<Cause> {
        self.stop_cause
    }

    /// When the operator first asked for a stop.
    #[must_use]
    pub fn first_stop(&self) -> Option<Time> {
        self.first_stop
    }

    /// When the runner was last started or found.
    #[must_use]
    pub fn runner_since(&self) -> Option<Time> {
        self.runner_since
    }

    /// True while the leader is stopped by a signal, according to the events so far.
    #[must_use]
    pub fn is_leader_stopped(&self) -> bool {
        self.leader_stopped
    }

    /// True if the account seems to have more runners than its limit has room for.
    #[must_use]
    pub fn over_limit(&self, now: Time) -> bool {
        self.schedule.over_limit(now, &self.policy)
    }

    /// When [`Event::Due`] is to come, if no other event comes first.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let (heartbeat, contact) = (self.schedule.deadline(), self.schedule.contact_deadline());
        let of_state = match self.state {
            State::Starting => Some(Time::ZERO),
            State::Waiting => contact,
            State::Running => earliest([heartbeat, contact, self.policy_deadline()]),
            State::OnTerminate { until } => Some(until),
            State::Ladder { until, .. } => earliest([heartbeat, contact, Some(until)]),
            State::Idle => None,
            State::Exiting => return None,
        };
        earliest([of_state, self.contact_command])
    }

    /// Decides what follows from `event` at `now`.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Action> {
        if let Event::LeaderStopped(stopped) = event {
            self.leader_stopped = stopped;
        }
        let before = self.schedule.contact();
        let mut actions = self.end_contact_command(now, event);
        let of_state = match self.state {
            State::Starting => self.starting(now, event),
            State::Waiting => self.waiting(now, event),
            State::Running => self.running(now, event),
            State::OnTerminate { until } => self.on_terminate(now, event, until),
            State::Ladder { rung, cause, until } => self.ladder(now, event, rung, cause, until),
            State::Idle => self.idle(event),
            State::Exiting => vec![],
        };
        self.schedule.check_contact(now);
        let change = self.schedule.contact().change_from(before);
        actions.extend(change);
        if change.is_some() && self.policy.on_contact_change && self.state != State::Exiting {
            actions.extend(self.start_contact_command(now));
        }
        actions.extend(of_state);
        actions
    }

    fn starting(&mut self, now: Time, event: Event) -> Vec<Action> {
        match event {
            Event::Due => {
                self.state = State::Waiting;
                vec![Action::StartRunner]
            }
            Event::Stop(signal) => self.stop_before_start(signal),
            Event::Reloaded(policy) => self.reload(now, policy),
            Event::RunnerStarted
            | Event::StartFailed(_)
            | Event::LeaderExited(_)
            | Event::LeaderStopped(_)
            | Event::RunnerGone
            | Event::HeartbeatEnded(..)
            | Event::CommandEnded(..)
            | Event::Resumed(_) => vec![],
        }
    }

    fn waiting(&mut self, now: Time, event: Event) -> Vec<Action> {
        match event {
            Event::RunnerStarted => {
                self.state = State::Running;
                self.runner_started(now);
                self.schedule.begin(now, &self.policy);
                self.heartbeat(now)
            }
            Event::StartFailed(exit) => self.exit(exit),
            Event::HeartbeatEnded(outcome, random) => self.heartbeat_ended(now, outcome, random),
            Event::Stop(signal) => self.stop_before_start(signal),
            Event::Reloaded(policy) => self.reload(now, policy),
            Event::Resumed(gap) => self.resumed(gap),
            Event::LeaderStopped(stopped) => self.leader_stopped(now, stopped),
            Event::Due | Event::LeaderExited(_) | Event::RunnerGone | Event::CommandEnded(..) => {
                vec![]
            }
        }
    }

    fn running(&mut self, now: Time, event: Event) -> Vec<Action> {
        match event {
            Event::Due if is_past(self.policy_deadline(), now) => {
                self.stop(now, Cause::LostContact)
            }
            Event::Due => self.heartbeat(now),
            Event::LeaderExited(exit) => match self.kind {
                RunnerKind::Child => {
                    let abandon = self.leader_exited(exit);
                    [abandon, self.stop(now, Cause::Ended)].concat()
                }
                // A heartbeat in flight was true when it was sent, so its response still counts.
                RunnerKind::Followed => {
                    self.gone = true;
                    self.state = State::Waiting;
                    self.schedule.cancel_check(now).into_iter().collect()
                }
                RunnerKind::Attached | RunnerKind::None => {
                    [self.leader_exited(exit), self.exit(exit)].concat()
                }
            },
            Event::HeartbeatEnded(outcome, random) => self.heartbeat_ended(now, outcome, random),
            Event::Stop(_) => {
                self.count_stop(now);
                match self.kind {
                    RunnerKind::Child => self.stop(now, Cause::Operator),
                    RunnerKind::None | RunnerKind::Attached | RunnerKind::Followed => {
                        self.exit(Exit::OK)
                    }
                }
            }
            Event::Reloaded(policy) => self.reload(now, policy),
            Event::Resumed(gap) => self.resumed(gap),
            Event::LeaderStopped(stopped) => self.leader_stopped(now, stopped),
            Event::CommandEnded(name, result) => self.command_ended(now, name, result),
            Event::RunnerStarted | Event::StartFailed(_) | Event::RunnerGone => vec![],
        }
    }

    fn on_terminate(&mut self, now: Time, event: Event, until: Time) -> Vec<Action> {
        let kill_command = vec![Action::KillCommand(CommandName::OnTerminate)];
        match event {
            Event::Due if until <= now => [kill_command, self.stop(now, Cause::Terminate)].concat(),
            Event::CommandEnded(CommandName::OnTerminate, _) => self.stop(now, Cause::Terminate),
            Event::Stop(_) => {
                if self.count_stop(now) {
                    [kill_command, self.kill(now, Cause::Terminate)].concat()
                } else {
                    vec![]
                }
            }
            Event::RunnerStarted => {
                self.runner_started(now);
                vec![]
            }
            Event::LeaderExited(exit) => self.leader_exited(exit),
            Event::RunnerGone => {
                self.gone = true;
                vec![]
            }
            Event::Due
            | Event::StartFailed(_)
            | Event::LeaderStopped(_)
            | Event::HeartbeatEnded(..)
            | Event::CommandEnded(..)
            | Event::Reloaded(_)
            | Event::Resumed(_) => vec![],
        }
    }

    fn ladder(
        &mut self,
        now: Time,
        event: Event,
        rung: Rung,
        cause: Cause,
        until: Time,
    ) -> Vec<Action> {
        match event {
            Event::Due if until <= now => match rung {
                Rung::Stop => self.kill(now, cause),
                Rung::Kill => self.finish(cause),
            },
            Event::Due => self.heartbeat(now),
            Event::Stop(_) => match (self.count_stop(now), rung) {
                (true, Rung::Stop) => self.kill(now, cause),
                (false, Rung::Stop) | (_, Rung::Kill) => vec![],
            },
            Event::LeaderExited(exit) => {
                let abandon = self.leader_exited(exit);
                // The stop signal may have gone to the leader alone so far.
                [abandon, self.finish_or(rung.action(), cause)].concat()
            }
            Event::RunnerGone => self.finish(cause),
            Event::HeartbeatEnded(outcome @ Outcome::Acknowledged { terminate: true }, random) => {
                self.record(now, outcome, random);
                let cause = cause.or_terminate();
                self.state = State::Ladder { rung, cause, until };
                self.stop_cause = Some(cause);
                self.schedule.end().into_iter().collect()
            }
            Event::HeartbeatEnded(outcome, random) => self.heartbeat_ended(now, outcome, random),
            Event::Resumed(gap) => self.resumed(gap),
            Event::LeaderStopped(stopped) => self.leader_stopped(now, stopped),
            Event::CommandEnded(name, result) => self.command_ended(now, name, result),
            Event::RunnerStarted | Event::StartFailed(_) | Event::Reloaded(_) => vec![],
        }
    }

    fn idle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Stop(_) => self.exit(Exit::OK),
            Event::Due
            | Event::RunnerStarted
            | Event::StartFailed(_)
            | Event::LeaderExited(_)
            | Event::LeaderStopped(_)
            | Event::RunnerGone
            | Event::HeartbeatEnded(..)
            | Event::CommandEnded(..)
            | Event::Reloaded(_)
            | Event::Resumed(_) => vec![],
        }
    }

    fn runner_started(&mut self, now: Time) {
        self.runner_since = Some(now);
        self.gone = self.kind == RunnerKind::None;
    }

    /// Heartbeats stop when the leader exits. For an attached runner, taskbeat tracks only the
    /// leader.
    fn leader_exited(&mut self, exit: Exit) -> Vec<Action> {
        self.leader_exit = Some(exit);
        self.gone = self.kind != RunnerKind::Child;
        self.schedule.end().into_iter().collect()
    }

    fn reload(&mut self, now: Time, policy: Policy) -> Vec<Action> {
        self.schedule.reload(now, &policy);
        self.policy = policy;
        vec![]
    }

    /// When `lost-contact-after` stops the runner.
    fn policy_deadline(&self) -> Option<Time> {
        let after = self.policy.lost_contact_after?;
        let last = self.schedule.acknowledged_at().max(self.runner_since)?;
        Some(last + after)
    }

    /// Counts a stop. Returns true if it is a second one, and not a duplicate of the first.
    fn count_stop(&mut self, now: Time) -> bool {
        let first = *self.first_stop.get_or_insert(now);
        now - first >= SAME_STOP
    }

    /// Exits with 128+n if a command was to run: status 0 would claim that it did its work.
    fn stop_before_start(&mut self, signal: u8) -> Vec<Action> {
        self.exit(match self.kind {
            RunnerKind::Child => Exit::by_signal(signal),
            RunnerKind::None | RunnerKind::Attached | RunnerKind::Followed => Exit::OK,
        })
    }

    fn terminate(&mut self, now: Time) -> Vec<Action> {
        let mut actions: Vec<_> = self.schedule.end().into_iter().collect();
        if self.policy.on_terminate {
            let until = now + self.policy.grace;
            self.state = State::OnTerminate { until };
            self.stop_cause = Some(Cause::Terminate);
            actions.push(Action::StartCommand(CommandName::OnTerminate));
        } else {
            actions.extend(self.stop(now, Cause::Terminate));
        }
        actions
    }

    fn stop(&mut self, now: Time, cause: Cause) -> Vec<Action> {
        self.climb(Rung::Stop, cause, now + self.policy.grace)
    }

    fn kill(&mut self, now: Time, cause: Cause) -> Vec<Action> {
        self.climb(Rung::Kill, cause, now + LAST_WAIT)
    }

    fn climb(&mut self, rung: Rung, cause: Cause, until: Time) -> Vec<Action> {
        self.state = State::Ladder { rung, cause, until };
        self.stop_cause = Some(cause);
        self.finish_or(rung.action(), cause)
    }

    fn finish_or(&mut self, action: Action, cause: Cause) -> Vec<Action> {
        if self.gone { self.finish(cause) } else { vec![action] }
    }

    /// The ladder is over: no process is left, or none that can be killed.
    fn finish(&mut self, cause: Cause) -> Vec<Action> {
        match cause {
            Cause::Terminate if self.stays_idle() => {
                self.state = State::Idle;
                vec![]
            }
            Cause::Terminate => self.exit(Exit::OK),
            Cause::LostContact => self.exit(Exit::UNAVAILABLE),
            Cause::Ended | Cause::Operator => {
                self.exit(self.leader_exit.unwrap_or(Exit::by_signal(SIGKILL)))
            }
        }
    }

    fn exit(&mut self, exit: Exit) -> Vec<Action> {
        self.state = State::Exiting;
        vec![Action::Exit(exit)]
    }
}

fn is_past(deadline: Option<Time>, now: Time) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

fn earliest<const N: usize>(times: [Option<Time>; N]) -> Option<Time> {
    times.into_iter().flatten().min()
}
