//! What others ask of the groups on a node: how one stands, and changes to it. Only a group's leader makes changes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::domain::Refusal;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::replication::machine_state::LogPlace;
use crate::replication::membership::Membership;
use crate::replication::split::Split;

/// How a group stands, as the replica on this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// The range.
    pub range: RangeId,
    /// This node's replica.
    pub replica: ReplicaId,
    /// The term it is in.
    pub term: u64,
    /// The leader, where one is known.
    pub leader: Option<ReplicaId>,
    /// Whether this replica leads, as far as it knows.
    pub is_leader: bool,
    /// Whether it is awake: one that sleeps costs nothing, and its leader is the one it fell asleep with.
    pub is_awake: bool,
    /// The members.
    pub membership: Membership,
    /// The entry that brought them.
    pub membership_at: LogPlace,
    /// The last entry in this replica's log.
    pub last_index: u64,
    /// The last entry known to be on a majority.
    pub committed: u64,
    /// The last entry applied here.
    pub applied: u64,
    /// How far each other member's log is known to go; only the leader knows.
    pub matched: BTreeMap<ReplicaId, u64>,
}

impl GroupStatus {
    /// The number of this configuration, for routes: greater in a later term, and in one term with a later membership.
    pub fn epoch(&self) -> u64 {
        (self.term << 40) | (self.membership_at.index & ((1 << 40) - 1))
    }
}

/// See the module's essay.
#[async_trait]
pub trait GroupOperations: Send + Sync + 'static {
    /// How the range's group stands; none where this node has no replica of it that is a member of a group.
    fn status(&self, range: RangeId) -> Option<GroupStatus>;

    /// Tells of ranges whose leader or membership has changed, as this node sees it. A receiver that falls behind
    /// looks at all of them.
    fn changes(&self) -> broadcast::Receiver<RangeId>;

    /// Takes a copy into the group that does not vote yet; it is filled from the leader. Repeated, it does nothing.
    /// Returns when the entry is committed, before the copy is filled.
    ///
    /// # Errors
    /// `WrongNode` where this replica does not lead; `Unavailable` where it was not committed in time.
    async fn add_learner(&self, range: RangeId, replica: ReplicaId, node: NodeId) -> Result<(), Refusal>;

    /// Makes these the voters, and these alone the members, through joint consensus. All must be members already.
    ///
    /// # Errors
    /// As [`GroupOperations::add_learner`].
    async fn change_voters(&self, range: RangeId, voters: std::collections::BTreeSet<ReplicaId>)
    -> Result<(), Refusal>;

    /// Hands leadership to another voter; returns when it leads or did not within an election's time. This replica takes no
    /// write any more then either, until one is elected.
    ///
    /// # Errors
    /// As [`GroupOperations::add_learner`].
    async fn hand_over(&self, range: RangeId, to: ReplicaId) -> Result<(), Refusal>;
}

/// What splits ranges.
#[async_trait]
pub trait SplitOperations: Send + Sync + 'static {
    /// Splits the range. Returns when this node's copy has carried it out, as long as that takes; whoever goes away before
    /// changes nothing. A range that was split so already is left as it is.
    ///
    /// # Errors
    /// `WrongNode` where this replica does not lead; `Conflict` with the reason where the split was refused: the range then goes
    /// on as it was. `OutcomeUnknown` where this replica leads no more: the split may have been carried out.
    async fn split(&self, range: RangeId, split: Split) -> Result<(), Refusal>;
}
