//! How far a replica has applied its group's log, the membership that held there, and the proxies' request ids that are
//! remembered there. It is written into the replica's file in the same transaction as the items, so that it tells the truth
//! about them.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version: 1, or 2 where the range was split |
//! | 8 + 8 | term and index of the last applied entry |
//! | 8 + 8 | term and index of the entry that brought the membership |
//! | 4 + n | the membership ([`super::membership`]) |
//! | 4 + n | in version 2 alone: the split ([`super::split::SplitDone`]) |
//! | rest | the window of request ids ([`super::request_id`]) |
//!
//! A range that was never split is written as before splits were known, so an earlier release reads it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::membership::Membership;
use super::request_id::Window;
use super::split::SplitDone;

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;
/// The same where the range was split.
pub const FORMAT_VERSION_SPLIT: u8 = 2;

/// A place in a group's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPlace {
    /// The term of the leader that made the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MachineState {
    /// The last applied entry.
    pub applied: LogPlace,
    /// The entry that brought the membership.
    pub membership_at: LogPlace,
    /// The membership.
    pub membership: Membership,
    /// The proxies' request ids that are remembered. Shared, because the state is copied more often than this changes.
    pub requests: Arc<Window>,
    /// The split of the range, where one was carried out: nothing behind it is applied.
    pub split: Option<Arc<SplitDone>>,
}

impl MachineState {
    /// The state that a range's first replicas start from: nothing applied, the membership as control named it. All of
    /// them start from the same, as if from a snapshot.
    pub fn founding(membership: Membership) -> Self {
        Self { membership, ..Self::default() }
    }

    /// The state as bytes.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        buffer.put_u8(if self.split.is_some() { FORMAT_VERSION_SPLIT } else { FORMAT_VERSION });
        for place in [self.applied, self.membership_at] {
            buffer.put_u64(place.term);
            buffer.put_u64(place.index);
        }
        let membership = self.membership.encode();
        buffer.put_u32(membership.len() as u32);
        buffer.put_slice(&membership);
        if let Some(split) = &self.split {
            let split = split.encode();
            buffer.put_u32(split.len() as u32);
            buffer.put_slice(&split);
        }
        buffer.put_slice(&self.requests.encode());
        buffer.freeze()
    }

    /// The state in these bytes; none where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<33>()?;
        let (membership, rest) = counted(rest)?;
        let (split, requests) = match head[0] {
            FORMAT_VERSION => (None, rest),
            FORMAT_VERSION_SPLIT => {
                let (split, rest) = counted(rest)?;
                (Some(Arc::new(SplitDone::decode(split)?)), rest)
            }
            _ => return None,
        };
        let number = |at: usize| head[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        let place = |at| Some(LogPlace { term: number(at)?, index: number(at + 8)? });
        Some(Self {
            applied: place(1)?,
            membership_at: place(17)?,
            membership: Membership::decode(membership)?,
            requests: Arc::new(Window::decode(requests)?),
            split,
        })
    }
}

/// The bytes that are preceded by their length, and those behind.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::ids::{NodeId, RangeId, ReplicaId};
    use crate::replication::operation::Outcome;
    use crate::replication::request_id;
    use crate::replication::split::{ChildReplicas, Split};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(places in any::<[u64; 4]>(), replica in any::<[u8; 16]>(), node in any::<[u8; 16]>(), is_split: bool) {
            let [term, index, membership_term, membership_index] = places;
            let member = (ReplicaId::from_bytes(replica), NodeId::from_bytes(node));
            let mut window = Window::default();
            window.advance(Timestamp(1 << 40));
            window.remember(request_id::make(Timestamp(1 << 40), [3; 8]), 7, Outcome::Deleted);
            let split = SplitDone {
                place: LogPlace { term, index },
                membership: Membership::founding([member]),
                split: Split {
                    at: 7,
                    lower: RangeId::from_bytes([5; 16]),
                    upper: RangeId::from_bytes([6; 16]),
                    members: [(member.0, ChildReplicas { lower: member.0, upper: member.0 })].into(),
                },
            };
            let state = MachineState {
                applied: LogPlace { term, index },
                membership_at: LogPlace { term: membership_term, index: membership_index },
                membership: Membership::founding([member]),
                requests: Arc::new(window),
                split: is_split.then(|| Arc::new(split)),
            };
            prop_assert_eq!(state.encode()[0], if is_split { 2 } else { 1 });
            prop_assert_eq!(MachineState::decode(&state.encode()), Some(state));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(state) = MachineState::decode(&bytes) {
                prop_assert_eq!(MachineState::decode(&state.encode()), Some(state));
            }
        }
    }
}
