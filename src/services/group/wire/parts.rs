//! The parts of messages: each is written and read side by side, so that one look compares them.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest};
use openraft::raft::{TransferLeaderResponse, VoteRequest, VoteResponse};

use super::super::convert::{entry_from, log_id, payload_bytes, place_of};
use super::super::pieces::SnapshotIdentity;
use super::super::types::{Entry, LogId, Types, Vote};
use super::{Append, Message, Quiet, Reason, SnapshotAnswer, SnapshotNote, SnapshotPiece, SnapshotState};
use crate::domain::ids::ReplicaId;
use crate::replication::machine_state::LogPlace;
use crate::services::engine::DigestState;
use crate::services::wire_reader::{Reader, WireError};

/// What a flag of one bit says.
const FLAG: u8 = 1;

/// About what an entry takes. What is no operation is small.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    20 + match &entry.payload {
        openraft::EntryPayload::Normal(proposed) => proposed.0.len(),
        openraft::EntryPayload::Blank => 2,
        openraft::EntryPayload::Membership(membership) => 16 + 64 * membership.nodes().count(),
    }
}

/// Writes parts.
pub(super) trait Put: BufMut {
    fn put_message(&mut self, message: &Message);
    fn put_vote(&mut self, vote: &Vote);
    fn put_place(&mut self, place: &LogId);
    fn put_optional(&mut self, place: Option<&LogId>);
    fn put_flag(&mut self, flag: bool);
    fn put_counted(&mut self, bytes: &[u8]);
}

impl Put for BytesMut {
    fn put_message(&mut self, message: &Message) {
        match message {
            Message::Append(append) => put_append(self, append),
            Message::AppendAnswer(answer) => put_append_answer(self, answer),
            Message::Vote(vote) | Message::PreVote(vote) => {
                self.put_vote(&vote.vote);
                self.put_optional(vote.last_log_id.as_ref());
                self.put_flag(vote.leadership_transfer);
            }
            Message::VoteAnswer(answer) | Message::PreVoteAnswer(answer) => {
                self.put_vote(&answer.vote);
                self.put_optional(answer.last_log_id.as_ref());
                self.put_flag(answer.vote_granted);
            }
            Message::TransferLeader(transfer) => {
                self.put_vote(transfer.from_leader());
                self.put_slice(transfer.to_node_id().as_bytes());
                self.put_optional(transfer.last_log_id());
            }
            Message::TransferLeaderAnswer(answer) => put_transfer_answer(self, answer),
            Message::SnapshotBegin(note) | Message::SnapshotEnd(note) => {
                self.put_vote(&note.vote);
                self.put_slice(note.snapshot.replica.as_bytes());
                self.put_place(&log_id(note.snapshot.place));
            }
            Message::SnapshotPiece(piece) => {
                self.put_vote(&piece.vote);
                self.put_slice(&piece.bytes);
            }
            Message::SnapshotAnswer(answer) => put_snapshot_answer(self, answer),
            Message::Sleep(quiet) => put_quiet(self, quiet),
            Message::SleepAnswer { quiet, is_agreed } => {
                put_quiet(self, quiet);
                self.put_flag(*is_agreed);
            }
            Message::Wake => {}
            Message::Digest(place) | Message::Forgotten(place) => self.put_place(&log_id(*place)),
            Message::DigestAnswer(state) => put_digest_state(self, state),
            Message::Differs { place, parts } => {
                self.put_place(&log_id(*place));
                self.put_u16(parts.len() as u16);
                parts.iter().for_each(|part| self.put_u16(*part));
            }
            Message::Refused(reason) => self.put_u8(match reason {
                Reason::NotHere => 1,
                Reason::Busy => 2,
                Reason::Stopped => 3,
            }),
        }
    }

    fn put_vote(&mut self, vote: &Vote) {
        self.put_u64(vote.leader_id.term);
        self.put_slice(vote.leader_id.voted_for.as_bytes());
        self.put_flag(vote.committed);
    }

    fn put_place(&mut self, place: &LogId) {
        let LogPlace { term, index } = place_of(place);
        self.put_u64(term);
        self.put_u64(index);
    }

    fn put_optional(&mut self, place: Option<&LogId>) {
        self.put_flag(place.is_some());
        if let Some(place) = place {
            self.put_place(place);
        }
    }

    fn put_flag(&mut self, flag: bool) {
        self.put_u8(if flag { FLAG } else { 0 });
    }

