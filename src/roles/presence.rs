//! A node says that it is there: its details, which stay, and a sign of life under a lease, which goes with it.
//!
//! A planned stop says so: the details become `down`, so that nothing new is placed on the node, and the lease is
//! given back, so that nobody waits for it to expire. A node that is killed does neither: its lease
//! ends by itself, and its ranges stay its own.
//!
//! It says nothing before it is settled which data folder it has
//! ([`crate::services::assignments::incarnation`]): its details would name this folder's incarnation over the one before. How much of its disk is free
//! it tells again when that has changed by some hundredth; placement goes by it, and needs no more.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::coordination::values::{NodeDetails, NodeStatus, from_json, to_json};
use crate::coordination::{Compare, Coordinator, Error, LeaseId, Operation, layout};
use crate::domain::ids::NodeId;
use crate::services::rolled_back::OwnBoots;
use crate::storage::workers;

/// How long a stop waits for the coordinator to be told.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the disk is looked at.
const DISK_PAUSE: Duration = Duration::from_secs(60);
/// What is free of the disk is told again when it has changed by this part of the whole.
const DISK_NEWS_PART: u64 = 64;

/// How large the data disk is and how much of it is free, in bytes; none where that cannot be read. May block.
pub type DiskGauge = Arc<dyn Fn() -> Option<(u64, u64)> + Send + Sync>;

/// A running sign of life.
pub struct Presence {
    node: NodeId,
    coordinator: Arc<dyn Coordinator>,
    lease: Arc<Mutex<Option<LeaseId>>>,
    task: JoinHandle<()>,
}

impl Presence {
    /// Says `okay` under these details, and keeps a lease of so many seconds alive until it leaves. Says nothing before
    /// `settled` is true.
    pub fn begin(
        node: NodeId,
        details: NodeDetails,
        boots: Arc<OwnBoots>,
        seconds: u32,
        coordinator: Arc<dyn Coordinator>,
        settled: watch::Receiver<bool>,
        disk: DiskGauge,
    ) -> Self {
        let lease = Arc::new(Mutex::new(None));
        let stay = Stay {
            node,
            details,
            boots,
            seconds,
            coordinator: Arc::clone(&coordinator),
            held: Arc::clone(&lease),
            disk,
        };
        let task = tokio::spawn(stay.follow(settled));
        Self { node, coordinator, lease, task }
    }

