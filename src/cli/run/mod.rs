//! `taskbeat run`: the daemon.

mod reload;

use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::StreamExt;
use tokio::select;
use tracing::{info, warn};

use self::reload::Reloader;
use super::shared::{CliError, catch, runtime, start_log};
use crate::aws::{Connection, DataPipeline};
use crate::commands::Commands;
use crate::config::{Config, Options};
use crate::core::Exit;
use crate::daemon::{Daemon, Journal};
use crate::runner::{Runner, Terminal};
use crate::status::{self, ClaimError, Snapshots};
use crate::systemd::{self, Systemd};

pub(super) fn run(options: Options) -> Result<Exit, CliError> {
    let runtime = runtime()?;
    let inside = runtime.enter();
    let terminal = Terminal::find();
    let (mut stops, signals) = catch(terminal.as_ref())?;
    let (snapshots, status_requests) = Snapshots::channel();
    let prepared = runtime.block_on(async {
        select! {
            biased;
            // A file may hang, which no stop waits for.
            Some(stop) = stops.next() => Err(stop),
            prepared = prepare(options.clone(), snapshots.clone()) => Ok(prepared),
        }
    });
    let (config, foreign) = match prepared {
        Ok(prepared) => prepared?,
        Err(stop) => return Ok(Exit::by_signal(stop.signal)),
    };
    let settings = config.settings.clone();
    let id = settings.identity.taskrunner_id.clone();
    let metrics = settings.metrics_listen.map(|address| listen(address, snapshots)).transpose()?;
    let log = Rc::new(start_log(&config)?);
    info!(version = env!("CARGO_PKG_VERSION"), taskrunner_id = id, "taskbeat starts");
    if let Some(foreign) = foreign {
        warn!("{foreign}");
    }
    if let Some(address) = metrics {
        info!("metrics at http://{address}/metrics");
    }
    let connection = Connection::new(settings.aws.clone(), settings.policy.interval);
    let daemon = Daemon {
        policy: settings.policy,
        commands: Commands::new(settings.commands.clone(), &id),
        runner: Runner::new(settings.runner.clone(), terminal),
        service: DataPipeline::new(connection, settings.identity.clone()),
        stops,
        signals,
        status_requests,
        keepalive: systemd::keepalive(),
        reload: Reloader::new(options, settings, Rc::clone(&log)),
    };
    let (mut journal, mut systemd) = (Journal::new(&id), Systemd::start());
    drop(inside);
    let exit = runtime.block_on(daemon.run(&mut [&mut journal, &mut systemd]));
    // Do not wait for a thread that hangs.
    runtime.shutdown_background();
    Ok(exit)
}

/// Reads the settings and claims the id. A process of another user that has the id cannot keep
/// taskbeat from starting, and is returned.
async fn prepare(
    options: Options,
    snapshots: Snapshots,
) -> Result<(Config, Option<ClaimError>), CliError> {
    let config = reload::read(options).await?;
    match status::claim(&config.settings.identity.taskrunner_id, snapshots).await {
        Err(error @ ClaimError::Taken { .. }) => Err(CliError::new(Exit::ALREADY_RUNNING, &error)),
        Err(error @ ClaimError::Socket(_)) => Err(CliError::internal(&error)),
        claimed => Ok((config, claimed.err())),
    }
}

/// Serves the metrics. If the address is taken, a later start may find it free, as after another
/// instance.
fn listen(address: SocketAddr, snapshots: Snapshots) -> Result<SocketAddr, CliError> {
    status::listen(address, snapshots).map_err(|error| {
        let message = format!("cannot listen on metrics-listen {address}: {error}");
        CliError::new(Exit::ALREADY_RUNNING, &message)
    })
}
