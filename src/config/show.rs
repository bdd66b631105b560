//! How messages show a value: on one line, of bounded length, without credentials.

use super::table::{Setting, VARIABLE_PREFIX};

/// The longest part of a value that a message repeats, in characters.
const LONGEST: usize = 80;

/// The value in quotes, cut after [`LONGEST`] characters.
pub(super) fn quoted(setting: &Setting, value: &str) -> String {
    let value = without_secrets(setting, value);
    let length = value.chars().count();
    if length <= LONGEST {
        return format!("{value:?}");
    }
    let start: String = value.chars().take(LONGEST).collect();
    format!("{start:?}… ({length} characters)")
}

/// The value as one word: in quotes only if it is empty, holds a space or needs escapes.
pub(crate) fn escaped(value: &str) -> String {
    let quoted = format!("{value:?}");
    let is_plain = quoted.len() == value.len() + 2 && !value.contains(' ') && !value.is_empty();
    if is_plain { value.to_owned() } else { quoted }
}

pub(super) fn without_secrets(setting: &Setting, value: &str) -> String {
    if setting.secret { redacted(value) } else { value.to_owned() }
}

/// The URL without anything that may be a user, a password or a token. The text need not be a valid
/// URL, so it rather hides too much than too little.
pub(crate) fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, _)) if !scheme.contains('@') => url.split_at(scheme.len() + 3),
        _ => ("", url),
    };
    let (head, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if tail.contains('@') {
        // The `?` may belong to a password or begin a query.
        return format!("{scheme}***");
    }
    let head =
        head.rsplit_once('@').map_or_else(|| head.to_owned(), |(_, host)| format!("***@{host}"));
    let tail = tail.chars().next().map_or_else(String::new, |mark| format!("{mark}***"));
    format!("{scheme}{head}{tail}")
}

/// The error that the key or variable `name` is none of those in `known`.
pub(super) fn unknown(name: &str, place: &str, known: &[String]) -> String {
    /// The similarity, found by trying, from which a name is probably a typing error.
    const SIMILAR: f64 = 0.85;
    // The prefix that all names share makes none of them more similar.
    let bare = |name| str::strip_prefix(name, VARIABLE_PREFIX).unwrap_or(name);
    let similar = known
        .iter()
        .map(|other| (strsim::jaro_winkler(bare(name), bare(other)), other))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let hint = match similar {
        Some((_, other)) => format!("did you mean {other}?"),
        None => format!("must be one of {}", known.join(", ")),
    };
    format!("{} ({place}): unknown, {hint}", name.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_go_without_quotes() {
        for word in ["a", "--flag", "é", "it's", "http://[::1]:80/"] {
            assert_eq!(escaped(word), word);
        }
        for (value, quoted) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("a\nb", r#""a\nb""#),
            ("a\u{1b}[2J", r#""a\u{1b}[2J""#),
            ("a\u{202e}b", r#""a\u{202e}b""#),
            ("a\"b", r#""a\"b""#),
        ] {
            assert_eq!(escaped(value), quoted);
        }
    }

    #[test]
    fn urls_lose_their_secrets() {
        for (url, redacted_url) in [
            ("https://example.com/path", "https://example.com/path"),
            ("https://user:secret@example.com", "https://***@example.com"),
            ("https://user:se/cr@et@example.com/x", "https://***@example.com/x"),
            ("https://user:se?cret@example.com", "https://***"),
            ("https://user:se#cret@example.com", "https://***"),
            ("https://example.com/?token=secret", "https://example.com/?***"),
            ("https://example.com/#secret", "https://example.com/#***"),
            ("https://example.com/?mail=secret@secret", "https://***"),
            ("user:secret@example.com", "***@example.com"),
            ("https:/user:secret@example.com", "***@example.com"),
            ("user:secret@example.com://", "***@example.com://"),
        ] {
            assert_eq!(redacted(url), redacted_url);
        }
    }
}
