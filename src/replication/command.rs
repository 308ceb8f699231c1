//! What an entry of a range's log asks for, as bytes: an operation on an item ([`super::entry`], whose
//! format this one continues), or something about the group itself.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version: 1, or 2 for operations that the first cannot say |
//! | 1 | 1 to 5: an operation, see there; 16: nothing (a new leader's first entry); 17: a membership; 18: a split; 24: digest |
//! | rest | membership: see [`super::membership`]; split: see [`super::split`]; digest: 8: leader's time, microseconds since 1970, big-endian |

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::{self, Entry, EntryError, FORMAT_VERSION};
use super::membership::Membership;
use super::split::Split;
use crate::domain::Timestamp;

const BLANK: u8 = 16;
const MEMBERSHIP: u8 = 17;
const SPLIT: u8 = 18;
const DIGEST: u8 = 24;

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A write of an item.
    Operation(Entry),
    /// Nothing: a new leader commits what its predecessors left by committing this.
    Blank,
    /// The group has these members from here on.
    Membership(Membership),
    /// The range ends here, and two others take its place.
    Split(Split),
    /// The state as it is after this entry is to be digested, so that copies can be compared ([`super::digest`]). It changes
    /// nothing. With the leader's time.
    Digest(Timestamp),
}

/// Whether these bytes ask for a digest.
pub fn is_digest(payload: &[u8]) -> bool {
    payload.get(1) == Some(&DIGEST)
}

impl Command {
    /// The command as bytes.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        match self {
            Command::Operation(operation) => return entry::encode(operation.time, &operation.operation),
            Command::Blank => buffer.put_slice(&[FORMAT_VERSION, BLANK]),
            Command::Membership(membership) => {
                buffer.put_slice(&[FORMAT_VERSION, MEMBERSHIP]);
                buffer.put_slice(&membership.encode());
            }
            Command::Split(split) => {
                buffer.put_slice(&[FORMAT_VERSION, SPLIT]);
                buffer.put_slice(&split.encode());
            }
            Command::Digest(time) => {
                buffer.put_slice(&[FORMAT_VERSION, DIGEST]);
                buffer.put_u64(time.0);
            }
        }
        buffer.freeze()
    }

    /// The command in these bytes; documents are slices of them.
    ///
    /// # Errors
    /// Where the bytes are no command of a format this release knows.
    pub fn decode(payload: &Bytes) -> Result<Command, EntryError> {
        let head = payload.get(..2).ok_or(EntryError::Short)?;
        if head[0] != FORMAT_VERSION {
            // Only operations have other formats.
            return entry::decode(payload).map(Command::Operation);
        }
        match head[1] {
            BLANK if payload.len() == 2 => Ok(Command::Blank),
            BLANK => Err(EntryError::Field("end")),
            MEMBERSHIP => {
                Membership::decode(&payload[2..]).map(Command::Membership).ok_or(EntryError::Field("membership"))
            }
            SPLIT => Split::decode(&payload[2..]).map(Command::Split).ok_or(EntryError::Field("split")),
            DIGEST => match payload[2..].try_into() {
                Ok(time) => Ok(Command::Digest(Timestamp(u64::from_be_bytes(time)))),
                Err(_) => Err(EntryError::Field("time")),
            },
            _ => entry::decode(payload).map(Command::Operation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{NodeId, RangeId, ReplicaId};
    use crate::replication::split::ChildReplicas;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let member = (ReplicaId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let (lower, upper) = (ReplicaId::from_bytes([3; 16]), ReplicaId::from_bytes([4; 16]));
        let split = Split {
            at: 7,
            lower: RangeId::from_bytes([5; 16]),
            upper: RangeId::from_bytes([6; 16]),
            members: [(member.0, ChildReplicas { lower, upper })].into(),
        };
        assert_eq!(Command::Split(split.clone()).encode()[..2], [FORMAT_VERSION, 18]);
        let digest = Command::Digest(Timestamp(7));
        assert_eq!(digest.encode()[..], [1, 24, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert!(is_digest(&digest.encode()) && !is_digest(&Command::Blank.encode()) && !is_digest(&[]));
        let membership = Command::Membership(Membership::founding([member]));
        for command in [Command::Blank, membership, Command::Split(split), digest] {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let bytes = Bytes::from(bytes);
            if let Ok(command) = Command::decode(&bytes) {
                prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
            }
        }
    }
}
