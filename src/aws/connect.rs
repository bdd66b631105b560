//! Region, credentials, endpoint and timeouts: as every AWS SDK finds them, plus our settings.

use std::fmt;
use std::time::Duration;

use aws_config::profile;
use aws_config::provider_config::ProviderConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_datapipeline::Client;
use aws_sdk_datapipeline::config::retry::RetryConfig;
use aws_sdk_datapipeline::config::{Builder, Credentials, IdentityCache, ProvideCredentials};
use aws_smithy_http_client::tls::TlsContext;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use tokio::time::timeout;
use tracing::info;

use super::{http_client, messages, metadata, trust};
use crate::config::{AwsSettings, Identity};

/// The longest that one heartbeat may take at the default interval.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// The shortest limit, so that a heartbeat at an interval of milliseconds has a chance at all.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

const NO_REGION: &str =
    "no region: set region, AWS_REGION or one in the profile; the EC2 metadata names none";

/// How one heartbeat reaches the service.
#[derive(Clone, Debug)]
pub struct Connection {
    aws: AwsSettings,
    /// The limit of one heartbeat, and of loading what it needs: 1 to 30 s.
    attempt: Duration,
    rehearsal: bool,
}

impl Connection {
    /// The way that the settings and the environment describe.
    #[must_use]
    pub fn new(aws: AwsSettings, interval: Duration) -> Self {
        Self {
            aws,
            attempt: interval.clamp(SHORTEST_ATTEMPT, LONGEST_ATTEMPT),
            rehearsal: false,
        }
    }

    /// A way to an endpoint on loopback that takes any region and any credentials: none are looked
    /// for, and no proxy is asked.
    #[must_use]
    pub fn rehearsal(aws: AwsSettings, interval: Duration) -> Self {
        let region = aws.region.or_else(|| Some("us-east-1".to_owned()));
        Self {
            rehearsal: true,
            ..Self::new(AwsSettings { region, ..aws }, interval)
        }
    }

    /// A client that knows what the profile files, the environment and the metadata service say now.
    ///
    /// The SDK never reads them again, so what changed meanwhile is found by a new client only. After a certificate
    /// that was not trusted it sees the host's authorities anew, too, if `distrust` says so.
    ///
    /// # Errors
    ///
    /// There is no region. The metadata service is asked for it when nothing else names one, and may come up later.
    pub(super) async fn client(&self, distrust: bool) -> Result<Client, String> {
        let shared = self.load(self.loader(distrust)).await?;
        if shared.region().is_none() {
            let profile = self.what_is_wrong_with_the_profile().await;
            let profile = profile.map_or_else(String::new, |wrong| format!("; {wrong}"));
            return Err(format!("{NO_REGION}{profile}"));
        }
        let mut config = Builder::from(&shared);
        // Here and not in what is shared: STS and SSO would go there, too.
        if let Some(url) = &self.aws.endpoint_url {
            config = config.endpoint_url(url);
        }
        Ok(Client::from_conf(config.build()))
    }

    /// Finds the credentials as a heartbeat would, and sends nothing to the service.
    ///
    /// # Errors
    ///
    /// Why there are none, in one line.
    pub async fn access(&self) -> Result<Access, String> {
        let shared = self.load(self.loader(false)).await?;
        let region = shared.region().map(ToString::to_string);
        let provider = shared.credentials_provider().ok_or("no credentials")?;
        let credentials = timeout(self.attempt, provider.provide_credentials())
            .await
            .map_err(|_| "no credentials in time")?
            .map_err(|error| messages::chain(&error))?;
        Ok(Access {
            region,
            credentials,
        })
    }

    /// The identity with what the metadata service says of the instance in place of placeholders.
    ///
    /// # Errors
    ///
    /// What it does not say, and why, in one line.
    pub async fn identify(&self, identity: &Identity) -> Result<Identity, String> {
        if self.rehearsal {
            return Ok(identity.clone());
        }
        // Link-local addresses are not for proxies, of which this client knows nothing.
        let config = ProviderConfig::default().with_http_client(http_client::direct());
        let complete = timeout(self.attempt, metadata::complete(identity, &config))
            .await
            .map_err(|_| "the EC2 metadata service does not answer in time")??;
        if complete != *identity {
            info!("the EC2 metadata service names {complete}");
        }
        Ok(complete)
    }

    /// What the SDK keeps to itself when it finds no region in the profile. There need be none.
    async fn what_is_wrong_with_the_profile(&self) -> Option<String> {
        let name = self.aws.profile.clone().map(Into::into);
        let (fs, env, files) = Default::default();
        match profile::load(&fs, &env, &files, name).await {
            Ok(set) => {
                let name = set.selected_profile();
                let missing = name != "default" && set.get_profile(name).is_none();
                missing.then(|| format!("profile {name} was not defined"))
            }
            Err(error) => Some(messages::chain(&error)),
        }
    }

    async fn load(&self, loader: ConfigLoader) -> Result<SdkConfig, String> {
        timeout(self.attempt, loader.load())
            .await
            .map_err(|_| "the AWS configuration took too long to load".to_owned())
    }

    fn loader(&self, distrust: bool) -> ConfigLoader {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.attempt.min(Duration::from_secs(5)))
            .read_timeout(self.attempt)
            // Each a little longer than the one inside of it, so that the same silence is always
            // called by the same name.
            .operation_attempt_timeout(self.attempt.mul_f64(1.1))
            .operation_timeout(self.attempt.mul_f64(1.2))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            // There is one retry policy, the core's: the SDK makes one attempt.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // Within the attempt's, so that it is told from a service that does not answer.
            .identity_cache(IdentityCache::lazy().load_timeout(self.attempt).build());
        if let Ok(name) = AppName::new("taskbeat") {
            loader = loader.app_name(name);
        }
        if let Some(region) = &self.aws.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &self.aws.profile {
            loader = loader.profile_name(profile);
        }
        if self.rehearsal {
            let any = Credentials::new("REHEARSAL", "any", None, None, "rehearsal");
            return loader
                // Neither of a host that must use such endpoints goes together with an endpoint that is given.
                .use_fips(false)
                .use_dual_stack(false)
                .credentials_provider(any)
                .http_client(http_client::direct());
        }
        loader.http_client(http_client::client(if distrust {
            trust::anew()
        } else {
            TlsContext::default()
        }))
    }
}

/// Whom the service would see.
pub struct Access {
    region: Option<String>,
    credentials: Credentials,
}

impl fmt::Display for Access {
    /// An access key id is no secret, but enough of it to recognise it is enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region.as_deref().unwrap_or("none found");
        let id = self.credentials.access_key_id();
        let shown = id.get(..4).zip(id.get(id.len().saturating_sub(4)..));
        let (start, end) = shown.unwrap_or_default();
        let expiry = self.credentials.expiry().map(DateTime::from);
        let expiry = expiry.and_then(|time| time.fmt(Format::DateTime).ok());
        let expiry = expiry.map_or("never".to_owned(), |time| format!("at {time}"));
        // Somebody else wrote all of it.
        f.write_str(&messages::one_line(&format!(
            "region {region}; access key {start}…{end}, expires {expiry}"
        )))
    }
}
