//! The runner, whatever kind it is: started or found, watched, stopped, and cleared away.

mod attached;
mod child;
mod hook;
mod pid_file;
mod reaper;
mod spawn;
mod terminal;
mod tree;

use std::ffi::OsStr;
use std::{future, io};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tokio::select;

use self::attached::Attached;
use self::child::Child;
use self::hook::Hook;
use self::pid_file::PidFile;
use crate::config::{self, StopScope, Target};
use crate::core::{self, Event, Exit};

pub(crate) use self::reaper::mark_helpers;
pub use self::terminal::Terminal;
pub use self::tree::Process;

/// The runner that heartbeats speak for, and the command that `terminate` runs.
pub struct Runner {
    target: Target,
    stop: Stop,
    terminal: Option<Terminal>,
    live: Live,
    hook: Hook,
}

/// How a runner is asked to stop.
#[derive(Clone, Copy)]
struct Stop {
    signal: Signal,
    scope: StopScope,
}

/// The runner once it was started.
enum Live {
    None,
    Child(Child),
    Attached(Attached),
    PidFile(PidFile),
}

/// Why the runner could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct Refusal {
    what: String,
    source: io::Error,
    /// The status that a shell would give; that of an invalid configuration where nothing is run.
    pub exit: Exit,
}

impl Refusal {
    fn new(program: &OsStr, exit: Exit, source: io::Error) -> Self {
        let what = format!("cannot run {}", program.display());
        Self { what, source, exit }
    }

    fn attach(what: String, source: io::Error) -> Self {
        let exit = match Errno::from_io_error(&source) {
            // It ended before we came, as it may end after.
            Some(Errno::SRCH) => Exit::RUNNER_LOST,
            _ => Exit::CONFIG,
        };
        Self { what, source, exit }
    }
}

impl Runner {
    /// The runner that the settings describe, not started. In a terminal it is to share our job.
    #[must_use]
    pub fn new(settings: config::RunnerSettings, terminal: Option<Terminal>) -> Self {
        Self {
            target: settings.target,
            stop: Stop {
                signal: settings.stop_signal,
                scope: settings.stop_scope,
            },
            terminal,
            live: Live::None,
            hook: Hook::new(settings.on_terminate),
        }
    }

    /// Its kind, as the core knows it.
    #[must_use]
    pub fn kind(&self) -> core::RunnerKind {
        match self.target {
            Target::None => core::RunnerKind::None,
            Target::Command(_) => core::RunnerKind::Child,
            Target::Pid(_) => core::RunnerKind::Attached,
            Target::PidFile(_) => core::RunnerKind::Followed,
        }
    }

    /// Starts it, or begins to look for it; true when it runs. Call it on the main thread: a child
    /// is killed when the thread that started it ends.
    ///
    /// # Errors
    ///
    /// The command was not found, cannot be executed, or the kernel has no process to spare; the
    /// process to attach to is not there, or not ours to signal.
    pub fn start(&mut self) -> Result<bool, Refusal> {
        self.live = match &self.target {
            Target::None => Live::None,
            Target::Command(argv) => {
                let shared = self.terminal.as_ref().is_some_and(Terminal::shares_job);
                Live::Child(Child::start(argv, self.stop, !shared)?)
            }
            Target::Pid(pid) => Live::Attached(Attached::to(*pid).map_err(|error| {
                Refusal::attach(format!("cannot attach to process {pid}"), error)
            })?),
            Target::PidFile(path) => {
                Live::PidFile(PidFile::start(path.clone()).map_err(|error| {
                    let path = path.display();
                    Refusal::attach(format!("cannot attach to the process in {path}"), error)
                })?)
            }
        };
        Ok(!matches!(self.live, Live::PidFile(_)))
    }

    /// The id of its leader, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        match &self.live {
            Live::None => None,
            Live::Child(child) => child.is_running().then(|| child.pid()),
            Live::Attached(_) | Live::PidFile(_) => {
                self.attached().map(|attached| attached.process.pid)
            }
        }
    }

    /// What happens to it next. Cancel safe; to be called again after each SIGCHLD.
    pub async fn next(&mut self) -> Event {
        let hook = self.hook.pid();
        let runner = async {
            match &mut self.live {
                Live::None => future::pending().await,
                Live::Child(child) => {
                    let event = child.next(hook).await;
                    if let (Event::RunnerEnded(exit), Some(terminal)) = (event, &mut self.terminal)
                    {
                        terminal.runner_ended(exit);
                    }
                    event
                }
                Live::Attached(attached) => {
                    attached.ended().await;
                    self.live = Live::None;
                    Event::RunnerEnded(Exit::RUNNER_LOST)
                }
                Live::PidFile(file) => file.next().await,
            }
        };
        select! {
            event = runner => event,
            event = self.hook.next() => event,
        }
    }

    /// Sends the stop signal to those of it that did not have it, and names them.
    pub fn stop(&mut self) -> Vec<Process> {
        let signal = self.stop.signal;
        if let Live::Child(child) = &mut self.live {
            return child.stop();
        }
        self.signal_attached(&[signal, Signal::CONT])
    }

    /// Sends SIGKILL to whatever is left of it, and names that.
    pub fn kill(&mut self) -> Vec<Process> {
        if let Live::Child(child) = &mut self.live {
            return child.kill();
        }
        self.signal_attached(&[Signal::KILL])
    }

    /// The terminal has sent its signal to the child, too.
    pub fn was_told(&mut self) {
        if let Live::Child(child) = &mut self.live {
            child.was_told();
        }
    }

    /// Sends `signal` to a child, as its stop signal would be.
    pub fn forward(&self, signal: Signal) {
        if let Live::Child(child) = &self.live {
            child.forward(signal);
        }
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Vec<Process> {
        match &self.live {
            Live::None => vec![],
            Live::Child(child) => child.left(),
            Live::Attached(_) | Live::PidFile(_) => self
                .attached()
                .map(|attached| attached.process.clone())
                .into_iter()
                .collect(),
        }
    }

    /// Starts the `on-terminate` command.
    pub fn start_hook(&mut self) {
        self.hook.start();
    }

    /// Ends the `on-terminate` command.
    pub fn kill_hook(&mut self) {
        self.hook.kill();
    }

    /// Reaps what others left behind and the kernel gave to us. Children in our own process group may
    /// be the SDK's, while it waits for them; `idle` says that it does not.
    pub fn reap_orphans(&self, idle: bool) {
        let leader = match &self.live {
            Live::Child(child) => Some(child.pid()),
            Live::None | Live::Attached(_) | Live::PidFile(_) => None,
        };
        let held: Vec<Pid> = leader.into_iter().chain(self.hook.pid()).collect();
        reaper::reap(&held, idle);
    }

    /// With no heartbeat in flight, reaps whatever is dead.
    pub fn clear_up(&self) {
        self.reap_orphans(true);
    }

    fn attached(&self) -> Option<&Attached> {
        match &self.live {
            Live::Attached(attached) => Some(attached),
            Live::PidFile(file) => file.attached(),
            Live::None | Live::Child(_) => None,
        }
    }

    fn signal_attached(&self, signals: &[Signal]) -> Vec<Process> {
        let Some(attached) = self.attached() else {
            return vec![];
        };
        let mut told = vec![];
        for signal in signals {
            let reached = attached.signal(*signal);
            // One that the first signal ended at once was told, too.
            if told.is_empty() {
                told = reached;
            }
        }
        told
    }
}
