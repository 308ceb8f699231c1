//! [`RoutingTable`]: what a role starts once and every request asks.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::disk_copy;
use super::feed;
use super::plan::{Distrust, Kind, Plan};
use super::snapshot::RoutingSnapshot;
use crate::coordination::layout::RouteKey;
use crate::coordination::{Coordinator, ReflectorOptions};
use crate::domain::hash::HashRange;
use crate::domain::table::TableDefinition;
use crate::domain::{Clock, Random, Timestamp};
use crate::services::items::{self, NodeAddress, Routes};
use crate::services::sealed_copy::{DiskCopyError, DiskCopyOptions};

/// How the table is followed and kept.
#[derive(Clone)]
pub struct RoutingOptions {
    /// Where and how the copy on disk is kept; without it a start needs the coordinator.
    pub disk_copy: Option<DiskCopyOptions>,
    /// How the coordinator is followed.
    pub reflector: ReflectorOptions,
    /// The shortest time between two copies, in milliseconds.
    pub save_pause_ms: u64,
}

impl Default for RoutingOptions {
    fn default() -> Self {
        Self { disk_copy: None, reflector: ReflectorOptions::default(), save_pause_ms: 5_000 }
    }
}

/// From what look-ups are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoutingSource {
    /// Nothing is known yet.
    Nothing,
    /// The copy on disk; the coordinator has not been reached since the start.
    DiskCopy,
    /// The coordinator, followed as it changes.
    Live,
    /// Memory, as the coordinator last told; it is away.
    Memory,
}

/// How good the plan is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingStatus {
    /// From what look-ups are answered.
    pub source: RoutingSource,
    /// Since when: for a copy on disk, when it was saved; else when the source became this.
    pub since: Timestamp,
    /// Listings that were not obeyed, by prefix, until one is.
    pub distrusted: Vec<(&'static str, Distrust)>,
    /// Why the copy on disk could not be read or written, the last time.
    pub copy_problem: Option<String>,
    /// Grows with each new snapshot.
    pub generation: u64,
    /// The generation that the copy on disk holds; 0 for none of this run.
    pub saved_generation: u64,
}

/// What the feed and the requests share.
pub(super) struct Shared {
    snapshot: ArcSwap<RoutingSnapshot>,
    plan: Mutex<Plan>,
    status: watch::Sender<RoutingStatus>,
    disk_copy: Option<DiskCopyOptions>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// The routing table of one control plane. Dropping it ends the following; snapshots stay good.
pub struct RoutingTable {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl RoutingTable {
    /// Loads the copy on disk, if there is one, and follows the coordinator from then on. Never waits for
    /// the coordinator. Must be called in a tokio runtime.
    pub fn start(
        coordinator: Arc<dyn Coordinator>,
        options: RoutingOptions,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let shared = Arc::new(Shared::open(options.disk_copy.clone(), clock, random));
        let task = tokio::spawn(feed::run(shared.clone(), coordinator, options));
        Self { shared, task }
    }

    /// The plan as it is now; hold it for one request, not longer.
    pub fn snapshot(&self) -> Guard<Arc<RoutingSnapshot>> {
        self.shared.snapshot.load()
    }

    /// How good the plan is.
    pub fn status(&self) -> RoutingStatus {
        self.shared.status.borrow().clone()
    }

    /// Tells of each change of the plan or its status.
    pub fn subscribe(&self) -> watch::Receiver<RoutingStatus> {
        self.shared.status.subscribe()
    }

    /// Waits until the plan shows what another process has made, `wait` at most. Whether it does.
    pub async fn shows(&self, wait: std::time::Duration, shown: impl Fn(&RoutingSnapshot) -> bool) -> bool {
        let mut status = self.subscribe();
        let waited = status.wait_for(|_| shown(&self.snapshot()));
        matches!(tokio::time::timeout(wait, waited).await, Ok(Ok(_)))
    }

    /// Remembers who leads the range of this hash, as a node said when it was asked in vain. It holds until
    /// the leader's own publication arrives; nothing happens where no range is known.
    pub fn learn(&self, definition: &TableDefinition, hash: u32, leader: NodeAddress) {
        self.shared.change(|plan| {
            let Some(mut route) = plan.route(definition, hash) else { return false };
            if *route.leader == leader {
                return false;
            }
            route.leader = plan.address(leader);
            let key =
                RouteKey { tenant: definition.tenant.clone(), table: definition.name.clone(), low_hash: route.low };
            plan.put_route(&key, route)
        });
    }

