//! The state of a daemon at one moment, which `status`, systemd and programs show.

use std::fmt;
use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::Tally;
use crate::clock::WallTime;
use crate::config::Identity;
use crate::core::{Agent, Cause, Contact, Rung, RunnerKind, State, Time};
use crate::runner::Runner;
use crate::{log, text};

/// The state of a daemon. `docs/status.schema.json` describes it as JSON.
///
/// Seconds are awake time, from or to the moment at which the snapshot was taken. A field that
/// another version of taskbeat does not send has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Snapshot {
    pub(crate) version: String,
    /// With placeholders as long as the metadata service has not filled them.
    pub(crate) taskrunner_id: String,
    pub(crate) worker_group: Option<String>,
    pub(crate) pid: u32,
    pub(crate) started_at: WallTime,
    pub(crate) uptime_seconds: f64,
    pub(crate) state: Phase,
    pub(crate) stop_cause: Option<StopCause>,
    /// True while heartbeats are acknowledged, each within two intervals, and after `terminate`.
    pub(crate) in_contact: bool,
    /// When the present contact began; `None` if there is none.
    pub(crate) contact_began_at: Option<WallTime>,
    pub(crate) contact_began_seconds_ago: Option<f64>,
    /// When contact was lost; `None` if it was not.
    pub(crate) contact_lost_at: Option<WallTime>,
    pub(crate) contact_lost_seconds_ago: Option<f64>,
    /// When the last acknowledged heartbeat started.
    pub(crate) acknowledged_at: Option<WallTime>,
    pub(crate) acknowledged_seconds_ago: Option<f64>,
    /// How many heartbeats have failed since.
    pub(crate) failures: u32,
    pub(crate) failure: Option<String>,
    /// Since when heartbeats are withheld, because the runner is unhealthy; `None` if it is not.
    pub(crate) unhealthy_since: Option<WallTime>,
    pub(crate) unhealthy_seconds: Option<f64>,
    pub(crate) unhealthy: Option<String>,
    /// True if the account has more runners than its limit has room for.
    pub(crate) over_limit: bool,
    /// When the next heartbeat, or the check before it, starts; `None` while one of them is under
    /// way, and if none is to follow.
    pub(crate) next_heartbeat_at: Option<WallTime>,
    pub(crate) next_heartbeat_in_seconds: Option<f64>,
    /// True while the runner runs; `None` if taskbeat has none.
    pub(crate) runner_up: Option<bool>,
    pub(crate) runner_pid: Option<i32>,
    pub(crate) runner_started_at: Option<WallTime>,
    pub(crate) runner_uptime_seconds: Option<f64>,
    #[serde(flatten)]
    pub(crate) tally: Tally,
    pub(crate) log_lines_dropped: usize,
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

/// Why a runner is being stopped, or was.
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
            State::Exiting => Self::Exiting,
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
        identity: &Identity,
        failure: Option<&str>,
        unhealthy: &str,
        tally: &Tally,
    ) -> Self {
        let schedule = agent.schedule();
        let at = |time: Time| tally.wall_time(time);
        let ago = |time: Time| (now - time).as_secs_f64();
        let (began, lost) = match schedule.contact() {
            Contact::Pending { .. } => (None, None),
            Contact::Held { since, .. } => (Some(since), None),
            Contact::Lost { since } => (None, Some(since)),
        };
        let (acknowledged, next) = (schedule.acknowledged_at(), schedule.due());
        let unhealthy_since = schedule.unhealthy_since();
        let pid = runner.pid().map(Pid::as_raw_pid);
        let runner_since = agent.runner_since().filter(|_| pid.is_some());
        let failing = schedule.failures() > 0;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            taskrunner_id: identity.taskrunner_id.clone(),
            worker_group: identity.worker_group.clone(),
            pid: std::process::id(),
            started_at: at(Time::ZERO),
            uptime_seconds: now.since_start().as_secs_f64(),
            state: agent.state().into(),
            stop_cause: agent.stop_cause().map(StopCause::from),
            in_contact: schedule.in_contact(),
            contact_began_at: began.map(at),
            contact_began_seconds_ago: began.map(ago),
            contact_lost_at: lost.map(at),
            contact_lost_seconds_ago: lost.map(ago),
            acknowledged_at: acknowledged.map(at),
            acknowledged_seconds_ago: acknowledged.map(ago),
            failures: schedule.failures(),
            failure: failure.filter(|_| failing).map(str::to_owned),
            unhealthy_since: unhealthy_since.map(at),
            unhealthy_seconds: unhealthy_since.map(ago),
            unhealthy: unhealthy_since.map(|_| unhealthy.to_owned()),
            over_limit: agent.over_limit(now),
            next_heartbeat_at: next.map(at),
            next_heartbeat_in_seconds: next.map(|next| (next - now).as_secs_f64()),
            runner_up: (runner.kind() != RunnerKind::None).then_some(pid.is_some()),
            runner_pid: pid,
            runner_started_at: runner_since.map(at),
            runner_uptime_seconds: runner_since.map(ago),
            tally: tally.clone(),
            log_lines_dropped: log::dropped(),
        }
    }

    /// Replaces what a terminal would obey, in a snapshot that another process has sent.
    pub(super) fn replace_control_characters(&mut self) {
        let optional = [&mut self.failure, &mut self.unhealthy, &mut self.worker_group];
        let texts = [&mut self.version, &mut self.taskrunner_id].into_iter();
        for text in texts.chain(optional.into_iter().flatten()) {
            *text = text.replace(char::is_control, " ");
        }
    }

    /// The snapshot in one line, for `systemctl status`. Its smallest unit is a minute, because
    /// without an event it is sent once a minute.
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
            (Phase::Stopping | Phase::Killing | Phase::Exiting, Some(cause)) => {
                format!("{}: {cause}", self.state)
            }
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
            None if running => format!("{so_far}, next under way"),
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
        match (self.acknowledged_seconds_ago, self.acknowledged_at) {
            (Some(ago), Some(at)) => writeln!(f, "acknowledged  {} ago, at {at}", human(ago))?,
            _ => writeln!(f, "acknowledged  never")?,
        }
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
