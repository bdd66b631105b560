//! The HTTP client for all requests of the SDK: to the service, for credentials, for the region.
//! It makes a connection for each request, because none outlives the thread of an attempt.
//!
//! ```text
//!             ┌─ direct ────────────────────────────────────────────────┐
//!   proxy? ───┤                                                         ├──▶ request
//!             └─ by a proxy ─┬─ http: absolute form ────────────────────┤
//!                            └─ https: CONNECT, then TLS in the tunnel ─┘
//! ```

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::HttpError as InvalidMessage;
use aws_smithy_types::body::SdkBody;
use futures_util::future::select_ok;
use http::header::{HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Limited};
use humantime::format_duration;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::{debug, trace};

use super::attempt::stage;
use super::messages::chain;
use super::peer::{HttpError, Peer};
use super::trust::{TrustStore, Trusted};
use crate::text;

/// Wait for an address before the next one is tried beside it, as RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// Maximum length of a response's body, in bytes; it is kept in memory. The response to a
/// heartbeat has some twenty, credentials have some thousand.
const LONGEST_BODY: usize = 64 * 1024;

/// The headers of a response that are logged. They show who answers, and hold no secret.
const SHOWN_HEADERS: [&str; 6] =
    ["date", "server", "via", "content-type", "x-amzn-requestid", "retry-after"];

/// A client for one trust store and one set of proxies; by default the host's and none. Cheap to
/// clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Http {
    proxies: Option<Arc<Matcher>>,
    trust_store: TrustStore,
    /// Made from the trust store for the first connection that needs it.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
    /// Requests without a response so far. They decide at which address of a name to begin.
    unanswered: Arc<AtomicUsize>,
    /// The caller's limit for a request.
    limit: Option<Duration>,
}

impl Http {
    /// A client that uses the proxies of the environment, as curl does.
    pub(super) fn new(trust_store: TrustStore, unanswered: Arc<AtomicUsize>) -> Self {
        let proxies = Some(Arc::new(Matcher::from_env()));
        Self { proxies, trust_store, unanswered, ..Self::default() }
    }

    /// The proxy on the way to `url`, and the trust store if there is TLS at its end.
    pub(super) fn way_to(&self, url: &str) -> Result<(Option<Peer>, Option<Trusted>), String> {
        let uri: Uri = url.parse().unwrap_or_default();
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(&uri));
        let proxy = proxy.and_then(|proxy| Peer::of(proxy.uri(), true).ok());
        let is_encrypted = Peer::of(&uri, false).is_ok_and(|target| target.tls);
        Ok((proxy, is_encrypted.then(|| self.trust_store.facts()).transpose()?))
    }

    async fn request(&self, mut request: Request<SdkBody>) -> Result<Response<SdkBody>, HttpError> {
        let turn = self.unanswered.fetch_add(1, Ordering::Relaxed);
        let uri = request.uri().clone();
        let target = Peer::of(&uri, false)?;
        if let Ok(host) = HeaderValue::from_str(&target.host_header()) {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(&uri));
        let (peer, stream) = match proxy {
            None => {
                let stream = self.reach(&target, turn).await?;
                (target, stream)
            }
            Some(proxy) => {
                let peer = Peer::of(proxy.uri(), true)?;
                let stream = self.reach(&peer, turn).await?;
                if target.tls {
                    let stream = tunnel(&peer, stream, &target, &proxy).await?;
                    let stream = self.encrypt(&target, stream).await?;
                    (target, stream)
                } else {
                    authorize(request.headers_mut(), &proxy);
                    (peer, stream)
                }
            }
        };
        if !peer.is_proxy {
            let path = uri.into_parts().path_and_query;
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        }
        stage(format!("waiting for the answer of {peer}"));
        let (head, body) = send(&peer, stream, request).await?.into_parts();
        debug!(status = head.status.as_u16(), "{peer} answers");
        for name in SHOWN_HEADERS {
            if let Some(value) = head.headers.get(name) {
                trace!("{peer} answers with {name}: {value:?}");
            }
        }
        let body = Limited::new(body, LONGEST_BODY).collect().await;
        let body = body.map_err(|error| HttpError::Broken(peer, chain(&*error)))?;
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        Ok(Response::from_parts(head, SdkBody::from(body.to_bytes())))
    }

    /// A connection to `peer` itself, over TLS if its URL says so.
    async fn reach(&self, peer: &Peer, turn: usize) -> Result<Stream, HttpError> {
        let stream = Box::new(connect(peer, turn).await?);
        if peer.tls { self.encrypt(peer, stream).await } else { Ok(stream) }
    }

    async fn encrypt(&self, peer: &Peer, stream: Stream) -> Result<Stream, HttpError> {
        let config = if let Some(config) = self.tls.get() {
            config
        } else {
            stage("reading the trust store");
            let config = self.trust_store.load().map_err(HttpError::TrustStore)?;
            self.tls.get_or_init(|| config)
        };
        stage(format!("in the TLS handshake with {peer}"));
        let connector = TlsConnector::from(Arc::clone(config));
        let connected = match ServerName::try_from(peer.host.clone()) {
            Ok(name) => connector.connect(name, stream).await,
            Err(error) => Err(io::Error::other(error)),
        };
        let stream = connected.map_err(|error| HttpError::Tls(peer.clone(), error))?;
        let (_, tls) = stream.get_ref();
        if let (Some(version), Some(cipher)) =
            (tls.protocol_version(), tls.negotiated_cipher_suite())
        {
            trace!("TLS with {peer}: {version:?}, {:?}", cipher.suite());
        }
        Ok(Box::new(stream))
    }
}

