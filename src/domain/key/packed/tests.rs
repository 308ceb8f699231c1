//! Packed keys: order, prefixes and reading back.

use super::*;
use crate::domain::hash::hash_of;
use proptest::prelude::*;
use std::cmp::Ordering;

fn any_key() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        // Few letters, zeros and FFs among them, so that prefixes and escapes meet often.
        "[ab\\x00\u{ff}]{0,4}".prop_map(|text| KeyValue::String(text.as_str().into())),
        any::<String>().prop_map(|text| KeyValue::String(text.as_str().into())),
        (-20i64..20).prop_map(|number| KeyValue::Integer(number.into())),
        // 37 digits before an exponent of 89 at most: below the bound of 9.99…e125.
        "-?[1-9][0-9]{0,36}(e-?[1-8][0-9]?)?".prop_map(|text| KeyValue::Integer(text.parse().unwrap())),
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..5)
            .prop_map(|bytes| KeyValue::Bytes(bytes.into())),
    ]
}

/// The order that the documentation promises, without encodings.
fn order(left: &KeyValue, right: &KeyValue) -> Option<Ordering> {
    match (left, right) {
        (KeyValue::String(left), KeyValue::String(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (KeyValue::Integer(left), KeyValue::Integer(right)) => Some(left.cmp(right)),
        (KeyValue::Bytes(left), KeyValue::Bytes(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn within((start, end): &(PackedKey, PackedKey), key: &PackedKey) -> bool {
    start <= key && key < end
}

#[test]
fn the_bytes_are_as_documented() {
    let key = PackedKey::new(&KeyValue::String("a\0b".into()), Some(&KeyValue::Integer(7.into())));
    let mut expected = hash_of(b"a\0b").to_be_bytes().to_vec();
    expected.extend([2, b'a', 0, 0xff, b'b', 0, 1, 1, 3, 130, 71, 0]);
    assert_eq!(key.as_bytes(), expected);
    assert_eq!(key.hash(), hash_of(b"a\0b"));
    let key = PackedKey::new(&KeyValue::Integer((-7).into()), Some(&KeyValue::Bytes(Bytes::from_static(&[0, 255]))));
    let mut expected = hash_of(b"-7").to_be_bytes().to_vec();
    expected.extend([1, 1, !130, !71, !0, 3, 0, 255]);
    assert_eq!(key.as_bytes(), expected);
}

#[test]
fn damaged_keys_are_refused() {
    for (bad, error) in [
        (&[0u8, 0, 0][..], KeyError::Short),
        (&[0, 0, 0, 0], KeyError::Short),
        (&[0, 0, 0, 0, 9], KeyError::Type(9)),
        (&[0, 0, 0, 0, 2, b'a'], KeyError::Short),
        (&[0, 0, 0, 0, 2, b'a', 0], KeyError::Short),
        (&[0, 0, 0, 0, 2, b'a', 0, 2], KeyError::Encoding),
        (&[0, 0, 0, 0, 2, 0xff, 0, 1], KeyError::Encoding),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 9], KeyError::Type(9)),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 2, 0xff], KeyError::Encoding),
        (&[0, 0, 0, 0, 2, b'a', 0, 1, 1, 2, 2], KeyError::Encoding),
    ] {
        assert_eq!(PackedKey(Bytes::from_static(bad)).decode(), Err(error), "{bad:?}");
    }
    let wrong_hash = PackedKey(Bytes::from_static(&[0, 0, 0, 0, 2, b'a', 0, 1]));
    assert_eq!(wrong_hash.decode(), Err(KeyError::Hash));
}

#[test]
fn the_last_range_has_no_end() {
    assert_eq!(PackedKey::hash_interval(&HashRange::FULL).1, None);
    let (start, end) = PackedKey::hash_interval(&HashRange::new(1, 2).unwrap());
    assert_eq!((start.as_bytes(), end.unwrap().as_bytes()), (&[0, 0, 0, 1][..], &[0, 0, 0, 3][..]));
}

proptest! {
    #[test]
    fn keys_read_back(id in any_key(), sort in proptest::option::of(any_key())) {
        let key = PackedKey::new(&id, sort.as_ref());
        prop_assert_eq!(key.hash(), id.hash());
        let read = PackedKey::from_bytes(key.bytes().clone()).unwrap();
        prop_assert!(read.decode() == Ok((id, sort)));
    }

    #[test]
    fn sort_keys_of_an_id_are_in_their_own_order(id in any_key(), left in any_key(), right in any_key()) {
        let (a, b) = (PackedKey::new(&id, Some(&left)), PackedKey::new(&id, Some(&right)));
        if let Some(expected) = order(&left, &right) {
            prop_assert_eq!(a.cmp(&b), expected);
        }
        prop_assert_eq!(a == b, left == right);
    }

    #[test]
    fn an_id_prefix_holds_its_keys_and_no_others(id in any_key(), other in any_key(), sort in proptest::option::of(any_key())) {
        // Under one hash, as if they collided.
        let key = PackedKey::new(&other, sort.as_ref());
        let collided = PackedKey([&PackedKey::id_prefix(&id).as_bytes()[..4], &key.as_bytes()[4..]].concat().into());
        let interval = PackedKey::id_interval(&id);
        prop_assert_eq!(within(&interval, &collided), id == other);
        prop_assert_eq!(collided.as_bytes().starts_with(interval.0.as_bytes()), id == other);
    }

    #[test]
    fn sort_intervals_hold_what_they_say(
        id in any_key(), sort in any_key(), prefix in any_key(), from in any_key(), to in any_key(), other in any_key(),
    ) {
        let key = PackedKey::new(&id, Some(&sort));
        let within = |interval: SortInterval, key: &PackedKey| {
            let (start, end) = interval.bounds(&id).unwrap();
            *key >= start && end.is_none_or(|end| *key < end)
        };
        prop_assert!(within(SortInterval::default(), &key));
        prop_assert_eq!(within(SortInterval::default(), &PackedKey::new(&other, Some(&sort))), id == other);
        let interval = SortInterval { prefix: Some(prefix.clone()), ..SortInterval::default() };
        if prefix.key_type() == KeyType::Integer {
            prop_assert!(interval.bounds(&id).is_err());
        } else {
            let expected = sort.key_type() == prefix.key_type() && sort.canonical_bytes().starts_with(&prefix.canonical_bytes());
            prop_assert_eq!(within(interval, &key), expected);
        }
        if let (Some(after), Some(before)) = (order(&sort, &from), order(&sort, &to)) {
            let interval = SortInterval { from: Some(from), to: Some(to), ..SortInterval::default() };
            prop_assert_eq!(within(interval, &key), after.is_ge() && before.is_le());
        }
    }

    #[test]
    fn the_successor_is_next(key in any_key(), other in any_key()) {
        let (key, other) = (PackedKey::new(&key, None), PackedKey::new(&other, None));
        prop_assert!(key < key.successor());
        prop_assert_eq!(other > key, other >= key.successor());
    }

    #[test]
    fn no_bytes_panic(mut data: Vec<u8>, tag in 0u8..5) {
        fuzz_packed_key(&data);
        data.splice(0..0, [0, 0, 0, 0, tag]);
        fuzz_packed_key(&data);
    }
}
