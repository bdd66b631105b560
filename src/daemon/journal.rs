//! What the daemon says about itself: a line for whatever an operator wants to know, and each thing once.

use std::time::Duration;

use humantime::format_duration;
use tracing::{debug, error, info, warn};

use super::{Observer, Response, Turn};
use crate::core::{Action, Event, Outcome, State, Time};
use crate::log::Log;
use crate::runner::Process;

/// What it means to be throttled for so long.
const OVER_LIMIT: &str = "the AWS account is over its limit: 1 heartbeat per second for all of its runners together, \
    some 850 of them at 15m; until there are fewer, or none with a shorter interval, the service will take some of \
    them for dead";

/// Turns the steps of the daemon into log lines.
pub struct Journal<'a> {
    log: &'a Log,
    /// Lines that nobody took, as far as that was message.
    dropped: usize,
    failing: Option<Failing>,
    over_limit: bool,
}

/// How many different failures are loud in one interval: some have a word in them that is new each time.
const LOUD: usize = 8;

/// A series of failed heartbeats.
#[derive(Debug)]
struct Failing {
    since: Time,
    /// The newest failure that was loud; the same one again is not.
    newest: String,
    /// Those that were loud since then: failures that take turns are not loud at each turn.
    message: Vec<String>,
    said_since: Time,
}

impl Failing {
    fn new(now: Time) -> Self {
        Self {
            since: now,
            newest: String::new(),
            message: Vec::new(),
            said_since: now,
        }
    }

    /// Whether this failure is to be loud.
    fn is_news(&mut self, message: &str, now: Time, interval: Duration) -> bool {
        if now - self.said_since >= interval {
            self.said_since = now;
            self.message.clear();
        }
        // How long ago a certificate expired, and which try it was, are no news.
        let message = message.replace(|letter: char| letter.is_ascii_digit(), "");
        if self.newest == message || self.message.contains(&message) || self.message.len() >= LOUD {
            return false;
        }
        self.newest.clone_from(&message);
        self.message.push(message);
        true
    }
}

impl Observer for Journal<'_> {
    fn observe(&mut self, step: &Turn<'_>) {
        let dropped = self.log.dropped();
        if dropped > self.dropped {
            warn!(
                "{dropped} log lines were dropped so far: nobody read them, or there was no room"
            );
            self.dropped = dropped;
            // What still fails may have been message in one of them.
            self.say_again();
        }
        match step.event {
            Event::RunnerUp => {
                if let Some(pid) = step.runner.pid() {
                    info!(pid = pid.as_raw_pid(), "the runner runs");
                }
            }
            Event::RunnerEnded(exit) => info!(status = step.status(exit), "the runner ended"),
            Event::RunnerGone => debug!("nothing of the runner is left"),
            Event::HeartbeatEnded(..) => {
                if let Some(reply) = step.reply {
                    self.heartbeat(step, reply);
                    self.limit(step.agent.over_limit(step.now));
                }
            }
            Event::Stop if !begins_ladder(step) => info!("the operator says stop"),
            // Only a deadline ends the ladder with somebody left who had to go.
            Event::Due if matches!(step.agent.state(), State::Idle | State::Stopped) => {
                let left = step.runner.left();
                if !left.is_empty() {
                    error!("cannot be killed: {}", names(&left));
                }
            }
            Event::Resumed(gap) => info!("the host was suspended for {}", human(gap)),
            // What fails under the new settings is news; what they mean to the limit, only time can tell.
            Event::Reloaded(_) => {
                self.say_again();
                self.over_limit = false;
            }
            Event::Stop
            | Event::Due
            | Event::RunnerRefused(_)
            | Event::HookEnded
            | Event::Job(_) => {}
        }
        for (action, processes) in step.done {
            narrate(step, *action, processes);
        }
    }
}

impl<'a> Journal<'a> {
    /// A journal that writes to `log`.
    #[must_use]
    pub fn new(log: &'a Log) -> Self {
        Self {
            log,
            dropped: 0,
            failing: None,
            over_limit: false,
        }
    }

