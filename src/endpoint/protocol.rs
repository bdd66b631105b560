//! AWS JSON 1.1 of Data Pipeline: valid requests, and the reply to each step of a script.
//!
//! Names, members and limits are those of the service's model, API version 2012-10-29. An error has
//! the bare name of its shape in `__type`, as in [AWS JSON 1.1], and its text in `message`. Its
//! status is 400 for an error of the client and 500 for a fault of the service. Source for the 400
//! of `AccessDeniedException`: the log of a Task Runner in aws/aws-sdk-java#1317.
//!
//! [AWS JSON 1.1]: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::script::Step;

/// The content type of requests, and of all replies but a captive portal's page.
pub(super) const JSON: &str = "application/x-amz-json-1.1";

/// A valid `ReportTaskRunnerHeartbeat` request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeartbeatRequest {
    pub(crate) taskrunner_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worker_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<String>,
    /// The id of the access key that signed the request.
    #[serde(skip)]
    pub(crate) access_key: String,
}

impl HeartbeatRequest {
    /// Checks a request: the operation, then the credentials, the body and its members.
    ///
    /// The signature itself is not verified, because that takes the secret key, and any
    /// credentials are accepted. Unknown members are ignored, and `null` means absent.
    ///
    /// # Errors
    ///
    /// The reply that refuses the request.
    pub(super) fn from_request(head: &Parts, body: &[u8]) -> Result<Self, Reply> {
        check_operation(head)?;
        let access_key = check_authorization(&head.headers)?.to_owned();
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
            let message = "The body is not a JSON object.";
            return Err(Reply::error("SerializationException", message));
        };
        Ok(Self {
            taskrunner_id: member(&members, "taskrunnerId", 1)?
                .ok_or_else(|| invalid("taskrunnerId", "not be null"))?,
            worker_group: member(&members, "workerGroup", 0)?,
            hostname: member(&members, "hostname", 1)?,
            access_key,
        })
    }
}

/// A response: status, content type and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Reply {
    /// The reply of a step. The endpoint never sends that of [`Step::Hang`].
    pub(super) fn to(step: Step) -> Self {
        match step {
            Step::Ok | Step::Reset | Step::Hang => Self::acknowledged(false),
            Step::Terminate => Self::acknowledged(true),
            Step::Throttle => Self::error("ThrottlingException", "Rate exceeded"),
            Step::Error => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..Self::error("InternalServiceError", "An internal service error occurred.")
            },
            Step::Reject => Self::error(
                "AccessDeniedException",
                "User: arn:aws:sts::123456789012:assumed-role/rehearsal/i-0123456789abcdef0 is not \
                 authorized to perform: datapipeline:ReportTaskRunnerHeartbeat",
            ),
            Step::Html => Self {
                status: StatusCode::OK,
                content_type: "text/html; charset=utf-8",
                body: "<!DOCTYPE html><title>Guest network</title><p>Please sign in.".to_owned(),
            },
        }
    }

    fn acknowledged(terminate: bool) -> Self {
        let body = json!({ "terminate": terminate }).to_string();
        Self { status: StatusCode::OK, content_type: JSON, body }
    }

    /// An error of the client, status 400.
    fn error(kind: &str, message: &str) -> Self {
        let body = json!({ "__type": kind, "message": message }).to_string();
        Self { status: StatusCode::BAD_REQUEST, content_type: JSON, body }
    }

    pub(super) fn too_large() -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Self::error("RequestEntityTooLargeException", "The request body is too large.")
        }
    }
}

/// A request id: a version 4 UUID made from `random`.
pub(super) fn request_id(random: u128) -> String {
    let hex = format!("{random:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn check_operation(head: &Parts) -> Result<(), Reply> {
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let wrong = if head.method != Method::POST || head.uri.path() != "/" {
        "Operations are called by POST /."
    } else if !media_type.eq_ignore_ascii_case(JSON) {
        "The Content-Type must be application/x-amz-json-1.1."
    } else if header("x-amz-target") != Some("DataPipeline.ReportTaskRunnerHeartbeat") {
        "The X-Amz-Target must be DataPipeline.ReportTaskRunnerHeartbeat."
    } else {
        return Ok(());
    };
    Err(Reply::error("UnknownOperationException", wrong))
}

/// Signature Version 4: `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/datapipeline/aws4_request,
/// SignedHeaders=…, Signature=…`. Returns the key.
fn check_authorization(headers: &HeaderMap) -> Result<&str, Reply> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        let message = "Missing Authentication Token";
        return Err(Reply::error("MissingAuthenticationTokenException", message));
    };
    let value = value.to_str().unwrap_or_default();
    let parameters = value.strip_prefix("AWS4-HMAC-SHA256 ").unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = parameters.split(',').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
    };
    let is_signed =
        ["SignedHeaders", "Signature"].into_iter().all(|name| parameter(name).is_some());
    let is_date = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    let scope: Vec<_> = parameter("Credential").unwrap_or_default().split('/').collect();
    let (kind, message) = match scope[..] {
        [key, date, region, service, "aws4_request"]
            if is_signed && !key.is_empty() && is_date(date) && !region.is_empty() =>
        {
            if service == "datapipeline" {
                return Ok(key);
            }
            let message = "Credential should be scoped to correct service: 'datapipeline'.";
            ("InvalidSignatureException", message)
        }
        _ => (
            "IncompleteSignatureException",
            "Authorization header requires AWS4-HMAC-SHA256 with 'Credential' (KEY/YYYYMMDD/REGION/\
             datapipeline/aws4_request), 'SignedHeaders' and 'Signature'.",
        ),
    };
    Err(Reply::error(kind, message))
}

