//! Reads the settings, for the start and for reloads, on a thread of their own: a file may hang.

use std::future;
use std::pin::Pin;
use std::rc::Rc;
use std::thread::Builder;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Duration, timeout};
use tracing::{error, info};

use crate::aws::{Connection, DataPipeline};
use crate::cli::shared::{CliError, load, log_warnings};
use crate::config::{Config, Options, Settings};
use crate::core::{Exit, Policy};
use crate::daemon::Reload;
use crate::log::Log;

/// Reading takes longer only if a file hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// The thread that reads has the permit, so that at most one of them hangs.
static READER: Semaphore = Semaphore::const_new(1);

/// Reads the settings again, from the same sources.
pub(super) struct Reloader {
    options: Options,
    /// The settings in force.
    settings: Settings,
    log: Rc<Log>,
    /// True if a reload was asked for and has not begun.
    pending: bool,
    reading: Option<Reading>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Config, CliError>>>>;

/// Reads the settings on a thread of its own.
pub(super) async fn read(options: Options) -> Result<Config, CliError> {
    let failed = |exit, reason| CliError { message: format!("the settings {reason}"), exit };
    let permit = READER
        .try_acquire()
        .map_err(|_| failed(Exit::CONFIG, "are still being read for an earlier reload"))?;
    let (sender, result) = oneshot::channel();
    let read = move || {
        let config = load(&options);
        drop(permit);
        // It fails if the limit has passed.
        let _ = sender.send(config);
    };
    let thread = Builder::new().name("settings".to_owned()).spawn(read);
    thread.map_err(|error| CliError::internal(&format!("cannot start a thread: {error}")))?;
    match timeout(LIMIT, result).await {
        Ok(Ok(config)) => config,
        Ok(Err(_)) => Err(failed(Exit::INTERNAL, "could not be read: internal error")),
        // Not invalid, so a unit tries it again.
        Err(_) => Err(failed(Exit::INTERNAL, "could not be read within 10s; a file hangs")),
    }
}

impl Reloader {
    pub(super) fn new(options: Options, settings: Settings, log: Rc<Log>) -> Self {
        Self { options, settings, log, pending: false, reading: None }
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
        } else if new.metrics_listen != old.metrics_listen {
            Some("another metrics-listen")
        } else {
            None
        }
    }
}

impl Reload<DataPipeline> for Reloader {
    type Settings = Result<Config, String>;

    fn begin(&mut self) {
        self.pending = true;
    }

    async fn settings(&mut self) -> Self::Settings {
        if self.reading.is_none() && std::mem::take(&mut self.pending) {
            self.reading = Some(Box::pin(read(self.options.clone())));
        }
        let Some(reading) = &mut self.reading else {
            return future::pending().await;
        };
        let result = reading.await;
        self.reading = None;
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
