//! What an entry of a range's log asks for, as bytes: an operation on an item ([`super::entry`], whose
//! format this one continues), or something about the group itself.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | 1 to 3: an operation, see there; 16: nothing (a new leader's first entry); 17: a membership; 18: a split |
//! | rest | membership: see [`super::membership`]; split: see [`super::split`] |

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::{self, Entry, EntryError, FORMAT_VERSION};
use super::membership::Membership;
use super::split::Split;

const BLANK: u8 = 16;
const MEMBERSHIP: u8 = 17;
const SPLIT: u8 = 18;

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
            return Err(EntryError::Format(head[0]));
        }
        match head[1] {
            BLANK if payload.len() == 2 => Ok(Command::Blank),
            BLANK => Err(EntryError::Field("end")),
            MEMBERSHIP => {
                Membership::decode(&payload[2..]).map(Command::Membership).ok_or(EntryError::Field("membership"))
            }
            SPLIT => Split::decode(&payload[2..]).map(Command::Split).ok_or(EntryError::Field("split")),
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
        for command in [Command::Blank, Command::Membership(Membership::founding([member])), Command::Split(split)] {
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
