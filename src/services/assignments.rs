//! A node and what it was given: control writes `node/{own}/id/…/hash/…`, the node follows it, makes
//! the replicas, publishes the routes of those that are alone ([`super::publishing`]), and says `okay` under
//! `node/{own}/id/…/details` when a table can be used.
//!
//! A replica needs three parts of its tenant's key before its file can be made ([`key_parts`]). How it begins, empty or
//! to be filled, its range's route tells ([`starting`]).
//!
//! What is no longer given is taken out of service. But a
//! coordinator may have lost its data, or been restored from a backup, while the node still has its own. So
//! a copy that is missing is only noted at first; then everything is read again, and it goes
//!
//! * if it is missing in that reading, too, and
//! * the reading is not older than one that was seen before, and
//! * the coordinator still shows the cluster's own record: an emptied one says nothing, and
//! * no route says that the copy is here all the same.
//!
//! Its file stays then: a table can be brought back. Only where the range goes on without this copy, as its route says in
//! two readings and the copy's own log does not contradict ([`removing`]), the file is removed at once.
//!
//! What is given anew is made at once, whatever else the plan says: an empty replica more does no harm. But a copy
//! that was served before and has no file here is not made: it would be empty, and nobody would know that its
//! data is gone. It is reported as lost instead, in a notice and beside what is said of its table, so that control gives the
//! range a new copy under a new id; so is a copy whose file is of no use any more. When the plan names the new id, the old
//! copy makes room.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::coordination::values::{AssignedRange, TableAtNode, to_json};
use crate::coordination::{
    Coordinator, OPERATIONS_PER_BATCH, Operation, Reflected, Reflector, ReflectorOptions, layout,
};
use crate::domain::ids::{NodeId, RangeId, ReplicaId, TenantId};
use crate::domain::table::TableDefinition;
use crate::domain::{Random, Refusal, RefusalKind};
use crate::replication::membership::Membership;
use crate::replication::replacement::Reading;
use crate::storage::node_database::{NodeDatabase, ReplicaRecord, ReplicaState};
use crate::storage::store::{ReplicaName, StoreError};
use crate::storage::workers;

use super::engine::keys::NodeKeys;
use super::engine::notices::Notices;
use super::engine::replica::Replica;
use super::engine::{Engine, MemberStart};
use super::node_directory::NodeDirectory;
use super::publishing::{RoutePublisher, ServedRange, Standing, unreachable};

mod groups;
pub mod incarnation;
mod key_parts;
mod plan;
mod removing;
mod splits;
pub mod starting;

pub use groups::{GroupInstances, NoGroups};
pub use key_parts::{HandedPart, HandedParts, KeyParts, ready_tenant};
pub use plan::{Given, GivenRange};

pub(super) use plan::LOST;
use plan::{CopyStanding, Plan, given_range, is_of_table};
use starting::{Beginning, beginning, only_learns};

/// The first pause before what could not be done is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether a copy that serves was found damaged.
const DAMAGE_PAUSE: Duration = Duration::from_secs(5);

/// See the module's essay.
pub struct Assignments {
    node: NodeId,
    coordinator: Arc<dyn Coordinator>,
    engine: Arc<Engine>,
    keys: Arc<NodeKeys>,
    database: Arc<dyn NodeDatabase>,
    parts: Arc<dyn KeyParts>,
    random: Arc<dyn Random>,
    publisher: Arc<RoutePublisher>,
    directory: Arc<NodeDirectory>,
    notices: Arc<Notices>,
    groups: Arc<dyn GroupInstances>,
    /// Tenants whose key was not to be had when the engine opened: that a copy of theirs cannot be read says nothing.
    keyless: HashSet<TenantId>,
    /// Copies that were served before and have no file here: said once, and never started empty.
    lost: HashMap<RangeId, ReplicaId>,
    plan: Plan,
    /// What the last reading said of copies that may go.
    readings: BTreeMap<RangeId, Reading>,
    /// Out of service, and could not be removed yet.
    unpurged: BTreeSet<RangeId>,
    given: watch::Sender<Arc<Given>>,
}