    fn put_counted(&mut self, bytes: &[u8]) {
        self.put_u32(bytes.len() as u32);
        self.put_slice(bytes);
    }
}

impl Reader {
    /// What a message of this kind says; none where the kind is not known.
    pub(super) fn message(&mut self, kind: u8) -> Result<Option<Message>, WireError> {
        Ok(Some(match kind {
            1 => Message::Append(self.append()?),
            2 => Message::AppendAnswer(self.append_answer()?),
            3 => Message::Vote(self.vote_request()?),
            4 => Message::VoteAnswer(self.vote_response()?),
            5 => Message::PreVote(self.vote_request()?),
            6 => Message::PreVoteAnswer(self.vote_response()?),
            7 => {
                let (vote, to) = (self.vote()?, ReplicaId::from_bytes(self.array()?));
                Message::TransferLeader(TransferLeaderRequest::new(vote, to, self.optional()?))
            }
            8 => Message::TransferLeaderAnswer(self.transfer_answer()?),
            9 => Message::SnapshotBegin(self.snapshot_note()?),
            10 => Message::SnapshotPiece(SnapshotPiece { vote: self.vote()?, bytes: self.rest() }),
            11 => Message::SnapshotEnd(self.snapshot_note()?),
            12 => Message::SnapshotAnswer(self.snapshot_answer()?),
            13 => Message::Sleep(self.quiet()?),
            14 => Message::SleepAnswer { quiet: self.quiet()?, is_agreed: self.flag()? },
            15 => Message::Wake,
            16 => Message::Refused(match self.u8()? {
                1 => Reason::NotHere,
                2 => Reason::Busy,
                3 => Reason::Stopped,
                _ => return Err(WireError::Field("reason")),
            }),
            24 => Message::Digest(self.log_place()?),
            25 => Message::DigestAnswer(self.digest_state()?),
            26 => {
                let place = self.log_place()?;
                let parts = (0..self.u16()?).map(|_| self.u16()).collect::<Result<_, _>>()?;
                Message::Differs { place, parts }
            }
            27 => Message::Forgotten(self.log_place()?),
            _ => return Ok(None),
        }))
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        Ok(self.flags(FLAG)? != 0)
    }

    fn vote(&mut self) -> Result<Vote, WireError> {
        let (term, replica) = (self.u64()?, ReplicaId::from_bytes(self.array()?));
        Ok(if self.flag()? { Vote::new_committed(term, replica) } else { Vote::new(term, replica) })
    }

    fn log_place(&mut self) -> Result<LogPlace, WireError> {
        Ok(LogPlace { term: self.u64()?, index: self.u64()? })
    }

    fn optional(&mut self) -> Result<Option<LogId>, WireError> {
        Ok(if self.flag()? { Some(log_id(self.log_place()?)) } else { None })
    }

    fn vote_request(&mut self) -> Result<VoteRequest<Types>, WireError> {
        let (vote, last_log_id) = (self.vote()?, self.optional()?);
        Ok(VoteRequest { vote, last_log_id, leadership_transfer: self.flag()? })
    }

    fn vote_response(&mut self) -> Result<VoteResponse<Types>, WireError> {
        let (vote, last_log_id) = (self.vote()?, self.optional()?);
        Ok(VoteResponse { vote, last_log_id, vote_granted: self.flag()? })
    }

    /// An append. Its memory grows with what is read, not with what the count claims.
    fn append(&mut self) -> Result<Append, WireError> {
        let (vote, previous, committed) = (self.vote()?, self.optional()?, self.optional()?);
        let mut entries = Vec::new();
        let mut before = previous.as_ref().map(place_of);
        for _ in 0..self.u32()? {
            let place = self.log_place()?;
            // openraft counts on it.
            let follows = match before {
                Some(before) => before.index.checked_add(1) == Some(place.index) && before.term <= place.term,
                None => place.index == 0,
            };
            if !follows {
                return Err(WireError::Field("order of entries"));
            }
            before = Some(place);
            let payload = Bytes::copy_from_slice(&self.counted()?);
            entries.push(entry_from(place, payload).ok_or(WireError::Field("entry"))?);
        }
        Ok(Append { vote, previous, committed, entries })
    }

    fn append_answer(&mut self) -> Result<AppendEntriesResponse<Types>, WireError> {
        Ok(match self.u8()? {
            0 => AppendEntriesResponse::Success,
            1 => AppendEntriesResponse::PartialSuccess(self.optional()?),
            2 => AppendEntriesResponse::Conflict,
            3 => AppendEntriesResponse::HigherVote(self.vote()?),
            _ => return Err(WireError::Field("answer to an append")),
        })
    }

