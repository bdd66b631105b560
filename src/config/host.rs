//! The placeholders that the host itself can fill in.

use std::fs;

use super::placeholders::{Part, Placeholder, escape, parts};

/// Written by the system at its first boot; see machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// The text with `{hostname}` and `{machine-id}` replaced. It is still a text of placeholders: the
/// others stay, and literal braces stay doubled.
///
/// # Errors
///
/// A brace that belongs to no placeholder, or a name that the host does not have.
pub(super) fn fill(text: &str) -> Result<String, String> {
    let parts = parts(text)?;
    let texts = parts.into_iter().map(|part| match part {
        Part::Text(text) => Ok(escape(text)),
        Part::Placeholder(Placeholder::Hostname) => Ok(escape(&hostname()?)),
        Part::Placeholder(Placeholder::MachineId) => machine_id(),
        Part::Placeholder(
            other @ (Placeholder::InstanceId
            | Placeholder::PublicHostname
            | Placeholder::LocalHostname),
        ) => Ok(other.to_string()),
    });
    texts.collect()
}

fn hostname() -> Result<String, String> {
    let name = rustix::system::uname().nodename().to_str().map(str::to_owned);
    name.map_err(|_| "the system's host name is not UTF-8".to_owned())
}

fn machine_id() -> Result<String, String> {
    let text = fs::read_to_string(MACHINE_ID).map_err(|error| format!("{MACHINE_ID}: {error}"))?;
    let id = text.trim_end();
    // Before the first boot of an image it is empty or "uninitialized".
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(id.to_owned())
    } else {
        Err(format!("{MACHINE_ID} holds no machine id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_fills_in_its_own_placeholders() {
        let name = hostname().unwrap();
        assert_eq!(fill("a {hostname} b"), Ok(format!("a {name} b")));
        match machine_id() {
            Ok(id) => assert_eq!(fill("{machine-id}"), Ok(id)),
            Err(reason) => assert!(reason.starts_with(MACHINE_ID), "{reason}"),
        }
        for unchanged in ["{instance-id}/{public-hostname}", "{{hostname}}", "a{{}}b"] {
            assert_eq!(fill(unchanged), Ok(unchanged.into()));
        }
    }
}
