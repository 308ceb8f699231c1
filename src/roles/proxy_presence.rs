//! A proxy says that it is there and where other components reach it: one key under a lease, which goes with it. Nodes have
//! details that stay, because data stands on them; of a proxy that is gone there is nothing to know.
//!
//! A planned stop gives the lease back, so that nobody asks it in vain.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::coordination::values::{ProxyAlive, to_json};
use crate::coordination::{Coordinator, LeaseId, layout};
use crate::domain::ids::ProxyId;

/// Seconds without a sign of life after which the key goes.
const LEASE_SECONDS: u32 = 10;
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a stop waits for the coordinator.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A running sign of life.
pub struct ProxyPresence {
    coordinator: Arc<dyn Coordinator>,
    lease: Arc<Mutex<Option<LeaseId>>>,
    task: JoinHandle<()>,
}

impl ProxyPresence {
    /// Says so until it leaves.
    pub fn begin(proxy: ProxyId, alive: ProxyAlive, coordinator: Arc<dyn Coordinator>) -> Self {
        let lease = Arc::default();
        let task = tokio::spawn(stay(proxy, alive, Arc::clone(&coordinator), Arc::clone(&lease)));
        Self { coordinator, lease, task }
    }

    /// Gives the lease back. Does not wait for a coordinator that is away.
    pub async fn leave(self) {
        self.task.abort();
        let lease = self.lease.lock().take();
        let Some(lease) = lease else { return };
        match tokio::time::timeout(LEAVE_TIMEOUT, self.coordinator.lease_revoke(lease)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the coordinator was not told that the proxy stops"),
            Err(_) => tracing::warn!("the coordinator was not told in time that the proxy stops"),
        }
    }
}

async fn stay(proxy: ProxyId, alive: ProxyAlive, coordinator: Arc<dyn Coordinator>, held: Arc<Mutex<Option<LeaseId>>>) {
    let (key, value) = (layout::proxy_alive(proxy), to_json(&alive));
    loop {
        if let Ok(lease) = coordinator.lease_grant(LEASE_SECONDS).await {
            *held.lock() = Some(lease);
            let mut said = coordinator.put(&key, value.clone(), Some(lease)).await.map(drop);
            while said.is_ok() {
                tokio::time::sleep(Duration::from_secs(u64::from(LEASE_SECONDS) / 3)).await;
                said = coordinator.lease_keep_alive(lease).await.map(drop);
            }
            if let Err(error) = said {
                tracing::debug!(%error, "the coordinator was not told that the proxy is there");
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
    async fn it_is_there_until_it_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let proxy = ProxyId::from_bytes([1; 16]);
        let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Proxy(proxy)));
        let alive = ProxyAlive { inside_uri: "https://p:1/".into(), version: None };
        let presence = ProxyPresence::begin(proxy, alive.clone(), coordinator.clone());
        let told = async || coordinator.get(&layout::proxy_alive(proxy)).await.unwrap().map(|entry| entry.value);
        let waited = async {
            while told().await.is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it says so");
        assert_eq!(told().await, Some(to_json(&alive)));
        presence.leave().await;
        assert_eq!(told().await, None);
    }
}
