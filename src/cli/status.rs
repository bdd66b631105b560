//! `taskbeat status`: prints the state of the running daemon.

use std::fmt::Display;

use serde_json::json;

use super::args::StatusFormat;
use super::shared::{CliError, load, print, runtime};
use crate::config::Options;
use crate::core::Exit;
use crate::status::{AskError, StatusReply, ask, openmetrics};

pub(super) fn status(options: &Options, format: StatusFormat) -> Result<Exit, CliError> {
    let id = load(options)?.settings.identity.taskrunner_id;
    let unavailable = |error: &dyn Display| Err(CliError::new(Exit::UNAVAILABLE, &error));
    let reply = match runtime()?.block_on(ask(&id)) {
        Ok(reply) => reply,
        Err(error) => {
            if format == StatusFormat::Json {
                let running = !matches!(error, AskError::NotRunning(_));
                let reply = json!({
                    "running": running, "in_contact": false, "error": error.to_string(),
                });
                print(&format_args!("{reply}\n"))?;
            }
            return unavailable(&error);
        }
    };
    match (format, &reply) {
        (StatusFormat::Json, _) => print(&format_args!("{}\n", json!(reply)))?,
        (StatusFormat::Text, StatusReply::Full(snapshot)) => print(snapshot)?,
        (StatusFormat::OpenMetrics, StatusReply::Full(snapshot)) => print(&openmetrics(snapshot))?,
        (StatusFormat::Text, StatusReply::Contact { in_contact }) => {
            let contact = if *in_contact { "yes" } else { "NO" };
            print(&format_args!(
                "in contact    {contact} (ask as root or as taskbeat's user for more)\n"
            ))?;
        }
        (StatusFormat::OpenMetrics, StatusReply::Contact { .. }) => {
            return unavailable(&"only root and taskbeat's user may read the metrics");
        }
    }
    Ok(if reply.in_contact() { Exit::OK } else { Exit::UNAVAILABLE })
}