/// What [`Assignments`] stand on.
pub struct AssignmentParts {
    /// The node.
    pub node: NodeId,
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
    /// Publishes routes.
    pub publisher: Arc<RoutePublisher>,
    /// Where the other nodes are.
    pub directory: Arc<NodeDirectory>,
    /// Takes notices.
    pub notices: Arc<Notices>,
    /// The groups of the node's copies.
    pub groups: Arc<dyn GroupInstances>,
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    workers::blocking(work)
        .await
        .map_err(|_| Refusal::internal("a task on the node's files ended unexpectedly"))?
        .map_err(|error| Refusal::unavailable(format!("the node's files: {error}"), 5))
}

impl Assignments {
    /// What a node follows its assignments with. To be made when the engine has just been opened.
    pub fn new(parts: AssignmentParts) -> Self {
        let tenants = parts.engine.replicas().into_iter().map(|replica| replica.name.tenant);
        let keyless = tenants.filter(|tenant| !parts.keys.has_tenant(*tenant)).collect();
        Self {
            node: parts.node,
            coordinator: parts.coordinator,
            engine: parts.engine,
            keys: parts.keys,
            database: parts.database,
            parts: parts.parts,
            random: parts.random,
            publisher: parts.publisher,
            directory: parts.directory,
            notices: parts.notices,
            groups: parts.groups,
            keyless,
            lost: HashMap::new(),
            plan: Plan::default(),
            readings: BTreeMap::new(),
            unpurged: BTreeSet::new(),
            given: watch::Sender::default(),
        }
    }

    /// What the node was given, for those who lead on it.
    pub fn given(&self) -> watch::Receiver<Arc<Given>> {
        self.given.subscribe()
    }

