//! The placeholders of the identity: `{hostname}`, `{instance-id}` and the others.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// The system's host name.
    Hostname,
    /// The id in `/etc/machine-id`.
    MachineId,
    /// The EC2 instance's id.
    InstanceId,
    /// The EC2 instance's public DNS name, if it has one.
    PublicHostname,
    /// The EC2 instance's private DNS name.
    LocalHostname,
}

impl Placeholder {
    const ALL: [Self; 5] = [
        Self::Hostname,
        Self::MachineId,
        Self::InstanceId,
        Self::PublicHostname,
        Self::LocalHostname,
    ];

    /// The text between the braces. For EC2 it is also the metadata service's own name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hostname => "hostname",
            Self::MachineId => "machine-id",
            Self::InstanceId => "instance-id",
            Self::PublicHostname => "public-hostname",
            Self::LocalHostname => "local-hostname",
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.name())
    }
}

/// A part of a text that may hold placeholders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Literal text.
    Text(&'a str),
    Placeholder(Placeholder),
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
            (Part::Placeholder(placeholder(&after[..end])?), end)
        };
        parts.push(part);
        rest = &after[end..];
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    Ok(parts)
}

fn placeholder(braced: &str) -> Result<Placeholder, String> {
    let mut all = Placeholder::ALL.into_iter();
    all.find(|one| one.to_string() == braced).ok_or_else(|| {
        let all = Placeholder::ALL.map(|one| one.to_string()).join(", ");
        format!("{braced:?} is no placeholder; use one of {all}, or {{{{ and }}}} as braces")
    })
}

/// The text of which [`parts`] makes `literal`.
pub(super) fn escape(literal: &str) -> String {
    literal.replace('{', "{{").replace('}', "}}")
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
            ("{hostname}", vec![placeholder(Placeholder::Hostname)]),
            (
                "etl@{machine-id}/{instance-id}",
                vec![
                    text("etl@"),
                    placeholder(Placeholder::MachineId),
                    text("/"),
                    placeholder(Placeholder::InstanceId),
                ],
            ),
            (
                "{public-hostname}{local-hostname}é",
                vec![
                    placeholder(Placeholder::PublicHostname),
                    placeholder(Placeholder::LocalHostname),
                    text("é"),
                ],
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
                Part::Placeholder(placeholder) => format!("<{}>", placeholder.name()),
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
}
