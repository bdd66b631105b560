//! An endpoint that plays a script, below HTTP where the script wants it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{PATIENCE, our_runners};

/// What the endpoint does with one request.
#[derive(Clone)]
pub(crate) enum Play {
    /// Acknowledges it.
    Ok,
    /// Acknowledges it and says terminate.
    Terminate,
    /// Says this.
    Say(Response),
    /// Looks at it first.
    Judge(Arc<dyn Fn(&Request) -> Response + Send + Sync>),
    /// Never answers.
    Hang,
    /// Resets the connection before the answer.
    ResetBefore,
    /// Resets the connection in the middle of the answer.
    ResetWithin,
    /// Acknowledges it, and closes the connection without a word about that.
    OkAndClose,
    /// Stops in the middle of the answer.
    StallWithin,
    /// Sends an answer whose head has no end.
    EndlessHead,
}

impl Play {
    /// Looks at the request first.
    pub(crate) fn judge(judge: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::Judge(Arc::new(judge))
    }

    /// The service's way to say no: a code and a message.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Say(Response::error(status, code, message))
    }

    pub(crate) fn throttle() -> Self {
        Self::error(400, "ThrottlingException", "Rate exceeded")
    }

    pub(crate) fn fault() -> Self {
        Self::error(500, "InternalServiceError", "An internal service error")
    }

    pub(crate) fn deny() -> Self {
        Self::error(400, "AccessDeniedException", "You are not authorized")
    }

    /// An answer whose body has no end.
    pub(crate) fn endless() -> Self {
        Self::Say(Response::new(200, r#"{"terminate":true"#).without_end())
    }

    /// A success of the service's shape, but with this body.
    pub(crate) fn body(body: &str) -> Self {
        Self::Say(Response::new(200, body))
    }
}

/// What is sent back.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    endless: bool,
}

impl Response {
    /// An answer as the service sends it, with a request id.
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self::bare(status, body)
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("x-amzn-RequestId", "0f0f0f0f-0000-4000-8000-000000000000")
    }

    /// An answer that somebody else sends.
    pub(crate) fn bare(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            endless: false,
        }
    }

    pub(crate) fn acknowledge(terminate: bool) -> Self {
        Self::new(
            200,
            &serde_json::json!({ "terminate": terminate }).to_string(),
        )
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "__type": code, "message": message });
        Self::new(status, &body.to_string())
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// After its body come spaces, without an end.
    pub(crate) fn without_end(mut self) -> Self {
        self.endless = true;
        self
    }

    /// Whether the client takes it, and may ask for more.
    pub(super) async fn send(&self, connection: &mut TcpStream) -> bool {
        if self.endless {
            pour(connection, &self.to_bytes(), &[b' '; 8192]).await;
        }
        !self.endless && connection.write_all(&self.to_bytes()).await.is_ok()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let header = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
        let mut headers: String = self.headers.iter().map(header).collect();
        let (status, body) = (self.status, &self.body);
        if !self.endless {
            headers += &header(&("Content-Length".to_owned(), body.len().to_string()));
        }
        format!("HTTP/1.1 {status} Played\r\n{headers}\r\n{body}").into_bytes()
    }
}

/// What was received.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// When it was complete.
    pub(crate) at: Instant,
    /// Method, path and version.
    pub(crate) line: String,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// What came as JSON.
    pub(crate) body: Value,
    /// What came.
    pub(crate) text: String,
    /// The peer's port: each connection has its own.
    pub(crate) connection: u16,
}

impl Request {
    /// A header; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Stage {
    script: VecDeque<Play>,
    then: Play,
    requests: Vec<Request>,
}

type Shared = Arc<(Mutex<Stage>, Condvar)>;

/// A listener on loopback that plays its script, one step for each request.
pub(crate) struct Endpoint {
    addr: SocketAddr,
    shared: Shared,
    served: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// An address that refuses connections until it is opened. Nobody else can get its port meanwhile.
pub(crate) struct Closed {
    runtime: Runtime,
    socket: TcpSocket,
}

impl Closed {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap())
    }

    /// Plays `script` from now on, and `then` for whatever comes after its end.
    pub(crate) fn open(self, script: impl IntoIterator<Item = Play>, then: Play) -> Endpoint {
        let listener = {
            let _inside = self.runtime.enter();
            self.socket.listen(64).unwrap()
        };
        let addr = listener.local_addr().unwrap();
        let stage = Stage {
            script: script.into_iter().collect(),
            then,
            requests: Vec::new(),
        };
        let shared: Shared = Arc::new((Mutex::new(stage), Condvar::new()));
        let (end, ended) = oneshot::channel();
        let stage = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            self.runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, stage) => {}
                    _ = ended => {}
                }
            });
        });
        Endpoint {
            addr,
            shared,
            served: Some((end, thread)),
        }
    }
}

