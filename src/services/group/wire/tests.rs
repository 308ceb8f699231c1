//! What goes in comes out, what is wrong is refused, and what was ever written is read the same for ever.

use proptest::prelude::*;

use super::super::convert::{Payload, entry_from, log_id, raft_membership};
use super::super::types::Proposed;
use super::*;
use crate::domain::Timestamp;
use crate::domain::ids::NodeId;
use crate::domain::key::{KeyValue, PackedKey};
use crate::replication::command::Command;
use crate::replication::entry;
use crate::replication::entry::tests::operation;
use crate::replication::machine_state::LogPlace;
use crate::replication::membership::Membership;
use crate::replication::operation::{Change, Operation, Preconditions};
use openraft::raft::TransferLeaderError;

const RECORDED_1: &str = include_str!("recorded_1.txt");

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn place(term: u64, index: u64) -> LogId {
    log_id(LogPlace { term, index })
}

fn membership() -> Membership {
    Membership::founding([
        (replica(0x33), NodeId::from_bytes([0x55; 16])),
        (replica(0x44), NodeId::from_bytes([0x66; 16])),
    ])
}

fn deletion() -> Payload {
    let operation = Operation {
        key: PackedKey::new(&KeyValue::String("user1".into()), None),
        change: Change::Delete,
        preconditions: Preconditions::default(),
        conditional: None,
        request: None,
        receipt: None,
    };
    Payload::Normal(Proposed(entry::encode(Timestamp(9), &operation)))
}

/// What `recorded_1.txt` says, in its order.
fn recorded() -> Vec<Message> {
    let leader = Vote::new_committed(7, replica(0x33));
    let candidate = Vote::new(8, replica(0x33));
    let other = Vote::new(8, replica(0x44));
    let last = Some(place(7, 12));
    let membership = raft_membership(&membership()).unwrap();
    let payloads = [Payload::Blank, Payload::Membership(membership), deletion()];
    let entries = payloads.into_iter().zip(10..).map(|(payload, index)| Entry { log_id: place(7, index), payload });
    let snapshot = SnapshotIdentity { replica: replica(0x77), place: LogPlace { term: 7, index: 12 } };
    let answer = |vote, state| Message::SnapshotAnswer(SnapshotAnswer { vote, state });
    let quiet = Quiet { term: 7, last_index: 12 };
    vec![
        Message::Append(Append {
            vote: leader,
            previous: Some(place(6, 9)),
            committed: Some(place(6, 8)),
            entries: entries.collect(),
        }),
        Message::Append(Append { vote: leader, previous: None, committed: None, entries: Vec::new() }),
        Message::AppendAnswer(AppendEntriesResponse::Success),
        Message::AppendAnswer(AppendEntriesResponse::PartialSuccess(Some(place(7, 10)))),
        Message::AppendAnswer(AppendEntriesResponse::Conflict),
        Message::AppendAnswer(AppendEntriesResponse::HigherVote(other)),
        Message::Vote(VoteRequest { vote: candidate, last_log_id: last, leadership_transfer: true }),
        Message::VoteAnswer(VoteResponse { vote: candidate, last_log_id: last, vote_granted: true }),
        Message::PreVote(VoteRequest { vote: candidate, last_log_id: None, leadership_transfer: false }),
        Message::PreVoteAnswer(VoteResponse {
            vote: Vote::new_committed(9, replica(0x44)),
            last_log_id: Some(place(9, 13)),
            vote_granted: false,
        }),
        Message::TransferLeader(TransferLeaderRequest::new(leader, replica(0x44), last)),
        Message::TransferLeaderAnswer(Ok(())),
        Message::TransferLeaderAnswer(Err(TransferLeaderError::VoteChanged { expected: leader, actual: other })),
        Message::TransferLeaderAnswer(Err(TransferLeaderError::LogNotFlushed { expected: last, actual: None })),
        Message::SnapshotBegin(SnapshotNote { vote: leader, snapshot }),
        Message::SnapshotPiece(SnapshotPiece { vote: leader, bytes: Bytes::from_static(b"abc") }),
        Message::SnapshotEnd(SnapshotNote { vote: leader, snapshot }),
        answer(leader, SnapshotState::Wanted(4)),
        answer(leader, SnapshotState::AllHere),
        answer(leader, SnapshotState::Installed),
        answer(Vote::new_committed(8, replica(0x44)), SnapshotState::NotTaken),
        Message::Sleep(quiet),
        Message::SleepAnswer { quiet, is_agreed: true },
        Message::Wake,
        Message::Refused(Reason::NotHere),
        Message::Refused(Reason::Busy),
        Message::Refused(Reason::Stopped),
        Message::Digest(snapshot.place),
        Message::DigestAnswer(DigestState::Missed),
        Message::DigestAnswer(DigestState::Working),
        Message::DigestAnswer(DigestState::Ready(vec![[0xaa; 32], [0xbb; 32]])),
        Message::Differs { place: snapshot.place, parts: vec![1, 64] },
        Message::Forgotten(snapshot.place),
    ]
}

