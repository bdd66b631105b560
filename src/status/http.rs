//! `metrics-listen`: the metrics for Prometheus and `/healthz`, over HTTP.
//!
//! The clients are not trusted: they are few at a time, each has one request and little time, and
//! the loop answers them last.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{self, SocketAddr};
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Snapshots, openmetrics};

/// Connections served at once. A further one replaces the oldest.
const MAX_CONNECTIONS: usize = 8;
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The time for a connection, from its acceptance to the last byte of the response.
const LIMIT: Duration = Duration::from_secs(5);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves HTTP on `address`, and returns it with the actual port. Call it inside a runtime.
///
/// # Errors
///
/// Those of `bind(2)`: the port is in use, or the host does not have this address.
pub(crate) fn listen(address: SocketAddr, snapshots: Snapshots) -> io::Result<SocketAddr> {
    let listener = net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, snapshots));
    Ok(address)
}

async fn serve(listener: TcpListener, snapshots: Snapshots) {
    let mut connections: VecDeque<JoinHandle<_>> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is free. Do not retry at once.
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        // Idle clients must not lock out the others.
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let connection = serve_connection(stream, snapshots.clone());
        connections.push_back(tokio::spawn(timeout(LIMIT, connection)));
    }
}

async fn serve_connection(stream: TcpStream, snapshots: Snapshots) {
    let service =
        service_fn(async |request| Ok::<_, Infallible>(respond(&request, &snapshots).await));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // The errors come from the client: it has gone, or does not speak HTTP.
    let _ = connection.await;
}

async fn respond(request: &Request<Incoming>, snapshots: &Snapshots) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    if !["/metrics", "/healthz"].contains(&path) {
        return response(StatusCode::NOT_FOUND, PLAIN, "see /metrics or /healthz\n");
    }
    let Some(snapshot) = snapshots.take().await else {
        return response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "taskbeat exits\n");
    };
    if path == "/healthz" {
        return if snapshot.in_contact {
            response(StatusCode::OK, PLAIN, "in contact\n")
        } else {
            response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not in contact\n")
        };
    }
    response(StatusCode::OK, OPENMETRICS, openmetrics(&snapshot))
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
