//! The service: one heartbeat at a time, through the AWS SDK.

mod classify;
mod connect;
mod http_client;
pub(crate) mod messages;
mod metadata;
mod trust;
mod validate;

use std::any::Any;
use std::future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;

use aws_sdk_datapipeline::Client;
use aws_sdk_datapipeline::operation::RequestId;
use futures_util::FutureExt;
use tokio::sync::OnceCell;

pub use connect::{Access, Connection};

use self::validate::Genuine;
use crate::config::Identity;
use crate::core::{Failure, FailureClass, Outcome};
use crate::daemon::{Response, Service};

/// AWS Data Pipeline, as far as heartbeats go. One client serves many heartbeats, at most one at a time.
pub struct DataPipeline {
    connection: Connection,
    identity: Identity,
    /// The identity without placeholders, from the first heartbeat on for which they were known.
    complete: Rc<OnceCell<Identity>>,
    client: Option<Client>,
    /// Whether a certificate was not trusted, so that the SDK's knowledge of authorities may be old.
    distrust: bool,
    /// Whether the heartbeat in flight goes a way that is not to be gone again.
    outdated: bool,
    in_flight: Option<InFlight>,
}

type InFlight = Pin<Box<dyn Future<Output = (Option<Client>, Response)>>>;

impl DataPipeline {
    /// Nothing is read and nobody is asked before the first heartbeat.
    #[must_use]
    pub fn new(connection: Connection, identity: Identity) -> Self {
        Self {
            connection,
            identity,
            complete: Rc::default(),
            client: None,
            distrust: false,
            outdated: false,
            in_flight: None,
        }
    }
}

impl DataPipeline {
    /// Goes another way from the next heartbeat on.
    pub fn reconnect(&mut self, connection: Connection) {
        self.connection = connection;
        self.client = None;
        self.outdated = true;
    }
}

impl Service for DataPipeline {
    fn send(&mut self, renew: bool) {
        let client = self.client.take().filter(|_| !renew);
        self.outdated = false;
        let heartbeat = heartbeat(
            client,
            self.connection.clone(),
            self.distrust,
            self.identity.clone(),
            Rc::clone(&self.complete),
        );
        let heartbeat = AssertUnwindSafe(heartbeat).catch_unwind();
        self.in_flight = Some(Box::pin(async {
            // Whatever panics below is no reason to leave the runner without heartbeats; the runtime does when a name is
            // to be looked up and the kernel refuses the thread for it.
            let broken = |panic: Box<dyn Any + Send>| (None, unheard(messages::panicked(&*panic)));
            heartbeat.await.unwrap_or_else(broken)
        }));
    }

    fn abandon(&mut self) {
        self.in_flight = None;
    }

    async fn answer(&mut self) -> Response {
        let Some(in_flight) = &mut self.in_flight else {
            return future::pending().await;
        };
        let (client, reply) = in_flight.await;
        self.in_flight = None;
        self.distrust |= trust::is_distrust(&reply.message);
        self.client = client.filter(|_| !self.outdated);
        reply
    }
}

/// One heartbeat, with `client` or a new one. The client is handed back for the next.
async fn heartbeat(
    client: Option<Client>,
    connection: Connection,
    distrust: bool,
    identity: Identity,
    complete: Rc<OnceCell<Identity>>,
) -> (Option<Client>, Response) {
    let ask = || connection.identify(&identity);
    let identity = match complete.get_or_try_init(ask).await {
        Ok(complete) => complete,
        Err(message) => return (client, unheard(message)),
    };
    let client = match client {
        Some(client) => client,
        None => match connection.client(distrust).await {
            Ok(client) => client,
            Err(message) => return (None, unheard(message)),
        },
    };
    let sent = client
        .report_task_runner_heartbeat()
        .taskrunner_id(&identity.taskrunner_id)
        .set_worker_group(identity.worker_group.clone())
        .hostname(&identity.hostname)
        .customize()
        .interceptor(Genuine)
        .send()
        .await;
    let reply = match sent {
        Ok(output) => Response {
            outcome: Outcome::Acknowledged {
                terminate: output.terminate(),
            },
            message: String::new(),
            request_id: output.request_id().map(str::to_owned),
        },
        Err(error) => Response {
            outcome: Outcome::Failed(classify::classify(&error)),
            message: messages::describe(&error),
            request_id: error.request_id().map(str::to_owned),
        },
    };
    (Some(client), reply)
}

/// The service was not even asked.
fn unheard(message: String) -> Response {
    Response {
        outcome: Outcome::Failed(Failure {
            class: FailureClass::Transient,
            retry_after: None,
        }),
        message,
        request_id: None,
    }
}
