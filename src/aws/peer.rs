//! A server, as a URL names it, and why there is no response from it.

use std::fmt;
use std::io;

use aws_smithy_runtime_api::client::result::ConnectorError;
use http::{StatusCode, Uri};
use humantime::FormattedDuration;

/// What std puts before the resolver's own words.
const LOOKUP_PREFIX: &str = "failed to lookup address information: ";

/// A server. Displayed, it is `host:port`.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) is_proxy: bool,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0} is neither an http nor an https URL")]
    Url(Uri),
    #[error("cannot look up {}: {}", .0.host, .1.to_string().trim_start_matches(LOOKUP_PREFIX))]
    Name(Peer, io::Error),
    #[error("cannot connect to {0}: {1}")]
    Address(Peer, io::Error),
    #[error("{0}")]
    TrustStore(String),
    #[error("TLS handshake with {0} failed: {1}")]
    Tls(Peer, io::Error),
    #[error("{proxy} refused to connect to {target}: HTTP {status}")]
    Refused { proxy: Peer, target: Peer, status: StatusCode },
    #[error("connection to {0} broke: {1}")]
    Broken(Peer, String),
    #[error("no answer from {0} within {1}")]
    Timeout(String, FormattedDuration),
}

impl From<HttpError> for ConnectorError {
    fn from(error: HttpError) -> Self {
        Self::other(error.into(), None)
    }
}

impl Peer {
    pub(super) fn of(uri: &Uri, is_proxy: bool) -> Result<Self, HttpError> {
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(HttpError::Url(uri.clone())),
        };
        // An http URL has a host.
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), tls, is_proxy })
    }

    /// `host:port`.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The `Host` header, as the SDK signs it: without the default port.
    pub(super) fn host_header(&self) -> String {
        let authority = self.authority();
        let default = if self.tls { ":443" } else { ":80" };
        authority.strip_suffix(default).unwrap_or(&authority).to_owned()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_proxy { "proxy " } else { "" };
        write!(f, "{role}{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_peers() {
        for (url, authority, header, tls) in [
            ("http://host/path", "host:80", "host", false),
            ("https://host", "host:443", "host", true),
            ("https://host:443", "host:443", "host", true),
            ("https://host:80", "host:80", "host:80", true),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080", false),
            ("https://[::1]:1", "[::1]:1", "[::1]:1", true),
            ("http://[::80]", "[::80]:80", "[::80]", false),
        ] {
            let peer = Peer::of(&url.parse().unwrap(), false).unwrap();
            let found = (&*peer.authority(), &*peer.host_header(), peer.tls);
            assert_eq!(found, (authority, header, tls), "{url}");
        }
        for url in ["socks5://host", "/path", "host:80"] {
            assert!(Peer::of(&url.parse().unwrap(), false).is_err(), "{url}");
        }
    }
}
