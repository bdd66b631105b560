//! How to say in one line what failed: for somebody who is tired, and knows neither the SDK nor its layers.

use std::any::Any;
use std::error::Error;

use aws_config::meta::ProviderChainError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_datapipeline::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::http::Response;
use http::StatusCode;

/// What the SDK says of its own layers, and what that means to others: nothing, mostly.
const LAYERS: [(&str, &str); 15] = [
    ("dispatch failure", ""),
    ("other", ""),
    ("io error", ""),
    ("timeout", "no answer"),
    ("timed out", ""),
    ("service error", ""),
    ("response error", ""),
    ("unhandled error", ""),
    ("request has timed out", "no answer"),
    ("client error (Connect)", "cannot connect"),
    ("client error (SendRequest)", "the connection broke"),
    ("the credential provider was not enabled", "no credentials"),
    (
        "an error occurred while loading credentials",
        "no credentials",
    ),
    (
        "the credentials provider was not properly configured",
        "no credentials",
    ),
    (
        "Genuine read_after_deserialization interceptor encountered an error",
        "",
    ),
];

/// Where credentials are looked for, by the SDK's names and by those that people know.
const PLACES: [(&str, &str); 5] = [
    ("Environment", "environment"),
    ("Profile", "profile"),
    ("WebIdentityToken", "web identity"),
    ("EcsContainer", "ECS"),
    ("Ec2InstanceMetadata", "EC2 metadata"),
];

/// What nobody wants to know begins so: what else would have been JSON, and all that is known of an answer.
const ENDS: [&str; 2] = [". Expected one of", ". Response {"];

/// The longest line, in characters; those of the service have some three hundred.
const LONGEST: usize = 1_000;

/// Why there are no credentials where nobody wanted any to be.
const UNUSED: [&str; 2] = ["not set", "not configured"];

/// The service's own words where it spoke, else what failed and why.
pub(super) fn describe<E>(error: &SdkError<E>) -> String
where
    SdkError<E>: ProvideErrorMetadata,
    E: Error + 'static,
{
    let Some(response) = error.raw_response() else {
        return chain(error);
    };
    let status = response.status().as_u16();
    let said = match (error.code(), error.message()) {
        // The first line is the reason. What follows it, when a signature is wrong, is the request as it should have
        // been signed, with the session token.
        (Some(code), Some(message)) => {
            let reason = message.lines().next().unwrap_or_default();
            format!("{code}: {reason}")
        }
        (Some(code), None) => code.to_owned(),
        (None, _) if response.status().is_success() => {
            format!("unusable answer: {}", chain(error))
        }
        (None, _) => somebody_else(response),
    };
    one_line(&format!("{said} (HTTP {status})"))
}

/// A status with none of the service's codes: a gateway, a proxy or a captive portal.
fn somebody_else(response: &Response) -> String {
    let status = StatusCode::from_u16(response.status().as_u16());
    let reason = status.ok().and_then(|status| status.canonical_reason());
    let reason = reason.unwrap_or("unknown status");
    match response.headers().get("location") {
        // What is asked for there may be a secret.
        Some(location) => {
            let place = location.split(['?', '#']).next().unwrap_or_default();
            format!("{reason}, not followed to {place}")
        }
        None => format!("{reason}, without a word of the service"),
    }
}

/// The error and its causes, outermost first, each once, and none that only names a layer.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(chain) = error.downcast_ref::<ProviderChainError<CredentialsError>>() {
            return one_line(&nowhere(chain));
        }
        // Some of the SDK's texts are lists of several lines.
        let word = one_line(&error.to_string())
            .replace("identity resolver timed out", "no credentials: no answer");
        let end = ENDS.iter().filter_map(|end| word.find(end)).min();
        let word = &word[..end.unwrap_or(word.len())];
        let layer = LAYERS.iter().find(|(layer, _)| *layer == word);
        let word = layer.map_or(word, |(_, meaning)| meaning);
        if !words.iter().any(|said| said.contains(word)) {
            words.push(word.to_owned());
        }
        next = error.source();
    }
    words.retain(|word| !word.is_empty());
    if words.is_empty() {
        return one_line(&error.to_string());
    }
    one_line(&words.join(": "))
}

/// Where no credentials were found, and why not where there should be some.
fn nowhere(chain: &ProviderChainError<CredentialsError>) -> String {
    let mut unused = Vec::new();
    let mut reasons = Vec::new();
    for attempt in chain.attempts() {
        let name = attempt.name();
        let place = PLACES.iter().find(|(known, _)| *known == name);
        let place = place.map_or(name, |(_, place)| place);
        let reason = attempt.error().source().map(self::chain);
        let reason = reason.unwrap_or_default();
        if reason.is_empty() || UNUSED.iter().any(|end| reason.ends_with(end)) {
            unused.push(place);
        } else {
            reasons.push(format!("{place}: {reason}"));
        }
    }
    if !unused.is_empty() {
        reasons.insert(0, format!("none in {}", unused.join(", ")));
    }
    format!("no credentials found: {}", reasons.join("; "))
}

/// What a panic said. A defect, or a kernel that refuses what no library expects it to.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    one_line(&format!("internal error: {}", text.unwrap_or("panic")))
}

/// The text without line breaks and other controls, and not much of it: somebody else wrote it, and it goes to logs
/// and terminals.
pub(super) fn one_line(text: &str) -> String {
    let plain = text.replace(char::is_control, " ");
    let mut line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}
