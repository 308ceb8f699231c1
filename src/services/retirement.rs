//! What becomes of replicas that a node no longer serves, and of the keys of tenants that are gone.
//!
//! A retired replica's file stays for seven days by this node's clock, and until control has forgotten
//! the table: the table stands neither among the tables nor among the dropped ones, in two readings with a
//! minute between them. A reading counts only where the coordinator shows the cluster's own record: an
//! emptied one, or another cluster's, says nothing about what may be deleted.
//!
//! A tenant's keys are destroyed at once, as soon as its ranges are no longer this node's and control,
//! asked twice, has no key of the tenant any more. Absence from a listing would not do here: a
//! coordinator brought back from an older copy may lack tenants. But where control's part of the key is
//! gone, the data is lost already, and destroying this node's part loses nothing more.
//!
//! One task for all ranges looks once a second whether any is retired, which costs nothing while
//! none is.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::coordination::{Coordinator, layout};
use crate::domain::ids::{PlaneId, RangeId, TableId, TenantId};
use crate::domain::limits::UNDELETE_SECONDS;
use crate::domain::table::TableDefinition;
use crate::domain::{Clock, Refusal, RefusalKind};
use crate::storage::node_database::NodeDatabase;

use super::assignments::{KeyParts, blocking};
use super::engine::Engine;
use super::engine::keys::NodeKeys;

/// Seconds between two readings of what control still knows.
const READING_SECONDS: u64 = 60;

/// See the module's essay.
pub struct Retirement {
    plane: PlaneId,
    coordinator: Arc<dyn Coordinator>,
    engine: Arc<Engine>,
    keys: Arc<NodeKeys>,
    database: Arc<dyn NodeDatabase>,
    parts: Arc<dyn KeyParts>,
    clock: Arc<dyn Clock>,
    asked: BTreeSet<TenantId>,
    gone_once: HashSet<RangeId>,
}

impl Retirement {
    /// What a node looks after its retired replicas with.
    pub fn new(
        plane: PlaneId,
        coordinator: Arc<dyn Coordinator>,
        engine: Arc<Engine>,
        keys: Arc<NodeKeys>,
        database: Arc<dyn NodeDatabase>,
        parts: Arc<dyn KeyParts>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (asked, gone_once) = (BTreeSet::new(), HashSet::new());
        Self { plane, coordinator, engine, keys, database, parts, clock, asked, gone_once }
    }

    /// Looks after them until dropped.
    pub async fn follow(mut self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for seconds in 0u64.. {
            tick.tick().await;
            let is_reading_due = seconds % READING_SECONDS == 0;
            if is_reading_due {
                self.asked.clear();
            }
            self.destroy_tenants().await;
            if is_reading_due {
                self.purge_forgotten().await;
            }
        }
    }

    /// Destroys the keys and replicas of tenants that control has destroyed. Each tenant is asked for once
    /// between two readings.
    pub async fn destroy_tenants(&mut self) {
        let tenants: BTreeSet<_> = self.engine.retired().iter().map(|retired| retired.name.tenant).collect();
        for tenant in tenants {
            if self.asked.insert(tenant) && self.is_destroyed(tenant).await && self.is_destroyed(tenant).await {
                match self.destroy(tenant).await {
                    Ok(ranges) => {
                        tracing::info!(%tenant, ranges, "a tenant was deleted: its keys at this node and its files are destroyed")
                    }
                    Err(refusal) => {
                        tracing::error!(%tenant, %refusal, "a deleted tenant's keys and files are not all destroyed yet")
                    }
                }
            }
        }
    }

    /// Whether control says that there is no key of the tenant. Silence is no answer.
    async fn is_destroyed(&self, tenant: TenantId) -> bool {
        matches!(self.parts.tenant_part(tenant).await, Err(refusal) if refusal.kind == RefusalKind::NotFound)
    }

    async fn destroy(&self, tenant: TenantId) -> Result<usize, Refusal> {
        let database = Arc::clone(&self.database);
        blocking(move || database.remove_tenant_keys(tenant, None)).await?;
        self.keys.forget_tenant(tenant);
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.purge_tenant(tenant)).await
    }

    /// Removes replicas whose time is over and whose table control has forgotten, seen so twice.
    pub async fn purge_forgotten(&mut self) {
        let now = self.clock.now();
        let mut candidates = self.engine.retired();
        candidates.retain(|retired| now.seconds_since(retired.at) >= UNDELETE_SECONDS);
        let known = if candidates.is_empty() { Ok(HashSet::new()) } else { self.known_tables().await };
        let known = match known {
            Ok(known) => known,
            Err(refusal) => {
                tracing::warn!(%refusal, "nothing is removed: what control knows cannot be read");
                self.gone_once.clear();
                return;
            }
        };
        let mut gone = HashSet::new();
        for retired in candidates.into_iter().filter(|retired| !known.contains(&retired.name.table)) {
            let range = retired.name.range;
            if !self.gone_once.contains(&range) {
                gone.insert(range);
                continue;
            }
            let engine = Arc::clone(&self.engine);
            match blocking(move || engine.purge_replica(range)).await {
                Ok(()) => tracing::info!(%range, replica = %retired.name.replica, "a dropped table's file is removed"),
                Err(refusal) => tracing::error!(%range, %refusal, "a dropped table's file could not be removed"),
            }
        }
        self.gone_once = gone;
    }

    /// All tables that are there or can be brought back.
    async fn known_tables(&self) -> Result<HashSet<TableId>, Refusal> {
        let unreachable = |error: crate::coordination::Error| Refusal::unavailable(error.to_string(), 1);
        let unclear = |key: &str| Refusal::unavailable(format!("the record {key} cannot be read"), 1);
        let cluster = self.coordinator.get(layout::CONTROL_CLUSTER).await.map_err(unreachable)?;
        let plane = cluster
            .and_then(|entry| serde_json::from_slice::<serde_json::Value>(&entry.value).ok())
            .and_then(|record| serde_json::from_value::<PlaneId>(record.get("plane")?.clone()).ok());
        if plane != Some(self.plane) {
            return Err(Refusal::unavailable("the coordinator does not hold this cluster's record", 1));
        }
        let mut known = HashSet::new();
        for entry in self.coordinator.list(layout::CONTROL_TABLES).await.map_err(unreachable)?.entries {
            let table: TableDefinition = serde_json::from_slice(&entry.value).map_err(|_| unclear(&entry.key))?;
            known.insert(table.id);
        }
        for entry in self.coordinator.list(layout::CONTROL_TABLES_DELETED).await.map_err(unreachable)?.entries {
            let table = entry.key.strip_prefix(layout::CONTROL_TABLES_DELETED).and_then(|id| id.parse().ok());
            known.insert(table.ok_or_else(|| unclear(&entry.key))?);
        }
        Ok(known)
    }
}