    /// Whatever still fails is news again.
    fn say_again(&mut self) {
        self.failing = self.failing.take().map(|old| Failing::new(old.since));
    }

    fn heartbeat(&mut self, step: &Turn<'_>, reply: &Response) {
        let id = reply.request_id.as_deref();
        let next = next_heartbeat(step);
        match reply.answer {
            Outcome::Acknowledged { terminate } => {
                if let Some(failing) = self.failing.take() {
                    let lasted = human(step.now - failing.since);
                    info!("the service answers again, after {lasted}");
                }
                if terminate {
                    info!(request_id = id, "heartbeat acknowledged: terminate");
                } else {
                    info!(request_id = id, "heartbeat acknowledged, {next}");
                }
            }
            Outcome::Failed(_) => {
                let failing = self.failing.get_or_insert_with(|| Failing::new(step.now));
                if failing.is_news(&reply.message, step.now, step.agent.policy().interval) {
                    warn!(
                        request_id = id,
                        "heartbeat failed, {next}: {}", reply.message
                    );
                } else {
                    debug!(
                        request_id = id,
                        "heartbeat failed again, {next}: {}", reply.message
                    );
                }
            }
        }
    }

    fn limit(&mut self, over: bool) {
        if over && !self.over_limit {
            warn!("{OVER_LIMIT}");
        } else if self.over_limit && !over {
            info!("the AWS account is within its limit again");
        }
        self.over_limit = over;
    }
}

fn narrate(step: &Turn<'_>, action: Action, processes: &[Process]) {
    let names = names(processes);
    let rest = human(rest(step));
    match action {
        // Whoever pressed Ctrl-C told all of us.
        Action::StopRunner if processes.is_empty() && step.event == Event::Stop => {
            info!("the operator says stop: the runner was told, killing after {rest}");
        }
        Action::StopRunner if !processes.is_empty() => {
            let cause = step
                .agent
                .state()
                .cause()
                .map_or_else(String::new, |cause| format!("{cause}: "));
            info!("{cause}stopping {names}, killing after {rest}");
        }
        Action::KillRunner if !processes.is_empty() => warn!("SIGKILL to {names}"),
        Action::Exit(exit) => info!(status = exit.0, "exit"),
        Action::Send { renew } => debug!(renew, "heartbeat sent"),
        Action::Abandon => debug!("heartbeat abandoned"),
        Action::Forward(signal) => debug!(signal, "signal forwarded"),
        Action::Suspend => info!("stopped by job control"),
        Action::StartHook => info!("the on-terminate command runs, for {rest} at most"),
        Action::KillHook => warn!("SIGKILL to the on-terminate command"),
        Action::StartRunner | Action::StopRunner | Action::KillRunner | Action::Continue => {}
    }
}

/// How long the step of the ladder may still take.
fn rest(step: &Turn<'_>) -> Duration {
    match step.agent.state() {
        State::Hooking { until } | State::Stopping { until, .. } | State::Killing { until, .. } => {
            until - step.now
        }
        State::Starting | State::Waiting | State::Running | State::Idle | State::Stopped => {
            Duration::ZERO
        }
    }
}

/// The line about the ladder names the cause already.
fn begins_ladder(step: &Turn<'_>) -> bool {
    step.done
        .iter()
        .any(|(action, _)| *action == Action::StopRunner)
}

fn next_heartbeat(step: &Turn<'_>) -> String {
    match step.agent.schedule().due() {
        Some(due) => format!("next in {}", human(due - step.now)),
        None => "none follows".to_owned(),
    }
}

fn names(processes: &[Process]) -> String {
    let names: Vec<_> = processes.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// As precise as people want it: milliseconds under ten seconds, else seconds.
fn human(duration: Duration) -> String {
    let unit = if duration < Duration::from_secs(10) {
        Duration::from_millis(1)
    } else {
        Duration::from_secs(1)
    };
    let units = duration.as_nanos() / unit.as_nanos();
    let rounded = unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX));
    format_duration(rounded).to_string()
}
