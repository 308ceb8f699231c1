//! Which replicas a range's group has: one set of voters, or two while one is exchanged for the other
//! (joint consensus: every decision then takes a majority of both), and everyone's node, learners included.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | number of sets of voters |
//! | each set | 2: number of voters; then 16 each, ascending |
//! | 2 | number of members, learners included |
//! | each member | 16 replica, 16 node, ascending by replica |

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::ids::{NodeId, ReplicaId};

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Membership {
    /// The sets of voters: one, or two while they change.
    pub voters: Vec<BTreeSet<ReplicaId>>,
    /// Every member and its node; who is in no set of voters is a learner.
    pub members: BTreeMap<ReplicaId, NodeId>,
}

impl Membership {
    /// A group in which all of these vote.
    pub fn founding(members: impl IntoIterator<Item = (ReplicaId, NodeId)>) -> Self {
        let members: BTreeMap<ReplicaId, NodeId> = members.into_iter().collect();
        Self { voters: vec![members.keys().copied().collect()], members }
    }

    /// Whether the replica is in any set of voters.
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        self.voters.iter().any(|set| set.contains(&replica))
    }

    /// Whether one set of voters is being exchanged for another.
    pub fn is_joint(&self) -> bool {
        self.voters.len() > 1
    }

    /// The membership as bytes.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        buffer.put_u8(FORMAT_VERSION);
        buffer.put_u8(self.voters.len() as u8);
        for set in &self.voters {
            buffer.put_u16(set.len() as u16);
            set.iter().for_each(|replica| buffer.put_slice(replica.as_bytes()));
        }
        buffer.put_u16(self.members.len() as u16);
        for (replica, node) in &self.members {
            buffer.put_slice(replica.as_bytes());
            buffer.put_slice(node.as_bytes());
        }
        buffer.freeze()
    }

    /// The membership in these bytes; none where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [FORMAT_VERSION] {
            return None;
        }
        let [sets] = take::<1>(&mut rest)?;
        let mut voters = Vec::new();
        for _ in 0..sets {
            let count = u16::from_be_bytes(take(&mut rest)?);
            let set: Option<BTreeSet<_>> = (0..count).map(|_| take(&mut rest).map(ReplicaId::from_bytes)).collect();
            voters.push(set.filter(|set| set.len() == usize::from(count))?);
        }
        let count = u16::from_be_bytes(take(&mut rest)?);
        let mut members = BTreeMap::new();
        for _ in 0..count {
            members.insert(ReplicaId::from_bytes(take(&mut rest)?), NodeId::from_bytes(take(&mut rest)?));
        }
        (rest.is_empty() && members.len() == usize::from(count)).then_some(Self { voters, members })
    }
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (head, tail) = rest.split_first_chunk::<LENGTH>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_membership() -> impl Strategy<Value = Membership> {
        let replica = any::<[u8; 16]>().prop_map(ReplicaId::from_bytes);
        let voters = proptest::collection::vec(proptest::collection::btree_set(replica.clone(), 0..6), 0..3);
        let node = any::<[u8; 16]>().prop_map(NodeId::from_bytes);
        let members = proptest::collection::btree_map(replica, node, 0..8);
        (voters, members).prop_map(|(voters, members)| Membership { voters, members })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(membership in any_membership()) {
            prop_assert_eq!(Membership::decode(&membership.encode()), Some(membership));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(membership) = Membership::decode(&bytes) {
                prop_assert_eq!(Membership::decode(&membership.encode()), Some(membership));
            }
        }
    }
}
