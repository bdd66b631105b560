//! Region, endpoint, credentials and HTTP client for the service. The AWS CLI finds them in the
//! same places; the settings of taskbeat come first.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::default_provider::use_fips::use_fips_provider;
use aws_config::identity::IdentityCache;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_sdk_datapipeline::config::Config;
use aws_sdk_datapipeline::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use tracing::warn;

use super::access::{self, Access};
use super::attempt::{self, stage};
use super::credentials::{Chain, EC2_METADATA, ENVIRONMENT};
use super::http_client::Http;
use super::messages::chain;
use super::metadata;
use super::profiles::Profiles;
use super::trust::TrustStore;
use crate::config::{AwsSettings, Identity, Warning, is_http_url};

/// Maximum duration of an attempt, reached at intervals of 30 s or more.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// Minimum of that limit, so that a heartbeat at an interval of milliseconds can succeed.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

const NO_REGION: &str =
    "no region: set region, AWS_REGION or one in the profile; the EC2 metadata names none";

const NO_URL: &str = "no endpoint: endpoint_url of the profile must be an http or https URL \
    without credentials and query";

/// Endpoints that Data Pipeline does not have: the variable and the key of the profile that demand
/// them, and how a warning shows the key.
const VARIANTS: [[&str; 3]; 2] = [
    ["AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint", "use_fips_endpoint of the profile"],
    [
        "AWS_USE_DUALSTACK_ENDPOINT",
        "use_dualstack_endpoint",
        "use_dualstack_endpoint of the profile",
    ],
];

/// How heartbeats reach the service.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    aws: AwsSettings,
    /// The limit of an attempt: 1 to 30 s.
    pub(super) limit: Duration,
    rehearsal: bool,
    /// Outlives the clients; see [`Http`].
    unanswered: Arc<AtomicUsize>,
    /// The warnings so far, because each is logged once.
    warned: Arc<Mutex<Vec<Warning>>>,
}

/// A client of the service, for one endpoint. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) sdk: aws_sdk_datapipeline::Client,
    pub(crate) endpoint: String,
    pub(super) credentials: Chain,
}

/// What the settings, the environment and the profile files lead to.
struct Found {
    /// The settings, less what the SDK decides: the region is there, and the endpoint if the user
    /// chose it.
    aws: AwsSettings,
    fips: bool,
    dual_stack: bool,
    credentials: Chain,
    http: Http,
}

