//! AWS Data Pipeline: one heartbeat at a time, by the AWS SDK.
//!
//! ```text
//!   DataPipeline ──▶ attempt (a thread) ──▶ connect ──▶ profiles, credentials, trust
//!                                       └─▶ SDK ──▶ http_client ──▶ peer ──▶ service
//!                                       └─▶ validate, classify, messages ──▶ Response
//! ```

mod access;
mod attempt;
mod classify;
mod connect;
mod credentials;
mod http_client;
pub(crate) mod messages;
mod metadata;
mod peer;
mod process;
mod profiles;
#[cfg(test)]
mod tests;
mod trust;
mod validate;

use std::future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use aws_sdk_datapipeline::operation::RequestId;
use aws_sdk_datapipeline::operation::report_task_runner_heartbeat::ReportTaskRunnerHeartbeatOutput;
use tracing::debug;

pub(crate) use access::Access;
pub(crate) use connect::Connection;
pub(crate) use credentials::REHEARSAL_KEY;

use self::classify::HeartbeatError;
use self::connect::Client;
use self::messages::one_line;
use self::validate::Acknowledgement;
use crate::config::Identity;
use crate::core::{Failure, FailureClass, Outcome};
use crate::daemon::{Response, Service};

/// AWS Data Pipeline as the daemon sees it.
pub(crate) struct DataPipeline {
    connection: Connection,
    identity: Identity,
    /// What is kept for later heartbeats. Shared with the thread of the heartbeat in flight, which
    /// may be the first to have it.
    kept: Kept,
    in_flight: Option<InFlight>,
}

#[derive(Clone, Default)]
struct Kept {
    /// The identity without placeholders.
    identity: Arc<OnceLock<Identity>>,
    client: Arc<OnceLock<Client>>,
}

type InFlight = Pin<Box<dyn Future<Output = Result<Response, String>>>>;

impl DataPipeline {
    /// Reads and asks nothing before the first heartbeat.
    pub(crate) fn new(connection: Connection, identity: Identity) -> Self {
        Self { connection, identity, kept: Kept::default(), in_flight: None }
    }

    /// Uses `connection` from the next heartbeat on.
    pub(crate) fn reconnect(&mut self, connection: Connection) {
        self.connection = connection;
        self.kept.client = Arc::default();
    }
}

impl Service for DataPipeline {
    fn send(&mut self, renew: bool) {
        self.in_flight = None;
        // The SDK says only once why a profile has no credentials.
        let is_useless = |client: &Client| client.credentials.used().is_none();
        if renew || self.kept.client.get().is_some_and(is_useless) {
            self.kept.client = Arc::default();
        }
        let (connection, identity) = (self.connection.clone(), self.identity.clone());
        let (limit, kept) = (self.connection.limit, self.kept.clone());
        let heartbeat = async move || heartbeat(&connection, &identity, &kept).await;
        self.in_flight = Some(Box::pin(attempt::run(limit, heartbeat)));
    }

    fn abandon(&mut self) {
        self.in_flight = None;
    }

    async fn response(&mut self) -> Response {
        let Some(in_flight) = &mut self.in_flight else {
            return future::pending().await;
        };
        let response = in_flight.await;
        self.in_flight = None;
        // Without a response, the service may or may not have received the heartbeat.
        response.unwrap_or_else(|message| Response {
            outcome: Outcome::Failed(Failure { class: FailureClass::Transient, retry_after: None }),
            message,
            code: None,
            request_id: None,
        })
    }

    fn identity(&self) -> &Identity {
        self.kept.identity.get().unwrap_or(&self.identity)
    }
}

async fn heartbeat(
    connection: &Connection,
    identity: &Identity,
    kept: &Kept,
) -> Result<Response, String> {
    let identity = keep(&kept.identity, async || metadata::complete(identity).await).await?;
    let client = keep(&kept.client, async || connection.client().await).await?;
    let sent = client
        .sdk
        .report_task_runner_heartbeat()
        .taskrunner_id(identity.taskrunner_id)
        .set_worker_group(identity.worker_group)
        .hostname(identity.hostname)
        .customize()
        .interceptor(Acknowledgement)
        .send()
        .await;
    if let Some(source) = client.credentials.used() {
        debug!("heartbeat to {}, credentials from {source}", client.endpoint);
    }
    Ok(response(sent))
}

/// How the heartbeat ended. What others have sent is one line in it, of bounded length.
fn response(sent: Result<ReportTaskRunnerHeartbeatOutput, HeartbeatError>) -> Response {
    let request_id = |id: &dyn RequestId| id.request_id().map(one_line);
    match sent {
        Ok(output) => Response {
            outcome: Outcome::Acknowledged { terminate: output.terminate() },
            message: String::new(),
            code: None,
            request_id: request_id(&output),
        },
        Err(error) => Response {
            outcome: Outcome::Failed(classify::classify(&error)),
            message: messages::describe(&error),
            code: classify::code(&error).map(|code| one_line(&code)),
            request_id: request_id(&error),
        },
    }
}

/// What `kept` holds, else what `make` makes for it.
async fn keep<T: Clone>(
    kept: &OnceLock<T>,
    make: impl AsyncFnOnce() -> Result<T, String>,
) -> Result<T, String> {
    if let Some(known) = kept.get() {
        return Ok(known.clone());
    }
    let new = make().await?;
    Ok(kept.get_or_init(|| new).clone())
}
