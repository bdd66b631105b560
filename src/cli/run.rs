//! `taskbeat run`: the daemon.

use std::rc::Rc;

use tracing::{error, info};

use super::{CliError, load, runtime, start_log};
use crate::aws::{Connection, DataPipeline};
use crate::config::{Options, Settings};
use crate::core::{Exit, Policy};
use crate::daemon::{Daemon, Journal};
use crate::log::Log;
use crate::runner::{Runner, Terminal};
use crate::signals::Signals;
use crate::status::{Claim, ClaimError};
use crate::systemd::{self, Systemd};

pub(super) fn run(options: Options) -> Result<Exit, CliError> {
    let runtime = runtime()?;
    let inside = runtime.enter();
    let terminal = Terminal::find();
    let signals = Signals::catch(terminal.as_ref()).map_err(|error| CliError::internal(&error))?;
    let config = load(&options)?;
    let settings = config.settings.clone();
    let instance = claim(&settings.identity.taskrunner_id)?;
    let log = Rc::new(start_log(&config)?);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        taskrunner_id = settings.identity.taskrunner_id,
        "taskbeat starts"
    );
    let connection = Connection::new(settings.aws.clone(), settings.policy.interval);
    let mut reloader = Reloader {
        options,
        settings: settings.clone(),
        log: Rc::clone(&log),
    };
    let daemon = Daemon {
        policy: settings.policy,
        runner: Runner::new(settings.runner, terminal),
        service: DataPipeline::new(connection, settings.identity),
        signals,
        instance: Some(instance),
        pulse: systemd::pulse(),
        reload: Box::new(move |service| reloader.reload(service)),
    };
    let (mut journal, mut systemd) = (Journal::new(&log), Systemd::start());
    drop(inside);
    let exit = runtime.block_on(daemon.run(&mut [&mut journal, &mut systemd]));
    // A name that is being looked up is nothing to wait for.
    runtime.shutdown_background();
    Ok(exit)
}

fn claim(taskrunner_id: &str) -> Result<Claim, CliError> {
    Claim::claim(taskrunner_id).map_err(|error| {
        let exit = match error {
            ClaimError::Taken { .. } => Exit::ALREADY_RUNNING,
            ClaimError::Socket(_) => Exit::INTERNAL,
        };
        CliError::new(exit, &error)
    })
}

/// Reads the settings again, from where they came.
struct Reloader {
    options: Options,
    /// The settings in force.
    settings: Settings,
    log: Rc<Log>,
}

impl Reloader {
    /// All of the new settings, or none of them.
    fn reload(&mut self, service: &mut DataPipeline) -> Option<Policy> {
        let settings = match load(&self.options) {
            Ok(config) => config.settings,
            Err(error) => {
                let message = error.message.replace('\n', "; ");
                error!("reload refused, nothing changed: {message}");
                return None;
            }
        };
        if let Some(what) = self.needs_restart(&settings) {
            error!("reload refused, nothing changed: {what} needs a restart");
            return None;
        }
        self.log.set_level(settings.log.level);
        let connection = Connection::new(settings.aws.clone(), settings.policy.interval);
        // Even with the same settings: profile files may have changed, which only a new client sees.
        service.reconnect(connection);
        self.settings = settings;
        info!("settings reloaded");
        Some(self.settings.policy)
    }

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
