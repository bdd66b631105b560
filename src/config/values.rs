//! Parses single values. Every function is pure, and refuses what its row of the table does not
//! allow.

use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use rustix::process::{Pid, Signal};
use tracing::level_filters::LevelFilter;

use crate::core::AfterTerminate;

/// The processes that get the stop signal: the runner's process group, or its leader alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopScope {
    Group,
    Leader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text that fits stderr: a terminal, the journal or a file.
    Auto,
    /// Text with a timestamp.
    Text,
    Json,
}

/// A closed list: the words of a setting, and their values.
pub(super) type Choices<T, const N: usize> = [(&'static str, T); N];

pub(super) const STOP_SIGNALS: Choices<Signal, 7> = [
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("HUP", Signal::HUP),
    ("QUIT", Signal::QUIT),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("KILL", Signal::KILL),
];

pub(super) const STOP_SCOPES: Choices<StopScope, 2> =
    [("group", StopScope::Group), ("process", StopScope::Leader)];

pub(super) const AFTER_TERMINATE: Choices<AfterTerminate, 2> =
    [("exit", AfterTerminate::Exit), ("idle", AfterTerminate::Idle)];

pub(super) const LOG_FORMATS: Choices<LogFormat, 3> =
    [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) const LOG_LEVELS: Choices<LevelFilter, 6> = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

pub(super) fn choice<T: Copy, const N: usize>(text: &str, choices: &Choices<T, N>) -> Option<T> {
    let chosen = choices.iter().find(|(word, _)| *word == text);
    chosen.map(|(_, value)| *value)
}

pub(super) fn stop_signal(text: &str) -> Option<Signal> {
    choice(text.strip_prefix("SIG").unwrap_or(text), &STOP_SIGNALS)
}

/// 15 minutes is the reporting interval that the service expects of a task runner.
pub(super) const INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_mins(15);

pub(super) const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);

/// The lower limit is two intervals.
pub(super) const LOST_CONTACT: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_hours(30 * 24);

/// The upper limit is half the interval.
pub(super) const HEALTH_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(450);

/// The longest `taskrunnerId`, `workerGroup` and `hostname` of the API, in characters.
const NAME_LENGTH: usize = 1024;

/// The longest label of a host name (RFC 1035), in bytes.
const LABEL_LENGTH: usize = 63;

pub(super) fn duration(text: &str, allowed: &RangeInclusive<Duration>) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| allowed.contains(duration))
}

/// A percentage, as a fraction: `10%` is 0.1.
pub(super) fn jitter(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    // Rust's own parser also takes `inf`, `nan`, `1e1` and signs.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = number.parse().ok().filter(|_| plain)?;
    (0.0..=50.0).contains(&percent).then_some(percent / 100.0)
}

/// Whether the text may be a `taskrunnerId` or a `hostname`.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && is_api_string(text)
}

pub(super) fn is_worker_group(text: &str) -> bool {
    is_api_string(text) && !text.contains('*')
}

/// The API's pattern, less characters that only a mistake puts there: the API also allows newlines,
/// tabs, the controls from U+007F on, and spaces around the value.
fn is_api_string(text: &str) -> bool {
    // Doubled braces are sent as single ones.
    let sent = text.replace("{{", "{").replace("}}", "}");
    sent.chars().count() <= NAME_LENGTH
        && text.trim() == text
        && !text.chars().any(|char| char.is_control() || matches!(char, '\u{FFFE}' | '\u{FFFF}'))
}

/// A region becomes a label of the endpoint's host name; the SDK refuses any other text.
pub(super) fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_LENGTH).contains(&text.len())
        && text.trim_matches('-') == text
        && text.bytes().all(allowed)
}

pub(super) fn is_profile(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains(char::is_control)
}

/// Whether the text is an http or https URL with a host, and no user, password, query or fragment.
pub(crate) fn is_http_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    let host = authority.host();
    let is_address = host.starts_with('[');
    let in_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !host.is_empty() && host.bytes().all(in_a_name);
    // `http` itself ignores a port that is no number.
    let port = authority.as_str().strip_prefix(host);
    let port = port
        .is_some_and(|port| port.is_empty() || authority.port_u16().is_some_and(|port| port != 0));
    matches!(uri.scheme_str(), Some("http" | "https"))
        && (is_address || is_name)
        && port
        && uri.query().is_none()
        && !authority.as_str().contains('@')
        && !text.contains('#')
}

/// Whether hyper-util can use the proxy and all of its password. A text without a scheme is http.
pub(super) fn is_proxy_url(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let (user, address) = rest.split_once('@').unwrap_or(("", rest));
    // The parser must see the same user: a slash would end it.
    !user.contains(['/', '?', '#'])
        && text.parse::<Uri>().is_ok()
        && is_http_url(&format!("{scheme}://{address}"))
}

/// Whether a URL, as [`is_http_url`] allows it, leads to this host.
pub(super) fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    uri.as_ref().and_then(Uri::host).is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    })
}

pub(super) fn is_plain_http(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http"))
}

/// A shell command, as the argument vector that runs it.
pub(super) fn command(text: &str) -> Option<Vec<OsString>> {
    let command = !text.trim().is_empty() && !text.contains('\0');
    command.then(|| ["/bin/sh", "-c", text].map(OsString::from).to_vec())
}

/// A process id: digits alone, above zero.
pub(crate) fn parse_pid(text: &str) -> Option<Pid> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).and_then(Pid::from_raw)
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| text.into())
}

/// A part of credentials that can be signed with and sent. The SDK ignores a blank one.
pub(super) fn is_aws_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic()) || text.trim().is_empty()
}

/// Whether Kubernetes ends the name of a variable like this after the name of a Service: `PORT`,
/// `SERVICE_HOST`, `SERVICE_PORT_HTTP`, `PORT_80_TCP_ADDR`.
pub(super) fn is_service_variable(rest: &str) -> bool {
    let words: Vec<&str> = rest.split('_').collect();
    match words[..] {
        ["PORT"] | ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] => true,
        ["PORT", port, "TCP" | "UDP" | "SCTP"]
        | ["PORT", port, "TCP" | "UDP" | "SCTP", "ADDR" | "PORT" | "PROTO"] => {
            port.parse::<u16>().is_ok()
        }
        _ => false,
    }
}
