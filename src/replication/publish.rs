//! What the leader of a range's group writes under the range's route, given the route as it was read and what the
//! group says. The shell reads, asks here, and writes by compare-and-set on what it read: an answer that was lost is
//! no answer, so it reads again and asks again, and comes to the same.
//!
//! - Only a leader writes, and only what is **committed**. A membership that is merely in the leader's log may be cut off
//!   again; if its route were seen before, control would take the place of a copy away that the group still counts on.
//! - The epoch of a route only grows. Under the same epoch only addresses change: an epoch is made from the term, which
//!   has one leader, and from the place of the membership, so that it names one configuration.
//! - A route of another range is left alone. The one exception is a split: whoever first leads one of the two children
//!   writes the routes of both in one transaction, over the route of their parent as it was read and where no route is.
//!   So there is no moment in which half of the parent's hashes lead nowhere, and a table that was dropped meanwhile
//!   does not come back, because its route is gone and the comparison fails.
//! - The route that is written for the sister names this node as its leader. It has a copy of her, and her own leader
//!   publishes over it with a greater epoch: she starts in the parent's term and elects in a later one.
//!
//! - A child's route says where it comes from ([`SplitFrom`]), and its leader adds, when all its members have begun, that they
//!   have: then the parent's copies may go. That changes no configuration, so it is written under the same epoch.
//!
//! Rejected: a route for the sister with epoch 0. It would say that the range may start empty.
//!
//! What the next author must keep: an epoch of 0 is never written here, and nothing is written that was not compared.

use std::collections::BTreeMap;

use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReplicaId, TableId};

use super::machine_state::LogPlace;
use super::membership::Membership;
use super::split::{ChildProgress, ChildStart, SplitFrom, has_begun};

/// Bits of an epoch that hold the place of the membership; those above hold the term.
pub const EPOCH_INDEX_BITS: u32 = 40;

/// The number of a configuration: greater in a later term, and in one term with a later membership.
pub fn epoch_of(term: u64, membership_index: u64) -> u64 {
    (term << EPOCH_INDEX_BITS) | (membership_index & ((1 << EPOCH_INDEX_BITS) - 1))
}

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// By clients.
    pub uri: String,
    /// By other components, where that is another address.
    pub inside_uri: Option<String>,
}

/// What a copy may do, as a route says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyState {
    /// Votes, may lead, may answer eventual reads.
    Voter,
    /// Is being filled, or something of a newer version: answers nothing.
    Learner,
}

/// One copy in a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteCopy {
    /// Its node.
    pub node: NodeId,
    /// The copy; none in routes of ranges with one copy, as control makes them.
    pub replica: Option<ReplicaId>,
    /// What it may do.
    pub state: CopyState,
    /// Where its node is reached.
    pub address: Address,
}

/// A route: who serves a range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteView {
    /// The range.
    pub range: RangeId,
    /// Its table.
    pub table: TableId,
    /// Its hashes; the first stands in the route's key.
    pub hashes: HashRange,
    /// The number of the configuration; 0 where no leader has published yet.
    pub epoch: u64,
    /// The leader's node.
    pub leader: NodeId,
    /// Where the leader's node is reached.
    pub address: Address,
    /// Every copy, ascending by replica where they have one.
    pub copies: Vec<RouteCopy>,
    /// Where it comes from, if it is a child of a split.
    pub split_from: Option<SplitFrom>,
}

impl RouteView {
    /// Whether a copy of this id stands in it.
    pub fn names(&self, replica: ReplicaId) -> bool {
        self.copies.iter().any(|copy| copy.replica == Some(replica))
    }

    /// Whether both say the same of who leads and who votes, whatever the addresses.
    fn same_configuration(&self, other: &RouteView) -> bool {
        let copies = |route: &RouteView| -> Vec<_> {
            route.copies.iter().map(|copy| (copy.node, copy.replica, copy.state)).collect()
        };
        self.leader == other.leader && copies(self) == copies(other)
    }
}

/// What a group says on this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupView {
    /// The range.
    pub range: RangeId,
    /// Its table.
    pub table: TableId,
    /// Its hashes.
    pub hashes: HashRange,
    /// This node.
    pub node: NodeId,
    /// Whether this node's copy leads, as far as it knows.
    pub leads: bool,
    /// The term in which it does.
    pub term: u64,
    /// The membership in force: the last one in the log, committed or not.
    pub membership: Membership,
    /// The entry that brought it.
    pub membership_at: LogPlace,
    /// The last entry known to be committed.
    pub committed: u64,
    /// How far each member's log is known to go, its own included; nothing where that is not known.
    pub matched: BTreeMap<ReplicaId, u64>,
}

impl GroupView {
    /// The number of this configuration.
    pub fn epoch(&self) -> u64 {
        epoch_of(self.term, self.membership_at.index)
    }

    /// A child of a split as it started, before anyone led it: what its sister's leader may say of it.
    pub fn at_start(child: &ChildStart, table: TableId, node: NodeId) -> Self {
        Self {
            range: child.range,
            table,
            hashes: child.hashes,
            node,
            leads: false,
            term: child.machine.applied.term,
            membership: child.machine.membership.clone(),
            membership_at: child.machine.membership_at,
            committed: child.machine.applied.index,
            matched: BTreeMap::new(),
        }
    }
}

