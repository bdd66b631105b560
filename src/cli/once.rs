//! `taskbeat once`: one heartbeat, and its answer as JSON.

use serde_json::json;

use super::{CliError, load, runtime, start_log};
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
    let reply = runtime.block_on(async {
        service.send(false);
        service.answer().await
    });
    runtime.shutdown_background();
    match reply.answer {
        Outcome::Acknowledged { terminate } => {
            println!("{}", json!({ "terminate": terminate }));
            Ok(if terminate { Exit::TERMINATE } else { Exit::OK })
        }
        Outcome::Failed(fault) => Err(CliError::new(
            match fault.class {
                FailureClass::Rejected => Exit::REJECTED,
                FailureClass::Transient | FailureClass::Throttled => Exit::UNAVAILABLE,
            },
            &reply.message,
        )),
    }
}