fn envelope(message: Message) -> Envelope {
    let range = RangeId::from_bytes([0x22; 16]);
    Envelope { range, from: replica(0x33), to: replica(0x44), correlation: 5, message }
}

fn unhex(text: &str) -> Bytes {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn what_release_0_1_0_wrote_is_read_as_it_was_meant() {
    let mut meant: Vec<Received> = recorded().into_iter().map(|message| Received::Group(envelope(message))).collect();
    let (boot, synced) = (5 << 32 | 7, 3 << 32 | 100);
    let nodes = [
        NodeMessage::Beacon { boot: 3, progress: 1000, flags: 1 },
        NodeMessage::Recall { boot, synced, floor: 5 << 32 },
        NodeMessage::Recalled { boot, synced },
    ];
    meant.extend(nodes.map(Received::Node));
    let lines: Vec<&str> = RECORDED_1.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), meant.len());
    for (line, meant) in lines.into_iter().zip(meant) {
        let bytes = unhex(line);
        assert_eq!(Received::decode(&bytes), Ok(meant.clone()), "{line}");
        // And it is still what is written. Where that changes on purpose, this line goes and the one above stays.
        let written = match meant {
            Received::Group(envelope) => envelope.encode(),
            Received::Node(message) => message.encode(),
            Received::Unknown(_) => Bytes::new(),
        };
        assert_eq!(written, bytes, "{line}");
    }
}

#[test]
fn a_kind_of_a_later_release_is_no_error() {
    let mut bytes = envelope(Message::Wake).encode().to_vec();
    bytes[1] = 100;
    bytes.extend_from_slice(b"whatever it says");
    assert_eq!(Received::decode(&Bytes::from(bytes)), Ok(Received::Unknown(100)));
    assert_eq!(Received::decode(&Bytes::from_static(&[1, 200, 1, 2, 3])), Ok(Received::Unknown(200)));
}

#[test]
fn what_is_no_message_is_refused() {
    let good = envelope(Message::Wake).encode();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Received::decode(&Bytes::from(bytes))
    };
    assert_eq!(changed(0, 2), Err(WireError::Format(2)));
    assert_eq!(Received::decode(&good.slice(..good.len() - 1)), Err(WireError::Short));
    assert_eq!(Received::decode(&Bytes::from([&good[..], &[0]].concat())), Err(WireError::Field("end")));
    let gap = Append {
        vote: Vote::new_committed(7, replica(1)),
        previous: Some(place(6, 9)),
        committed: None,
        entries: vec![Entry { log_id: place(7, 11), payload: Payload::Blank }],
    };
    let gap = envelope(Message::Append(gap)).encode();
    assert_eq!(Received::decode(&gap), Err(WireError::Field("order of entries")));
}

#[test]
fn the_number_of_a_question_is_found_without_reading_the_rest() {
    let quiet = Quiet { term: 7, last_index: 12 };
    assert_eq!(question_in(&envelope(Message::Sleep(quiet)).encode()), Some(5));
    assert_eq!(question_in(&envelope(Message::SleepAnswer { quiet, is_agreed: true }).encode()), None);
    assert_eq!(question_in(&NodeMessage::Beacon { boot: 1, progress: 2, flags: 3 }.encode()), None);
    assert_eq!(question_in(&Bytes::from_static(&[1, 1, 2])), None);
}

#[test]
fn an_entry_does_not_keep_the_frame_that_it_came_in() {
    let payload = deletion();
    let append = Append {
        vote: Vote::new_committed(7, replica(1)),
        previous: Some(place(6, 9)),
        committed: None,
        entries: vec![Entry { log_id: place(7, 10), payload }],
    };
    let bytes = envelope(Message::Append(append)).encode();
    let frame = bytes.as_ptr_range();
    let Ok(Received::Group(Envelope { message: Message::Append(append), .. })) = Received::decode(&bytes) else {
        panic!("an append")
    };
    let Payload::Normal(proposed) = &append.entries[0].payload else { panic!("an operation") };
    assert!(!frame.contains(&proposed.0.as_ptr()));
}

