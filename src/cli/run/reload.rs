//! Reads the settings, for the start and for reloads, on a thread of their own: a file may hang.

use std::future;
use std::rc::Rc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, timeout_at};
use tracing::{error, info, warn};

use crate::aws::{Connection, DataPipeline};
use crate::cli::shared::{CliError, load};
use crate::config::{Config, Options, Settings};
use crate::core::{Exit, Policy};
use crate::daemon::Reload;
use crate::log::Log;

/// Reading takes longer only if a file hangs.
const LIMIT: Duration = Duration::from_secs(10);

const PANICKED: &str = "the settings could not be read: internal error";

const HANGS: &str = "the settings could not be read within 10s; a file hangs";

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

/// The settings as they are being read.
struct Reading {
    result: oneshot::Receiver<Result<Config, CliError>>,
    until: Instant,
    /// The thread that reads, or why there is none.
    thread: Result<JoinHandle<()>, String>,
}

impl Reading {
    /// Begins to read, unless the thread of an earlier reading still hangs.
    fn start(options: &Options, hangs: bool) -> Self {
        let (sender, result) = oneshot::channel();
        let options = options.clone();
        let read = move || drop(sender.send(load(&options)));
        let thread = if hangs {
            Err("the settings are still being read for an earlier reload".to_owned())
        } else {
            let thread = Builder::new().name("settings".to_owned()).spawn(read);
            thread.map_err(|error| format!("cannot start a thread: {error}"))
        };
        Self { result, until: Instant::now() + LIMIT, thread }
    }

    /// Waits for the result. Cancel safe.
    async fn result(&mut self) -> Result<Config, CliError> {
        if let Err(reason) = &self.thread {
            return Err(CliError { message: reason.clone(), exit: Exit::INTERNAL });
        }
        match timeout_at(self.until, &mut self.result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CliError { message: PANICKED.to_owned(), exit: Exit::INTERNAL }),
            Err(_) => Err(CliError { message: HANGS.to_owned(), exit: Exit::CONFIG }),
        }
    }
}

/// Reads the settings for the start.
pub(super) async fn first(options: &Options) -> Result<Config, CliError> {
    Reading::start(options, false).result().await
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
        if self.reading.is_some() {
            self.again = true;
            return;
        }
        let hangs = self.hung.as_ref().is_some_and(|hung| !hung.is_finished());
        self.reading = Some(Reading::start(&self.options, hangs));
    }

    async fn settings(&mut self) -> Self::Settings {
        let Some(reading) = &mut self.reading else {
            return future::pending().await;
        };
        let result = reading.result().await;
        let timed_out = Instant::now() >= reading.until;
        let thread = self.reading.take().and_then(|reading| reading.thread.ok());
        if timed_out {
            self.hung = thread;
        }
        if std::mem::take(&mut self.again) {
            self.begin();
        }
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
