//! The HTTP client for all requests of the SDK: to the service, for credentials, for the region.
//! It makes a connection for each request, because none outlives the thread of an attempt.
//!
//! ```text
//!             ┌─ direct ────────────────────────────────────────────────┐
//!   proxy? ───┤                                                         ├──▶ request
//!             └─ by a proxy ─┬─ http: absolute form ────────────────────┤
//!                            └─ https: CONNECT, then TLS in the tunnel ─┘
//! ```

use std::fmt;
use std::io;
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
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use humantime::{FormattedDuration, format_duration};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::attempt::stage;
use super::messages::chain;
use super::resolve::{self, Peer, Unreachable};
use super::trust::TrustStore;

/// Maximum length of a response's body, in bytes; it is kept in memory. The response to a
/// heartbeat has some twenty, credentials have some thousand.
const LONGEST_BODY: usize = 64 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0} is neither an http nor an https URL")]
    Url(Uri),
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The only error that a change of the trust store can mend.
    #[error("{0}")]
    Untrusted(String),
    #[error("TLS handshake with {0} failed: {1}")]
    Tls(Peer, io::Error),
    #[error("{proxy} refused to connect to {target}: HTTP {status}")]
    Refused { proxy: Peer, target: Peer, status: StatusCode },
    #[error("connection to {0} broke: {1}")]
    Broken(Peer, String),
    #[error("no answer from {0} within {1}")]
    Timeout(String, FormattedDuration),
}

impl From<HttpError> for ConnectorError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Timeout(..) => Self::timeout(error.into()),
            HttpError::Unreachable(_) | HttpError::Broken(..) => Self::io(error.into()),
            HttpError::Url(_)
            | HttpError::Untrusted(_)
            | HttpError::Tls(..)
            | HttpError::Refused { .. } => Self::other(error.into(), None),
        }
    }
}

/// A client for one trust store and one set of proxies. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Http {
    proxies: Option<Arc<Matcher>>,
    trust_store: TrustStore,
    /// Made from the trust store for the first connection that needs it.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
    /// Requests without a response so far. They decide at which address of a name to begin.
    unanswered: Arc<AtomicUsize>,
    /// The time limits of the caller.
    limits: HttpConnectorSettings,
}

impl Http {
    /// A client that uses the proxies of the environment, as curl does.
    pub(super) fn new(trust_store: TrustStore, unanswered: Arc<AtomicUsize>) -> Self {
        Self {
            proxies: Some(Arc::new(Matcher::from_env())),
            trust_store,
            unanswered,
            ..Self::direct()
        }
    }

    /// A client that uses no proxies.
    pub(super) fn direct() -> Self {
        Self {
            proxies: None,
            trust_store: TrustStore::Host,
            tls: Arc::default(),
            unanswered: Arc::default(),
            limits: HttpConnectorSettings::default(),
        }
    }

    async fn request(&self, mut request: Request<SdkBody>) -> Result<Response<SdkBody>, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let turn = self.unanswered.fetch_add(1, Ordering::Relaxed);
        let connecting = self.connect(request.uri(), turn);
        let link = within(self.limits.connect_timeout(), &host, connecting).await?;
        link.prepare(&mut request);
        let exchange = link.exchange(request);
        let response = within(self.limits.read_timeout(), &host, exchange).await?;
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        Ok(response)
    }

    /// A connection over which requests to `uri` can be sent.
    async fn connect(&self, uri: &Uri, turn: usize) -> Result<Link, HttpError> {
        let target = Peer::of(uri, false).ok_or_else(|| HttpError::Url(uri.clone()))?;
        let proxies = self.proxies.as_ref();
        let Some(proxy) = proxies.and_then(|proxies| proxies.intercept(uri)) else {
            return self.reach(target, turn).await;
        };
        let peer = Peer::of(proxy.uri(), true);
        let peer = peer.ok_or_else(|| HttpError::Url(proxy.uri().clone()))?;
        let mut link = self.reach(peer, turn).await?;
        if target.tls {
            let stream = tunnel(&link.peer, link.stream, &target, &proxy).await?;
            link.stream = self.encrypt(&target, stream).await?;
            link.peer = target;
        } else {
            link.proxy = Some(proxy);
        }
        Ok(link)
    }

    /// A connection to `peer` itself, over TLS if its URL says so.
    async fn reach(&self, peer: Peer, turn: usize) -> Result<Link, HttpError> {
        let mut stream: Box<dyn Stream> = Box::new(resolve::connect(&peer, turn).await?);
        if peer.tls {
            stream = self.encrypt(&peer, stream).await?;
        }
        Ok(Link { peer, stream, proxy: None })
    }

    async fn encrypt(
        &self,
        peer: &Peer,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, HttpError> {
        let config = if let Some(config) = self.tls.get() {
            config
        } else {
            stage("reading the trust store");
            let config = self.trust_store.load().map_err(HttpError::Untrusted)?;
            self.tls.get_or_init(|| config)
        };
        stage(format!("in the TLS handshake with {peer}"));
        let connector = TlsConnector::from(Arc::clone(config));
        let connected = match ServerName::try_from(peer.host.clone()) {
            Ok(name) => connector.connect(name, stream).await,
            Err(error) => Err(io::Error::other(error)),
        };
        match connected {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if is_untrusted(&error) => {
                Err(HttpError::Untrusted(format!("TLS handshake with {peer} failed: {error}")))
            }
            Err(error) => Err(HttpError::Tls(peer.clone(), error)),
        }
    }
}

