//! The report of a rehearsal: collected from the turns of the daemon, and printed line by line.

use std::fs;
use std::io::Write;

use serde::Serialize;
use signal_hook::consts::SIGTERM;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing_appender::non_blocking::NonBlocking;

use super::timeline::{Entry, GREEN, Heartbeat, PLAIN, RED, RunnerProcess, What, human, line};
use super::verdict::{Finding, FindingCause, Ladder};
use crate::core::{
    Action, Cause, CommandName, CommandResult, Event, Exit, Outcome, RunnerKind, State, Time,
};
use crate::daemon::{Done, Observer, Turn};
use crate::endpoint::Played;
use crate::signals::Stop;

/// What is to be rehearsed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Plan {
    pub(super) endpoint: String,
    /// True if other hosts can reach the endpoint, which has no access control.
    #[serde(skip)]
    pub(super) is_open: bool,
    pub(super) script: String,
    /// The seed that made the script.
    pub(super) seed: Option<u64>,
    pub(super) steps: usize,
    pub(super) grace_seconds: f64,
}

/// The result of a rehearsal, as `--json` prints it; see docs/rehearse.schema.json.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    plan: Plan,
    played: usize,
    /// True if every step was played and no process had to be killed.
    pub(super) passed: bool,
    killed: bool,
    /// From the cause of the stop to the runner's end; `None` if no runner was stopped.
    stop_seconds: Option<f64>,
    /// The exit status of `taskbeat run`.
    exit_status: u8,
    findings: Vec<Finding>,
    timeline: Vec<Entry>,
}

/// A rehearsal ends when the runner was unhealthy for more than this many intervals.
const LONGEST_UNHEALTHY: u32 = 60;

/// Collects the report, and prints its timeline.
pub(super) struct Reporter {
    report: Report,
    out: NonBlocking,
    coloured: bool,
    ladder: Ladder,
    /// The heartbeats, as the endpoint answers them.
    played: UnboundedReceiver<Played>,
    /// Stops the daemon, as an operator would, once.
    stop: Option<UnboundedSender<Stop>>,
    heartbeats: usize,
    /// Why and since when the runner is being stopped.
    stopping: Option<(Cause, Time)>,
    /// Why the runner is unhealthy; empty while it is healthy.
    unhealthy: String,
}

impl Reporter {
    /// Prints to `out`, which may show colours.
    pub(super) fn new(
        plan: Plan,
        (mut out, coloured): (NonBlocking, bool),
        ladder: Ladder,
        played: UnboundedReceiver<Played>,
        stop: UnboundedSender<Stop>,
    ) -> Self {
        let Plan { endpoint, script, seed, is_open, .. } = &plan;
        let seed = seed.map(|seed| format!(" (--seed {seed})")).unwrap_or_default();
        let open = if *is_open { "; any host can use it" } else { "" };
        let first = format_args!("  0.000s  endpoint   {endpoint} plays {script}{seed}{open}");
        // The verdict, printed last, reports a failure to write.
        let _ = out.write_all(line(coloured, PLAIN, &first).as_bytes());
        Self {
            report: Report { plan, ..Report::default() },
            out,
            coloured,
            ladder,
            played,
            stop: Some(stop),
            heartbeats: 0,
            stopping: None,
            unhealthy: String::new(),
        }
    }

    fn add(&mut self, now: Time, what: What) {
        let since_stop_seconds = self.stopping.map(|(_, since)| (now - since).as_secs_f64());
        if matches!(what, What::LeaderExited { .. } | What::Gone) {
            self.report.stop_seconds = since_stop_seconds;
        }
        let at_seconds = now.since_start().as_secs_f64();
        let entry = Entry { at_seconds, since_stop_seconds, what };
        let _ = self.out.write_all(entry.line(self.coloured).as_bytes());
        self.report.timeline.push(entry);
    }

