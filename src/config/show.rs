//! How values are shown to people: on one line, of bearable length, without credentials.

use super::table::Setting;

/// The longest part of a value that a message repeats, in characters.
const LONGEST: usize = 80;

/// The value in quotes, as a message shows it.
pub(super) fn quoted(setting: &Setting, value: &str) -> String {
    let value = without_secrets(setting, value);
    let length = value.chars().count();
    if length <= LONGEST {
        return format!("{value:?}");
    }
    let start: String = value.chars().take(LONGEST).collect();
    format!("{start:?}… ({length} characters)")
}

/// The value as a list shows it: quoted only where one could not see its ends otherwise.
pub(super) fn plain(setting: &Setting, value: &str) -> String {
    let value = without_secrets(setting, value);
    if value.is_empty() || value.contains(|char: char| char.is_whitespace() || char.is_control()) {
        return format!("{value:?}");
    }
    value
}

fn without_secrets(setting: &Setting, value: &str) -> String {
    if setting.secret {
        redacted(value)
    } else {
        value.to_owned()
    }
}

/// A URL less all that may be a user, a password or a token; it need not be valid, so rather too much than too little.
fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, _)) if !scheme.contains('@') => url.split_at(scheme.len() + 3),
        _ => ("", url),
    };
    let (head, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if tail.contains('@') {
        // Whether a password or a query holds the `?` is not to be known.
        return format!("{scheme}***");
    }
    let head = head
        .rsplit_once('@')
        .map_or_else(|| head.to_owned(), |(_, host)| format!("***@{host}"));
    let tail = tail
        .chars()
        .next()
        .map_or_else(String::new, |mark| format!("{mark}***"));
    format!("{scheme}{head}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_secrets() {
        for (url, shown) in [
            ("https://example.com/path", "https://example.com/path"),
            ("https://user:secret@example.com", "https://***@example.com"),
            (
                "https://user:se/cr@et@example.com/x",
                "https://***@example.com/x",
            ),
            ("https://user:se?cret@example.com", "https://***"),
            ("https://user:se#cret@example.com", "https://***"),
            (
                "https://example.com/?token=secret",
                "https://example.com/?***",
            ),
            ("https://example.com/#secret", "https://example.com/#***"),
            ("https://example.com/?mail=secret@secret", "https://***"),
            ("user:secret@example.com", "***@example.com"),
            ("https:/user:secret@example.com", "***@example.com"),
            ("user:secret@example.com://", "***@example.com://"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
