//! The built-in endpoint as clients see it: over loopback sockets, by the AWS SDK or by hand.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use aws_sdk_datapipeline::Client;
use aws_sdk_datapipeline::config::retry::RetryConfig;
use aws_sdk_datapipeline::config::timeout::TimeoutConfig;
use aws_sdk_datapipeline::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_datapipeline::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_datapipeline::operation::RequestId;
use aws_sdk_datapipeline::operation::report_task_runner_heartbeat::ReportTaskRunnerHeartbeatError;
use taskbeat::endpoint::{Endpoint, Played, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Answer = Result<bool, SdkError<ReportTaskRunnerHeartbeatError>>;

/// Starts an endpoint on a free port; it ends with the test's runtime.
async fn start(script: &str) -> (SocketAddr, Receiver<Played>) {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = Endpoint::bind(any_port, script.parse().unwrap())
        .await
        .unwrap();
    let addr = endpoint.addr();
    let (sender, played) = channel();
    tokio::spawn(endpoint.serve(move |record| sender.send(record).unwrap()));
    (addr, played)
}

fn client(addr: SocketAddr, timeouts: TimeoutConfig) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("AKID", "secret", None, None, "test"))
        .endpoint_url(format!("http://{addr}"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

async fn beat(client: &Client, taskrunner_id: &str) -> Answer {
    let call = client
        .report_task_runner_heartbeat()
        .taskrunner_id(taskrunner_id);
    let output = call
        .worker_group("wg")
        .hostname("runner.example")
        .send()
        .await?;
    assert!(output.request_id().is_some_and(|id| id.len() == 36));
    Ok(output.terminate())
}

/// The first answer of a script.
async fn first_answer(script: &str) -> SdkError<ReportTaskRunnerHeartbeatError> {
    let (addr, _played) = start(script).await;
    beat(&client(addr, TimeoutConfig::disabled()), "tr")
        .await
        .unwrap_err()
}

/// A signed heartbeat as it goes over the wire.
fn request(body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: DataPipeline.ReportTaskRunnerHeartbeat\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=A/20250101/r/datapipeline/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const BODY: &str = r#"{"taskrunnerId":"tr"}"#;

#[tokio::test]
async fn each_task_runner_plays_the_script_from_its_beginning() {
    let (addr, played) = start("ok*2,terminate").await;
    let client = client(addr, TimeoutConfig::disabled());
    for expected in [false, false, true, true] {
        assert_eq!(beat(&client, "first").await.unwrap(), expected);
    }
    assert!(!beat(&client, "second").await.unwrap());

    let records: Vec<_> = played.try_iter().collect();
    let steps = records
        .iter()
        .map(|r| (&*r.heartbeat.taskrunner_id, r.number, r.step));
    let expected = [
        ("first", 1, Step::Ok),
        ("first", 2, Step::Ok),
        ("first", 3, Step::Terminate),
        ("first", 4, Step::Terminate),
        ("second", 1, Step::Ok),
    ];
    assert!(steps.eq(expected));
    assert!(records.is_sorted_by_key(|r| r.at));
    assert_eq!(records[0].heartbeat.worker_group.as_deref(), Some("wg"));
    assert_eq!(
        records[0].heartbeat.hostname.as_deref(),
        Some("runner.example")
    );
}

#[tokio::test]
async fn errors_have_the_services_codes_and_statuses() {
    let cases = [
        ("throttle", "ThrottlingException", 400, "Rate exceeded"),
        (
            "error",
            "InternalServiceError",
            500,
            "An internal service error",
        ),
        (
            "reject",
            "AccessDeniedException",
            400,
            "is not authorized to perform: datapipeline:",
        ),
    ];
    for (script, code, status, message) in cases {
        let error = first_answer(script).await;
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        assert!(error.message().unwrap().contains(message), "{error:?}");
        assert!(error.request_id().is_some());
        let modelled = error
            .as_service_error()
            .unwrap()
            .is_internal_service_error();
        assert_eq!(modelled, script == "error");
    }
}

#[tokio::test]
async fn an_invalid_request_is_refused_and_plays_nothing() {
    let (addr, played) = start("ok").await;
    let error = beat(&client(addr, TimeoutConfig::disabled()), "")
        .await
        .unwrap_err();
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_invalid_request_exception()
    );
    assert!(error.message().unwrap().contains("'taskrunnerId'"));
    assert!(played.try_recv().is_err());
}

#[tokio::test]
async fn a_portals_page_is_no_answer_of_the_service() {
    let error = first_answer("html").await;
    assert_eq!((error.code(), error.request_id()), (None, None));
    let response = error.raw_response().unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let content_type = response.headers().get("content-type").unwrap();
    assert!(content_type.starts_with("text/html"), "{content_type}");
}

#[tokio::test]
async fn a_reset_comes_in_the_middle_of_the_answer() {
    let (addr, played) = start("reset").await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request(BODY).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-length: 19\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"termina"), "{answer}");
    assert_eq!(played.try_recv().unwrap().step, Step::Reset);
}

#[tokio::test]
async fn the_sdk_takes_a_reset_for_a_failure() {
    let error = first_answer("reset").await;
    assert_eq!(
        error
            .raw_response()
            .map(|response| response.status().as_u16()),
        Some(200)
    );
    assert!(error.as_service_error().is_none(), "{error:?}");
}

#[tokio::test]
async fn a_hang_lasts_until_the_client_gives_up() {
    let (addr, played) = start("hang,ok").await;
    let patience = TimeoutConfig::builder()
        .operation_timeout(Duration::from_millis(200))
        .build();
    let client = client(addr, patience);
    let error = beat(&client, "tr").await.unwrap_err();
    assert!(matches!(error, SdkError::TimeoutError(_)), "{error:?}");
    assert!(!beat(&client, "tr").await.unwrap());
    assert!(
        played
            .try_iter()
            .map(|record| record.step)
            .eq([Step::Hang, Step::Ok])
    );
}

#[tokio::test]
async fn a_body_of_more_than_64_kib_is_refused() {
    let (addr, _played) = start("ok").await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let body = " ".repeat(64 * 1024 + 1);
    stream.write_all(request(&body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(
        answer.contains("RequestEntityTooLargeException"),
        "{answer}"
    );
    assert!(answer.contains("\r\ndate: "), "{answer}");
}

#[tokio::test]
async fn only_so_many_task_runners_are_remembered() {
    let (addr, played) = start("ok").await;
    let client = client(addr, TimeoutConfig::disabled());
    for n in 0..1000 {
        assert!(!beat(&client, &n.to_string()).await.unwrap());
    }
    let error = beat(&client, "one more").await.unwrap_err();
    assert_eq!(error.code(), Some("ThrottlingException"));
    assert!(!beat(&client, "0").await.unwrap());
    assert_eq!(played.try_iter().count(), 1001);
}
