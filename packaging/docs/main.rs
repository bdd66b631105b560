//! Writes the man pages and the completions that packages install, from the definitions that the program is made of:
//! `cargo run --example docs -- FOLDER`, by default to `target/docs`.

mod configuration;
mod page;
mod program;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap_complete::Shell;
use taskbeat::cli::args;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.map_or_else(|| "target/docs".into(), PathBuf::from);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("taskbeat.1"), program::page()?.render())?;
    fs::write(
        folder.join("taskbeat.toml.5"),
        configuration::page()?.render(),
    )?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut args::command(), "taskbeat", &folder)?;
    }
    Ok(())
}
