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

use self::args::Invocation;
use self::shared::{CliError, print_error, stdout_error};
use crate::aws::messages;
use crate::commands::remove_facts;
use crate::config;
use crate::core::Exit;

/// Runs the subcommand that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    remove_facts();
    config::environment::remove_empty();
    let invocation = match args::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => {
            let printed = stdout_error(error.print()).map(|()| args::exit(&error));
            return printed.unwrap_or_else(|error| report(&error)).into();
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
        Invocation::Rehearse { options, script, listen } => {
            rehearse::rehearse(&options, &script, listen)
        }
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => report(&error).into(),
    }
}

fn report(error: &CliError) -> Exit {
    print_error(&error.message);
    error.exit
}
