//! Which kind of failure it was.

use std::time::Duration;

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_datapipeline::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::http::Response;

use crate::core::{Failure, FailureClass};

/// Tells the classes apart by what the service said; where it said nothing, the failure is transient.
pub(super) fn classify<E>(error: &SdkError<E>) -> Failure
where
    SdkError<E>: ProvideErrorMetadata,
{
    let Some(response) = error.raw_response() else {
        return Failure {
            class: FailureClass::Transient,
            retry_after: None,
        };
    };
    let status = response.status().as_u16();
    let class = match error.code() {
        Some(code) if THROTTLING_ERRORS.contains(&code) => FailureClass::Throttled,
        Some(code) if TRANSIENT_ERRORS.contains(&code) => FailureClass::Transient,
        _ if status == 429 => FailureClass::Throttled,
        _ if (400..500).contains(&status) => FailureClass::Rejected,
        _ => FailureClass::Transient,
    };
    Failure {
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
