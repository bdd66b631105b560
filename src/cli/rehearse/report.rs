//! The report of a rehearsal: collected from the turns of the daemon, and printed line by line.

use std::fs;
use std::io::Write;

use serde::Serialize;
use signal_hook::consts::SIGTERM;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::timeline::{Entry, GREEN, Heartbeat, PLAIN, Process, RED, What, human, line};
use super::verdict::{Cause, Finding, Ladder};
use crate::core::{
    self, Action, CommandName, CommandResult, Event, Exit, FailureClass, Outcome, RunnerKind,
    State, Time,
};
use crate::daemon::{Done, Observer, Turn};
use crate::endpoint::Played;
use crate::signals::Stop;

/// The result of a rehearsal, as `--json` prints it; see docs/rehearse.schema.json.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// True if every step was played and no process had to be killed.
    pub(super) passed: bool,
    steps: usize,
    played: usize,
    killed: bool,
    grace_seconds: f64,
    /// From the cause of the stop to the runner's end; `None` if no runner was stopped.
    stop_seconds: Option<f64>,
    /// The exit status of `taskbeat run`.
    exit_status: u8,
    findings: Vec<Finding>,
    timeline: Vec<Entry>,
}

/// A rehearsal ends when the runner was unhealthy for more than this many intervals.
const LONGEST_UNHEALTHY: u32 = 60;

/// Collects the report, and prints its timeline to `out`.
pub(super) struct Reporter<W> {
    out: W,
    coloured: bool,
    report: Report,
    ladder: Ladder,
    /// The heartbeats, as the endpoint answers them.
    played: UnboundedReceiver<Played>,
    /// Stops the daemon, as an operator would, once.
    stop: Option<UnboundedSender<Stop>>,
    heartbeats: usize,
    /// When the newest heartbeat was sent.
    sent: Time,
    /// Why and since when the runner is being stopped.
    stopping: Option<(core::Cause, Time)>,
    start_failed: bool,
    /// Why the runner is unhealthy; empty while it is healthy.
    unhealthy: String,
}

impl<W: Write> Reporter<W> {
    pub(super) fn new(
        (out, coloured): (W, bool),
        steps: usize,
        ladder: Ladder,
        played: UnboundedReceiver<Played>,
        stop: UnboundedSender<Stop>,
    ) -> Self {
        let grace_seconds = ladder.grace.as_secs_f64();
        Self {
            out,
            coloured,
            report: Report { steps, grace_seconds, ..Report::default() },
            ladder,
            played,
            stop: Some(stop),
            heartbeats: 0,
            sent: Time::ZERO,
            stopping: None,
            start_failed: false,
            unhealthy: String::new(),
        }
    }

    pub(super) fn add(&mut self, now: Time, what: What) {
        let since_stop_seconds = self.stopping.map(|(_, since)| (now - since).as_secs_f64());
        if matches!(what, What::LeaderExited { .. } | What::Gone) {
            self.report.stop_seconds = since_stop_seconds;
        }
        let at_seconds = now.since_start().as_secs_f64();
        let entry = Entry { at_seconds, since_stop_seconds, what };
        // The verdict, printed later, reports a failure to write.
        let _ = self.out.write_all(entry.line(self.coloured).as_bytes());
        self.report.timeline.push(entry);
    }

    /// The report of a daemon that exited with `exit`.
    pub(super) fn report(self, exit: Exit) -> Report {
        let Report { played, steps, .. } = self.report;
        let killed = self.ladder.has_killed();
        let ended_early = played < steps || self.start_failed;
        let mut findings = self.ladder.findings();
        findings.extend(ended_early.then(|| self.ended_early()));
        let mut timeline = self.report.timeline.iter();
        let told = findings.iter().any(|finding| finding.cause == Cause::Unhealthy);
        if !told && timeline.any(|entry| matches!(entry.what, What::Withheld { .. })) {
            findings.push(self.ladder.finding(Cause::Unhealthy, Vec::new()));
        }
        let passed = !killed && !ended_early;
        Report { passed, killed, exit_status: exit.0, findings, ..self.report }
    }

    fn ended_early(&self) -> Finding {
        let cause = match self.stopping {
            _ if self.start_failed => Cause::NotStarted,
            Some((core::Cause::Operator, _)) if !self.unhealthy.is_empty() => Cause::Unhealthy,
            Some((core::Cause::Operator, _)) => Cause::Stopped,
            Some((core::Cause::LostContact, _)) => Cause::LostContact,
            Some((core::Cause::Ended | core::Cause::Terminate, _)) | None => Cause::RunnerExited,
        };
        self.ladder.finding(cause, Vec::new())
    }

    fn heartbeat(&mut self, turn: &Turn<'_>, outcome: Outcome) {
        // Those before the newest were abandoned.
        let mut newest = None;
        while let Ok(played) = self.played.try_recv() {
            newest = Some(played);
        }
        self.report.played += usize::from(newest.is_some());
        self.heartbeats += 1;
        let (next, response) = (turn.agent.schedule().due(), turn.details.response.as_ref());
        let heartbeat = Heartbeat {
            number: self.heartbeats,
            step: newest.as_ref().map(|played| played.step),
            sent: newest.map(|played| played.heartbeat),
            result: result(outcome),
            message: response.map(|response| response.message.clone()).unwrap_or_default(),
            request_id: response.and_then(|response| response.request_id.clone()),
            took_seconds: (turn.now - self.sent).as_secs_f64(),
            next_in_seconds: next.map(|next| (next - turn.now).as_secs_f64()),
        };
        self.add(turn.now, What::Heartbeat(heartbeat));
        // The end of a script without `terminate`.
        let ended = self.heartbeats >= self.report.steps;
        if ended && turn.agent.state().cause().is_none() {
            self.stop();
        }
    }

