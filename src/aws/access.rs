//! What a heartbeat would be sent with, for `check --online`.

use std::fmt;

use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use rustix::time::ClockId;
use serde::Serialize;

use super::credentials::Source;
use super::messages::one_line;
use super::peer::Peer;
use super::trust::Trusted;
use crate::clock::read;
use crate::config::escaped;

/// Number of characters that are shown of an access key id from each end.
const SHOWN: usize = 4;

/// Region, endpoint and credentials of a heartbeat, and the way to the endpoint, without secrets.
/// Displayed, each fact has a line, with its name in twenty columns.
#[derive(Serialize)]
pub(crate) struct Access {
    region: String,
    endpoint: String,
    credentials: Source,
    /// The access key id, shortened: `AKID…MPLE`.
    key_id: String,
    /// When the credentials expire, in RFC 3339; `None` if never.
    expires: Option<String>,
    /// The proxy on the way to the endpoint, without its password: `proxy.example:3128`.
    proxy: Option<String>,
    /// `None` if the endpoint has no TLS.
    trust_store: Option<Trusted>,
}

impl Access {
    pub(super) fn new(
        region: String,
        endpoint: String,
        (source, credentials): (Source, &Credentials),
        (proxy, trust_store): (Option<Peer>, Option<Trusted>),
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
            expires: expiry.and_then(show),
            proxy: proxy.map(|proxy| proxy.authority()),
            trust_store,
        }
    }
}

/// When the credentials expired, in RFC 3339; `None` if they have not.
pub(super) fn expired(credentials: &Credentials) -> Option<String> {
    let expiry = DateTime::from(credentials.expiry()?);
    let now = read(ClockId::Realtime).as_secs().cast_signed();
    show(expiry).filter(|_| expiry.secs() <= now)
}

fn show(time: DateTime) -> Option<String> {
    time.fmt(Format::DateTime).ok()
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), escaped);
        let expires = self.expires.as_deref().unwrap_or("never");
        writeln!(f, "region              {}", escaped(&self.region))?;
        writeln!(f, "endpoint            {}", escaped(&self.endpoint))?;
        writeln!(f, "credentials         {}", self.credentials)?;
        writeln!(f, "role                {}", or_none(&self.credentials.role))?;
        writeln!(f, "access key          {}, expires {expires}", self.key_id)?;
        writeln!(f, "proxy               {}", or_none(&self.proxy))?;
        match &self.trust_store {
            Some(Trusted { file, certificates }) => {
                let file = file.as_deref().map_or("the host's".to_owned(), escaped);
                writeln!(f, "trust store         {file}, certificates: {certificates}")
            }
            None => writeln!(f, "trust store         -"),
        }
    }
}
