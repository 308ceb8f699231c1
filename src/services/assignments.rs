//! A node and what it was given: control writes `node/{own}/id/…/hash/…`, the node follows it, makes
//! the replicas, and says `okay` under `node/{own}/id/…/details` when a table can be used.
//!
//! A replica needs three parts of its tenant's key before its file can be made. The tenant's part at
//! this node is made here, once, and kept in the node's database; its part at the control plane is
//! fetched, and is kept in memory only.
//!
//! What is no longer given is taken out of service, and its file stays: a table can be brought back. But a
//! coordinator may have lost its data, or been restored from a backup, while the node still has its own. So
//! a range that is missing is only noted at first; then everything is read again, and it goes
//!
//! * if it is missing in that reading, too, and
//! * the reading is not older than one that was seen before, and
//! * the coordinator still shows the cluster's own record: an emptied one says nothing, and
//! * no route says that the range is here all the same.
//!
//! What is given anew is made at once, whatever else the plan says: an empty replica more does no harm.
//!
//! A route of epoch 0 marks a range as new: nobody has served it, and it starts empty. The node publishes epoch 1
//! as soon as its file is there, before it says that the table is ready. A range whose route has an epoch, and
//! whose file is not here, has lost its data: it is not made again, and a notice says so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use crate::coordination::values::{AssignedRange, Route, TableAtNode, from_json, to_json};
use crate::coordination::{
    Compare, Coordinator, EventKind, Listing, OPERATIONS_PER_BATCH, Operation, Reflected, Reflector, ReflectorOptions,
    Revision, layout,
};
use crate::crypto::Key256;
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, TableId, TenantId};
use crate::domain::table::TableDefinition;
use crate::domain::{Random, Refusal, RefusalKind};
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
    plan: Plan,
}

