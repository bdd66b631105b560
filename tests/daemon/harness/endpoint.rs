//! A Data Pipeline endpoint on loopback that plays a script, one step for each heartbeat.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::write_endlessly;
use super::server::{ClosedPort, OpenPort};
use super::{Request, Response, TIMEOUT, id_prefix};

/// What the endpoint does with one request.
#[derive(Clone)]
pub(crate) enum Step {
    /// Acknowledges the heartbeat.
    Ok,
    /// Acknowledges the heartbeat with `terminate: true`.
    Terminate,
    /// Sends this response.
    Respond(Response),
    /// Sends the response that the handler makes.
    Handler(Arc<dyn Fn(&Request) -> Response + Send + Sync>),
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Never responds.
    Hang,
    /// Resets the connection before the response.
    ResetBefore,
    /// Resets the connection in the middle of the response.
    ResetWithin,
    /// Acknowledges the heartbeat and closes the connection, without `Connection: close`.
    OkAndClose,
    /// Stops sending in the middle of the response.
    StallWithin,
    /// Sends a response whose headers never end.
    EndlessHead,
}

impl Step {
    /// Sends the response that `handler` makes.
    pub(crate) fn handler(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::Handler(Arc::new(handler))
    }

    /// An error of the service.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Respond(Response::error(status, code, message))
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

    /// A response whose body never ends.
    pub(crate) fn endless() -> Self {
        Self::Respond(Response::new(200, r#"{"terminate":true"#).without_end())
    }

    /// A success of the service with this body.
    pub(crate) fn body(body: &str) -> Self {
        Self::Respond(Response::new(200, body))
    }
}

/// The script and the requests, shared by the endpoint's thread and the test.
struct State {
    script: VecDeque<Step>,
    then: Step,
    requests: Vec<Request>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// An endpoint that plays its script. It ends when it is dropped.
pub(crate) struct Endpoint {
    port: OpenPort,
    shared: Shared,
}

/// An endpoint that is not up yet: its port refuses connections.
pub(crate) struct Closed(ClosedPort);

impl Closed {
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// Plays `script` from now on, and `then` for every request after its end.
    pub(crate) fn open(self, script: impl IntoIterator<Item = Step>, then: Step) -> Endpoint {
        let state = State { script: script.into_iter().collect(), then, requests: Vec::new() };
        let shared: Shared = Arc::new((Mutex::new(state), Condvar::new()));
        let serving = Arc::clone(&shared);
        let port = self.0.open(move |connection| serve(connection, Arc::clone(&serving)));
        Endpoint { port, shared }
    }
}

impl Endpoint {
    pub(crate) fn closed() -> Closed {
        Closed(ClosedPort::bind())
    }

    /// Plays `script`, and `then` for every request after its end.
    pub(crate) fn play(script: impl IntoIterator<Item = Step>, then: Step) -> Self {
        Self::closed().open(script, then)
    }

    /// Acknowledges every heartbeat.
    pub(crate) fn ok() -> Self {
        Self::play([], Step::Ok)
    }

    pub(crate) fn url(&self) -> String {
        self.port.url()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Drops the rest of the script and plays `step` for every request from now on.
    pub(crate) fn switch_to(&self, step: Step) {
        let mut state = self.shared.0.lock().unwrap();
        state.script.clear();
        state.then = step;
    }

    /// Waits until there are at least `count` requests, and returns all of them. On a busy machine
    /// many of them take long, so the limit is for each.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Request> {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap();
        let mut timed_out = false;
        while state.requests.len() < count && !timed_out {
            let before = state.requests.len();
            let none = |state: &mut State| state.requests.len() == before;
            let waited = changed.wait_timeout_while(state, TIMEOUT, none).unwrap();
            (state, timed_out) = (waited.0, waited.1.timed_out());
        }
        let requests = state.requests.clone();
        drop(state);
        assert!(!timed_out, "timed out: received {} of {count} requests", requests.len());
        requests
    }

    /// Waits for `more` requests beyond those received so far.
    pub(crate) fn wait_for_more(&self, more: usize) {
        self.wait_for(self.requests().len() + more);
    }

    /// Forgets the requests so far, of which a long test has too many.
    pub(crate) fn forget_requests(&self) {
        self.shared.0.lock().unwrap().requests.clear();
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.wait_for(0)
    }
}

/// Serves one connection to its end.
async fn serve(mut connection: TcpStream, shared: Shared) {
    while let Some(request) = Request::read(&mut connection).await {
        let id = request.body["taskrunnerId"].as_str().unwrap_or_default();
        if !id.contains(&id_prefix()) {
            // The kernel may give out a port again to which an older daemon still sends.
            return;
        }
        let step = {
            let (state, changed) = &*shared;
            let mut state = state.lock().unwrap();
            state.requests.push(request.clone());
            changed.notify_all();
            state.script.pop_front().unwrap_or_else(|| state.then.clone())
        };
        if !play(step, &request, &mut connection).await {
            return;
        }
    }
}

/// Plays one step. Returns true if the connection can take another request.
async fn play(step: Step, request: &Request, connection: &mut TcpStream) -> bool {
    let acknowledgement = Response::acknowledge(false);
    let whole = acknowledgement.to_bytes();
    let half = &whole[..whole.len() - 10];
    match step {
        Step::Ok => return acknowledgement.send(connection).await,
        Step::Terminate => return Response::acknowledge(true).send(connection).await,
        Step::Respond(response) => return response.send(connection).await,
        Step::Handler(handler) => return handler(request).send(connection).await,
        Step::Raw(bytes) => {
            let _ = connection.write_all(&bytes).await;
        }
        Step::Hang => wait_for_close(connection).await,
        Step::ResetBefore => reset(connection),
        Step::ResetWithin => {
            let _ = connection.write_all(half).await;
            reset(connection);
        }
        Step::OkAndClose => {
            acknowledgement.send(connection).await;
        }
        Step::StallWithin => {
            let _ = connection.write_all(half).await;
            wait_for_close(connection).await;
        }
        Step::EndlessHead => {
            let line = format!("x-padding: {}\r\n", "x".repeat(8000));
            write_endlessly(connection, b"HTTP/1.1 200 Scripted\r\n", line.as_bytes()).await;
        }
    }
    false
}

async fn wait_for_close(connection: &mut TcpStream) {
    let _ = connection.read(&mut [0]).await;
}

/// Makes the kernel send RST instead of FIN when the connection is closed.
fn reset(connection: &TcpStream) {
    connection.set_zero_linger().unwrap();
}
