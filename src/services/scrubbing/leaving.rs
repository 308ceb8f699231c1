//! A damaged copy is given up, if its range can do without it.
//!
//! 1. Where it leads, it hands over: what is made anew is filled by the leader.
//! 2. Under the node's word about the table in the coordinator it is reported lost, in a transaction that compares what the
//!    nodes of the other voters say. So of two copies that find out in the same moment that they are damaged, one
//!    is given up and the other sees that, and waits. The others have to be there, and a majority
//!    ([`crate::replication::digest::may_give_up`]).
//! 3. Then it is out of service: it answers nothing and votes no more, and control has another one made in its place
//!    ([`crate::services::assignments`]).
//!
//! Killed between 2 and 3, it comes back as one that was reported lost, and is replaced all the same. What cannot be done
//! now, since the coordinator or another copy is away, is tried again. Until then the copy goes on: what it has promised in
//! its log it keeps, and of a damaged page it says that, and nothing wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::coordination::values::{ReplicaState, Route, TableAtNode, from_json, to_json};
use crate::coordination::{Compare, Coordinator, KeyValue, Operation, layout};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::domain::table::TableDefinition;
use crate::replication::digest::may_give_up;
use crate::services::assignments::{GroupInstances, LOST};
use crate::services::engine::Engine;
use crate::services::engine::replica::Replica;
use crate::services::group::host::Groups;
use crate::services::group::ports::{GroupOperations, GroupStatus};
use crate::services::publishing::unreachable;

use super::{ScrubCounters, count};

/// See the module's essay.
pub(super) struct Leaving {
    node: NodeId,
    engine: Arc<Engine>,
    groups: Arc<Groups>,
    coordinator: Arc<dyn Coordinator>,
    counters: Arc<ScrubCounters>,
    /// To be given up, and why.
    waiting: Mutex<BTreeMap<RangeId, (ReplicaId, String)>>,
}

impl Leaving {
    pub(super) fn new(
        node: NodeId,
        engine: Arc<Engine>,
        groups: Arc<Groups>,
        coordinator: Arc<dyn Coordinator>,
        counters: Arc<ScrubCounters>,
    ) -> Self {
        Self { node, engine, groups, coordinator, counters, waiting: Mutex::default() }
    }

    /// Whether nobody else has the replica's range, as far as this node knows.
    pub(super) fn is_alone(&self, replica: &Replica) -> bool {
        let status = GroupOperations::status(&*self.groups, replica.name.range);
        !replica.is_grouped() || status.is_some_and(|status| status.membership.members.len() == 1)
    }

    /// Tells that pages of a copy that has no others are damaged; page 0 stands for the file as a whole.
    pub(super) fn tell_alone(&self, replica: &Replica, pages: &[u64]) {
        let what = match pages {
            [0] => "cannot be read".to_owned(),
            [page] => format!("has a damaged page, page {page}"),
            [first, ..] => format!("has {} damaged pages, the first is page {first}", pages.len()),
            [] => return,
        };
        self.engine.notices().write(format!(
            "the file of replica {} {what}, and its range {} of table {} has no other copy: what lies in it is lost unless a copy of the file is restored. What can be read is served, the rest is an error and never a wrong answer",
            replica.name.replica, replica.name.range, name_of(&replica.table())
        ));
    }

    /// Gives a damaged copy up as soon as that can be done.
    pub(super) async fn give_up(&self, replica: &Arc<Replica>, reason: &str) {
        let known = (replica.name.replica, reason.to_owned());
        if self.waiting.lock().insert(replica.name.range, known.clone()) == Some(known) {
            return;
        }
        self.engine.notices().write(format!(
            "replica {} of range {} of table {} is damaged: {reason}. It is taken out of service, and the range gets a new one from the good copies, as soon as the others are known to be a majority and good",
            replica.name.replica, replica.name.range, name_of(&replica.table())
        ));
        self.try_again().await;
    }

    /// Tries again what waits.
    pub(super) async fn try_again(&self) {
        let waiting = self.waiting.lock().clone();
        for (range, (id, reason)) in waiting {
            let replica = self.engine.replica_of(range).filter(|replica| replica.name.replica == id);
            let is_over = match replica.filter(|replica| replica.damage().is_none()) {
                // Somebody else took it out of service, or it is gone.
                None => true,
                Some(replica) => match self.leave(&replica, &reason).await {
                    Ok(()) => true,
                    Err(refusal) => {
                        tracing::debug!(%range, replica = %id, %refusal, "a damaged copy cannot be given up yet");
                        false
                    }
                },
            };
            if is_over {
                self.waiting.lock().remove(&range);
            }
        }
    }

