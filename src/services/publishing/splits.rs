//! The first routes of the two children of a split: whoever first leads one of them writes both in one transaction, over the
//! parent's route as it was read and where the upper child's goes, if nothing is there. What is written,
//! [`crate::replication::publish::split_publication`] decides. Of two leaders one writes; the other finds a route of its own
//! range, and publishes over it as usual.

use std::collections::BTreeMap;

use crate::coordination::values::{Route, from_json, to_json};
use crate::coordination::{Compare, Operation, layout};
use crate::domain::Refusal;
use crate::replication::machine_state::LogPlace;
use crate::replication::publish::{GroupView, Reason, SplitPublication, split_publication};
use crate::services::engine::Origin;
use crate::services::group::ports::GroupStatus;

use super::{Published, RoutePublisher, ServedRange, group_view, route_from, unreachable, view_of};

/// How a child stands that is alone: as a group of this copy would before its first term. So its route's epoch is below
/// that of any group.
pub(super) fn alone(range: &ServedRange, origin: &Origin) -> Option<GroupStatus> {
    let own = origin.children.iter().flatten().find(|child| child.range == range.range)?;
    let place = LogPlace { term: 0, ..own.machine.applied };
    Some(GroupStatus {
        range: range.range,
        replica: own.replica,
        term: 0,
        leader: Some(own.replica),
        is_leader: true,
        is_awake: true,
        membership: own.machine.membership.clone(),
        membership_at: place,
        last_index: place.index,
        committed: place.index,
        applied: place.index,
        matched: BTreeMap::new(),
    })
}

impl RoutePublisher {
    /// Publishes both children, where their parent's route is still there. It comes back to this range soon: then its
    /// route says what its group says.
    pub(super) async fn publish_split(
        &self,
        range: &ServedRange,
        status: &GroupStatus,
        origin: &Origin,
        published: &mut Published,
    ) -> Result<(), Refusal> {
        let sister = origin.children.iter().flatten().find(|child| child.range != range.range);
        let Some(sister) = sister else {
            published.not_ours += 1;
            return Ok(());
        };
        let lower_key = layout::route(&range.tenant, &range.table, origin.hashes.low);
        let upper_key = layout::route(&range.tenant, &range.table, origin.split.split.at);
        let entry = self.coordinator.get(&lower_key).await.map_err(unreachable)?;
        let route = entry.as_ref().and_then(|entry| from_json::<Route>(&entry.value).ok());
        let route = route.map(|route| view_of(origin.hashes.low, &route));
        let own = group_view(self.node, range, status);
        let sister = GroupView::at_start(sister, range.table_id, self.node);
        // Children that are alone are in no term.
        let sister = GroupView { term: sister.term.min(status.term), ..sister };
        match split_publication(origin.parent, route.as_ref(), &own, &sister, &self.addresses_of(status)) {
            SplitPublication::Write { lower, upper } => {
                let compares = vec![Compare::unchanged(&lower_key, entry.as_ref()), Compare::absent(&upper_key)];
                let operations = vec![
                    Operation::put(&lower_key, to_json(&route_from(&lower))),
                    Operation::put(&upper_key, to_json(&route_from(&upper))),
                ];
                let outcome = self.coordinator.transact(compares, operations).await.map_err(unreachable)?;
                if outcome.succeeded {
                    published.written += 2;
                    tracing::info!(parent = %origin.parent, lower = %lower.range, upper = %upper.range, "the routes of a split were published");
                }
                published.contended += 1;
            }
            SplitPublication::Leave(Reason::NotCommitted | Reason::AddressUnknown(_)) => published.contended += 1,
            SplitPublication::Leave(_) => published.not_ours += 1,
        }
        Ok(())
    }
}
