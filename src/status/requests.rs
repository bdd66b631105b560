//! How the servers ask the loop for snapshots.

use tokio::sync::{mpsc, oneshot};

use super::Snapshot;

/// Where the loop sends the snapshot for a request.
pub(crate) type SnapshotRequest = oneshot::Sender<Snapshot>;

/// The loop's end. Without servers, no request comes.
pub(crate) type Requests = mpsc::Receiver<SnapshotRequest>;

/// The servers' end.
#[derive(Clone)]
pub(crate) struct Snapshots(mpsc::Sender<SnapshotRequest>);

impl Snapshots {
    /// Both ends.
    pub(crate) fn channel() -> (Self, Requests) {
        let (sender, requests) = mpsc::channel(1);
        (Self(sender), requests)
    }

    /// Waits for a snapshot. `None` while taskbeat exits.
    pub(super) async fn take(&self) -> Option<Snapshot> {
        let (sender, snapshot) = oneshot::channel();
        self.0.send(sender).await.ok()?;
        snapshot.await.ok()
    }
}
