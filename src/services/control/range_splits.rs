//! Ranges that are split because a person asks for it.
//!
//! What is asked for stands under `control/range/{parent}` ([`RangeWish`]): where to split, and a new id for each child and for each
//! copy of one. The range's leader puts it into the log, each replica makes its copies of the children, and whoever leads a
//! child publishes the routes of both. Then control takes the children over: in one transaction it gives them to their
//! nodes, takes the parent away from these, and removes the wish. Until then no node takes a child out of service
//! that no plan names, and none removes its copy of the parent.
//!
//! # What can come in between
//! * The members change before the split stands in the log: then no replica carries it out. The route shows it, and
//!   control wishes anew, with ids that were never used, when the range is settled again.
//! * An earlier wish was carried out while control wrote a later one: the children have other ids than the wish. What
//!   counts is where their routes say that they come from.
//! * The table is dropped: its routes go, and nobody publishes over a route that is not there. The wish goes with them.
//!
//! A child is split only when all its members have begun, for until then its route is where the nodes see whether the
//! parent's copies may go.

use serde::{Deserialize, Serialize};

use crate::coordination::values::{
    AssignedRange, AssignedReplica, RangeWish, Route, RouteReplica, SplitMember, SplitWish, to_json,
};
use crate::coordination::{Compare, KeyValue, Operation, layout};
use crate::domain::hash::HashRange;
use crate::domain::ids::{RangeId, ReplicaId};
use crate::domain::{Refusal, TableName, TenantName};
use crate::placement::repair::RepairRange;
use crate::placement::split::middle;
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended};
use super::plane::ControlPlane;
use super::range_map::{RangeMap, RangeRow};
use super::range_moves::found;
use super::ranges::Group;

/// What was wished for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitAnswer {
    /// The first hash of the upper part.
    pub hash: u32,
}

impl ControlPlane {
    /// Wishes for a range to be split, at this hash or else in the middle of its hashes.
    ///
    /// # Errors
    /// `NotFound` where there is no such range; `BadInput` where the hash is not inside it; `Conflict` where it is
    /// changing, is being split, or was split.
    pub async fn range_split(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        range: RangeId,
        at: Option<u32>,
    ) -> Result<SplitAnswer, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let map = self.range_map().await?;
            check_not_split(&map, tenant, table, range)?;
            let (row, described) = found(&map, tenant, table, range)?;
            let at = place_of(row, at)?;
            check_settled(row, &described)?;
            let wish = self.wish_for(row, &described, at);
            let key = layout::control_range(range);
            let mut compares = row.compares();
            compares.push(Compare::absent(&key));
            let change = Change {
                resource: format!("range/{range}"),
                who: &caller.name,
                before: None,
                after: Some(serde_json::json!({ "split": at })),
                compares,
                operations: vec![Operation::put(&key, to_json(&wish))],
            };
            if self.commit(change).await? {
                return Ok(SplitAnswer { hash: at });
            }
        }
        Err(contended())
    }

    /// A wish with ids that were never used.
    fn wish_for(&self, row: &RangeRow, described: &RepairRange, at: u32) -> RangeWish {
        let random = self.random.as_ref();
        let member = |replica: ReplicaId| SplitMember {
            replica,
            lower: ReplicaId::random(random),
            upper: ReplicaId::random(random),
        };
        RangeWish {
            tenant: row.key.tenant.clone(),
            table: row.key.table.clone(),
            table_uuid: row.route.table_uuid,
            split: SplitWish {
                at,
                lower: RangeId::random(random),
                upper: RangeId::random(random),
                members: described.voters.iter().map(|copy| member(copy.replica)).collect(),
            },
        }
    }

    /// Carries every wish on, as far as it is control's part. How many were done or wished anew.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked; what was written stays written.
    pub(super) async fn splits_settle(&self, map: &RangeMap) -> Result<usize, Refusal> {
        let mut settled = 0;
        for (range, (entry, wish)) in &map.wishes {
            if let Some(group) = self.split_step(map, *range, entry, wish)
                && self.group_write(group).await?
            {
                settled += 1;
            }
        }
        Ok(settled)
    }

    /// What is to be written for a wish now.
    fn split_step(&self, map: &RangeMap, range: RangeId, entry: &KeyValue, wish: &RangeWish) -> Option<Group> {
        let unchanged = Compare::unchanged(&entry.key, Some(entry));
        let of_table: Vec<&RangeRow> =
            map.ranges.iter().filter(|row| row.route.table_uuid == wish.table_uuid).collect();
        if let Some(row) = of_table.iter().find(|row| row.route.range == range) {
            let described = row.repair_range()?;
            let has_other_members = !has_members(wish, &described);
            if !has_other_members || !described.is_settled() {
                return None;
            }
            tracing::info!(%range, "the members of a range have changed since its split was asked for; it is asked for anew");
            let wish = self.wish_for(row, &described, wish.split.at);
            let mut compares = row.compares();
            compares.push(unchanged);
            return Some(Group { compares, operations: vec![Operation::put(&entry.key, to_json(&wish))] });
        }
        let children: Vec<&&RangeRow> = of_table.iter().filter(|row| comes_from(&row.route, range)).collect();
        let mut group = Group { compares: vec![unchanged], operations: vec![Operation::delete(&entry.key)] };
        if children.len() == 2 {
            for child in &children {
                take_over(child, &mut group)?;
            }
            tracing::info!(%range, lower = %children[0].route.range, upper = %children[1].route.range, "the children of a split are given to their nodes");
        } else if !of_table.is_empty() {
            // The routes are read page by page, so both may be on their way.
            return None;
        }
        Some(group)
    }
}

