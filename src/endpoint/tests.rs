//! The built-in endpoint over loopback sockets, called by the AWS SDK or with raw requests.

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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Played, Step, serve};

type HeartbeatError = SdkError<ReportTaskRunnerHeartbeatError>;

/// Starts an endpoint on a free port; it ends with the test's runtime.
async fn start(script: &str) -> (SocketAddr, Receiver<Played>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, played) = channel();
    let observe = move |played| sender.send(played).unwrap();
    tokio::spawn(serve(listener, script.parse().unwrap(), observe));
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

/// Sends one heartbeat and returns `terminate`.
async fn heartbeat(client: &Client, taskrunner_id: &str) -> Result<bool, HeartbeatError> {
    let call = client.report_task_runner_heartbeat().taskrunner_id(taskrunner_id);
    let output = call.worker_group("wg").hostname("runner.example").send().await?;
    assert!(output.request_id().is_some_and(|id| id.len() == 36));
    Ok(output.terminate())
}

/// The error that the first step of a script is for the SDK.
async fn first_error(script: &str) -> HeartbeatError {
    let (addr, _played) = start(script).await;
    heartbeat(&client(addr, TimeoutConfig::disabled()), "tr").await.unwrap_err()
}

/// A signed heartbeat, as bytes on the wire.
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
async fn each_task_runner_gets_the_script_from_its_beginning() {
    let (addr, played) = start("ok*2,terminate").await;
    let client = client(addr, TimeoutConfig::disabled());
    for expected in [false, false, true, true] {
        assert_eq!(heartbeat(&client, "first").await.unwrap(), expected);
    }
    assert!(!heartbeat(&client, "second").await.unwrap());

    let all: Vec<_> = played.try_iter().collect();
    let steps = all.iter().map(|p| (&*p.heartbeat.taskrunner_id, p.step));
    let expected = [
        ("first", Step::Ok),
        ("first", Step::Ok),
        ("first", Step::Terminate),
        ("first", Step::Terminate),
        ("second", Step::Ok),
    ];
    assert!(steps.eq(expected));
    let first = &all[0].heartbeat;
    assert_eq!(first.worker_group.as_deref(), Some("wg"));
    assert_eq!(first.hostname.as_deref(), Some("runner.example"));
}

#[tokio::test]
async fn errors_have_the_codes_and_statuses_of_the_service() {
    let cases = [
        ("throttle", "ThrottlingException", 400, "Rate exceeded"),
        ("error", "InternalServiceError", 500, "An internal service error"),
        ("reject", "AccessDeniedException", 400, "is not authorized to perform: datapipeline:"),
    ];
    for (script, code, status, message) in cases {
        let error = first_error(script).await;
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        assert!(error.message().unwrap().contains(message), "{error:?}");
        assert!(error.request_id().is_some());
        let modelled = error.as_service_error().unwrap().is_internal_service_error();
        assert_eq!(modelled, script == "error");
    }
}

#[tokio::test]
async fn an_invalid_request_is_refused_and_consumes_no_step() {
    let (addr, played) = start("ok").await;
    let error = heartbeat(&client(addr, TimeoutConfig::disabled()), "").await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_invalid_request_exception());
    assert!(error.message().unwrap().contains("'taskrunnerId'"));
    assert!(played.try_recv().is_err());
}

#[tokio::test]
async fn the_page_of_a_captive_portal_has_no_request_id() {
    let error = first_error("html").await;
    assert_eq!((error.code(), error.request_id()), (None, None));
    let response = error.raw_response().unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let content_type = response.headers().get("content-type").unwrap();
    assert!(content_type.starts_with("text/html"), "{content_type}");
}

#[tokio::test]
async fn a_reset_comes_in_the_middle_of_the_reply() {
    let (addr, played) = start("reset").await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request(BODY).as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    let error = stream.read_to_end(&mut reply).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("\r\ncontent-length: 19\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\n{\"termina"), "{reply}");
    assert_eq!(played.try_recv().unwrap().step, Step::Reset);
}

#[tokio::test]
async fn a_reset_is_a_failure_for_the_sdk() {
    let error = first_error("reset").await;
    assert_eq!(error.raw_response().map(|response| response.status().as_u16()), Some(200));
    assert!(error.as_service_error().is_none(), "{error:?}");
}

#[tokio::test]
async fn a_hang_lasts_until_the_client_times_out() {
    let (addr, played) = start("hang,ok").await;
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_millis(200)).build();
    let client = client(addr, timeouts);
    let error = heartbeat(&client, "tr").await.unwrap_err();
    assert!(matches!(error, SdkError::TimeoutError(_)), "{error:?}");
    assert!(!heartbeat(&client, "tr").await.unwrap());
    let steps = played.try_iter().map(|played| played.step);
    assert!(steps.eq([Step::Hang, Step::Ok]));
}

#[tokio::test]
async fn a_body_of_more_than_64_kib_is_refused() {
    let (addr, _played) = start("ok").await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let body = " ".repeat(64 * 1024 + 1);
    stream.write_all(request(&body).as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    assert!(reply.contains("RequestEntityTooLargeException"), "{reply}");
    assert!(reply.contains("\r\ndate: "), "{reply}");
}

#[tokio::test]
async fn the_number_of_task_runners_is_bounded() {
    let (addr, played) = start("ok").await;
    let client = client(addr, TimeoutConfig::disabled());
    for n in 0..1000 {
        assert!(!heartbeat(&client, &n.to_string()).await.unwrap());
    }
    let error = heartbeat(&client, "one more").await.unwrap_err();
    assert_eq!(error.code(), Some("ThrottlingException"));
    assert!(!heartbeat(&client, "0").await.unwrap());
    assert_eq!(played.try_iter().count(), 1001);
}
