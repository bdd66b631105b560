//! Classes, codes and words of failures, for responses as the SDK hands them over.

use std::time::Duration;

use aws_sdk_datapipeline::error::SdkError;
use aws_sdk_datapipeline::operation::report_task_runner_heartbeat::ReportTaskRunnerHeartbeatError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::Response as HttpResponse;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;

use super::classify::{self, HeartbeatError, classify};
use super::messages::{chain, describe, one_line, panicked};
use crate::core::{Failure, FailureClass};
use crate::daemon::Response;

const ID: (&str, &str) = ("x-amzn-requestid", "7");

fn response(status: u16, headers: &[(&'static str, &'static str)]) -> HttpResponse {
    let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
    for (name, value) in headers {
        response.headers_mut().insert(*name, *value);
    }
    response
}

fn refused(response: HttpResponse, metadata: ErrorMetadata) -> HeartbeatError {
    SdkError::service_error(ReportTaskRunnerHeartbeatError::generic(metadata), response)
}

fn metadata(code: &str, message: &str) -> ErrorMetadata {
    ErrorMetadata::builder().code(code).message(message).build()
}

/// An error status without an error code of the service.
fn bare(status: u16, headers: &[(&'static str, &'static str)]) -> HeartbeatError {
    refused(response(status, headers), ErrorMetadata::builder().build())
}

/// No connection.
fn unconnected() -> HeartbeatError {
    SdkError::dispatch_failure(ConnectorError::io("refused".into()))
}

#[test]
fn a_failure_has_the_class_of_its_code_else_of_its_status() {
    let coded = |code| refused(response(400, &[]), metadata(code, ""));
    for (error, code, class) in [
        (coded("ThrottlingException"), "ThrottlingException", FailureClass::Throttled),
        (coded("RequestTimeout"), "RequestTimeout", FailureClass::Transient),
        (coded("AccessDeniedException"), "AccessDeniedException", FailureClass::Rejected),
        (bare(429, &[]), "429", FailureClass::Throttled),
        (bare(408, &[]), "408", FailureClass::Transient),
        (bare(403, &[]), "403", FailureClass::Rejected),
        (bare(302, &[]), "302", FailureClass::Transient),
        (bare(500, &[]), "500", FailureClass::Transient),
    ] {
        assert_eq!(classify(&error), Failure { class, retry_after: None }, "{code}");
        assert_eq!(classify::code(&error).as_deref(), Some(code));
    }
    let error = unconnected();
    let transient = Failure { class: FailureClass::Transient, retry_after: None };
    assert_eq!((classify(&error), classify::code(&error)), (transient, None));
}

#[test]
fn only_the_service_itself_asks_to_wait() {
    let (own, standard) = (("x-amz-retry-after", "2500"), ("retry-after", " 7 "));
    for (headers, milliseconds) in [
        (&[ID, own, standard][..], Some(2500)),
        (&[ID, standard], Some(7000)),
        (&[ID, ("retry-after", "soon")], None),
        (&[("x-amzn-requestid", ""), own], None),
        (&[own, standard], None),
    ] {
        let asked = classify(&bare(503, headers)).retry_after;
        assert_eq!(asked, milliseconds.map(Duration::from_millis), "{headers:?}");
    }
}

#[test]
fn a_failure_is_described_in_the_words_of_the_service_else_by_its_status() {
    let refused = |metadata| refused(response(400, &[]), metadata);
    let unsigned = metadata("InvalidSignatureException", "wrong\ncanonical request");
    let unusable = SdkError::response_error("no request id", response(200, &[ID]));
    let redirect = [("location", "https://user:secret@portal.example/login?token=secret")];
    for (error, expected) in [
        (refused(unsigned), "InvalidSignatureException: wrong (HTTP 400)"),
        (refused(ErrorMetadata::builder().code("Throttling").build()), "Throttling (HTTP 400)"),
        (unusable, "unusable answer: no request id (HTTP 200)"),
        (bare(503, &[]), "HTTP 503 Service Unavailable, not from Data Pipeline"),
        (bare(599, &[]), "HTTP 599 unknown status, not from Data Pipeline"),
        (
            bare(302, &redirect),
            "HTTP 302 Found, redirect to https://***@portal.example/login?*** not followed",
        ),
        (unconnected(), "refused"),
    ] {
        assert_eq!(describe(&error), expected);
    }
}

#[test]
fn a_code_and_a_request_id_are_bounded_lines_as_the_message_is() {
    let long = "\u{9b}2J".to_owned() + &"c".repeat(2_000);
    let mut answer = response(400, &[]);
    answer.headers_mut().insert("x-amzn-requestid", long.clone());
    let Response { message, code, request_id, .. } =
        super::response(Err(refused(answer, metadata(&long, "no"))));
    for text in [Some(message), code, request_id] {
        let text = text.unwrap();
        assert!(text.starts_with("2Jcc") && text.chars().count() == 1_001, "{text}");
    }
}

/// An error with its cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Because(&'static str, #[source] Option<Box<Because>>);

#[test]
fn a_chain_of_causes_has_no_layers_and_no_repetitions() {
    for (texts, expected) in [
        (&["no route to host", "io error", "to host", "down"][..], "no route to host: down"),
        (&["timeout", "other"], "timeout"),
        (&["bad key\n at 3. Expected one of `a`, `b`"], "bad key at 3"),
    ] {
        let add = |cause, text: &&'static str| Some(Box::new(Because(text, cause)));
        let error = texts.iter().rev().fold(None, add).unwrap();
        assert_eq!(chain(&*error), expected);
    }
    assert_eq!(chain(&metadata("ExpiredToken", "It expired")), "ExpiredToken: It expired");
}

#[test]
fn a_panic_is_an_internal_error() {
    assert_eq!(panicked(&"no \n pipe"), "internal error: no pipe");
    assert_eq!(panicked(&"no pipe".to_owned()), "internal error: no pipe");
    assert_eq!(panicked(&7), "internal error: panic");
}

#[test]
fn a_line_is_plain_and_bounded() {
    assert_eq!(one_line(" a\t\u{1b}[31mb\r\nc "), "a [31mb c");
    assert_eq!(one_line(&"é".repeat(1000)), "é".repeat(1000));
    assert_eq!(one_line(&"é".repeat(1001)), "é".repeat(1000) + "…");
}
