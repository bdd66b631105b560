//! `taskbeat once`: one heartbeat, one answer.

use serde_json::json;

use super::{Failure, load, runtime, start_log};
use crate::aws::{Connection, DataPipeline};
use crate::config::Options;
use crate::core::{Answer, Class, Exit};
use crate::daemon::Service;

pub(super) fn once(options: &Options) -> Result<Exit, Failure> {
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
        Answer::Acknowledged { terminate } => {
            println!("{}", json!({ "terminate": terminate }));
            Ok(if terminate { Exit::TERMINATE } else { Exit::OK })
        }
        Answer::Failed(fault) => Err(Failure::new(
            match fault.class {
                Class::Rejected => Exit::REJECTED,
                Class::Transient | Class::Throttled => Exit::UNAVAILABLE,
            },
            &reply.said,
        )),
    }
}
