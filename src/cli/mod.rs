//! The subcommands, each put together from the other modules.

pub mod args;
mod check;
mod once;
mod rehearse;
mod run;
mod status;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::panic;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};
use tracing::warn;

use self::args::Invocation;
use crate::aws::messages;
use crate::commands::hide_facts;
use crate::config::{self, Config, Options};
use crate::core::Exit;
use crate::log::Log;
use crate::runner::mark_beside_runner;

/// Runs the subcommand that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    mark_beside_runner();
    hide_facts();
    config::environment::remove_empty();
    let invocation = match args::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => {
            // If this cannot be printed, nothing else can.
            let _ = error.print();
            return args::exit(&error).into();
        }
    };
    panic::catch_unwind(|| dispatch(invocation)).unwrap_or_else(|panic| {
        print_error(&format_args!("taskbeat: {}", messages::panicked(&*panic)));
        Exit::INTERNAL.into()
    })
}

fn dispatch(invocation: Invocation) -> ExitCode {
    let outcome = match invocation {
        Invocation::Run(options) => run::run(options),
        Invocation::Once(options) => once::once(&options),
        Invocation::Check { options, online } => check::check(&options, online),
        Invocation::Status { options, json } => status::status(&options, json),
        Invocation::Rehearse {
            options,
            script,
            listen,
        } => rehearse::rehearse(&options, &script, listen),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            print_error(&error.message);
            error.exit.into()
        }
    }
}

/// Why a subcommand ended early.
struct CliError {
    message: String,
    exit: Exit,
}

impl CliError {
    fn new(exit: Exit, message: &impl Display) -> Self {
        let message = format!("taskbeat: {message}");
        Self { message, exit }
    }

    /// A defect of taskbeat or a failing kernel.
    fn internal(error: &impl Display) -> Self {
        Self::new(Exit::INTERNAL, error)
    }
}

fn load(options: &Options) -> Result<Config, CliError> {
    config::load(options, std::env::vars_os()).map_err(|errors| CliError {
        message: errors.to_string(),
        exit: Exit::CONFIG,
    })
}

/// Prints to stdout. A reader that has closed it is no error.
fn print(text: &impl Display) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::internal(&format!(
            "cannot write to stdout: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Prints to stderr. If that fails, nothing else can be done.
fn print_error(text: &impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Starts the log, and logs the warnings.
fn start_log(config: &Config) -> Result<Log, CliError> {
    let log = Log::start(config.settings.log)
        .map_err(|error| CliError::internal(&format!("cannot start the log: {error}")))?;
    for warning in config.settings.warnings() {
        warn!("{warning}");
    }
    Ok(log)
}

/// The runtime of the main thread, on which children are started: the kernel kills a child when the
/// thread that started it ends.
fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::internal(&error))
}
