//! A node and what it was given: control writes `node/{own}/id/…/hash/…`, the node follows it, makes
//! the replicas, and says `okay` under `node/{own}/id/…/details` when a table can be used.
//!
//! A replica needs three parts of its tenant's key before its file can be made. The tenant's part at
//! this node is made here, once, and kept in the node's database; its part at the control plane is
//! fetched, and is kept in memory only.
//!
//! What is no longer given is taken out of service only when two listings in a row agree, and its
//! file stays: a table can be brought back, and a plan that was read once may be wrong.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use crate::coordination::values::{AssignedRange, TableAtNode};
use crate::coordination::{Coordinator, EventKind, Listing, Reflected, Reflector, ReflectorOptions, layout};
use crate::crypto::Key256;
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, TenantId};
use crate::domain::table::TableDefinition;
use crate::domain::{Random, Refusal};
use crate::storage::node_database::{NodeDatabase, ReplicaRecord, ReplicaState, TenantKeyPart};
use crate::storage::store::{ReplicaName, StoreError};

use super::engine::Engine;
use super::engine::keys::NodeKeys;

/// A part of a key that the control plane hands out.
#[derive(Debug, Clone)]
pub struct HandedPart {
    /// Its version, from 1.
    pub version: u32,
    /// The part.
    pub part: Key256,
}

/// All parts that control hands to a node, each with all versions that are in use.
#[derive(Debug, Clone, Default)]
pub struct HandedParts {
    /// The node's own part.
    pub node: Vec<HandedPart>,
    /// Those of the tenants it holds ranges of.
    pub tenants: Vec<(TenantId, Vec<HandedPart>)>,
}

/// Where the parts at the control plane come from: control itself in one process, its inside
/// listener across processes. Control hands a node only what is the node's.
#[async_trait]
pub trait KeyParts: Send + Sync + 'static {
    /// This node's own part, all versions that are in use.
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal>;
    /// A tenant's part, all versions that are in use. `NotFound` says that control has none (any more).
    async fn tenant_part(&self, tenant: TenantId) -> Result<Vec<HandedPart>, Refusal>;
    /// All of them at once.
    async fn all(&self) -> Result<HandedParts, Refusal>;
    /// Says which version of a part is the lowest that anything at this node is still wrapped by: where all
    /// holders have moved on, control destroys the version before. The node's own part, or a tenant's.
    async fn in_use(&self, tenant: Option<TenantId>, version_min: u32) -> Result<(), Refusal>;
}

/// See the module's essay.
pub struct Assignments {
    node: NodeId,
    coordinator: Arc<dyn Coordinator>,
    engine: Arc<Engine>,
    keys: Arc<NodeKeys>,
    database: Arc<dyn NodeDatabase>,
    parts: Arc<dyn KeyParts>,
    random: Arc<dyn Random>,
}

/// A tenant's parts, made ready: the one at this node and those at the control plane.
///
/// # Errors
/// Where control cannot be reached or the node's database not written.
pub async fn ready_tenant(
    tenant: TenantId,
    keys: &NodeKeys,
    database: &Arc<dyn NodeDatabase>,
    parts: &dyn KeyParts,
    random: &dyn Random,
) -> Result<(), Refusal> {
    if keys.has_tenant(tenant) {
        return Ok(());
    }
    for handed in parts.tenant_part(tenant).await? {
        keys.add_tenant_at_control(tenant, handed.version, handed.part);
    }
    if keys.tenant_at_node_version(tenant) == 0 {
        let part = TenantKeyPart {
            tenant,
            version: 1,
            uuid: crate::domain::ambient::random_uuid(random),
            part: Key256::random(random),
        };
        let kept = part.clone();
        let database = Arc::clone(database);
        blocking(move || database.add_tenant_key(&kept)).await?;
        keys.add_tenant_at_node(tenant, part.version, part.part);
    }
    Ok(())
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal::internal("a task on the node's files ended unexpectedly"))?
        .map_err(|error| Refusal::unavailable(format!("the node's files: {error}"), 5))
}

impl Assignments {
    /// What a node follows its assignments with.
    pub fn new(
        node: NodeId,
        coordinator: Arc<dyn Coordinator>,
        engine: Arc<Engine>,
        keys: Arc<NodeKeys>,
        database: Arc<dyn NodeDatabase>,
        parts: Arc<dyn KeyParts>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { node, coordinator, engine, keys, database, parts, random }
    }

    /// Follows the node's assignments until dropped. What cannot be done now is tried again.
    pub async fn follow(self) {
        let prefix = layout::node_tables(self.node);
        let mut reflector = Reflector::start(Arc::clone(&self.coordinator), prefix, ReflectorOptions::default());
        let mut wanted: HashMap<String, AssignedRange> = HashMap::new();
        let mut missing_once: HashSet<RangeId> = HashSet::new();
        let mut pause = tokio::time::interval(std::time::Duration::from_secs(1));
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unfinished = false;
        loop {
            tokio::select! {
                told = reflector.next() => match told {
                    None => return,
                    Some(Reflected::Snapshot(listing)) => {
                        wanted = read_listing(&listing);
                        missing_once = self.retire_absent(&wanted, &missing_once).await;
                    }
                    Some(Reflected::Changes(batch)) => {
                        for event in batch.events {
                            take_event(&mut wanted, event.kind);
                        }
                        missing_once = self.retire_absent(&wanted, &missing_once).await;
                        // What was seen gone is read once more, by the tick below, before anything is retired.
                    }
                    Some(Reflected::Lost(_) | Reflected::Resumed(_)) => continue,
                },
                _ = pause.tick(), if unfinished => {
                    if !missing_once.is_empty() && let Ok(listing) = self.coordinator.list(&layout::node_tables(self.node)).await {
                        wanted = read_listing(&listing);
                        missing_once = self.retire_absent(&wanted, &missing_once).await;
                    }
                }
            }
            unfinished = !self.ensure(&wanted).await || !missing_once.is_empty();
        }
    }

