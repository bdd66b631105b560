//! The process that a file names, and after its end the next one that it names.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use procfs::ticks_per_second;
use rustix::fs::fstat;
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::info;

use super::attached::Attached;
use super::tree::Process;
use crate::core::{Event, Exit};

/// How often the file is read while nobody is attached.
const POLL: Duration = Duration::from_millis(500);

/// The longest file that is read, in bytes: a process id is much shorter.
const LONGEST: u64 = 4096;

/// How much younger than the file a process may look: its start is known to a tick of the clock.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A runner that is named by a file.
pub(super) struct PidFile {
    path: PathBuf,
    poll: Interval,
    attached: Option<Attached>,
    /// What the file held when it was read last.
    content: String,
    /// Why nobody was attached when it was read last, to be said once.
    reason: Option<String>,
}

/// Why the file names no runner.
#[derive(Debug, thiserror::Error)]
enum Absence {
    #[error("{0}")]
    Unreadable(io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it does not begin with a process id")]
    Malformed,
    #[error("it may still be being written")]
    Unfinished,
    #[error("it names process {0}, which is younger than the file")]
    Stale(Pid),
    #[error("it names process {0}: {1}")]
    Unattachable(Pid, io::Error),
}

impl PidFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// The process that it names may not be signalled by us, which waiting does not change.
    pub(super) fn start(path: PathBuf) -> io::Result<Self> {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut file = Self {
            path,
            poll,
            attached: None,
            content: String::new(),
            reason: None,
        };
        match file.look() {
            Err(Absence::Unattachable(_, error))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                Err(error)
            }
            _ => {
                // The next look comes at once: too soon to tell that nobody goes on writing.
                file.content.clear();
                Ok(file)
            }
        }
    }

    /// The runner, while there is one.
    pub(super) fn attached(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    /// The runner's start or end. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        if let Some(attached) = &self.attached {
            attached.ended().await;
            self.attached = None;
            return Event::RunnerEnded(Exit::RUNNER_LOST);
        }
        loop {
            self.poll.tick().await;
            match self.look() {
                Ok(attached) => {
                    self.attached = Some(attached);
                    self.reason = None;
                    return Event::RunnerUp;
                }
                Err(absence) => self.say(&absence),
            }
        }
    }

    fn look(&mut self) -> Result<Attached, Absence> {
        // One that is a named pipe must not keep us waiting for its writer.
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&self.path)
            .map_err(Absence::Unreadable)?;
        let mut content = String::new();
        Read::by_ref(&mut file)
            .take(LONGEST)
            .read_to_string(&mut content)
            .map_err(Absence::Unreadable)?;
        // Without its line's end it may be half of a longer number, unless nobody goes on writing.
        let settled = content.contains('\n') || content == self.content;
        self.content.clone_from(&content);
        let line = content.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            return Err(Absence::Empty);
        }
        let digits = line.bytes().all(|byte| byte.is_ascii_digit());
        let number = line.parse().ok().filter(|_| digits);
        let pid = number.and_then(Pid::from_raw).ok_or(Absence::Malformed)?;
        if !settled {
            return Err(Absence::Unfinished);
        }
        let attached = Attached::to(pid).map_err(|error| Absence::Unattachable(pid, error))?;
        if is_younger(&attached.process, &file) {
            return Err(Absence::Stale(pid));
        }
        Ok(attached)
    }

    fn say(&mut self, absence: &Absence) {
        let reason = absence.to_string();
        if self.reason.as_ref() != Some(&reason) {
            info!("no runner by {}: {reason}", self.path.display());
            self.reason = Some(reason);
        }
    }
}

/// A process that started after the file was written cannot be the one that the file means.
///
/// Ages are compared, because only the file's time is that of the wall clock.
fn is_younger(process: &Process, file: &File) -> bool {
    let Ok(stat) = fstat(file) else {
        return false;
    };
    let now = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    let written = Duration::new(
        u64::try_from(stat.st_mtime).unwrap_or(0),
        u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    );
    let started = Duration::from_millis(process.started * 1000 / ticks_per_second().max(1));
    let file_age = now(ClockId::Realtime).saturating_sub(written);
    let process_age = now(ClockId::Boottime).saturating_sub(started);
    process_age + TOLERANCE < file_age
}
