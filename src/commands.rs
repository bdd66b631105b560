//! Named commands beside the runner, such as `on-terminate`.
//!
//! Each runs in a session of its own and is marked, so that neither it nor what it starts counts as
//! the runner. Its time limit is a deadline of the core. At its limit the command is killed with
//! its process group; what has made a session of its own is left alone.

use std::ffi::OsString;
use std::future;
use std::task::Poll;

use rustix::process::{Pid, Signal, kill_process_group};
use tracing::warn;

use crate::core::{CommandName, CommandResult, Event};
use crate::runner::{Placement, Spawned, mark_beside_runner};
use crate::sys;

/// Variables of a command that a taskbeat in it would take for settings, or refuse.
const PID: &str = "TASKBEAT_PID";
const RUNNER_PID: &str = "TASKBEAT_RUNNER_PID";

/// Removes them from the environment of such a taskbeat (`taskbeat status` in `on-terminate`). Call
/// it before any thread is started.
pub(crate) fn remove_facts() {
    if std::env::var_os(RUNNER_PID).is_some() {
        for fact in [PID, RUNNER_PID] {
            sys::set_variable(fact, None);
        }
    }
}

/// The commands, and those of them that run.
pub(crate) struct Commands {
    on_terminate: Option<Vec<OsString>>,
    taskrunner_id: String,
    running: Vec<(CommandName, Option<Spawned>)>,
}

impl Commands {
    /// The commands of the settings. None runs.
    pub(crate) fn new(on_terminate: Option<Vec<OsString>>, taskrunner_id: &str) -> Self {
        Self { on_terminate, taskrunner_id: taskrunner_id.to_owned(), running: Vec::new() }
    }

    /// Starts a command; `runner` is the runner's leader. Call it on the main thread, because the
    /// command is killed when the thread ends.
    pub(crate) fn start(&mut self, name: CommandName, runner: Option<Pid>) {
        let argv = match name {
            CommandName::OnTerminate => self.on_terminate.as_deref().unwrap_or_default(),
        };
        let spawned = Spawned::start(argv, Placement::NewSession, vec![], |command| {
            mark_beside_runner(command);
            command.env(PID, std::process::id().to_string());
            command.env("TASKBEAT_TASKRUNNER_ID", &self.taskrunner_id);
            command.env(RUNNER_PID, runner.map(|pid| pid.to_string()).unwrap_or_default());
        });
        let spawned = spawned.inspect_err(|error| warn!("{name}: {error}"));
        self.running.push((name, spawned.ok()));
    }

    /// Kills a command with its process group. What is left of it is reaped as an orphan.
    pub(crate) fn kill(&mut self, name: CommandName) {
        self.running.retain(|(running, spawned)| {
            if *running == name
                && let Some(spawned) = spawned
            {
                let _ = kill_process_group(spawned.pid, Signal::KILL);
            }
            *running != name
        });
    }

    /// The children that [`next`](Self::next) reaps.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let spawned = self.running.iter().filter_map(|(_, spawned)| spawned.as_ref());
        spawned.map(|spawned| spawned.pid).collect()
    }

    /// Waits for the end of a command, and reaps it. Cancel safe. Call it again after each SIGCHLD.
    pub(crate) async fn next(&mut self) -> Event {
        let ended = future::poll_fn(|context| {
            for (index, (_, spawned)) in self.running.iter().enumerate() {
                let Some(spawned) = spawned else {
                    return Poll::Ready((index, CommandResult::NotStarted));
                };
                if let Poll::Ready(exit) = spawned.poll_exited(context) {
                    spawned.reap();
                    return Poll::Ready((index, CommandResult::Exited(exit)));
                }
            }
            Poll::Pending
        });
        let (index, result) = ended.await;
        let (name, _) = self.running.swap_remove(index);
        Event::CommandEnded(name, result)
    }
}
