//! A plain HTTP server on loopback: for whatever is not the service itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::endpoint::receive;
use super::{Request, Response};

type Judge = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// An address that refuses connections until it is opened.
pub(crate) struct ClosedServer {
    runtime: Runtime,
    socket: TcpSocket,
}

/// A server that answers each request as its judge says.
pub(crate) struct Server {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    served: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Server {
    /// A server that is not there yet. Nobody else can get its port meanwhile.
    pub(crate) fn closed() -> ClosedServer {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        ClosedServer { runtime, socket }
    }

    pub(crate) fn start(judge: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::closed().open(judge)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests that have come so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl ClosedServer {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap())
    }

    /// Serves from now on.
    pub(crate) fn open(
        self,
        judge: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Server {
        let listener = {
            let _inside = self.runtime.enter();
            self.socket.listen(64).unwrap()
        };
        let addr = listener.local_addr().unwrap();
        let requests = Arc::default();
        let (end, ended) = oneshot::channel();
        let serving = serve(listener, Arc::new(judge), Arc::clone(&requests));
        let thread = thread::spawn(move || {
            self.runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = ended => {}
                }
            });
        });
        Server {
            addr,
            requests,
            served: Some((end, thread)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.served.take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, judge: Judge, requests: Arc<Mutex<Vec<Request>>>) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(converse(
            connection,
            Arc::clone(&judge),
            Arc::clone(&requests),
        ));
    }
}

async fn converse(mut connection: TcpStream, judge: Judge, requests: Arc<Mutex<Vec<Request>>>) {
    while let Some(request) = receive(&mut connection).await {
        let response = judge(&request);
        requests.lock().unwrap().push(request);
        if !response.send(&mut connection).await {
            return;
        }
    }
}
