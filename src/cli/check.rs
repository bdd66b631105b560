//! `taskbeat check`: what would be done, and why.

use super::{Failure, load, runtime};
use crate::aws::Connection;
use crate::config::{Options, listing};
use crate::core::Exit;

pub(super) fn check(options: &Options, online: bool) -> Result<Exit, Failure> {
    let config = load(options)?;
    print!("{}", listing(&config.inputs));
    for warning in config.settings.warnings() {
        eprintln!("warning: {warning}");
    }
    if online {
        let connection = Connection::new(config.settings.aws, config.settings.policy.interval);
        let runtime = runtime()?;
        let access = runtime.block_on(connection.access());
        runtime.shutdown_background();
        println!(
            "{}",
            access.map_err(|said| Failure::new(Exit::UNAVAILABLE, &said))?
        );
    }
    Ok(Exit::OK)
}
