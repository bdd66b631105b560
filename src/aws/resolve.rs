//! From a host name to a TCP connection.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use http::Uri;
use tokio::net::TcpStream;
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::attempt::stage;

/// Wait for an address before the next one is tried beside it, as RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// What std puts before the resolver's own words.
const LOOKUP_PREFIX: &str = "failed to lookup address information: ";

/// A server, as a URL names it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// A name or an address, without brackets.
    pub(super) host: String,
    port: u16,
    pub(super) tls: bool,
    is_proxy: bool,
}

impl Peer {
    /// `None` if it is neither an http nor an https URL.
    pub(super) fn of(uri: &Uri, is_proxy: bool) -> Option<Self> {
        let (tls, port) = match uri.scheme_str()? {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        Some(Self {
            host: uri.host()?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(port),
            tls,
            is_proxy,
        })
    }

    /// `host:port`.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_proxy { "proxy " } else { "" };
        write!(f, "{role}{}", self.authority())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("cannot look up {0}: {reason}", reason = .1.trim_start_matches(LOOKUP_PREFIX))]
    Name(String, String),
    #[error("cannot connect to {0}: {1}")]
    Address(Peer, io::Error),
}

/// Connects to the first address of `peer` that accepts; an address that drops packets costs
/// [`STAGGER`]. The order begins at another address with each `turn`. Blocks the thread while the
/// name is looked up.
pub(super) async fn connect(peer: &Peer, turn: usize) -> Result<TcpStream, Unreachable> {
    stage(format!("looking up {}", peer.host));
    let found = (peer.host.as_str(), peer.port).to_socket_addrs();
    let unknown = |error: io::Error| Unreachable::Name(peer.host.clone(), error.to_string());
    let mut addresses: Vec<_> = found.map_err(unknown)?.collect();
    let first = turn.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(first);
    let list: Vec<_> = addresses.iter().map(|addr| addr.ip().to_string()).collect();
    stage(format!("connecting to {peer} ({})", list.join(", ")));
    let connected = race(addresses).await;
    connected.map_err(|error| Unreachable::Address(peer.clone(), error))
}

/// The first connection that is made, else the first error. Addresses that drop packets are waited
/// for without limit.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter().peekable();
    let mut connecting = JoinSet::new();
    let mut first_error = None;
    loop {
        if let Some(address) = addresses.next() {
            connecting.spawn(TcpStream::connect(address));
        }
        let connected = select! {
            connected = connecting.join_next() => connected,
            () = sleep(STAGGER), if addresses.peek().is_some() => continue,
        };
        match connected {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => first_error = first_error.or(Some(error)),
            // A task ends without a result only if the runtime ends.
            Some(Err(_)) => {}
            None => return Err(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into())),
        }
    }
}

/// Looks up names on this thread, where the SDK would start another one.
#[derive(Debug)]
pub(super) struct Lookup;

impl ResolveDns for Lookup {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        stage(format!("looking up {name}"));
        let found = (name, 0).to_socket_addrs().map_err(ResolveDnsError::new);
        DnsFuture::ready(found.map(|found| found.map(|address| address.ip()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_peers() {
        let peer = |url: &str| Peer::of(&url.parse().unwrap(), false);
        for (url, authority, tls) in [
            ("http://host/path", "host:80", false),
            ("https://host", "host:443", true),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", false),
            ("https://[::1]:1", "[::1]:1", true),
        ] {
            let peer = peer(url).unwrap();
            assert_eq!((&*peer.authority(), peer.tls), (authority, tls), "{url}");
        }
        for url in ["socks5://host", "/path", "host:80"] {
            assert!(peer(url).is_none(), "{url}");
        }
    }
}
