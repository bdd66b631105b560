//! `taskbeat status`: prints the state of the running daemon.

use serde_json::json;

use super::shared::{CliError, load, print};
use crate::config::Options;
use crate::core::Exit;
use crate::status::{AskError, Reply, ask};

pub(super) fn status(options: &Options, json: bool) -> Result<Exit, CliError> {
    let id = load(options)?.settings.identity.taskrunner_id;
    let reply = match ask(&id) {
        Ok(reply) => reply,
        Err(error) => {
            if json {
                let running = !matches!(error, AskError::NotRunning(_));
                let reply = json!({
                    "running": running, "in_contact": false, "error": error.to_string(),
                });
                print(&format_args!("{reply}\n"))?;
            }
            return Err(CliError::new(Exit::UNAVAILABLE, &error));
        }
    };
    match &reply {
        _ if json => print(&format_args!("{}\n", json!(reply)))?,
        Reply::Full(snapshot) => print(snapshot)?,
        Reply::Contact { in_contact } => {
            let contact = if *in_contact { "yes" } else { "NO" };
            print(&format_args!(
                "in contact    {contact} (ask as root or as taskbeat's user for more)\n"
            ))?;
        }
    }
    Ok(if reply.in_contact() { Exit::OK } else { Exit::UNAVAILABLE })
}
