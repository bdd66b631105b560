//! The `on-terminate` command.

use std::ffi::OsString;
use std::future;

use rustix::process::{Pid, Signal, kill_process_group};
use tracing::{info, warn};

use super::spawn::Spawned;
use crate::core::{Event, Exit};

/// The command, and the process while it runs.
pub(super) struct Hook {
    argv: Vec<OsString>,
    running: Option<Spawned>,
    /// It could not be started, and the loop is yet to be told that it ended.
    failed: bool,
}

impl Hook {
    pub(super) fn new(argv: Option<Vec<OsString>>) -> Self {
        Self {
            argv: argv.unwrap_or_default(),
            running: None,
            failed: false,
        }
    }

    pub(super) fn start(&mut self) {
        match Spawned::start(&self.argv, true) {
            Ok(spawned) => self.running = Some(spawned),
            Err(refusal) => {
                warn!("on-terminate: {refusal}");
                self.failed = true;
            }
        }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Ends it and its group. The reaper takes what is left.
    pub(super) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = kill_process_group(running.pid, Signal::KILL);
        }
    }

    /// Its end. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        if std::mem::take(&mut self.failed) {
            return Event::HookEnded;
        }
        let Some(running) = &self.running else {
            return future::pending().await;
        };
        match running.ended().await {
            Exit::OK => info!("the on-terminate command succeeded"),
            exit => warn!(status = exit.0, "the on-terminate command failed"),
        }
        running.reap();
        self.running = None;
        Event::HookEnded
    }
}
