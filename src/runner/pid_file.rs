//! The process that a pid file names, and after its exit the next process.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::ticks_per_second;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::time::ClockId;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout_at};
use tracing::{info, warn};

use super::attached::Attached;
use super::tree::Process;
use crate::clock;
use crate::config::parse_pid;
use crate::core::{Event, Exit};

/// How often the file is read while the runner does not run.
const POLL: Duration = Duration::from_millis(500);

/// The longest part of the file that is read, in bytes. A process id is much shorter.
const LONGEST: u64 = 4096;

/// Reading takes longer only if the file system hangs.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How much later than the file a process may seem to have started. The file's time is wall time,
/// which may have been stepped since; the process's start is boot time.
const TOLERANCE: Duration = Duration::from_mins(5);

/// A runner that a pid file names.
pub(super) struct PidFile {
    path: PathBuf,
    poll: Interval,
    reading: Option<Reading>,
    attached: Option<Attached>,
    /// The text that was read last.
    last: Option<String>,
    /// Why the runner did not run when the file was read last, so that it is logged once.
    absence: Option<String>,
}

/// The file is read on a thread of its own, because a file system may hang.
struct Reading {
    thread: JoinHandle<io::Result<Content>>,
    /// When it is reported as hanging; `None` once it was.
    until: Option<Instant>,
}

/// The file as it was read.
struct Content {
    text: String,
    age: Duration,
}

/// Why the file names no running process.
#[derive(Debug, thiserror::Error)]
enum Absence {
    #[error("does not exist")]
    Missing,
    #[error("is empty")]
    Empty,
    #[error("has no line end yet, so it may still be written")]
    Unfinished,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("cannot be read within 10 s; its file system may hang")]
    Hangs,
    #[error("does not begin with a process id")]
    Malformed,
    #[error("is stale (process {0} started after it was written)")]
    Stale(Pid),
    #[error("names process {0}, which does not run")]
    NotRunning(Pid),
    #[error("names process {0}: {1}")]
    Unattachable(Pid, io::Error),
    #[error("names process {0} of another user, which taskbeat may not signal")]
    NotPermitted(Pid),
}

impl Absence {
    /// True while the runner may simply not have been started yet.
    fn is_expected(&self) -> bool {
        match self {
            Self::Missing | Self::Empty | Self::Unfinished | Self::NotRunning(_) => true,
            Self::Unreadable(_)
            | Self::Hangs
            | Self::Malformed
            | Self::Stale(_)
            | Self::Unattachable(..)
            | Self::NotPermitted(_) => false,
        }
    }
}

impl PidFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { path, poll, reading: None, attached: None, last: None, absence: None }
    }

    /// The process that the file names now.
    ///
    /// # Errors
    ///
    /// Why taskbeat would wait for another.
    pub(super) async fn look(path: PathBuf) -> Result<Process, String> {
        let mut file = Self::new(path);
        let mut attached = file.read().await.and_then(|content| file.attach(&content));
        // The second read shows whether the text is complete.
        if matches!(attached, Err(Absence::Unfinished)) {
            sleep(POLL).await;
            attached = file.read().await.and_then(|content| file.attach(&content));
        }
        let reason = |absence| format!("{} {absence}", file.path.display());
        attached.map(|attached| attached.process).map_err(reason)
    }

    /// The runner, while it runs.
    pub(super) fn attached(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    /// Waits for the runner's start or exit. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        if let Some(attached) = &self.attached {
            attached.exited().await;
            self.attached = None;
            return Event::LeaderExited(Exit::RUNNER_LOST);
        }
        loop {
            if self.reading.is_none() {
                self.poll.tick().await;
            }
            let content = self.read().await;
            match content.and_then(|content| self.attach(&content)) {
                Ok(attached) => {
                    self.attached = Some(attached);
                    self.absence = None;
                    return Event::RunnerStarted;
                }
                Err(absence) => self.log(&absence),
            }
        }
    }

    /// Reads the file. Cancel safe: a read that hangs is awaited again, so that one thread hangs at
    /// most.
    async fn read(&mut self) -> Result<Content, Absence> {
        let reading = self.reading.get_or_insert_with(|| {
            let path = self.path.clone();
            Reading {
                thread: spawn_blocking(move || read(&path)),
                until: Some(Instant::now() + READ_LIMIT),
            }
        });
        let content = match reading.until {
            Some(until) => timeout_at(until, &mut reading.thread).await,
            None => Ok((&mut reading.thread).await),
        };
        let Ok(content) = content else {
            reading.until = None;
            return Err(Absence::Hangs);
        };
        self.reading = None;
        match content.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(content) => Ok(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Absence::Missing),
            Err(error) => Err(Absence::Unreadable(error)),
        }
    }

    fn attach(&mut self, content: &Content) -> Result<Attached, Absence> {
        let last = self.last.replace(content.text.clone());
        let line = content.text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            return Err(Absence::Empty);
        }
        let pid = parse_pid(line).ok_or(Absence::Malformed)?;
        // Without its line end it may be a part of a longer number, unless it stays as it is.
        if !content.text.contains('\n') && last.as_ref() != Some(&content.text) {
            return Err(Absence::Unfinished);
        }
        let attached = Attached::to(pid).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::SRCH) => Absence::NotRunning(pid),
            _ => Absence::Unattachable(pid, error),
        })?;
        // Decided before permissions: the id may have been reused by another user's process.
        if age(&attached.process) + TOLERANCE < content.age {
            return Err(Absence::Stale(pid));
        }
        attached.process.check_permission().map_err(|_| Absence::NotPermitted(pid))?;
        Ok(attached)
    }

    fn log(&mut self, absence: &Absence) {
        let reason = absence.to_string();
        if self.absence.as_ref() != Some(&reason) {
            let line = fmt::from_fn(|f| {
                write!(f, "waiting for the runner: {} {reason}", self.path.display())
            });
            if absence.is_expected() {
                info!("{line}");
            } else {
                warn!("{line}");
            }
            self.absence = Some(reason);
        }
    }
}

fn read(path: &Path) -> io::Result<Content> {
    // A named pipe must not wait for its writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut text = String::new();
    (&file).take(LONGEST).read_to_string(&mut text)?;
    let stat = fstat(&file)?;
    let written = Duration::new(
        u64::try_from(stat.st_mtime).unwrap_or(0),
        u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    );
    let age = clock::read(ClockId::Realtime).saturating_sub(written);
    Ok(Content { text, age })
}

fn age(process: &Process) -> Duration {
    let started = Duration::from_millis(process.started * 1000 / ticks_per_second().max(1));
    clock::read(ClockId::Boottime).saturating_sub(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_process_counts_from_its_start() {
        let before = clock::read(ClockId::Boottime);
        let started = before.as_secs() / 2;
        let pid = rustix::process::getpid();
        let process =
            Process { started: started * ticks_per_second(), ..Process::look_up(pid).unwrap() };
        let age = age(&process) + Duration::from_secs(started);
        assert!(before <= age && age <= clock::read(ClockId::Boottime), "{age:?}");
    }
}
