//! The placeholders of the identity that only the EC2 metadata service can fill.

use std::collections::BTreeMap;
use std::env;

use aws_config::BehaviorVersion;
use aws_config::imds::client::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use tracing::info;

use super::attempt::stage;
use super::http_client::Http;
use super::messages;
use crate::config::{Identity, Part, parts};

/// Maximum length of a domain name (RFC 1035), in bytes; an instance id is shorter.
const LONGEST: usize = 255;

/// The configuration for services local to the host, which must not be reached through a proxy. It
/// has no region.
pub(super) fn direct() -> ProviderConfig {
    ProviderConfig::without_region()
        .with_behavior_version(Some(BehaviorVersion::v2026_01_12()))
        // The attempt has a limit, and there is one retry policy, the core's.
        .with_retry_config(RetryConfig::disabled())
        .with_timeout_config(TimeoutConfig::disabled())
        .with_http_client(Http::default())
}

/// A client of the metadata service. Each heartbeat makes one anew, because the SDK keeps a token
/// that was refused.
fn client() -> Client {
    Client::builder().configure(&direct()).max_attempts(1).build()
}

/// The identity without placeholders, or which of them has no value. The service is asked once for
/// each, and only if there are some.
pub(super) async fn complete(identity: &Identity) -> Result<Identity, String> {
    let client = client();
    let mut known = BTreeMap::new();
    let mut complete = identity.clone();
    let Identity { taskrunner_id, worker_group, hostname } = &mut complete;
    for text in [Some(taskrunner_id), worker_group.as_mut(), Some(hostname)].into_iter().flatten() {
        let mut filled = String::new();
        for part in parts(text)? {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Placeholder(name) => {
                    if !known.contains_key(name) {
                        let value = ask(&client, name).await;
                        let none = |reason| format!("no {{{name}}}: {reason}");
                        known.insert(name, value.map_err(none)?);
                    }
                    filled.push_str(&known[name]);
                }
            }
        }
        *text = filled;
    }
    if !known.is_empty() {
        info!("the EC2 metadata service names {complete}");
    }
    Ok(complete)
}

/// The name of the instance's role, if the service knows one.
pub(super) async fn role() -> Option<String> {
    stage("asking the EC2 metadata service for the role");
    let roles = client().get("/latest/meta-data/iam/security-credentials/").await.ok()?;
    roles.as_ref().lines().next().map(messages::one_line)
}

async fn ask(client: &Client, name: &str) -> Result<String, String> {
    let disabled = env::var("AWS_EC2_METADATA_DISABLED");
    if disabled.is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err("AWS_EC2_METADATA_DISABLED is true".to_owned());
    }
    stage(format!("asking the EC2 metadata service for {name}"));
    match client.get(format!("/latest/meta-data/{name}")).await {
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
