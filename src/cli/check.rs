//! `taskbeat check`: what would be done, and why.

use super::shared::{CliError, load, runtime};
use crate::aws::Connection;
use crate::config::Options;
use crate::core::Exit;

pub(super) fn check(options: &Options, online: bool) -> Result<Exit, CliError> {
    let config = load(options)?;
    print!("{}", config.listing);
    for warning in config.settings.warnings() {
        eprintln!("warning: {warning}");
    }
    if online {
        let settings = config.settings;
        let connection = Connection::new(settings.aws, settings.policy.interval);
        let runtime = runtime()?;
        let found = runtime.block_on(async {
            let identity = connection.identify(&settings.identity).await?;
            Ok::<_, String>((identity, connection.access().await?))
        });
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
