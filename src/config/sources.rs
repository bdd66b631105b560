//! Gathers the raw values: the flag's, else the environment's, else the file's, else the default.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::environment::{self, Environment};
use super::errors::{Error, Errors};
use super::file::{self, Entry};
use super::input::{Input, Origin};
use super::table::{Group, SETTINGS, Setting};
use super::{host, show};

/// The part of the command line that is about settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) flags: Vec<Flag>,
    /// The runner's command and its arguments, untouched. Empty if none was given.
    pub(crate) command: Vec<OsString>,
    pub(crate) presets: Vec<Preset>,
}

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    pub(crate) key: &'static str,
    /// The option as it was written: `--interval`, `-v`.
    pub(crate) option: String,
    pub(crate) value: OsString,
}

/// A subcommand's own default, in place of the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preset {
    pub(crate) key: &'static str,
    pub(crate) value: OsString,
    pub(crate) subcommand: &'static str,
}

/// The values of all settings, not yet parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    values: BTreeMap<&'static str, Input>,
    /// The runner's command and its arguments. Empty if none was given.
    pub(super) command: Vec<OsString>,
    /// Variables that demand an endpoint which Data Pipeline does not have.
    pub(super) endpoint_variants: Vec<&'static str>,
    /// Errors found on the way, to be reported together with those of the values.
    pub(super) errors: Vec<Error>,
}

impl Inputs {
    /// Reads each source in its turn.
    ///
    /// # Errors
    ///
    /// Only if the configuration file is unusable, because the other settings may be in it.
    pub(super) fn gather(options: &Options, environment: &Environment) -> Result<Self, Errors> {
        let mut errors = environment::errors(environment);
        let mut values = BTreeMap::new();
        let mut entries = Vec::new();
        // The table's first row is the file, from which the other rows may come.
        for setting in SETTINGS {
            let found = from_command_line(setting, options)
                .or_else(|| from_variable(setting, &setting.variable(), environment))
                .or_else(|| from_file(setting, &entries))
                .or_else(|| from_aws(setting, environment))
                .or_else(|| from_default(setting, options));
            let Some(input) = found else { continue };
            if setting.key == "config" {
                match file::read(setting, &input) {
                    Ok(read) => entries = read,
                    Err(unusable) => {
                        errors.extend(unusable);
                        return Err(Errors(errors));
                    }
                }
                errors.extend(unknown_keys(&entries));
            }
            values.insert(setting.key, input);
        }
        Ok(Self {
            values,
            command: options.command.clone(),
            endpoint_variants: environment::endpoint_variants(environment),
            errors,
        })
    }

    /// Fills in the placeholders that need no metadata service.
    pub(super) fn fill(&mut self) {
        for setting in SETTINGS.iter().filter(|row| row.group == Group::Identity) {
            let Some(input) = self.values.get_mut(setting.key) else {
                continue;
            };
            let Ok(text) = &input.value else { continue };
            match host::fill(text) {
                Ok(filled) => input.value = Ok(filled),
                Err(problem) => {
                    let text = show::quoted(setting, text);
                    self.errors.push(Error::value(setting, &text, input, &problem));
                }
            }
        }
    }

    pub(super) fn get(&self, setting: &Setting) -> Option<&Input> {
        self.values.get(setting.key)
    }
}

fn from_command_line(setting: &Setting, options: &Options) -> Option<Input> {
    if setting.key == "command" && !options.command.is_empty() {
        // Only for the listing: the words themselves go to the runner untouched.
        let words = options.command.join(OsStr::new(" "));
        return Some(Input {
            value: Ok(words.to_string_lossy().into_owned()),
            origin: Origin::Operand,
        });
    }
    let flag = options.flags.iter().find(|flag| flag.key == setting.key)?;
    let origin = Origin::Flag(flag.option.clone());
    Some(Input::new(setting, &flag.value, origin))
}

fn from_variable(setting: &Setting, name: &str, environment: &Environment) -> Option<Input> {
    let value = environment.get(OsStr::new(name))?;
    let origin = Origin::Environment(name.to_owned());
    Some(Input::new(setting, value, origin))
}

fn from_file(setting: &Setting, entries: &[Entry]) -> Option<Input> {
    let entry = entries.iter().find(|entry| entry.key == setting.key)?;
    Some(entry.input.clone())
}

/// The SDK would read these variables by itself. Here they are checked and listed as well.
fn from_aws(setting: &Setting, environment: &Environment) -> Option<Input> {
    let is_ignored = environment::is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", environment);
    if setting.key == "endpoint-url" && is_ignored {
        return None;
    }
    let mut names = setting.aws.iter();
    names.find_map(|name| from_variable(setting, name, environment))
}

fn from_default(setting: &Setting, options: &Options) -> Option<Input> {
    let mut presets = options.presets.iter();
    if let Some(preset) = presets.find(|preset| preset.key == setting.key) {
        let origin = Origin::Default(Some(preset.subcommand));
        return Some(Input::new(setting, &preset.value, origin));
    }
    let default = OsStr::new(setting.default?);
    Some(Input::new(setting, default, Origin::Default(None)))
}

fn unknown_keys(entries: &[Entry]) -> Vec<Error> {
    let known: Vec<_> =
        SETTINGS.iter().filter(|row| row.file).map(|row| row.key.to_owned()).collect();
    let unknown = entries.iter().filter(|entry| !known.contains(&entry.key));
    let error = |entry: &Entry| Error::unknown(&entry.key, &entry.input.origin.to_string(), &known);
    unknown.map(error).collect()
}
