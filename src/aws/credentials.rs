//! Where credentials come from: the places of every AWS SDK in the same order, or an explicit
//! profile alone.

use std::env;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
use http::HeaderValue;
use serde::Serialize;

use super::attempt::stage;
use super::messages::chain;
use super::process;
use super::profiles::Profiles;
use crate::config::file_problem;
use crate::text;

pub(super) const ENVIRONMENT: &str = "environment";

/// The id of the access key of a rehearsal's own daemon.
pub(crate) const REHEARSAL_KEY: &str = "REHEARSAL";

/// The place of an instance's own role.
pub(super) const EC2_METADATA: &str = "EC2 metadata";

/// A place that credentials can come from.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Source {
    /// `environment`, `profile`, `web identity`, `container` or `EC2 metadata`.
    pub(super) place: &'static str,
    /// The name of the profile.
    profile: Option<String>,
    /// The role, where it is known: its ARN or its name.
    pub(super) role: Option<String>,
    /// The file whose token STS or the container's agent exchanges for credentials.
    token_file: Option<String>,
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

/// False if the access key id or the session token cannot be in a header: the SDK would panic.
fn fits_headers(credentials: &Credentials) -> bool {
    [Some(credentials.access_key_id()), credentials.session_token()]
        .into_iter()
        .flatten()
        .all(|text| HeaderValue::from_str(text).is_ok())
}

const PINNED: &str = "and an explicit profile excludes all other sources; AWS_PROFILE does not";

const ROLE_ALONE: &str = "it has a role, and no credentials to assume it with";

const LOGIN_SESSION: &str = "it uses `aws login`, which taskbeat does not have; use a profile \
    with credential_process = aws configure export-credentials --profile NAME --format process";

/// Keys of a profile that come before `credential_process`.
const BEFORE_PROCESS: [&str; 5] =
    ["credential_source", "web_identity_token_file", "sso_session", "sso_start_url", "role_arn"];

/// The places in their order. The first with credentials wins; a failure ends the search.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    places: Arc<[Place]>,
    /// The number of the place that was used last.
    used: Arc<AtomicUsize>,
}

impl Chain {
    /// The places of every AWS SDK, or the profile alone if it `is_pinned`. `direct` uses no
    /// proxies; containers and instances are asked by it, because their endpoints are local to the
    /// host.
    pub(super) async fn new(
        profiles: &Profiles,
        is_pinned: bool,
        config: &ProviderConfig,
        direct: &ProviderConfig,
    ) -> Self {
        let of_profile = of_profile(profiles, config, direct).await;
        if is_pinned {
            return Self::of([of_profile].into());
        }
        let environment = EnvironmentVariableCredentialsProvider::new();
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(config).build();
        let variable = |name| env::var(name).ok();
        let of_token = Source {
            role: variable("AWS_ROLE_ARN"),
            token_file: variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
            ..source("web identity")
        };
        let token_file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        let places = [
            place(source(ENVIRONMENT), environment),
            of_profile,
            place(of_token, web_identity),
            place(Source { token_file, ..source("container") }, of_container(direct)),
            place(source(EC2_METADATA), of_instance(direct)),
        ];
        Self::of(places.into())
    }

    /// Credentials that every endpoint of a rehearsal accepts.
    pub(super) fn rehearsal() -> Self {
        let any = Credentials::new(REHEARSAL_KEY, "any", None, None, "rehearsal");
        Self::of([place(source("rehearsal"), any)].into())
    }

