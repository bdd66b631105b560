//! The placeholders of the identity: `{hostname}`, `{instance-id}` and their like.

use std::fmt;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{hostname}`: the system's host name.
    Hostname,
    /// `{machine-id}`: what `/etc/machine-id` says.
    MachineId,
    /// `{instance-id}`: the EC2 instance's id.
    InstanceId,
    /// `{public-hostname}`: the EC2 instance's public DNS name, where it has one.
    PublicHostname,
    /// `{local-hostname}`: the EC2 instance's private DNS name.
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

    /// Its name, without the braces. Those of EC2 are the metadata service's own.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As it is.
    Text(&'a str),
    /// To be replaced.
    Placeholder(Placeholder),
}

/// The parts of `text`.
///
/// # Errors
///
/// A brace that belongs to no placeholder: what it is, and which placeholders there are.
pub fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(brace);
        let end = after.find('}').map_or(after.len(), |end| end + 1);
        let (braces, after) = after.split_at(end);
        let named = Placeholder::ALL
            .into_iter()
            .find(|one| one.to_string() == braces);
        let placeholder = named.ok_or_else(|| {
            let all = Placeholder::ALL.map(|one| one.to_string()).join(", ");
            format!("{braces:?} is no placeholder, those are {all}")
        })?;
        parts.extend([Part::Text(before), Part::Placeholder(placeholder)]);
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_placeholders() {
        let placeholder = Part::Placeholder;
        for (text, cut) in [
            ("", vec![]),
            ("etl-1", vec![Part::Text("etl-1")]),
            ("{hostname}", vec![placeholder(Placeholder::Hostname)]),
            (
                "etl@{machine-id}/{instance-id}",
                vec![
                    Part::Text("etl@"),
                    placeholder(Placeholder::MachineId),
                    Part::Text("/"),
                    placeholder(Placeholder::InstanceId),
                ],
            ),
            (
                "{public-hostname}{local-hostname}é",
                vec![
                    placeholder(Placeholder::PublicHostname),
                    placeholder(Placeholder::LocalHostname),
                    Part::Text("é"),
                ],
            ),
        ] {
            assert_eq!(parts(text), Ok(cut), "{text}");
        }
    }

    #[test]
    fn other_braces_are_named() {
        for (text, named) in [
            ("a{host}b", "\"{host}\""),
            ("{Hostname}", "\"{Hostname}\""),
            ("{}", "\"{}\""),
            ("a{hostname", "\"{hostname\""),
            ("a}b", "\"}\""),
            ("{{hostname}}", "\"{{hostname}\""),
        ] {
            let error = parts(text).unwrap_err();
            assert!(error.starts_with(named), "{text}: {error}");
            assert!(error.contains("{instance-id}"), "{text}: {error}");
        }
    }
}
