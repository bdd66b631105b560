//! Writes the man pages and the completions of the packages, and `docs/configuration.md` with its
//! settings, from the definitions that the program itself uses:
//! `cargo run --example docs -- FOLDER`, by default to `target/docs`.

mod commands;
mod configuration;
mod page;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ValueHint};
use clap_complete::Shell;
use taskbeat::cli::args;
use taskbeat::config::SETTINGS;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.map_or_else(|| "target/docs".into(), PathBuf::from);
    fs::create_dir_all(&folder)?;
    for (name, page) in commands::pages()? {
        fs::write(folder.join(name), page)?;
    }
    fs::write(folder.join("taskbeat.toml.5"), configuration::man()?.render())?;
    fs::write(folder.join("configuration.md"), configuration::markdown()?)?;
    let mut command = args::command().mut_subcommands(|subcommand| subcommand.mut_args(complete));
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "taskbeat", &folder)?;
    }
    Ok(())
}

/// Lets shells offer the values of a closed list, and files only where a path is expected.
fn complete(arg: Arg) -> Arg {
    let setting = SETTINGS.iter().find(|setting| arg.get_id() == setting.key);
    let takes = |placeholder| {
        let names = arg.get_value_names().unwrap_or_default();
        names.iter().any(|name| name.as_str() == placeholder)
    };
    match setting.map_or(&[][..], |setting| setting.choices) {
        [] if takes("PATH") => arg.value_hint(ValueHint::FilePath),
        [] if takes("ARG") => arg.value_hint(ValueHint::CommandWithArguments),
        [] if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        [] => arg,
        choices => arg.value_parser(PossibleValuesParser::new(choices)),
    }
}
