//! The environment beyond the settings' own variables: which are ignored, and which are refused
//! because the AWS SDK or the HTTP client would misread them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use super::show;
use super::table::{SETTINGS, Setting, VARIABLE_PREFIX};
use super::values;
use crate::sys;

pub(super) type Environment = BTreeMap<OsString, OsString>;

/// The least stack of a Rust program's threads.
const MIN_STACK: &str = "RUST_MIN_STACK";

static REMOVED: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();

/// Removes the empty variables of taskbeat and AWS: `docker compose` passes unset variables on as
/// empty ones, and the SDK would take an empty `AWS_REGION` for a region. Removes `RUST_MIN_STACK`,
/// too, because a runner in Rust may do with less stack than a heartbeat, and a relative `HOME`,
/// because the AWS files would be read from the working directory. Call it while there is one
/// thread.
pub(crate) fn remove_unusable() {
    let is_unusable = |(name, value): &(OsString, OsString)| {
        let prefixes = ["AWS_", VARIABLE_PREFIX];
        let is_ours = |prefix: &&str| name.as_bytes().starts_with(prefix.as_bytes());
        name == MIN_STACK
            || name == "HOME" && !Path::new(value).is_absolute()
            || value.is_empty() && prefixes.iter().any(is_ours)
    };
    for (name, _) in REMOVED.get_or_init(|| env::vars_os().filter(is_unusable).collect()) {
        sys::set_variable(name, None);
    }
}

/// The variables that [`remove_unusable`] removed. A child gets them back.
pub(crate) fn removed() -> &'static [(OsString, OsString)] {
    REMOVED.get().map_or(&[], Vec::as_slice)
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
pub(super) fn errors(environment: &Environment) -> Vec<String> {
    let get =
        |name: &'static str| Some((name, environment.get(OsStr::new(name))?.to_string_lossy()));
    let mut errors = unknown(environment);
    let mut check = |variable: Option<(&str, Cow<str>)>,
                     is_allowed: fn(&str) -> bool,
                     shown: fn(&str) -> String,
                     allowed: &str| {
        if let Some((name, value)) = variable.filter(|(_, value)| !is_allowed(value)) {
            let value = shown(&value);
            errors.push(format!("{name} = {value} (environment {name}): must be {allowed}"));
        }
    };
    // The SDK panics on a key that cannot be part of a header. With a secret key that ends with the
    // newline of its file it signs wrongly.
    for key in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        let plain = "plain ASCII, with no spaces or line breaks in or around it";
        check(get(key), values::is_aws_key, |_| "***".to_owned(), plain);
    }
    // hyper-util ignores a proxy that it cannot use, and connects directly. Of each pair it takes
    // the first that is set, and the last pair only if one of the others is missing.
    let proxies =
        [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];
    let [http, https, all] = proxies.map(|names| {
        let set = names.into_iter().find_map(get);
        set.filter(|(_, value)| !value.is_empty())
    });
    let all = all.filter(|_| http.is_none() || https.is_none());
    for proxy in [http, https, all] {
        let url = "an http or https URL with a host; in its user and password, @ is %40, / is %2F";
        check(proxy, values::is_proxy_url, |value| format!("{:?}", show::redacted(value)), url);
    }
    errors
}

fn unknown(environment: &Environment) -> Vec<String> {
    let known: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
    let names: Vec<_> = environment.keys().map(|name| name.to_string_lossy()).collect();
    // A Service named `taskbeat-NAME` announces itself by this variable, too.
    let others = names.iter().filter_map(|name| name.strip_suffix("SERVICE_HOST"));
    let services: Vec<&str> = others.chain([VARIABLE_PREFIX]).collect();
    let of_a_service = |name: &str| {
        let mut rests = services.iter().filter_map(|one| name.strip_prefix(one));
        rests.any(values::is_service_variable)
    };
    let ours = names.iter().filter(|name| name.starts_with(VARIABLE_PREFIX));
    ours.filter(|name| !known.iter().any(|known| known == *name) && !of_a_service(name))
        .map(|name| show::unknown(name, "environment", &known))
        .collect()
}
