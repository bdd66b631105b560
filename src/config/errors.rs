//! What can be wrong with a configuration, each error on a line of its own.

use std::fmt;

use super::sources::{Input, Origin};
use super::table::{Setting, VARIABLE_PREFIX};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value that is not allowed.
    #[error("{key} = {shown} ({origin}): must be {allowed}")]
    Invalid {
        /// The setting, or the variable of the AWS SDK.
        key: &'static str,
        /// The value in quotes, or what there is in place of one.
        shown: String,
        /// Where it came from.
        origin: Origin,
        /// What would be allowed.
        allowed: &'static str,
    },
    /// A placeholder that cannot be filled in.
    #[error("{key} = {shown} ({origin}): {reason}")]
    Placeholder {
        /// The setting.
        key: &'static str,
        /// The value in quotes.
        shown: String,
        /// Where it came from.
        origin: Origin,
        /// Why not, and which there are.
        reason: String,
    },
    /// A value that must be set, but nobody does.
    #[error(
        "{key} is not set: must be {allowed}; set --{key}, {variable} or {key} in the configuration file"
    )]
    Missing {
        /// The setting.
        key: &'static str,
        /// The environment variable that would set it.
        variable: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Two settings that exclude each other.
    #[error(
        "{key} ({origin}) and {other} ({other_origin}): set only one of command, pid and pid-file"
    )]
    Conflict {
        /// One setting.
        key: &'static str,
        /// Where it came from.
        origin: Origin,
        /// The other one.
        other: &'static str,
        /// Where that came from.
        other_origin: Origin,
    },
    /// A name that is none of our settings'.
    #[error("{name} ({place}): unknown, {hint}")]
    Unknown {
        /// The name as it was given.
        name: String,
        /// Where it was found.
        place: String,
        /// The name that was probably meant, or those that there are.
        hint: String,
    },
    /// The configuration file cannot be read.
    #[error("config = {shown} ({origin}): must be the path of a readable TOML file: {reason}")]
    Unreadable {
        /// The path in quotes.
        shown: String,
        /// Where the path came from.
        origin: Origin,
        /// What the system said.
        reason: String,
    },
    /// The configuration file is not TOML.
    #[error("{origin}: not TOML: {reason}")]
    Syntax {
        /// The file and its line.
        origin: Origin,
        /// What the parser said; never text of the file.
        reason: String,
    },
}

impl Error {
    /// What was given for `setting`, shown as `shown`, is not allowed.
    pub(super) fn invalid(setting: &'static Setting, shown: String, input: &Input) -> Self {
        Self::Invalid {
            key: setting.key,
            shown,
            origin: input.origin.clone(),
            allowed: setting.allowed,
        }
    }

    /// A placeholder in what was given for `setting` cannot be filled in.
    pub(super) fn placeholder(
        setting: &'static Setting,
        shown: String,
        input: &Input,
        reason: String,
    ) -> Self {
        Self::Placeholder {
            key: setting.key,
            shown,
            origin: input.origin.clone(),
            reason,
        }
    }

    /// Nobody set `setting`.
    pub(super) fn missing(setting: &'static Setting) -> Self {
        Self::Missing {
            key: setting.key,
            variable: setting.variable(),
            allowed: setting.allowed,
        }
    }

    /// `name` is none of `known`.
    pub(super) fn unknown(name: &str, place: String, known: &[String]) -> Self {
        /// From here on, found by trying, a name looks like a slip of another.
        const ALIKE: f64 = 0.85;
        // What all names have in common makes none of them more alike.
        let bare = |name| str::strip_prefix(name, VARIABLE_PREFIX).unwrap_or(name);
        let alike = known
            .iter()
            .map(|candidate| (strsim::jaro_winkler(bare(name), bare(candidate)), candidate))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        let hint = match alike {
            Some((_, candidate)) => format!("did you mean {candidate}?"),
            None => format!("must be one of {}", known.join(", ")),
        };
        Self::Unknown {
            name: name.escape_debug().to_string(),
            place,
            hint,
        }
    }
}

/// All that is wrong with a configuration; shown one line each. The exit status for it is [`crate::core::Exit::CONFIG`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
