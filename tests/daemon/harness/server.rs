//! HTTP servers on loopback, for everything that is not the service: metadata, proxies, portals.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::{Request, Response};

/// A port that refuses connections until it is opened. No other process can take it meanwhile.
pub(super) struct ClosedPort {
    runtime: Runtime,
    socket: TcpSocket,
}

/// A port that a thread serves until this is dropped.
pub(super) struct OpenPort {
    addr: SocketAddr,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl ClosedPort {
    pub(super) fn bind() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { runtime, socket }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap())
    }

    /// Accepts connections from now on, and runs `serve` for each.
    pub(super) fn open<F>(self, serve: impl Fn(TcpStream) -> F + Send + 'static) -> OpenPort
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = {
            let _guard = self.runtime.enter();
            self.socket.listen(64).unwrap()
        };
        let addr = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            self.runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, serve) => {}
                    _ = ended => {}
                }
            });
        });
        OpenPort { addr, thread: Some((end, thread)) }
    }
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(connection));
    }
}

impl OpenPort {
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

/// A server whose handler makes the response to each request.
pub(crate) struct Server {
    port: OpenPort,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A server that is not up yet: its port refuses connections.
pub(crate) struct ClosedServer(ClosedPort);

type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

impl Server {
    pub(crate) fn closed() -> ClosedServer {
        ClosedServer(ClosedPort::bind())
    }

    pub(crate) fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::closed().open(handler)
    }

    pub(crate) fn url(&self) -> String {
        self.port.url()
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl ClosedServer {
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    pub(crate) fn open(
        self,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Server {
        let handler: Handler = Arc::new(handler);
        let requests = Arc::default();
        let received = Arc::clone(&requests);
        let port = self
            .0
            .open(move |connection| serve(connection, Arc::clone(&handler), Arc::clone(&received)));
        Server { port, requests }
    }
}

async fn serve(mut connection: TcpStream, handler: Handler, requests: Arc<Mutex<Vec<Request>>>) {
    while let Some(request) = Request::read(&mut connection).await {
        let response = handler(&request);
        requests.lock().unwrap().push(request);
        if !response.send(&mut connection).await {
            return;
        }
    }
}
