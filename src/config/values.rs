//! Parses single values. Every function is pure, and says `None` to what its row of the table does not allow.

use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use rustix::process::{Pid, Signal};
use tracing::level_filters::LevelFilter;

use super::settings::{LogFormat, StopScope};
use crate::core::AfterTerminate;

/// 15 minutes is the reporting interval that the service expects of a task runner.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(15);
const LOST_CONTACT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(30 * 24);
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);

/// The longest `taskrunnerId`, `workerGroup` and `hostname` of the API.
const NAME_LENGTH: usize = 1024;

/// The longest label of a host name (RFC 1035), which a region becomes.
const LABEL_LENGTH: usize = 63;

pub(super) fn interval(text: &str) -> Option<Duration> {
    duration(text, &INTERVAL)
}

pub(super) fn grace(text: &str) -> Option<Duration> {
    duration(text, &GRACE)
}

/// More than two intervals is demanded where the interval is known.
pub(super) fn lost_contact_after(text: &str) -> Option<Duration> {
    duration(text, &LOST_CONTACT)
}

fn duration(text: &str, allowed: &RangeInclusive<Duration>) -> Option<Duration> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| allowed.contains(duration))
}

/// A percentage as a part of one.
pub(super) fn jitter(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    // Rust's own parser also takes `inf`, `nan`, `1e1` and signs.
    let plain = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = number.parse().ok().filter(|_| plain)?;
    (0.0..=50.0).contains(&percent).then_some(percent / 100.0)
}

/// A `taskrunnerId` or a `hostname`.
pub(super) fn name(text: &str) -> Option<String> {
    (!text.is_empty() && is_api_string(text)).then(|| text.to_owned())
}

pub(super) fn worker_group(text: &str) -> Option<String> {
    (is_api_string(text) && !text.contains('*')).then(|| text.to_owned())
}

/// The API's own pattern, less what only a mistake puts there: it would allow newlines, tabs, the controls from
/// U+007F on, and spaces around the value.
fn is_api_string(text: &str) -> bool {
    text.chars().count() <= NAME_LENGTH
        && text.trim() == text
        && !text
            .chars()
            .any(|char| char.is_control() || matches!(char, '\u{FFFE}' | '\u{FFFF}'))
}

/// A region becomes a label of the endpoint's host name; the SDK refuses what cannot.
pub(super) fn region(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let shaped = !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(allowed);
    (shaped && (1..=LABEL_LENGTH).contains(&text.len())).then(|| text.to_owned())
}

pub(super) fn profile(text: &str) -> Option<String> {
    let plain = !text.is_empty() && text.trim() == text && !text.contains(char::is_control);
    plain.then(|| text.to_owned())
}

pub(super) fn endpoint_url(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    // A port that is none is no error to `http`.
    let port = authority.as_str().strip_prefix(authority.host())?;
    let port = port.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
    let bare = !text.contains('#') && !authority.as_str().contains('@') && uri.query().is_none();
    (scheme && !authority.host().is_empty() && port && bare).then(|| text.to_owned())
}

/// Whether a URL, as [`endpoint_url`] allows it, leads to this very host.
pub(super) fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    uri.as_ref().and_then(Uri::host).is_some_and(|host| {
        let address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    })
}

pub(super) fn stop_signal(text: &str) -> Option<Signal> {
    match text.strip_prefix("SIG").unwrap_or(text) {
        "TERM" => Some(Signal::TERM),
        "INT" => Some(Signal::INT),
        "HUP" => Some(Signal::HUP),
        "QUIT" => Some(Signal::QUIT),
        "USR1" => Some(Signal::USR1),
        "USR2" => Some(Signal::USR2),
        "KILL" => Some(Signal::KILL),
        _ => None,
    }
}

pub(super) fn stop_scope(text: &str) -> Option<StopScope> {
    match text {
        "group" => Some(StopScope::Group),
        "process" => Some(StopScope::Leader),
        _ => None,
    }
}

/// A shell command, as the argument vector that runs it.
pub(super) fn command(text: &str) -> Option<Vec<OsString>> {
    let command = !text.trim().is_empty() && !text.contains('\0');
    command.then(|| ["/bin/sh", "-c", text].map(OsString::from).to_vec())
}

pub(super) fn pid(text: &str) -> Option<Pid> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).and_then(Pid::from_raw)
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| text.into())
}

pub(super) fn after_terminate(text: &str) -> Option<AfterTerminate> {
    match text {
        "exit" => Some(AfterTerminate::Exit),
        "idle" => Some(AfterTerminate::Idle),
        _ => None,
    }
}

pub(super) fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "auto" => Some(LogFormat::Auto),
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

pub(super) fn log_level(text: &str) -> Option<LevelFilter> {
    match text {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

/// A value of `AWS_MAX_ATTEMPTS` that the SDK does not panic on.
pub(super) fn aws_max_attempts(text: &str) -> Option<u32> {
    text.parse().ok().filter(|attempts| *attempts > 0)
}

/// A part of credentials that can be signed with and sent; to the SDK a blank one is none.
pub(super) fn aws_key(text: &str) -> Option<&str> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    (plain || text.trim().is_empty()).then_some(text)
}
