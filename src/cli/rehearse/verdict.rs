//! The verdict of a rehearsal: why a step was not taken within the grace, and what to change.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;
use serde::Serialize;
use signal_hook::low_level::signal_name;

use super::timeline::RunnerProcess;
use crate::config::{RunnerSettings, StopScope};
use crate::runner::Signalled;
use crate::text;

/// Why a rehearsal failed, or was not what a user expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FindingCause {
    NotStarted,
    RunnerExited,
    Stopped,
    LostContact,
    NotPermitted,
    SignalIgnored,
    GraceTooShort,
    NotSignalled,
    /// No reason to fail.
    Unhealthy,
}

/// A cause, the processes that it concerns, and what to change.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) cause: FindingCause,
    pub(super) processes: Vec<RunnerProcess>,
    pub(super) advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.processes.is_empty() { "" } else { " " };
        write!(f, "{}{separator}{}", text::list(&self.processes), self.advice)
    }
}

/// The ladder, and how the processes of the runner took it.
pub(super) struct Ladder {
    signal: Signal,
    scope: StopScope,
    pub(super) grace: Duration,
    /// Why a process may not end, by its id, as of the moment after the stop signal.
    doubts: HashMap<i32, FindingCause>,
    killed: Vec<RunnerProcess>,
}

impl Ladder {
    pub(super) fn new(runner: &RunnerSettings, grace: Duration) -> Self {
        let (signal, scope) = (runner.stop_signal, runner.stop_scope);
        Self { signal, scope, grace, doubts: HashMap::new(), killed: Vec::new() }
    }

    pub(super) fn signal(&self) -> &'static str {
        signal_name(self.signal.as_raw()).unwrap_or("the stop signal")
    }

    pub(super) fn stopping(&mut self, signalled: &[Signalled]) {
        for Signalled { process, result } in signalled {
            let pid = process.pid.as_raw_pid();
            let cause = match result {
                Err(Errno::PERM) => FindingCause::NotPermitted,
                _ if ignores(pid, self.signal) => FindingCause::SignalIgnored,
                _ => FindingCause::GraceTooShort,
            };
            self.doubts.insert(pid, cause);
        }
    }

    pub(super) fn killing(&mut self, killed: &[RunnerProcess]) {
        self.killed.extend_from_slice(killed);
    }

    /// Why processes had to be killed.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut causes: BTreeMap<FindingCause, BTreeMap<i32, RunnerProcess>> = BTreeMap::new();
        // Ctrl-C reached the runner without taskbeat.
        let by_terminal = self.doubts.is_empty();
        let unknown =
            if by_terminal { FindingCause::GraceTooShort } else { FindingCause::NotSignalled };
        for process in &self.killed {
            let cause = self.doubts.get(&process.pid).copied().unwrap_or(unknown);
            causes.entry(cause).or_default().insert(process.pid, process.clone());
        }
        // A process that does not end may have started them meanwhile.
        if self.scope == StopScope::Group && causes.len() > 1 {
            causes.remove(&FindingCause::NotSignalled);
        }
        let findings = causes.into_iter();
        findings
            .map(|(cause, killed)| self.finding(cause, killed.into_values().collect()))
            .collect()
    }

    pub(super) fn finding(&self, cause: FindingCause, processes: Vec<RunnerProcess>) -> Finding {
        Finding { cause, advice: self.advice(cause, &processes), processes }
    }

    fn advice(&self, cause: FindingCause, processes: &[RunnerProcess]) -> String {
        let (signal, grace) = (self.signal(), text::duration(self.grace));
        let has_shell = processes.iter().any(|process| process.name.ends_with("sh"));
        match cause {
            FindingCause::NotStarted => "the runner could not be started; the log says why".into(),
            FindingCause::RunnerExited => {
                "the runner exited by itself: start it in the foreground, as a \
                 program that runs until it is stopped"
                    .into()
            }
            FindingCause::Stopped => "a stop ended the rehearsal".into(),
            FindingCause::LostContact => {
                "contact was lost for --lost-contact-after: raise it".into()
            }
            FindingCause::NotPermitted => {
                "may not be signalled: run taskbeat as the same user".into()
            }
            FindingCause::SignalIgnored => format!(
                "ignored {signal}: remove `trap ''` or `nohup`, handle the signal, or set another \
                 --stop-signal"
            ),
            FindingCause::NotSignalled if self.scope == StopScope::Leader => format!(
                "received no {signal}, which --stop-scope process sends to the leader alone: \
                 `exec` the program in the shell line, or set --stop-scope group"
            ),
            FindingCause::NotSignalled => format!(
                "received no {signal}, because it started later or left the process group: let \
                 the leader end it"
            ),
            FindingCause::Unhealthy => "heartbeats were withheld, see `health` above".into(),
            FindingCause::GraceTooShort if has_shell => format!(
                "did not end within {grace}: a shell runs its trap only when its foreground \
                 command has ended, so `exec` that command, or start it with `&` and `wait`; or \
                 raise --grace"
            ),
            FindingCause::GraceTooShort => {
                format!("did not end within {grace}: let it end sooner, or raise --grace")
            }
        }
    }
}

fn ignores(pid: i32, signal: Signal) -> bool {
    let status = procfs::process::Process::new(pid).and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & 1 << (signal.as_raw() - 1) != 0)
}
