//! The environment beyond the settings' own variables: which are ignored, and which are refused
//! because the AWS SDK would misread them.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use super::errors::Error;
use super::show;
use super::table::{SETTINGS, Setting, VARIABLE_PREFIX};
use super::values;
use crate::sys;

pub(super) type Environment = BTreeMap<OsString, OsString>;

const ATTEMPTS: &str = "AWS_MAX_ATTEMPTS";

const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The SDK's proxies. Of each pair it takes the first that is set, and the last pair only if one
/// of the others is missing.
const PROXIES: [[&str; 2]; 3] =
    [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];

static EMPTY: OnceLock<Vec<OsString>> = OnceLock::new();

/// Removes the empty variables of AWS from the environment, because the SDK would take an empty
/// `AWS_REGION` for a region. Call it while there is one thread.
pub(crate) fn remove_empty() {
    let variables = env::vars_os().filter(|(name, value)| is_unset(name, value));
    let empty = EMPTY.get_or_init(|| variables.map(|(name, _)| name).collect());
    for name in empty {
        sys::set_variable(name, None);
    }
}

/// The variables that [`remove_empty`] removed. A child gets them back.
pub(crate) fn removed() -> &'static [OsString] {
    EMPTY.get().map_or(&[], Vec::as_slice)
}

/// Whether the variable counts as unset. `docker compose` passes unset variables on as empty ones.
fn is_unset(name: &OsStr, value: &OsStr) -> bool {
    let name = name.as_bytes();
    value.is_empty() && (name.starts_with(b"AWS_") || name.starts_with(VARIABLE_PREFIX.as_bytes()))
}

pub(super) fn without_empty(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Environment {
    let variables = variables.into_iter();
    variables.filter(|(name, value)| !is_unset(name, value)).collect()
}

pub(super) fn is_true(name: &str, environment: &Environment) -> bool {
    let value = environment.get(OsStr::new(name));
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Variables by which the SDK looks for an endpoint that Data Pipeline does not have.
pub(super) fn endpoint_variants(environment: &Environment) -> Vec<&'static str> {
    let mut variants = vec!["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"];
    variants.retain(|name| is_true(name, environment));
    variants
}

/// Everything that is wrong.
pub(super) fn errors(environment: &Environment) -> Vec<Error> {
    let mut errors = unknown(environment);
    errors.extend(attempts(environment));
    errors.extend(KEYS.into_iter().filter_map(|name| key(name, environment)));
    errors.extend(proxies(environment));
    errors
}

fn unknown(environment: &Environment) -> Vec<Error> {
    let known: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
    let names = || environment.keys().map(|name| name.to_string_lossy());
    // A Service named `taskbeat-NAME` announces itself by this variable, too.
    let others = names().filter_map(|name| name.strip_suffix("SERVICE_HOST").map(str::to_owned));
    let services: Vec<String> = others.chain([VARIABLE_PREFIX.to_owned()]).collect();
    let of_a_service = |name: &str| {
        let mut rests = services.iter().filter_map(|one| name.strip_prefix(one));
        rests.any(values::is_service_variable)
    };
    names()
        .filter(|name| name.starts_with(VARIABLE_PREFIX))
        .filter(|name| known.iter().all(|known| known != name) && !of_a_service(name))
        .map(|name| Error::unknown(&name, "environment", &known))
        .collect()
}

/// `aws-config` panics on a number of attempts that is no positive number.
fn attempts(environment: &Environment) -> Option<Error> {
    let value = environment.get(OsStr::new(ATTEMPTS))?.to_string_lossy();
    values::aws_max_attempts(&value)
        .is_none()
        .then(|| Error::variable(ATTEMPTS, &format!("{value:?}"), "a whole number, at least 1"))
}

/// The SDK panics on a key that cannot be part of a header. With a secret key that ends with the
/// newline of its file it signs wrongly.
fn key(name: &'static str, environment: &Environment) -> Option<Error> {
    let value = environment.get(OsStr::new(name))?.to_string_lossy();
    let plain = "plain ASCII, with no spaces or line breaks in or around it";
    values::aws_key(&value).is_none().then(|| Error::variable(name, "***", plain))
}

/// The SDK drops a proxy that it cannot use, and connects directly.
fn proxies(environment: &Environment) -> Vec<Error> {
    let set = |names: [&'static str; 2]| {
        let mut names = names.into_iter();
        let set = names.find_map(|name| Some((name, environment.get(OsStr::new(name))?)));
        set.filter(|(_, value)| !value.is_empty())
    };
    let [http, https, all] = PROXIES.map(set);
    let all = all.filter(|_| http.is_none() || https.is_none());
    let used = [http, https, all].into_iter().flatten();
    let allowed = "an http or https URL with a host; in its user and password, @ is %40, / is %2F";
    used.map(|(name, value)| (name, value.to_string_lossy()))
        .filter(|(_, value)| !values::is_proxy_url(value))
        .map(|(name, value)| {
            let value = format!("{:?}", show::redacted(&value));
            Error::variable(name, &value, allowed)
        })
        .collect()
}
