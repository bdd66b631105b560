//! `credential_process`: a command of a profile that prints credentials.

use std::io;
use std::process::Stdio;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::attempt::stage;
use crate::helpers::Helper;

/// Maximum length of the command's output, in bytes.
const LONGEST_OUTPUT: u64 = 64 * 1024;

/// The output, as the AWS CLI documents it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// The credentials that `command` of `profile` prints.
pub(super) async fn credentials(
    profile: String,
    command: String,
) -> Result<Credentials, CredentialsError> {
    let process = format!("credential_process of profile {profile}");
    stage(format!("running {process}"));
    let failed = |reason| CredentialsError::provider_error(format!("{process} {reason}"));
    run(&command).await.map_err(failed)
}

async fn run(command: &str) -> Result<Credentials, String> {
    let mut shell = Command::new("/bin/sh");
    // What it writes to stderr may hold secrets, and taskbeat's stderr is the log.
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let refused = |error: io::Error| format!("cannot be run: {error}");
    let mut child = Helper::spawn(&mut shell).map_err(refused)?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout() {
        let read = stdout.take(LONGEST_OUTPUT).read_to_end(&mut output).await;
        read.map_err(refused)?;
    }
    if u64::try_from(output.len()).is_ok_and(|length| length < LONGEST_OUTPUT) {
        let status = child.wait().await.map_err(refused)?;
        if !status.success() {
            return Err(format!("failed ({status})"));
        }
    }
    parse(&output).ok_or_else(|| "printed no credentials of version 1".to_owned())
}

fn parse(output: &[u8]) -> Option<Credentials> {
    let output: Output = serde_json::from_slice(output).ok()?;
    let expiration = match output.expiration {
        Some(time) => {
            let time = DateTime::from_str(&time, Format::DateTimeWithOffset).ok()?;
            Some(time.try_into().ok()?)
        }
        None => None,
    };
    let (id, secret) = (output.access_key_id, output.secret_access_key);
    let credentials = Credentials::new(id, secret, output.session_token, expiration, "process");
    (output.version == 1).then_some(credentials)
}