impl Connection {
    /// The connection that the settings and the environment describe.
    pub(crate) fn new(aws: AwsSettings, interval: Duration) -> Self {
        Self {
            warned: Arc::new(Mutex::new(aws.warnings())),
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

    /// A client for what the files, the environment and the metadata service say now. A client
    /// never reads them again, so a change takes effect with the next client. It keeps credentials
    /// and what it learned about the service's clock, but no connection.
    pub(crate) async fn client(&self) -> Result<Client, String> {
        let found = self.find().await?;
        for warning in self.new_warnings(&found) {
            warn!("{warning}");
        }
        let endpoint = found.endpoint().await?;
        stage("making the client");
        let credentials = found.credentials.clone();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(found.aws.region.map(Region::new))
            .use_fips(found.fips)
            .use_dual_stack(found.dual_stack)
            .credentials_provider(found.credentials)
            .http_client(found.http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            // Longer than the attempt's limit, which names what took the time.
            .identity_cache(IdentityCache::lazy().load_timeout(self.limit * 2).build());
        config.set_app_name(AppName::new("taskbeat").ok());
        config.set_endpoint_url(found.aws.endpoint_url);
        let sdk = aws_sdk_datapipeline::Client::from_conf(config.build());
        Ok(Client { sdk, endpoint, credentials })
    }

    /// The identity without placeholders, the access that a heartbeat would have, and further
    /// warnings. Else why a heartbeat would fail. Sends nothing to the service.
    pub(crate) async fn check(
        &self,
        identity: &Identity,
    ) -> Result<(Identity, Access, Vec<Warning>), String> {
        let (connection, identity) = (self.clone(), identity.clone());
        attempt::run(self.limit, async move || {
            let identity = metadata::complete(&identity).await?;
            let found = connection.find().await?;
            let mut warnings = connection.new_warnings(&found);
            let endpoint = found.endpoint().await?;
            let (mut source, credentials) = found.credentials.find().await?;
            if let Some(expired) = access::expired(&credentials) {
                return Err(format!("the credentials from {source} expired at {expired}"));
            }
            if source.place == EC2_METADATA {
                source.role = metadata::role().await;
            }
            if let (ENVIRONMENT, Some(profile)) = (source.place, &found.aws.profile) {
                warnings.push(Warning::new(
                    format!("keys in the environment come before AWS_PROFILE, which is {profile}"),
                    "unset AWS_ACCESS_KEY_ID, or choose the profile by TASKBEAT_PROFILE",
                ));
            }
            let way = found.http.way_to(&endpoint)?;
            let region = found.aws.region.unwrap_or_default();
            let access = Access::new(region, endpoint, (source, &credentials), way);
            Ok((identity, access, warnings))
        })
        .await
    }

    async fn find(&self) -> Result<Found, String> {
        let mut aws = self.aws.clone();
        if self.rehearsal {
            aws.region.get_or_insert_with(|| "us-east-1".to_owned());
            let (credentials, http) = (Chain::rehearsal(), Http::default());
            return Ok(Found { aws, fips: false, dual_stack: false, credentials, http });
        }
        let profiles = Profiles::read(aws.profile.as_deref()).await?;
        let bundle = profiles.setting("AWS_CA_BUNDLE", "ca_bundle").map(PathBuf::from);
        let http = Http::new(TrustStore(bundle), Arc::clone(&self.unanswered));
        let direct = metadata::direct();
        aws.endpoint_url = aws.endpoint_url.or_else(|| profiles.endpoint_url());
        // The URL of a profile. One in the settings was checked before.
        if aws.endpoint_url.as_ref().is_some_and(|url| !is_http_url(url)) {
            return Err(NO_URL.to_owned());
        }
        aws.region = aws.region.or_else(|| profiles.inherited("region"));
        if aws.region.is_none() {
            stage("asking the EC2 metadata service for the region");
            let of_instance = ImdsRegionProvider::builder().configure(&direct).build();
            let region = of_instance.region().await.ok_or(NO_REGION)?;
            aws.region = Some(region.to_string());
        }
        let [fips, dual_stack] = VARIANTS.map(|[variable, key, shown]| {
            let is_true = profiles.is_true(variable, key);
            if is_true && !aws.endpoint_variants.contains(&variable) {
                aws.endpoint_variants.push(shown);
            }
            is_true
        });
        let config = direct
            .clone()
            .with_region(aws.region.clone().map(Region::new))
            .with_http_client(http.clone())
            .with_use_fips(Some(fips))
            .with_use_dual_stack(Some(dual_stack));
        // With this call, `config` reads the profile. The STS client takes its endpoint from there.
        use_fips_provider(&config).await;
        let credentials = Chain::new(&profiles, aws.profile_is_pinned, &config, &direct).await;
        Ok(Found { aws, fips, dual_stack, credentials, http })
    }

    /// Probable mistakes that profiles and the metadata service add to those of the settings.
    fn new_warnings(&self, found: &Found) -> Vec<Warning> {
        let mut warnings = found.aws.warnings();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.retain(|warning| !warned.contains(warning));
        warned.extend_from_slice(&warnings);
        warnings
    }
}

impl Found {
    /// The URL that the SDK makes of the configuration.
    async fn endpoint(&self) -> Result<String, String> {
        let none = |error: &(dyn Error + 'static)| format!("no endpoint: {}", chain(error));
        let params = Params::builder()
            .set_region(self.aws.region.clone())
            .use_fips(self.fips)
            .use_dual_stack(self.dual_stack)
            .set_endpoint(self.aws.endpoint_url.clone())
            .build()
            .map_err(|error| none(&error))?;
        let endpoint = DefaultResolver::new().resolve_endpoint(&params).await;
        endpoint.map(|endpoint| endpoint.url().to_owned()).map_err(|error| none(&*error))
    }
}
