//! What the subcommands share: reading the settings, starting the log, printing, and errors.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tracing::warn;

use crate::config::{self, Config, Options, Settings};
use crate::core::Exit;
use crate::log::{Log, is_journal};
use crate::runner::Terminal;
use crate::signals::{self, Signals, Stops};

/// Why a subcommand ended early.
pub(super) struct CliError {
    pub(super) message: String,
    pub(super) exit: Exit,
}

impl CliError {
    pub(super) fn new(exit: Exit, message: &impl Display) -> Self {
        let message = format!("taskbeat: {message}");
        Self { message, exit }
    }

    /// A defect of taskbeat or a failing kernel.
    pub(super) fn internal(error: &impl Display) -> Self {
        Self::new(Exit::INTERNAL, error)
    }
}

pub(super) fn load(options: &Options) -> Result<Config, CliError> {
    config::load(options, std::env::vars_os())
        .map_err(|errors| CliError { message: errors.join("\n"), exit: Exit::CONFIG })
}

/// Prints to stdout. A signal ends taskbeat while it waits for the reader.
pub(super) fn print(text: &impl Display) -> Result<(), CliError> {
    print_to(&mut io::stdout().lock(), text)
}

/// Prints one line of JSON to stdout.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    print_json_to(&mut io::stdout().lock(), value)
}

/// Prints one line of JSON to `stdout`, as [`print`] does.
pub(super) fn print_json_to(
    stdout: &mut impl Write,
    value: &impl Serialize,
) -> Result<(), CliError> {
    let line = serde_json::to_string(value).map_err(|error| CliError::internal(&error))?;
    print_to(stdout, &format_args!("{line}\n"))
}

fn print_to(stdout: &mut impl Write, text: &impl Display) -> Result<(), CliError> {
    signals::release();
    stdout_error(write!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// The error of printing to stdout. A reader that has closed it is none.
pub(super) fn stdout_error(printed: io::Result<()>) -> Result<(), CliError> {
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::internal(&format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints to stderr, as [`print`] does. If that fails, nothing else can be done.
pub(super) fn print_error(text: &impl Display) {
    signals::release();
    // As in sd-daemon(3): each line of the journal has its priority.
    let priority = if is_journal() { "<3>" } else { "" };
    for line in text.to_string().lines() {
        let _ = writeln!(io::stderr(), "{priority}{line}");
    }
}

/// Starts the log, and logs the warnings about the settings.
pub(super) fn start_log(config: &Config) -> Result<Log, CliError> {
    let log = Log::start(config.settings.log)
        .map_err(|error| CliError::internal(&format!("cannot start the log: {error}")))?;
    log_warnings(&config.settings);
    Ok(log)
}

pub(super) fn log_warnings(settings: &Settings) {
    for warning in settings.warnings() {
        warn!("{warning}");
    }
}

/// The runtime of the main thread, on which children are started: the kernel kills a child when the
/// thread that started it ends.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CliError::internal(&format!("cannot start the runtime: {error}")))
}

/// Catches the signals. Call it inside a runtime.
pub(super) fn catch(terminal: Option<&Terminal>) -> Result<(Stops, Signals), CliError> {
    let caught = signals::catch(terminal);
    caught.map_err(|error| CliError::internal(&format!("cannot catch signals: {error}")))
}