fn append(count: u64) -> impl Strategy<Value = Append> {
    let payload = prop_oneof![
        operation().prop_map(|operation| Payload::Normal(Proposed(entry::encode(Timestamp(1), &operation)))),
        Just(Payload::Blank),
        Just(entry_from(LogPlace::default(), Command::Membership(membership()).encode()).unwrap().payload),
    ];
    let payloads = proptest::collection::vec(payload, 0..count as usize);
    (0..u64::MAX / 2, any::<u64>(), any::<bool>(), payloads).prop_map(|(first, term, begins, payloads)| {
        let first = if begins { 0 } else { first + 1 };
        let entry = |(payload, index)| Entry { log_id: place(term, index), payload };
        Append {
            vote: Vote::new_committed(term, replica(1)),
            previous: (!begins).then(|| place(term, first - 1)),
            committed: None,
            entries: payloads.into_iter().zip(first..).map(entry).collect(),
        }
    })
}

fn digest_message() -> impl Strategy<Value = Message> {
    let place = || (any::<u64>(), any::<u64>()).prop_map(|(term, index)| LogPlace { term, index });
    let state = prop_oneof![
        Just(DigestState::Missed),
        Just(DigestState::Working),
        proptest::collection::vec(any::<[u8; 32]>(), 0..70).prop_map(DigestState::Ready),
    ];
    let parts = proptest::collection::vec(any::<u16>(), 0..70);
    prop_oneof![
        place().prop_map(Message::Digest),
        place().prop_map(Message::Forgotten),
        state.prop_map(Message::DigestAnswer),
        (place(), parts).prop_map(|(place, parts)| Message::Differs { place, parts }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let piece = (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..100));
    prop_oneof![
        append(6).prop_map(Message::Append),
        proptest::sample::select(recorded()),
        piece.prop_map(|(term, bytes)| {
            Message::SnapshotPiece(SnapshotPiece { vote: Vote::new_committed(term, replica(1)), bytes: bytes.into() })
        }),
        digest_message(),
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, last_index, is_agreed)| {
            Message::SleepAnswer { quiet: Quiet { term, last_index }, is_agreed }
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in message(), ids in any::<[[u8; 16]; 3]>(), correlation in any::<u64>()) {
        let envelope = Envelope {
            range: RangeId::from_bytes(ids[0]),
            from: ReplicaId::from_bytes(ids[1]),
            to: ReplicaId::from_bytes(ids[2]),
            correlation,
            message,
        };
        let bytes = envelope.encode();
        let is_told = matches!(envelope.message, Message::Wake | Message::Forgotten(_));
        let is_question = !envelope.message.is_answer() && !is_told;
        prop_assert_eq!(question_in(&bytes), is_question.then_some(correlation));
        prop_assert_eq!(Received::decode(&bytes), Ok(Received::Group(envelope)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..30u8) {
        fuzz_group_message(&bytes);
        // Most random bytes fail at the version or are of no known kind; these are not.
        fuzz_group_message(&[&[FORMAT_VERSION, kind][..], &bytes].concat());
        fuzz_group_message(&[&[FORMAT_VERSION, KIND_NODE_FIRST + kind % 4][..], &bytes].concat());
    }

    #[test]
    fn a_message_that_is_changed_is_read_or_refused(
        message in message(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = envelope(message).encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fuzz_group_message(&bytes);
        fuzz_group_message(&bytes[..at]);
    }

    #[test]
    fn what_is_split_is_the_same_in_parts(append in append(20), bytes_max in 1..2000usize) {
        let parts = append.clone().split(bytes_max);
        prop_assert!(!parts.is_empty());
        let mut before = append.previous;
        for part in &parts {
            prop_assert_eq!(part.previous, before);
            prop_assert_eq!((part.vote, part.committed), (append.vote, append.committed));
            prop_assert!(part.entries.len() <= 1 || part.bytes() <= bytes_max);
            before = part.last();
        }
        prop_assert_eq!(before, append.last());
        let entries: Vec<Entry> = parts.into_iter().flat_map(|part| part.entries).collect();
        prop_assert_eq!(entries, append.entries);
    }
}
