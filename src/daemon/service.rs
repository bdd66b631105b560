//! What the loop needs of a service.

use crate::core::Outcome;

/// Somewhere to send heartbeats to.
pub trait Service {
    /// Sends a heartbeat, with a new client if `renew`. An earlier one that is still in flight is forgotten.
    fn send(&mut self, renew: bool);

    /// Forgets the heartbeat in flight.
    fn abandon(&mut self);

    /// Waits for the answer to the heartbeat in flight; for ever when there is none. Cancel safe.
    fn answer(&mut self) -> impl Future<Output = Response>;
}

/// What became of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// What counts for decisions.
    pub answer: Outcome,
    /// What people want to know when it failed, in one line; empty when it was acknowledged.
    pub message: String,
    /// The service's name for the request.
    pub request_id: Option<String>,
}
