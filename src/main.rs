//! The `taskbeat` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    taskbeat::cli::main()
}
