//! A split: one entry in the log of a range, after which the range serves nothing and two new ones stand in its place,
//! the lower with the hashes below [`Split::at`], the upper with the rest. Each member of the parent has a copy of both
//! children, whose ids the entry names, so that every replica that applies it makes the same.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 4 | the first hash of the upper child |
//! | 16 + 16 | the lower and the upper child's range |
//! | 2 | number of members |
//! | each member | 16 the parent's replica, 16 the lower child's, 16 the upper child's; ascending by the parent's |
//!
//! # How it goes
//! - **Validity** is decided when the entry is applied, by [`check`], the same on each replica: a membership that
//!   changed between proposing and applying makes the split refused, and the range goes on as it was.
//! - **A child starts** ([`Split::children`]) as if from a snapshot at the place of the split's entry: that is its first
//!   purged log place, its applied place and the place of its membership. So its versions lie above all of its parent's, and
//!   so do its epochs. Items, client request ids and receipts go by their hash, the window of proxies' ids too
//!   ([`super::request_id::Window::split`]): a write that was retried across the split is still applied once.
//! - **The parent afterwards** answers every question with the child that has the hash ([`Split::child_of`]), and applies
//!   no operation behind the split in its log ([`Split::refuses`]): not as refused for good, for the same request may be
//!   carried out by the child, but as moved. Its group lives on so that a member that lags is still given the entry. A
//!   copy of the parent goes only by [`parent_copy_may_go`].
//! - **Who publishes**: whoever first leads a child writes both routes ([`super::publish::split_publication`]); the parent's leader
//!   publishes nothing of the children.
//!
//! A split that was carried out is kept as [`SplitDone`], in the parent's state ([`MachineState::split`]), so that it is in
//! the parent's snapshots, too: a member that is sent one instead of the entry makes the same children from it.
//!
//! | bytes of one that was carried out | what |
//! |---|---|
//! | 8 + 8 | term and index of the split's entry |
//! | 4 + n | the membership there |
//! | rest | the split |
//!
//! Rejected: that a child is made when its first message comes. Two copies would then start from different states of the
//! parent.
//!
//! What the next author must keep: a child's copy is durable before the parent's applied place passes the split.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::domain::hash::HashRange;
use crate::domain::ids::{RangeId, ReplicaId};
use crate::domain::refusal::MovedTo;

use super::machine_state::{LogPlace, MachineState};
use super::membership::Membership;

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;

/// The copies of the two children that stand where one copy of the parent stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildReplicas {
    /// Of the lower child.
    pub lower: ReplicaId,
    /// Of the upper child.
    pub upper: ReplicaId,
}

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Split {
    /// The first hash of the upper child.
    pub at: u32,
    /// The lower child.
    pub lower: RangeId,
    /// The upper child.
    pub upper: RangeId,
    /// Every member of the parent's group, learners included, with its copies of the children.
    pub members: BTreeMap<ReplicaId, ChildReplicas>,
}

/// Why a split is not carried out. The range goes on as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SplitRefused {
    /// One child would have no hashes.
    #[error("the hash is not inside the range; choose one above its first and up to its last")]
    Hash,
    /// An id is used twice, or is the parent's.
    #[error("the ids of the children are not new; make fresh ones")]
    Ids,
    /// The split names other members than the group has.
    #[error("the members have changed since the split was asked for; ask again")]
    Members,
    /// The group is changing its voters.
    #[error("the range is exchanging copies; ask again when that is done")]
    Changing,
    /// The range was split before.
    #[error("the range was split before")]
    Done,
}

/// A split that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SplitDone {
    /// Where its entry stands in the parent's log.
    pub place: LogPlace,
    /// The parent's membership there.
    pub membership: Membership,
    /// It.
    pub split: Split,
}

impl SplitDone {
    /// The two children as the copy `own` of the parent, whose hashes are `hashes`, starts them. None where it was no member
    /// when the range was split: it has copies of neither.
    pub fn children(&self, own: ReplicaId, hashes: HashRange) -> Option<[ChildStart; 2]> {
        self.split.children(own, hashes, &self.membership, self.place)
    }

