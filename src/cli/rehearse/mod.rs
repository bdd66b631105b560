//! `taskbeat rehearse`: runs the real daemon against the built-in endpoint, and reports the result.

mod report;

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::stream;
use signal_hook::consts::SIGTERM;
use tokio::select;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};

use self::report::{Report, Reporter};
use super::shared::{CliError, catch, load, print, runtime, start_log};
use crate::aws::{Connection, DataPipeline};
use crate::commands::Commands;
use crate::config::{Options, Settings};
use crate::core::{Event, Exit};
use crate::daemon::{Daemon, Journal, NoReload, Observer, Turn};
use crate::endpoint::{Endpoint, Script, Step};
use crate::log::Log;
use crate::runner::{Runner, Terminal};
use crate::signals::{Signals, Stop, Stops};

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
    let endpoint = runtime.block_on(Endpoint::bind(listen, script.clone())).map_err(|error| {
        CliError::new(Exit::UNAVAILABLE, &format!("--listen {listen}: {error}"))
    })?;
    let url = format!("http://{}", endpoint.addr());
    config.settings.aws.endpoint_url = Some(url.clone());
    let log = start_log(&config)?;
    if !listen.ip().is_loopback() {
        warn!("any host that reaches {listen} can use the endpoint, which checks no credentials");
    }
    info!("endpoint {url} plays {script}");
    let rehearsal = Rehearsal {
        runner: Runner::new(config.settings.runner.clone(), terminal),
        settings: config.settings,
        stops,
        signals,
    };
    let report = runtime.block_on(rehearsal.play(endpoint, script, &log));
    runtime.shutdown_background();
    // The last lines of the log come before the report.
    drop(log);
    print(&report)?;
    Ok(if report.passed { Exit::OK } else { Exit(1) })
}

struct Rehearsal {
    settings: Settings,
    runner: Runner,
    stops: Stops,
    signals: Signals,
}

impl Rehearsal {
    async fn play(self, endpoint: Endpoint, script: &Script, log: &Log) -> Report {
        let settings = self.settings;
        let id = settings.identity.taskrunner_id.clone();
        let (playing, played) = serve(endpoint, id.clone());
        let connection = Connection::rehearsal(settings.aws, settings.policy.interval);
        let steps = script.steps().len();
        let (stop, mut last_stop) = unbounded_channel();
        let last_stop = stream::poll_fn(move |context| last_stop.poll_recv(context));
        let daemon = Daemon {
            policy: settings.policy,
            commands: Commands::new(settings.commands, &id),
            runner: self.runner,
            service: DataPipeline::new(connection, settings.identity),
            stops: stream::select(self.stops, last_stop),
            signals: self.signals,
            claim: None,
            keepalive: None,
            // A rehearsal is over before its settings change.
            reload: NoReload,
        };
        let mut journal = Journal::new(log);
        let mut reporter = Reporter::new(steps, settings.policy.grace, played);
        let mut stopper = Stopper { steps, stop };
        let observers: &mut [&mut dyn Observer] = &mut [&mut journal, &mut reporter, &mut stopper];
        let exit = select! {
            exit = daemon.run(observers) => exit,
            () = playing => Exit::INTERNAL,
        };
        reporter.report(exit)
    }
}

/// Plays the endpoint, and passes on the steps that the heartbeats of `id` meet. Other clients of
/// the endpoint play scripts of their own.
fn serve(endpoint: Endpoint, id: String) -> (impl Future<Output = ()>, UnboundedReceiver<Step>) {
    let (sender, played) = unbounded_channel();
    let playing = endpoint.serve(move |play| {
        if play.heartbeat.taskrunner_id == id {
            // It fails only when the rehearsal is over.
            let _ = sender.send(play.step);
        }
    });
    (playing, played)
}

/// Stops the daemon, as an operator would, after the last step of a script without `terminate`.
struct Stopper {
    steps: usize,
    stop: UnboundedSender<Stop>,
}

impl Observer for Stopper {
    fn observe(&mut self, turn: &Turn<'_>) {
        if let Event::HeartbeatEnded(..) = turn.event {
            self.steps = self.steps.saturating_sub(1);
            if self.steps == 0 && turn.agent.state().cause().is_none() {
                // It fails only when the loop has ended.
                let _ = self.stop.send(Stop {
                    signal: u8::try_from(SIGTERM).unwrap_or_default(),
                    from_terminal: false,
                });
            }
        }
    }
}
