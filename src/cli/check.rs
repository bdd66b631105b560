//! `taskbeat check`: the settings in force, and with `--online` the access that they lead to.

use super::{CliError, load, runtime};
use crate::aws::Connection;
use crate::config::{Options, listing};
use crate::core::Exit;

pub(super) fn check(options: &Options, online: bool) -> Result<Exit, CliError> {
    let config = load(options)?;
    print!("{}", listing(&config.inputs));
    for warning in config.settings.warnings() {
        eprintln!("warning: {warning}");
    }
    if online {
        let settings = config.settings;
        let connection = Connection::new(settings.aws, settings.policy.interval);
        let runtime = runtime()?;
        let found = runtime.block_on(connection.check(&settings.identity));
        runtime.shutdown_background();
        let (identity, access) =
            found.map_err(|message| CliError::new(Exit::UNAVAILABLE, &message))?;
        if identity != settings.identity {
            println!("online: {identity}");
        }
        println!("online: {access}");
    }
    Ok(Exit::OK)
}