    /// The lease under which it says so; none while there is none, and another one after it was lost.
    pub fn lease(&self) -> Arc<Mutex<Option<LeaseId>>> {
        Arc::clone(&self.lease)
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
    // Where control writes in the same moment, what it says holds.
    rewrite(coordinator, node, |details| NodeDetails { status: NodeStatus::Down, ..details }).await.map(drop)
}

/// Changes the node's details as they stand. Whether nobody else wrote in the same moment.
async fn rewrite(
    coordinator: &dyn Coordinator,
    node: NodeId,
    change: impl FnOnce(NodeDetails) -> NodeDetails,
) -> Result<bool, Error> {
    let key = layout::node_details(node);
    let Some(entry) = coordinator.get(&key).await? else { return Ok(false) };
    let Ok(details) = from_json::<NodeDetails>(&entry.value) else { return Ok(false) };
    let compares = vec![Compare::unchanged(&key, Some(&entry))];
    let written = coordinator.transact(compares, vec![Operation::put(&key, to_json(&change(details)))]).await?;
    Ok(written.succeeded)
}

/// What keeps saying that the node is there.
struct Stay {
    node: NodeId,
    details: NodeDetails,
    boots: Arc<OwnBoots>,
    seconds: u32,
    coordinator: Arc<dyn Coordinator>,
    held: Arc<Mutex<Option<LeaseId>>>,
    disk: DiskGauge,
}

impl Stay {
    async fn follow(mut self, mut settled: watch::Receiver<bool>) {
        if settled.wait_for(|settled| *settled).await.is_err() {
            return;
        }
        let mut published = false;
        let mut look_at = Instant::now() + DISK_PAUSE;
        loop {
            if !published {
                self.measure().await;
                self.details.status = NodeStatus::Okay;
                self.details.boot = Some(self.boots.present());
                let details = to_json(&self.details);
                published = self.coordinator.put(&layout::node_details(self.node), details, None).await.is_ok();
            }
            if published && let Ok(lease) = self.coordinator.lease_grant(self.seconds).await {
                *self.held.lock() = Some(lease);
                let alive = self.coordinator.put(&layout::node_alive(self.node), "{}".into(), Some(lease)).await;
                while alive.is_ok() && self.coordinator.lease_keep_alive(lease).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(u64::from(self.seconds / 3).max(1))).await;
                    if Instant::now() >= look_at {
                        look_at = Instant::now() + DISK_PAUSE;
                        self.tell_disk().await;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks at the disk. Whether what is free of it is news.
    async fn measure(&mut self) -> bool {
        let disk = Arc::clone(&self.disk);
        let Ok(Some((capacity, free))) = workers::blocking(move || disk()).await else { return false };
        let told = (self.details.capacity_bytes, self.details.free_bytes);
        let is_news = match told {
            (Some(before), Some(told)) => before != capacity || told.abs_diff(free) > capacity / DISK_NEWS_PART,
            _ => true,
        };
        if is_news {
            (self.details.capacity_bytes, self.details.free_bytes) = (Some(capacity), Some(free));
        }
        is_news
    }

    /// Tells how much of the disk is free, where that is news. Everything else in the details stays as it stands there:
    /// control writes in them, too.
    async fn tell_disk(&mut self) {
        let before = (self.details.capacity_bytes, self.details.free_bytes);
        if !self.measure().await {
            return;
        }
        let (capacity_bytes, free_bytes) = (self.details.capacity_bytes, self.details.free_bytes);
        let told =
            rewrite(&*self.coordinator, self.node, |details| NodeDetails { capacity_bytes, free_bytes, ..details });
        if !told.await.is_ok_and(|is_written| is_written) {
            // Told again at the next look.
            (self.details.capacity_bytes, self.details.free_bytes) = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::Writer;
    use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};

    fn details() -> NodeDetails {
        from_json(br#"{"status":"down","uri":"http://n:1/"}"#).unwrap()
    }

    /// A disk of 6,400 bytes of which so many are free.
    fn disk(free: u64) -> DiskGauge {
        Arc::new(move || Some((6_400, free)))
    }

    async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
        let waited = async {
            while !is_so().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it comes to that");
    }

    #[tokio::test]
    async fn a_planned_stop_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let node = NodeId::from_bytes([1; 16]);
        let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Node(node)));
        let told = async || {
            let entry = coordinator.get(&layout::node_details(node)).await.unwrap();
            entry.map(|entry| from_json::<NodeDetails>(&entry.value).unwrap())
        };
        let alive = async || coordinator.get(&layout::node_alive(node)).await.unwrap().is_some();
        let settled = watch::Sender::new(false);
        let boots = OwnBoots::new(Default::default(), Box::new(|_| Ok(()))).unwrap();
        let presence = Presence::begin(node, details(), boots, 10, coordinator.clone(), settled.subscribe(), disk(640));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(told().await, None, "not before it is settled what it has");
        settled.send_replace(true);
        until(alive).await;
        let now = told().await.unwrap();
        assert_eq!((now.status, now.capacity_bytes, now.free_bytes), (NodeStatus::Okay, Some(6_400), Some(640)));
        presence.leave().await;
        assert_eq!((told().await.map(|told| told.status), alive().await), (Some(NodeStatus::Down), false));
    }

    #[tokio::test]
    async fn a_fuller_disk_is_told_and_what_control_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let node = NodeId::from_bytes([1; 16]);
        let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Node(node)));
        let key = layout::node_details(node);
        let draining = NodeDetails { status: NodeStatus::Draining, ..details() };
        coordinator.put(&key, to_json(&draining), None).await.unwrap();
        let held = Arc::default();
        let boots = OwnBoots::new(Default::default(), Box::new(|_| Ok(()))).unwrap();
        let mut stay = Stay {
            node,
            details: details(),
            boots,
            seconds: 10,
            coordinator: coordinator.clone(),
            held,
            disk: disk(640),
        };
        let told = async || {
            let entry = coordinator.get(&key).await.unwrap().unwrap();
            (from_json::<NodeDetails>(&entry.value).unwrap(), entry.version)
        };
        stay.tell_disk().await;
        let (now, version) = told().await;
        assert_eq!((now.status, now.free_bytes, version), (NodeStatus::Draining, Some(640), 2));
        stay.disk = disk(600);
        stay.tell_disk().await;
        assert_eq!(told().await.1, 2, "a little more or less is no news");
        stay.disk = disk(500);
        stay.tell_disk().await;
        assert_eq!(told().await.0.free_bytes, Some(500));
    }
}
