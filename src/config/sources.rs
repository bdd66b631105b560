//! Gathers the raw values: the flag's, else the environment's, else the file's, else the default.

use std::ffi::{OsStr, OsString};

use super::environment::{self, Environment};
use super::file::{self, Entry};
use super::input::{Input, Inputs, Origin};
use super::placeholders;
use super::show;
use super::table::{Group, SETTINGS, Setting};

/// The part of the command line that is about settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) flags: Vec<Given>,
    /// The runner's command and its arguments, untouched. Empty if none was given.
    pub(crate) command: Vec<OsString>,
    /// The subcommand's own defaults, in place of the table's.
    pub(crate) presets: Vec<Given>,
}

/// The value of a setting, from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) key: &'static str,
    pub(crate) value: OsString,
    pub(crate) origin: Origin,
}

/// Reads each source in its turn. `None` if the configuration file is unusable.
pub(super) fn gather(
    options: &Options,
    environment: &Environment,
    errors: &mut Vec<String>,
) -> Option<Inputs> {
    let mut inputs = Inputs::new();
    let mut entries = Vec::new();
    // The table's first row is the file, from which the other rows may come.
    for setting in SETTINGS {
        let Some(mut input) = find(setting, options, environment, &entries) else {
            if setting.key == "taskrunner-id" {
                errors.push(missing(setting));
            }
            continue;
        };
        if setting.key == "config" {
            entries = file::read(&input).map_err(|unusable| errors.extend(unusable)).ok()?;
            errors.extend(unknown_keys(&entries));
        }
        if setting.group == Group::Identity
            && let Ok(text) = &mut input.value
        {
            match placeholders::fill(text) {
                Ok(filled) => *text = filled,
                Err(problem) => errors.push(input.error(&problem)),
            }
        }
        inputs.insert(setting.key, input);
    }
    Some(inputs)
}

fn find(
    setting: &'static Setting,
    options: &Options,
    environment: &Environment,
    entries: &[Entry],
) -> Option<Input> {
    // Only for the listing and for conflicts: the words themselves go to the runner untouched.
    let operand = || {
        let words = options.command.join(OsStr::new(" ")).to_string_lossy().into_owned();
        let is_given = setting.key == "command" && !options.command.is_empty();
        is_given.then_some(Input { setting, value: Ok(words), origin: Origin::Operand })
    };
    let given = |list: &[Given]| {
        let given = list.iter().find(|given| given.key == setting.key)?;
        Some(Input::new(setting, &given.value, given.origin.clone()))
    };
    let variable = |name: &str| {
        let value = environment.get(OsStr::new(name))?;
        Some(Input::new(setting, value, Origin::Environment(name.to_owned())))
    };
    let entry = || {
        let Entry { value, origin, .. } = entries.iter().find(|entry| entry.key == setting.key)?;
        Some(Input { setting, value: value.clone(), origin: origin.clone() })
    };
    // The SDK would read these variables by itself. Here they are checked and listed as well.
    let of_aws = || {
        let is_ignored = environment::is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", environment);
        let is_used = setting.key != "endpoint-url" || !is_ignored;
        setting.aws.iter().filter(|_| is_used).find_map(|name| variable(name))
    };
    operand()
        .or_else(|| given(&options.flags))
        .or_else(|| variable(&setting.variable()))
        .or_else(entry)
        .or_else(of_aws)
        .or_else(|| given(&options.presets))
        .or_else(|| Some(Input::new(setting, setting.default?.as_ref(), Origin::Default(None))))
}

fn missing(setting: &Setting) -> String {
    let (key, allowed, variable) = (setting.key, setting.allowed(), setting.variable());
    format!(
        "{key} is not set: must be {allowed}; \
         set --{key}, {variable} or {key} in the configuration file"
    )
}

fn unknown_keys(entries: &[Entry]) -> Vec<String> {
    let in_file = SETTINGS.iter().filter(|setting| setting.file);
    let known: Vec<_> = in_file.map(|setting| setting.key.to_owned()).collect();
    let unknown = entries.iter().filter(|entry| !known.contains(&entry.key));
    unknown.map(|entry| show::unknown(&entry.key, &entry.origin.to_string(), &known)).collect()
}