    fn of(places: Arc<[Place]>) -> Self {
        Self { places, used: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    /// Where the newest credentials came from.
    pub(super) fn used(&self) -> Option<&Source> {
        self.places.get(self.used.load(Ordering::Relaxed)).map(|(source, _)| source)
    }

    /// The first credentials. It fails if a place that should have some fails, or no place has any.
    pub(super) async fn find(&self) -> Result<(Source, Credentials), String> {
        let mut absent = Vec::new();
        for (number, (source, provider)) in self.places.iter().enumerate() {
            stage(format!("getting credentials from {source}"));
            // The SDK would block, or read all of it.
            if let Some(file) = &source.token_file
                && let Some(problem) = file_problem(Path::new(file))
            {
                return Err(format!("no credentials from {source}: {problem}"));
            }
            let error = match provider.provide_credentials().await {
                Ok(credentials) if !fits_headers(&credentials) => {
                    return Err(format!("no usable credentials from {source}: bad characters"));
                }
                Ok(credentials) => {
                    self.used.store(number, Ordering::Relaxed);
                    return Ok((source.clone(), credentials));
                }
                Err(error) => error,
            };
            let reason = chain(&error);
            if !is_absent(source, &error) {
                return Err(format!("no credentials from {source}: {reason}"));
            }
            if source.profile.is_some() && source.role.is_some() {
                return Err(format!("no credentials from {source}: {ROLE_ALONE}"));
            }
            absent.push((source.to_string(), reason));
        }
        let Some((last, reason)) = absent.pop().filter(|_| self.places.len() > 1) else {
            return Err(format!("no credentials in {}, {PINNED}", self.places[0].0));
        };
        let others = text::list(absent.into_iter().map(|(place, _)| place));
        Err(format!("no credentials found: none in {others}; {last}: {reason}"))
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

fn source(place: &'static str) -> Source {
    Source { place, ..Source::default() }
}

type Place = (Source, SharedCredentialsProvider);

fn place(source: Source, provider: impl ProvideCredentials + 'static) -> Place {
    (source, SharedCredentialsProvider::new(provider))
}

fn of_container(direct: &ProviderConfig) -> EcsCredentialsProvider {
    EcsCredentialsProvider::builder().configure(direct).build()
}

fn of_instance(direct: &ProviderConfig) -> ImdsCredentialsProvider {
    ImdsCredentialsProvider::builder().configure(direct).build()
}

async fn of_profile(
    profiles: &Profiles,
    config: &ProviderConfig,
    direct: &ProviderConfig,
) -> Place {
    let source = Source {
        profile: Some(profiles.name.clone()),
        role: profiles.inherited("role_arn").or_else(|| profiles.inherited("sso_role_name")),
        token_file: profiles.inherited("web_identity_token_file"),
        ..source("profile")
    };
    if profiles.inherited("login_session").is_some() {
        let unknown = || async { Err(CredentialsError::provider_error(LOGIN_SESSION)) };
        return place(source, provide_credentials_fn(unknown));
    }
    let mut provider = ProfileFileCredentialsProvider::builder()
        .configure(config)
        .profile_name(&profiles.name)
        .with_custom_provider("EcsContainer", of_container(direct))
        .with_custom_provider("Ec2InstanceMetadata", of_instance(direct));
    let mut overlay = Vec::new();
    for (index, profile) in profiles.lineage().into_iter().enumerate() {
        if let Some(process) = credential_process(profiles, profile).await {
            let (name, source) = (profile.name(), format!("taskbeat-process-{index}"));
            overlay.push(format!("[profile {name}]\ncredential_source = {source}"));
            provider = provider.with_custom_provider(source, process);
        }
    }
    let provider = provider.profile_files(profiles.files(&overlay.join("\n")));
    place(source, provider.build())
}

/// The profile's `credential_process`, if no other key of it comes first, and in place of it the
/// profile's keys in the credentials file, as in the AWS CLI. The SDK's own repeats in its errors
/// what the command wrote to stderr, and does not kill it.
async fn credential_process(
    profiles: &Profiles,
    profile: &Profile,
) -> Option<SharedCredentialsProvider> {
    if BEFORE_PROCESS.iter().any(|key| profile.get(key).is_some()) {
        return None;
    }
    let (name, command) =
        (profile.name().to_owned(), profile.get("credential_process")?.to_owned());
    let run = move || process::credentials(name.clone(), command.clone());
    Some(match profiles.keys(profile.name()).await {
        Some(keys) => SharedCredentialsProvider::new(keys),
        None => SharedCredentialsProvider::new(provide_credentials_fn(run)),
    })
}
