//! Whom to trust. The SDK reads the host's authorities once in the life of a process, and ours may be long: authorities
//! are replaced meanwhile, on the host as well as on proxies that look into TLS.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::RootCertStore;
use rustls_native_certs::load_native_certs;

/// What is said of a certificate that is not trusted, and, in a debug build, of a host that trusts nobody.
const DISTRUST: [&str; 2] = ["invalid peer certificate", "no valid root certificates"];

/// Whether the host may trust the other side by now.
pub(super) fn is_distrust(said: &str) -> bool {
    DISTRUST.iter().any(|words| said.contains(words))
}

/// The SDK's own client, with the authorities that the host trusts now.
pub(super) fn anew() -> SharedHttpClient {
    let context = context();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context.clone())
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

fn context() -> TlsContext {
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
