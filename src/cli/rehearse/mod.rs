//! `taskbeat rehearse`: the real daemon against the built-in endpoint, and how the runner took it.

mod report;

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::stream;
use tokio::select;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::info;

use self::report::Report;
use super::{CliError, load, runtime, start_log};
use crate::aws::{Connection, DataPipeline};
use crate::config::{Options, Settings};
use crate::core::{Event, Exit};
use crate::daemon::{Daemon, Journal, Observer, Turn};
use crate::endpoint::{Endpoint, Script};
use crate::log::Log;
use crate::runner::{Runner, Terminal};
use crate::signals::{Heard, Signals};

pub(super) fn rehearse(
    options: &Options,
    script: &Script,
    listen: Option<SocketAddr>,
) -> Result<Exit, CliError> {
    let mut config = load(options)?;
    let runtime = runtime()?;
    let inside = runtime.enter();
    let terminal = Terminal::find();
    let signals = Signals::catch(terminal.as_ref()).map_err(|error| CliError::internal(&error))?;
    drop(inside);
    let listen = listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let endpoint = runtime
        .block_on(Endpoint::bind(listen, script.clone()))
        .map_err(|error| {
            CliError::new(Exit::UNAVAILABLE, &format!("--listen {listen}: {error}"))
        })?;
    let url = format!("http://{}", endpoint.addr());
    config.settings.aws.endpoint_url = Some(url.clone());
    let log = start_log(&config)?;
    info!("endpoint {url} plays {script}");
    let runner = Runner::new(config.settings.runner.clone(), terminal);
    let playing = play(config.settings, endpoint, script, runner, signals, &log);
    let report = runtime.block_on(playing);
    runtime.shutdown_background();
    // The last lines of the log come before the report.
    drop(log);
    print!("{report}");
    Ok(if report.passed() { Exit::OK } else { Exit(1) })
}

async fn play(
    settings: Settings,
    endpoint: Endpoint,
    script: &Script,
    runner: Runner,
    signals: Signals,
    log: &Log,
) -> Report {
    let connection = Connection::rehearsal(settings.aws, settings.policy.interval);
    // Other clients of the endpoint play scripts of their own.
    let (us, (played, plays)) = (settings.identity.taskrunner_id.clone(), unbounded_channel());
    let playing = endpoint.serve(move |play| {
        if play.heartbeat.taskrunner_id == us {
            // Nobody listens only when the rehearsal is over.
            let _ = played.send(play.step);
        }
    });
    let service = DataPipeline::new(connection, settings.identity);
    let (stop, mut stopped) = unbounded_channel();
    let curtain_calls = stream::poll_fn(move |context| stopped.poll_recv(context));
    let steps = script.steps().len();
    let mut journal = Journal::new(log);
    let mut report = Report::new(steps, settings.policy.grace, plays);
    let mut curtain = Curtain { steps, stop };
    let daemon = Daemon {
        policy: settings.policy,
        runner,
        service,
        signals: stream::select(signals, curtain_calls),
        instance: None,
        pulse: None,
        // A rehearsal is over before its settings change.
        reload: Box::new(|_| None),
    };
    let observers: &mut [&mut dyn Observer] = &mut [&mut journal, &mut report, &mut curtain];
    let exit = select! {
        exit = daemon.run(observers) => exit,
        () = playing => Exit::INTERNAL,
    };
    report.exit(exit);
    report
}

/// Stops the daemon as an operator would when the last step was played and was no `terminate`.
struct Curtain {
    steps: usize,
    stop: UnboundedSender<Heard>,
}

impl Observer for Curtain {
    fn observe(&mut self, step: &Turn<'_>) {
        if let Event::HeartbeatEnded(..) = step.event {
            self.steps = self.steps.saturating_sub(1);
            if self.steps == 0 && step.agent.state().cause().is_none() {
                // The loop is gone only when it needs no stop any more.
                let _ = self.stop.send(Heard::Stop { told: false });
            }
        }
    }
}
