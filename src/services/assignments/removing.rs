//! What becomes of copies that the plan does not name any more; the essay of [`super`] says when they go.
//!
//! | what the routes say, read from the coordinator | what becomes of the copy |
//! |---|---|
//! | it names the copy | it is served, the plan contradicts itself |
//! | there is none, or one of another range | out of service, and its file stays: the table was dropped |
//! | the range goes on without it, twice, and its own log does not know better | removed for good |
//! | it was split, and what became of it needs it no more ([`super::splits`]) | removed for good |
//! | the copy is lost, its successor is assigned here, and others vote | removed for good: it makes room |
//!
//! Whether its own log knows better is asked once more when it is out of service and can take in nothing new
//! ([`crate::replication::replacement::removal`]). A crash in between leaves it out of service, with its file; the
//! next start looks at the plan again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::coordination::values::{AssignedRange, ReplicaState, Route, from_json};
use crate::coordination::{KeyValue, layout};
use crate::domain::Refusal;
use crate::domain::table::TableDefinition;
use crate::replication::replacement::{OwnCopy, Reading, Removal, removal};
use crate::services::engine::replica::Replica;
use crate::services::publishing::{unreachable, view_of};
use crate::storage::node_database::{ReplicaRecord, ReplicaState as Serving};
use crate::storage::store::{ReplicaName, StoreError};

use super::plan::read_listing;
use super::starting::names;
use super::{Assignments, blocking};

impl Assignments {
    /// Reads everything again where something was missing, and takes out of service what is missing still.
    pub async fn look_again(&mut self) {
        if self.plan.missing.is_empty() {
            self.readings.clear();
            return;
        }
        let Some(splitting) = self.splitting().await else { return };
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
        self.plan.note_seen();
        self.tell_given();
        self.readings.retain(|range, _| missing.contains(range));
        let held = self.engine.replicas();
        for replica in held.iter().filter(|replica| missing.contains(&replica.name.range)) {
            if self.plan.missing.contains(&replica.name.range) && !self.waits_for_split(replica, &splitting) {
                self.judge(replica).await;
            }
        }
        self.plan.missing = self.missing_in(&self.plan.wanted);
    }

