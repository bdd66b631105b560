//! Region, endpoint, credentials and HTTP client for the service. The AWS CLI finds them in the
//! same places; the settings of taskbeat come first.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use aws_config::default_provider::use_fips::use_fips_provider;
use aws_config::identity::IdentityCache;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_datapipeline::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_datapipeline::config::{Builder, Config, Credentials};
use tracing::info;

use super::access::Access;
use super::attempt::{self, stage};
use super::credentials::Chain;
use super::http_client::Http;
use super::messages::chain;
use super::metadata;
use super::profiles::Profiles;
use super::trust::TrustStore;
use crate::config::{AwsSettings, Identity};

/// Maximum duration of an attempt, reached at intervals of 30 s or more.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// Minimum of that limit, so that a heartbeat at an interval of milliseconds can succeed.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

const NO_REGION: &str =
    "no region: set region, AWS_REGION or one in the profile; the EC2 metadata names none";

const NO_FIPS: &str = "AWS documents no FIPS endpoint of Data Pipeline: \
    unset AWS_USE_FIPS_ENDPOINT or the profile's use_fips_endpoint";

const NO_DUAL_STACK: &str = "AWS documents no dual-stack endpoint of Data Pipeline: \
    unset AWS_USE_DUALSTACK_ENDPOINT or the profile's use_dualstack_endpoint";

/// How heartbeats reach the service.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    aws: AwsSettings,
    /// The limit of an attempt: 1 to 30 s.
    limit: Duration,
    rehearsal: bool,
    /// Outlives the clients; see [`Http`].
    unanswered: Arc<AtomicUsize>,
}

/// A client of the service. Cheap to clone. It keeps credentials and what it learned about the
/// service's clock, but no connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) sdk: aws_sdk_datapipeline::Client,
    /// What to do if there is no such endpoint.
    pub(super) advice: Option<&'static str>,
}

/// What the settings, the environment and the profile files lead to.
struct Found {
    shared: SdkConfig,
    region: Region,
    credentials: Chain,
    /// The endpoint, if the user chose it.
    endpoint_url: Option<String>,
    endpoint: String,
    advice: Option<&'static str>,
}

impl Connection {
    /// The connection that the settings and the environment describe.
    pub(crate) fn new(aws: AwsSettings, interval: Duration) -> Self {
        Self {
            aws,
            limit: interval.clamp(SHORTEST_ATTEMPT, LONGEST_ATTEMPT),
            rehearsal: false,
            unanswered: Arc::default(),
        }
    }

    /// A connection to an endpoint on loopback that accepts any region and credentials. It reads
    /// no files and uses no proxy.
    pub(crate) fn rehearsal(aws: AwsSettings, interval: Duration) -> Self {
        Self { rehearsal: true, ..Self::new(aws, interval) }
    }

    /// The time limit of an attempt.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// A client for what the files, the environment and the metadata service say now. A client
    /// never reads them again, so a change takes effect with the next client.
    ///
    /// # Errors
    ///
    /// A file cannot be used, or there is no such profile, no region or no endpoint.
    pub(super) async fn client(&self) -> Result<Client, String> {
        if self.rehearsal {
            return Ok(self.rehearsal_client());
        }
        let found = self.find().await?;
        let mut config = Builder::from(&found.shared).credentials_provider(found.credentials);
        // Here and not in what is shared, because STS and SSO would use it, too.
        config.set_endpoint_url(found.endpoint_url);
        Ok(Client {
            sdk: aws_sdk_datapipeline::Client::from_conf(config.build()),
            advice: found.advice,
        })
    }

    fn rehearsal_client(&self) -> Client {
        let region = self.aws.region.clone();
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let credentials = Credentials::new("REHEARSAL", "any", None, None, "rehearsal");
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .http_client(Http::direct());
        config.set_endpoint_url(self.aws.endpoint_url.clone());
        Client { sdk: aws_sdk_datapipeline::Client::from_conf(config.build()), advice: None }
    }

    /// The identity without placeholders and the access that a heartbeat would have. Sends
    /// nothing to the service.
    ///
    /// # Errors
    ///
    /// Why a heartbeat would fail before it is sent, in one line.
    pub(crate) async fn check(&self, identity: &Identity) -> Result<(Identity, Access), String> {
        let (connection, identity) = (self.clone(), identity.clone());
        attempt::run(self.limit, async move || {
            let identity = connection.identify(&identity).await?;
            let found = connection.find().await?;
            let searched = found.credentials.find().await;
            let (source, credentials) = searched.map_err(|error| error.to_string())?;
            let region = found.region.to_string();
            let access = Access::new(region, found.endpoint, source, &credentials);
            Ok((identity, access))
        })
        .await
    }