    async fn leave(&self, replica: &Arc<Replica>, reason: &str) -> Result<(), Refusal> {
        let range = replica.name.range;
        let not_now = |why: &str| Refusal::unavailable(why.to_owned(), 1);
        let status = GroupOperations::status(&*self.groups, range).ok_or_else(|| not_now("it is in no group"))?;
        let voters = match &status.membership.voters[..] {
            [voters] => Some(voters),
            // Not even that can be read of it.
            [] => None,
            _ => return Err(not_now("the range's copies are just changing")),
        };
        if let Some(voters) = voters.filter(|_| status.is_leader) {
            let to = successor(&status, voters).ok_or_else(|| not_now("no other copy can lead the range now"))?;
            self.groups.hand_over(range, to).await?;
        }
        self.report(replica, voters).await?;
        let (engine, left, why) = (Arc::clone(&self.engine), Arc::clone(replica), reason.to_owned());
        let written = self.engine.workers().run(move || engine.distrust(&[left], &why)).await;
        if !matches!(written, Ok(Ok(()))) {
            // It is out of service all the same, and was reported lost.
            replica.mark_damaged(reason.to_owned());
        }
        GroupInstances::end(&*self.groups, range).await;
        count(&self.counters.given_up, 1);
        self.engine.notices().write(format!(
            "replica {} of range {} of table {} was taken out of service ({reason}); control puts a new one in its place, made from the good copies",
            replica.name.replica, range, name_of(&replica.table())
        ));
        Ok(())
    }

    /// Reports a copy lost, unless the others cannot do without it. `voters` are the group's as the copy knows them, where it
    /// does.
    async fn report(&self, replica: &Replica, voters: Option<&BTreeSet<ReplicaId>>) -> Result<(), Refusal> {
        let table = replica.table();
        let key = layout::route(&table.tenant, &table.name, replica.hashes.low);
        let entry = self.coordinator.get(&key).await.map_err(unreachable)?;
        let route = entry.as_ref().and_then(|entry| from_json::<Route>(&entry.value).ok());
        let route = route.filter(|route| route.range == replica.name.range);
        let route = route.ok_or_else(|| Refusal::unavailable("the range has no route", 1))?;
        let published = voters_of(&route);
        let ids: BTreeSet<ReplicaId> = published.keys().copied().collect();
        if voters.is_some_and(|voters| *voters != ids) {
            return Err(Refusal::unavailable("the range's members are not published yet", 1));
        }
        let mut compares = vec![Compare::unchanged(&key, entry.as_ref())];
        let mut sound = BTreeSet::new();
        for (voter, node) in published.iter().filter(|(_, node)| **node != self.node) {
            let is_alive = self.coordinator.get(&layout::node_alive(*node)).await.map_err(unreachable)?.is_some();
            let key = layout::node_table_details(*node, &table.tenant, &table.name);
            let said = self.coordinator.get(&key).await.map_err(unreachable)?;
            if is_alive && !lost_in(said.as_ref(), &table).contains(voter) {
                sound.insert(*voter);
            }
            compares.push(Compare::unchanged(&key, said.as_ref()));
        }
        if !may_give_up(replica.name.replica, &ids, &sound) {
            return Err(Refusal::unavailable(
                "the other copies that are there and good are no majority of the range's: none of them can be spared",
                1,
            ));
        }
        let own = layout::node_table_details(self.node, &table.tenant, &table.name);
        let said = self.coordinator.get(&own).await.map_err(unreachable)?;
        let mut lost = lost_in(said.as_ref(), &table);
        lost.push(replica.name.replica);
        lost.sort_unstable();
        lost.dedup();
        let now = TableAtNode { status: LOST.to_owned(), lost, table_uuid: Some(table.id) };
        compares.push(Compare::unchanged(&own, said.as_ref()));
        let written = self.coordinator.transact(compares, vec![Operation::put(&own, to_json(&now))]).await;
        match written.map_err(unreachable)?.succeeded {
            true => Ok(()),
            false => Err(Refusal::unavailable("what others say of the range changed in the same moment", 1)),
        }
    }
}

fn name_of(table: &TableDefinition) -> String {
    format!("{}/{}", table.tenant, table.name)
}

/// Who is to lead in the place of a damaged leader: of the other voters the one with most of the log.
fn successor(status: &GroupStatus, voters: &BTreeSet<ReplicaId>) -> Option<ReplicaId> {
    let others = voters.iter().filter(|voter| **voter != status.replica);
    others.max_by_key(|voter| status.matched.get(voter).copied().unwrap_or(0)).copied()
}

fn voters_of(route: &Route) -> BTreeMap<ReplicaId, NodeId> {
    let voters = route.replicas.iter().filter(|copy| copy.state == ReplicaState::Voter);
    voters.filter_map(|copy| Some((copy.replica?, copy.node))).collect()
}

/// The lost copies that an entry names, where it is about this table.
fn lost_in(entry: Option<&KeyValue>, table: &TableDefinition) -> Vec<ReplicaId> {
    let said = entry.and_then(|entry| from_json::<TableAtNode>(&entry.value).ok());
    said.filter(|said| said.table_uuid == Some(table.id)).map(|said| said.lost).unwrap_or_default()
}