    /// The report of a daemon that exited with `exit`.
    pub(super) fn report(self, exit: Exit) -> Report {
        let early = self.report.played < self.report.plan.steps;
        let mut causes: Vec<FindingCause> =
            early.then(|| self.why_early(exit)).into_iter().collect();
        let mut timeline = self.report.timeline.iter();
        if timeline.any(|entry| matches!(entry.what, What::Withheld { .. })) {
            causes.push(FindingCause::Unhealthy);
            causes.dedup();
        }
        let mut findings = self.ladder.findings();
        findings.extend(causes.into_iter().map(|cause| self.ladder.finding(cause, Vec::new())));
        let passed = !early && !self.report.killed;
        Report { passed, exit_status: exit.0, findings, ..self.report }
    }

    /// Why not every step was played.
    fn why_early(&self, exit: Exit) -> FindingCause {
        match self.stopping {
            _ if self.report.timeline.is_empty() => FindingCause::NotStarted,
            Some((Cause::LostContact, _)) => FindingCause::LostContact,
            Some((Cause::Operator, _)) if !self.unhealthy.is_empty() => FindingCause::Unhealthy,
            Some((Cause::Operator, _)) => FindingCause::Stopped,
            // SIGINT: at Ctrl-C, the runner may exit before taskbeat receives it.
            _ if exit.0 == 130 => FindingCause::Stopped,
            Some((Cause::Ended | Cause::Terminate, _)) | None => FindingCause::RunnerExited,
        }
    }

    fn stop(&mut self) {
        let signal = u8::try_from(SIGTERM).unwrap_or_default();
        if let Some(stop) = self.stop.take() {
            // It fails only when the loop has ended.
            let _ = stop.send(Stop { signal, from_terminal: false });
        }
    }

    fn heartbeat(&mut self, turn: &Turn<'_>, outcome: Outcome) -> What {
        // Those before the newest were abandoned.
        let mut newest = None;
        while let Ok(played) = self.played.try_recv() {
            newest = Some(played);
        }
        self.report.played += usize::from(newest.is_some());
        self.heartbeats += 1;
        // The end of a script without `terminate`.
        if self.heartbeats >= self.report.plan.steps && turn.agent.stop_cause().is_none() {
            self.stop();
        }
        let (next, response) = (turn.agent.schedule().due(), turn.details.response.as_ref());
        What::Heartbeat(Heartbeat {
            number: self.heartbeats,
            step: newest.as_ref().map(|played| played.step),
            sent: newest.map(|played| played.heartbeat),
            result: result(outcome),
            message: response.map(|response| response.message.clone()).unwrap_or_default(),
            request_id: response.and_then(|response| response.request_id.clone()),
            took_seconds: (turn.now - turn.agent.schedule().started()).as_secs_f64(),
            next_in_seconds: next.map(|next| (next - turn.now).as_secs_f64()),
        })
    }

    fn health(&mut self, turn: &Turn<'_>) {
        let Some(since) = turn.agent.schedule().unhealthy_since() else {
            return self.unhealthy.clear();
        };
        let reason = &turn.details.unhealthy;
        if self.unhealthy != *reason {
            self.unhealthy.clone_from(reason);
            self.add(turn.now, What::Withheld { reason: reason.clone() });
        }
        if turn.now - since > turn.agent.policy().interval * LONGEST_UNHEALTHY {
            self.stop();
        }
    }

    fn event(&mut self, turn: &Turn<'_>) -> Option<What> {
        match turn.event {
            Event::RunnerStarted => turn.runner.pid().map(|pid| {
                let pid = pid.as_raw_pid();
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let process = RunnerProcess { pid, name: name.trim_end().to_owned(), error: None };
                match turn.runner.kind() {
                    RunnerKind::Child | RunnerKind::None => What::Started { process },
                    RunnerKind::Attached | RunnerKind::Followed => What::Attached { process },
                }
            }),
            Event::HeartbeatEnded(outcome, _) => Some(self.heartbeat(turn, outcome)),
            Event::LeaderExited(exit) => Some(What::LeaderExited { status: turn.status(exit) }),
            Event::RunnerGone => Some(What::Gone),
            Event::Stop(_) => Some(What::StopRequested),
            Event::CommandEnded(name, CommandResult::Exited(exit))
                if name != CommandName::HealthCheck =>
            {
                Some(What::CommandExited { name: name.to_string(), status: exit.0 })
            }
            Event::Due => {
                let state = (turn.agent.state(), turn.runner.kind());
                (state == (State::Waiting, RunnerKind::Followed)).then_some(What::Waiting)
            }
            Event::StartFailed(_)
            | Event::CommandEnded(..)
            | Event::LeaderStopped(_)
            | Event::Reloaded(_)
            | Event::Resumed(_) => None,
        }
    }