    /// The identity with values of the metadata service in place of placeholders.
    ///
    /// # Errors
    ///
    /// Which placeholder has no value, and why, in one line.
    pub(super) async fn identify(&self, identity: &Identity) -> Result<Identity, String> {
        stage("asking the EC2 metadata service");
        let config = ProviderConfig::default().with_http_client(Http::direct());
        let complete = metadata::complete(identity, &config).await?;
        if metadata::is_needed(identity) {
            info!("the EC2 metadata service names {complete}");
        }
        Ok(complete)
    }

    async fn find(&self) -> Result<Found, String> {
        let profiles = Profiles::read(self.aws.profile.as_deref()).await?;
        let bundle = profiles.setting("AWS_CA_BUNDLE", "ca_bundle");
        let trust_store = bundle.map_or(TrustStore::Host, |file| TrustStore::Bundle(file.into()));
        let http = Http::new(trust_store, Arc::clone(&self.unanswered));
        let config = ProviderConfig::without_region()
            .with_behavior_version(Some(BehaviorVersion::v2026_01_12()))
            // The attempt has a limit, and there is one retry policy, the core's.
            .with_retry_config(RetryConfig::disabled())
            .with_timeout_config(TimeoutConfig::disabled());
        let direct = config.clone().with_http_client(Http::direct());
        let region = self.region(&profiles, &direct).await?;
        let shared = self.loader(&profiles, &http, &region).load().await;
        let config = config.with_region(Some(region.clone()));
        let config = config.with_http_client(http);
        // Makes it read the profile as well, from which the client of STS takes its endpoint.
        let fips = use_fips_provider(&config).await;
        let config = config.with_use_fips(fips.or(shared.use_fips()));
        let config = config.with_use_dual_stack(shared.use_dual_stack());
        let credentials = if self.aws.profile_is_pinned {
            Chain::pinned(&profiles, &config, &direct)
        } else {
            Chain::new(&profiles, &config, &direct)
        };
        let endpoint_url = self.aws.endpoint_url.clone();
        let endpoint_url = endpoint_url.or_else(|| profiles.endpoint_url());
        let advice = match (shared.use_fips(), shared.use_dual_stack()) {
            (Some(true), _) => Some(NO_FIPS),
            (_, Some(true)) => Some(NO_DUAL_STACK),
            _ => None,
        };
        let endpoint = endpoint(&shared, endpoint_url.as_deref()).await;
        Ok(Found {
            endpoint: endpoint.map_err(|reason| advised(reason, advice))?,
            shared,
            region,
            credentials,
            endpoint_url,
            advice,
        })
    }

    async fn region(&self, profiles: &Profiles, direct: &ProviderConfig) -> Result<Region, String> {
        if let Some(region) = &self.aws.region {
            return Ok(Region::new(region.clone()));
        }
        let of_profile = ProfileFileRegionProvider::builder()
            .profile_files(profiles.files(""))
            .profile_name(&profiles.name)
            .build();
        if let Some(region) = of_profile.region().await {
            return Ok(region);
        }
        stage("asking the EC2 metadata service for the region");
        let of_instance = ImdsRegionProvider::builder().configure(direct).build();
        of_instance.region().await.ok_or_else(|| NO_REGION.to_owned())
    }

    fn loader(&self, profiles: &Profiles, http: &Http, region: &Region) -> ConfigLoader {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            .profile_files(profiles.files(""))
            .profile_name(&profiles.name)
            .no_credentials()
            .http_client(http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            // Longer than the attempt's limit, which names what took the time.
            .identity_cache(IdentityCache::lazy().load_timeout(self.limit * 2).build());
        if let Ok(name) = AppName::new("taskbeat") {
            loader = loader.app_name(name);
        }
        loader
    }
}

/// The message of a failure that `advice` may mend.
pub(super) fn advised(message: String, advice: Option<&str>) -> String {
    match advice {
        Some(advice) => format!("{message}; {advice}"),
        None => message,
    }
}

/// The URL that the SDK makes of the configuration.
async fn endpoint(shared: &SdkConfig, chosen: Option<&str>) -> Result<String, String> {
    let params = Params::builder()
        .set_region(shared.region().map(ToString::to_string))
        .use_fips(shared.use_fips().unwrap_or_default())
        .use_dual_stack(shared.use_dual_stack().unwrap_or_default())
        .set_endpoint(chosen.map(str::to_owned))
        .build();
    if chosen.is_some_and(|url| url.contains('@')) {
        // The URL of a profile; the settings refuse such, too.
        return Err("no endpoint: endpoint_url must not contain credentials".to_owned());
    }
    let none = |error: &(dyn Error + 'static)| format!("no endpoint: {}", chain(error));
    let params = params.map_err(|error| none(&error))?;
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).await;
    endpoint.map(|endpoint| endpoint.url().to_owned()).map_err(|error| none(&*error))
}