    /// Follows the node's assignments until dropped. What cannot be done now is tried again.
    pub async fn follow(mut self) {
        let prefix = layout::node_tables(self.node);
        let mut reflector = Reflector::start(Arc::clone(&self.coordinator), prefix, ReflectorOptions::default());
        let mut pause = PAUSE_MIN;
        let mut again_at = None;
        loop {
            tokio::select! {
                biased;
                // First, so that news that never end do not put it off for ever.
                () = tokio::time::sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {
                    self.look_again().await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                told = reflector.next() => match told {
                    None => return,
                    Some(told) => {
                        self.take(told);
                        pause = PAUSE_MIN;
                    }
                },
                // A copy that is found damaged while it serves tells nobody by itself.
                () = tokio::time::sleep(DAMAGE_PAUSE), if again_at.is_none() => {
                    if !self.has_unsaid_damage() {
                        continue;
                    }
                }
            }
            let unfinished = !self.ensure().await || !self.plan.missing.is_empty();
            again_at = unfinished.then(|| Instant::now() + pause);
        }
    }

    /// Takes in what was read. What is missing in it is noted; [`Assignments::look_again`] decides about it.
    pub fn take(&mut self, told: Reflected) {
        match told {
            Reflected::Snapshot(listing) => self.plan.take_listing(&listing),
            Reflected::Changes(batch) => self.plan.take_changes(batch),
            Reflected::Lost(_) | Reflected::Resumed(_) => return,
        }
        self.plan.missing = self.missing_in(&self.plan.wanted);
        self.tell_given();
    }

    /// Tells those who lead on this node what it was given, and follows the addresses of the nodes in it.
    fn tell_given(&self) {
        let given = self.plan.given();
        let peers = given.values().flat_map(|given| given.wanted.iter().map(|copy| copy.node));
        self.directory.want(peers.filter(|peer| *peer != self.node).collect::<BTreeSet<_>>());
        self.given.send_if_modified(|known| {
            let is_news = **known != given;
            if is_news {
                *known = Arc::new(given);
            }
            is_news
        });
    }

    /// Held copies that a plan does not name: neither by their id, nor by their range where it names no id.
    fn missing_in(&self, wanted: &HashMap<String, AssignedRange>) -> HashSet<RangeId> {
        let named: HashSet<(RangeId, Option<ReplicaId>)> =
            wanted.values().filter_map(|assigned| Some((assigned.range?, assigned.replica))).collect();
        let is_named = |name: &ReplicaName| {
            named.contains(&(name.range, Some(name.replica))) || named.contains(&(name.range, None))
        };
        let held = self.engine.replicas().into_iter().map(|replica| replica.name);
        held.filter(|name| !is_named(name)).map(|name| name.range).collect()
    }

    /// Makes what is wanted and not there, and publishes what is there. Says whether everything is done.
    pub async fn ensure(&mut self) -> bool {
        let held: HashMap<RangeId, Arc<Replica>> =
            self.engine.replicas().into_iter().map(|replica| (replica.name.range, replica)).collect();
        let mut complete = self.purge_rest().await;
        let (mut made, mut lost) = (Vec::new(), Vec::new());
        self.forget_lost();
        for (key, assigned) in &self.plan.wanted {
            let Some(range) = assigned.range else { continue };
            match held.get(&range) {
                Some(replica) if assigned.replica.is_some_and(|wanted| wanted != replica.name.replica) => {
                    // It has to make room first.
                    complete = false;
                    continue;
                }
                Some(replica) if is_of_table(key, &replica.table()) => continue,
                None if assigned.replica.is_some() && self.lost.get(&range).copied() == assigned.replica => continue,
                // Dropped and brought back under another name before this node had seen it gone.
                Some(_) if !self.retire(range).await => {
                    complete = false;
                    continue;
                }
                Some(_) | None => {}
            }
            match self.make(key, assigned).await {
                Ok(()) => made.extend(assigned.replica),
                Err(refusal) if refusal.kind == RefusalKind::Damaged => {
                    lost.extend(assigned.replica.map(|replica| (range, replica)));
                    self.notices.write(refusal.message);
                }
                Err(refusal) => {
                    complete = false;
                    // Ordinary while a table is being made: its definition comes last.
                    tracing::info!(%range, %refusal, "an assigned range cannot be made yet");
                }
            }
        }
        made.into_iter().for_each(|copy| self.plan.note_made(copy));
        let is_nothing_lost = lost.is_empty();
        self.lost.extend(lost);
        self.publish_and_say().await && complete && is_nothing_lost && self.lost.is_empty()
    }

    /// Forgets lost copies in whose place another one is assigned, or none.
    fn forget_lost(&mut self) {
        let assigned = self.plan.wanted.values().filter_map(|assigned| Some((assigned.range?, assigned.replica?)));
        let assigned: HashSet<_> = assigned.collect();
        self.lost.retain(|range, replica| assigned.contains(&(*range, *replica)));
    }

    /// Publishes before it says: when the node says that a table can be used, its ranges never start empty again.
    async fn publish_and_say(&mut self) -> bool {
        let is_published = self.publish_routes().await;
        is_published && self.say_standing().await
    }

    /// Publishes the routes of copies that are alone.
    async fn publish_routes(&self) -> bool {
        let alone: HashSet<ReplicaId> = self
            .engine
            .replicas()
            .iter()
            .filter(|replica| !replica.is_grouped())
            .map(|replica| replica.name.replica)
            .collect();
        let given = self.plan.wanted.iter().filter_map(|(key, assigned)| given_range(key, assigned));
        let served = given.filter(|given| alone.contains(&given.replica)).map(|given| (given, Standing::Alone));
        match self.publisher.publish(&served.collect::<Vec<_>>()).await {
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

    /// Says of each table how its copies here stand, where that was not said yet. Whether all was said that there is to
    /// say.
    async fn say_standing(&mut self) -> bool {
        let held: HashMap<ReplicaId, Arc<Replica>> =
            self.engine.replicas().into_iter().map(|replica| (replica.name.replica, replica)).collect();
        let standing = |given: &ServedRange| match held.get(&given.replica) {
            _ if self.lost.get(&given.range) == Some(&given.replica) => CopyStanding::Lost,
            Some(replica) if self.is_of_no_use(replica) => CopyStanding::Lost,
            Some(_) => CopyStanding::Ready,
            None => CopyStanding::Absent,
        };
        let unsaid = self.plan.unsaid(self.node, standing);
        let (unsaid, is_all_served) = match self.without_unserved(unsaid, &held).await {
            Ok(told) => told,
            Err(refusal) => {
                tracing::warn!(%refusal, "the node could not look whether its tables are served");
                return false;
            }
        };
        for piece in unsaid.chunks(OPERATIONS_PER_BATCH) {
            let operations = piece.iter().map(|(key, value)| Operation::put(key, to_json(value))).collect();
            if let Err(error) = self.coordinator.transact(Vec::new(), operations).await {
                tracing::warn!(%error, "the node could not say how its tables stand");
                return false;
            }
            self.plan.said.extend(piece.iter().cloned());
        }
        is_all_served
    }

    /// Whether a copy was found damaged that was not reported lost yet.
    fn has_unsaid_damage(&self) -> bool {
        let unsaid = |replica: &Replica| {
            let table = replica.table();
            !self.plan.was_said_lost(self.node, &table.tenant, &table.name, replica.name.replica)
        };
        let replicas = self.engine.replicas();
        replicas.iter().any(|replica| replica.damage().is_some() && self.is_of_no_use(replica) && unsaid(replica))
    }

    /// Whether a copy that is here is of no use: damaged for good, or a group's that was reported lost before.
    fn is_of_no_use(&self, replica: &Replica) -> bool {
        let table = replica.table();
        let was_said_lost = || self.plan.was_said_lost(self.node, &table.tenant, &table.name, replica.name.replica);
        let is_damaged = replica.damage().is_some() && !self.keyless.contains(&replica.name.tenant);
        is_damaged || (replica.is_grouped() && was_said_lost())
    }

    /// Of what is to be said, what may be: of no table whose groups nobody has published yet. And whether that is all.
    async fn without_unserved(
        &self,
        unsaid: Vec<(String, TableAtNode)>,
        held: &HashMap<ReplicaId, Arc<Replica>>,
    ) -> Result<(Vec<(String, TableAtNode)>, bool), Refusal> {
        let is_grouped = |given: &ServedRange| held.get(&given.replica).is_some_and(|replica| replica.is_grouped());
        let given = self.plan.wanted.iter().filter_map(|(key, assigned)| given_range(key, assigned));
        let mut tables: BTreeMap<String, Vec<ServedRange>> = BTreeMap::new();
        for given in given.filter(is_grouped) {
            let key = layout::node_table_details(self.node, &given.tenant, &given.table);
            tables.entry(key).or_default().push(given);
        }
        let (mut may_be_said, mut is_all) = (Vec::with_capacity(unsaid.len()), true);
        for (key, said) in unsaid {
            let unserved = match tables.get(&key) {
                Some(ranges) if said.lost.is_empty() => self.publisher.unserved(ranges).await?,
                _ => Vec::new(),
            };
            if unserved.is_empty() {
                may_be_said.push((key, said));
                continue;
            }
            is_all = false;
            // Founders wait for somebody to stand for election, also where this node was stopped in between.
            unserved.into_iter().for_each(|range| self.groups.wake(range));
        }
        Ok((may_be_said, is_all))
    }

    /// Takes a range out of service; its file stays. Whether that was written down.
    async fn retire(&self, range: RangeId) -> bool {
        let engine = Arc::clone(&self.engine);
        let outcome = blocking(move || engine.retire_replica(range)).await;
        // From here on it cannot be woken again.
        self.groups.end(range).await;
        if let Err(refusal) = &outcome {
            tracing::error!(%range, %refusal, "a range could not be taken out of service");
        }
        self.publisher.forget(range);
        outcome.is_ok()
    }

    async fn make(&self, key: &str, assigned: &AssignedRange) -> Result<(), Refusal> {
        let Some(given) = given_range(key, assigned) else {
            return Err(Refusal::internal(format!("{key:?} names no range, replica or table")));
        };
        let table = self.definition(&given).await?;
        let name =
            ReplicaName { tenant: table.tenant_id, table: given.table_id, range: given.range, replica: given.replica };
        if self.engine.may_yet_make(name, given.hashes) {
            let message = format!("range {} is made here by a split that is still to be carried out", given.range);
            return Err(Refusal::unavailable(message, 1));
        }
        // A retired one serves again as what it was.
        let begins = if self.engine.has_replica(name) { Beginning::Alone } else { self.beginning(&given).await? };
        ready_tenant(table.tenant_id, &self.keys, &self.database, &*self.parts, &*self.random).await?;
        let record = ReplicaRecord {
            name,
            hashes: given.hashes,
            table,
            epoch: 1,
            durable_index: 0,
            quantity: 0,
            state: ReplicaState::Serving,
            group_file: None,
        };
        let engine = Arc::clone(&self.engine);
        let start = match begins {
            Beginning::Founding(members) => MemberStart::Founding(members),
            Beginning::Joining => MemberStart::Joining,
            _ => return blocking(move || engine.create_replica(&record)).await,
        };
        blocking(move || engine.create_member(&record, start)).await
    }

    /// How a copy begins that is not here.
    async fn beginning(&self, given: &ServedRange) -> Result<Beginning, Refusal> {
        let entry = self.coordinator.get(&given.route_key()).await.map_err(unreachable)?;
        let route = entry.and_then(|entry| given.route_in(&entry));
        let was_lost = self.plan.was_said_lost(self.node, &given.tenant, &given.table, given.replica);
        match beginning(self.node, given.replica, route.as_ref(), was_lost) {
            Beginning::Unknown => {
                Err(Refusal::unavailable(format!("the route of range {} is not there yet", given.range), 1))
            }
            Beginning::Nameless => Err(Refusal::internal(format!(
                "the route of range {} names several copies, and not all of them by their ids",
                given.range
            ))),
            // The others were faster than this node.
            Beginning::Lost
                if !was_lost && self.plan.is_fresh(given.replica, only_learns(route.as_ref(), given.replica)) =>
            {
                Ok(self.begins_late(given))
            }
            Beginning::Lost => Err(lost(given)),
            begins => Ok(begins),
        }
    }

    /// How a copy begins that the others were faster than: as the founder that it is, where the record of the range's founders is as it
    /// was, so that it takes part from the first entry on; else it is filled.
    fn begins_late(&self, given: &ServedRange) -> Beginning {
        let assigned = self.plan.wanted.values().find(|assigned| assigned.replica == Some(given.replica));
        match assigned {
            Some(assigned) if assigned.is_new && assigned.replicas.len() > 1 => {
                let founders = assigned.replicas.iter().map(|copy| (copy.replica, copy.node));
                Beginning::Founding(Membership::founding(founders))
            }
            _ => Beginning::Joining,
        }
    }

    async fn definition(&self, given: &ServedRange) -> Result<TableDefinition, Refusal> {
        let key = layout::control_table(&given.tenant, &given.table);
        let entry = self.coordinator.get(&key).await.map_err(unreachable)?;
        let definition = entry.and_then(|entry| serde_json::from_slice::<TableDefinition>(&entry.value).ok());
        definition
            .filter(|definition| definition.id == given.table_id)
            .ok_or_else(|| Refusal::unavailable(format!("the definition of table {} is not there yet", given.table), 1))
    }
}

fn lost(given: &ServedRange) -> Refusal {
    Refusal::new(
        RefusalKind::Damaged,
        format!(
            "range {} of table {} was served before, and the file of its copy {} is not here. It is not started empty: where the range has other copies it gets a new one; else restore the node's data folder, or remove the node with --lose-data",
            given.range, given.table, given.replica
        ),
    )
}
