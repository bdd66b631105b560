//! What the loop needs of its surroundings.

use crate::config::Identity;
use crate::core::{Outcome, Policy};

/// Sends heartbeats.
pub(crate) trait Service {
    /// Sends a heartbeat, with a new client if `renew`. A heartbeat in flight is given up.
    fn send(&mut self, renew: bool);

    /// Gives up the heartbeat in flight.
    fn abandon(&mut self);

    /// Waits for the end of the heartbeat in flight; for ever if there is none. Cancel safe.
    fn response(&mut self) -> impl Future<Output = Response>;

    /// The identity that heartbeats have, with placeholders until the first of them is sent.
    fn identity(&self) -> &Identity;
}

/// How a heartbeat ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// What decisions depend on.
    pub(crate) outcome: Outcome,
    /// Why it failed, in one line; empty if it was acknowledged.
    pub(crate) message: String,
    /// The service's error code, else the HTTP status; `None` without a failed response.
    pub(crate) code: Option<String>,
    /// The service's id of the request.
    pub(crate) request_id: Option<String>,
}

/// Reads the settings again, outside of the loop.
pub(crate) trait Reload<S> {
    /// The settings as they were read, or why they cannot be used.
    type Settings;

    /// Begins to read the settings. If they are being read already, they are read once more.
    fn begin(&mut self);

    /// Waits until they are read; for ever if they are not being read. Cancel safe.
    fn settings(&mut self) -> impl Future<Output = Self::Settings>;

    /// Applies all of them, or none. Returns those of the core; `None` if they are refused.
    fn apply(&mut self, settings: Self::Settings, service: &mut S) -> Option<Policy>;
}

/// A daemon that ignores reloads.
pub(crate) struct NoReload;

impl<S> Reload<S> for NoReload {
    type Settings = std::convert::Infallible;

    fn begin(&mut self) {}

    async fn settings(&mut self) -> Self::Settings {
        std::future::pending().await
    }

    fn apply(&mut self, settings: Self::Settings, _: &mut S) -> Option<Policy> {
        match settings {}
    }
}
