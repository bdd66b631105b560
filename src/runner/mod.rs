//! The runner, of whatever kind: started or found, watched, stopped, and cleared away.

mod attached;
mod child;
mod membership;
mod orphans;
mod pid_file;
mod signalled;
mod spawn;
mod terminal;
mod tree;

use std::future;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use self::attached::Attached;
use self::child::Child;
use self::pid_file::PidFile;
use self::signalled::StopSettings;
use crate::config::{RunnerSettings, Target};
use crate::core::{Event, Exit, RunnerKind};

pub(crate) use self::signalled::Signalled;
pub(crate) use self::spawn::StartError;
pub(crate) use self::spawn::{Placement, Spawned, remove_own_variables};
pub(crate) use self::terminal::Terminal;
pub(crate) use self::tree::{Process, mark_beside_runner};

/// The runner that the heartbeats report on.
pub(crate) struct Runner {
    target: Target,
    stop: StopSettings,
    terminal: Option<Terminal>,
    live: Live,
}

/// The runner, once it was started.
enum Live {
    None,
    Child(Child),
    Attached(Attached),
    PidFile(PidFile),
}

impl Runner {
    /// The runner that the settings describe, not started.
    pub(crate) fn new(settings: RunnerSettings, terminal: Option<Terminal>) -> Self {
        Self {
            target: settings.target,
            stop: StopSettings { signal: settings.stop_signal, scope: settings.stop_scope },
            terminal,
            live: Live::None,
        }
    }

    pub(crate) fn kind(&self) -> RunnerKind {
        match self.target {
            Target::None => RunnerKind::None,
            Target::Command(_) => RunnerKind::Child,
            Target::Pid(_) => RunnerKind::Attached,
            Target::PidFile(_) => RunnerKind::Followed,
        }
    }

    /// Starts it, or begins to look for it. Returns true if it runs. Call it on the main thread,
    /// because a child is killed when the thread that started it ends.
    ///
    /// # Errors
    ///
    /// The command was not found or cannot be executed, or the kernel has no free process; the
    /// process to attach to does not exist, or taskbeat may not signal it.
    pub(crate) fn start(&mut self) -> Result<bool, StartError> {
        self.live = match &self.target {
            Target::None => Live::None,
            Target::Command(argv) => {
                let terminal = self.terminal.as_ref();
                let placement = if terminal.is_some_and(Terminal::shares_group) {
                    Placement::SameGroup
                } else {
                    Placement::NewGroup
                };
                let ignored = terminal.map(Terminal::ignored_signals).unwrap_or_default();
                Live::Child(Child::start(argv, self.stop, placement, ignored)?)
            }
            Target::Pid(pid) => Live::Attached(attach(*pid)?),
            Target::PidFile(path) => Live::PidFile(PidFile::new(path.clone())),
        };
        Ok(!matches!(self.live, Live::PidFile(_)))
    }

