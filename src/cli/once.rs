//! `taskbeat once`: one heartbeat, and its answer as JSON.

use serde_json::json;

use super::shared::{CliError, load, print_json, runtime, start_log};
use crate::aws::{Connection, DataPipeline};
use crate::config::Options;
use crate::core::{Exit, FailureClass, Outcome};
use crate::daemon::Service;

pub(super) fn once(options: &Options) -> Result<Exit, CliError> {
    let config = load(options)?;
    let _log = start_log(&config)?;
    let settings = config.settings;
    let connection = Connection::new(settings.aws, settings.policy.interval);
    let mut service = DataPipeline::new(connection, settings.identity);
    let runtime = runtime()?;
    let response = runtime.block_on(async {
        service.send(false);
        service.response().await
    });
    runtime.shutdown_background();
    match response.outcome {
        Outcome::Acknowledged { terminate } => {
            print_json(&json!({ "terminate": terminate }))?;
            Ok(if terminate { Exit::TERMINATE } else { Exit::OK })
        }
        Outcome::Failed(failure) => Err(CliError::new(
            match failure.class {
                FailureClass::Rejected => Exit::REJECTED,
                FailureClass::Transient | FailureClass::Throttled => Exit::UNAVAILABLE,
            },
            &response.message,
        )),
    }
}
