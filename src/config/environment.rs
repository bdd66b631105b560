//! The environment beyond the settings' own variables: unknown ones are refused, and those that the
//! AWS SDK would misread.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::errors::Error;
use super::table::{SETTINGS, Setting, VARIABLE_PREFIX};
use super::values;

pub(super) type Environment = BTreeMap<OsString, OsString>;

const ATTEMPTS: &str = "AWS_MAX_ATTEMPTS";

const KEYS: [&str; 3] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

pub(super) fn is_true(name: &str, environment: &Environment) -> bool {
    let value = environment.get(OsStr::new(name));
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Everything that is wrong.
pub(super) fn errors(environment: &Environment) -> Vec<Error> {
    let mut errors = unknown(environment);
    errors.extend(attempts(environment));
    errors.extend(KEYS.into_iter().filter_map(|name| key(name, environment)));
    errors
}

fn unknown(environment: &Environment) -> Vec<Error> {
    let known: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
    let names = environment.keys().map(|name| name.to_string_lossy());
    names
        .filter(|name| name.starts_with(VARIABLE_PREFIX) && known.iter().all(|known| known != name))
        .map(|name| Error::unknown(&name, "environment".to_owned(), &known))
        .collect()
}

/// `aws-config` panics on a number of attempts that is no positive number.
fn attempts(environment: &Environment) -> Option<Error> {
    let value = environment.get(OsStr::new(ATTEMPTS))?.to_string_lossy();
    values::aws_max_attempts(&value)
        .is_none()
        .then(|| Error::variable(ATTEMPTS, format!("{value:?}"), "a whole number, at least 1"))
}

/// The SDK panics on a key that cannot be part of a header. With a secret key that ends with the
/// newline of its file it signs wrongly.
fn key(name: &'static str, environment: &Environment) -> Option<Error> {
    let value = environment.get(OsStr::new(name))?.to_string_lossy();
    let plain = "plain ASCII, with no spaces or line breaks in or around it";
    values::aws_key(&value)
        .is_none()
        .then(|| Error::variable(name, "***".to_owned(), plain))
}
