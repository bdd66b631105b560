//! The report of a rehearsal: how the daemon took each heartbeat, and what happened to the runner.

use std::fmt;
use std::time::Duration;

use humantime::format_duration;
use serde::Serialize;
use signal_hook::consts::SIGTERM;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::core::{Action, Event, Exit, FailureClass, Outcome, Time};
use crate::daemon::{Observer, Turn};
use crate::endpoint::Step;
use crate::signals::Stop;

/// The result of a rehearsal. Times are seconds since its start.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// True if every step was played and no process had to be killed.
    pub(super) passed: bool,
    steps: usize,
    played: usize,
    killed: bool,
    grace_seconds: f64,
    exit_status: u8,
    heartbeats: Vec<Beat>,
    /// When the last response with `terminate` arrived.
    terminate_at: Option<f64>,
    runner: Vec<Entry>,
}

/// One heartbeat, as the script and the daemon saw it.
#[derive(Debug, Serialize)]
struct Beat {
    ended_at: f64,
    /// The step of the script; `None` if the endpoint was not reached.
    step: Option<&'static str>,
    result: BeatResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum BeatResult {
    Acknowledged,
    Terminate,
    Transient,
    Throttled,
    Rejected,
}

/// What happened to the runner.
#[derive(Debug, Serialize)]
struct Entry {
    at: f64,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum What {
    Started { pid: i32 },
    LeaderExited { status: Option<u8> },
    Gone,
    StopRequested,
    StopSignal { process: String },
    Sigkill { process: String },
}

/// Collects the report.
pub(super) struct Reporter {
    report: Report,
    /// The steps as the endpoint plays them.
    steps: UnboundedReceiver<Step>,
    /// Stops the daemon, as an operator would.
    stop: UnboundedSender<Stop>,
}

impl Reporter {
    pub(super) fn new(
        steps: usize,
        grace: Duration,
        played: UnboundedReceiver<Step>,
        stop: UnboundedSender<Stop>,
    ) -> Self {
        Self {
            report: Report {
                passed: false,
                steps,
                played: 0,
                killed: false,
                grace_seconds: grace.as_secs_f64(),
                exit_status: 0,
                heartbeats: Vec::new(),
                terminate_at: None,
                runner: Vec::new(),
            },
            steps: played,
            stop,
        }
    }

    /// The report of a daemon that exited with `exit`.
    pub(super) fn report(self, exit: Exit) -> Report {
        let mut report = self.report;
        report.played = report.heartbeats.iter().filter(|beat| beat.step.is_some()).count();
        report.passed = !report.killed && report.played >= report.steps;
        report.exit_status = exit.0;
        report
    }

    fn add(&mut self, now: Time, what: What) {
        self.report.runner.push(Entry { at: seconds(now), what });
    }
}

impl Observer for Reporter {
    fn observe(&mut self, turn: &Turn<'_>) {
        match turn.event {
            Event::HeartbeatEnded(outcome, _) => {
                let result = BeatResult::from(outcome);
                if result == BeatResult::Terminate {
                    self.report.terminate_at = Some(seconds(turn.now));
                }
                self.report.heartbeats.push(Beat {
                    ended_at: seconds(turn.now),
                    step: self.steps.try_recv().ok().map(Step::name),
                    result,
                });
                // The end of a script without `terminate`.
                let ended = self.report.heartbeats.len() >= self.report.steps;
                if ended && turn.agent.state().cause().is_none() {
                    // It fails only when the loop has ended.
                    let _ = self.stop.send(Stop {
                        signal: u8::try_from(SIGTERM).unwrap_or_default(),
                        from_terminal: false,
                    });
                }
            }
            Event::RunnerStarted => {
                if let Some(pid) = turn.runner.pid() {
                    self.add(turn.now, What::Started { pid: pid.as_raw_pid() });
                }
            }
            Event::LeaderExited(exit) => {
                let status = turn.status(exit);
                self.add(turn.now, What::LeaderExited { status });
            }
            Event::RunnerGone => self.add(turn.now, What::Gone),
            Event::Stop(_) => self.add(turn.now, What::StopRequested),
            Event::Due
            | Event::StartFailed(_)
            | Event::LeaderStopped(_)
            | Event::CommandEnded(..)
            | Event::Reloaded(_)
            | Event::Resumed(_) => {}
        }
        for done in turn.done {
            let killing = done.action == Action::KillRunner;
            self.report.killed |= killing && !done.signalled.is_empty();
            for signalled in &done.signalled {
                let process = signalled.to_string();
                let what =
                    if killing { What::Sigkill { process } } else { What::StopSignal { process } };
                self.add(turn.now, what);
            }
        }
    }
}

impl From<Outcome> for BeatResult {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Acknowledged { terminate: false } => Self::Acknowledged,
            Outcome::Acknowledged { terminate: true } => Self::Terminate,
            Outcome::Failed(failure) => match failure.class {
                FailureClass::Transient => Self::Transient,
                FailureClass::Throttled => Self::Throttled,
                FailureClass::Rejected => Self::Rejected,
            },
        }
    }
}

impl fmt::Display for BeatResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "acknowledged",
            Self::Terminate => "acknowledged, terminate",
            Self::Transient => "transient, retried",
            Self::Throttled => "throttled, retried",
            Self::Rejected => "rejected, retried",
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { pid } => write!(f, "started, pid {pid}"),
            Self::LeaderExited { status: Some(status) } => {
                write!(f, "leader exited, status {status}")
            }
            Self::LeaderExited { status: None } => f.write_str("exited"),
            Self::Gone => f.write_str("no process left"),
            Self::StopRequested => f.write_str("stop requested"),
            Self::StopSignal { process } => write!(f, "stop signal to {process}"),
            Self::Sigkill { process } => write!(f, "SIGKILL to {process}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nheartbeat     ended  step       result")?;
        for (number, beat) in (1..).zip(&self.heartbeats) {
            let (ended, step) = (beat.ended_at, beat.step.unwrap_or("-"));
            writeln!(f, "{number:>9}  {ended:>7.3}s  {step:<9}  {}", beat.result)?;
        }
        writeln!(f, "\n   at     after terminate  runner")?;
        for Entry { at, what } in &self.runner {
            let after = match self.terminate_at {
                Some(terminate) if terminate <= *at => format!("+{:.3}s", at - terminate),
                _ => String::new(),
            };
            writeln!(f, "{at:>6.3}s  {after:>15}  {what}")?;
        }
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let killed =
            if self.killed { "the runner had to be killed" } else { "no process had to be killed" };
        let grace = Duration::try_from_secs_f64(self.grace_seconds).unwrap_or_default();
        writeln!(
            f,
            "\n{verdict}: {} of {} steps, {killed} (grace {}), exit status {}",
            self.played,
            self.steps,
            format_duration(grace),
            self.exit_status
        )
    }
}

fn seconds(time: Time) -> f64 {
    time.since_start().as_secs_f64()
}
