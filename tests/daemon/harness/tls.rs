//! TLS in front of a server, with a certificate of an authority that the test made.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::{fs, iter};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// The contents of a certificate.
#[derive(Clone, Copy)]
pub(crate) struct Certified {
    /// The host name.
    pub(crate) name: &'static str,
    /// The year in which it expires.
    pub(crate) until: i32,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Writes the authority's certificate, for `SSL_CERT_FILE`.
    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, &self.pem).unwrap();
    }
}

/// Accepts TLS connections and forwards their contents to a server.
pub(crate) struct Tls {
    addr: SocketAddr,
    served: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Tls {
    pub(crate) fn before(server: SocketAddr, authority: &Authority, certified: Certified) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![certified.name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(certified.until, 1, 1);
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                iter::once(certificate.der().clone()).collect(),
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, acceptor, server) => {}
                    _ = ended => {}
                }
            });
        });
        Self { addr, served: Some((end, thread)) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.served.take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, server: SocketAddr) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // It fails if the client rejects the certificate.
            if let Ok(mut plain) = acceptor.accept(connection).await {
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut plain, &mut server).await;
            }
        });
    }
}
