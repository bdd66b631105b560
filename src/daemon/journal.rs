//! What is logged, and when: one line for each event that an operator needs, and each once.

use std::time::Duration;

use rustix::process::Pid;
use tracing::{debug, error, field, info, warn};

use super::{Done, Observer, Response, Turn};
use crate::core::{
    Action, Cause, CommandName, CommandResult, Event, Exit, Failure, Outcome, State, Time,
};
use crate::status::StopCause;
use crate::{log, text};

/// What it means that a runner is throttled for hours.
const OVER_LIMIT: &str = "the AWS account is over its limit of 1 heartbeat per second for all its \
    runners (about 850 at 15m); the service will consider some of them lost until there are fewer";

/// Maximum number of distinct failures logged at WARN per interval. Some messages differ each time.
const DISTINCT_FAILURES: usize = 8;

/// Turns the turns of the loop into log lines.
pub(crate) struct Journal {
    taskrunner_id: String,
    /// The leader's process id.
    runner: Option<i32>,
    /// The number of dropped lines that was logged last.
    dropped: usize,
    failing: Option<Failing>,
    over_limit: bool,
}

/// A series of failed heartbeats.
#[derive(Debug)]
struct Failing {
    since: Time,
    /// The newest failure that was logged at WARN. The same one again is not.
    newest: String,
    /// All that were logged at WARN since `period`, so that alternating failures are not repeated.
    logged: Vec<String>,
    period: Time,
}

impl Failing {
    fn new(now: Time) -> Self {
        Self { since: now, newest: String::new(), logged: Vec::new(), period: now }
    }

    /// True if this failure is to be logged at WARN.
    fn is_new(&mut self, message: &str, now: Time, interval: Duration) -> bool {
        if now - self.period >= interval {
            self.period = now;
            self.logged.clear();
        }
        // A number alone, such as the age of a certificate, does not make a new failure.
        let message = message.replace(|letter: char| letter.is_ascii_digit(), "");
        if self.newest == message
            || self.logged.contains(&message)
            || self.logged.len() >= DISTINCT_FAILURES
        {
            return false;
        }
        self.newest.clone_from(&message);
        self.logged.push(message);
        true
    }
}

impl Observer for Journal {
    fn observe(&mut self, turn: &Turn<'_>) {
        self.report_dropped();
        match turn.event {
            Event::RunnerStarted => {
                self.runner = turn.runner.pid().map(Pid::as_raw_pid);
                if let Some(pid) = self.runner {
                    info!(pid, "the runner is running");
                }
            }
            Event::LeaderExited(exit) => self.runner_exited(turn, turn.status(exit)),
            Event::RunnerGone => debug!("no process of the runner is left"),
            Event::HeartbeatEnded(..) => {
                if let Some(response) = &turn.details.response {
                    self.heartbeat(turn, response);
                    self.limit(turn.agent.over_limit(turn.now));
                }
            }
            Event::CommandEnded(name, result) => command_ended(name, result),
            Event::Stop(_) if turn.agent.first_stop().is_some_and(|first| first < turn.now) => {
                debug!("stop requested again");
            }
            Event::Stop(_) if !turn.done.iter().any(|done| done.action == Action::StopRunner) => {
                info!("stop requested");
            }
            // Only a deadline ends the ladder while processes are left.
            Event::Due if matches!(turn.agent.state(), State::Idle | State::Exiting) => {
                let left = turn.runner.left();
                if !left.is_empty() {
                    error!("cannot be killed: {}", text::list(left));
                }
            }
            Event::Resumed(gap) => info!("the host was suspended for {}", text::duration(gap)),
            // A failure under the new settings is a new one.
            Event::Reloaded(_) => {
                self.log_failures_again();
                self.over_limit = false;
            }
            Event::LeaderStopped(stopped) => debug!(stopped, "the runner's leader changed state"),
            Event::Stop(_) | Event::Due | Event::StartFailed(_) => {}
        }
        for done in turn.done {
            log_action(turn, done);
        }
    }
}

impl Journal {
    pub(crate) fn new(taskrunner_id: &str) -> Self {
        Self {
            taskrunner_id: taskrunner_id.to_owned(),
            runner: None,
            dropped: 0,
            failing: None,
            over_limit: false,
        }
    }

    fn report_dropped(&mut self) {
        let dropped = log::dropped();
        if dropped > self.dropped {
            warn!("dropped {dropped} log lines so far (stderr blocked or disk full)");
            self.dropped = dropped;
            // A failure that goes on may have been in one of them.
            self.log_failures_again();
        }
    }

    fn log_failures_again(&mut self) {
        self.failing = self.failing.take().map(|old| Failing::new(old.since));
    }

    fn runner_exited(&self, turn: &Turn<'_>, status: Option<u8>) {
        let pid = self.runner;
        let by_itself = turn.agent.stop_cause() == Some(Cause::Ended);
        if by_itself && status != Some(0) {
            warn!(status, pid, "the runner exited");
        } else {
            info!(status, pid, "the runner exited");
        }
    }

