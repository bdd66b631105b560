//! Failures in one line, for operators who know neither the SDK nor its layers.

use std::any::Any;
use std::error::Error;

use aws_sdk_datapipeline::error::ProvideErrorMetadata;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::ErrorMetadata;
use http::StatusCode;

use super::classify::HeartbeatError;
use crate::config::redacted;

/// Texts of the SDK that only name a layer.
const LAYERS: [&str; 12] = [
    "dispatch failure",
    "other",
    "io error",
    "timeout",
    "service error",
    "response error",
    "unhandled error",
    "connection error",
    "the credential provider was not enabled",
    "an error occurred while loading credentials",
    "the credentials provider was not properly configured",
    "Acknowledgement read_after_deserialization interceptor encountered an error",
];

/// Where the useful part of a text ends: what follows is a list of JSON tokens or a dump.
const ENDS: [&str; 2] = [". Expected one of", ". Response {"];

/// Maximum length of a line, in characters; those of the service have some three hundred.
const LONGEST: usize = 1_000;

/// The service's own words if it answered, else what failed and why.
pub(super) fn describe(error: &HeartbeatError) -> String {
    let Some(response) = error.raw_response() else {
        return chain(error);
    };
    let status = response.status().as_u16();
    let text = match (error.code(), error.message()) {
        // The first line is the reason. After a wrong signature, the others are the request as it
        // should have been signed, with the session token.
        (Some(code), Some(message)) => {
            let reason = message.lines().next().unwrap_or_default();
            format!("{code}: {reason}")
        }
        (Some(code), None) => code.to_owned(),
        (None, _) if response.status().is_success() => {
            format!("unusable answer: {}", chain(error))
        }
        (None, _) => return one_line(&foreign(response)),
    };
    one_line(&format!("{text} (HTTP {status})"))
}

/// An error status without an error code of the service: from a gateway, a proxy or a captive
/// portal.
fn foreign(response: &Response) -> String {
    let status = response.status().as_u16();
    let known = StatusCode::from_u16(status).ok();
    let reason = known.and_then(|status| status.canonical_reason());
    let reason = reason.unwrap_or("unknown status");
    match response.headers().get("location") {
        Some(location) => {
            let place = redacted(location);
            format!("HTTP {status} {reason}, redirect to {place} not followed")
        }
        None => format!("HTTP {status} {reason}, not from Data Pipeline"),
    }
}

/// The error and its causes, outermost first, without repetitions and layers.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = || std::iter::successors(Some(error), |&error| error.source());
    let refusal = causes().find_map(|error| error.downcast_ref::<ErrorMetadata>());
    if let Some((code, message)) = refusal.and_then(|it| it.code().zip(it.message())) {
        return one_line(&format!("{code}: {message}"));
    }
    let mut parts: Vec<String> = Vec::new();
    for error in causes() {
        // Some of the SDK's texts have several lines.
        let text = one_line(&error.to_string());
        let end = ENDS.iter().filter_map(|end| text.find(end)).min();
        let text = &text[..end.unwrap_or(text.len())];
        if !LAYERS.contains(&text) && !parts.iter().any(|part| part.contains(text)) {
            parts.push(text.to_owned());
        }
    }
    if parts.is_empty() {
        return one_line(&error.to_string());
    }
    one_line(&parts.join(": "))
}

/// The text of a panic: a defect, or a kernel that refuses what a library expects to have.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    one_line(&format!("internal error: {}", text.unwrap_or("panic")))
}

/// Others' text, made safe for logs and terminals: no line breaks and control characters, and at
/// most [`LONGEST`] characters.
pub(super) fn one_line(text: &str) -> String {
    let plain = text.replace(char::is_control, " ");
    let mut line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}
