//! Copies of a range that is split, and of its children, which no plan names for a while.
//!
//! Control gives the children to their nodes when their routes are published, and takes the parent away in the same
//! transaction, in which its wish for the split goes, too. As long as the wish is there, nothing is decided about a copy of
//! either. It is read before the plan: where it is gone, that plan names the children.
//!
//! A copy of the parent is removed for good when the routes of both children say that all of their members have begun, whether or
//! not this copy has carried the split out itself ([`parent_may_go_by_routes`]). Until then its group lives, since a member
//! that lags is still to be given the split's entry.
//!
//! A copy of a child that is given to this node while its parent's copy here has not come to the split yet is not made: that
//! is what the parent's copy will do.

use std::collections::HashSet;
use std::sync::Arc;

use crate::coordination::values::{Route, from_json};
use crate::coordination::{KeyValue, layout};
use crate::domain::ids::RangeId;
use crate::replication::split::parent_may_go_by_routes;
use crate::services::engine::replica::Replica;

use super::Assignments;

impl Assignments {
    /// Ranges whose split control has not finished; none where that cannot be read.
    pub(super) async fn splitting(&self) -> Option<HashSet<RangeId>> {
        let wishes = self.coordinator.list(layout::CONTROL_RANGES).await.ok()?;
        Some(wishes.entries.iter().filter_map(|entry| layout::parse_control_range(&entry.key)).collect())
    }

    /// Whether nothing is to be decided about this copy yet.
    pub(super) fn waits_for_split(&self, replica: &Replica, splitting: &HashSet<RangeId>) -> bool {
        let range = replica.name.range;
        let is_child = || self.engine.origin_of(range).is_some_and(|origin| splitting.contains(&origin.parent));
        splitting.contains(&range) || is_child()
    }

    /// Removes a copy of a range that was split, if it may go. Whether it is one; `entry` is what stands where its route did.
    pub(super) async fn judge_parent(&mut self, replica: &Arc<Replica>, entry: Option<&KeyValue>) -> bool {
        let range = replica.name.range;
        let Some(lower) = entry.and_then(|entry| route_of_table(entry, replica)) else { return false };
        let at = match (replica.split(), lower.split_from) {
            (Some(done), _) => done.split.at,
            (None, Some(from)) if from.range == range && lower.high_hash < replica.hashes.high => lower.high_hash + 1,
            (None, _) => return false,
        };
        let table = replica.table();
        let key = layout::route(&table.tenant, &table.name, at);
        let Ok(entry) = self.coordinator.get(&key).await else { return true };
        let Some(upper) = entry.and_then(|entry| route_of_table(&entry, replica)) else { return true };
        let routes = [&lower, &upper].map(|route| (route.range, route.split_from));
        if parent_may_go_by_routes(range, routes) {
            tracing::info!(%range, replica = %replica.name.replica, "a range was split, and all members of its parts have begun; its copy goes");
            self.remove_now(replica).await;
        }
        true
    }
}

fn route_of_table(entry: &KeyValue, replica: &Replica) -> Option<Route> {
    let route = from_json::<Route>(&entry.value).ok()?;
    (route.table_uuid == replica.name.table).then_some(route)
}
