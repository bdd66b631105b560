//! The configuration: what the user decides, where it may come from, and what is refused.
//!
//! It passes three stages. `sources` gathers one raw value for each row of the table, [`SETTINGS`]: from a flag, else
//! the environment, else the file, else a default; `host` fills in what the host says of itself. `values` parses single values. `settings` puts them together.
//! Whatever is wrong is refused before anything starts; no unknown name and no bad value falls back to a default.
//!
//! A new setting is a row of the table, a field of [`Settings`] and a line of its reader.

mod errors;
mod file;
mod host;
mod listing;
mod placeholders;
mod settings;
mod show;
mod sources;
mod table;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;

pub use errors::{Error, Errors};
pub use listing::listing;
pub use placeholders::{Part, Placeholder, parts};
pub use settings::{
    AwsSettings, Identity, LogFormat, LogSettings, RunnerSettings, Settings, StopScope, Target,
};
pub use sources::{Flag, Inputs, Options, Origin, Preset};
pub use table::{Group, SETTINGS, Setting};

/// The settings, and the inputs they were made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What was decided.
    pub settings: Settings,
    /// Who decided it, for [`listing`].
    pub inputs: Inputs,
}

/// Reads every source. A reload calls it again with the same options and compares the settings.
///
/// # Errors
/// Everything that is wrong, in whatever source; the exit status for it is [`crate::core::Exit::CONFIG`].
pub fn load(
    options: &Options,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Errors> {
    let mut inputs = Inputs::gather(options, &environment.into_iter().collect())?;
    inputs.fill();
    let settings = Settings::resolve(&inputs)?;
    Ok(Config { settings, inputs })
}