    fn action(&mut self, event: Event, done: &Done) -> Option<What> {
        let to: Vec<RunnerProcess> = done.signalled.iter().map(RunnerProcess::from).collect();
        Some(match done.action {
            Action::StopRunner if !to.is_empty() => {
                self.ladder.stopping(&done.signalled);
                What::Signal { name: self.ladder.signal().to_owned(), to }
            }
            Action::KillRunner if !to.is_empty() => {
                self.report.killed = true;
                // A second stop cuts the grace short: the runner is not to blame.
                if !matches!(event, Event::Stop(_)) {
                    self.ladder.killing(&to);
                }
                What::Signal { name: "SIGKILL".to_owned(), to }
            }
            Action::ContactLost => What::ContactLost,
            Action::ContactRegained(after) => {
                What::ContactRegained { after_seconds: after.as_secs_f64() }
            }
            Action::HealthRegained(after) => {
                What::HealthRegained { after_seconds: after.as_secs_f64() }
            }
            // The health check's failure is the reason why heartbeats are withheld.
            Action::StartCommand(name) if name != CommandName::HealthCheck => {
                What::CommandStarted { name: name.to_string() }
            }
            Action::KillCommand(name) if name != CommandName::HealthCheck => {
                What::CommandKilled { name: name.to_string() }
            }
            Action::StartRunner
            | Action::Send { .. }
            | Action::StopRunner
            | Action::KillRunner
            | Action::StartCommand(_)
            | Action::KillCommand(_)
            | Action::Abandon
            | Action::HealthLost
            | Action::Exit(_) => return None,
        })
    }
}

impl Observer for Reporter {
    fn observe(&mut self, turn: &Turn<'_>) {
        if let Some(what) = self.event(turn) {
            self.add(turn.now, what);
        }
        // A runner that is waited for is stopped without a ladder.
        let stopped = matches!(turn.event, Event::Stop(_)).then_some(Cause::Operator);
        let cause = turn.agent.stop_cause().or(stopped);
        self.stopping = self.stopping.or(cause.map(|cause| (cause, turn.now)));
        self.health(turn);
        for done in turn.done {
            if let Some(what) = self.action(turn.event, done) {
                self.add(turn.now, what);
            }
        }
    }
}

impl Report {
    /// The verdict, and what to change.
    pub(super) fn verdict(&self, coloured: bool) -> String {
        let Self { plan: Plan { steps, grace_seconds, .. }, played, exit_status, .. } = self;
        let (verdict, colour) = if self.passed { ("passed", GREEN) } else { ("FAILED", RED) };
        let end = match self.stop_seconds {
            _ if self.killed => "the runner had to be killed".to_owned(),
            Some(seconds) => format!("the runner stopped within {}", human(seconds)),
            None => "no runner was stopped".to_owned(),
        };
        let end = format!("{end} (grace {})", human(*grace_seconds));
        let verdict =
            format_args!("{verdict}: {played} of {steps} steps, {end}, exit status {exit_status}");
        let mut lines = line(coloured, colour, &verdict);
        for finding in &self.findings {
            lines.push_str(&line(coloured, PLAIN, &format_args!("  {finding}")));
        }
        lines
    }
}

fn result(outcome: Outcome) -> String {
    match outcome {
        Outcome::Acknowledged { terminate: false } => "acknowledged".to_owned(),
        Outcome::Acknowledged { terminate: true } => "terminate".to_owned(),
        Outcome::Failed(failure) => failure.class.to_string(),
    }
}
