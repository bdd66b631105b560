//! `taskbeat check`: the settings in force, and with `--online` the access that they lead to.

use super::shared::{CliError, load, print, print_error, runtime};
use crate::aws::Connection;
use crate::config::Options;
use crate::core::Exit;

pub(super) fn check(options: &Options, online: bool) -> Result<Exit, CliError> {
    let config = load(options)?;
    print(&config.listing)?;
    for warning in config.settings.warnings() {
        print_error(&format_args!("warning: {warning}"));
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
            print(&format_args!("online: {identity}\n"))?;
        }
        print(&format_args!("online: {access}\n"))?;
    }
    Ok(Exit::OK)
}
