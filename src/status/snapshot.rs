//! The state of a daemon at one moment, which `status`, systemd and programs show.

use std::fmt;
use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::core::{Agent, Cause, Contact, Rung, State, Time};
use crate::runner::Runner;
use crate::text;

/// The state of a daemon. Times are relative to the moment at which it was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) pid: u32,
    /// How long the daemon has been running, awake.
    pub(crate) uptime_seconds: f64,
    pub(crate) state: Phase,
    pub(crate) stop_cause: Option<StopCause>,
    /// True while heartbeats are acknowledged, each within two intervals, and after `terminate`.
    pub(crate) in_contact: bool,
    /// When the present contact began; `None` if there is none.
    pub(crate) contact_began_seconds_ago: Option<f64>,
    /// When contact was lost; `None` if it was not.
    pub(crate) contact_lost_seconds_ago: Option<f64>,
    /// When the last acknowledged heartbeat started.
    pub(crate) acknowledged_seconds_ago: Option<f64>,
    /// How many heartbeats have failed since.
    pub(crate) failures: u32,
    pub(crate) failure: Option<String>,
    /// Since when heartbeats are withheld, because the runner is unhealthy; `None` if it is not.
    pub(crate) unhealthy_seconds: Option<f64>,
    pub(crate) unhealthy: Option<String>,
    /// True if the account has more runners than its limit has room for.
    pub(crate) over_limit: bool,
    /// When the next heartbeat starts; `None` while one is in flight and if none is to follow.
    pub(crate) next_heartbeat_in_seconds: Option<f64>,
    pub(crate) runner_pid: Option<i32>,
    pub(crate) runner_uptime_seconds: Option<f64>,
}

/// What a daemon is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    #[default]
    Starting,
    Waiting,
    Running,
    OnTerminate,
    Stopping,
    Killing,
    Idle,
    Exiting,
    /// A state of a newer taskbeat.
    #[serde(other)]
    Unknown,
}

/// Why a runner is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StopCause {
    LeaderExited,
    Operator,
    LostContact,
    Terminate,
    #[serde(other)]
    Unknown,
}

impl From<State> for Phase {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Waiting => Self::Waiting,
            State::Running => Self::Running,
            State::OnTerminate { .. } => Self::OnTerminate,
            State::Ladder { rung, .. } => match rung {
                Rung::Stop => Self::Stopping,
                Rung::Kill => Self::Killing,
            },
            State::Idle => Self::Idle,
            State::Stopped => Self::Exiting,
        }
    }
}

impl From<Cause> for StopCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Ended => Self::LeaderExited,
            Cause::Operator => Self::Operator,
            Cause::LostContact => Self::LostContact,
            Cause::Terminate => Self::Terminate,
        }
    }
}

impl Snapshot {
    /// The state at `now`. `failure` is why the newest heartbeat failed, and `unhealthy` why the
    /// runner was last found unhealthy.
    pub(crate) fn take(
        now: Time,
        agent: &Agent,
        runner: &Runner,
        failure: Option<&str>,
        unhealthy: &str,
    ) -> Self {
        let schedule = agent.schedule();
        let ago = |time: Time| (now - time).as_secs_f64();
        let (began, lost) = match schedule.contact() {
            Contact::Pending { .. } => (None, None),
            Contact::Held { since, .. } => (Some(ago(since)), None),
            Contact::Lost { since } => (None, Some(ago(since))),
        };
        let pid = runner.pid().map(Pid::as_raw_pid);
        let failing = schedule.failures() > 0;
        Self {
            pid: std::process::id(),
            uptime_seconds: now.since_start().as_secs_f64(),
            state: agent.state().into(),
            stop_cause: agent.state().cause().map(StopCause::from),
            in_contact: schedule.in_contact(),
            contact_began_seconds_ago: began,
            contact_lost_seconds_ago: lost,
            acknowledged_seconds_ago: schedule.acknowledged_at().map(ago),
            failures: schedule.failures(),
            failure: failure.filter(|_| failing).map(str::to_owned),
            unhealthy_seconds: schedule.unhealthy_since().map(ago),
            unhealthy: schedule.unhealthy_since().map(|_| unhealthy.to_owned()),
            over_limit: agent.over_limit(now),
            next_heartbeat_in_seconds: schedule.due().map(|due| (due - now).as_secs_f64()),
            runner_pid: pid,
            runner_uptime_seconds: agent.runner_since().filter(|_| pid.is_some()).map(ago),
        }
    }

