//! Which kind of failure it was, and how to say it in one line.

use std::error::Error;
use std::time::Duration;

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_datapipeline::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::http::Response;

use crate::core::{Class, Fault};

/// Tells the classes apart by what the service said; where it said nothing, the failure is transient.
pub(super) fn classify<E>(error: &SdkError<E>) -> Fault
where
    SdkError<E>: ProvideErrorMetadata,
{
    let Some(response) = error.raw_response() else {
        return Fault {
            class: Class::Transient,
            retry_after: None,
        };
    };
    let status = response.status().as_u16();
    let class = match error.code() {
        Some(code) if THROTTLING_ERRORS.contains(&code) => Class::Throttled,
        Some(code) if TRANSIENT_ERRORS.contains(&code) => Class::Transient,
        _ if status == 429 => Class::Throttled,
        _ if (400..500).contains(&status) => Class::Rejected,
        _ => Class::Transient,
    };
    Fault {
        class,
        retry_after: retry_after(response),
    }
}

/// AWS's own header counts milliseconds, the one of RFC 9110 seconds. Its other form, a date, is for clocks that agree.
fn retry_after(response: &Response) -> Option<Duration> {
    let number = |name| response.headers().get(name)?.trim().parse::<u64>().ok();
    number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
}

/// One line: the service's own words where it spoke, else what failed and why.
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
        (None, _) => chain(error),
    };
    one_line(&format!("{said} (HTTP {status})"))
}

/// The error and its causes, outermost first, each once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // Some of the SDK's texts are lists of several lines.
        let word = error.to_string();
        let word = word.split_whitespace().collect::<Vec<_>>().join(" ");
        if !words.iter().any(|said| said.contains(&word)) {
            words.push(word);
        }
        next = error.source();
    }
    one_line(&words.join(": "))
}

/// The text without line breaks and other controls: somebody else wrote it, and it goes to logs and terminals.
fn one_line(text: &str) -> String {
    let plain = text.replace(char::is_control, " ");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}