    /// Who has this hash of the parent's, whose hashes were `hashes`.
    pub fn moved_to(&self, hash: u32, hashes: HashRange) -> MovedTo {
        let range = self.split.child_of(hash);
        let hashes = match hash < self.split.at {
            true => HashRange { high: self.split.at.saturating_sub(1), ..hashes },
            false => HashRange { low: self.split.at, ..hashes },
        };
        MovedTo { range, hashes }
    }

    /// Whether this range is one of the children.
    pub fn names(&self, range: RangeId) -> bool {
        self.split.lower == range || self.split.upper == range
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let membership = self.membership.encode();
        let mut buffer = BytesMut::new();
        buffer.put_u64(self.place.term);
        buffer.put_u64(self.place.index);
        buffer.put_u32(membership.len() as u32);
        buffer.put_slice(&membership);
        buffer.put_slice(&self.split.encode());
        buffer.freeze()
    }

    /// What stands in these bytes; none where it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let place =
            LogPlace { term: u64::from_be_bytes(take(&mut rest)?), index: u64::from_be_bytes(take(&mut rest)?) };
        let length = u32::from_be_bytes(take(&mut rest)?) as usize;
        let (membership, split) = rest.split_at_checked(length)?;
        Some(Self { place, membership: Membership::decode(membership)?, split: Split::decode(split)? })
    }
}

/// Where a range comes from that is a child of a split, as its route says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SplitFrom {
    /// The range that was split.
    pub range: RangeId,
    /// The index of the split's entry in that one's log.
    pub index: u64,
    /// Whether all members of this child have begun ([`has_begun`]), so that none of them needs the parent's log any more.
    /// Once true it stays so.
    #[serde(default)]
    pub begun: bool,
}

/// One child as it starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChildStart {
    /// The range.
    pub range: RangeId,
    /// Its hashes.
    pub hashes: HashRange,
    /// The copy of it that stands where the asking copy of the parent stood.
    pub replica: ReplicaId,
    /// Where its log begins, and its members.
    pub machine: MachineState,
}

/// Whether a split may be carried out in this range, with this membership in force at its place in the log.
///
/// # Errors
/// [`SplitRefused`], the same on every replica.
pub fn check(
    split: &Split,
    parent: RangeId,
    hashes: HashRange,
    membership: &Membership,
    before: Option<&Split>,
) -> Result<(), SplitRefused> {
    if before.is_some() {
        return Err(SplitRefused::Done);
    }
    if split.at <= hashes.low || split.at > hashes.high {
        return Err(SplitRefused::Hash);
    }
    if membership.is_joint() {
        return Err(SplitRefused::Changing);
    }
    if !split.members.keys().eq(membership.members.keys()) {
        return Err(SplitRefused::Members);
    }
    let ranges: BTreeSet<RangeId> = [parent, split.lower, split.upper].into();
    let children = split.members.values().flat_map(|child| [child.lower, child.upper]);
    let replicas: BTreeSet<ReplicaId> = split.members.keys().copied().chain(children).collect();
    if ranges.len() != 3 || replicas.len() != 3 * split.members.len() {
        return Err(SplitRefused::Ids);
    }
    Ok(())
}

impl Split {
    /// The two children as the copy `own` of the parent starts them, lower first, where the split's entry stands at
    /// `place`. None where that copy is no member, or the parent's membership is not the one that [`check`] saw.
    pub fn children(
        &self,
        own: ReplicaId,
        hashes: HashRange,
        membership: &Membership,
        place: LogPlace,
    ) -> Option<[ChildStart; 2]> {
        let replicas = self.members.get(&own)?;
        let child = |range, low, high, replica, of: fn(&ChildReplicas) -> ReplicaId| {
            let membership = self.renamed(membership, of)?;
            let machine = MachineState { applied: place, membership_at: place, membership, ..MachineState::default() };
            Some(ChildStart { range, hashes: HashRange::new(low, high)?, replica, machine })
        };
        let below = self.at.checked_sub(1)?;
        Some([
            child(self.lower, hashes.low, below, replicas.lower, |child| child.lower)?,
            child(self.upper, self.at, hashes.high, replicas.upper, |child| child.upper)?,
        ])
    }

