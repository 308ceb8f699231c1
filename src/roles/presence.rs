//! A node says that it is there: its details, which stay, and a sign of life under a lease, which goes with it.
//!
//! A planned stop says so: the details become `down`, so that nothing new is placed on the node, and the lease is
//! given back, so that nobody waits for it to expire. A node that is killed does neither: its lease
//! ends by itself, and its ranges stay its own.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::coordination::values::{NodeDetails, NodeStatus, from_json, to_json};
use crate::coordination::{Compare, Coordinator, Error, LeaseId, Operation, layout};
use crate::domain::ids::NodeId;

/// How long a stop waits for the coordinator to be told.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A running sign of life.
pub struct Presence {
    node: NodeId,
    coordinator: Arc<dyn Coordinator>,
    lease: Arc<Mutex<Option<LeaseId>>>,
    task: JoinHandle<()>,
}

impl Presence {
    /// Says `okay` under these details, and keeps a lease of so many seconds alive until it leaves.
    pub fn begin(node: NodeId, details: NodeDetails, seconds: u32, coordinator: Arc<dyn Coordinator>) -> Self {
        let lease = Arc::new(Mutex::new(None));
        let task = tokio::spawn(stay(node, details, seconds, coordinator.clone(), lease.clone()));
        Self { node, coordinator, lease, task }
    }

    /// Says that the node was stopped as planned, and gives the lease back. Does not wait for a coordinator that is away.
    pub async fn leave(self) {
        self.task.abort();
        let told = async {
            say_down(&*self.coordinator, self.node).await?;
            let lease = self.lease.lock().take();
            match lease {
                Some(lease) => self.coordinator.lease_revoke(lease).await,
                None => Ok(()),
            }
        };
        match tokio::time::timeout(LEAVE_TIMEOUT, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the coordinator was not told that the node stops"),
            Err(_) => tracing::warn!("the coordinator was not told in time that the node stops"),
        }
    }
}

async fn say_down(coordinator: &dyn Coordinator, node: NodeId) -> Result<(), Error> {
    let key = layout::node_details(node);
    let Some(entry) = coordinator.get(&key).await? else { return Ok(()) };
    let Ok(details) = from_json::<NodeDetails>(&entry.value) else { return Ok(()) };
    let down = NodeDetails { status: NodeStatus::Down, ..details };
    // Where control writes in the same moment, what it says holds.
    coordinator
        .transact(vec![Compare::unchanged(&key, Some(&entry))], vec![Operation::put(&key, to_json(&down))])
        .await?;
    Ok(())
}

async fn stay(
    node: NodeId,
    details: NodeDetails,
    seconds: u32,
    coordinator: Arc<dyn Coordinator>,
    held: Arc<Mutex<Option<LeaseId>>>,
) {
    let mut published = false;
    loop {
        if !published {
            let details = NodeDetails { status: NodeStatus::Okay, ..details.clone() };
            published = coordinator.put(&layout::node_details(node), to_json(&details), None).await.is_ok();
        }
        if published && let Ok(lease) = coordinator.lease_grant(seconds).await {
            *held.lock() = Some(lease);
            let alive = coordinator.put(&layout::node_alive(node), "{}".into(), Some(lease)).await;
            while alive.is_ok() && coordinator.lease_keep_alive(lease).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(u64::from(seconds / 3).max(1))).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::Writer;
    use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};

    #[tokio::test]
    async fn a_planned_stop_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let node = NodeId::from_bytes([1; 16]);
        let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Node(node)));
        let details: NodeDetails = from_json(br#"{"status":"down","uri":"http://n:1/"}"#).unwrap();
        let status = async || {
            let entry = coordinator.get(&layout::node_details(node)).await.unwrap();
            entry.map(|entry| from_json::<NodeDetails>(&entry.value).unwrap().status)
        };
        let alive = async || coordinator.get(&layout::node_alive(node)).await.unwrap().is_some();
        let presence = Presence::begin(node, details, 10, coordinator.clone());
        let until_alive = async {
            while !alive().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), until_alive).await.expect("it says that it lives");
        assert_eq!(status().await, Some(NodeStatus::Okay));
        presence.leave().await;
        assert_eq!((status().await, alive().await), (Some(NodeStatus::Down), false));
    }
}
