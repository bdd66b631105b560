//! The errors of a configuration.

use std::fmt;

use super::input::{Input, Origin};
use super::table::{Setting, VARIABLE_PREFIX};

/// One error, on one line: the key, the value, where it came from, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error(pub(super) String);

impl Error {
    /// `value` is `input`'s, as a message shows it.
    pub(super) fn value(setting: &Setting, value: &str, input: &Input, problem: &str) -> Self {
        Self(format!("{} = {value} ({}): {problem}", setting.key, input.origin))
    }

    pub(super) fn not_allowed(setting: &Setting, value: &str, input: &Input) -> Self {
        Self::value(setting, value, input, &format!("must be {}", setting.allowed()))
    }

    /// A value of a variable that is no setting's.
    pub(super) fn variable(key: &str, value: &str, allowed: &str) -> Self {
        let origin = Origin::Environment(key.to_owned());
        Self(format!("{key} = {value} ({origin}): must be {allowed}"))
    }

    pub(super) fn missing(setting: &Setting) -> Self {
        let (key, allowed, variable) = (setting.key, setting.allowed(), setting.variable());
        Self(format!(
            "{key} is not set: must be {allowed}; \
             set --{key}, {variable} or {key} in the configuration file"
        ))
    }

    pub(super) fn conflict(one: (&str, &Origin), other: (&str, &Origin)) -> Self {
        Self(format!(
            "{} ({}) and {} ({}): set only one of command, pid and pid-file",
            one.0, one.1, other.0, other.1
        ))
    }

    /// The reason is the parser's and never holds text of the file, which may be a secret.
    pub(super) fn syntax(origin: &Origin, reason: &str) -> Self {
        Self(format!("{origin}: not TOML: {reason}"))
    }

    pub(super) fn unknown(name: &str, place: &str, known: &[String]) -> Self {
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
        Self(format!("{} ({place}): unknown, {hint}", name.escape_debug()))
    }
}

/// Everything that is wrong with a configuration, displayed on one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Errors(pub(super) Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.0.iter().map(|error| error.0.as_str()).collect();
        f.write_str(&lines.join("\n"))
    }
}
