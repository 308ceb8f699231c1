//! What nodes say to each other about their groups, as bytes. Each message stands in a frame
//! ([`crate::transport::frames`]); integers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | kind, see below; from 128 on it is between nodes, and no range follows |
//! | 16 | range |
//! | 16 | replica that sends |
//! | 16 | replica that it is for |
//! | 8 | correlation: an answer repeats its question's |
//! | rest | by kind |
//!
//! | kind | rest |
//! |---|---|
//! | 1 append | vote; optional place before the first entry; optional committed place; 4: number of entries; each: place, 4 + n: payload ([`crate::replication::command`]) |
//! | 2 answer | 1: 0 success, 1 partly: optional place, 2 conflict, 3 higher vote: vote |
//! | 3 vote, 5 pre-vote | vote; optional last place; 1: flags (1 leadership was handed over) |
//! | 4, 6 answer | vote; optional last place; 1: flags (1 granted) |
//! | 7 leadership is handed over | vote of the leader; 16: to whom; optional last place |
//! | 8 answer | 1: 0 well, 1 vote changed: two votes, 2 log not flushed: two optional places; expected, then found |
//! | 9 snapshot begins | vote; snapshot |
//! | 10 piece of a snapshot | vote; the piece ([`super::pieces`]) |
//! | 11 snapshot ends | vote; snapshot |
//! | 12 answer to 9, 10 and 11 | vote; 1: 0 wanted: 4 number of the next piece, 1 all are here, 2 installed, 3 not taken |
//! | 13 let us sleep | 8: term; 8: last index |
//! | 14 answer | 8: term; 8: last index; 1: flags (1 agreed) |
//! | 15 wake up | |
//! | 16 refused, in answer to any question | 1: 1 not here, 2 busy, 3 stopped |
//! | 24 what is your digest | place |
//! | 25 answer to 24 and 26 | 1: 0 missed, 1 not yet, 2: 2: number of digests, 32 each |
//! | 26 your digest differs from the others' | place; 2: number of parts, 2 each |
//! | 27 you have acknowledged this to me, and do not have it | place |
//! | 128 beacon | 8: starts of the process; 8: progress of the log; 4: flags (1 in answer to one; 2: a boot number and a place in the log, as in 130) |
//! | 129 what have you heard of me | 8: boot number; 8: place in the log; 8: floor, below which numbers are of no interest |
//! | 130 this, in answer to 129, and to 128 where that contradicts it | 8: boot number; 8: how far the log was synced: segment in the upper half, offset in the lower |
//!
//! | part | bytes |
//! |---|---|
//! | place | 8 term, 8 index |
//! | optional | 1: whether there is one; it |
//! | vote | 8 term; 16 replica; 1: flags (1 a majority gave it) |
//! | snapshot | 16: replica that it is made from; place |
//!
//! Two releases in a row work together in one group. A kind is therefore never changed: what has to say more is a new
//! kind. One that is not known is [`Received::Unknown`], counted and dropped; who sent it asks again in the old way, or
//! does without. Messages of every release that was ever published are kept as hexadecimal text in this module's tests and
//! read the same for ever.
//!
//! The payloads of entries are copied out of the frame, because they are kept for as long as they are the item, and
//! would keep the whole frame. Pieces of snapshots are not: they are written and forgotten. An operation in an entry is not
//! looked into here, as nowhere before it is applied.
//!
//! Rejected: serde with a binary format (what a change of a type does to the bytes could not be seen in a review), and
//! openraft's own types for everything (an append must be cut in two where it is too large for a message).

mod parts;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};

use self::parts::Put;
use super::pieces::SnapshotIdentity;
use super::types::{Entry, LogId, Types, Vote};
use crate::domain::ids::{RangeId, ReplicaId};
use crate::replication::machine_state::LogPlace;
use crate::services::engine::DigestState;
use crate::services::wire_reader::Reader;

pub use crate::services::wire_reader::WireError;

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes of a message before what its kind says.
pub const HEAD_BYTES: usize = 2 + 3 * 16 + 8;

/// A flag of a beacon: its sender was sent one, and knows of no groups that the two share.
pub const BEACON_IS_ANSWER: u32 = 1;

