//! A data folder has an incarnation: a random id that is made with it and kept in it. The node's details carry it. A node
//! that comes with another one than the coordinator knows has lost its data, or was given somebody else's: whatever it was
//! given before and does not have is lost, also where no route says yet that it was ever served. For a copy may have
//! promised its vote before its range's route was published for the first time.
//!
//! So before a node makes any copy, it settles this:
//!
//! 1. it reads its details. Where they name its own incarnation, or none, there is nothing to report;
//! 2. else it reports as lost all copies it was given and does not have;
//! 3. only then it writes its own incarnation into the details, and makes what it is given from then on.
//!
//! Killed in between, it begins again: the details still name the other one. Reported copies never begin again
//! ([`super::starting`]); control gives their ranges new ones.
//!
//! A folder of the same incarnation may be an older copy of itself. The details name the last start that was settled; where the
//! folder knows nothing of that, the node gives up its copies ([`crate::services::rolled_back`]) before it writes its own
//! start into the details.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::coordination::values::{NodeDetails, TableAtNode, from_json, to_json};
use crate::coordination::{Compare, Coordinator, KeyValue, OPERATIONS_PER_BATCH, Operation, layout};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, ReplicaId};
use crate::services::engine::Engine;
use crate::services::engine::notices::Notices;
use crate::services::group::host::Groups;
use crate::services::publishing::unreachable;
use crate::services::rolled_back::{Objection, OwnBoots, give_up_copies};

use super::plan::{LOST, given_range, read_listing, read_said};

/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module's essay.
pub struct Incarnation {
    /// The node.
    pub node: NodeId,
    /// The data folder's.
    pub own: Uuid,
    /// What the node says of itself where nothing is said yet.
    pub details: NodeDetails,
    /// Where details and assignments are.
    pub coordinator: Arc<dyn Coordinator>,
    /// The folder's boot numbers.
    pub boots: Arc<OwnBoots>,
}

impl Incarnation {
    /// Gives up the node's copies where the coordinator knows of a start that the folder does not.
    async fn give_up_if_older(&self, engine: &Arc<Engine>, groups: &Arc<Groups>) -> Result<(), Refusal> {
        let known = self.read().await?.1.filter(|known| known.incarnation == Some(self.own));
        let Some(boot) = known.and_then(|known| known.boot).filter(|boot| self.boots.has_forgotten(*boot)) else {
            return Ok(());
        };
        let why = "the coordinator knows of a start of this node that the folder knows nothing of".to_owned();
        let given_up = give_up_copies(engine, groups, &Objection { why, boot }).await;
        given_up.map_err(|error| Refusal::unavailable(error, 1))
    }

    /// Settles it as soon as the coordinator can be asked.
    pub async fn settle_with(&self, engine: &Arc<Engine>, groups: &Arc<Groups>, notices: &Notices) {
        loop {
            let held: BTreeSet<ReplicaId> =
                engine.replicas().iter().map(|replica| replica.name.replica).chain(retired(engine)).collect();
            let older = self.give_up_if_older(engine, groups).await;
            let settled = match older {
                Ok(()) => self.settle(&held).await,
                Err(refusal) => Err(refusal),
            };
            match settled {
                Ok(0) => return self.boots.settle(),
                Ok(lost) => {
                    notices.write(format!(
                        "this data folder is not the one that the node had before: {lost} copies that it was given are not in it. They are given up, and ranges that have other copies get new ones"
                    ));
                    return self.boots.settle();
                }
                Err(refusal) => tracing::warn!(%refusal, "the node waits to tell which data folder it has"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Settles it; `held` are the copies that are here. How many were reported lost.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked, or control wrote in the same moment: to be asked again.
    pub async fn settle(&self, held: &BTreeSet<ReplicaId>) -> Result<usize, Refusal> {
        let key = layout::node_details(self.node);
        let (entry, known) = self.read().await?;
        let incarnation = known.as_ref().and_then(|details| details.incarnation);
        let lost = match incarnation {
            Some(incarnation) if incarnation != self.own => self.report(held).await?,
            _ => 0,
        };
        let (incarnation, boot) = (Some(self.own), Some(self.boots.present()));
        let details = NodeDetails { incarnation, boot, ..known.unwrap_or_else(|| self.details.clone()) };
        self.write(&key, entry.as_ref(), &details).await?;
        Ok(lost)
    }

    /// The node's details as they stand.
    async fn read(&self) -> Result<(Option<KeyValue>, Option<NodeDetails>), Refusal> {
        let key = layout::node_details(self.node);
        let entry = self.coordinator.get(&key).await.map_err(unreachable)?;
        let unreadable = |_| Refusal::unavailable(format!("the node's details under {key} cannot be read"), 5);
        let known =
            entry.as_ref().map(|entry| from_json::<NodeDetails>(&entry.value).map_err(unreadable)).transpose()?;
        Ok((entry, known))
    }

    async fn write(&self, key: &str, entry: Option<&KeyValue>, details: &NodeDetails) -> Result<(), Refusal> {
        let compares = vec![Compare::unchanged(key, entry)];
        let written = self.coordinator.transact(compares, vec![Operation::put(key, to_json(details))]).await;
        match written.map_err(unreachable)?.succeeded {
            true => Ok(()),
            false => Err(Refusal::unavailable("the node's details changed in the same moment", 1)),
        }
    }

    /// Reports as lost what was given and is not here. How many.
    async fn report(&self, held: &BTreeSet<ReplicaId>) -> Result<usize, Refusal> {
        let listing = self.coordinator.list(&layout::node_tables(self.node)).await.map_err(unreachable)?;
        let said = read_said(&listing);
        let mut tables: BTreeMap<String, TableAtNode> = BTreeMap::new();
        let mut count = 0;
        for given in read_listing(&listing).iter().filter_map(|(key, assigned)| given_range(key, assigned)) {
            if held.contains(&given.replica) {
                continue;
            }
            count += 1;
            let key = layout::node_table_details(self.node, &given.tenant, &given.table);
            let before = || said.get(&key).cloned().filter(|said| said.table_uuid == Some(given.table_id));
            let empty = || TableAtNode { status: String::new(), lost: Vec::new(), table_uuid: Some(given.table_id) };
            let table = tables.entry(key.clone()).or_insert_with(|| before().unwrap_or_else(empty));
            table.status = LOST.to_owned();
            table.lost.push(given.replica);
            table.lost.sort_unstable();
            table.lost.dedup();
        }
        let tables: Vec<_> = tables.into_iter().collect();
        for piece in tables.chunks(OPERATIONS_PER_BATCH) {
            let operations = piece.iter().map(|(key, table)| Operation::put(key, to_json(table))).collect();
            self.coordinator.transact(Vec::new(), operations).await.map_err(unreachable)?;
        }
        Ok(count)
    }
}

/// Copies of dropped tables: they are here, and may be brought back.
fn retired(engine: &Engine) -> Vec<ReplicaId> {
    engine.retired().into_iter().map(|retired| retired.name.replica).collect()
}

#[cfg(test)]
mod tests;
