//! `credential_process`: a command of a profile that prints credentials.

use std::process::{ExitStatus, Stdio};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::attempt::stage;
use crate::children::Child;

/// Maximum length of the command's output, in bytes.
const LONGEST_OUTPUT: u64 = 64 * 1024;

/// The command, and the profile that has it.
#[derive(Debug)]
pub(super) struct CredentialProcess {
    pub(super) profile: String,
    pub(super) command: String,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot run /bin/sh: {0}")]
    Start(std::io::Error),
    #[error("failed ({0})")]
    Status(ExitStatus),
    #[error("printed no credentials of version 1")]
    Output,
}

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

impl CredentialProcess {
    async fn credentials(&self) -> Result<Credentials, Failure> {
        stage(format!(
            "running credential_process of profile {}",
            self.profile
        ));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &self.command]).stdin(Stdio::null());
        // What it writes to stderr may hold secrets, and taskbeat's stderr is the log.
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Child::spawn(&mut command).map_err(Failure::Start)?;
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout() {
            let read = stdout.take(LONGEST_OUTPUT).read_to_end(&mut output).await;
            read.map_err(|_| Failure::Output)?;
        }
        if u64::try_from(output.len()).is_ok_and(|length| length == LONGEST_OUTPUT) {
            return Err(Failure::Output);
        }
        let status = child.wait().await.map_err(Failure::Start)?;
        if !status.success() {
            return Err(Failure::Status(status));
        }
        parse(&output).ok_or(Failure::Output)
    }
}

impl ProvideCredentials for CredentialProcess {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.credentials().await;
            credentials.map_err(|failure| {
                let profile = &self.profile;
                let reason = format!("credential_process of profile {profile} {failure}");
                CredentialsError::provider_error(reason)
            })
        })
    }
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