/// True if the certificate of the other side is the reason.
fn is_untrusted(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

async fn within<T>(
    limit: Option<Duration>,
    host: &str,
    work: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    let Some(limit) = limit else {
        return work.await;
    };
    let late = |_| HttpError::Timeout(host.to_owned(), format_duration(limit));
    timeout(limit, work).await.map_err(late)?
}

/// A connection that takes one request.
struct Link {
    peer: Peer,
    stream: Box<dyn Stream>,
    /// The peer, if it is a proxy that forwards requests.
    proxy: Option<Intercept>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Link {
    /// Gives the request the form that the peer expects.
    fn prepare<B>(&self, request: &mut Request<B>) {
        let uri = request.uri().clone();
        // As the SDK signed it: without the default port.
        let default = [("http", 80), ("https", 443)];
        let host = match (uri.scheme_str(), uri.port_u16()) {
            (Some(scheme), Some(port)) if !default.contains(&(scheme, port)) => {
                format!("{}:{port}", uri.host().unwrap_or_default())
            }
            _ => uri.host().unwrap_or_default().to_owned(),
        };
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&host) {
            headers.entry(HOST).or_insert(host);
        }
        if let Some(proxy) = &self.proxy {
            authorize(headers, proxy);
        } else {
            let path = uri.path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        }
    }

    async fn exchange(self, request: Request<SdkBody>) -> Result<Response<SdkBody>, HttpError> {
        stage(format!("waiting for the answer of {}", self.peer));
        let (head, body) = send(&self.peer, self.stream, request).await?.into_parts();
        let body = Limited::new(body, LONGEST_BODY).collect().await;
        let body = body.map_err(|error| HttpError::Broken(self.peer, chain(&*error)))?;
        Ok(Response::from_parts(head, SdkBody::from(body.to_bytes())))
    }
}

/// Makes the proxy at the other end of `stream` connect to `target`.
async fn tunnel(
    peer: &Peer,
    stream: Box<dyn Stream>,
    target: &Peer,
    proxy: &Intercept,
) -> Result<Box<dyn Stream>, HttpError> {
    stage(format!("waiting for {peer} to connect to {target}"));
    let broken = |error: &dyn fmt::Display| HttpError::Broken(peer.clone(), error.to_string());
    let authority = target.authority();
    let request = Request::connect(&authority).header(HOST, &authority);
    let request = request.body(SdkBody::empty());
    let mut request = request.map_err(|error| broken(&error))?;
    authorize(request.headers_mut(), proxy);
    let response = send(peer, stream, request).await?;
    if !response.status().is_success() {
        return Err(HttpError::Refused {
            proxy: peer.clone(),
            target: target.clone(),
            status: response.status(),
        });
    }
    let upgraded = hyper::upgrade::on(response).await;
    let upgraded = upgraded.map_err(|error| broken(&error))?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

fn authorize(headers: &mut http::HeaderMap, proxy: &Intercept) {
    if let Some(authorization) = proxy.basic_auth() {
        headers.insert(PROXY_AUTHORIZATION, authorization.clone());
    }
}

/// Sends the only request of a connection.
async fn send(
    peer: &Peer,
    stream: Box<dyn Stream>,
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
        let (limits, http) = (limits.clone(), self.clone());
        SharedHttpConnector::new(Self { limits, ..http })
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.clone();
        HttpConnectorFuture::new(async move {
            let invalid = |error: InvalidMessage| ConnectorError::user(error.into());
            let request = request.try_into_http1x().map_err(invalid)?;
            let response = http.request(request).await?;
            HttpResponse::try_from(response).map_err(invalid)
        })
    }
}
