//! What goes in comes out, and what is wrong is refused.

use proptest::prelude::*;

use super::*;
use crate::domain::document::sample;
use crate::domain::key::KeyValue;
use crate::replication::entry::tests::operation;
use crate::replication::outcome::tests::outcome;

fn packed() -> impl Strategy<Value = PackedKey> {
    prop_oneof![
        "[a-z]{1,20}".prop_map(|id| PackedKey::new(&KeyValue::String(id.as_str().into()), None)),
        any::<u32>().prop_map(PackedKey::hash_floor),
        "[a-z]{1,20}".prop_map(|id| PackedKey::new(&KeyValue::String(id.as_str().into()), None).successor()),
    ]
}

fn freshness() -> impl Strategy<Value = Consistency> {
    prop_oneof![Just(Consistency::Strong), Just(Consistency::Eventual)]
}

fn part() -> impl Strategy<Value = StoredPart> {
    prop_oneof![
        Just(StoredPart::Table),
        any::<u8>().prop_map(StoredPart::Index),
        "[a-z\\x00]{1,20}"
            .prop_map(|id| StoredPart::Collection(PackedKey::id_prefix(&KeyValue::String(id.as_str().into())))),
        any::<i64>().prop_map(|id| StoredPart::Collection(PackedKey::id_prefix(&KeyValue::Integer(id.into())))),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let index = proptest::option::of(any::<u8>());
    let bounds = (1..=PAGE_ITEMS_MAX, proptest::option::of(any::<u32>()), index);
    let list = (packed(), proptest::option::of(packed()), bounds, any::<bool>(), freshness());
    prop_oneof![
        (packed(), freshness()).prop_map(|(key, consistency)| Question::Read { key, consistency }),
        (operation(), any::<bool>())
            .prop_map(|(operation, respond_async)| Question::Write { operation, respond_async }),
        list.prop_map(|(start, end, (limit, bytes_max, index), descending, consistency)| {
            Question::List(ListRequest { index, start, end, limit, descending, consistency, bytes_max })
        }),
        (any::<u32>(), part()).prop_map(|(hash, part)| Question::Stored { hash, part }),
        any::<[u8; 16]>().prop_map(|receipt| Question::Receipt(ReceiptId::from_bytes(receipt))),
    ]
}

fn item() -> impl Strategy<Value = StoredItem> {
    (sample::items(), any::<u64>())
        .prop_map(|(map, version)| StoredItem { document: sample::document(&map), version: ItemVersion(version) })
}

fn answer() -> impl Strategy<Value = Answer> {
    let page = (proptest::collection::vec((packed(), item()), 0..5), proptest::option::of(packed()));
    prop_oneof![
        proptest::option::of(item()).prop_map(Answer::Item),
        outcome().prop_map(|outcome| Answer::Written(WriteAnswer::Applied(outcome))),
        Just(Answer::Written(WriteAnswer::Queued)),
        page.prop_map(|(items, last)| Answer::Page(Page { items, last })),
        any::<[u64; 2]>().prop_map(|[items, bytes]| Answer::Stored(Stored { items, bytes })),
        Just(Answer::Receipt(None)),
        Just(Answer::Receipt(Some(ReceiptState::Queued))),
        Just(Answer::Receipt(Some(ReceiptState::Lost))),
        outcome().prop_map(|outcome| Answer::Receipt(Some(ReceiptState::Ended(outcome)))),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let location = proptest::option::of(any::<String>());
    let leader = proptest::option::of(any::<[u8; 16]>().prop_map(NodeId::from_bytes));
    let moved = (any::<[u8; 16]>(), any::<[u32; 2]>()).prop_map(|(range, [one, other])| MovedTo {
        range: RangeId::from_bytes(range),
        hashes: HashRange { low: one.min(other), high: one.max(other) },
    });
    let moved = proptest::option::of(moved);
    (0..KINDS.len(), any::<String>(), location, leader, moved, proptest::option::of(any::<u32>())).prop_map(
        |(kind, message, location, leader, moved, retry_after_seconds)| Refusal {
            kind: KINDS[kind],
            message,
            location,
            leader,
            moved,
            unreached: false,
            retry_after_seconds,
        },
    )
}

fn address() -> RangeAddress {
    RangeAddress { table: TableId::from_bytes([0x11; 16]), range: RangeId::from_bytes([0x22; 16]) }
}

proptest! {
    #[test]
    fn questions_arrive_as_they_were_sent(question in question()) {
        prop_assert_eq!(Question::decode(&question.encode(address())), Ok((address(), question)));
    }

    #[test]
    fn answers_arrive_as_they_were_sent(answer in answer()) {
        prop_assert_eq!(decode_answer(&answer.encode()), Ok(Ok(answer)));
    }

    #[test]
    fn refusals_arrive_whole(refusal in refusal()) {
        prop_assert_eq!(decode_answer(&encode_refusal(&refusal)), Ok(Err(refusal)));
    }

    #[test]
    fn garbage_is_refused_or_stable(mut data in proptest::collection::vec(any::<u8>(), 0..200), what in 0u8..12) {
        fuzz_question(&data);
        fuzz_answer(&data);
        data.splice(0..0, [FORMAT_VERSION, what]);
        fuzz_question(&data);
        fuzz_answer(&data);
    }

    #[test]
    fn changed_bytes_are_refused_or_stable(question in question(), answer in answer(), at: usize, value: u8) {
        let mut bytes = question.encode(address()).to_vec();
        let place = at % bytes.len();
        bytes[place] = value;
        fuzz_question(&bytes);
        let mut bytes = answer.encode().to_vec();
        let place = at % bytes.len();
        bytes[place] = value;
        fuzz_answer(&bytes);
    }

    #[test]
    fn what_is_cut_short_is_refused(answer in answer(), cut in 1usize..20) {
        let whole = answer.encode();
        let short = whole.slice(..whole.len().saturating_sub(cut));
        if let Ok(Ok(read)) = decode_answer(&short) {
            // Only a message in words has a beginning that is whole by itself.
            prop_assert!(matches!(
                read,
                Answer::Written(WriteAnswer::Applied(Outcome::Invalid(_)))
                    | Answer::Receipt(Some(ReceiptState::Ended(Outcome::Invalid(_))))
            ), "{:?}", read);
        }
    }
}

/// Components of different releases talk to each other: a changed byte here is a new format version.
#[test]
fn the_bytes_are_pinned() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let ids = format!("{}{}", "11".repeat(16), "22".repeat(16));
    let key = PackedKey::hash_floor(7);
    let read = Question::Read { key: key.clone(), consistency: Consistency::Eventual };
    assert_eq!(hex(&read.encode(address())), format!("0101{ids}0100000007"));
    let list = ListRequest {
        index: None,
        start: key.clone(),
        end: Some(PackedKey::hash_floor(9)),
        limit: 100,
        descending: true,
        consistency: Consistency::Strong,
        bytes_max: None,
    };
    let bounded = ListRequest { bytes_max: Some(256), ..list.clone() };
    let indexed = ListRequest { index: Some(3), ..list.clone() };
    let both = ListRequest { index: Some(3), ..bounded.clone() };
    assert_eq!(hex(&Question::List(list).encode(address())), format!("0103{ids}0600000064000000040000000700000009"));
    let expected = format!("0103{ids}0e0000006400000100000000040000000700000009");
    assert_eq!(hex(&Question::List(bounded).encode(address())), expected);
    let expected = format!("0103{ids}160000006403000000040000000700000009");
    assert_eq!(hex(&Question::List(indexed).encode(address())), expected);
    let expected = format!("0103{ids}1e000000640000010003000000040000000700000009");
    assert_eq!(hex(&Question::List(both).encode(address())), expected);
    let stored = |part| hex(&Question::Stored { hash: 7, part }.encode(address()));
    assert_eq!(stored(StoredPart::Table), format!("0105{ids}00000007"));
    assert_eq!(stored(StoredPart::Index(4)), format!("0105{ids}000000070104"));
    let collection = StoredPart::Collection(PackedKey::id_prefix(&KeyValue::String("user1".into())));
    assert_eq!(stored(collection), format!("0105{ids}0000000702c50b443d0275736572310001"));
    let stored = Answer::Stored(Stored { items: 2, bytes: 300 });
    assert_eq!(hex(&stored.encode()), "010a0000000000000002000000000000012c");
    let receipt = Question::Receipt(ReceiptId::from_bytes([0x33; 16]));
    assert_eq!(hex(&receipt.encode(address())), format!("0104{ids}{}", "33".repeat(16)));
    let item = StoredItem { document: Document::empty(), version: ItemVersion(5) };
    assert_eq!(hex(&Answer::Item(Some(item.clone())).encode()), "010100000000000000050100000000");
    let page = Page { items: vec![(key.clone(), item)], last: Some(key) };
    let expected = "01050100000004000000070000000100000004000000070000000000000005000000050100000000";
    assert_eq!(hex(&Answer::Page(page).encode()), expected);
    let refusal = Refusal { location: Some("u".into()), ..Refusal::unavailable("m", 2) };
    assert_eq!(hex(&encode_refusal(&refusal)), "01000d030000000200000001756d");
    let refusal = Refusal::wrong_node("m", Some(NodeId::from_bytes([0x44; 16])));
    assert_eq!(hex(&encode_refusal(&refusal)), format!("01000904{}6d", "44".repeat(16)));
    let to = MovedTo { range: RangeId::from_bytes([0x55; 16]), hashes: HashRange { low: 1, high: 2 } };
    let refusal = Refusal { message: "m".into(), ..Refusal::moved(to) };
    assert_eq!(hex(&encode_refusal(&refusal)), format!("01000908{}00000001000000026d", "55".repeat(16)));
}

#[test]
fn every_kind_of_refusal_has_its_number() {
    let names: Vec<String> = KINDS.iter().map(|kind| serde_json::to_string(kind).unwrap()).collect();
    let expected = "bad-input,unauthenticated,denied,not-found,conflict,precondition-failed,too-large,\
                    unsupported-media-type,wrong-node,request-id-reused,too-slow,throttled,unavailable,outcome-unknown,\
                    damaged,internal,storage-full";
    assert_eq!(names.join(",").replace('"', ""), expected);
}

#[test]
fn what_would_harm_a_node_is_refused() {
    let page = |limit| {
        let (start, consistency) = (PackedKey::hash_floor(0), Consistency::Strong);
        let (index, end, bytes_max) = (None, None, None);
        Question::List(ListRequest { index, start, end, limit, descending: false, consistency, bytes_max })
    };
    for limit in [0, PAGE_ITEMS_MAX + 1] {
        assert_eq!(Question::decode(&page(limit).encode(address())), Err(WireError::Field("limit")));
    }
    let key = PackedKey::new(&KeyValue::String("a".into()), None);
    let elsewhere = [&[0; 4], &key.as_bytes()[4..]].concat();
    for (key, expected) in [
        (key.clone(), Ok(())),
        (key.successor(), Err(WireError::Field("key"))),
        (PackedKey::from_bytes(elsewhere.into()).unwrap(), Err(WireError::Field("key"))),
    ] {
        let change = crate::replication::operation::Change::Delete;
        let preconditions = Default::default();
        let operation = Operation { key, change, preconditions, conditional: None, request: None, receipt: None };
        let question = Question::Write { operation, respond_async: false };
        assert_eq!(Question::decode(&question.encode(address())).map(|_| ()), expected);
    }
    let id = KeyValue::String("a".into());
    for (prefix, expected) in [
        (PackedKey::id_prefix(&id), Ok(())),
        (PackedKey::new(&id, Some(&id)), Err(WireError::Field("collection"))),
        (PackedKey::hash_floor(id.hash()), Err(WireError::Field("collection"))),
        (PackedKey::hash_floor(u32::MAX), Err(WireError::Field("collection"))),
    ] {
        let question = Question::Stored { hash: prefix.hash(), part: StoredPart::Collection(prefix) };
        assert_eq!(Question::decode(&question.encode(address())).map(|_| ()), expected);
    }
    let stored = Question::Stored { hash: 7, part: StoredPart::Index(0) }.encode(address());
    assert_eq!(Question::decode(&stored.slice(..stored.len() - 1)), Err(WireError::Short));
    let unknown = [&stored[..stored.len() - 2], &[3]].concat();
    assert_eq!(Question::decode(&unknown.into()), Err(WireError::Field("part of a range")));
}

#[test]
fn another_format_is_named() {
    let newer = Bytes::from_static(&[2, 1]);
    assert_eq!(Question::decode(&newer), Err(WireError::Format(2)));
    assert_eq!(decode_answer(&newer), Err(WireError::Format(2)));
}