type Stream = Box<dyn ReadWrite>;

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// Connects to the first address of `peer` that accepts. An address that drops packets costs
/// [`STAGGER`], and is waited for without limit. The order begins at another address with each
/// `turn`. Blocks the thread while the name is looked up.
async fn connect(peer: &Peer, turn: usize) -> Result<TcpStream, HttpError> {
    stage(format!("looking up {}", peer.host));
    let found = (peer.host.as_str(), peer.port).to_socket_addrs();
    let mut addresses: Vec<_> =
        found.map_err(|error| HttpError::Name(peer.clone(), error))?.collect();
    let first = turn.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(first);
    let list = text::list(addresses.iter().map(SocketAddr::ip));
    stage(format!("connecting to {peer} ({list})"));
    let connecting = (0..).zip(addresses).map(|(place, address)| {
        Box::pin(async move {
            sleep(STAGGER * place).await;
            let stream = TcpStream::connect(address).await?;
            // Else the request waits for the server's delayed acknowledgement of the handshake.
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    });
    let connected = select_ok(connecting).await;
    connected.map(|(stream, _)| stream).map_err(|error| HttpError::Address(peer.clone(), error))
}

/// Makes the proxy at the other end of `stream` connect to `target`.
async fn tunnel(
    peer: &Peer,
    stream: Stream,
    target: &Peer,
    proxy: &Intercept,
) -> Result<Stream, HttpError> {
    stage(format!("waiting for {peer} to connect to {target}"));
    let broken = |error: String| HttpError::Broken(peer.clone(), error);
    let authority = target.authority();
    let request = Request::connect(&authority).header(HOST, &authority).body(SdkBody::empty());
    let mut request = request.map_err(|error| broken(error.to_string()))?;
    authorize(request.headers_mut(), proxy);
    let response = send(peer, stream, request).await?;
    let status = response.status();
    if !status.is_success() {
        let (proxy, target) = (peer.clone(), target.clone());
        return Err(HttpError::Refused { proxy, target, status });
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| broken(chain(&error)))?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

fn authorize(headers: &mut HeaderMap, proxy: &Intercept) {
    if let Some(authorization) = proxy.basic_auth() {
        headers.insert(PROXY_AUTHORIZATION, authorization.clone());
    }
}

/// Sends the only request of a connection.
async fn send(
    peer: &Peer,
    stream: Stream,
    request: Request<SdkBody>,
) -> Result<Response<Incoming>, HttpError> {
    let sending = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors are those of the request, too.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    let sent: Result<_, hyper::Error> = sending.await;
    sent.map_err(|error| HttpError::Broken(peer.clone(), chain(&error)))
}

impl HttpClient for Http {
    fn http_connector(
        &self,
        limits: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        // The client of the EC2 metadata has both.
        let limits = limits.connect_timeout().zip(limits.read_timeout());
        let limit = limits.map(|(connect, read)| connect + read);
        SharedHttpConnector::new(Self { limit, ..self.clone() })
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.clone();
        HttpConnectorFuture::new(async move {
            let invalid = |error: InvalidMessage| ConnectorError::user(error.into());
            let request = request.try_into_http1x().map_err(invalid)?;
            let host = request.uri().host().unwrap_or_default().to_owned();
            let limit = http.limit.unwrap_or(Duration::MAX);
            let response = timeout(limit, http.request(request)).await;
            let response =
                response.map_err(|_| HttpError::Timeout(host, format_duration(limit)))??;
            HttpResponse::try_from(response).map_err(invalid)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_request_is_sent_without_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stream = connect(&Peer::of(&uri, false).unwrap(), 0).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
