//! The subcommands, each put together from the other modules.

pub mod args;
mod check;
mod once;
mod rehearse;
mod run;
mod shared;
mod status;

use std::panic;
use std::process::ExitCode;

use self::args::Subcommand;
use self::shared::{CliError, print_error, stdout_error};
use crate::aws::messages;
use crate::commands::remove_facts;
use crate::config::{self, Options};
use crate::core::Exit;
use crate::helpers;
use crate::sys;

/// Runs the subcommand that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    sys::reset_inherited();
    remove_facts();
    config::environment::remove_unusable();
    let (subcommand, options) = match args::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Only help and version go to stdout.
            let printed = stdout_error(error.print()).err().filter(|_| !error.use_stderr());
            return printed.map_or_else(|| args::exit(&error), |error| report(&error)).into();
        }
    };
    let exit = panic::catch_unwind(|| dispatch(subcommand, options)).unwrap_or_else(|panic| {
        print_error(&format_args!("taskbeat: {}", messages::panicked(&*panic)));
        Exit::INTERNAL.into()
    });
    helpers::kill_all();
    exit
}

fn dispatch(subcommand: Subcommand, options: Options) -> ExitCode {
    let outcome = match subcommand {
        Subcommand::Run => run::run(options),
        Subcommand::Once => once::once(&options),
        Subcommand::Check { online, json, quiet } => check::check(&options, online, json, quiet),
        Subcommand::Status { format } => status::status(&options, format),
        Subcommand::Rehearse { rehearsal } => rehearse::rehearse(&options, rehearsal),
    };
    outcome.unwrap_or_else(|error| report(&error)).into()
}

fn report(error: &CliError) -> Exit {
    print_error(&error.message);
    error.exit
}
