//! The placeholders of the identity: `{hostname}`, `{instance-id}` and the others.

use std::fs;
use std::sync::OnceLock;

/// The texts between the braces.
const PLACEHOLDERS: [&str; 5] = [
    "hostname",
    "machine-id",
    // Of the EC2 metadata service, under its own names. Not every instance has a public one.
    "instance-id",
    "public-hostname",
    "local-hostname",
];

/// Written by the system at its first boot; see machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// A part of a text that may hold placeholders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Literal text.
    Text(&'a str),
    /// The text between the braces.
    Placeholder(&'static str),
}

/// Takes `text` apart. `{{` and `}}` are literal braces.
///
/// # Errors
///
/// A single brace that belongs to no placeholder: the text of it, and which placeholders there are.
pub(crate) fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(brace);
        parts.push(Part::Text(before));
        let (part, end) = if after.starts_with("{{") || after.starts_with("}}") {
            (Part::Text(&after[..1]), 2)
        } else {
            let end = after.find('}').map_or(after.len(), |end| end + 1);
            (Part::Placeholder(name(&after[..end])?), end)
        };
        parts.push(part);
        rest = &after[end..];
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    Ok(parts)
}

fn name(braced: &str) -> Result<&'static str, String> {
    let mut names = PLACEHOLDERS.into_iter();
    names.find(|name| braced == format!("{{{name}}}")).ok_or_else(|| {
        let all = PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ");
        format!("{braced:?} is no placeholder; use one of {all}, or {{{{ and }}}} as braces")
    })
}

/// The text with the placeholders replaced that the host itself can fill in. It is still a text of
/// [`parts`]: the other placeholders stay, and literal braces stay doubled.
///
/// # Errors
///
/// A brace that belongs to no placeholder, or a name that the host does not have.
pub(super) fn fill(text: &str) -> Result<String, String> {
    let filled = parts(text)?.into_iter().map(|part| match part {
        Part::Text(text) => Ok(escape(text)),
        Part::Placeholder("hostname") => Ok(escape(&hostname()?)),
        Part::Placeholder("machine-id") => machine_id(),
        Part::Placeholder(name) => Ok(format!("{{{name}}}")),
    });
    filled.collect()
}

/// The text of which [`parts`] makes `literal`.
fn escape(literal: &str) -> String {
    literal.replace('{', "{{").replace('}', "}}")
}

/// The system's host name at the start. A reload does not change the identity.
fn hostname() -> Result<String, String> {
    static AT_START: OnceLock<Result<String, String>> = OnceLock::new();
    let hostname = || {
        let name = rustix::system::uname().nodename().to_str().map(str::to_owned);
        name.map_err(|_| "the system's host name is not UTF-8".to_owned())
    };
    AT_START.get_or_init(hostname).clone()
}

/// The machine id at the start, as [`hostname`].
fn machine_id() -> Result<String, String> {
    static AT_START: OnceLock<Result<String, String>> = OnceLock::new();
    AT_START.get_or_init(read_machine_id).clone()
}

fn read_machine_id() -> Result<String, String> {
    let text = fs::read_to_string(MACHINE_ID).map_err(|error| format!("{MACHINE_ID}: {error}"))?;
    let id = text.trim_end();
    // Before the first boot of an image it is empty or "uninitialized".
    if is_machine_id(id) {
        Ok(id.to_owned())
    } else {
        Err(format!("{MACHINE_ID} holds no machine id"))
    }
}

fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_placeholders() {
        let (text, placeholder) = (Part::Text, Part::Placeholder);
        for (whole, cut) in [
            ("", vec![]),
            ("etl-1", vec![text("etl-1")]),
            ("{hostname}", vec![placeholder("hostname")]),
            (
                "etl@{machine-id}/{instance-id}",
                vec![
                    text("etl@"),
                    placeholder("machine-id"),
                    text("/"),
                    placeholder("instance-id"),
                ],
            ),
            (
                "{public-hostname}{local-hostname}é",
                vec![placeholder("public-hostname"), placeholder("local-hostname"), text("é")],
            ),
        ] {
            assert_eq!(parts(whole), Ok(cut), "{whole}");
        }
    }

    #[test]
    fn doubled_braces_are_literal() {
        let literal = |text: &str| -> String {
            let texts = parts(text).unwrap().into_iter().map(|part| match part {
                Part::Text(text) => text.to_owned(),
                Part::Placeholder(placeholder) => format!("<{placeholder}>"),
            });
            texts.collect()
        };
        for (text, expected) in [
            ("job{{1}}", "job{1}"),
            ("{{", "{"),
            ("}}{{", "}{"),
            ("{{hostname}}", "{hostname}"),
            ("{{{hostname}}}", "{<hostname>}"),
            ("{{{{hostname}}}}", "{{hostname}}"),
        ] {
            assert_eq!(literal(text), expected);
        }
        for text in ["", "etl", "a{b}}c{{{", "{hostname}"] {
            assert_eq!(literal(&escape(text)), text);
        }
    }

    #[test]
    fn other_braces_are_refused_by_name() {
        for (text, named) in [
            ("a{host}b", "\"{host}\""),
            ("{Hostname}", "\"{Hostname}\""),
            ("{}", "\"{}\""),
            ("a{hostname", "\"{hostname\""),
            ("a}b", "\"}\""),
            ("{{hostname}", "\"}\""),
            ("{{{hostname}}", "\"}\""),
        ] {
            let error = parts(text).unwrap_err();
            assert!(error.starts_with(named), "{text}: {error}");
            assert!(error.contains("{instance-id}"), "{text}: {error}");
        }
    }

    #[test]
    fn a_machine_id_is_a_number_of_32_hexadecimal_digits() {
        assert!(is_machine_id("0123456789abcdef0123456789abcdef"));
        for text in ["", "uninitialized", "0123456789abcdef", &"x".repeat(32), &"0".repeat(33)] {
            assert!(!is_machine_id(text), "{text}");
        }
    }

    #[test]
    fn the_host_fills_in_its_own_placeholders() {
        let name = hostname().unwrap();
        assert_eq!(fill("a {hostname} b"), Ok(format!("a {name} b")));
        let text = fs::read_to_string(MACHINE_ID).unwrap_or_default();
        match fill("{machine-id}") {
            Ok(id) => assert_eq!(id, text.trim_end()),
            Err(reason) => {
                assert!(reason.starts_with(MACHINE_ID), "{reason}");
                assert!(!is_machine_id(text.trim_end()), "{text}");
            }
        }
        for unchanged in ["{instance-id}/{public-hostname}", "{{hostname}}", "a{{}}b"] {
            assert_eq!(fill(unchanged), Ok(unchanged.into()));
        }
    }
}
