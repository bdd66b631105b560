//! Named commands beside the runner: `on-terminate`, `health-check`, `on-contact-change`.
//!
//! Each runs in a session of its own and is marked, so that neither it nor what it starts counts as
//! the runner. Its time limit is a deadline of the core. At its limit the command is killed with
//! its process group; what has made a session of its own is left alone.

use std::env;
use std::future;
use std::io;
use std::process::{Command, Stdio};
use std::task::{Context, Poll};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe;
use tracing::warn;

use crate::config::CommandSettings;
use crate::core::{CommandName, CommandResult};
use crate::runner::{Placement, Spawned, mark_beside_runner};
use crate::sys;

/// Variables set for a command. A taskbeat in it would read them as settings, or refuse them.
const PID: &str = "TASKBEAT_PID";
const RUNNER_PID: &str = "TASKBEAT_RUNNER_PID";
const CONTACT: &str = "TASKBEAT_CONTACT";
const LAST_ACKNOWLEDGED: &str = "TASKBEAT_LAST_ACKNOWLEDGED";
/// The ID as the service has it, without placeholders.
const TASKRUNNER_ID: &str = "TASKBEAT_TASKRUNNER_ID";

/// The ID as the settings have it, by which `taskbeat status` finds the daemon.
const CLAIMED_ID: &str = "_TASKBEAT_CLAIMED_ID";

/// Makes the environment of such a taskbeat (`taskbeat status` in `on-terminate`) one of settings.
/// Call it before any thread is started.
pub(crate) fn remove_facts() {
    if let Ok(id) = env::var(CLAIMED_ID) {
        for fact in [PID, RUNNER_PID, CONTACT, LAST_ACKNOWLEDGED, CLAIMED_ID] {
            sys::set_variable(fact, None);
        }
        sys::set_variable(TASKRUNNER_ID, Some(&id));
    }
}

/// What a command is told about the daemon, in its environment.
pub(crate) struct Facts {
    /// The ID without placeholders, as soon as it is known.
    pub(crate) taskrunner_id: String,
    /// The runner's leader, if it runs.
    pub(crate) runner: Option<Pid>,
    pub(crate) in_contact: bool,
    /// When the last acknowledged heartbeat started, as RFC 3339; empty if there was none.
    pub(crate) last_acknowledged: String,
}

/// The commands, and those of them that run.
pub(crate) struct Commands {
    settings: CommandSettings,
    claimed_id: String,
    running: Vec<Running>,
}

struct Running {
    name: CommandName,
    /// `None` if it could not be started.
    spawned: Option<Spawned>,
    output: Option<Output>,
}

/// A command that has ended.
pub(crate) struct Ended {
    pub(crate) name: CommandName,
    pub(crate) result: CommandResult,
    /// The last line of a health check's output, without control characters.
    pub(crate) last_line: String,
}

impl Commands {
    /// The commands of the settings. None runs. `claimed_id` is the ID as the settings have it.
    pub(crate) fn new(settings: CommandSettings, claimed_id: &str) -> Self {
        Self { settings, claimed_id: claimed_id.to_owned(), running: Vec::new() }
    }

    /// Starts a command. Call it on the main thread, because the command is killed when the thread
    /// ends.
    pub(crate) fn start(&mut self, name: CommandName, facts: &Facts) {
        let argv = self.settings.get(name).unwrap_or_default();
        let mut output = None;
        let spawned = Spawned::start(argv, Placement::NewSession, vec![], |command| {
            mark_beside_runner(command);
            command.env(PID, std::process::id().to_string());
            command.env(TASKRUNNER_ID, &facts.taskrunner_id);
            command.env(CLAIMED_ID, &self.claimed_id);
            command.env(RUNNER_PID, facts.runner.map(|pid| pid.to_string()).unwrap_or_default());
            command.env(CONTACT, if facts.in_contact { "regained" } else { "lost" });
            command.env(LAST_ACKNOWLEDGED, &facts.last_acknowledged);
            // taskbeat's own streams belong to the runner, but for stderr.
            command.stdin(Stdio::null()).stdout(io::stderr());
            if name == CommandName::HealthCheck {
                output = Output::of(command).inspect_err(|error| warn!("{name}: {error}")).ok();
            }
        });
        let spawned = spawned.inspect_err(|error| warn!("{name}: {error}")).ok();
        self.running.push(Running { name, spawned, output });
    }

    /// Kills a command with its process group. What is left of it is reaped as an orphan.
    pub(crate) fn kill(&mut self, name: CommandName) {
        self.running.retain(|running| {
            let ends = running.name == name;
            if ends {
                running.kill();
            }
            !ends
        });
    }

    /// Kills every command, because taskbeat exits.
    pub(crate) fn kill_all(&mut self) {
        for running in self.running.drain(..) {
            running.kill();
        }
    }

    /// The children that [`next`](Self::next) reaps.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let spawned = self.running.iter().filter_map(|running| running.spawned.as_ref());
        spawned.map(|spawned| spawned.pid).collect()
    }

    /// Waits for the end of a command, and reaps it. Cancel safe. Call it again after each SIGCHLD.
    pub(crate) async fn next(&mut self) -> Ended {
        let ended = future::poll_fn(|context| {
            for (index, running) in self.running.iter_mut().enumerate() {
                if let Poll::Ready(result) = running.poll(context) {
                    return Poll::Ready((index, result));
                }
            }
            Poll::Pending
        });
        let (index, result) = ended.await;
        let ended = self.running.swap_remove(index);
        let last_line = ended.output.map(|output| output.last_line()).unwrap_or_default();
        Ended { name: ended.name, result, last_line }
    }
}

impl Running {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<CommandResult> {
        let Some(spawned) = &self.spawned else {
            return Poll::Ready(CommandResult::NotStarted);
        };
        let exit = spawned.poll_exited(context);
        // After the exit was seen, so that all that the command wrote is there.
        if let Some(output) = &mut self.output {
            output.read(context);
        }
        exit.map(|exit| {
            spawned.reap();
            CommandResult::Exited(exit)
        })
    }

    fn kill(&self) {
        if let Some(spawned) = &self.spawned {
            let _ = kill_process_group(spawned.pid, Signal::KILL);
        }
    }
}

/// How many bytes of a command's output are kept: the last ones.
const TAIL: usize = 1024;

/// How often the output is read before something else has its turn, at [`TAIL`] bytes each.
const READS: usize = 64;

/// The end of what a command writes to its standard output and error.
struct Output {
    pipe: pipe::Receiver,
    tail: Vec<u8>,
}

impl Output {
    /// The output of `command`, which has not been started.
    fn of(command: &mut Command) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        Ok(Self { pipe: pipe::Receiver::from_owned_fd(reader.into())?, tail: Vec::new() })
    }

    /// Reads what is there, so that the command never waits for room in the pipe.
    fn read(&mut self, context: &mut Context<'_>) {
        let mut part = [0; TAIL];
        for _ in 0..READS {
            if self.pipe.poll_read_ready(context).is_pending() {
                return;
            }
            match self.pipe.try_read(&mut part) {
                // The end of the output.
                Ok(0) => return,
                Ok(length) => self.tail.extend_from_slice(&part[..length]),
                // The pipe is empty, so the next poll waits.
                Err(_) => {}
            }
            self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        }
        context.waker().wake_by_ref();
    }

    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        last.unwrap_or_default().replace(char::is_control, " ")
    }
}
