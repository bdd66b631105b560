//! The class and the code of a failure.

use std::time::Duration;

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_datapipeline::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_datapipeline::operation::RequestId;
use aws_sdk_datapipeline::operation::report_task_runner_heartbeat::ReportTaskRunnerHeartbeatError;
use aws_smithy_runtime_api::http::Response;

use crate::core::{Failure, FailureClass};

pub(super) type HeartbeatError = SdkError<ReportTaskRunnerHeartbeatError>;

/// Classifies by the service's error code, else by the HTTP status. Without a response, the
/// failure is transient.
pub(super) fn classify(error: &HeartbeatError) -> Failure {
    let Some(response) = error.raw_response() else {
        return Failure { class: FailureClass::Transient, retry_after: None };
    };
    let class = match (error.code(), response.status().as_u16()) {
        (Some(code), _) if THROTTLING_ERRORS.contains(&code) => FailureClass::Throttled,
        (Some(code), _) if TRANSIENT_ERRORS.contains(&code) => FailureClass::Transient,
        (_, 429) => FailureClass::Throttled,
        (_, 408) => FailureClass::Transient,
        (_, 400..500) => FailureClass::Rejected,
        _ => FailureClass::Transient,
    };
    Failure { class, retry_after: retry_after(response) }
}

/// The service's error code, else the HTTP status, else nothing.
pub(super) fn code(error: &HeartbeatError) -> Option<String> {
    let status = error.raw_response().map(|response| response.status().to_string());
    error.code().map(str::to_owned).or(status)
}

/// How long the service asks to wait: in milliseconds by its own header, in seconds by that of
/// RFC 9110, whose other form, a date, needs equal clocks. A response without a request id comes
/// from a gateway or a proxy, which must not decide when the next heartbeat is sent.
fn retry_after(response: &Response) -> Option<Duration> {
    response.request_id().filter(|id| !id.is_empty())?;
    let number = |name| response.headers().get(name)?.trim().parse::<u64>().ok();
    number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
}
