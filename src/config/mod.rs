//! The configuration: which settings there are, where their values come from, and what is refused.
//!
//! ```text
//!   command line ─┐                 ┌──▶ settings   typed, or every error at once
//!   environment ──┼──▶ sources ─────┤    (values parses one text each)
//!   file ─────────┤    one Input    └──▶ listing    what `check` prints
//!   defaults ─────┘    for each row of the table
//! ```
//!
//! Everything wrong is refused before anything starts. No unknown name and no bad value falls back
//! to a default. A new setting is a row of the table, a field of `Settings` and a line of its
//! reader.

pub(crate) mod environment;
mod file;
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

pub(crate) use self::file::{file_problem, read_to_string};
pub(crate) use self::input::Origin;
pub(crate) use self::listing::Listing;
pub(crate) use self::placeholders::{Part, parts};
pub(crate) use self::settings::{
    AwsSettings, CommandSettings, Identity, LogSettings, RunnerSettings, Settings, Target, Warning,
};
pub(crate) use self::show::{escaped, redacted};
pub(crate) use self::sources::{Given, Options};
pub(crate) use self::table::Group;
pub use self::table::{SETTINGS, Setting};
pub(crate) use self::values::{LogFormat, StopScope};
pub(crate) use self::values::{is_http_url, parse_pid};

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
/// Everything that is wrong, in whatever source, on one line each.
pub(crate) fn load(
    options: &Options,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Vec<String>> {
    let environment = environment.into_iter().collect();
    let mut errors = environment::errors(&environment);
    let inputs = sources::gather(options, &environment, &mut errors);
    // An unusable file may hold the settings that are missing elsewhere, so they are no errors.
    let Some(inputs) = inputs else { return Err(errors) };
    let settings = Settings::read(&inputs, options, &environment, &mut errors);
    let listing = Listing::new(&inputs);
    if errors.is_empty() { Ok(Config { settings, listing }) } else { Err(errors) }
}
