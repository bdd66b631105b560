//! Code as tokens.

pub(crate) fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::`, and other characters one by one, each with its line.
pub(crate) fn tokens(code: &str) -> impl Iterator<Item = (&str, usize)> {
    (1..).zip(code.lines()).flat_map(|(number, line)| {
        let mut rest = line.trim_start();
        let mut tokens = Vec::new();
        while let Some(first) = rest.chars().next() {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = if rest.starts_with("::") {
                2
            } else if is_part(first) {
                rest.find(|c| !is_part(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(length);
            tokens.push((token, number));
            rest = after.trim_start();
        }
        tokens
    })
}

/// The code with blanks in place of comments and of the contents of string and character literals.
pub(crate) fn without_literals(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").unwrap() + 2,
            '"' => quoted(rest, '"'),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => raw(rest),
            // Not a lifetime.
            '\'' if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => {
                quoted(rest, '\'')
            }
            _ => 0,
        };
        if length == 0 {
            // A name that ends with r is not the start of a raw string.
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let name = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let (kept, after) = rest.split_at(name.max(first.len_utf8()));
            code.push_str(kept);
            rest = after;
        } else {
            let blank = |c| if c == '\n' { '\n' } else { ' ' };
            code.extend(rest[..length].chars().map(blank));
            rest = &rest[length..];
        }
    }
    code
}

/// The length of the literal between two `quote`s at the start of `text`.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            end if end == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string at the start of `text`; 0 for a raw identifier.
fn raw(text: &str) -> usize {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}
