//! Between openraft's words and ours: places, memberships, votes, and what an entry carries.
//!
//! A vote, as a record of the commit log has it (the record's term is the vote's):
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | 1: a majority gave it |
//! | 16 | the replica it is for |
//!
//! What the next author must keep: an operation's bytes pass through as they are. They are looked into when the entry is
//! applied and nowhere before, so that a follower does no work twice. A split is one of those to openraft: it knows nothing
//! of splits.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;

use crate::domain::ids::{NodeId, ReplicaId};
use crate::replication::command::Command;
use crate::replication::machine_state::{LogPlace, MachineState};
use crate::replication::membership::Membership;
use crate::replication::split::Split;

use super::types::{Entry, LogId, Proposed, StoredMembership, Types, Vote};

/// A membership in openraft's words.
pub type RaftMembership = openraft::Membership<ReplicaId, NodeId>;
/// What an entry carries, in openraft's words.
pub type Payload = openraft::type_config::alias::PayloadOf<Types>;

/// The version of the format of votes.
const VOTE_VERSION: u8 = 1;

/// A place in our words.
pub fn place_of(id: &LogId) -> LogPlace {
    LogPlace { term: id.leader_id.term, index: id.index }
}

/// A place in openraft's words.
pub fn log_id(place: LogPlace) -> LogId {
    LogId::new(place.term.into(), place.index)
}

/// A membership in our words.
pub fn membership_of(membership: &RaftMembership) -> Membership {
    Membership {
        voters: membership.get_joint_config().clone(),
        members: membership.nodes().map(|(replica, node)| (*replica, *node)).collect(),
    }
}

/// A membership in openraft's words; none where a set of voters is empty or a voter is no member.
pub fn raft_membership(membership: &Membership) -> Option<RaftMembership> {
    RaftMembership::new(membership.voters.clone(), membership.members.clone()).ok()
}

/// The membership that holds at a replica, in openraft's words; none where it makes no sense.
pub fn stored_membership(state: Option<&MachineState>) -> Option<StoredMembership> {
    let Some(state) = state else { return Some(StoredMembership::default()) };
    if state.membership == Membership::default() {
        return Some(StoredMembership::default());
    }
    Some(StoredMembership::new(Some(log_id(state.membership_at)), raft_membership(&state.membership)?))
}

/// What an entry carries, as bytes for a record or a message: a [`Command`].
pub fn payload_bytes(payload: &Payload) -> Bytes {
    match payload {
        EntryPayload::Blank => Command::Blank.encode(),
        EntryPayload::Normal(Proposed(operation)) => operation.clone(),
        EntryPayload::Membership(membership) => Command::Membership(membership_of(membership)).encode(),
    }
}

/// An entry from its place and its bytes, which an operation keeps as they are; none where it is about the group and
/// makes no sense.
pub fn entry_from(place: LogPlace, bytes: Bytes) -> Option<Entry> {
    let payload = match bytes.get(1) {
        Some(kind) if *kind < FIRST_OF_GROUP => EntryPayload::Normal(Proposed(bytes)),
        _ => match Command::decode(&bytes).ok()? {
            Command::Blank => EntryPayload::Blank,
            Command::Membership(membership) => EntryPayload::Membership(raft_membership(&membership)?),
            // A split that makes no sense stops the group: nobody can say what it is behind it.
            Command::Split(_) | Command::Digest(_) => EntryPayload::Normal(Proposed(bytes)),
            Command::Operation(_) => return None,
        },
    };
    Some(Entry { log_id: log_id(place), payload })
}

/// The split in an entry, where it is one.
pub fn split_of(payload: &Payload) -> Option<Split> {
    let EntryPayload::Normal(Proposed(bytes)) = payload else { return None };
    if bytes.get(1).is_none_or(|kind| *kind < FIRST_OF_GROUP) {
        return None;
    }
    match Command::decode(bytes) {
        Ok(Command::Split(split)) => Some(split),
        _ => None,
    }
}

/// Commands of this number and above are about the group.
const FIRST_OF_GROUP: u8 = 16;

/// A vote as bytes, without its term.
pub fn vote_bytes(vote: &Vote) -> Bytes {
    let mut buffer = BytesMut::with_capacity(18);
    buffer.put_slice(&[VOTE_VERSION, u8::from(vote.committed)]);
    buffer.put_slice(vote.leader_id.node_id().as_bytes());
    buffer.freeze()
}

/// A vote from its term and its bytes; none where they are none.
pub fn vote_from(term: u64, bytes: &[u8]) -> Option<Vote> {
    let (head, replica) = bytes.split_first_chunk::<2>()?;
    let replica = ReplicaId::from_bytes(replica.try_into().ok()?);
    match *head {
        [VOTE_VERSION, 0] => Some(Vote::new(term, replica)),
        [VOTE_VERSION, 1] => Some(Vote::new_committed(term, replica)),
        _ => None,
    }
}

/// Reads any bytes as an entry and as a vote: for the fuzzer.
#[doc(hidden)]
pub fn fuzz_group_record(data: &[u8]) {
    let place = LogPlace { term: 7, index: 9 };
    if let Some(entry) = entry_from(place, Bytes::copy_from_slice(data)) {
        assert_eq!(payload_bytes(&entry.payload), data, "what was read is written the same");
    }
    if let Some(vote) = vote_from(7, data) {
        assert_eq!(vote_bytes(&vote), data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn votes_come_back(term: u64, replica: [u8; 16], committed: bool) {
            let replica = ReplicaId::from_bytes(replica);
            let vote = if committed { Vote::new_committed(term, replica) } else { Vote::new(term, replica) };
            prop_assert_eq!(vote_from(term, &vote_bytes(&vote)), Some(vote));
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            fuzz_group_record(&data);
        }

        #[test]
        fn entries_come_back(term: u64, index: u64, voters in proptest::collection::btree_map(any::<[u8; 16]>(), any::<[u8; 16]>(), 1..5)) {
            let members = voters.into_iter().map(|(one, other)| (ReplicaId::from_bytes(one), NodeId::from_bytes(other)));
            let membership = raft_membership(&Membership::founding(members)).unwrap();
            let operation = Proposed(Bytes::from_static(&[1, 1, 0, 9]));
            let place = LogPlace { term, index };
            for payload in [EntryPayload::Blank, EntryPayload::Membership(membership), EntryPayload::Normal(operation)] {
                let entry = Entry { log_id: log_id(place), payload };
                prop_assert_eq!(entry_from(place, payload_bytes(&entry.payload)), Some(entry.clone()));
                prop_assert_eq!(place_of(&entry.log_id), place);
            }
        }
    }

    #[test]
    fn a_membership_that_makes_no_sense_is_none() {
        let stray = Membership { voters: vec![[ReplicaId::from_bytes([1; 16])].into()], ..Membership::default() };
        assert_eq!(raft_membership(&stray), None);
        assert_eq!(stored_membership(None), Some(StoredMembership::default()));
    }
}
