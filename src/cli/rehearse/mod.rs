//! `taskbeat rehearse`: runs the real daemon against the built-in endpoint, and reports the result.

mod report;
mod timeline;
mod verdict;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use futures_util::stream;
use rustix::stdio::dup2_stdout;
use tokio::net::TcpListener;
use tokio::select;
use tokio::sync::mpsc::unbounded_channel;
use tracing::info;

use self::report::{Plan, Report, Reporter};
use self::verdict::Ladder;
use super::shared::{CliError, catch, load, print, print_json_to, runtime, start_log};
use crate::aws::{Connection, DataPipeline, REHEARSAL_KEY};
use crate::commands::Commands;
use crate::config::Options;
use crate::core::{AfterTerminate, Exit};
use crate::daemon::{Daemon, Journal, NoReload, Observer};
use crate::endpoint::{Script, serve};
use crate::log::{is_coloured, stdout_lines};
use crate::runner::{Runner, Terminal};
use crate::status::Snapshots;

/// What is played, and how the result is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rehearsal {
    pub(crate) script: Script,
    /// The seed that made the script.
    pub(crate) seed: Option<u64>,
    /// The endpoint's address; `None` for a free port of loopback.
    pub(crate) listen: Option<SocketAddr>,
    /// Whether stdout has the report as JSON, and stderr the rest.
    pub(crate) json: bool,
}

pub(super) fn rehearse(options: &Options, rehearsal: Rehearsal) -> Result<Exit, CliError> {
    let Rehearsal { script, seed, listen, json } = rehearsal;
    let mut config = load(options)?;
    let runtime = runtime()?;
    let inside = runtime.enter();
    let terminal = Terminal::find();
    let (stops, signals) = catch(terminal.as_ref())?;
    drop(inside);
    let listen = listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = runtime.block_on(TcpListener::bind(listen));
    let (listener, addr) = listener
        .and_then(|listener| listener.local_addr().map(|addr| (listener, addr)))
        .map_err(|error| {
            CliError::new(Exit::UNAVAILABLE, &format!("cannot listen on {listen}: {error}"))
        })?;
    let url = format!("http://{addr}");
    config.settings.aws.endpoint_url = Some(url.clone());
    let log = start_log(&config)?;
    let output_failed =
        |error: io::Error| CliError::internal(&format!("cannot redirect the output: {error}"));
    let stdout = json.then(set_stdout_aside).transpose().map_err(output_failed)?;
    let (lines, guard) = stdout_lines().map_err(output_failed)?;
    let coloured = is_coloured(&io::stdout());
    info!("endpoint {url} plays {script}");
    let mut settings = config.settings;
    // A rehearsal is over when the runner has stopped.
    settings.policy.after_terminate = AfterTerminate::Exit;
    let id = settings.identity.taskrunner_id.clone();
    let (sender, played) = unbounded_channel();
    let (stop, mut last_stop) = unbounded_channel();
    let grace = settings.policy.grace;
    let plan = Plan {
        script: script.to_string(),
        endpoint: url,
        is_open: !listen.ip().is_loopback(),
        seed,
        steps: script.len(),
        grace_seconds: grace.as_secs_f64(),
    };
    let ladder = Ladder::new(&settings.runner, grace);
    let mut reporter = Reporter::new(plan, (lines, coloured), ladder, played, stop);
    let mut journal = Journal::new(&id);
    let connection = Connection::rehearsal(settings.aws, settings.policy.interval);
    let daemon = Daemon {
        policy: settings.policy,
        commands: Commands::new(settings.commands, &id),
        runner: Runner::new(settings.runner, terminal),
        service: DataPipeline::new(connection, settings.identity),
        stops: stream::select(stops, stream::poll_fn(move |context| last_stop.poll_recv(context))),
        signals,
        status_requests: Snapshots::channel().1,
        keepalive: None,
        // A rehearsal is over before its settings change.
        reload: NoReload,
    };
    let observers: &mut [&mut dyn Observer] = &mut [&mut journal, &mut reporter];
    // Other clients of the endpoint play scripts of their own.
    let playing = serve(listener, script, move |play| {
        if play.heartbeat.access_key == REHEARSAL_KEY {
            // It fails only when the rehearsal is over.
            let _ = sender.send(play);
        }
    });
    let exit = runtime.block_on(async {
        select! {
            exit = daemon.run(observers) => exit,
            never = playing => match never {},
        }
    });
    runtime.shutdown_background();
    let report = reporter.report(exit);
    // The last lines of the log and of the timeline come before the verdict.
    drop((log, guard));
    print_report(&report, coloured, stdout)?;
    Ok(if report.passed { Exit::OK } else { Exit(1) })
}

/// Prints the verdict, and before it the report as JSON to the stdout that was set aside.
fn print_report(report: &Report, coloured: bool, stdout: Option<File>) -> Result<(), CliError> {
    let verdict = report.verdict(coloured);
    let Some(mut stdout) = stdout else {
        return print(&verdict);
    };
    let printed = print_json_to(&mut stdout, report);
    // The JSON has all of it, so a stderr that cannot be written is no failure.
    let _ = print(&verdict);
    printed
}

/// Makes stderr the stdout of taskbeat and of the runner, and returns the stdout that they had.
fn set_stdout_aside() -> io::Result<File> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    dup2_stdout(io::stderr())?;
    Ok(stdout.into())
}
