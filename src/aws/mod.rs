//! AWS Data Pipeline: one heartbeat at a time, by the AWS SDK.
//!
//! ```text
//!   DataPipeline ──▶ attempt (a thread) ──▶ connect ──▶ profiles, credentials, trust, resolve
//!                                       └─▶ SDK ──▶ http_client ──▶ resolve ──▶ service
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
mod process;
mod profiles;
mod resolve;
mod trust;
mod validate;

use std::future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use aws_sdk_datapipeline::error::SdkError;
use aws_sdk_datapipeline::operation::RequestId;
use aws_sdk_datapipeline::operation::report_task_runner_heartbeat::ReportTaskRunnerHeartbeatError;

pub(crate) use connect::Connection;

use self::connect::{Client, advised};
use self::http_client::HttpError;
use self::resolve::Unreachable;
use self::validate::Acknowledgement;
use crate::config::Identity;
use crate::core::{Failure, FailureClass, Outcome};
use crate::daemon::{Response, Service};
use crate::helpers;

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

type InFlight = Pin<Box<dyn Future<Output = Result<Report, String>>>>;

/// What the thread of a heartbeat reports.
struct Report {
    response: Response,
    /// True if another trust store might help.
    untrusted: bool,
}

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
        self.abandon();
        if renew {
            self.kept.client = Arc::default();
        }
        let (connection, identity) = (self.connection.clone(), self.identity.clone());
        let (limit, kept) = (self.connection.limit(), self.kept.clone());
        let heartbeat = async move || heartbeat(&connection, &identity, &kept).await;
        self.in_flight = Some(Box::pin(attempt::run(limit, heartbeat)));
    }

    fn abandon(&mut self) {
        self.in_flight = None;
        // Its thread would do so, too, but later.
        helpers::kill_all();
    }

    async fn answer(&mut self) -> Response {
        let Some(in_flight) = &mut self.in_flight else {
            return future::pending().await;
        };
        let report = in_flight.await;
        self.in_flight = None;
        let report = report.unwrap_or_else(Report::no_response);
        if report.untrusted {
            self.kept.client = Arc::default();
        }
        report.response
    }
}

impl Drop for DataPipeline {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Report {
    /// No response arrived. The service may or may not have received the heartbeat.
    fn no_response(message: String) -> Self {
        let failure = Failure { class: FailureClass::Transient, retry_after: None };
        Self {
            response: Response { outcome: Outcome::Failed(failure), message, request_id: None },
            untrusted: false,
        }
    }

    fn failed(error: &SdkError<ReportTaskRunnerHeartbeatError>, advice: Option<&str>) -> Self {
        let cause = messages::cause::<HttpError>(error);
        let has_no_address = matches!(cause, Some(HttpError::Unreachable(Unreachable::Name(..))));
        Self {
            untrusted: matches!(cause, Some(HttpError::Untrusted(_))),
            response: Response {
                outcome: Outcome::Failed(classify::classify(error)),
                message: advised(messages::describe(error), advice.filter(|_| has_no_address)),
                request_id: error.request_id().map(str::to_owned),
            },
        }
    }
}

impl Kept {
    async fn identity(
        &self,
        connection: &Connection,
        given: &Identity,
    ) -> Result<Identity, String> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity.clone());
        }
        let identity = connection.identify(given).await?;
        Ok(self.identity.get_or_init(|| identity).clone())
    }

    async fn client(&self, connection: &Connection) -> Result<Client, String> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = connection.client().await?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

async fn heartbeat(
    connection: &Connection,
    identity: &Identity,
    kept: &Kept,
) -> Result<Report, String> {
    let identity = kept.identity(connection, identity).await?;
    let client = kept.client(connection).await?;
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
    Ok(match sent {
        Ok(output) => Report {
            response: Response {
                outcome: Outcome::Acknowledged { terminate: output.terminate() },
                message: String::new(),
                request_id: output.request_id().map(str::to_owned),
            },
            untrusted: false,
        },
        Err(error) => Report::failed(&error, client.advice),
    })
}