    fn heartbeat(&mut self, turn: &Turn<'_>, response: &Response) {
        let request_id = response.request_id.as_deref();
        let next = next_heartbeat(turn);
        match response.outcome {
            Outcome::Acknowledged { terminate } => {
                if let Some(failing) = self.failing.take() {
                    let lasted = text::duration(turn.now - failing.since);
                    info!("heartbeats are acknowledged again, after {lasted}");
                }
                if terminate {
                    info!(request_id, "heartbeat acknowledged: terminate");
                } else {
                    info!(request_id, "heartbeat acknowledged, {next}");
                }
            }
            Outcome::Failed(Failure { class, .. }) => {
                let Response { message, code, .. } = response;
                let due = turn.agent.schedule().due();
                let retry_in_seconds = due.map(|due| (due - turn.now).as_secs_f64());
                let (class, code) = (field::display(class), code.as_deref());
                let taskrunner_id = &*self.taskrunner_id;
                let failing = self.failing.get_or_insert_with(|| Failing::new(turn.now));
                if failing.is_new(message, turn.now, turn.agent.policy().interval) {
                    warn!(
                        request_id,
                        class,
                        code,
                        retry_in_seconds,
                        taskrunner_id,
                        "heartbeat failed, {next}: {message}"
                    );
                } else {
                    debug!(
                        request_id,
                        class,
                        code,
                        retry_in_seconds,
                        taskrunner_id,
                        "heartbeat failed again, {next}: {message}"
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

fn command_ended(name: CommandName, result: CommandResult) {
    match result {
        // Its beginning and its end are events of their own.
        _ if name == CommandName::HealthCheck => debug!("{name}: {result:?}"),
        CommandResult::Exited(Exit::OK) => info!("{name} succeeded"),
        CommandResult::Exited(exit) => warn!(status = exit.0, "{name} failed"),
        // Logged when it was tried.
        CommandResult::NotStarted => {}
    }
}

fn log_action(turn: &Turn<'_>, done: &Done) {
    let processes = text::list(&done.signalled);
    let pids =
        text::list(done.signalled.iter().map(|signalled| signalled.process.pid.as_raw_pid()));
    let until = turn.agent.state().until();
    let remaining = text::duration(until.map_or(Duration::ZERO, |until| until - turn.now));
    match done.action {
        Action::StopRunner if !done.signalled.is_empty() => {
            let step = format!("stop signal to {processes}; SIGKILL in {remaining}");
            match turn.snapshot.stop_cause {
                Some(cause @ StopCause::LostContact) => warn!(pids, "{cause}: {step}"),
                Some(cause) => info!(pids, "{cause}: {step}"),
                None => {}
            }
        }
        Action::StopRunner if !matches!(turn.event, Event::Stop(_)) => {}
        Action::StopRunner if turn.runner.is_interrupted() => {
            info!(
                "stop requested by Ctrl-C, which the runner received too; SIGKILL in {remaining}"
            );
        }
        Action::StopRunner => info!("stop requested"),
        Action::KillRunner if !done.signalled.is_empty() => {
            warn!(pids, "SIGKILL to {processes}: {}", kill_reason(turn.event));
        }
        Action::ContactLost => {
            let acknowledged = turn.snapshot.acknowledged_at;
            let since = acknowledged.map_or("taskbeat started".to_owned(), |time| time.to_string());
            warn!(contact = "lost", "contact lost: no heartbeat was acknowledged since {since}");
        }
        Action::ContactRegained(after) => {
            info!(contact = "regained", "contact regained after {}", text::duration(after));
        }
        Action::HealthLost => {
            let reason = &turn.details.unhealthy;
            let class = "unhealthy";
            warn!(class, "the runner is unhealthy, heartbeats are withheld: {reason}");
        }
        Action::HealthRegained(after) => {
            info!("the runner is healthy again after {}", text::duration(after));
        }
        Action::Exit(exit) => info!(status = exit.0, "exit"),
        Action::Send { renew } => debug!(renew, "heartbeat sent"),
        Action::Abandon => debug!("heartbeat abandoned"),
        Action::StartCommand(name @ CommandName::OnTerminate) => {
            info!("{name} started, SIGKILL in {remaining}");
        }
        Action::StartCommand(name) => debug!("{name} started"),
        Action::KillCommand(name @ CommandName::HealthCheck) => debug!("SIGKILL to {name}"),
        Action::KillCommand(name) => warn!("SIGKILL to {name}"),
        Action::StartRunner | Action::KillRunner => {}
    }
}

fn kill_reason(event: Event) -> &'static str {
    if matches!(event, Event::Stop(_)) {
        "second stop"
    } else if matches!(event, Event::LeaderExited(_)) {
        "left by a leader that was killed"
    } else {
        "the grace is over"
    }
}

fn next_heartbeat(turn: &Turn<'_>) -> String {
    match turn.agent.schedule().due() {
        Some(due) => format!("next in {}", text::duration(due - turn.now)),
        None => "none follows".to_owned(),
    }
}
