//! The errors of a configuration.

use std::fmt;

use super::input::{Input, Origin};
use super::table::{Setting, VARIABLE_PREFIX};

/// One error, on one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A value that is not allowed, or that cannot be used.
    #[error("{key} = {value} ({origin}): {problem}")]
    Value {
        /// The setting, or the variable of another program.
        key: &'static str,
        /// As a message shows it.
        value: String,
        origin: Origin,
        problem: String,
    },
    #[error(
        "{key} is not set: must be {allowed}; \
         set --{key}, {variable} or {key} in the configuration file"
    )]
    Missing {
        key: &'static str,
        variable: String,
        allowed: String,
    },
    #[error(
        "{key} ({origin}) and {other} ({other_origin}): set only one of command, pid and pid-file"
    )]
    Conflict {
        key: &'static str,
        origin: Origin,
        other: &'static str,
        other_origin: Origin,
    },
    #[error("{name} ({place}): unknown, {hint}")]
    Unknown {
        name: String,
        place: String,
        hint: String,
    },
    /// The reason is the parser's and never holds text of the file, which may be a secret.
    #[error("{origin}: not TOML: {reason}")]
    Syntax { origin: Origin, reason: String },
}

impl Error {
    /// `value` is `input`'s, as a message shows it.
    pub(super) fn value(setting: &Setting, value: String, input: &Input, problem: String) -> Self {
        Self::Value {
            key: setting.key,
            value,
            origin: input.origin.clone(),
            problem,
        }
    }

    pub(super) fn not_allowed(setting: &Setting, value: String, input: &Input) -> Self {
        let problem = format!("must be {}", setting.allowed());
        Self::value(setting, value, input, problem)
    }

    /// A value of a variable that is no setting's.
    pub(super) fn variable(key: &'static str, value: String, allowed: &str) -> Self {
        Self::Value {
            key,
            value,
            origin: Origin::Environment(key.to_owned()),
            problem: format!("must be {allowed}"),
        }
    }

    pub(super) fn missing(setting: &Setting) -> Self {
        Self::Missing {
            key: setting.key,
            variable: setting.variable(),
            allowed: setting.allowed(),
        }
    }

    pub(super) fn unknown(name: &str, place: String, known: &[String]) -> Self {
        /// The similarity, found by trying, from which a name is probably a typing error.
        const SIMILAR: f64 = 0.85;
        // The prefix that all names share makes none of them more similar.
        let bare = |name| str::strip_prefix(name, VARIABLE_PREFIX).unwrap_or(name);
        let similar = known
            .iter()
            .map(|other| (strsim::jaro_winkler(bare(name), bare(other)), other))
            .filter(|(similarity, _)| *similarity >= SIMILAR)
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        let hint = match similar {
            Some((_, other)) => format!("did you mean {other}?"),
            None => format!("must be one of {}", known.join(", ")),
        };
        Self::Unknown {
            name: name.escape_debug().to_string(),
            place,
            hint,
        }
    }
}

/// Everything that is wrong with a configuration, displayed on one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Errors(pub(super) Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