impl Endpoint {
    /// An endpoint that is not there yet.
    pub(crate) fn closed() -> Closed {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Closed { runtime, socket }
    }

    /// Plays `script`, and `then` for whatever comes after its end.
    pub(crate) fn play(script: impl IntoIterator<Item = Play>, then: Play) -> Self {
        Self::closed().open(script, then)
    }

    /// Acknowledges everything.
    pub(crate) fn ok() -> Self {
        Self::play([], Play::Ok)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whatever the script was: from now on every request gets this.
    pub(crate) fn now_play(&self, play: Play) {
        let mut stage = self.shared.0.lock().unwrap();
        stage.script.clear();
        stage.then = play;
    }

    /// Waits until `count` requests have come in all, and returns those that have.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Request> {
        let (stage, changed) = &*self.shared;
        let (stage, waited) = changed
            .wait_timeout_while(stage.lock().unwrap(), PATIENCE, |stage| {
                stage.requests.len() < count
            })
            .unwrap();
        let requests = stage.requests.clone();
        drop(stage);
        assert!(
            !waited.timed_out(),
            "{} of {count} requests came",
            requests.len()
        );
        requests
    }

    /// Waits for `more` requests from now on.
    pub(crate) fn wait_for_more(&self, more: usize) {
        self.wait_for(self.requests().len() + more);
    }

    /// The requests that have come so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.wait_for(0)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.served.take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, shared: Shared) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(converse(connection, Arc::clone(&shared)));
    }
}

/// One connection, to its end.
async fn converse(mut connection: TcpStream, shared: Shared) {
    while let Some(request) = receive(&mut connection).await {
        let id = request.body["taskrunnerId"].as_str().unwrap_or_default();
        if !id.contains(&our_runners()) {
            // A port that is free may be one where others still look for somebody.
            return;
        }
        let play = {
            let (stage, changed) = &*shared;
            let mut stage = stage.lock().unwrap();
            stage.requests.push(request.clone());
            changed.notify_all();
            stage
                .script
                .pop_front()
                .unwrap_or_else(|| stage.then.clone())
        };
        let response = match play {
            Play::Ok => Response::acknowledge(false),
            Play::Terminate => Response::acknowledge(true),
            Play::Say(response) => response,
            Play::Judge(judge) => judge(&request),
            Play::Hang => {
                // Until the client gives up.
                let _ = connection.read(&mut [0]).await;
                return;
            }
            Play::ResetBefore => return reset(&connection),
            Play::ResetWithin => {
                let whole = Response::acknowledge(false).to_bytes();
                let _ = connection.write_all(&whole[..whole.len() - 10]).await;
                return reset(&connection);
            }
            Play::OkAndClose => {
                let _ = connection
                    .write_all(&Response::acknowledge(false).to_bytes())
                    .await;
                return;
            }
            Play::StallWithin => {
                let whole = Response::acknowledge(false).to_bytes();
                let _ = connection.write_all(&whole[..whole.len() - 10]).await;
                // Until the client gives up.
                let _ = connection.read(&mut [0]).await;
                return;
            }
            Play::EndlessHead => {
                let line = format!("x-padding: {}\r\n", "x".repeat(8000));
                return pour(&mut connection, b"HTTP/1.1 200 Played\r\n", line.as_bytes()).await;
            }
        };
        if !response.send(&mut connection).await {
            return;
        }
    }
}

/// Writes without an end, until the client has enough.
async fn pour(connection: &mut TcpStream, head: &[u8], drop: &[u8]) {
    let mut poured = connection.write_all(head).await;
    while poured.is_ok() {
        poured = connection.write_all(drop).await;
    }
}

/// Closed with nothing to linger for, the kernel sends RST in place of FIN.
fn reset(connection: &TcpStream) {
    connection.set_zero_linger().unwrap();
}

/// The next request; `None` when there is none any more.
pub(super) async fn receive(connection: &mut TcpStream) -> Option<Request> {
    let mut received = Vec::new();
    let head = loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if connection.read_buf(&mut received).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&received[..head]).into_owned();
    let mut lines = text.lines();
    let line = lines.next()?.to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    let length = headers.get("content-length").map_or("0", String::as_str);
    let length: usize = length.parse().ok()?;
    let mut body = received.split_off(head + 4);
    while body.len() < length {
        if connection.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request {
        at: Instant::now(),
        line,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        text: String::from_utf8_lossy(&body).into_owned(),
        connection: connection.peer_addr().ok()?.port(),
    })
}
