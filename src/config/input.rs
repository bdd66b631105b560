//! The raw value of one setting, and its origin.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;

use serde::Serialize;

use super::show;
use super::table::Setting;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "source", content = "at", rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// An option, as it was written: `--interval`, `-v`.
    Flag(String),
    /// The words after `--` on the command line.
    Operand,
    /// The variable of this name.
    Environment(String),
    /// The configuration file. Lines count from 1.
    File { path: String, line: usize },
    /// The table's default, or the default of this subcommand.
    Default(Option<&'static str>),
    /// There is no value; the AWS SDK finds its own.
    Sdk,
    /// There is no value.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(option) => write!(formatter, "flag {option}"),
            Self::Operand => write!(formatter, "command line"),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::File { path, line } => write!(formatter, "file {path}:{line}"),
            Self::Default(None) => write!(formatter, "default"),
            Self::Default(Some(subcommand)) => write!(formatter, "default ({subcommand})"),
            Self::Sdk => write!(formatter, "left to the AWS SDK"),
            Self::Unset => write!(formatter, "not set"),
        }
    }
}

/// The value of one setting, not yet parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Input {
    pub(super) setting: &'static Setting,
    /// The text. If the value is no text: how a message shows it.
    pub(super) value: Result<String, String>,
    pub(super) origin: Origin,
}

/// The values of all settings, by their keys.
pub(super) type Inputs = BTreeMap<&'static str, Input>;

impl Input {
    pub(super) fn new(setting: &'static Setting, value: &OsStr, origin: Origin) -> Self {
        let not_utf8 = || show::quoted(setting, &value.to_string_lossy()) + " (not UTF-8)";
        let value = value.to_str().map(str::to_owned).ok_or_else(not_utf8);
        Self { setting, value, origin }
    }

    /// The message about a wrong value: the key, the value, where it came from, and the problem.
    pub(super) fn error(&self, problem: &str) -> String {
        let shown = match &self.value {
            Ok(text) => &show::quoted(self.setting, text),
            Err(instead) => instead,
        };
        format!("{} = {shown} ({}): {problem}", self.setting.key, self.origin)
    }

    pub(super) fn not_allowed(&self) -> String {
        self.error(&format!("must be {}", self.setting.allowed()))
    }
}
