//! Gathers the raw values: the flag's, else the environment's, else the file's, else the default.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use super::errors::{Error, Errors};
use super::file::{self, Entry};
use super::table::{Group, SETTINGS, Setting, VARIABLE_PREFIX};
use super::{host, show, values};

/// What the command line says about the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The options that were given.
    pub flags: Vec<Flag>,
    /// The runner's command and its arguments, untouched; empty when none was given.
    pub command: Vec<OsString>,
    /// Defaults that stand in for the table's.
    pub presets: Vec<Preset>,
}

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The setting.
    pub key: &'static str,
    /// The option as one writes it: `--interval`, `-v`.
    pub option: String,
    /// The value, not yet looked at.
    pub value: OsString,
}

/// A default that the table cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The setting.
    pub key: &'static str,
    /// Its value when nobody sets one.
    pub value: OsString,
    /// The subcommand that says so.
    pub by: &'static str,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The option of this name.
    Flag(String),
    /// What follows `--` on the command line.
    Operand,
    /// The environment variable of this name.
    Environment(String),
    /// The configuration file.
    File {
        /// Its path as it was given.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// Nobody set it; a subcommand may have a default of its own.
    Default(Option<&'static str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(option) => write!(formatter, "flag {option}"),
            Self::Operand => write!(formatter, "command line"),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::File { path, line } => write!(formatter, "file {path}:{line}"),
            Self::Default(None) => write!(formatter, "default"),
            Self::Default(Some(by)) => write!(formatter, "default ({by})"),
        }
    }
}

/// The value of one setting, not yet parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    /// The text; where there is none, what a message shows in its place.
    pub(super) value: Result<String, String>,
    pub(super) origin: Origin,
}

/// The values of all settings and their origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    values: BTreeMap<&'static str, Input>,
    /// The runner's command and its arguments; empty when none was given.
    pub(super) command: Vec<OsString>,
    /// What was found wrong on the way, to be told together with the values that turn out to be.
    pub(super) errors: Vec<Error>,
}

type Environment = BTreeMap<OsString, OsString>;

impl Input {
    fn new(setting: &Setting, value: &OsStr, origin: Origin) -> Self {
        let not_utf8 = || show::quoted(setting, &value.to_string_lossy()) + " (not UTF-8)";
        let value = value.to_str().map(str::to_owned).ok_or_else(not_utf8);
        Self { value, origin }
    }
}

impl Inputs {
    /// Asks each source in its turn.
    ///
    /// # Errors
    /// Only when the configuration file is unusable, for then nothing sensible can be said about the rest.
    pub(super) fn gather(options: &Options, environment: &Environment) -> Result<Self, Errors> {
        let mut errors = unknown_variables(environment);
        errors.extend(what_the_sdk_stumbles_over(environment));
        let mut values = BTreeMap::new();
        let mut entries = Vec::new();
        // The table's first row is the file that the others may come from.
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
        let command = options.command.clone();
        Ok(Self {
            values,
            command,
            errors,
        })
    }

    /// Fills in the placeholders that need nobody but the host.
    pub(super) fn fill(&mut self) {
        for setting in SETTINGS.iter().filter(|row| row.group == Group::Identity) {
            let Some(input) = self.values.get_mut(setting.key) else {
                continue;
            };
            let Ok(text) = &input.value else { continue };
            match host::fill(text) {
                Ok(filled) => input.value = Ok(filled),
                Err(reason) => {
                    let shown = show::quoted(setting, text);
                    self.errors
                        .push(Error::placeholder(setting, shown, input, reason));
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
        // Only to be shown: the words themselves go to the runner untouched.
        let words = options.command.join(OsStr::new(" "));
        return Some(Input {
            value: Ok(words.to_string_lossy().into_owned()),
            origin: Origin::Operand,
        });
    }
    let flag = options.flags.iter().find(|flag| flag.key == setting.key)?;
    Some(Input::new(
        setting,
        &flag.value,
        Origin::Flag(flag.option.clone()),
    ))
}

fn from_variable(setting: &Setting, name: &str, environment: &Environment) -> Option<Input> {
    let value = environment.get(OsStr::new(name))?;
    Some(Input::new(
        setting,
        value,
        Origin::Environment(name.to_owned()),
    ))
}

fn from_file(setting: &Setting, entries: &[Entry]) -> Option<Input> {
    let entry = entries.iter().find(|entry| entry.key == setting.key)?;
    Some(entry.input.clone())
}

/// What the SDK would find by itself, so that it is checked and shown like any other value.
fn from_aws(setting: &Setting, environment: &Environment) -> Option<Input> {
    let ignored = environment.get(OsStr::new("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"));
    if setting.key == "endpoint-url"
        && ignored.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return None;
    }
    setting
        .aws
        .iter()
        .find_map(|name| from_variable(setting, name, environment))
}

fn from_default(setting: &Setting, options: &Options) -> Option<Input> {
    if let Some(preset) = options
        .presets
        .iter()
        .find(|preset| preset.key == setting.key)
    {
        return Some(Input::new(
            setting,
            &preset.value,
            Origin::Default(Some(preset.by)),
        ));
    }
    Some(Input::new(
        setting,
        OsStr::new(setting.default?),
        Origin::Default(None),
    ))
}

fn unknown_keys(entries: &[Entry]) -> Vec<Error> {
    let known: Vec<_> = SETTINGS
        .iter()
        .filter(|row| row.file)
        .map(|row| row.key.to_owned())
        .collect();
    let unknown = entries.iter().filter(|entry| !known.contains(&entry.key));
    let error = |entry: &Entry| Error::unknown(&entry.key, entry.input.origin.to_string(), &known);
    unknown.map(error).collect()
}

fn unknown_variables(environment: &Environment) -> Vec<Error> {
    let known: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
    let names = environment.keys().map(|name| name.to_string_lossy());
    names
        .filter(|name| name.starts_with(VARIABLE_PREFIX) && known.iter().all(|known| known != name))
        .map(|name| Error::unknown(&name, "environment".to_owned(), &known))
        .collect()
}

/// `aws-config` panics on an `AWS_MAX_ATTEMPTS` that is no positive number, unless it is told a retry policy, and on a
/// key that cannot be part of a header. With a secret key that has the newline of a file at its end it signs wrongly.
fn what_the_sdk_stumbles_over(environment: &Environment) -> Vec<Error> {
    let value = |key| Some(environment.get(OsStr::new(key))?.to_string_lossy());
    let invalid = |key: &'static str, shown, allowed| Error::Invalid {
        key,
        shown,
        origin: Origin::Environment(key.to_owned()),
        allowed,
    };
    let attempts = "AWS_MAX_ATTEMPTS";
    let bad = value(attempts).filter(|value| values::aws_max_attempts(value).is_none());
    let number = "a whole number, at least 1";
    let mut errors: Vec<_> = bad
        .map(|value| invalid(attempts, format!("{value:?}"), number))
        .into_iter()
        .collect();
    for key in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ] {
        if value(key).is_some_and(|value| values::aws_key(&value).is_none()) {
            let plain = "plain ASCII, with no spaces or line breaks in or around it";
            errors.push(invalid(key, "***".to_owned(), plain));
        }
    }
    errors
}
