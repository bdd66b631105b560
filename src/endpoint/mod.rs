//! The built-in endpoint: it plays Data Pipeline's `ReportTaskRunnerHeartbeat` from a script.
//!
//! A rehearsal talks to it, and so can any AWS client with any credentials. Each `taskrunnerId`
//! plays the script from its own beginning, so that a second client does not eat the steps of the
//! first. Requests that the service would refuse (unsigned, malformed) play nothing.
//!
//! It is meant for loopback and has bounds, but no encryption and no access control.

mod protocol;
mod script;

use std::collections::HashMap;
use std::error::Error;
use std::future::{pending, ready};
use std::io;
use std::net::SocketAddr;
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
use tokio::time::{Instant, sleep, timeout};

use protocol::{Delivery, Reply};

pub use protocol::HeartbeatRequest;
pub use script::{Script, ScriptError, Step};

/// The largest request body, in bytes. The longest valid heartbeat has 37 kB, all of it escaped.
const MAX_BODY: usize = 64 * 1024;
/// Connections served at once; more of them wait. The usual limit of 1024 descriptors is shared.
const MAX_CONNECTIONS: usize = 256;
/// Task runner ids remembered; the heartbeats of more of them are throttled.
const MAX_RUNNERS: usize = 1000;
/// How long a request's head may take, counted from the connection's start or the last reply, and
/// then its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// One heartbeat that was answered by a step of the script.
#[derive(Clone, Debug)]
pub struct Played {
    /// The request.
    pub heartbeat: HeartbeatRequest,
    /// The step that answers it.
    pub step: Step,
    /// Which of this task runner's heartbeats it is, counted from 1; beyond the script's length the
    /// script is over.
    pub number: usize,
    /// When the request had been read.
    pub at: Instant,
}

/// A listening endpoint with its script.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    addr: SocketAddr,
    script: Script,
}

impl Endpoint {
    /// Listens at `addr`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Whatever `bind(2)` says: the port is in use, the address is not ours.
    pub async fn bind(addr: SocketAddr, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self {
            listener,
            addr,
            script,
        })
    }

    /// The address it listens at.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Plays the script to whoever comes; tells `played` of each heartbeat before it is answered.
    ///
    /// It never ends: drop it to stop, which cuts all connections. `played` holds up all replies
    /// while it runs, so it should only pass the record on.
    pub async fn serve(self, played: impl FnMut(Played) + Send + 'static) {
        let stage = Arc::new(Mutex::new(Stage {
            script: self.script,
            counts: HashMap::new(),
            played: Box::new(played),
        }));
        let mut connections = JoinSet::new();
        loop {
            let room = connections.len() < MAX_CONNECTIONS;
            tokio::select! {
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(converse(stream, Arc::clone(&stage)));
                    }
                    // A client that gave up at once, or no descriptors left: neither is a reason
                    // to end, but the latter must not spin.
                    Err(_) => sleep(Duration::from_millis(100)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// All that the endpoint remembers; its connections lock it only while they play one step.
struct Stage {
    script: Script,
    counts: HashMap<String, usize>,
    played: Box<dyn FnMut(Played) + Send>,
}

impl Stage {
    fn play(&mut self, heartbeat: HeartbeatRequest) -> Delivery {
        let id = &heartbeat.taskrunner_id;
        if self.counts.len() >= MAX_RUNNERS && !self.counts.contains_key(id) {
            return Delivery::Whole(Reply::throttled());
        }
        let count = self.counts.entry(id.clone()).or_default();
        let step = self.script.step(*count);
        *count += 1;
        let number = *count;
        (self.played)(Played {
            heartbeat,
            step,
            number,
            at: Instant::now(),
        });
        protocol::answer(step)
    }
}

/// Serves one connection until either side ends it.
async fn converse(stream: TcpStream, stage: Arc<Mutex<Stage>>) {
    let service = service_fn(|request| respond(request, &stage));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Errors are the client's doing (it went away, it speaks no HTTP) but for the one we planned.
    if let Err(error) = (&mut connection).await
        && error.source().is_some_and(<dyn Error>::is::<Reset>)
    {
        // Closed with nothing to linger for, the kernel sends RST in place of FIN.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

type Body = UnsyncBoxBody<Bytes, Reset>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Answers one request; an error closes the connection.
async fn respond(
    request: http::Request<Incoming>,
    stage: &Mutex<Stage>,
) -> Result<http::Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect();
    let answer = match timeout(READ_TIMEOUT, body).await? {
        Ok(body) => match HeartbeatRequest::from_request(&head, &body.to_bytes()) {
            Ok(heartbeat) => stage
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .play(heartbeat),
            Err(refusal) => Delivery::Whole(refusal),
        },
        Err(error) if error.is::<LengthLimitError>() => Delivery::Whole(Reply::too_large()),
        Err(error) => return Err(error),
    };
    let (reply, cut) = match answer {
        Delivery::Whole(reply) => (reply, false),
        Delivery::Half(reply) => (reply, true),
        Delivery::Never => pending().await,
    };
    let mut response = http::Response::builder()
        .status(reply.status)
        .header(CONTENT_TYPE, reply.content_type)
        .header(CONTENT_LENGTH, reply.body.len());
    // A captive portal knows nothing of request ids.
    if reply.content_type == protocol::JSON {
        response = response.header("x-amzn-RequestId", protocol::request_id(fastrand::u128(..)));
    }
    let body = if cut {
        half(&reply.body)
    } else {
        whole(reply.body)
    };
    Ok(response.body(body)?)
}

fn whole(body: String) -> Body {
    Full::from(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The first half of `body`, then the failure that makes [`converse`] reset the connection.
fn half(body: &str) -> Body {
    let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
    let failure = async {
        // A body that is not ready makes hyper send what it has so far.
        yield_now().await;
        Err(Reset)
    };
    let frames = stream::once(ready(Ok(Frame::data(half)))).chain(stream::once(failure));
    StreamBody::new(frames).boxed_unsync()
}

/// The step `reset` on its way through hyper.
#[derive(Debug, thiserror::Error)]
#[error("the script resets the connection")]
struct Reset;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The server's and the client's end of a new loopback connection.
    async fn connect() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    fn stage(script: &str, played: impl FnMut(Played) + Send + 'static) -> Arc<Mutex<Stage>> {
        let script = script.parse().unwrap();
        Arc::new(Mutex::new(Stage {
            script,
            counts: HashMap::new(),
            played: Box::new(played),
        }))
    }

    const HANGING: &str = "POST / HTTP/1.1\r\nContent-Type: application/x-amz-json-1.1\r\n\
        X-Amz-Target: DataPipeline.ReportTaskRunnerHeartbeat\r\nAuthorization: AWS4-HMAC-SHA256 \
        Credential=A/20250101/r/datapipeline/aws4_request, SignedHeaders=host, Signature=0\r\n\
        Content-Length: 20\r\n\r\n{\"taskrunnerId\":\"t\"}";

    #[tokio::test]
    async fn a_hanging_connection_ends_when_the_client_goes_away() {
        let (server, mut client) = connect().await;
        client.write_all(HANGING.as_bytes()).await.unwrap();
        // The client goes away as soon as the hang began.
        let mut client = Some(client);
        converse(server, stage("hang", move |_| drop(client.take()))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_not_waited_for() {
        let (server, mut client) = connect().await;
        converse(server, stage("ok", |_| {})).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let (server, mut client) = connect().await;
        client
            .write_all(&HANGING.as_bytes()[..HANGING.len() - 1])
            .await
            .unwrap();
        converse(server, stage("ok", |_| {})).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
