//! A node and what it was given: control writes `node/{own}/id/…/hash/…`, the node follows it, makes
//! the replicas, publishes their routes ([`super::publishing`]), and says `okay` under `node/{own}/id/…/details` when a table can be used.
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
//! What is given anew is made at once, whatever else the plan says: an empty replica more does no harm. But a range
//! that was served before and has no file here is not made: it would be empty, and nobody would know that its
//! data is gone. A notice says so instead.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use crate::coordination::values::{AssignedRange, Route, TableAtNode, from_json, to_json};
use crate::coordination::{
    Coordinator, EventKind, Listing, OPERATIONS_PER_BATCH, Operation, Reflected, Reflector, ReflectorOptions, Revision,
    layout,
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
use super::engine::notices::Notices;
use super::publishing::{PublishedAddress, RoutePublisher, ServedRange, may_start_empty};

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
    publisher: RoutePublisher,
    notices: Arc<Notices>,
    /// Ranges that were served before and have no file here: said once, and never started empty.
    lost: HashSet<RangeId>,
    plan: Plan,
}

/// What [`Assignments`] stand on.
pub struct AssignmentParts {
    /// The node.
    pub node: NodeId,
    /// Where it is reached.
    pub address: PublishedAddress,
    /// Where assignments and routes are.
    pub coordinator: Arc<dyn Coordinator>,
    /// The node's engine.
    pub engine: Arc<Engine>,
    /// Its keys.
    pub keys: Arc<NodeKeys>,
    /// Its database.
    pub database: Arc<dyn NodeDatabase>,
    /// Where control's parts of keys come from.
    pub parts: Arc<dyn KeyParts>,
    /// Gives random bytes.
    pub random: Arc<dyn Random>,
    /// Takes notices.
    pub notices: Arc<Notices>,
}

/// What the node was given, as far as it has read.
#[derive(Default)]
struct Plan {
    wanted: HashMap<String, AssignedRange>,
    /// Tables of which it was said that they can be used, by the key where it was said.
    said: HashMap<String, TableId>,
    /// Served, and missing in the reading before.
    missing: HashSet<RangeId>,
    /// The highest revision that was read.
    newest: Revision,
    /// Why the last reading was not obeyed, so that it is said once.
    distrust: Option<&'static str>,
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
    pub fn new(parts: AssignmentParts) -> Self {
        let publisher = RoutePublisher::new(parts.node, parts.address, Arc::clone(&parts.coordinator));
        Self {
            node: parts.node,
            coordinator: parts.coordinator,
            engine: parts.engine,
            keys: parts.keys,
            database: parts.database,
            parts: parts.parts,
            random: parts.random,
            publisher,
            notices: parts.notices,
            lost: HashSet::new(),
            plan: Plan::default(),
        }
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
                self.plan.said = read_said(&listing);
            }
            Reflected::Changes(batch) => {
                self.plan.newest = self.plan.newest.max(batch.revision);
                for event in batch.events {
                    self.plan.take(event.kind);
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
        self.publisher.forget(range);
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

    /// Makes what is wanted and not there, and publishes what is there. Says whether everything is done.
    pub async fn ensure(&mut self) -> bool {
        let present: HashMap<RangeId, Arc<TableDefinition>> =
            self.engine.replicas().iter().map(|replica| (replica.name.range, replica.table())).collect();
        let mut complete = true;
        let mut lost = Vec::new();
        for (key, assigned) in &self.plan.wanted {
            let Some(range) = assigned.range else { continue };
            match present.get(&range) {
                Some(table) if is_of_table(key, table) => continue,
                None if self.lost.contains(&range) => {
                    complete = false;
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
                Ok(()) => {}
                Err(refusal) if refusal.kind == RefusalKind::Damaged => {
                    complete = false;
                    lost.push(range);
                    self.notices.write(refusal.message);
                }
                Err(refusal) => {
                    complete = false;
                    tracing::warn!(%range, %refusal, "an assigned range cannot be made yet");
                }
            }
        }
        self.lost.extend(lost);
        // Before the node says that a table can be used: from then on its ranges never start empty again.
        let is_published = self.publish_routes().await;
        let is_said = is_published && self.say_ready().await;
        complete && is_said
    }

    fn present(&self) -> HashSet<RangeId> {
        self.engine.replicas().iter().map(|replica| replica.name.range).collect()
    }

    async fn publish_routes(&self) -> bool {
        let present = self.present();
        let served = self.plan.wanted.iter().filter_map(|(key, assigned)| served_range(key, assigned));
        let served: Vec<ServedRange> = served.filter(|served| present.contains(&served.range)).collect();
        match self.publisher.publish(&served).await {
            Ok(published) => {
                if published.written > 0 {
                    tracing::info!(routes = published.written, "routes were published");
                }
                published.contended == 0
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "routes could not be published yet");
                false
            }
        }
    }

    /// Says `okay` of each table whose ranges are all here and of which it was not said yet.
    async fn say_ready(&mut self) -> bool {
        let unsaid = self.plan.unsaid(self.node, &self.present());
        let operation = |(key, table): &(String, TableId)| {
            let value = TableAtNode { status: "okay".to_owned(), lost: Vec::new(), table_uuid: Some(*table) };
            Operation::put(key, to_json(&value))
        };
        for piece in unsaid.chunks(OPERATIONS_PER_BATCH) {
            if let Err(error) = self.coordinator.transact(Vec::new(), piece.iter().map(operation).collect()).await {
                tracing::warn!(%error, "the node could not say that its tables are ready");
                return false;
            }
            self.plan.said.extend(piece.iter().cloned());
        }
        true
    }

    async fn make(&self, key: &str, assigned: &AssignedRange) -> Result<(), Refusal> {
        let (Some(served), Some(replica)) = (served_range(key, assigned), assigned.replica) else {
            return Err(Refusal::internal(format!("{key:?} names no range, replica or table")));
        };
        let (range, table_id) = (served.range, served.table_id);
        let table = self.definition(&served).await?;
        let name = ReplicaName { tenant: table.tenant_id, table: table_id, range, replica };
        if !self.engine.has_replica(name) {
            may_start_empty(&*self.coordinator, &served).await?;
        }
        ready_tenant(table.tenant_id, &self.keys, &self.database, &*self.parts, &*self.random).await?;
        let record = ReplicaRecord {
            name,
            hashes: HashRange { low: assigned.low_hash, high: assigned.high_hash },
            table,
            epoch: 1,
            durable_index: 0,
            quantity: 0,
            state: ReplicaState::Serving,
            group_file: None,
        };
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.create_replica(&record)).await
    }

    async fn definition(&self, served: &ServedRange) -> Result<TableDefinition, Refusal> {
        let unreachable = |error: crate::coordination::Error| Refusal::unavailable(error.to_string(), 1);
        let key = layout::control_table(&served.tenant, &served.table);
        let entry = self.coordinator.get(&key).await.map_err(unreachable)?;
        let definition = entry.and_then(|entry| serde_json::from_slice::<TableDefinition>(&entry.value).ok());
        definition.filter(|definition| definition.id == served.table_id).ok_or_else(|| {
            Refusal::unavailable(format!("the definition of table {} is not there yet", served.table), 1)
        })
    }
}

impl Plan {
    fn take(&mut self, event: EventKind) {
        match event {
            EventKind::Put(entry) => {
                if let Some(assigned) = parse_range(&entry.key, &entry.value) {
                    self.wanted.insert(entry.key, assigned);
                } else if let Some(table) = parse_said(&entry.key, &entry.value) {
                    self.said.insert(entry.key, table);
                }
            }
            EventKind::Delete { key } => {
                self.wanted.remove(&key);
                self.said.remove(&key);
            }
        }
    }

