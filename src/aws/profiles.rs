//! The AWS config and credentials files, read as the AWS CLI reads them.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use aws_config::profile::{self, Profile, ProfileSet};
use aws_credential_types::Credentials;
use aws_runtime::env_config::EnvConfigValue;
use aws_runtime::env_config::file::{Builder, EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};

use super::attempt::stage;
use super::messages::chain;
use crate::config::read_to_string;
use crate::text::list;

/// The files, their default paths below the home directory, and the variables that name others.
const FILES: [(EnvConfigFileKind, &str, &str); 2] = [
    (EnvConfigFileKind::Config, ".aws/config", "AWS_CONFIG_FILE"),
    (EnvConfigFileKind::Credentials, ".aws/credentials", "AWS_SHARED_CREDENTIALS_FILE"),
];

/// The contents of both files, and the profile that is in force.
pub(super) struct Profiles {
    pub(super) name: String,
    set: ProfileSet,
    files: Builder,
    /// The credentials file alone.
    credentials: Builder,
}

impl Profiles {
    /// Reads the files. Blocks the thread. It fails if a file is there and cannot be read or
    /// parsed, or no file defines the profile `name`.
    pub(super) async fn read(name: Option<&str>) -> Result<Self, String> {
        let (mut files, mut credentials) = (EnvConfigFiles::builder(), EnvConfigFiles::builder());
        let mut paths = Vec::new();
        for (kind, file, variable) in FILES {
            let Some(path) = path(file, variable) else { continue };
            let shown = path.display().to_string();
            stage(format!("reading {shown}"));
            match read_to_string(&path) {
                Ok(text) => {
                    files = files.with_file(kind, &path);
                    if matches!(kind, EnvConfigFileKind::Credentials) {
                        credentials = credentials.with_contents(kind, text);
                    }
                }
                // Without access to its directory (ProtectHome=) there is no file either.
                Err(_) if fs::metadata(&path).is_err() => {}
                Err(error) => {
                    let named = env::var_os(variable).map(|_| format!(" ({variable})"));
                    let named = named.unwrap_or_default();
                    return Err(format!("cannot read {shown}{named}: {error}"));
                }
            }
            paths.push(shown);
        }
        let chosen = name.unwrap_or("default").to_owned();
        let set = load(&files, &chosen).await?;
        if name.is_some() && set.get_profile(&chosen).is_none() {
            let (paths, defined) = (paths.join(" or "), set.profiles().collect::<BTreeSet<_>>());
            let defined = if defined.is_empty() { "none".to_owned() } else { list(defined) };
            return Err(format!(
                "profile {chosen} is not defined in {paths}, which define {defined}"
            ));
        }
        Ok(Self { name: chosen, set, files, credentials })
    }

    /// The files, for the parts of the SDK that read them again, and `more` of a config file after
    /// them.
    pub(super) fn files(&self, more: &str) -> EnvConfigFiles {
        with(&self.files, more)
    }

    /// The value of `variable`, unless that is empty, else of `key` in the profile.
    pub(super) fn setting(&self, variable: &str, key: &str) -> Option<String> {
        let value = env::var(variable).ok().filter(|value| !value.is_empty());
        value.or_else(|| self.set.get(key).map(str::to_owned))
    }

    /// True if the [`setting`](Self::setting) is `true`, in any letter case.
    pub(super) fn is_true(&self, variable: &str, key: &str) -> bool {
        self.setting(variable, key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The value of `key` in the first profile of the [`lineage`](Self::lineage) that has it.
    pub(super) fn inherited(&self, key: &str) -> Option<String> {
        self.lineage().iter().find_map(|profile| profile.get(key)).map(str::to_owned)
    }

    /// The keys of profile `name` in the credentials file.
    pub(super) async fn keys(&self, name: &str) -> Option<Credentials> {
        let set = load(&self.credentials, name).await.ok()?;
        let profile = set.get_profile(name)?;
        let (id, secret) =
            (profile.get("aws_access_key_id")?, profile.get("aws_secret_access_key")?);
        let token = profile.get("aws_session_token").map(str::to_owned);
        Some(Credentials::new(id, secret, token, None, "credentials file"))
    }

    /// The endpoint of Data Pipeline in the profile's `[services]` section, else the profile's for
    /// all services. The key is `data_pipeline`; the Rust SDK looks for `data-pipeline`.
    pub(super) fn endpoint_url(&self) -> Option<String> {
        if self.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls") {
            return None;
        }
        let global = self.set.get("endpoint_url").map(str::to_owned);
        let of_service = |service| {
            let value = EnvConfigValue::new().profile("endpoint_url");
            let (value, environment) = (value.service_id(service), Env::real());
            // The global one, if the section says nothing about the service.
            let (url, _) = value.load(&environment, Some(&self.set))?;
            Some(url.into_owned()).filter(|url| Some(url) != global.as_ref())
        };
        of_service("data_pipeline").or_else(|| of_service("data-pipeline")).or(global)
    }

    /// The profile, and those whose credentials it uses (`source_profile`), one after the other.
    pub(super) fn lineage(&self) -> Vec<&Profile> {
        let mut lineage: Vec<&Profile> = Vec::new();
        let mut next = self.set.get_profile(&self.name);
        while let Some(profile) = next {
            if lineage.iter().any(|known| known.name() == profile.name()) {
                break;
            }
            lineage.push(profile);
            let source = profile.get("source_profile");
            next = source.and_then(|source| self.set.get_profile(source));
        }
        lineage
    }
}

/// The profiles of `files`, of which `name` is in force.
async fn load(files: &Builder, name: &str) -> Result<ProfileSet, String> {
    let name = Some(name.to_owned().into());
    let set = profile::load(&Fs::real(), &Env::real(), &with(files, ""), name).await;
    set.map_err(|error| chain(&error))
}

/// The SDK panics if there is no file at all, so `more` is one even if it is empty.
fn with(files: &Builder, more: &str) -> EnvConfigFiles {
    let files = files.clone();
    files.with_contents(EnvConfigFileKind::Config, more).build()
}

/// Where a file is; `None` if it would be in the home directory, and there is none. The variable
/// may begin with the home directory as `~`.
fn path(file: &str, variable: &str) -> Option<PathBuf> {
    match env::var_os(variable).filter(|path| !path.is_empty()) {
        Some(path) => match Path::new(&path).strip_prefix("~") {
            Ok(below) => Some(home()?.join(below)),
            Err(_) => Some(path.into()),
        },
        None => Some(home()?.join(file)),
    }
}

/// `HOME`, else the home directory in the user database, as systemd sets none for root.
fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| home.is_absolute())
}