/// Kinds from here on are between nodes.
const KIND_NODE_FIRST: u8 = 128;
const KIND_BEACON: u8 = 128;
const KIND_RECALL: u8 = 129;
const KIND_RECALLED: u8 = 130;
const QUESTIONS: &[u8] = &[1, 3, 5, 7, 9, 10, 11, 13, 24, 26];

/// A message of one replica to another of its group.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The group's range.
    pub range: RangeId,
    /// Who sends.
    pub from: ReplicaId,
    /// For whom it is.
    pub to: ReplicaId,
    /// A question's own number; an answer has its question's. 0 where no answer is expected.
    pub correlation: u64,
    /// What it says.
    pub message: Message,
}

/// Who asked, and under which number: what is needed to answer when the question itself is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The group's range.
    pub range: RangeId,
    /// Who asked.
    pub asker: ReplicaId,
    /// Who was asked.
    pub asked: ReplicaId,
    /// The question's number.
    pub correlation: u64,
}

/// What replicas say to each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Entries, or a heartbeat, of the leader.
    Append(Append),
    /// Answers [`Message::Append`].
    AppendAnswer(AppendEntriesResponse<Types>),
    /// A candidate asks.
    Vote(VoteRequest<Types>),
    /// Answers [`Message::Vote`].
    VoteAnswer(VoteResponse<Types>),
    /// One who might become a candidate asks.
    PreVote(VoteRequest<Types>),
    /// Answers [`Message::PreVote`].
    PreVoteAnswer(VoteResponse<Types>),
    /// The leader names its successor.
    TransferLeader(TransferLeaderRequest<Types>),
    /// Answers [`Message::TransferLeader`].
    TransferLeaderAnswer(TransferLeaderResponse<Types>),
    /// A snapshot will come.
    SnapshotBegin(SnapshotNote),
    /// A part of it.
    SnapshotPiece(SnapshotPiece),
    /// That was all.
    SnapshotEnd(SnapshotNote),
    /// Answers each of the three.
    SnapshotAnswer(SnapshotAnswer),
    /// The leader asks whether the group may sleep.
    Sleep(Quiet),
    /// Answers [`Message::Sleep`].
    SleepAnswer {
        /// What the follower has.
        quiet: Quiet,
        /// Whether it sleeps now.
        is_agreed: bool,
    },
    /// The group is awake, or must be.
    Wake,
    /// Answers any question.
    Refused(Reason),
    /// The leader asks for the digest of the state at a place.
    Digest(LogPlace),
    /// Answers [`Message::Digest`], and [`Message::Differs`] to say that it has come.
    DigestAnswer(DigestState),
    /// The leader says that these parts of the digest at a place are not as a majority has them.
    Differs {
        /// The place.
        place: LogPlace,
        /// The parts, see [`crate::replication::digest`].
        parts: Vec<u16>,
    },
    /// The leader says that the replica has acknowledged a place to it, and does not have it any more.
    Forgotten(LogPlace),
}

/// Entries that follow each other, or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The leader's.
    pub vote: Vote,
    /// The place before the first entry.
    pub previous: Option<LogId>,
    /// How far the leader has committed.
    pub committed: Option<LogId>,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Speaks of a snapshot as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotNote {
    /// The leader's.
    pub vote: Vote,
    /// Which snapshot.
    pub snapshot: SnapshotIdentity,
}

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// The leader's.
    pub vote: Vote,
    /// The piece, which says itself of which snapshot it is and holds its own checksum.
    pub bytes: Bytes,
}

/// What the receiver of a snapshot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotAnswer {
    /// The receiver's. Where it is above the sender's, that one leads no more.
    pub vote: Vote,
    /// How it stands.
    pub state: SnapshotState,
}

/// How a snapshot stands at its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotState {
    /// This is the next piece that it can use; it has those before.
    Wanted(u32),
    /// All pieces are here.
    AllHere,
    /// It is in use.
    Installed,
    /// It is not taken, or not any more; the sender may begin anew, later.
    NotTaken,
}

/// Where a group that has nothing to do stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// The leader's term.
    pub term: u64,
    /// The last index of the log, committed and applied.
    pub last_index: u64,
}

/// Why a question is not answered as it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// This node has no such replica.
    NotHere,
    /// It cannot just now.
    Busy,
    /// The replica's group has stopped here.
    Stopped,
}