    /// The id of its leader, while that runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        match &self.live {
            Live::None => None,
            Live::Child(child) => child.is_running().then(|| child.pid()),
            Live::Attached(_) | Live::PidFile(_) => {
                self.attached().map(|attached| attached.process.pid)
            }
        }
    }

    /// True while its leader is stopped by a signal.
    pub(crate) fn is_leader_stopped(&self) -> bool {
        self.pid().is_some_and(tree::is_stopped)
    }

    /// Waits for the runner's next start or exit. Cancel safe. Call it again after each SIGCHLD.
    pub(crate) async fn next(&mut self) -> Event {
        match &mut self.live {
            Live::None => future::pending().await,
            Live::Child(child) => {
                let exit = child.leader_exited().await;
                if let Some(terminal) = &mut self.terminal {
                    terminal.runner_exited(exit);
                }
                Event::LeaderExited(exit)
            }
            Live::Attached(attached) => {
                attached.exited().await;
                self.live = Live::None;
                Event::LeaderExited(Exit::RUNNER_LOST)
            }
            Live::PidFile(file) => file.next().await,
        }
    }

    /// Sends the stop signal to the processes that do not have it.
    pub(crate) fn stop(&mut self) -> Vec<Signalled> {
        if let Live::Child(child) = &mut self.live {
            return child.stop();
        }
        let signalled = self.signal_attached(self.stop.signal);
        self.signal_attached(Signal::CONT);
        signalled
    }

    /// Sends SIGKILL to every process that is left.
    pub(crate) fn kill(&mut self) -> Vec<Signalled> {
        if let Live::Child(child) = &mut self.live {
            return child.kill();
        }
        self.signal_attached(Signal::KILL)
    }

    /// The terminal has sent its SIGINT to the child, too.
    pub(crate) fn interrupted_by_terminal(&mut self) {
        if let Live::Child(child) = &mut self.live {
            child.interrupted_by_terminal();
        }
    }

    /// True if the terminal's SIGINT has reached the child, which still runs.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(&self.live, Live::Child(child) if child.is_interrupted())
    }

    /// Sends `signal` to a child: to its process group or its leader, as `stop-scope` says.
    pub(crate) fn forward(&self, signal: Signal) {
        if let Live::Child(child) = &self.live {
            child.forward(signal);
        }
    }

    /// Stops taskbeat, as job control does, if the runner's leader has stopped or the runner is no
    /// child.
    pub(crate) fn follow_into_stop(&self) {
        let (follows, group) = match &self.live {
            Live::Child(child) => (child.take_stopped(), child.group()),
            Live::None | Live::Attached(_) | Live::PidFile(_) => (true, None),
        };
        if let (true, Some(terminal)) = (follows, &self.terminal) {
            terminal.suspend(group);
        }
    }

    pub(crate) fn left(&self) -> Vec<Process> {
        match &self.live {
            Live::None => vec![],
            Live::Child(child) => child.left(),
            Live::Attached(_) | Live::PidFile(_) => {
                let attached = self.attached().into_iter();
                attached.map(|attached| attached.process.clone()).collect()
            }
        }
    }

    /// Reaps dead children, and tells if no process of an exited runner is left. `held` are
    /// children that their owners reap.
    pub(crate) fn clear_away(&mut self, held: &[Pid]) -> Option<Event> {
        match &mut self.live {
            Live::Child(child) if !child.is_running() => child.clear_away(held),
            Live::Child(child) => {
                orphans::reap(&[held, &[child.pid()]].concat());
                None
            }
            Live::None | Live::Attached(_) | Live::PidFile(_) => {
                orphans::reap(held);
                None
            }
        }
    }

    fn attached(&self) -> Option<&Attached> {
        match &self.live {
            Live::Attached(attached) => Some(attached),
            Live::PidFile(file) => file.attached(),
            Live::None | Live::Child(_) => None,
        }
    }

    fn signal_attached(&self, signal: Signal) -> Vec<Signalled> {
        let attached = self.attached().into_iter();
        attached.filter_map(|attached| attached.signal(signal)).collect()
    }
}

/// The process that taskbeat would attach to now; `None` if the runner is no such process. Call it
/// inside a runtime.
///
/// # Errors
///
/// Why there is none.
pub(crate) async fn look(target: &Target) -> Option<Result<Process, String>> {
    match target {
        Target::None | Target::Command(_) => None,
        Target::Pid(pid) => {
            let attached = attach(*pid).map_err(|error| error.to_string());
            Some(attached.map(|attached| attached.process))
        }
        Target::PidFile(path) => Some(PidFile::look(path.clone()).await),
    }
}

fn attach(pid: Pid) -> Result<Attached, StartError> {
    let attached = Attached::to(pid).and_then(|attached| {
        attached.process.check_permission()?;
        Ok(attached)
    });
    attached.map_err(|error| StartError {
        what: format!("cannot attach to process {pid}"),
        exit: match Errno::from_io_error(&error) {
            // It exited before taskbeat attached, as it may exit after.
            Some(Errno::SRCH) => Exit::RUNNER_LOST,
            _ => Exit::CONFIG,
        },
        reason: error.to_string(),
    })
}