    /// Makes what is wanted and not there. Says whether everything is.
    async fn ensure(&self, wanted: &HashMap<String, AssignedRange>) -> bool {
        let present: HashSet<RangeId> = self.engine.replicas().iter().map(|replica| replica.name.range).collect();
        let mut complete = true;
        let mut tables: HashSet<(String, crate::domain::ids::TableId)> = HashSet::new();
        for (key, assigned) in wanted {
            let Some(range) = assigned.range else { continue };
            if present.contains(&range) {
                continue;
            }
            match self.make(key, assigned).await {
                Ok(table) => {
                    let details = layout::node_table_details(self.node, &table.tenant, &table.name);
                    tables.insert((details, table.id));
                }
                Err(refusal) => {
                    complete = false;
                    tracing::warn!(%range, %refusal, "an assigned range cannot be made yet");
                }
            }
        }
        for (key, table) in tables {
            if self.table_is_complete(table, wanted) {
                complete &= self.publish(&key, table).await;
            }
        }
        complete
    }

    fn table_is_complete(&self, table: crate::domain::ids::TableId, wanted: &HashMap<String, AssignedRange>) -> bool {
        let present: HashSet<RangeId> = self.engine.replicas().iter().map(|replica| replica.name.range).collect();
        wanted
            .values()
            .filter(|assigned| assigned.table_uuid == Some(table))
            .all(|assigned| assigned.range.is_some_and(|range| present.contains(&range)))
    }

    async fn publish(&self, key: &str, table: crate::domain::ids::TableId) -> bool {
        let value = TableAtNode { status: "okay".to_owned(), table_uuid: Some(table) };
        let Ok(json) = serde_json::to_vec(&value) else { return false };
        match self.coordinator.put(key, json.into(), None).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "the node could not say that its table is ready");
                false
            }
        }
    }

    async fn make(&self, key: &str, assigned: &AssignedRange) -> Result<TableDefinition, Refusal> {
        let Some(layout::NodeKey::Range(_, route)) = layout::NodeKey::parse(key) else {
            return Err(Refusal::internal(format!("{key:?} is no assignment")));
        };
        let (Some(range), Some(replica), Some(table_id)) = (assigned.range, assigned.replica, assigned.table_uuid)
        else {
            return Err(Refusal::internal("the assignment names no range, replica or table"));
        };
        let table = self.definition(&route, table_id).await?;
        ready_tenant(table.tenant_id, &self.keys, &self.database, &*self.parts, &*self.random).await?;
        let record = ReplicaRecord {
            name: ReplicaName { tenant: table.tenant_id, table: table_id, range, replica },
            hashes: HashRange { low: assigned.low_hash, high: assigned.high_hash },
            table: table.clone(),
            epoch: 1,
            durable_index: 0,
            quantity: 0,
            state: ReplicaState::Serving,
        };
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.create_replica(&record)).await?;
        Ok(table)
    }

    async fn definition(
        &self,
        route: &layout::RouteKey,
        table: crate::domain::ids::TableId,
    ) -> Result<TableDefinition, Refusal> {
        let unreachable = |error: crate::coordination::Error| Refusal::unavailable(error.to_string(), 1);
        let entry =
            self.coordinator.get(&layout::control_table(&route.tenant, &route.table)).await.map_err(unreachable)?;
        let definition = entry.and_then(|entry| serde_json::from_slice::<TableDefinition>(&entry.value).ok());
        definition
            .filter(|definition| definition.id == table)
            .ok_or_else(|| Refusal::unavailable(format!("the definition of table {} is not there yet", route.table), 1))
    }

    /// Takes out of service what was missing before and is missing now; returns what is missing for the first time.
    async fn retire_absent(
        &self,
        wanted: &HashMap<String, AssignedRange>,
        missing_once: &HashSet<RangeId>,
    ) -> HashSet<RangeId> {
        let named: HashSet<RangeId> = wanted.values().filter_map(|assigned| assigned.range).collect();
        let mut missing = HashSet::new();
        for replica in self.engine.replicas() {
            let range = replica.name.range;
            if named.contains(&range) {
                continue;
            }
            if !missing_once.contains(&range) {
                missing.insert(range);
                continue;
            }
            let engine = Arc::clone(&self.engine);
            match blocking(move || engine.retire_replica(range)).await {
                Ok(()) => tracing::info!(%range, "a range is no longer this node's; its file is kept for now"),
                Err(refusal) => tracing::error!(%range, %refusal, "a range could not be taken out of service"),
            }
        }
        missing
    }
}

fn read_listing(listing: &Listing) -> HashMap<String, AssignedRange> {
    let ranges =
        listing.entries.iter().filter_map(|entry| Some((entry.key.clone(), parse_range(&entry.key, &entry.value)?)));
    ranges.collect()
}

fn take_event(wanted: &mut HashMap<String, AssignedRange>, event: EventKind) {
    match event {
        EventKind::Put(entry) => {
            if let Some(assigned) = parse_range(&entry.key, &entry.value) {
                wanted.insert(entry.key, assigned);
            }
        }
        EventKind::Delete { key } => {
            wanted.remove(&key);
        }
    }
}

fn parse_range(key: &str, value: &[u8]) -> Option<AssignedRange> {
    match layout::NodeKey::parse(key)? {
        layout::NodeKey::Range(..) => serde_json::from_slice(value).ok(),
        _ => None,
    }
}
