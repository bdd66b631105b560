//! `taskbeat status`: what the running daemon last saw.

use serde_json::json;

use super::{CliError, load};
use crate::config::Options;
use crate::core::Exit;
use crate::status::ask;

pub(super) fn status(options: &Options, json: bool) -> Result<Exit, CliError> {
    let id = load(options)?.settings.identity.taskrunner_id;
    let snapshot = ask(&id)
        .map_err(|error| CliError::new(Exit::UNAVAILABLE, &format!("no answer: {error}")))?
        .ok_or_else(|| {
            let message = format!("nobody on this host reports taskrunner-id {id:?}");
            CliError::new(Exit::UNAVAILABLE, &message)
        })?;
    if json {
        println!("{}", json!(snapshot));
    } else {
        print!("{snapshot}");
    }
    Ok(if snapshot.in_contact {
        Exit::OK
    } else {
        Exit::UNAVAILABLE
    })
}
