//! `taskbeat check`: what a start would do, and with `--online` the access that a heartbeat would
//! have. It starts nothing and sends nothing to the service.

mod facts;

use std::fmt;

use serde::Serialize;
use serde_json::json;

use self::facts::{HostFacts, RunnerFacts};
use super::shared::{CliError, load, print, print_json, runtime};
use crate::aws::{Access, Connection};
use crate::config::{Identity, Listing, Options, Warning};
use crate::core::Exit;

/// Displayed, it is a paragraph for each field.
#[derive(Serialize)]
struct Diagnosis {
    version: &'static str,
    settings: Listing,
    runner: RunnerFacts,
    host: HostFacts,
    warnings: Vec<Warning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<Online>,
}

/// What the network says.
#[derive(Serialize)]
#[serde(untagged)]
enum Online {
    /// The identity without placeholders, and what its heartbeats would be sent with.
    Found {
        identity: Identity,
        access: Box<Access>,
    },
    Failed {
        error: String,
    },
}

pub(super) fn check(
    options: &Options,
    online: bool,
    json: bool,
    quiet: bool,
) -> Result<Exit, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let config = match load(options) {
        Err(errors) if json => {
            let lines: Vec<&str> = errors.message.lines().collect();
            print_json(&json!({ "version": version, "errors": lines }))?;
            return Err(errors);
        }
        config => config?,
    };
    let (settings, runtime) = (config.settings, runtime()?);
    let mut warnings = settings.warnings();
    let runner = runtime.block_on(RunnerFacts::find(&settings.runner.target, &mut warnings));
    let host = HostFacts::find(&mut warnings);
    let mut diagnosis =
        Diagnosis { version, settings: config.listing, runner, host, warnings, online: None };
    let mut exit = Ok(Exit::OK);
    if online {
        let connection = Connection::new(settings.aws, settings.policy.interval);
        let found = runtime.block_on(connection.check(&settings.identity));
        diagnosis.online = Some(match found {
            Ok((identity, access, warnings)) => {
                diagnosis.warnings.extend(warnings);
                Online::Found { identity, access: access.into() }
            }
            Err(error) => {
                exit = Err(CliError::new(Exit::UNAVAILABLE, &error));
                Online::Failed { error }
            }
        });
    }
    runtime.shutdown_background();
    match (json, quiet) {
        (true, _) => print_json(&diagnosis)?,
        (false, false) => print(&diagnosis)?,
        (false, true) => {}
    }
    exit
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.settings, self.runner, self.host)?;
        for Warning { problem, remedy } in &self.warnings {
            writeln!(f, "warning: {problem}\n         {remedy}\n")?;
        }
        match &self.online {
            Some(Online::Found { identity, access }) => {
                write!(f, "sends               {identity}\n{access}")
            }
            // The error goes to stderr.
            Some(Online::Failed { .. }) | None => Ok(()),
        }
    }
}