    /// Writes the copy on disk now; a role does this when it stops. Blocks on the disk.
    pub fn save(&self) {
        self.shared.save();
    }
}

impl Routes for RoutingTable {
    fn route(&self, table: &TableDefinition, hash: u32) -> Option<items::RangeRoute> {
        let snapshot = self.snapshot();
        let route = snapshot.route(table, hash)?;
        Some(items::RangeRoute {
            range: route.range,
            hashes: HashRange { low: route.low, high: route.high },
            leader: route.leader.clone(),
            epoch: route.epoch,
            replicas: route.replicas.clone(),
        })
    }

    fn learn(&self, table: &TableDefinition, hash: u32, leader: &NodeAddress) {
        RoutingTable::learn(self, table, hash, leader.clone());
    }
}

impl Drop for RoutingTable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn open(disk_copy: Option<DiskCopyOptions>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let mut status = RoutingStatus {
            source: RoutingSource::Nothing,
            since: clock.now(),
            distrusted: Vec::new(),
            copy_problem: None,
            generation: 0,
            saved_generation: 0,
        };
        let mut snapshot = RoutingSnapshot::default();
        if let Some(options) = &disk_copy {
            match disk_copy::load(options) {
                Ok((copy, saved_at)) => {
                    snapshot = copy;
                    status.source = RoutingSource::DiskCopy;
                    status.since = saved_at;
                    status.generation = 1;
                }
                Err(DiskCopyError::Missing) => {}
                Err(error) => {
                    tracing::error!(path = %options.path.display(), %error, "starting without a routing table");
                    status.copy_problem = Some(error.to_string());
                }
            }
        }
        Self {
            snapshot: ArcSwap::from_pointee(snapshot.clone()),
            plan: Mutex::new(Plan::from_snapshot(snapshot)),
            status: watch::Sender::new(status),
            disk_copy,
            clock,
            random,
        }
    }

    /// Changes the plan and publishes it, where `change` says that it did something.
    pub(super) fn change(&self, change: impl FnOnce(&mut Plan) -> bool) {
        let mut plan = self.plan.lock();
        if change(&mut plan) {
            // Under the lock, so that an older snapshot never replaces a newer one.
            self.snapshot.store(Arc::new(plan.snapshot()));
            self.status.send_modify(|status| status.generation += 1);
        }
    }

    pub(super) fn set_source(&self, source: RoutingSource) {
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            let changes = status.source != source;
            if changes {
                status.source = source;
                status.since = now;
            }
            changes
        });
    }

    pub(super) fn source(&self) -> RoutingSource {
        self.status.borrow().source
    }

    pub(super) fn set_distrust(&self, kind: Kind, distrust: Option<Distrust>) {
        self.status.send_if_modified(|status| {
            let before = status.distrusted.clone();
            status.distrusted.retain(|(prefix, _)| *prefix != kind.prefix());
            status.distrusted.extend(distrust.map(|distrust| (kind.prefix(), distrust)));
            status.distrusted != before
        });
    }

    /// Whether the plan has changed since the copy on disk was written.
    pub(super) fn is_unsaved(&self) -> bool {
        let status = self.status.borrow();
        self.disk_copy.is_some()
            && status.generation > status.saved_generation
            && !matches!(status.source, RoutingSource::Nothing | RoutingSource::DiskCopy)
    }

    /// Writes the copy on disk, if there is to be one.
    pub(super) fn save(&self) {
        let Some(options) = &self.disk_copy else { return };
        // The generation first: what changes meanwhile is saved next time.
        let generation = self.status.borrow().generation;
        let snapshot = self.snapshot.load_full();
        let mut nonce = [0; 12];
        self.random.fill(&mut nonce);
        let now = self.clock.now();
        let saved = disk_copy::save(options, nonce, &snapshot, now);
        if let Err(error) = &saved {
            tracing::error!(path = %options.path.display(), %error, "the routing table could not be saved");
        }
        self.status.send_modify(|status| {
            status.copy_problem = saved.as_ref().err().map(ToString::to_string);
            if saved.is_ok() {
                status.saved_generation = status.saved_generation.max(generation);
            }
        });
    }
}
