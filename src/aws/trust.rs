//! Whom to trust. The SDK reads the host's authorities once in the life of a process, and ours may be long: authorities
//! are replaced meanwhile, on the host as well as on proxies that look into TLS.

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::RootCertStore;
use rustls_native_certs::load_native_certs;

/// What is said of a certificate that is not trusted, and, in a debug build, of a host that trusts nobody.
const DISTRUST: [&str; 2] = ["invalid peer certificate", "no valid root certificates"];

/// Whether the host may trust the other side by now.
pub(super) fn is_distrust(said: &str) -> bool {
    DISTRUST.iter().any(|words| said.contains(words))
}

/// Whom the host trusts now.
pub(super) fn anew() -> TlsContext {
    let mut trusted = TrustStore::empty();
    for certificate in load_native_certs().certs {
        // The SDK panics on one that it does not understand, and a host may have such.
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            let text = BASE64_STANDARD.encode(certificate);
            trusted.add_pem_certificate(format!(
                "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
            ));
        }
    }
    let context = TlsContext::builder().with_trust_store(trusted).build();
    context.unwrap_or_default()
}