/// What nodes say to each other about themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeMessage {
    /// The node is alive and its log writes.
    Beacon {
        /// How often the process has been started over its data.
        boot: u64,
        /// Grows while the log makes progress.
        progress: u64,
        /// Bits with meanings of their own ([`BEACON_IS_ANSWER`], and those of `leaving`); those that are not known are ignored.
        flags: u32,
    },
    /// The node asks what was heard of it ([`crate::replication::boots`]).
    Recall {
        /// Its boot number.
        boot: u64,
        /// Where its log ended when it was opened.
        synced: u64,
        /// Numbers below this are of no interest.
        floor: u64,
    },
    /// What was heard of the node that this is for.
    Recalled {
        /// The boot number.
        boot: u64,
        /// How far the log was synced.
        synced: u64,
    },
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// For a replica.
    Group(Envelope),
    /// For the node.
    Node(NodeMessage),
    /// Of a kind that this release does not know.
    Unknown(u8),
}

impl Message {
    /// Whether it answers a question, and goes to whoever asked it.
    pub fn is_answer(&self) -> bool {
        match self {
            Message::AppendAnswer(_)
            | Message::VoteAnswer(_)
            | Message::PreVoteAnswer(_)
            | Message::TransferLeaderAnswer(_)
            | Message::SnapshotAnswer(_)
            | Message::SleepAnswer { .. }
            | Message::DigestAnswer(_)
            | Message::Refused(_) => true,
            Message::Append(_)
            | Message::Vote(_)
            | Message::PreVote(_)
            | Message::TransferLeader(_)
            | Message::SnapshotBegin(_)
            | Message::SnapshotPiece(_)
            | Message::SnapshotEnd(_)
            | Message::Sleep(_)
            | Message::Digest(_)
            | Message::Differs { .. }
            | Message::Forgotten(_)
            | Message::Wake => false,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Message::Append(_) => 1,
            Message::AppendAnswer(_) => 2,
            Message::Vote(_) => 3,
            Message::VoteAnswer(_) => 4,
            Message::PreVote(_) => 5,
            Message::PreVoteAnswer(_) => 6,
            Message::TransferLeader(_) => 7,
            Message::TransferLeaderAnswer(_) => 8,
            Message::SnapshotBegin(_) => 9,
            Message::SnapshotPiece(_) => 10,
            Message::SnapshotEnd(_) => 11,
            Message::SnapshotAnswer(_) => 12,
            Message::Sleep(_) => 13,
            Message::SleepAnswer { .. } => 14,
            Message::Wake => 15,
            Message::Refused(_) => 16,
            Message::Digest(_) => 24,
            Message::DigestAnswer(_) => 25,
            Message::Differs { .. } => 26,
            Message::Forgotten(_) => 27,
        }
    }

    fn room(&self) -> usize {
        match self {
            Message::Append(append) => append.bytes(),
            Message::SnapshotPiece(piece) => 25 + piece.bytes.len(),
            Message::DigestAnswer(DigestState::Ready(sums)) => 3 + 32 * sums.len(),
            _ => 96,
        }
    }
}

impl Append {
    /// A request as openraft makes it.
    pub fn of(request: AppendEntriesRequest<Types>) -> Self {
        let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
        Self { vote, previous: prev_log_id, committed: leader_commit, entries }
    }

    /// A request as openraft takes it.
    pub fn into_request(self) -> AppendEntriesRequest<Types> {
        let Self { vote, previous, committed, entries } = self;
        AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: committed }
    }

    /// The place that the follower has reached when it has taken this.
    pub fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.previous)
    }

    fn bytes(&self) -> usize {
        64 + self.entries.iter().map(parts::entry_bytes).sum::<usize>()
    }

    /// The same in parts of about `bytes_max` at most each, or of one entry; one where it has none.
    pub fn split(mut self, bytes_max: usize) -> Vec<Append> {
        let mut parts = Vec::new();
        while self.bytes() > bytes_max && self.entries.len() > 1 {
            let mut bytes = 64;
            let fits = self.entries.iter().take_while(|entry| {
                bytes += parts::entry_bytes(entry);
                bytes <= bytes_max
            });
            let rest = self.entries.split_off(fits.count().max(1));
            let part = Append { entries: std::mem::replace(&mut self.entries, rest), ..self.without_entries() };
            self.previous = part.last();
            parts.push(part);
        }
        if parts.is_empty() || !self.entries.is_empty() {
            parts.push(self);
        }
        parts
    }

    fn without_entries(&self) -> Append {
        Append { vote: self.vote, previous: self.previous, committed: self.committed, entries: Vec::new() }
    }
}

