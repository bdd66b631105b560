//! The sockets: connections, their bounds, and the delivery of replies.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::future::{pending, ready};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::protocol::{self, HeartbeatRequest, Reply};
use super::script::{Script, Step};

/// The largest request body, in bytes. The longest valid heartbeat, escaped throughout, has 37 kB.
const MAX_BODY: usize = 64 * 1024;
/// Connections served at once; further ones wait in the backlog. A process may usually have 1024
/// descriptors, and the rest of taskbeat needs some of them.
const MAX_CONNECTIONS: usize = 256;
/// Task runner ids with a position in the script. Heartbeats of further ids are throttled.
const MAX_RUNNERS: usize = 1000;
/// Limit for the head of a request, counted from the start of the connection or the last reply,
/// and again for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A heartbeat and the step of the script that answers it.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) heartbeat: HeartbeatRequest,
    pub(crate) step: Step,
}

/// Answers all clients of `listener`, and calls `observe` for each heartbeat before its reply is
/// sent.
///
/// The future never completes. Dropping it closes the listener and all connections. `observe`
/// delays every reply while it runs, so it should only pass the value on.
pub(crate) async fn serve(
    listener: TcpListener,
    script: Script,
    observe: impl FnMut(Played) + Send + 'static,
) -> Infallible {
    let player = Arc::new(Mutex::new(Player::new(script, observe)));
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < MAX_CONNECTIONS;
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, Arc::clone(&player)));
                }
                // The client has gone already, or no descriptors are left. Neither is a reason to
                // end, but the latter must not spin.
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The script and the position of each task runner in it. Connections share it, and lock it for
/// one step at a time.
struct Player {
    script: Script,
    /// Heartbeats answered so far, by `taskrunnerId`.
    positions: HashMap<String, usize>,
    observe: Box<dyn FnMut(Played) + Send>,
}

impl Player {
    fn new(script: Script, observe: impl FnMut(Played) + Send + 'static) -> Self {
        Self { script, positions: HashMap::new(), observe: Box::new(observe) }
    }

    fn play(&mut self, heartbeat: HeartbeatRequest) -> Step {
        let id = &heartbeat.taskrunner_id;
        if self.positions.len() >= MAX_RUNNERS && !self.positions.contains_key(id) {
            return Step::Throttle;
        }
        let position = self.positions.entry(id.clone()).or_default();
        let step = self.script.step(*position);
        *position += 1;
        (self.observe)(Played { heartbeat, step });
        step
    }
}

/// Serves one connection until either side closes it.
async fn serve_connection(stream: TcpStream, player: Arc<Mutex<Player>>) {
    let service = service_fn(|request| respond(request, &player));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Other errors come from a client that does not speak HTTP.
    if let Err(error) = (&mut connection).await
        && error.source().is_some_and(<dyn Error>::is::<io::Error>)
    {
        // On close, a socket with zero linger sends RST in place of FIN.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Answers one request. An error closes the connection.
async fn respond(
    request: http::Request<Incoming>,
    player: &Mutex<Player>,
) -> Result<http::Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect();
    let step = match timeout(READ_TIMEOUT, body).await? {
        Ok(body) => HeartbeatRequest::from_request(&head, &body.to_bytes())
            .map(|heartbeat| player.lock().unwrap_or_else(PoisonError::into_inner).play(heartbeat)),
        Err(error) if error.is::<LengthLimitError>() => Err(Reply::too_large()),
        Err(error) => return Err(error),
    };
    if step == Ok(Step::Hang) {
        pending::<()>().await;
    }
    let resets = step == Ok(Step::Reset);
    let reply = step.map_or_else(|refusal| refusal, Reply::to);
    let mut response = http::Response::builder()
        .status(reply.status)
        .header(CONTENT_TYPE, reply.content_type)
        .header(CONTENT_LENGTH, reply.body.len());
    // The page of a captive portal has no request id.
    if reply.content_type == protocol::JSON {
        response = response.header("x-amzn-RequestId", protocol::request_id(fastrand::u128(..)));
    }
    Ok(response.body(if resets { half(&reply.body) } else { full(reply.body) })?)
}

fn full(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// The first half of a body, then the error that makes [`serve_connection`] reset the connection.
fn half(text: &str) -> Body {
    let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
    let reset = async {
        // A body that is not ready makes hyper send the bytes that it has so far.
        yield_now().await;
        Err(io::ErrorKind::ConnectionReset.into())
    };
    let frames = stream::once(ready(Ok(Frame::data(half)))).chain(stream::once(reset));
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The server's and the client's end of a new loopback connection.
    async fn connect() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    fn player(script: &str, observe: impl FnMut(Played) + Send + 'static) -> Arc<Mutex<Player>> {
        Arc::new(Mutex::new(Player::new(script.parse().unwrap(), observe)))
    }

    const REQUEST: &str = "POST / HTTP/1.1\r\nContent-Type: application/x-amz-json-1.1\r\n\
        X-Amz-Target: DataPipeline.ReportTaskRunnerHeartbeat\r\nAuthorization: AWS4-HMAC-SHA256 \
        Credential=A/20250101/r/datapipeline/aws4_request, SignedHeaders=host, Signature=0\r\n\
        Content-Length: 20\r\n\r\n{\"taskrunnerId\":\"t\"}";

    #[tokio::test]
    async fn a_hanging_connection_ends_when_the_client_closes_it() {
        let (server, mut client) = connect().await;
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        // The client closes as soon as the hang begins.
        let mut client = Some(client);
        serve_connection(server, player("hang", move |_| drop(client.take()))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed_at_the_limit() {
        let (server, mut client) = connect().await;
        serve_connection(server, player("ok", |_| {})).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_with_an_incomplete_body_is_closed_at_the_limit() {
        let (server, mut client) = connect().await;
        let incomplete = &REQUEST.as_bytes()[..REQUEST.len() - 1];
        client.write_all(incomplete).await.unwrap();
        serve_connection(server, player("ok", |_| {})).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
