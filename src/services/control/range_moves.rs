//! Copies and leaderships moved because a person asks for it: one range's, or all of a node.
//!
//! What is asked for is written down as placement writes its own wishes ([`super::reconcile`]), with the same compares,
//! and carried out by the ranges' leaders. A command returns when the wish is written; how far it has come is seen in
//! the ranges and nodes as they are listed.
//!
//! A leader that a person chose stays the wish until its node leaves, or leads so many more ranges than others that
//! leaderships are spread again.

use crate::domain::ids::{NodeId, RangeId};
use crate::domain::{Refusal, TableName, TenantName};
use crate::placement::repair::{RepairRange, Standing, Step, without_refuge};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended};
use super::plane::ControlPlane;
use super::range_map::{RangeMap, RangeRow};
use super::records::NodeWish;

/// How long a node that handed its leaderships over is given none, in seconds: time for a restart.
pub const HAND_OVER_SECONDS: u64 = 900;

impl ControlPlane {
    /// Wishes for another leader of a range.
    ///
    /// # Errors
    /// `NotFound` where there is no such range; `Conflict` where the node holds no copy that votes, or is not there.
    pub async fn range_lead(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        range: RangeId,
        to: NodeId,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let map = self.range_map().await?;
            let (row, described) = found(&map, tenant, table, range)?;
            if !described.voters.iter().any(|copy| copy.node == to) {
                return Err(Refusal::conflict(format!(
                    "the node {to} has no copy of the range {range} that votes; `dstore control range show` lists those that have"
                )));
            }
            able(&map, to, "lead a range")?;
            if described.leader == to && described.wished_leader.is_none_or(|wished| wished == to) {
                return Ok(());
            }
            let change = serde_json::json!({ "leader": to });
            if self.range_write(caller, row, Step::Lead, Some(to), change).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Wishes for a copy of a range to be on another node than where it is.
    ///
    /// # Errors
    /// `NotFound` where there is no such range; `Conflict` where the one node has no copy, the other has one already or
    /// cannot take one, or the range is changing already.
    pub async fn range_move(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        range: RangeId,
        from: NodeId,
        to: NodeId,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let map = self.range_map().await?;
            let (row, described) = found(&map, tenant, table, range)?;
            let leaving = described.wanted.iter().find(|copy| copy.node == from);
            let leaving = leaving.ok_or_else(|| {
                Refusal::conflict(format!(
                    "the node {from} has no copy of the range {range}; `dstore control range show` lists those that have"
                ))
            })?;
            if described.wanted.iter().any(|copy| copy.node == to) {
                return Err(Refusal::conflict(format!("the node {to} has a copy of the range {range} already")));
            }
            if !described.is_settled() || !described.is_served {
                return Err(Refusal::conflict(format!(
                    "the range {range} is changing; wait until all its copies vote (`dstore control range show`), and ask again"
                )));
            }
            able(&map, to, "take a copy")?;
            let leader = described.wished_leader.unwrap_or(described.leader);
            let stays = described.voters.iter().map(|copy| copy.node).filter(|node| *node != from);
            let leader = if leader == from { stays.min() } else { described.wished_leader };
            let change = serde_json::json!({ "from": from, "to": to });
            if self.range_write(caller, row, Step::Replace(leaving.replica, to), leader, change).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn range_write(
        &self,
        caller: &Caller,
        row: &RangeRow,
        step: Step,
        leader: Option<NodeId>,
        change: serde_json::Value,
    ) -> Result<bool, Refusal> {
        let wanted = self.wanted_after(row, step);
        let group = row.write(&wanted, leader);
        self.commit(Change {
            resource: format!("range/{}", row.route.range),
            who: &caller.name,
            before: Some(serde_json::json!({ "wanted": row.wanted(), "leader": row.wished_leader() })),
            after: Some(serde_json::json!({ "wanted": wanted, "leader": leader, "asked": change })),
            compares: group.compares,
            operations: group.operations,
        })
        .await
    }

    /// Begins to empty a node: all its copies move to others.
    ///
    /// # Errors
    /// `NotFound` where there is no such node; `Conflict` where some of its copies could go nowhere.
    pub async fn node_drain(&self, caller: &Caller, node: NodeId) -> Result<(), Refusal> {
        let mut map = self.range_map().await?;
        if let Some(row) = map.rows.get_mut(&node) {
            row.wish = NodeWish::Drain;
        }
        let stuck = self.stuck_at(&map, node);
        if !stuck.is_empty() {
            let (count, verb) = if stuck.len() == 1 {
                ("1 range".to_owned(), "has")
            } else {
                (format!("{} ranges", stuck.len()), "have")
            };
            return Err(Refusal::conflict(format!(
                "the node {node} cannot be emptied: {count} of it {verb} no other node to go to, because each copy needs a node of its own that serves and has room. Start another node, or ask for fewer copies with `dstore control table set --replication-factor`"
            )));
        }
        self.node_wish(caller, node, NodeWish::Drain).await
    }

    /// Ranges of a node whose copy there could go nowhere.
    pub(super) fn stuck_at(&self, map: &RangeMap, node: NodeId) -> Vec<RangeId> {
        without_refuge(&self.repair_nodes_now(map), &map.repair_ranges(), node)
    }

    /// Moves the leaderships of a node to others; its copies stay. For [`HAND_OVER_SECONDS`] it is given none.
    ///
    /// # Errors
    /// `NotFound` where there is no such node.
    pub async fn node_hand_over(&self, caller: &Caller, node: NodeId) -> Result<(), Refusal> {
        let until = self.now().plus_seconds(HAND_OVER_SECONDS);
        self.node_record_set(caller, node, |record| record.hand_over_until = Some(until)).await
    }
}

impl RangeMap {
    fn row(&self, tenant: &TenantName, table: &TableName, range: RangeId) -> Option<&RangeRow> {
        let is_it = |row: &&RangeRow| row.route.range == range && row.key.tenant == *tenant && row.key.table == *table;
        self.ranges.iter().find(is_it)
    }
}

pub(super) fn found<'a>(
    map: &'a RangeMap,
    tenant: &TenantName,
    table: &TableName,
    range: RangeId,
) -> Result<(&'a RangeRow, RepairRange), Refusal> {
    let found = map.row(tenant, table, range).and_then(|row| Some((row, row.repair_range()?)));
    found.ok_or_else(|| Refusal::not_found(format!("the table {table} of {tenant} has no range {range}")))
}

/// That the node is there and may be given something.
fn able(map: &RangeMap, node: NodeId, what: &str) -> Result<(), Refusal> {
    match map.rows.get(&node) {
        None => Err(Refusal::not_found(format!("there is no node {node} at this control plane"))),
        Some(row) if row.alive && row.standing() == Standing::Okay => Ok(()),
        Some(_) => Err(Refusal::conflict(format!(
            "the node {node} cannot {what} now: it is silent, stopped or leaving; see `dstore control node list`"
        ))),
    }
}
