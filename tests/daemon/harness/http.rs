//! HTTP/1.1 messages, written and read by hand: tests break what a library would not let them.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// An HTTP response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    endless: bool,
}

impl Response {
    /// A response of the service: it has a request id.
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self::bare(status, body)
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("x-amzn-RequestId", "0f0f0f0f-0000-4000-8000-000000000000")
    }

    /// A response of another server, such as a proxy: without headers.
    pub(crate) fn bare(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), endless: false }
    }

    pub(crate) fn acknowledge(terminate: bool) -> Self {
        let body = serde_json::json!({ "terminate": terminate });
        Self::new(200, &body.to_string())
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "__type": code, "message": message });
        Self::new(status, &body.to_string())
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Spaces follow the body without end.
    pub(crate) fn without_end(mut self) -> Self {
        self.endless = true;
        self
    }

    /// Writes the response. Returns true if the connection can take another request.
    pub(super) async fn send(&self, connection: &mut TcpStream) -> bool {
        if self.endless {
            write_endlessly(connection, &self.to_bytes(), &[b' '; 8192]).await;
        }
        !self.endless && connection.write_all(&self.to_bytes()).await.is_ok()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let header = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
        let mut headers: String = self.headers.iter().map(header).collect();
        let (status, body) = (self.status, &self.body);
        if !self.endless {
            headers += &header(&("Content-Length".to_owned(), body.len().to_string()));
        }
        format!("HTTP/1.1 {status} Scripted\r\n{headers}\r\n{body}").into_bytes()
    }
}

/// Writes `head`, and then `part` again and again until the client closes the connection.
pub(super) async fn write_endlessly(connection: &mut TcpStream, head: &[u8], part: &[u8]) {
    let mut written = connection.write_all(head).await;
    while written.is_ok() {
        written = connection.write_all(part).await;
    }
}

/// A request that was received.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// When its last byte was received.
    pub(crate) at: Instant,
    /// The request line: method, path and version.
    pub(crate) line: String,
    /// Keyed by the name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body as JSON; null if it is something else.
    pub(crate) body: Value,
    /// The body as text.
    pub(crate) text: String,
    /// The client's port, which tells connections apart.
    pub(crate) connection: u16,
}

impl Request {
    /// A header by its name in lower case; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Reads the next request; `None` if the client closed the connection.
    pub(super) async fn read(connection: &mut TcpStream) -> Option<Self> {
        let mut received = Vec::new();
        let head = loop {
            if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if connection.read_buf(&mut received).await.ok()? == 0 {
                return None;
            }
        };
        let text = String::from_utf8_lossy(&received[..head]).into_owned();
        let mut lines = text.lines();
        let line = lines.next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        };
        let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
        let length = headers.get("content-length").map_or("0", String::as_str);
        let length: usize = length.parse().ok()?;
        let mut body = received.split_off(head + 4);
        while body.len() < length {
            if connection.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        Some(Self {
            at: Instant::now(),
            line,
            headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
            text: String::from_utf8_lossy(&body).into_owned(),
            connection: connection.peer_addr().ok()?.port(),
        })
    }
}