/// What the node was given, as far as it has read.
#[derive(Default)]
struct Plan {
    wanted: HashMap<String, AssignedRange>,
    /// Served, and missing in the reading before.
    missing: HashSet<RangeId>,
    /// The highest revision that was read.
    newest: Revision,
    /// Why the last reading was not obeyed, so that it is said once.
    distrust: Option<&'static str>,
    /// Tables whose routes are known to say that their ranges are served.
    announced: HashSet<TableId>,
    /// Ranges whose files are gone, as was said in a notice.
    lost: HashSet<RangeId>,
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
        Self { node, coordinator, engine, keys, database, parts, random, plan: Plan::default() }
    }

    /// Follows the node's assignments until dropped. What cannot be done now is tried again.
    pub async fn follow(mut self) {
        let prefix = layout::node_tables(self.node);
        let mut reflector = Reflector::start(Arc::clone(&self.coordinator), prefix, ReflectorOptions::default());
        let mut pause = tokio::time::interval(std::time::Duration::from_secs(1));
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unfinished = false;
        loop {
            tokio::select! {
                told = reflector.next() => match told {
                    None => return,
                    Some(told) => self.take(told),
                },
                _ = pause.tick(), if unfinished => self.look_again().await,
            }
            unfinished = !self.ensure().await || !self.plan.missing.is_empty();
        }
    }

    /// Takes in what was read. What is missing in it is noted; [`Assignments::look_again`] decides about it.
    pub fn take(&mut self, told: Reflected) {
        match told {
            Reflected::Snapshot(listing) if listing.revision < self.plan.newest => {
                // Restored from a backup: what it adds is made, what it lacks is not obeyed.
                self.plan.wanted.extend(read_listing(&listing));
            }
            Reflected::Snapshot(listing) => {
                self.plan.newest = listing.revision;
                self.plan.wanted = read_listing(&listing);
            }
            Reflected::Changes(batch) => {
                self.plan.newest = self.plan.newest.max(batch.revision);
                for event in batch.events {
                    take_event(&mut self.plan.wanted, event.kind);
                }
            }
            Reflected::Lost(_) | Reflected::Resumed(_) => return,
        }
        self.plan.missing = self.missing_in(&self.plan.wanted);
    }

    /// Reads everything again where something was missing, and takes out of service what is missing still.
    pub async fn look_again(&mut self) {
        if self.plan.missing.is_empty() {
            return;
        }
        let wanted = match self.read_again().await {
            Ok(wanted) => wanted,
            Err(reason) => {
                if self.plan.distrust != Some(reason) {
                    tracing::error!(reason, "the plan lacks ranges that are served here; it is not obeyed");
                }
                self.plan.distrust = Some(reason);
                return;
            }
        };
        self.plan.distrust = None;
        let missing = self.missing_in(&wanted);
        self.plan.wanted = wanted;
        for range in missing.intersection(&self.plan.missing) {
            if self.is_routed_here(*range).await {
                tracing::error!(%range, "a route says that the range is here, and the plan does not; it is served");
                continue;
            }
            if self.retire(*range).await {
                tracing::info!(%range, "a range is no longer this node's; its file is kept for now");
            }
        }
        self.plan.missing = self.missing_in(&self.plan.wanted);
    }

    /// Takes a range out of service; its file stays. Whether that was written down.
    async fn retire(&self, range: RangeId) -> bool {
        let engine = Arc::clone(&self.engine);
        let outcome = blocking(move || engine.retire_replica(range)).await;
        if let Err(refusal) = &outcome {
            tracing::error!(%range, %refusal, "a range could not be taken out of service");
        }
        outcome.is_ok()
    }

    /// The plan as it stands in the coordinator now, or why it cannot be believed.
    async fn read_again(&mut self) -> Result<HashMap<String, AssignedRange>, &'static str> {
        let away = |_| "the coordinator cannot be asked";
        let listing = self.coordinator.list(&layout::node_tables(self.node)).await.map_err(away)?;
        if listing.revision < self.plan.newest {
            return Err("the coordinator holds an older plan than one that was read before");
        }
        self.plan.newest = listing.revision;
        match self.coordinator.get(layout::CONTROL_CLUSTER).await.map_err(away)? {
            Some(_) => Ok(read_listing(&listing)),
            None => Err("the coordinator does not hold the cluster's record"),
        }
    }

    /// Whether a published route says that this node has the range. Not to know is no reason to give it up.
    async fn is_routed_here(&self, range: RangeId) -> bool {
        let replicas = self.engine.replicas();
        let Some(replica) = replicas.iter().find(|replica| replica.name.range == range) else { return false };
        let table = replica.table();
        let key = layout::route(&table.tenant, &table.name, replica.hashes.low);
        let Ok(entry) = self.coordinator.get(&key).await else { return true };
        let Some(entry) = entry else { return false };
        let names_this_node =
            |route: &Route| route.node == self.node || route.replicas.iter().any(|replica| replica.node == self.node);
        from_json::<Route>(&entry.value).is_ok_and(|route| route.range == range && names_this_node(&route))
    }

    fn missing_in(&self, wanted: &HashMap<String, AssignedRange>) -> HashSet<RangeId> {
        let named: HashSet<RangeId> = wanted.values().filter_map(|assigned| assigned.range).collect();
        let served = self.engine.replicas().into_iter().map(|replica| replica.name.range);
        served.filter(|range| !named.contains(range)).collect()
    }

    /// Makes what is wanted and not there. Says whether everything is.
    pub async fn ensure(&mut self) -> bool {
        let wanted = self.plan.wanted.clone();
        let present: HashMap<RangeId, Arc<TableDefinition>> =
            self.engine.replicas().iter().map(|replica| (replica.name.range, replica.table())).collect();
        let mut complete = true;
        let mut made: HashMap<TableId, TableDefinition> = HashMap::new();
        let mut found: HashMap<TableId, Arc<TableDefinition>> = HashMap::new();
        for (key, assigned) in &wanted {
            let Some(range) = assigned.range else { continue };
            match present.get(&range) {
                Some(table) if is_of_table(key, table) => {
                    if !self.plan.announced.contains(&table.id) {
                        found.insert(table.id, Arc::clone(table));
                    }
                    continue;
                }
                // Dropped and brought back under another name before this node had seen it gone.
                Some(_) if !self.retire(range).await => {
                    complete = false;
                    continue;
                }
                Some(_) | None => {}
            }
            match self.make(key, assigned).await {
                Ok(table) => drop(made.insert(table.id, table)),
                Err(refusal) => {
                    complete = false;
                    tracing::warn!(%range, %refusal, "an assigned range cannot be made yet");
                }
            }
        }
        for table in made.values() {
            if self.table_is_complete(table.id, &wanted) {
                complete &= self.announce(table).await && self.publish(table).await;
            }
        }
        for table in found.values().filter(|table| !made.contains_key(&table.id)) {
            complete &= self.announce(table).await;
        }
        complete
    }

    fn table_is_complete(&self, table: TableId, wanted: &HashMap<String, AssignedRange>) -> bool {
        let present: HashSet<RangeId> = self.engine.replicas().iter().map(|replica| replica.name.range).collect();
        wanted
            .values()
            .filter(|assigned| assigned.table_uuid == Some(table))
            .all(|assigned| assigned.range.is_some_and(|range| present.contains(&range)))
    }

    /// Publishes epoch 1 for those ranges of a table that are here and whose routes still mark them as new.
    async fn announce(&mut self, table: &TableDefinition) -> bool {
        let outcome = self.routes_announce(table).await;
        match outcome {
            Ok(true) => drop(self.plan.announced.insert(table.id)),
            Ok(false) => {}
            Err(ref error) => tracing::warn!(%error, table = %table.id, "its ranges could not be published yet"),
        }
        outcome.unwrap_or(false)
    }

    async fn routes_announce(&self, table: &TableDefinition) -> crate::coordination::Result<bool> {
        let here: HashSet<RangeId> = self.engine.replicas().iter().map(|replica| replica.name.range).collect();
        let listing = self.coordinator.list(&layout::table_routes(&table.tenant, &table.name)).await?;
        let is_new = |route: &Route| {
            route.epoch == 0 && route.node == self.node && route.table_uuid == table.id && here.contains(&route.range)
        };
        let new = listing.entries.iter().filter_map(|entry| {
            let route = from_json::<Route>(&entry.value).ok().filter(|route| is_new(route))?;
            Some((entry, Operation::put(&entry.key, to_json(&Route { epoch: 1, ..route }))))
        });
        let mut all = true;
        for piece in new.collect::<Vec<_>>().chunks(OPERATIONS_PER_BATCH) {
            let compares = piece.iter().map(|(entry, _)| Compare::unchanged(&entry.key, Some(entry))).collect();
            let operations = piece.iter().map(|(_, operation)| operation.clone()).collect();
            // Where control changed one of them meanwhile, all are read again.
            all &= self.coordinator.transact(compares, operations).await?.succeeded;
        }
        Ok(all)
    }

    async fn publish(&self, table: &TableDefinition) -> bool {
        let key = layout::node_table_details(self.node, &table.tenant, &table.name);
        let value = TableAtNode { status: "okay".to_owned(), table_uuid: Some(table.id) };
        match self.coordinator.put(&key, to_json(&value), None).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "the node could not say that its table is ready");
                false
            }
        }
    }

    async fn make(&mut self, key: &str, assigned: &AssignedRange) -> Result<TableDefinition, Refusal> {
        let Some(layout::NodeKey::Range(_, route)) = layout::NodeKey::parse(key) else {
            return Err(Refusal::internal(format!("{key:?} is no assignment")));
        };
        let (Some(range), Some(replica), Some(table_id)) = (assigned.range, assigned.replica, assigned.table_uuid)
        else {
            return Err(Refusal::internal("the assignment names no range, replica or table"));
        };
        let table = self.definition(&route, table_id).await?;
        let is_kept = self.engine.retired().iter().any(|retired| retired.name.replica == replica);
        if !is_kept && self.was_served_here(&route, range).await? {
            return Err(self.lost(range, &table));
        }
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

    /// Whether the range was published as served by this node. Without its route nothing is made.
    async fn was_served_here(&self, key: &layout::RouteKey, range: RangeId) -> Result<bool, Refusal> {
        let unreachable = |error: crate::coordination::Error| Refusal::unavailable(error.to_string(), 1);
        let key = layout::route(&key.tenant, &key.table, key.low_hash);
        let entry = self.coordinator.get(&key).await.map_err(unreachable)?;
        let route = entry.and_then(|entry| from_json::<Route>(&entry.value).ok()).filter(|route| route.range == range);
        let route = route.ok_or_else(|| Refusal::unavailable("the range's route is not there yet", 1))?;
        Ok(route.epoch > 0 && route.node == self.node)
    }

    /// The refusal for a range that was served and is not here; said in a notice once.
    fn lost(&mut self, range: RangeId, table: &TableDefinition) -> Refusal {
        let message = format!(
            "range {range} of table {} of {} was served by this node, and its file is not here. It is not started \
             empty: restore the node's data folder, or remove the node with --lose-data",
            table.name, table.tenant
        );
        if self.plan.lost.insert(range) {
            self.engine.notices().write(&message);
        }
        Refusal::new(RefusalKind::Damaged, message)
    }

    async fn definition(&self, route: &layout::RouteKey, table: TableId) -> Result<TableDefinition, Refusal> {
        let unreachable = |error: crate::coordination::Error| Refusal::unavailable(error.to_string(), 1);
        let entry =
            self.coordinator.get(&layout::control_table(&route.tenant, &route.table)).await.map_err(unreachable)?;
        let definition = entry.and_then(|entry| serde_json::from_slice::<TableDefinition>(&entry.value).ok());
        definition
            .filter(|definition| definition.id == table)
            .ok_or_else(|| Refusal::unavailable(format!("the definition of table {} is not there yet", route.table), 1))
    }
}

/// Whether an assignment is of the table as the node knows it by name.
fn is_of_table(key: &str, table: &TableDefinition) -> bool {
    match layout::NodeKey::parse(key) {
        Some(layout::NodeKey::Range(_, route)) => route.tenant == table.tenant && route.table == table.name,
        _ => false,
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
