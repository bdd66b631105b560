//! The timeline of a rehearsal: what happened, as lines for people and as JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::endpoint::{HeartbeatRequest, Step};
use crate::runner::Signalled;
use crate::text;

/// What happened, and when.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    /// From the start of the daemon.
    pub(super) at_seconds: f64,
    /// From the cause of the stop; `None` before it.
    pub(super) since_stop_seconds: Option<f64>,
    #[serde(flatten)]
    pub(super) what: What,
}

/// `Attached` is the start of another supervisor's process, which `Waiting` waits for, and whose
/// status `LeaderExited` lacks. Heartbeats are `Withheld` because the runner is unhealthy. `Gone`
/// means that no process of the runner is left.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum What {
    Waiting,
    Started { process: RunnerProcess },
    Attached { process: RunnerProcess },
    Heartbeat(Heartbeat),
    Withheld { reason: String },
    HealthRegained { after_seconds: f64 },
    ContactLost,
    ContactRegained { after_seconds: f64 },
    CommandStarted { name: String },
    CommandExited { name: String, status: u8 },
    CommandKilled { name: String },
    StopRequested,
    Signal { name: String, to: Vec<RunnerProcess> },
    LeaderExited { status: Option<u8> },
    Gone,
}

/// A heartbeat that has ended.
#[derive(Debug, Serialize)]
pub(super) struct Heartbeat {
    pub(super) number: usize,
    /// `None` if the endpoint was not reached.
    pub(super) step: Option<Step>,
    pub(super) sent: Option<HeartbeatRequest>,
    pub(super) result: String,
    pub(super) message: String,
    pub(super) request_id: Option<String>,
    pub(super) took_seconds: f64,
    pub(super) next_in_seconds: Option<f64>,
}

/// A process of the runner.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RunnerProcess {
    pub(super) pid: i32,
    pub(super) name: String,
    /// Why the signal could not be sent, if it could not.
    pub(super) error: Option<String>,
}

impl From<&Signalled> for RunnerProcess {
    fn from(signalled: &Signalled) -> Self {
        let process = &signalled.process;
        Self { pid: process.pid.as_raw_pid(), name: process.name.clone(), error: signalled.error() }
    }
}

impl fmt::Display for RunnerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A process chooses its name, which may contain line breaks.
        write!(f, "{}[{}]", self.name.escape_debug(), self.pid)?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, " ({error})"))
    }
}

/// Colours of lines, as parameters of the escape sequence.
pub(super) const PLAIN: u8 = 0;
pub(super) const RED: u8 = 31;
pub(super) const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;

/// A line of taskbeat. The prefix tells it from the runner's, which go to the same place.
pub(super) fn line(coloured: bool, colour: u8, text: &impl fmt::Display) -> String {
    if coloured {
        format!("\x1b[2mtaskbeat |\x1b[0;{colour}m {text}\x1b[0m\n")
    } else {
        format!("taskbeat | {text}\n")
    }
}

impl fmt::Display for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.map_or("-", Step::name);
        // The step says the rest.
        let result = self.result.replace("terminate", "acknowledged");
        write!(f, "{:<3}{step:<9}  {result} in {}", self.number, human(self.took_seconds))?;
        if let Some(next) = self.next_in_seconds {
            write!(f, ", next in {}", human(next))?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.sent {
            // All others send the same.
            Some(sent) if self.number == 1 => {
                write!(f, "; sent {}", serde_json::to_string(sent).unwrap_or_default())
            }
            _ => Ok(()),
        }
    }
}

impl Entry {
    pub(super) fn line(&self, coloured: bool) -> String {
        let (topic, colour, text) = self.what.show();
        let since = self.since_stop_seconds.map(|since| format!("{:>+6.0}ms  ", since * 1000.0));
        let (at, since) = (self.at_seconds, since.unwrap_or_default());
        line(coloured, colour, &format_args!("{at:>7.3}s  {topic:<9}  {since}{text}"))
    }
}

impl What {
    /// The topic of the line, its colour and its text.
    fn show(&self) -> (&'static str, u8, String) {
        match self {
            Self::Waiting => {
                ("runner", YELLOW, "waiting for the pid file; --log info says why".into())
            }
            Self::Started { process } => ("runner", PLAIN, format!("{process} started")),
            Self::Attached { process } => {
                ("runner", YELLOW, format!("{process} attached; `terminate` really stops it"))
            }
            Self::Heartbeat(heartbeat) => {
                let colour = if heartbeat.message.is_empty() { GREEN } else { YELLOW };
                ("heartbeat", colour, heartbeat.to_string())
            }
            Self::Withheld { reason } => {
                ("health", YELLOW, format!("heartbeats are withheld: {reason}"))
            }
            Self::HealthRegained { after_seconds } => {
                ("health", GREEN, format!("healthy again after {}", human(*after_seconds)))
            }
            Self::ContactLost => {
                ("contact", RED, "lost: no acknowledged heartbeat for two intervals".into())
            }
            Self::ContactRegained { after_seconds } => {
                ("contact", GREEN, format!("regained after {}", human(*after_seconds)))
            }
            Self::CommandStarted { name } => ("command", PLAIN, format!("{name} started")),
            Self::CommandExited { name, status } => {
                ("command", PLAIN, format!("{name} exited, status {status}"))
            }
            Self::CommandKilled { name } => ("command", RED, format!("SIGKILL to {name}")),
            Self::StopRequested => ("stop", CYAN, "requested".into()),
            Self::Signal { name, to } => {
                let colour = if name == "SIGKILL" { RED } else { CYAN };
                ("stop", colour, format!("{name} to {}", text::list(to)))
            }
            Self::LeaderExited { status } => {
                let status = status.map(|n| format!(", status {n}")).unwrap_or_default();
                ("runner", PLAIN, format!("leader exited{status}"))
            }
            Self::Gone => ("runner", PLAIN, "no process left".into()),
        }
    }
}

pub(super) fn human(seconds: f64) -> String {
    text::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