    fn stop(&mut self) {
        let signal = u8::try_from(SIGTERM).unwrap_or_default();
        if let Some(stop) = self.stop.take() {
            // It fails only when the loop has ended.
            let _ = stop.send(Stop { signal, from_terminal: false });
        }
    }

    fn health(&mut self, turn: &Turn<'_>) {
        let Some(since) = turn.agent.schedule().unhealthy_since() else {
            self.unhealthy.clear();
            return;
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

    fn action(&mut self, now: Time, done: &Done) {
        let processes: Vec<Process> = done.signalled.iter().map(Process::from).collect();
        let what = match done.action {
            Action::Send { .. } => {
                self.sent = now;
                return;
            }
            Action::StopRunner | Action::KillRunner if processes.is_empty() => return,
            Action::StopRunner => {
                self.ladder.stopping(&done.signalled);
                What::Signalled { signal: self.ladder.signal(), processes }
            }
            Action::KillRunner => {
                self.ladder.killing(&done.signalled);
                What::Signalled { signal: "SIGKILL", processes }
            }
            Action::ContactLost => What::ContactLost,
            Action::ContactRegained(after) => {
                What::ContactRegained { after_seconds: after.as_secs_f64() }
            }
            Action::HealthRegained(after) => {
                What::HealthRegained { after_seconds: after.as_secs_f64() }
            }
            Action::StartRunner
            | Action::Abandon
            | Action::Exit(_)
            // Its failure is told as the reason why heartbeats are withheld.
            | Action::HealthLost
            | Action::StartCommand(CommandName::HealthCheck)
            | Action::KillCommand(CommandName::HealthCheck) => return,
            Action::StartCommand(name) => What::CommandStarted { command: name.to_string() },
            Action::KillCommand(name) => {
                What::CommandEnded { command: name.to_string(), result: "killed", status: None }
            }
        };
        self.add(now, what);
    }
}

impl<W: Write> Observer for Reporter<W> {
    fn observe(&mut self, turn: &Turn<'_>) {
        let what = match turn.event {
            Event::RunnerStarted => turn.runner.pid().map(|pid| {
                let pid = pid.as_raw_pid();
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let process = Process { pid, name: name.trim_end().to_owned(), error: None };
                What::Started { process, attached: turn.runner.kind() != RunnerKind::Child }
            }),
            Event::HeartbeatEnded(outcome, _) => {
                self.heartbeat(turn, outcome);
                None
            }
            Event::LeaderExited(exit) => Some(What::LeaderExited { status: turn.status(exit) }),
            Event::RunnerGone => Some(What::Gone),
            Event::Stop(_) => Some(What::StopRequested),
            Event::CommandEnded(CommandName::HealthCheck, _) => None,
            Event::CommandEnded(name, result) => {
                let (result, status) = match result {
                    CommandResult::Exited(exit) => ("exited", Some(exit.0)),
                    CommandResult::NotStarted => ("not started", None),
                };
                Some(What::CommandEnded { command: name.to_string(), result, status })
            }
            Event::Due
                if turn.agent.state() == State::Waiting
                    && turn.runner.kind() == RunnerKind::Followed =>
            {
                Some(What::Waiting)
            }
            Event::StartFailed(_)
            | Event::LeaderStopped(_)
            | Event::Due
            | Event::Reloaded(_)
            | Event::Resumed(_) => None,
        };
        if let Some(what) = what {
            self.add(turn.now, what);
        }
        self.start_failed |= matches!(turn.event, Event::StartFailed(_));
        let cause = match turn.agent.state().cause() {
            // A runner that waits is not stopped step by step.
            None if turn.agent.first_stop().is_some() => Some(core::Cause::Operator),
            cause => cause,
        };
        self.stopping = self.stopping.or(cause.map(|cause| (cause, turn.now)));
        self.health(turn);
        for done in turn.done {
            self.action(turn.now, done);
        }
    }
}

impl Report {
    /// The verdict, and what to change.
    pub(super) fn verdict(&self, coloured: bool) -> String {
        let Self { played, steps, exit_status, .. } = self;
        let (verdict, colour) = if self.passed { ("passed", GREEN) } else { ("FAILED", RED) };
        let end = match self.stop_seconds {
            _ if self.killed => "the runner had to be killed".to_owned(),
            Some(seconds) => format!("the runner stopped within {}", human(seconds)),
            None => "no runner was stopped".to_owned(),
        };
        let end = format!("{end} (grace {})", human(self.grace_seconds));
        let verdict =
            format_args!("{verdict}: {played} of {steps} steps, {end}, exit status {exit_status}");
        let mut lines = line(coloured, colour, &verdict);
        for finding in &self.findings {
            lines.push_str(&line(coloured, PLAIN, &format_args!("  {finding}")));
        }
        lines
    }
}

fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Acknowledged { terminate: false } => "acknowledged",
        Outcome::Acknowledged { terminate: true } => "terminate",
        Outcome::Failed(failure) => match failure.class {
            FailureClass::Transient => "transient",
            FailureClass::Throttled => "throttled",
            FailureClass::Rejected => "rejected",
        },
    }
}
