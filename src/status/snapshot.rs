//! What there is to know about a daemon at one moment.

use std::fmt;
use std::time::Duration;

use humantime::format_duration;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::core::{Agent, State, Time};
use crate::runner::Runner;

/// What the daemon last saw. Times are relative to the moment of the question.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
// A daemon that was started before an upgrade knows less than whoever asks it.
#[serde(default)]
pub struct Snapshot {
    /// The daemon's process.
    pub pid: u32,
    /// How long the daemon has been running, awake.
    pub uptime_seconds: f64,
    /// What it is at.
    pub state: String,
    /// True while the service's last word stands: acknowledged within two intervals, or terminated.
    pub in_contact: bool,
    /// When the present contact began, or the last one if there is none.
    pub contact_began_seconds_ago: Option<f64>,
    /// When it was lost: two intervals after the last acknowledged heartbeat; none while there is contact, and before
    /// the first.
    pub contact_lost_seconds_ago: Option<f64>,
    /// When the last acknowledged heartbeat started.
    pub acknowledged_seconds_ago: Option<f64>,
    /// How many heartbeats failed since.
    pub failures: u32,
    /// Why the newest of them failed.
    pub failure: Option<String>,
    /// True when throttles have come for three intervals: the account has more runners than its limit has room for.
    pub over_limit: bool,
    /// When the next heartbeat starts; none while one is in flight, or none is to follow.
    pub next_heartbeat_in_seconds: Option<f64>,
    /// The runner's process.
    pub runner_pid: Option<i32>,
    /// For how long it has been running.
    pub runner_uptime_seconds: Option<f64>,
}

impl Snapshot {
    /// What can be said at `now`.
    #[must_use]
    pub fn take(now: Time, agent: &Agent, runner: &Runner, failure: Option<&str>) -> Self {
        let schedule = agent.schedule();
        let began = schedule.contact_since();
        let ago = |time: Time| (now - time).as_secs_f64();
        let in_contact = agent.in_contact(now);
        let lost = schedule.contact_ends(agent.policy());
        let pid = runner.pid().map(Pid::as_raw_pid);
        let failing = schedule.failures() > 0;
        Self {
            pid: std::process::id(),
            uptime_seconds: now.since_start().as_secs_f64(),
            state: describe(agent.state()),
            in_contact,
            contact_began_seconds_ago: began.map(ago),
            contact_lost_seconds_ago: lost.filter(|_| !in_contact).map(ago),
            acknowledged_seconds_ago: began.map(|_| ago(schedule.heard())),
            failures: schedule.failures(),
            failure: failure.filter(|_| failing).map(str::to_owned),
            over_limit: agent.over_limit(now),
            next_heartbeat_in_seconds: schedule.due().map(|due| (due - now).as_secs_f64()),
            runner_pid: pid,
            runner_uptime_seconds: agent.runner_since().filter(|_| pid.is_some()).map(ago),
        }
    }
}

impl Snapshot {
    /// All of it in one line, for `systemctl status`. systemd is told once a minute, so minutes are the smallest unit.
    #[must_use]
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        let running = self.state == describe(State::Running);
        if !running {
            parts.push(self.state.clone());
        }
        if let Some(heartbeats) = self.heartbeats(running) {
            parts.push(heartbeats);
        }
        if self.over_limit {
            parts.push("the AWS account is over its limit".to_owned());
        }
        if let Some(pid) = self.runner_pid {
            let up = coarse(self.runner_uptime_seconds.unwrap_or_default());
            parts.push(format!("runner pid {pid} up {up}"));
        }
        // The longest comes last.
        parts.extend(self.failure.clone());
        parts.join("; ")
    }

    /// How the heartbeats fare; nothing if there is nothing to tell.
    fn heartbeats(&self, running: bool) -> Option<String> {
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
            None if running => format!("{so_far}, waiting for an answer"),
            None => so_far,
        })
    }
}

/// A state, in words for people.
fn describe(state: State) -> String {
    match state {
        State::Starting => "starting".to_owned(),
        State::Waiting => "waiting for the runner".to_owned(),
        State::Running => "running".to_owned(),
        State::Hooking { .. } => "the on-terminate command runs".to_owned(),
        State::Stopping { cause, .. } => format!("stopping the runner: {cause}"),
        State::Killing { cause, .. } => format!("killing the runner: {cause}"),
        State::Idle => "terminated, idle".to_owned(),
        State::Stopped => "exiting".to_owned(),
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago =
            |time: Option<f64>| time.map_or("never".to_owned(), |s| format!("{} ago", human(s)));
        let contact = match (
            self.in_contact,
            self.contact_began_seconds_ago,
            self.contact_lost_seconds_ago,
        ) {
            (true, Some(began), _) => format!("yes, for {}", human(began)),
            (true, None, _) => "yes".to_owned(),
            (false, _, Some(lost)) => format!("NO, for {}", human(lost)),
            (false, _, None) => "NO, never yet".to_owned(),
        };
        writeln!(
            f,
            "state         {}, pid {}, up {}",
            self.state,
            self.pid,
            human(self.uptime_seconds)
        )?;
        writeln!(f, "in contact    {contact}")?;
        writeln!(f, "acknowledged  {}", ago(self.acknowledged_seconds_ago))?;
        if let Some(failure) = &self.failure {
            writeln!(f, "failing       {} in a row: {failure}", self.failures)?;
        }
        if self.over_limit {
            writeln!(
                f,
                "limit         the account is over it: 1 heartbeat per second for all of its runners"
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

/// Whole seconds, as people want them.
fn human(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    format_duration(Duration::from_secs(seconds.as_secs())).to_string()
}

/// The largest unit that fits, as in `12 min`: one line has no room for more.
fn coarse(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min")];
    match units.into_iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{:.0} {name}", (seconds / unit).floor()),
        None => "less than 1 min".to_owned(),
    }
}
