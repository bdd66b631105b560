//! Reads the settings, for the start and for reloads, on a thread of their own: a file may hang.

use std::future;
use std::rc::Rc;
use std::thread::Builder;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Duration, Instant, timeout_at};
use tracing::{error, info};

use crate::aws::{Connection, DataPipeline};
use crate::cli::shared::{CliError, load, log_warnings};
use crate::config::{Config, Options, Settings};
use crate::core::{Exit, Policy};
use crate::daemon::Reload;
use crate::log::Log;

/// Reading takes longer only if a file hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads the settings again, from the same sources.
pub(super) struct Reloader {
    options: Options,
    /// The settings in force.
    settings: Settings,
    log: Rc<Log>,
    /// True if a reload was asked for and has not begun.
    wanted: bool,
    reading: Option<Reading>,
    /// The last reading that timed out. While it hangs, no other begins.
    hung: Option<Reading>,
}

/// The settings as they are being read.
struct Reading {
    result: oneshot::Receiver<Result<Config, CliError>>,
    until: Instant,
}

impl Reading {
    fn start(options: &Options) -> Result<Self, CliError> {
        let (sender, result) = oneshot::channel();
        let options = options.clone();
        let read = move || drop(sender.send(load(&options)));
        let thread = Builder::new().name("settings".to_owned()).spawn(read);
        thread.map_err(|error| CliError::internal(&format!("cannot start a thread: {error}")))?;
        Ok(Self { result, until: Instant::now() + LIMIT })
    }

    /// Waits for the result. Cancel safe.
    async fn result(&mut self) -> Result<Config, CliError> {
        let failed = |exit, reason| {
            let message = format!("the settings could not be read{reason}");
            Err(CliError { message, exit })
        };
        match timeout_at(self.until, &mut self.result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => failed(Exit::INTERNAL, ": internal error"),
            Err(_) => failed(Exit::CONFIG, " within 10s; a file hangs"),
        }
    }
}

/// Reads the settings for the start.
pub(super) async fn first(options: &Options) -> Result<Config, CliError> {
    Reading::start(options)?.result().await
}

impl Reloader {
    pub(super) fn new(options: Options, settings: Settings, log: Rc<Log>) -> Self {
        Self { options, settings, log, wanted: false, reading: None, hung: None }
    }

    /// Reads the settings, or waits until they are read. Cancel safe.
    async fn read(&mut self) -> Result<Config, CliError> {
        if self.reading.is_none() {
            self.wanted = false;
            let hung = self.hung.as_mut().map(|hung| hung.result.try_recv());
            if let Some(Err(TryRecvError::Empty)) = hung {
                let reason = "the settings are still being read for an earlier reload";
                return Err(CliError { message: reason.to_owned(), exit: Exit::CONFIG });
            }
        }
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => self.reading.insert(Reading::start(&self.options)?),
        };
        let result = reading.result().await;
        let reading = self.reading.take();
        self.hung = reading.filter(|reading| Instant::now() >= reading.until);
        result
    }

    /// What differs from the settings in force and cannot be changed while the daemon runs.
    fn needs_restart(&self, new: &Settings) -> Option<&'static str> {
        let old = &self.settings;
        if new.identity != old.identity {
            Some("another taskrunner-id, worker-group or hostname")
        } else if new.runner != old.runner {
            Some("another runner, or another way to stop it,")
        } else if new.commands != old.commands {
            Some("another command beside the runner")
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
        self.wanted = true;
    }

    async fn settings(&mut self) -> Self::Settings {
        if self.reading.is_none() && !self.wanted {
            return future::pending().await;
        }
        let result = self.read().await;
        result.map_err(|error| error.message.replace('\n', "; "))
    }

    fn apply(&mut self, config: Self::Settings, service: &mut DataPipeline) -> Option<Policy> {
        let refused = |reason| error!("reload refused, nothing changed: {reason}");
        let settings = config.map_err(refused).ok()?.settings;
        if let Some(what) = self.needs_restart(&settings) {
            error!("reload refused, nothing changed: {what} needs a restart");
            return None;
        }
        self.log.set_level(settings.log.level);
        log_warnings(&settings);
        let connection = Connection::new(settings.aws.clone(), settings.policy.interval);
        // Even with the same settings: only a new client reads the profile files again.
        service.reconnect(connection);
        self.settings = settings;
        info!("settings reloaded");
        Some(self.settings.policy)
    }
}
