//! The SDK's own HTTP client, for whoever is asked: the service, and those who know a region or credentials. None of
//! them is believed to come to an end by itself.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use http_body_util::Limited;

/// The longest body that is read, in bytes: it is kept in memory. Real ones have some twenty, credentials some
/// thousand.
const LONGEST_BODY: usize = 64 * 1024;

/// A client that trusts whom `trusted` names, and takes the proxies of the environment.
pub(super) fn client(trusted: TlsContext) -> SharedHttpClient {
    build(trusted, ProxyConfig::from_env())
}

/// A client without proxies, for http alone: whom the host trusts is not even looked up.
pub(super) fn direct() -> SharedHttpClient {
    let nobody = TlsContext::builder().with_trust_store(TrustStore::empty());
    build(nobody.build().unwrap_or_default(), ProxyConfig::disabled())
}

/// As the SDK builds it when it is not given one.
fn build(trusted: TlsContext, proxies: ProxyConfig) -> SharedHttpClient {
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(trusted.clone())
            .proxy_config(proxies.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    });
    SharedHttpClient::new(Bounded(client))
}

/// A client, or a connector of it, that reads no body longer than [`LONGEST_BODY`].
#[derive(Debug)]
struct Bounded<T>(T);

impl HttpClient for Bounded<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Bounded(self.0.http_connector(settings, components)))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        HttpClient::validate_base_client_config(&self.0, components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

impl HttpConnector for Bounded<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        let limit = |body| SdkBody::from_body_1_x(Limited::new(body, LONGEST_BODY));
        HttpConnectorFuture::new(async move { Ok(answer.await?.map(limit)) })
    }
}