/// The member `name`: a string of `shortest` to 1024 characters that match [`PATTERN`].
fn member(
    members: &Map<String, Value>,
    name: &str,
    shortest: usize,
) -> Result<Option<String>, Reply> {
    let Some(value) = members.get(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let Some(text) = value.as_str() else {
        return Err(invalid(name, "be a string"));
    };
    match text.chars().count() {
        length if length < shortest => Err(invalid(name, "have length greater than or equal to 1")),
        1025.. => Err(invalid(name, "have length less than or equal to 1024")),
        _ if text.chars().all(in_pattern) => Ok(Some(text.to_owned())),
        _ => Err(invalid(name, &format!("satisfy regular expression pattern: {PATTERN}"))),
    }
}

/// The pattern as the model writes it, in UTF-16 units. The surrogates stand for all characters
/// above U+FFFF.
const PATTERN: &str = r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*";

fn in_pattern(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{FFFD}' | '\u{10000}'..)
}

/// A validation error in the wording of AWS. The value is left out because it may be very long.
fn invalid(name: &str, constraint: &str) -> Reply {
    let message = format!(
        "1 validation error detected: Value at '{name}' failed to satisfy constraint: \
         Member must {constraint}"
    );
    Reply::error("InvalidRequestException", &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=A/20250101/eu-1/datapipeline/aws4_request, \
                          SignedHeaders=host;x-amz-date, Signature=0123abcd";

    /// The head of a valid request, with one header changed or removed.
    fn head(header: &'static str, value: Option<&str>) -> Parts {
        let mut request = http::Request::post("http://localhost/")
            .header("X-Amz-Target", "DataPipeline.ReportTaskRunnerHeartbeat")
            .header("Content-Type", JSON)
            .header("Authorization", SIGNED)
            .body(())
            .unwrap();
        match value {
            Some(value) => {
                request.headers_mut().insert(header, value.parse().unwrap());
            }
            None => {
                request.headers_mut().remove(header);
            }
        }
        request.into_parts().0
    }

    fn valid_head() -> Parts {
        head("X-Unknown", Some("ignored"))
    }

    /// The `__type` and the message of the error for a request.
    fn refusal(head: &Parts, body: &str) -> (String, String) {
        let reply = HeartbeatRequest::from_request(head, body.as_bytes()).unwrap_err();
        assert_eq!((reply.status, reply.content_type), (StatusCode::BAD_REQUEST, JSON));
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        (text("__type"), text("message"))
    }

    #[test]
    fn a_valid_request_is_parsed() {
        let full = r#"{"taskrunnerId":"tr-1","workerGroup":"wg","hostname":"h.example","new":[1]}"#;
        let heartbeat = HeartbeatRequest::from_request(&valid_head(), full.as_bytes()).unwrap();
        assert_eq!(heartbeat.taskrunner_id, "tr-1");
        assert_eq!(heartbeat.access_key, "A");
        assert_eq!(heartbeat.worker_group.as_deref(), Some("wg"));
        assert_eq!(heartbeat.hostname.as_deref(), Some("h.example"));

        let least = br#" {"taskrunnerId":"t","workerGroup":null} "#;
        let heartbeat = HeartbeatRequest::from_request(&valid_head(), least).unwrap();
        assert_eq!((heartbeat.worker_group, heartbeat.hostname), (None, None));
    }

    #[test]
    fn wrong_headers_are_refused_before_the_body() {
        let unknown = "UnknownOperationException";
        let missing = "MissingAuthenticationTokenException";
        let incomplete = "IncompleteSignatureException";
        let scope = "InvalidSignatureException";
        let signed = |credential: &str| {
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0")
        };
        let cases = [
            ("X-Amz-Target", None, unknown),
            ("X-Amz-Target", Some("DataPipeline.PollForTask".to_owned()), unknown),
            ("X-Amz-Target", Some("datapipeline.reporttaskrunnerheartbeat".to_owned()), unknown),
            ("Content-Type", None, unknown),
            ("Content-Type", Some("application/json".to_owned()), unknown),
            ("Authorization", None, missing),
            ("Authorization", Some(String::new()), incomplete),
            ("Authorization", Some("Bearer token".to_owned()), incomplete),
            ("Authorization", Some("AWS4-HMAC-SHA256 Signature=0".to_owned()), incomplete),
            ("Authorization", Some(SIGNED.replace("Signature=0123abcd", "Signature=")), incomplete),
            ("Authorization", Some(SIGNED.replace("SignedHeaders", "Headers")), incomplete),
            ("Authorization", Some(signed("AKID")), incomplete),
            ("Authorization", Some(signed("/20250101/r/datapipeline/aws4_request")), incomplete),
            ("Authorization", Some(signed("A/2025-1-1/r/datapipeline/aws4_request")), incomplete),
            ("Authorization", Some(signed("A/20250101//datapipeline/aws4_request")), incomplete),
            ("Authorization", Some(signed("A/20250101/r/datapipeline/aws3_request")), incomplete),
            ("Authorization", Some(signed("A/20250101/r/s3/aws4_request")), scope),
        ];
        for (header, value, kind) in cases {
            // The body is invalid as well, but it is checked last.
            let head = head(header, value.as_deref());
            assert_eq!(refusal(&head, "").0, kind, "{header}: {value:?}");
        }
    }

    #[test]
    fn operations_are_called_by_post_at_the_root() {
        let mut get = valid_head();
        get.method = Method::GET;
        assert_eq!(refusal(&get, "").0, "UnknownOperationException");
        let mut elsewhere = valid_head();
        elsewhere.uri = "/elsewhere".parse().unwrap();
        assert_eq!(refusal(&elsewhere, "").0, "UnknownOperationException");
        let charset = head("Content-Type", Some("Application/X-Amz-Json-1.1; charset=utf-8"));
        assert!(HeartbeatRequest::from_request(&charset, br#"{"taskrunnerId":"t"}"#).is_ok());
    }

    #[test]
    fn a_body_that_is_not_a_json_object_is_refused() {
        let lone_surrogate = r#"{"taskrunnerId":"\ud800"}"#;
        for body in ["", "{", "[]", "null", "\"t\"", "{} {}", lone_surrogate] {
            assert_eq!(refusal(&valid_head(), body).0, "SerializationException", "{body}");
        }
    }

    #[test]
    fn an_invalid_member_is_named() {
        let cases = [
            (json!({}), "taskrunnerId", "not be null"),
            (json!({ "taskrunnerId": null }), "taskrunnerId", "not be null"),
            (json!({ "taskrunnerId": 1 }), "taskrunnerId", "be a string"),
            (json!({ "taskrunnerId": "" }), "taskrunnerId", "have length greater"),
            (json!({ "taskrunnerId": "é".repeat(1025) }), "taskrunnerId", "have length less"),
            (json!({ "taskrunnerId": "a\u{0}" }), "taskrunnerId", "satisfy regular expression"),
            (json!({ "taskrunnerId": "a\u{b}" }), "taskrunnerId", "satisfy regular expression"),
            (json!({ "taskrunnerId": "\u{fffe}" }), "taskrunnerId", "satisfy regular expression"),
            (json!({ "taskrunnerId": "t", "hostname": "" }), "hostname", "have length greater"),
            (json!({ "taskrunnerId": "t", "hostname": ["h"] }), "hostname", "be a string"),
            (json!({ "taskrunnerId": "t", "workerGroup": {} }), "workerGroup", "be a string"),
            (
                json!({ "taskrunnerId": "t", "workerGroup": "w".repeat(1025) }),
                "workerGroup",
                "have length less",
            ),
        ];
        for (body, name, constraint) in cases {
            let (kind, message) = refusal(&valid_head(), &body.to_string());
            assert_eq!(kind, "InvalidRequestException", "{body}");
            assert!(message.contains(&format!("'{name}'")), "{body}: {message}");
            assert!(message.contains(&format!("Member must {constraint}")), "{body}: {message}");
        }
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        for text in
            ["é".repeat(1024), "\u{1f980}".repeat(1024), "\t\r\n ~\u{7f}\u{fffd}".to_owned()]
        {
            let body = json!({ "taskrunnerId": text, "workerGroup": "", "hostname": text });
            let heartbeat =
                HeartbeatRequest::from_request(&valid_head(), body.to_string().as_bytes());
            assert_eq!(heartbeat.unwrap().taskrunner_id, text);
        }
    }

    #[test]
    fn a_request_id_is_a_random_uuid() {
        assert_eq!(request_id(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(request_id(u128::MAX), "ffffffff-ffff-4fff-8fff-ffffffffffff");
    }
}