/// Gives a child to the nodes of its copies, in place of the parent where that began at the same hash. None where the
/// route does not name each copy.
fn take_over(child: &RangeRow, group: &mut Group) -> Option<()> {
    let copy = |copy: &RouteReplica| Some(AssignedReplica { node: copy.node, replica: copy.replica? });
    let copies = child.route.replicas.iter().map(copy).collect::<Option<Vec<_>>>()?;
    group.compares.push(Compare::unchanged(&child.entry.key, Some(&child.entry)));
    let (key, route) = (&child.key, &child.route);
    for copy in &copies {
        let assigned = AssignedRange {
            low_hash: key.low_hash,
            high_hash: route.high_hash,
            range: Some(route.range),
            replica: Some(copy.replica),
            table_uuid: Some(route.table_uuid),
            replicas: copies.clone(),
            leader: child.stale_leader(),
            is_new: false,
        };
        let at = layout::node_range(copy.node, &key.tenant, &key.table, key.low_hash);
        group.compares.push(match child.stale.get(&copy.node) {
            Some((entry, _)) => Compare::unchanged(&at, Some(entry)),
            None => Compare::absent(&at),
        });
        group.operations.push(Operation::put(at, to_json(&assigned)));
    }
    for (node, (entry, _)) in &child.stale {
        if copies.iter().all(|copy| copy.node != *node) {
            group.compares.push(Compare::unchanged(&entry.key, Some(entry)));
            group.operations.push(Operation::delete(&entry.key));
        }
    }
    Some(())
}

fn comes_from(route: &Route, parent: RangeId) -> bool {
    route.split_from.is_some_and(|from| from.range == parent)
}

fn has_members(wish: &RangeWish, described: &RepairRange) -> bool {
    let of_wish = wish.split.members.iter().map(|member| member.replica);
    let of_range = described.voters.iter().map(|copy| copy.replica);
    of_wish.collect::<std::collections::BTreeSet<_>>() == of_range.collect()
}

/// Where to split: the hash that was asked for, or the middle.
fn place_of(row: &RangeRow, at: Option<u32>) -> Result<u32, Refusal> {
    let hashes = HashRange { low: row.key.low_hash, high: row.route.high_hash };
    let range = row.route.range;
    match (at, middle(hashes)) {
        (_, None) => Err(Refusal::bad_input(format!("the range {range} has one hash alone and cannot be split"))),
        (Some(at), _) if at <= hashes.low || at > hashes.high => Err(Refusal::bad_input(format!(
            "the hash {at} is not inside the range {range}: the upper part begins with it, so choose one from {} to {}",
            hashes.low + 1,
            hashes.high
        ))),
        (Some(at), _) | (None, Some(at)) => Ok(at),
    }
}

/// That it is there, and neither split nor about to be.
fn check_not_split(map: &RangeMap, tenant: &TenantName, table: &TableName, range: RangeId) -> Result<(), Refusal> {
    if let Some((_, wish)) = map.wishes.get(&range) {
        return Err(Refusal::conflict(format!(
            "the range {range} is being split already, at {}; `dstore control range list` shows when it is done",
            wish.split.at
        )));
    }
    let of_table = map.ranges.iter().filter(|row| row.key.tenant == *tenant && row.key.table == *table);
    let children: Vec<String> =
        of_table.filter(|row| comes_from(&row.route, range)).map(|row| row.route.range.to_string()).collect();
    if children.is_empty() {
        return Ok(());
    }
    Err(Refusal::conflict(format!("the range {range} was split already, into {}", children.join(" and "))))
}

fn check_settled(row: &RangeRow, described: &RepairRange) -> Result<(), Refusal> {
    let range = row.route.range;
    if !described.is_settled() || !described.is_served {
        return Err(Refusal::conflict(format!(
            "the range {range} is changing; wait until all its copies vote (`dstore control range show`), and ask again"
        )));
    }
    if row.route.split_from.is_some_and(|from| !from.begun) {
        return Err(Refusal::conflict(format!(
            "the range {range} comes from a split that not all of its copies have finished; wait for them, or until they are replaced, and ask again"
        )));
    }
    Ok(())
}