impl Envelope {
    /// The message as bytes.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(HEAD_BYTES + self.message.room());
        buffer.put_slice(&[FORMAT_VERSION, self.message.kind()]);
        buffer.put_slice(self.range.as_bytes());
        buffer.put_slice(self.from.as_bytes());
        buffer.put_slice(self.to.as_bytes());
        buffer.put_u64(self.correlation);
        buffer.put_message(&self.message);
        buffer.freeze()
    }

    /// What is needed to answer this.
    pub fn asked(&self) -> Asked {
        Asked { range: self.range, asker: self.from, asked: self.to, correlation: self.correlation }
    }
}

impl Asked {
    /// The answer.
    pub fn answer(self, message: Message) -> Envelope {
        let Asked { range, asker, asked, correlation } = self;
        Envelope { range, from: asked, to: asker, correlation, message }
    }
}

impl NodeMessage {
    /// The message as bytes.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(26);
        let kind = match self {
            NodeMessage::Beacon { .. } => KIND_BEACON,
            NodeMessage::Recall { .. } => KIND_RECALL,
            NodeMessage::Recalled { .. } => KIND_RECALLED,
        };
        buffer.put_slice(&[FORMAT_VERSION, kind]);
        match self {
            NodeMessage::Beacon { boot, progress, flags } => {
                buffer.put_u64(*boot);
                buffer.put_u64(*progress);
                buffer.put_u32(*flags);
            }
            NodeMessage::Recall { boot, synced, floor } => {
                buffer.put_u64(*boot);
                buffer.put_u64(*synced);
                buffer.put_u64(*floor);
            }
            NodeMessage::Recalled { boot, synced } => {
                buffer.put_u64(*boot);
                buffer.put_u64(*synced);
            }
        }
        buffer.freeze()
    }
}

impl Received {
    /// The message in these bytes.
    ///
    /// # Errors
    /// Where the bytes are no message of a format this release knows. A kind that it does not know is no error.
    pub fn decode(bytes: &Bytes) -> Result<Received, WireError> {
        let mut reader = Reader::new(bytes, FORMAT_VERSION)?;
        let kind = reader.u8()?;
        if kind >= KIND_NODE_FIRST {
            let (boot, synced) = match kind {
                KIND_BEACON | KIND_RECALL | KIND_RECALLED => (reader.u64()?, reader.u64()?),
                _ => return Ok(Received::Unknown(kind)),
            };
            let message = match kind {
                KIND_BEACON => NodeMessage::Beacon { boot, progress: synced, flags: reader.u32()? },
                KIND_RECALL => NodeMessage::Recall { boot, synced, floor: reader.u64()? },
                _ => NodeMessage::Recalled { boot, synced },
            };
            reader.end()?;
            return Ok(Received::Node(message));
        }
        let range = RangeId::from_bytes(reader.array()?);
        let (from, to) = (ReplicaId::from_bytes(reader.array()?), ReplicaId::from_bytes(reader.array()?));
        let correlation = reader.u64()?;
        let Some(message) = reader.message(kind)? else { return Ok(Received::Unknown(kind)) };
        reader.end()?;
        Ok(Received::Group(Envelope { range, from, to, correlation, message }))
    }
}

/// The number of the question that was encoded into these bytes; none where they are no question.
pub fn question_in(message: &Bytes) -> Option<u64> {
    let is_question = message.get(1).is_some_and(|kind| QUESTIONS.contains(kind));
    let bytes = message.get(HEAD_BYTES - 8..HEAD_BYTES).filter(|_| is_question)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// For the fuzzer: whatever the bytes, no panic; and what decodes, encodes to something equal.
#[doc(hidden)]
pub fn fuzz_group_message(data: &[u8]) {
    let received = Received::decode(&Bytes::copy_from_slice(data));
    match &received {
        Ok(Received::Group(envelope)) => assert_eq!(Received::decode(&envelope.encode()), received),
        Ok(Received::Node(message)) => assert_eq!(message.encode(), data),
        Ok(Received::Unknown(_)) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