    /// The snapshot in one line, for `systemctl status`. It is sent once a minute, so a minute is
    /// its smallest unit.
    pub(crate) fn line(&self) -> String {
        let mut parts = Vec::new();
        if self.state != Phase::Running {
            parts.push(self.describe_state());
        }
        parts.extend(self.describe_heartbeats());
        if self.over_limit {
            parts.push("the AWS account is over its limit".to_owned());
        }
        if let Some(pid) = self.runner_pid {
            let up = coarse(self.runner_uptime_seconds.unwrap_or_default());
            parts.push(format!("runner pid {pid} up {up}"));
        }
        // The longest parts come last.
        parts.extend(self.describe_health(coarse));
        parts.extend(self.failure.clone());
        parts.join("; ")
    }

    fn describe_state(&self) -> String {
        match (self.state, self.stop_cause) {
            (Phase::Stopping | Phase::Killing, Some(cause)) => format!("{}: {cause}", self.state),
            (state, _) => state.to_string(),
        }
    }

    fn describe_heartbeats(&self) -> Option<String> {
        let running = self.state == Phase::Running;
        let acknowledged = self.acknowledged_seconds_ago.map(coarse);
        let so_far = match (self.failures, acknowledged) {
            (0, Some(ago)) => format!("acknowledged {ago} ago"),
            (0, None) if running => "not acknowledged yet".to_owned(),
            (0, None) => return None,
            (failures, acknowledged) => {
                let failed = match failures {
                    1 => "1 heartbeat failed".to_owned(),
                    _ => format!("{failures} heartbeats in a row failed"),
                };
                let last = acknowledged.map_or_else(
                    || "never acknowledged".to_owned(),
                    |ago| format!("last acknowledged {ago} ago"),
                );
                format!("{failed}, {last}")
            }
        };
        Some(match self.next_heartbeat_in_seconds.map(coarse) {
            Some(next) => format!("{so_far}, next in {next}"),
            None if running => format!("{so_far}, waiting for a response"),
            None => so_far,
        })
    }

    fn describe_health(&self, duration: impl Fn(f64) -> String) -> Option<String> {
        let (lasts, reason) = (self.unhealthy_seconds?, self.unhealthy.as_ref()?);
        Some(format!("unhealthy for {}, heartbeats withheld: {reason}", duration(lasts)))
    }

    fn describe_contact(&self) -> String {
        let (began, lost) = (self.contact_began_seconds_ago, self.contact_lost_seconds_ago);
        match (self.in_contact, began, lost) {
            (true, Some(began), _) => format!("yes, for {}", human(began)),
            (true, None, _) => "yes".to_owned(),
            (false, _, Some(lost)) => format!("NO, lost for {}", human(lost)),
            (false, _, None) => "NO, not yet".to_owned(),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting for the runner",
            Self::Running => "running",
            Self::OnTerminate => "running on-terminate",
            Self::Stopping => "stopping the runner",
            Self::Killing => "killing the runner",
            Self::Idle => "idle after terminate",
            Self::Exiting => "exiting",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaderExited => "the leader exited",
            Self::Operator => "stop requested",
            Self::LostContact => "contact lost",
            Self::Terminate => "terminate received",
            Self::Unknown => "unknown cause",
        })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, up) = (self.describe_state(), human(self.uptime_seconds));
        writeln!(f, "state         {state}, pid {}, up {up}", self.pid)?;
        writeln!(f, "in contact    {}", self.describe_contact())?;
        let acknowledged = self
            .acknowledged_seconds_ago
            .map_or("never".to_owned(), |ago| format!("{} ago", human(ago)));
        writeln!(f, "acknowledged  {acknowledged}")?;
        if let Some(failure) = &self.failure {
            writeln!(f, "failing       {} in a row: {failure}", self.failures)?;
        }
        if let Some(health) = self.describe_health(human) {
            writeln!(f, "health        {health}")?;
        }
        if self.over_limit {
            writeln!(
                f,
                "limit         the AWS account is over 1 heartbeat per second for all its runners"
            )?;
        }
        let next = self
            .next_heartbeat_in_seconds
            .map_or("-".to_owned(), |next| format!("in {}", human(next)));
        writeln!(f, "next          {next}")?;
        match (self.runner_pid, self.runner_uptime_seconds) {
            (Some(pid), Some(up)) => writeln!(f, "runner        pid {pid}, up {}", human(up)),
            (Some(pid), None) => writeln!(f, "runner        pid {pid}"),
            (None, _) => writeln!(f, "runner        none"),
        }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Whole seconds.
fn human(seconds: f64) -> String {
    let seconds = Duration::from_secs(duration(seconds).as_secs());
    humantime::format_duration(seconds).to_string()
}

fn coarse(seconds: f64) -> String {
    text::coarse(duration(seconds))
}
