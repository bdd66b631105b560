//! The placeholders of the identity that only the EC2 metadata service can fill.

use std::collections::BTreeMap;
use std::env;

use aws_config::imds::client::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;

use super::messages;
use crate::config::{Identity, Part, Placeholder, parts};

/// Maximum length of a domain name (RFC 1035), in bytes; an instance id is shorter.
const LONGEST: usize = 255;

/// The identity without placeholders. The service is asked only if there are some.
///
/// # Errors
///
/// A placeholder has no value.
pub(super) async fn complete(
    identity: &Identity,
    config: &ProviderConfig,
) -> Result<Identity, String> {
    let mut metadata = Metadata::new(config);
    Ok(Identity {
        taskrunner_id: metadata.fill(&identity.taskrunner_id).await?,
        worker_group: match &identity.worker_group {
            Some(text) => Some(metadata.fill(text).await?),
            None => None,
        },
        hostname: metadata.fill(&identity.hostname).await?,
    })
}

/// True if the identity has placeholders of the metadata service.
pub(super) fn is_needed(identity: &Identity) -> bool {
    let texts = [&identity.taskrunner_id, &identity.hostname].into_iter();
    let texts = texts.chain(&identity.worker_group);
    let parts = texts.filter_map(|text| parts(text).ok()).flatten();
    parts.into_iter().any(|part| matches!(part, Part::Placeholder(_)))
}

/// Asks for each placeholder once.
struct Metadata {
    client: Client,
    known: BTreeMap<&'static str, String>,
}

impl Metadata {
    fn new(config: &ProviderConfig) -> Self {
        // The next heartbeat tries again, with a new token: the SDK would keep a refused one.
        let client = Client::builder().configure(config).max_attempts(1);
        Self { client: client.build(), known: BTreeMap::new() }
    }

    async fn fill(&mut self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        for part in parts(text)? {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Placeholder(placeholder) => filled.push_str(self.get(placeholder).await?),
            }
        }
        Ok(filled)
    }

    async fn get(&mut self, placeholder: Placeholder) -> Result<&str, String> {
        let name = placeholder.name();
        if !self.known.contains_key(name) {
            let value = self.ask(name).await;
            let value = value.map_err(|reason| format!("no {placeholder}: {reason}"))?;
            self.known.insert(name, value);
        }
        Ok(&self.known[name])
    }

    async fn ask(&self, name: &str) -> Result<String, String> {
        if env::var("AWS_EC2_METADATA_DISABLED")
            .is_ok_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return Err("AWS_EC2_METADATA_DISABLED is true".to_owned());
        }
        let path = format!("/latest/meta-data/{name}");
        match self.client.get(path).await {
            Ok(value) if is_name(value.as_ref()) => Ok(value.into()),
            // A captive portal, for instance, whose page must not become the identity.
            Ok(_) => Err("not an answer of a metadata service".to_owned()),
            Err(ImdsError::ErrorResponse(response)) => {
                Err(match response.response().status().as_u16() {
                    404 => "the instance has none (HTTP 404)".to_owned(),
                    status => format!("the metadata service refuses (HTTP {status})"),
                })
            }
            Err(error) => Err(messages::chain(&error)),
        }
    }
}

/// True for a host name or an instance id.
fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_no_names() {
        for name in ["i-0123456789abcdef0", "ip-10-0-0-1.ec2.internal", "a"] {
            assert!(is_name(name), "{name}");
        }
        for page in ["", "<html>", "two words", "a\nb", "é", &"a".repeat(256)] {
            assert!(!is_name(page), "{page}");
        }
    }
}