    /// The plan as it stands in the coordinator now, or why it cannot be believed.
    async fn read_again(&mut self) -> Result<HashMap<String, AssignedRange>, &'static str> {
        let away = |_| "the coordinator cannot be asked";
        let listing = self.coordinator.list(&layout::node_tables(self.node)).await.map_err(away)?;
        if listing.revision < self.plan.newest {
            return Err("the coordinator holds an older plan than one that was read before");
        }
        (self.plan.newest, self.plan.known_through) = (listing.revision, listing.revision);
        match self.coordinator.get(layout::CONTROL_CLUSTER).await.map_err(away)? {
            Some(_) => Ok(read_listing(&listing)),
            None => Err("the coordinator does not hold the cluster's record"),
        }
    }

    /// Decides about a copy that two readings of the plan did not name.
    async fn judge(&mut self, replica: &Arc<Replica>) {
        let range = replica.name.range;
        let table = replica.table();
        let key = layout::route(&table.tenant, &table.name, replica.hashes.low);
        // Not to know is no reason to give it up.
        let Ok(entry) = self.coordinator.get(&key).await else { return };
        if self.judge_parent(replica, entry.as_ref()).await {
            return;
        }
        let Some(route) = entry.and_then(|entry| route_of(&entry, replica)) else {
            if self.retire(range).await {
                tracing::info!(%range, "a range is no longer this node's; its file is kept for now");
            }
            return;
        };
        let reading = self.reading(replica, &route);
        let before = self.readings.insert(range, reading.clone());
        let Some(own) = self.own_copy(replica).await else { return };
        match removal(&own, before.as_ref(), &reading) {
            Removal::Remove => self.remove(replica, &table, before.as_ref(), &reading).await,
            Removal::ReadAgain => {}
            Removal::Keep if self.makes_room(replica, &route) => {
                tracing::warn!(%range, replica = %replica.name.replica, "a lost copy makes room for the one that is to take its place");
                self.notices.write(format!(
                    "replica {} of range {range} of table {}/{} is removed: it was lost or damaged, and another one takes its place on this node",
                    replica.name.replica, table.tenant, table.name
                ));
                self.remove_now(replica).await;
            }
            Removal::Keep if before.is_none() => {
                tracing::error!(%range, "a route says that the copy is here, and the plan does not; it is kept")
            }
            Removal::Keep => {}
        }
    }

    /// What was read about a copy that is not assigned. One without an id in the route counts as named.
    fn reading(&self, replica: &Replica, route: &Route) -> Reading {
        let mut view = view_of(replica.hashes.low, route);
        if names(route, self.node, replica.name.replica)
            && let Some(own) = view.copies.iter_mut().find(|copy| copy.node == self.node && copy.replica.is_none())
        {
            own.replica = Some(replica.name.replica);
        }
        Reading { is_assigned: false, route: Some(view) }
    }

    /// The copy as its own log knows it; none where that cannot be told now.
    async fn own_copy(&self, replica: &Arc<Replica>) -> Option<OwnCopy> {
        let ReplicaName { replica: id, range, .. } = replica.name;
        let is_of_no_use = self.is_of_no_use(replica);
        let of_group = self.groups.status(range).filter(|status| status.replica == id);
        let of_group = of_group.map(|status| (status.membership_at, status.membership));
        // The group may be asleep, or ended since the copy was taken out of service: its log is there all the same, and what
        // stands in it counts before it is applied.
        let kept = match replica.is_grouped() {
            false => None,
            true => {
                let replica = Arc::clone(replica);
                match blocking(move || Ok(replica.last_membership())).await.ok()? {
                    Ok(kept) => kept,
                    // Its file cannot be read, and it is to go for that.
                    Err(StoreError::Damaged(_)) if is_of_no_use => None,
                    Err(_) => return None,
                }
            }
        };
        Some(OwnCopy { replica: id, range, membership: of_group.max(kept) })
    }

    /// Whether a copy is of no use, another one is assigned in its place, and there is somebody to fill that from.
    fn makes_room(&self, replica: &Replica, route: &Route) -> bool {
        let mut assigned = self.plan.wanted.values().filter(|assigned| assigned.range == Some(replica.name.range));
        let is_replaced = assigned.any(|assigned| assigned.replica.is_some_and(|id| id != replica.name.replica));
        let mut others = route.replicas.iter().filter(|copy| copy.node != self.node);
        is_replaced && self.is_of_no_use(replica) && others.any(|copy| copy.state == ReplicaState::Voter)
    }

    /// Takes a copy out of service and removes it, unless its own log knows better.
    async fn remove(
        &mut self,
        replica: &Arc<Replica>,
        table: &TableDefinition,
        before: Option<&Reading>,
        last: &Reading,
    ) {
        let range = replica.name.range;
        if !self.retire(range).await {
            return;
        }
        let own = self.own_copy(replica).await;
        if own.is_none_or(|own| removal(&own, before, last) != Removal::Remove) {
            tracing::error!(%range, "the copy's own log names it later than the route; it serves again");
            self.bring_back(replica).await;
            return;
        }
        match self.is_table_there(table).await {
            Ok(true) => self.purge(replica).await,
            Ok(false) => tracing::info!(%range, "a table was dropped; the file of its range is kept for now"),
            // It is kept as long as that of a dropped table.
            Err(refusal) => tracing::warn!(%range, %refusal, "a copy that is no longer this node's is kept for now"),
        }
    }

    pub(super) async fn remove_now(&mut self, replica: &Arc<Replica>) {
        if self.retire(replica.name.range).await {
            self.purge(replica).await;
        }
    }

    async fn purge(&mut self, replica: &Replica) {
        let (range, engine) = (replica.name.range, Arc::clone(&self.engine));
        self.readings.remove(&range);
        match blocking(move || engine.purge_replica(range)).await {
            Ok(()) => {
                tracing::info!(%range, replica = %replica.name.replica, "a copy that is no longer this node's is removed")
            }
            Err(refusal) => {
                tracing::error!(%range, %refusal, "a copy could not be removed; it is tried again");
                self.unpurged.insert(range);
            }
        }
    }

    /// Removes what is out of service and could not be removed before. Whether nothing is left.
    pub(super) async fn purge_rest(&mut self) -> bool {
        for range in std::mem::take(&mut self.unpurged) {
            let engine = Arc::clone(&self.engine);
            if blocking(move || engine.purge_replica(range)).await.is_err() {
                self.unpurged.insert(range);
            }
        }
        self.unpurged.is_empty()
    }

    /// Puts a retired copy into service again.
    async fn bring_back(&self, replica: &Replica) {
        let record = ReplicaRecord {
            name: replica.name,
            hashes: replica.hashes,
            table: (*replica.table()).clone(),
            epoch: replica.epoch,
            durable_index: 0,
            quantity: 0,
            state: Serving::Serving,
            group_file: replica.group_file(),
        };
        let engine = Arc::clone(&self.engine);
        if let Err(refusal) = blocking(move || engine.create_replica(&record)).await {
            tracing::error!(range = %replica.name.range, %refusal, "a copy could not be put into service again");
        }
    }

    async fn is_table_there(&self, table: &TableDefinition) -> Result<bool, Refusal> {
        let key = layout::control_table(&table.tenant, &table.name);
        let entry = self.coordinator.get(&key).await.map_err(unreachable)?;
        let there = entry.and_then(|entry| serde_json::from_slice::<TableDefinition>(&entry.value).ok());
        Ok(there.is_some_and(|there| there.id == table.id))
    }
}

/// The route in an entry, where it is of the replica's range.
fn route_of(entry: &KeyValue, replica: &Replica) -> Option<Route> {
    let route = from_json::<Route>(&entry.value).ok()?;
    (route.range == replica.name.range && route.table_uuid == replica.name.table).then_some(route)
}
