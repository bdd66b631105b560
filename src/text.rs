//! Texts for people, in one place.

use std::time::Duration;

use humantime::format_duration;

/// A duration as people read it: in milliseconds below ten seconds, else in seconds.
pub(crate) fn duration(duration: Duration) -> String {
    let unit = if duration < Duration::from_secs(10) {
        Duration::from_millis(1)
    } else {
        Duration::from_secs(1)
    };
    // A duration above zero is never shown as 0.
    let units = (duration.as_nanos() / unit.as_nanos()).max(u128::from(!duration.is_zero()));
    let rounded = unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX));
    format_duration(rounded).to_string()
}

/// The largest unit that fits, as in `12 min`.
pub(crate) fn coarse(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match [(86_400, "d"), (3600, "h"), (60, "min")].into_iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => "less than 1 min".to_owned(),
    }
}

/// The items, separated by commas.
pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}
