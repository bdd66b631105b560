//! Where credentials come from: the places of every AWS SDK in the same order, or an explicit
//! profile alone.

use std::env;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::{Profile, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use serde::Serialize;

use super::attempt::stage;
use super::messages::chain;
use super::process::CredentialProcess;
use super::profiles::Profiles;
use super::resolve::Lookup;

/// A place that credentials can come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Source {
    /// `environment`, `profile`, `web identity`, `container` or `EC2 metadata`.
    pub(crate) place: &'static str,
    /// The name of the profile.
    pub(crate) profile: Option<String>,
    /// The file whose token STS or the container's agent exchanges for credentials.
    pub(crate) token_file: Option<String>,
}

impl Source {
    fn new(place: &'static str, token_variable: Option<&str>) -> Self {
        Self {
            place,
            profile: None,
            token_file: token_variable.and_then(|variable| env::var(variable).ok()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.place)?;
        if let Some(profile) = &self.profile {
            write!(f, " {profile}")?;
        }
        match &self.token_file {
            Some(file) => write!(f, " (token file {file})"),
            None => Ok(()),
        }
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCredentials {
    /// A place should have some.
    #[error("no credentials from {0}: {1}")]
    Failed(Source, String),
    /// No place has any.
    #[error("no credentials found: none in {0}; EC2 metadata: {1}")]
    Nowhere(String, String),
    #[error(
        "no credentials in profile {0}, and an explicit profile excludes all other sources; \
         AWS_PROFILE does not"
    )]
    NotInProfile(String),
}

const LOGIN_SESSION: &str = "it uses `aws login`, which taskbeat does not have; use a profile \
    with credential_process = aws configure export-credentials --profile NAME --format process";

/// Keys of a profile that come before `credential_process`.
const BEFORE_PROCESS: [&str; 5] =
    ["credential_source", "web_identity_token_file", "sso_session", "sso_start_url", "role_arn"];

/// The places in their order. The first with credentials wins; a failure ends the search.
#[derive(Clone, Debug)]
pub(super) struct Chain(Arc<[Place]>);

impl Chain {
    /// The places of every AWS SDK. `direct` uses no proxies; containers and instances are asked
    /// by it, because their endpoints are local to the host.
    pub(super) fn new(
        profiles: &Profiles,
        config: &ProviderConfig,
        direct: &ProviderConfig,
    ) -> Self {
        let environment = EnvironmentVariableCredentialsProvider::new();
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(config);
        let token = Some("AWS_WEB_IDENTITY_TOKEN_FILE");
        let agent_token = Some("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        let places = [
            place(Source::new("environment", None), environment),
            of_profile(profiles, config, direct),
            place(Source::new("web identity", token), web_identity.build()),
            place(Source::new("container", agent_token), of_container(direct)),
            place(Source::new("EC2 metadata", None), of_instance(direct)),
        ];
        Self(places.into())
    }

    /// The profile and nothing else.
    pub(super) fn pinned(
        profiles: &Profiles,
        config: &ProviderConfig,
        direct: &ProviderConfig,
    ) -> Self {
        Self([of_profile(profiles, config, direct)].into())
    }

    /// Searches for credentials.
    pub(super) async fn find(&self) -> Result<(Source, Credentials), NoCredentials> {
        let mut absent = Vec::new();
        for (source, provider) in &*self.0 {
            stage(format!("getting credentials from {source}"));
            match provider.provide_credentials().await {
                Ok(credentials) => return Ok((source.clone(), credentials)),
                Err(error) if is_absent(source, &error) => absent.push((source, chain(&error))),
                Err(error) => return Err(NoCredentials::Failed(source.clone(), chain(&error))),
            }
        }
        let (last, reason) = absent.pop().unzip();
        let places: Vec<_> = absent.iter().map(|(source, _)| source.to_string()).collect();
        Err(match last.and_then(|source| source.profile.clone()) {
            Some(pinned) => NoCredentials::NotInProfile(pinned),
            None => NoCredentials::Nowhere(places.join(", "), reason.unwrap_or_default()),
        })
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let found = self.find().await.map(|(_, credentials)| credentials);
            found.map_err(CredentialsError::provider_error)
        })
    }
}

/// True if the place is not configured at all. A profile that is configured wrongly has a reason.
fn is_absent(source: &Source, error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::CredentialsNotLoaded(_))
        && (source.profile.is_none() || error.source().is_none())
}

type Place = (Source, SharedCredentialsProvider);

fn place(source: Source, provider: impl ProvideCredentials + 'static) -> Place {
    (source, SharedCredentialsProvider::new(provider))
}

fn of_container(direct: &ProviderConfig) -> EcsCredentialsProvider {
    let provider = EcsCredentialsProvider::builder().configure(direct);
    provider.dns(Lookup).build()
}

fn of_instance(direct: &ProviderConfig) -> ImdsCredentialsProvider {
    ImdsCredentialsProvider::builder().configure(direct).build()
}

fn of_profile(profiles: &Profiles, config: &ProviderConfig, direct: &ProviderConfig) -> Place {
    let lineage = profiles.lineage();
    let get = |key| lineage.iter().find_map(|profile| profile.get(key));
    let source = Source {
        place: "profile",
        profile: Some(profiles.name.clone()),
        token_file: get("web_identity_token_file").map(str::to_owned),
    };
    if get("login_session").is_some() {
        return place(source, provide_credentials_fn(login_session));
    }
    let mut provider = ProfileFileCredentialsProvider::builder()
        .configure(config)
        .profile_name(&profiles.name)
        .with_custom_provider("EcsContainer", of_container(direct))
        .with_custom_provider("Ec2InstanceMetadata", of_instance(direct));
    let mut overlay = Vec::new();
    for (index, profile) in lineage.iter().enumerate() {
        if let Some(process) = credential_process(profile) {
            let (name, source) = (profile.name(), format!("taskbeat-process-{index}"));
            overlay.push(format!("[profile {name}]\ncredential_source = {source}"));
            provider = provider.with_custom_provider(source, process);
        }
    }
    let provider = provider.profile_files(profiles.files(&overlay.join("\n")));
    place(source, provider.build())
}

/// The profile's `credential_process`, if no other key of it comes first. The SDK's own repeats in
/// its errors what the command wrote to stderr, and does not kill it.
fn credential_process(profile: &Profile) -> Option<CredentialProcess> {
    if BEFORE_PROCESS.iter().any(|key| profile.get(key).is_some()) {
        return None;
    }
    Some(CredentialProcess {
        profile: profile.name().to_owned(),
        command: profile.get("credential_process")?.to_owned(),
    })
}

async fn login_session() -> Result<Credentials, CredentialsError> {
    Err(CredentialsError::provider_error(LOGIN_SESSION))
}