/// Why nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// This node does not lead the group.
    NotLeader,
    /// The membership in force is not committed yet; ask again when it is.
    NotCommitted,
    /// There is no route under the key: the table is being made or was dropped.
    NoRoute,
    /// The route is of another range or table.
    OtherRange,
    /// The route has a greater epoch: a later leader was there, and this one will hear of it.
    Newer,
    /// The route is right already.
    Same,
    /// It is, too, but some of its members have not begun, or it is not known here; ask again.
    NotBegun,
    /// The route says something else under the same epoch. Neither can be told to be right; a person should know.
    Contradiction,
    /// Nobody has said yet where this node is reached.
    AddressUnknown(NodeId),
}

/// What to do about the route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Publication {
    /// Nothing.
    Leave(Reason),
    /// Write this, if the route is still what was read.
    Write(RouteView),
}

/// What to do about the routes of the two children of a split.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "one is made in the life of a range")]
pub enum SplitPublication {
    /// Nothing.
    Leave(Reason),
    /// Write both in one transaction, if the parent's route is still what was read and there is still none where the
    /// upper child's goes.
    Write {
        /// Over the parent's route.
        lower: RouteView,
        /// Under a key that does not exist yet.
        upper: RouteView,
    },
}

/// Decides about the route of a group's range as it was read; none where there is none.
pub fn publication(route: Option<&RouteView>, group: &GroupView, addresses: &BTreeMap<NodeId, Address>) -> Publication {
    if let Some(reason) = may_not_speak(group) {
        return Publication::Leave(reason);
    }
    let Some(route) = route else {
        return Publication::Leave(Reason::NoRoute);
    };
    if route.range != group.range || route.table != group.table || route.hashes != group.hashes {
        return Publication::Leave(Reason::OtherRange);
    }
    if route.epoch > group.epoch() {
        return Publication::Leave(Reason::Newer);
    }
    let mut new = match route_of(group, group.epoch(), Some(route), addresses) {
        Ok(new) => new,
        Err(reason) => return Publication::Leave(reason),
    };
    if let Some(from) = &mut new.split_from {
        let progress = ChildProgress { membership: group.membership.clone(), matched: group.matched.clone() };
        from.begun |= has_begun(from.index, &progress);
    }
    if new == *route {
        let waits = new.split_from.is_some_and(|from| !from.begun);
        Publication::Leave(if waits { Reason::NotBegun } else { Reason::Same })
    } else if new.epoch == route.epoch && !new.same_configuration(route) {
        Publication::Leave(Reason::Contradiction)
    } else {
        Publication::Write(new)
    }
}

/// Decides about the first routes of two children, asked by a node that leads the child `own`; `sister` is the other as
/// she started ([`GroupView::at_start`]), for nothing later is certain of her here. `parent` is the range they came from, `route` what stands under its key.
pub fn split_publication(
    parent: RangeId,
    route: Option<&RouteView>,
    own: &GroupView,
    sister: &GroupView,
    addresses: &BTreeMap<NodeId, Address>,
) -> SplitPublication {
    if let Some(reason) = may_not_speak(own) {
        return SplitPublication::Leave(reason);
    }
    let Some(route) = route else {
        return SplitPublication::Leave(Reason::NoRoute);
    };
    let (lower, upper) = if own.hashes < sister.hashes { (own, sister) } else { (sister, own) };
    let covers = lower.hashes.low == route.hashes.low && upper.hashes.high == route.hashes.high;
    if route.range != parent || route.table != own.table || own.table != sister.table || !covers {
        return SplitPublication::Leave(Reason::OtherRange);
    }
    let split_from = Some(SplitFrom { range: parent, index: sister.membership_at.index, begun: false });
    let child = |view: &GroupView| {
        let child = route_of(view, view.epoch(), Some(route), addresses)?;
        Ok(RouteView { split_from, ..child })
    };
    let (own_route, sister_route) = (child(own), child(sister));
    match (own_route, sister_route) {
        (Err(reason), _) | (_, Err(reason)) => SplitPublication::Leave(reason),
        (Ok(own_route), Ok(sister_route)) if own.hashes < sister.hashes => {
            SplitPublication::Write { lower: own_route, upper: sister_route }
        }
        (Ok(own_route), Ok(sister_route)) => SplitPublication::Write { lower: sister_route, upper: own_route },
    }
}

/// Why this group has nothing to say about itself.
fn may_not_speak(group: &GroupView) -> Option<Reason> {
    if !group.leads {
        Some(Reason::NotLeader)
    } else if group.membership_at.index > group.committed {
        Some(Reason::NotCommitted)
    } else {
        None
    }
}

/// The route that says how the group stands. Where a node's address is not known, it stays as it was.
fn route_of(
    group: &GroupView,
    epoch: u64,
    before: Option<&RouteView>,
    addresses: &BTreeMap<NodeId, Address>,
) -> Result<RouteView, Reason> {
    let address = |node: NodeId| {
        let kept = || before?.copies.iter().find(|copy| copy.node == node).map(|copy| &copy.address);
        addresses.get(&node).or_else(kept).cloned().ok_or(Reason::AddressUnknown(node))
    };
    let mut copies = Vec::with_capacity(group.membership.members.len());
    for (replica, node) in &group.membership.members {
        let state = if group.membership.is_voter(*replica) { CopyState::Voter } else { CopyState::Learner };
        copies.push(RouteCopy { node: *node, replica: Some(*replica), state, address: address(*node)? });
    }
    Ok(RouteView {
        range: group.range,
        table: group.table,
        hashes: group.hashes,
        epoch,
        leader: group.node,
        address: address(group.node)?,
        copies,
        split_from: before.and_then(|before| before.split_from),
    })
}

#[cfg(test)]
mod tests;
