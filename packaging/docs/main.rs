//! Writes the man pages and the completions of the packages, from the definitions that the program
//! itself uses: `cargo run --example docs -- FOLDER`, by default to `target/docs`.

mod commands;
mod configuration;
mod page;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap_complete::Shell;
use taskbeat::cli::args;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.map_or_else(|| "target/docs".into(), PathBuf::from);
    fs::create_dir_all(&folder)?;
    for (name, page) in commands::pages()? {
        fs::write(folder.join(name), page)?;
    }
    let configuration = configuration::page()?.render();
    fs::write(folder.join("taskbeat.toml.5"), configuration)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut args::command(), "taskbeat", &folder)?;
    }
    Ok(())
}
