//! A reload: the settings are read again, on a thread of their own, because a file may hang.

use std::future;
use std::rc::Rc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, timeout_at};
use tracing::{error, info, warn};

use crate::aws::{Connection, DataPipeline};
use crate::cli::shared::{CliError, load};
use crate::config::{Config, Options, Settings};
use crate::core::Policy;
use crate::daemon::Reload;
use crate::log::Log;

/// Reading takes longer only if a file hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a reload did not even begin.
const NO_THREAD: &str = "the settings are still being read for an earlier reload, or no thread \
    is free to read them";

/// Reads the settings again, from the same sources.
pub(super) struct Reloader {
    options: Options,
    /// The settings in force.
    settings: Settings,
    log: Rc<Log>,
    reading: Option<Reading>,
    /// True if one more reload was asked for meanwhile.
    again: bool,
    /// The thread of a reload that timed out. While it hangs, no other one is started.
    hung: Option<JoinHandle<()>>,
}

struct Reading {
    result: oneshot::Receiver<Result<Config, CliError>>,
    until: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    pub(super) fn new(options: Options, settings: Settings, log: Rc<Log>) -> Self {
        Self { options, settings, log, reading: None, again: false, hung: None }
    }

    /// What differs from the settings in force and cannot be changed while the daemon runs.
    fn needs_restart(&self, new: &Settings) -> Option<&'static str> {
        let old = &self.settings;
        if new.identity != old.identity {
            Some("another taskrunner-id, worker-group or hostname")
        } else if new.runner != old.runner {
            Some("another runner, or another way to stop it,")
        } else if new.log.format != old.log.format {
            Some("another log-format")
        } else {
            None
        }
    }
}

impl Reload<DataPipeline> for Reloader {
    type Settings = Result<Config, String>;

    fn begin(&mut self) {
        if self.reading.is_some() {
            self.again = true;
            return;
        }
        let (sender, result) = oneshot::channel();
        let options = self.options.clone();
        let read = move || drop(sender.send(load(&options)));
        let hangs = self.hung.as_ref().is_some_and(|hung| !hung.is_finished());
        let thread = (!hangs).then(|| Builder::new().name("reload".to_owned()).spawn(read));
        self.reading = Some(Reading {
            result,
            until: Instant::now() + LIMIT,
            thread: thread.and_then(Result::ok),
        });
    }

    async fn settings(&mut self) -> Self::Settings {
        let Some(reading) = &mut self.reading else {
            return future::pending().await;
        };
        let result = timeout_at(reading.until, &mut reading.result).await;
        let thread = self.reading.take().and_then(|reading| reading.thread);
        let settings = match result {
            Ok(Ok(Ok(config))) => Ok(config),
            Ok(Ok(Err(error))) => Err(error.message.replace('\n', "; ")),
            Ok(Err(_)) => Err(NO_THREAD.to_owned()),
            Err(_) => {
                self.hung = thread;
                Err("the settings could not be read within 10s; a file hangs".to_owned())
            }
        };
        if std::mem::take(&mut self.again) {
            self.begin();
        }
        settings
    }

    fn apply(&mut self, config: Self::Settings, service: &mut DataPipeline) -> Option<Policy> {
        let refused = |reason| error!("reload refused, nothing changed: {reason}");
        let settings = config.map_err(refused).ok()?.settings;
        if let Some(what) = self.needs_restart(&settings) {
            error!("reload refused, nothing changed: {what} needs a restart");
            return None;
        }
        self.log.set_level(settings.log.level);
        for warning in settings.warnings() {
            warn!("{warning}");
        }
        let connection = Connection::new(settings.aws.clone(), settings.policy.interval);
        // Even with the same settings: only a new client reads the profile files again.
        service.reconnect(connection);
        self.settings = settings;
        info!("settings reloaded");
        Some(self.settings.policy)
    }
}