    /// The same members on the same nodes, by their copies of one child.
    fn renamed(&self, membership: &Membership, of: fn(&ChildReplicas) -> ReplicaId) -> Option<Membership> {
        let name = |replica: &ReplicaId| self.members.get(replica).map(of);
        let voters = |set: &BTreeSet<ReplicaId>| set.iter().map(name).collect::<Option<BTreeSet<_>>>();
        Some(Membership {
            voters: membership.voters.iter().map(voters).collect::<Option<_>>()?,
            members: membership
                .members
                .iter()
                .map(|(replica, node)| Some((name(replica)?, *node)))
                .collect::<Option<_>>()?,
        })
    }

    /// The child that has this hash, where the parent had it.
    pub fn child_of(&self, hash: u32) -> RangeId {
        if hash < self.at { self.lower } else { self.upper }
    }

    /// Whether an operation at this place of the parent's log comes too late to be applied there: the split stands at
    /// `place`. Its outcome is that it has moved, and is not remembered under its request id.
    pub fn refuses(&self, place: LogPlace, operation_index: u64) -> bool {
        operation_index > place.index
    }

    /// The split as bytes.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(39 + 48 * self.members.len());
        buffer.put_u8(FORMAT_VERSION);
        buffer.put_u32(self.at);
        buffer.put_slice(self.lower.as_bytes());
        buffer.put_slice(self.upper.as_bytes());
        buffer.put_u16(self.members.len() as u16);
        for (parent, child) in &self.members {
            for replica in [*parent, child.lower, child.upper] {
                buffer.put_slice(replica.as_bytes());
            }
        }
        buffer.freeze()
    }

    /// The split in these bytes; none where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [FORMAT_VERSION] {
            return None;
        }
        let at = u32::from_be_bytes(take(&mut rest)?);
        let (lower, upper) = (RangeId::from_bytes(take(&mut rest)?), RangeId::from_bytes(take(&mut rest)?));
        let count = u16::from_be_bytes(take(&mut rest)?);
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let parent = ReplicaId::from_bytes(take(&mut rest)?);
            let child = ChildReplicas {
                lower: ReplicaId::from_bytes(take(&mut rest)?),
                upper: ReplicaId::from_bytes(take(&mut rest)?),
            };
            members.insert(parent, child);
        }
        (rest.is_empty() && members.len() == usize::from(count)).then_some(Self { at, lower, upper, members })
    }
}

/// What the leader of a child knows of its members, when it is asked whether the parent may go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ChildProgress {
    /// The child's members, as its leader has committed them.
    pub membership: Membership,
    /// How far each member's log is known to go.
    pub matched: BTreeMap<ReplicaId, u64>,
}

/// Whether a node may remove its copy of the parent, whose split stands at `place`, given what the leaders of both
/// children say. Only when no member of either child can still need the parent's log: each has been heard of at or past
/// the place where its copy began. A member that never comes is replaced first, and is no member then.
pub fn parent_copy_may_go(place: LogPlace, children: [Option<&ChildProgress>; 2]) -> bool {
    children.into_iter().all(|child| child.is_some_and(|child| has_begun(place.index, child)))
}

/// Half of [`parent_copy_may_go`], as the leader of one child answers it: whether all of that child's members have begun,
/// where the split's entry has the index `split_index`.
pub fn has_begun(split_index: u64, child: &ChildProgress) -> bool {
    let has = |replica| child.matched.get(replica).is_some_and(|index| *index >= split_index);
    !child.membership.members.is_empty() && child.membership.members.keys().all(has)
}

/// The same, as a node decides it from the routes in which the parent's hashes begin and in which the upper child's do: each
/// is of another range by now, and no child of the parent that has not begun. A child that was split itself had begun before.
pub fn parent_may_go_by_routes(parent: RangeId, routes: [(RangeId, Option<SplitFrom>); 2]) -> bool {
    routes.iter().all(|(range, from)| {
        let waits = from.is_some_and(|from| from.range == parent && !from.begun);
        *range != parent && !waits
    })
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (head, tail) = rest.split_first_chunk::<LENGTH>()?;
    *rest = tail;
    Some(*head)
}

/// Reads any bytes as a split; what is read must survive being written.
#[doc(hidden)]
pub fn fuzz_split(data: &[u8]) {
    if let Some(split) = Split::decode(data) {
        assert_eq!(Split::decode(&split.encode()).as_ref(), Some(&split));
    }
    if let Some(done) = SplitDone::decode(data) {
        assert_eq!(SplitDone::decode(&done.encode()).as_ref(), Some(&done));
    }
}

#[cfg(test)]
mod tests;
