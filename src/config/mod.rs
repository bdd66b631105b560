//! The configuration: which settings there are, where their values come from, and what is refused.
//!
//! ```text
//!   command line ─┐                ┌──▶ settings   typed, or every error at once
//!   environment ──┼──▶ sources ────┤    (values parses one text each)
//!   file ─────────┤    one Input   └──▶ listing    what `check` prints
//!   defaults ─────┘    for each row of the table
//! ```
//!
//! Everything wrong is refused before anything starts. No unknown name and no bad value falls back
//! to a default. A new setting is a row of the table, a field of `Settings` and a line of its
//! reader.

pub(crate) mod environment;
mod errors;
mod file;
mod host;
mod input;
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

use self::errors::Errors;
use self::sources::Inputs;

pub(crate) use self::listing::Listing;
pub(crate) use self::placeholders::{Part, parts};
pub use self::settings::{AwsSettings, Identity, LogSettings, RunnerSettings, Target};
pub(crate) use self::settings::{CommandSettings, Settings};
pub(crate) use self::show::escaped;
pub(crate) use self::sources::{Flag, Options, Preset};
pub(crate) use self::table::Group;
pub use self::table::{SETTINGS, Setting};
pub use self::values::{LogFormat, StopScope};

/// The settings, and where each of them came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    pub(crate) listing: Listing,
}

/// Reads every source. A reload calls it again with the same options and compares the settings.
///
/// # Errors
///
/// Everything that is wrong, in whatever source. The exit status is [`crate::core::Exit::CONFIG`].
pub(crate) fn load(
    options: &Options,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Errors> {
    let mut inputs = Inputs::gather(options, &environment::without_empty(environment))?;
    inputs.fill();
    let settings = Settings::resolve(&inputs)?;
    let listing = Listing::new(&inputs);
    Ok(Config { settings, listing })
}