    fn transfer_answer(&mut self) -> Result<TransferLeaderResponse<Types>, WireError> {
        Ok(match self.u8()? {
            0 => Ok(()),
            1 => Err(TransferLeaderError::VoteChanged { expected: self.vote()?, actual: self.vote()? }),
            2 => Err(TransferLeaderError::LogNotFlushed { expected: self.optional()?, actual: self.optional()? }),
            _ => return Err(WireError::Field("answer to a hand-over")),
        })
    }

    fn snapshot_note(&mut self) -> Result<SnapshotNote, WireError> {
        let (vote, replica) = (self.vote()?, ReplicaId::from_bytes(self.array()?));
        Ok(SnapshotNote { vote, snapshot: SnapshotIdentity { replica, place: self.log_place()? } })
    }

    fn snapshot_answer(&mut self) -> Result<SnapshotAnswer, WireError> {
        let vote = self.vote()?;
        let state = match self.u8()? {
            0 => SnapshotState::Wanted(self.u32()?),
            1 => SnapshotState::AllHere,
            2 => SnapshotState::Installed,
            3 => SnapshotState::NotTaken,
            _ => return Err(WireError::Field("answer to a snapshot")),
        };
        Ok(SnapshotAnswer { vote, state })
    }

    fn digest_state(&mut self) -> Result<DigestState, WireError> {
        Ok(match self.u8()? {
            0 => DigestState::Missed,
            1 => DigestState::Working,
            2 => DigestState::Ready((0..self.u16()?).map(|_| self.array()).collect::<Result<_, _>>()?),
            _ => return Err(WireError::Field("answer about a digest")),
        })
    }

    fn quiet(&mut self) -> Result<Quiet, WireError> {
        Ok(Quiet { term: self.u64()?, last_index: self.u64()? })
    }
}

fn put_append(buffer: &mut BytesMut, append: &Append) {
    buffer.put_vote(&append.vote);
    buffer.put_optional(append.previous.as_ref());
    buffer.put_optional(append.committed.as_ref());
    buffer.put_u32(append.entries.len() as u32);
    for entry in &append.entries {
        buffer.put_place(&entry.log_id);
        buffer.put_counted(&payload_bytes(&entry.payload));
    }
}

fn put_append_answer(buffer: &mut BytesMut, answer: &AppendEntriesResponse<Types>) {
    match answer {
        AppendEntriesResponse::Success => buffer.put_u8(0),
        AppendEntriesResponse::PartialSuccess(place) => {
            buffer.put_u8(1);
            buffer.put_optional(place.as_ref());
        }
        AppendEntriesResponse::Conflict => buffer.put_u8(2),
        AppendEntriesResponse::HigherVote(vote) => {
            buffer.put_u8(3);
            buffer.put_vote(vote);
        }
    }
}

fn put_transfer_answer(buffer: &mut BytesMut, answer: &TransferLeaderResponse<Types>) {
    match answer {
        Ok(()) => buffer.put_u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            buffer.put_u8(1);
            buffer.put_vote(expected);
            buffer.put_vote(actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            buffer.put_u8(2);
            buffer.put_optional(expected.as_ref());
            buffer.put_optional(actual.as_ref());
        }
    }
}

fn put_snapshot_answer(buffer: &mut BytesMut, answer: &SnapshotAnswer) {
    buffer.put_vote(&answer.vote);
    match answer.state {
        SnapshotState::Wanted(next) => {
            buffer.put_u8(0);
            buffer.put_u32(next);
        }
        SnapshotState::AllHere => buffer.put_u8(1),
        SnapshotState::Installed => buffer.put_u8(2),
        SnapshotState::NotTaken => buffer.put_u8(3),
    }
}

fn put_digest_state(buffer: &mut BytesMut, state: &DigestState) {
    match state {
        DigestState::Missed => buffer.put_u8(0),
        DigestState::Working => buffer.put_u8(1),
        DigestState::Ready(sums) => {
            buffer.put_u8(2);
            buffer.put_u16(sums.len() as u16);
            sums.iter().for_each(|sum| buffer.put_slice(sum));
        }
    }
}

fn put_quiet(buffer: &mut BytesMut, quiet: &Quiet) {
    buffer.put_u64(quiet.term);
    buffer.put_u64(quiet.last_index);
}
