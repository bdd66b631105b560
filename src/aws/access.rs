//! What a heartbeat would be sent with, for `check --online`.

use std::fmt;

use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::Serialize;

use super::credentials::Source;
use super::messages::one_line;

/// Number of characters that are shown of an access key id from each end.
const SHOWN: usize = 4;

/// Region, endpoint and credentials of a heartbeat, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Access {
    /// The region.
    pub(crate) region: String,
    /// The URL of the service.
    pub(crate) endpoint: String,
    /// Where the credentials come from.
    pub(crate) credentials: Source,
    /// The access key id, shortened: `AKID…MPLE`.
    pub(crate) key_id: String,
    /// When the credentials expire, in RFC 3339; `None` if never.
    pub(crate) expires: Option<String>,
}

impl Access {
    pub(super) fn new(
        region: String,
        endpoint: String,
        source: Source,
        credentials: &Credentials,
    ) -> Self {
        let id = credentials.access_key_id();
        let ends = id.get(..SHOWN).zip(id.get(id.len().saturating_sub(SHOWN)..));
        let (start, end) = ends.unwrap_or_default();
        let expiry = credentials.expiry().map(DateTime::from);
        Self {
            region,
            endpoint,
            credentials: source,
            key_id: one_line(&format!("{start}…{end}")),
            expires: expiry.and_then(|time| time.fmt(Format::DateTime).ok()),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, endpoint, credentials, key_id, expires } = self;
        write!(
            f,
            "region {region}; endpoint {endpoint}; credentials from {credentials}: \
             access key {key_id}, expires "
        )?;
        match expires {
            Some(time) => write!(f, "at {time}"),
            None => f.write_str("never"),
        }
    }
}
