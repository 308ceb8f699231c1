//! Entries of local indexes: order, intervals and reading back.

use super::*;
use crate::domain::hash::hash_of;
use proptest::prelude::*;

/// Few letters, zeros and FFs among them, so that prefixes and escapes meet often.
fn any_text() -> impl Strategy<Value = KeyValue> {
    prop_oneof!["[ab\\x00\u{ff}]{0,4}".boxed(), any::<String>().boxed()]
        .prop_map(|text| KeyValue::String(text.as_str().into()))
}

fn any_number() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        (-20i64..20).prop_map(|number| KeyValue::Integer(number.into())),
        // 37 digits before an exponent of 89 at most: below the bound of 9.99…e125.
        "-?[1-9][0-9]{0,36}(e-?[1-8][0-9]?)?".prop_map(|text| KeyValue::Integer(text.parse().unwrap())),
    ]
}

fn any_bytes() -> impl Strategy<Value = KeyValue> {
    proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..5)
        .prop_map(|bytes| KeyValue::Bytes(bytes.into()))
}

fn any_key() -> impl Strategy<Value = KeyValue> {
    prop_oneof![any_text(), any_number(), any_bytes()]
}

/// Two of one type, as an index has them.
fn any_pair() -> impl Strategy<Value = (KeyValue, KeyValue)> {
    prop_oneof![(any_text(), any_text()), (any_number(), any_number()), (any_bytes(), any_bytes())]
}

fn entry(id: &KeyValue, value: &KeyValue, sort: &KeyValue) -> PackedKey {
    index_entry(&PackedKey::new(id, Some(sort)), value).unwrap()
}

fn within((start, end): &(PackedKey, PackedKey), entry: &PackedKey) -> bool {
    start <= entry && entry < end
}

#[test]
fn the_bytes_are_as_documented() {
    let (id, sort) = (KeyValue::String("a".into()), KeyValue::Integer(7.into()));
    let hash = hash_of(b"a").to_be_bytes();
    for (value, middle) in [
        (KeyValue::String("b\0".into()), &[2, b'b', 0, 0xff, 0, 1][..]),
        (KeyValue::Integer((-7).into()), &[1, 1, !130, !71, !0]),
        (KeyValue::Bytes(Bytes::from_static(&[0xff])), &[3, 0xff, 0, 1]),
    ] {
        let expected = [&hash[..], &[2, b'a', 0, 1], middle, &[1, 3, 130, 71, 0]].concat();
        assert_eq!(entry(&id, &value, &sort).as_bytes(), expected);
    }
    let alone = index_entry(&PackedKey::new(&id, None), &sort).unwrap();
    assert_eq!(alone.as_bytes(), [&hash[..], &[2, b'a', 0, 1, 1, 3, 130, 71, 0]].concat());
}

#[test]
fn what_is_no_entry_is_refused() {
    for (bad, error) in [
        (&[0u8, 0, 0, 0][..], KeyError::Short),
        (&[0, 0, 0, 0, 9], KeyError::Type(9)),
        (&[0, 0, 0, 0, 2, b'a', 0, 1], KeyError::Short),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 7], KeyError::Type(7)),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 1, 9], KeyError::Encoding),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 2, b'b'], KeyError::Short),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 2, b'b', 0, 2], KeyError::Encoding),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 2, 0xc3, 0, 1], KeyError::Encoding),
    ] {
        let read = read_index_entry(&PackedKey(Bytes::from_static(bad)));
        assert_eq!(read.map(|(key, _)| key), Err(error), "{bad:?}");
    }
    let bound = PackedKey::hash_floor(7);
    assert_eq!(index_entry(&bound, &KeyValue::Integer(7.into())), Err(KeyError::Short), "a bound is no item's key");
}

#[test]
fn a_number_begins_with_itself_alone() {
    let (id, number) = (KeyValue::String("a".into()), KeyValue::Integer(12.into()));
    assert_eq!(index_prefix_interval(&id, &number), index_value_interval(&id, &number));
}

proptest! {
    #[test]
    fn entries_read_back(id in any_key(), sort in proptest::option::of(any_key()), value in any_key()) {
        let key = PackedKey::new(&id, sort.as_ref());
        let entry = index_entry(&key, &value).unwrap();
        prop_assert_eq!(entry.hash(), id.hash());
        prop_assert!(read_index_entry(&entry) == Ok((key, value)));
    }

    #[test]
    fn order_is_hash_then_id_then_value_then_sort_key(
        ids in any_pair(), values in any_pair(), sorts in any_pair(), same_id: bool, same_value: bool,
    ) {
        let (id, other_id) = (&ids.0, if same_id { &ids.0 } else { &ids.1 });
        let (value, other_value) = (&values.0, if same_value { &values.0 } else { &values.1 });
        // A prefix leads with the hash.
        let expected = PackedKey::id_prefix(id).cmp(&PackedKey::id_prefix(other_id));
        let expected = expected.then(value.cmp(other_value)).then(sorts.0.cmp(&sorts.1));
        prop_assert_eq!(entry(id, value, &sorts.0).cmp(&entry(other_id, other_value, &sorts.1)), expected);
    }

    #[test]
    fn intervals_hold_what_they_say(
        id in any_key(), other in any_key(), value in any_key(), wanted in any_key(), sort in any_key(),
    ) {
        let own = entry(&id, &value, &sort);
        prop_assert!(within(&PackedKey::id_interval(&id), &own));
        prop_assert!(within(&index_value_interval(&id, &value), &own));
        prop_assert_eq!(within(&index_value_interval(&id, &wanted), &own), value == wanted);
        let begins = value.key_type() == wanted.key_type()
            && if wanted.key_type() == KeyType::Integer {
                value == wanted
            } else {
                value.canonical_bytes().starts_with(&wanted.canonical_bytes())
            };
        prop_assert_eq!(within(&index_prefix_interval(&id, &wanted), &own), begins);
        // Another ID's entry, under one hash, as if they collided.
        let others = entry(&other, &value, &sort);
        let collided = PackedKey([&own.as_bytes()[..4], &others.as_bytes()[4..]].concat().into());
        prop_assert_eq!(within(&PackedKey::id_interval(&id), &collided), id == other);
        prop_assert_eq!(within(&index_value_interval(&id, &value), &collided), id == other);
        prop_assert_eq!(within(&index_prefix_interval(&id, &value), &collided), id == other);
    }

    #[test]
    fn no_bytes_panic(mut data: Vec<u8>, id_tag in 0u8..5, value_tag in 0u8..5) {
        fuzz_index_entry(&data);
        data.splice(0..0, [0, 0, 0, 0, id_tag, 2, value_tag]);
        fuzz_index_entry(&data);
        data.splice(0..7, [0, 0, 0, 0, 2, b'a', 0, 1, value_tag]);
        fuzz_index_entry(&data);
    }
}