    /// Tables all of whose ranges are `present`, and of which that was not said: the keys to say it under.
    fn unsaid(&self, node: NodeId, present: &HashSet<RangeId>) -> Vec<(String, TableId)> {
        let mut tables: HashMap<(String, TableId), bool> = HashMap::new();
        for served in self.wanted.iter().filter_map(|(key, assigned)| served_range(key, assigned)) {
            let key = layout::node_table_details(node, &served.tenant, &served.table);
            let complete = tables.entry((key, served.table_id)).or_insert(true);
            *complete &= present.contains(&served.range);
        }
        let is_news = |(key, table): &(String, TableId)| self.said.get(key) != Some(table);
        tables.into_iter().filter(|(table, complete)| *complete && is_news(table)).map(|(table, _)| table).collect()
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

fn parse_range(key: &str, value: &[u8]) -> Option<AssignedRange> {
    match layout::NodeKey::parse(key)? {
        layout::NodeKey::Range(..) => serde_json::from_slice(value).ok(),
        _ => None,
    }
}

/// The range that an assignment gives; none where its key or value lacks something.
fn served_range(key: &str, assigned: &AssignedRange) -> Option<ServedRange> {
    let Some(layout::NodeKey::Range(_, route)) = layout::NodeKey::parse(key) else { return None };
    Some(ServedRange {
        tenant: route.tenant,
        table: route.table,
        table_id: assigned.table_uuid?,
        range: assigned.range?,
        low_hash: assigned.low_hash,
    })
}

fn read_said(listing: &Listing) -> HashMap<String, TableId> {
    let said =
        listing.entries.iter().filter_map(|entry| Some((entry.key.clone(), parse_said(&entry.key, &entry.value)?)));
    said.collect()
}

/// The table of which the node has said that it can be used.
fn parse_said(key: &str, value: &[u8]) -> Option<TableId> {
    let said = match layout::NodeKey::parse(key)? {
        layout::NodeKey::Table(..) => from_json::<TableAtNode>(value).ok()?,
        _ => return None,
    };
    said.table_uuid.filter(|_| said.status == "okay")
}
