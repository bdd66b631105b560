//! The trust store: the certificate authorities that vouch for a server.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use serde::Serialize;

use crate::config::file_problem;

/// Where the trust store is: in the file that `AWS_CA_BUNDLE` or the profile's `ca_bundle` names,
/// else in `SSL_CERT_FILE` and `SSL_CERT_DIR`, or where the distribution keeps it.
#[derive(Clone, Debug, Default)]
pub(super) struct TrustStore(pub(super) Option<PathBuf>);

/// What a trust store holds.
#[derive(Serialize)]
pub(crate) struct Trusted {
    /// The file that replaces the host's own trust store.
    pub(super) file: Option<String>,
    /// The number of usable certificates.
    pub(super) certificates: usize,
}

impl TrustStore {
    /// What `check --online` shows of it. It fails without a usable certificate.
    pub(super) fn facts(&self) -> Result<Trusted, String> {
        let file = self.0.clone().or_else(|| env::var_os("SSL_CERT_FILE").map(PathBuf::from));
        let file = file.map(|file| file.display().to_string());
        Ok(Trusted { file, certificates: self.certificates()?.len() })
    }

    /// TLS with the certificates that it holds now. It fails without a usable one.
    pub(super) fn load(&self) -> Result<Arc<ClientConfig>, String> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.certificates()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn certificates(&self) -> Result<RootCertStore, String> {
        let (loaded, place) = match &self.0 {
            None => (load_native_certs(), "the host's trust store".to_owned()),
            Some(file) => {
                let place = file.display().to_string();
                if let Some(problem) = file_problem(file) {
                    let named = "AWS_CA_BUNDLE or ca_bundle";
                    return Err(format!("no certificate in {place} ({named}): {problem}"));
                }
                (load_certs_from_paths(Some(file), None), place)
            }
        };
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(loaded.certs);
        if added == 0 {
            let reason = loaded.errors.first().map(|error| format!(": {error}"));
            return Err(format!("no certificate in {place}{}", reason.unwrap_or_default()));
        }
        Ok(roots)
    }
}
