//! What a rehearsal shows at its end.

use std::fmt;
use std::time::Duration;

use humantime::format_duration;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::core::{Action, Event, Exit, Outcome, Time};
use crate::daemon::{Observer, Turn};
use crate::endpoint as script;

/// One heartbeat, as the script and the daemon saw it.
struct Heartbeat {
    answered: Time,
    /// What the endpoint did; `None` when it was not reached.
    step: Option<script::Step>,
    taken: String,
}

/// How the daemon and the runner took each step of the script.
pub(super) struct Report {
    steps: usize,
    grace: Duration,
    /// The steps as the endpoint plays them.
    plays: UnboundedReceiver<script::Step>,
    heartbeats: Vec<Heartbeat>,
    /// The last answer that said terminate.
    terminate: Option<Time>,
    /// What happened to the runner, and when.
    runner: Vec<(Time, String)>,
    killed: bool,
    exit: Option<Exit>,
}

impl Report {
    pub(super) fn new(
        steps: usize,
        grace: Duration,
        plays: UnboundedReceiver<script::Step>,
    ) -> Self {
        Self {
            steps,
            grace,
            plays,
            heartbeats: Vec::new(),
            terminate: None,
            runner: Vec::new(),
            killed: false,
            exit: None,
        }
    }

    /// The daemon's exit status.
    pub(super) fn exit(&mut self, exit: Exit) {
        self.exit = Some(exit);
    }

    /// True when every step was played and nobody had to be killed.
    pub(super) fn passed(&self) -> bool {
        !self.killed && self.played() >= self.steps
    }

    fn played(&self) -> usize {
        let reached = |heartbeat: &&Heartbeat| heartbeat.step.is_some();
        self.heartbeats.iter().filter(reached).count()
    }
}

impl Observer for Report {
    fn observe(&mut self, step: &Turn<'_>) {
        match step.event {
            Event::HeartbeatEnded(answer, _) => {
                let taken = match answer {
                    Outcome::Acknowledged { terminate: false } => "acknowledged".to_owned(),
                    Outcome::Acknowledged { terminate: true } => {
                        self.terminate = Some(step.now);
                        "acknowledged, terminate".to_owned()
                    }
                    Outcome::Failed(fault) => format!("{:?}, retried", fault.class).to_lowercase(),
                };
                self.heartbeats.push(Heartbeat {
                    answered: step.now,
                    step: self.plays.try_recv().ok(),
                    taken,
                });
            }
            Event::RunnerUp => {
                if let Some(pid) = step.runner.pid() {
                    let pid = pid.as_raw_pid();
                    self.runner.push((step.now, format!("started, pid {pid}")));
                }
            }
            Event::RunnerEnded(exit) => {
                let what = match step.status(exit) {
                    Some(status) => format!("its leader ended, status {status}"),
                    None => "it ended".to_owned(),
                };
                self.runner.push((step.now, what));
            }
            Event::RunnerGone => self
                .runner
                .push((step.now, "nothing of it is left".to_owned())),
            Event::Stop => self
                .runner
                .push((step.now, "the operator says stop".to_owned())),
            Event::Due
            | Event::RunnerRefused(_)
            | Event::HookEnded
            | Event::Reloaded(_)
            | Event::Resumed(_)
            | Event::Job(_) => {}
        }
        for (action, processes) in step.done {
            let what = match action {
                Action::StopRunner => "stop signal",
                Action::KillRunner => "SIGKILL",
                Action::StartRunner
                | Action::Send { .. }
                | Action::Abandon
                | Action::StartHook
                | Action::KillHook
                | Action::Forward(_)
                | Action::Continue
                | Action::Suspend
                | Action::Exit(_) => continue,
            };
            self.killed |= *action == Action::KillRunner && !processes.is_empty();
            for process in processes {
                self.runner.push((step.now, format!("{what} to {process}")));
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nheartbeat  answered  step       taken as")?;
        for (number, heartbeat) in (1..).zip(&self.heartbeats) {
            let answered = seconds(heartbeat.answered.since_start());
            let step = heartbeat.step.map_or("-", script::Step::name);
            writeln!(
                f,
                "{number:>9}  {answered:>8}  {step:<9}  {}",
                heartbeat.taken
            )?;
        }
        writeln!(f, "\n   at     after terminate  runner")?;
        for (at, what) in &self.runner {
            let after = match self.terminate {
                Some(terminate) if terminate <= *at => format!("+{}", seconds(*at - terminate)),
                _ => String::new(),
            };
            writeln!(f, "{:>7}  {after:>15}  {what}", seconds(at.since_start()))?;
        }
        let (played, steps) = (self.played(), self.steps);
        let killed = if self.killed {
            "it had to be killed"
        } else {
            "nobody had to be killed"
        };
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let grace = format_duration(self.grace);
        writeln!(
            f,
            "\n{verdict}: {played} of {steps} steps, {killed} (grace {grace}), exit status {}",
            self.exit.map_or(0, |exit| exit.0)
        )
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}
