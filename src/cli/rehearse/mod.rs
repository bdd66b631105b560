//! `taskbeat rehearse`: runs the real daemon against the built-in endpoint, and reports the result.

mod report;

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::stream;
use tokio::net::TcpListener;
use tokio::select;
use tokio::sync::mpsc::unbounded_channel;
use tracing::{info, warn};

use self::report::Reporter;
use super::shared::{CliError, catch, load, print, runtime, start_log};
use crate::aws::{Connection, DataPipeline};
use crate::commands::Commands;
use crate::config::Options;
use crate::core::Exit;
use crate::daemon::{Daemon, Journal, NoReload, Observer};
use crate::endpoint::{Script, serve};
use crate::runner::{Runner, Terminal};

pub(super) fn rehearse(
    options: &Options,
    script: &Script,
    listen: Option<SocketAddr>,
) -> Result<Exit, CliError> {
    let mut config = load(options)?;
    let runtime = runtime()?;
    let inside = runtime.enter();
    let terminal = Terminal::find();
    let (stops, signals) = catch(terminal.as_ref())?;
    drop(inside);
    let listen = listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = runtime.block_on(TcpListener::bind(listen));
    let (listener, addr) =
        listener.and_then(|listener| listener.local_addr().map(|addr| (listener, addr))).map_err(
            |error| CliError::new(Exit::UNAVAILABLE, &format!("--listen {listen}: {error}")),
        )?;
    let url = format!("http://{addr}");
    config.settings.aws.endpoint_url = Some(url.clone());
    let log = start_log(&config)?;
    if !listen.ip().is_loopback() {
        warn!("any host that reaches {listen} can use the endpoint, which checks no credentials");
    }
    info!("endpoint {url} plays {script}");
    let settings = config.settings;
    let id = settings.identity.taskrunner_id.clone();
    let mut journal = Journal::new(&log, &id);
    let (sender, played) = unbounded_channel();
    // Other clients of the endpoint play scripts of their own.
    let playing = serve(listener, script.clone(), move |play| {
        if play.heartbeat.taskrunner_id == id {
            // It fails only when the rehearsal is over.
            let _ = sender.send(play.step);
        }
    });
    let (stop, mut last_stop) = unbounded_channel();
    let last_stop = stream::poll_fn(move |context| last_stop.poll_recv(context));
    let connection = Connection::rehearsal(settings.aws, settings.policy.interval);
    let daemon = Daemon {
        policy: settings.policy,
        commands: Commands::new(settings.commands.clone(), &settings.identity.taskrunner_id),
        runner: Runner::new(settings.runner, terminal),
        service: DataPipeline::new(connection, settings.identity),
        stops: stream::select(stops, last_stop),
        signals,
        claim: None,
        keepalive: None,
        // A rehearsal is over before its settings change.
        reload: NoReload,
    };
    let mut reporter = Reporter::new(script.len(), settings.policy.grace, played, stop);
    let observers: &mut [&mut dyn Observer] = &mut [&mut journal, &mut reporter];
    let exit = runtime.block_on(async {
        select! {
            exit = daemon.run(observers) => exit,
            never = playing => match never {},
        }
    });
    runtime.shutdown_background();
    // The last lines of the log come before the report.
    drop(log);
    let report = reporter.report(exit);
    print(&report)?;
    Ok(if report.passed { Exit::OK } else { Exit(1) })
}
