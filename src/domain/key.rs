//! Keys of items: an ID, and in some tables a sort key; and the packed form in which everything is
//! ordered.
//!
//! Packed key:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | hash of the ID's canonical bytes, big-endian |
//! | n | the ID in ordered form |
//! | m | the sort key in ordered form, where the table has one |
//!
//! Ordered form: one byte for the type (1 string, 2 integer, 3 bytes), then strings and bytes with
//! each 0 as `00 FF` and ended by `00 00`; numbers as [`Number::encode_ordered`] says. So packed
//! keys of one ID stand together, in the order of their sort keys, and a range of hashes is a range
//! of keys.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::hash::hash_of;
use super::limits::{ID_BYTES_MAX, SORT_BYTES_MAX};
use super::number::Number;
use super::refusal::Refusal;

/// The type that a table declares for its ID or sort key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyType {
    /// UTF-8 text.
    String,
    /// A whole number.
    Integer,
    /// Any bytes; base64url in paths.
    Bytes,
}

/// An ID or a sort key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyValue {
    /// UTF-8 text.
    String(Box<str>),
    /// A number. Whole where it came by REST; the DynamoDB protocol allows fractions.
    Integer(Number),
    /// Any bytes.
    Bytes(Bytes),
}

const TAG_STRING: u8 = 1;
const TAG_INTEGER: u8 = 2;
const TAG_BYTES: u8 = 3;

impl KeyValue {
    /// Reads the text of a path segment (after percent-decoding) or query parameter.
    ///
    /// # Errors
    /// `BadInput` where it is empty, too long, or not of this type.
    pub fn parse(key_type: KeyType, text: &str, bytes_max: usize) -> Result<KeyValue, Refusal> {
        if text.is_empty() {
            return Err(Refusal::bad_input("a key may not be empty"));
        }
        let value = match key_type {
            KeyType::String => KeyValue::String(text.into()),
            KeyType::Integer => KeyValue::Integer(parse_integer(text)?),
            KeyType::Bytes => KeyValue::Bytes(parse_base64url(text)?),
        };
        let length = value.canonical_bytes().len();
        if length > bytes_max {
            return Err(Refusal::bad_input(format!("a key has {length} bytes and may have {bytes_max}")));
        }
        Ok(value)
    }

    /// Reads an ID.
    ///
    /// # Errors
    /// As [`KeyValue::parse`].
    pub fn parse_id(key_type: KeyType, text: &str) -> Result<KeyValue, Refusal> {
        Self::parse(key_type, text, ID_BYTES_MAX)
    }

    /// Reads a sort key.
    ///
    /// # Errors
    /// As [`KeyValue::parse`].
    pub fn parse_sort(key_type: KeyType, text: &str) -> Result<KeyValue, Refusal> {
        Self::parse(key_type, text, SORT_BYTES_MAX)
    }

    /// The text that [`KeyValue::parse`] reads.
    pub fn to_text(&self) -> String {
        use base64::Engine;
        match self {
            KeyValue::String(text) => text.to_string(),
            KeyValue::Integer(number) => number.to_text(),
            KeyValue::Bytes(bytes) => base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes),
        }
    }

    /// The bytes that are hashed and counted: UTF-8, the canonical decimal text, or the bytes.
    pub fn canonical_bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        match self {
            KeyValue::String(text) => text.as_bytes().into(),
            KeyValue::Integer(number) => number.to_text().into_bytes().into(),
            KeyValue::Bytes(bytes) => bytes.as_ref().into(),
        }
    }

    /// The hash of an ID.
    pub fn hash(&self) -> u32 {
        hash_of(&self.canonical_bytes())
    }

    fn encode_ordered(&self, out: &mut Vec<u8>) {
        match self {
            KeyValue::String(text) => {
                out.push(TAG_STRING);
                escape(text.as_bytes(), out);
                out.extend_from_slice(&[0, 0]);
            }
            KeyValue::Integer(number) => {
                out.push(TAG_INTEGER);
                number.encode_ordered(out);
            }
            KeyValue::Bytes(bytes) => {
                out.push(TAG_BYTES);
                escape(bytes, out);
                out.extend_from_slice(&[0, 0]);
            }
        }
    }
}

fn parse_integer(text: &str) -> Result<Number, Refusal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = if digits.bytes().all(|byte| byte.is_ascii_digit()) { Number::parse(text).ok() } else { None };
    number.ok_or_else(|| {
        Refusal::bad_input(format!(
            "{:?} is not an integer of up to 38 digits",
            text.chars().take(60).collect::<String>()
        ))
    })
}

fn parse_base64url(text: &str) -> Result<Bytes, Refusal> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).map(Bytes::from).map_err(|_| {
        Refusal::bad_input("a key of type Bytes is written in base64url without padding (A-Z a-z 0-9 - _)")
    })
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
}

/// Why bytes are no packed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no packed key")]
pub struct KeyError;

/// A key in the form in which items are ordered; also used as a bound between keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackedKey(Bytes);

impl std::fmt::Debug for PackedKey {
    /// Keys are the tenants' business: only the hash and the length are shown.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PackedKey(hash {:08x}, {} bytes)", self.hash(), self.len())
    }
}

impl PackedKey {
    /// The key of an item.
    pub fn new(id: &KeyValue, sort: Option<&KeyValue>) -> Self {
        let mut out = Vec::with_capacity(48);
        out.extend_from_slice(&id.hash().to_be_bytes());
        id.encode_ordered(&mut out);
        if let Some(sort) = sort {
            sort.encode_ordered(&mut out);
        }
        Self(out.into())
    }

    /// The bytes as a key or bound.
    ///
    /// # Errors
    /// Where they are too short to hold a hash.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, KeyError> {
        if bytes.len() < 4 { Err(KeyError) } else { Ok(Self(bytes)) }
    }

    /// The lowest bound of this hash: nothing of a lower hash is above it.
    pub fn hash_floor(hash: u32) -> Self {
        Self(Bytes::copy_from_slice(&hash.to_be_bytes()))
    }

    /// The first bytes of a key.
    pub fn hash(&self) -> u32 {
        self.0.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Their number.
    #[expect(clippy::len_without_is_empty, reason = "a key is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The next possible key: nothing lies between.
    pub fn successor(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Self(bytes.into())
    }

    /// The ID and sort key.
    ///
    /// # Errors
    /// Where the bytes are no key that [`PackedKey::new`] makes.
    pub fn decode(&self) -> Result<(KeyValue, Option<KeyValue>), KeyError> {
        let (id, rest) = decode_ordered(self.0.get(4..).ok_or(KeyError)?).ok_or(KeyError)?;
        let sort = match rest {
            [] => None,
            rest => {
                let (sort, rest) = decode_ordered(rest).ok_or(KeyError)?;
                if !rest.is_empty() {
                    return Err(KeyError);
                }
                Some(sort)
            }
        };
        if id.hash() != self.hash() { Err(KeyError) } else { Ok((id, sort)) }
    }
}

fn decode_ordered(bytes: &[u8]) -> Option<(KeyValue, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    match tag {
        TAG_INTEGER => Number::decode_ordered(rest).map(|(number, rest)| (KeyValue::Integer(number), rest)),
        TAG_STRING | TAG_BYTES => {
            let (raw, rest) = unescape(rest)?;
            let value = if tag == TAG_STRING {
                KeyValue::String(String::from_utf8(raw).ok()?.into())
            } else {
                KeyValue::Bytes(raw.into())
            };
            Some((value, rest))
        }
        _ => None,
    }
}

fn unescape(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut raw = Vec::new();
    let mut position = 0;
    loop {
        match (*bytes.get(position)?, bytes.get(position + 1)) {
            (0, Some(0)) => return Some((raw, &bytes[position + 2..])),
            (0, Some(0xff)) => {
                raw.push(0);
                position += 2;
            }
            (0, _) => return None,
            (byte, _) => {
                raw.push(byte);
                position += 1;
            }
        }
    }
}

/// Which sort keys of one ID a query wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SortInterval {
    /// Only sort keys that begin with this (String and Bytes).
    pub prefix: Option<KeyValue>,
    /// From here on, inclusive.
    pub from: Option<KeyValue>,
    /// Up to here, inclusive.
    pub to: Option<KeyValue>,
}

impl SortInterval {
    /// The interval of packed keys: start inclusive, end exclusive (none: no key is above).
    ///
    /// # Errors
    /// `BadInput` where a prefix of a number is asked for.
    pub fn bounds(&self, id: &KeyValue) -> Result<(PackedKey, Option<PackedKey>), Refusal> {
        let base = PackedKey::new(id, None);
        let with = |sort: &KeyValue| PackedKey::new(id, Some(sort));
        let mut start = base.clone();
        let mut end = after_prefix(base.as_bytes());
        if let Some(prefix) = &self.prefix {
            let raw: &[u8] = match prefix {
                KeyValue::String(text) => text.as_bytes(),
                KeyValue::Bytes(bytes) => bytes,
                KeyValue::Integer(_) => {
                    return Err(Refusal::bad_input(
                        "sort_prefix works on sort keys of type String or Bytes; use sort_from and sort_to for Integer",
                    ));
                }
            };
            let mut bytes = base.as_bytes().to_vec();
            bytes.push(if matches!(prefix, KeyValue::String(_)) { TAG_STRING } else { TAG_BYTES });
            escape(raw, &mut bytes);
            end = after_prefix(&bytes);
            start = PackedKey(bytes.into());
        }
        if let Some(from) = &self.from {
            start = start.max(with(from));
        }
        if let Some(to) = &self.to {
            let last = with(to).successor();
            end = Some(end.map_or(last.clone(), |end| end.min(last)));
        }
        Ok((start, end))
    }
}

/// The lowest bound above all keys that begin with `prefix`; none where there is none.
fn after_prefix(prefix: &[u8]) -> Option<PackedKey> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0xff {
            bytes.push(last + 1);
            // A bound of less than four bytes would not be a hash: pad it, nothing lies between.
            bytes.resize(bytes.len().max(4), 0);
            return Some(PackedKey(bytes.into()));
        }
    }
    None
}

/// For the fuzzer: what decodes, packs to the same bytes.
#[doc(hidden)]
pub fn fuzz_packed_key(data: &[u8]) {
    if let Ok(key) = PackedKey::from_bytes(Bytes::copy_from_slice(data))
        && let Ok((id, sort)) = key.decode()
    {
        assert_eq!(PackedKey::new(&id, sort.as_ref()), key);
    }
}

/// For the fuzzer: key texts of every type.
#[doc(hidden)]
pub fn fuzz_key_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for key_type in [KeyType::String, KeyType::Integer, KeyType::Bytes] {
        if let Ok(value) = KeyValue::parse_id(key_type, text) {
            assert_eq!(KeyValue::parse_id(key_type, &value.to_text()).as_ref(), Ok(&value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(text: &str) -> KeyValue {
        KeyValue::String(text.into())
    }

    fn value() -> impl Strategy<Value = KeyValue> {
        prop_oneof![
            any::<String>().prop_map(|text| KeyValue::String(text.into())),
            any::<i64>().prop_map(|number| KeyValue::Integer(Number::parse(&number.to_string()).unwrap())),
            any::<Vec<u8>>().prop_map(|bytes| KeyValue::Bytes(bytes.into())),
        ]
    }

    #[test]
    fn integers_have_one_form() {
        let parse = |text| KeyValue::parse_id(KeyType::Integer, text);
        assert_eq!(parse("7"), parse("007"));
        assert_eq!(parse("-0"), parse("0"));
        for bad in ["", "1.5", "1e3", "+1", "x", "123456789012345678901234567890123456789"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_strict_base64url() {
        let parse = |text| KeyValue::parse_id(KeyType::Bytes, text);
        assert_eq!(parse("_-8"), Ok(KeyValue::Bytes(Bytes::from_static(&[0xff, 0xef]))));
        for bad in ["_-8=", "+/8", "_-9", "A"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_keys_are_refused() {
        assert!(KeyValue::parse_id(KeyType::String, &"x".repeat(2048)).is_ok());
        assert!(KeyValue::parse_id(KeyType::String, &"x".repeat(2049)).is_err());
        assert!(KeyValue::parse_sort(KeyType::String, &"x".repeat(1025)).is_err());
    }

    proptest! {
        #[test]
        fn packed_keys_decode(id in value(), sort in proptest::option::of(value())) {
            prop_assert_eq!(PackedKey::new(&id, sort.as_ref()).decode().unwrap(), (id, sort));
        }

        #[test]
        fn order_of_packed_keys_is_order_of_sort_keys(id in value(), left: Vec<u8>, right: Vec<u8>, a: String, b: String, m: i64, n: i64) {
            let number = |value: i64| KeyValue::Integer(Number::parse(&value.to_string()).unwrap());
            let key = |sort: &KeyValue| PackedKey::new(&id, Some(sort));
            prop_assert_eq!(key(&KeyValue::Bytes(left.clone().into())).cmp(&key(&KeyValue::Bytes(right.clone().into()))), left.cmp(&right));
            prop_assert_eq!(key(&string(&a)).cmp(&key(&string(&b))), a.as_bytes().cmp(b.as_bytes()));
            prop_assert_eq!(key(&number(m)).cmp(&key(&number(n))), m.cmp(&n));
        }

        #[test]
        fn bounds_hold_what_they_say(id in "[a-c]{1,2}", other in "[a-c]{1,2}", sort in "[a-c\\x00]{0,4}", prefix in "[a-c\\x00]{0,2}", from in "[a-c]{0,3}", to in "[a-c]{0,3}") {
            let key = PackedKey::new(&string(&other), Some(&string(&sort)));
            let within = |interval: SortInterval| {
                let (start, end) = interval.bounds(&string(&id)).unwrap();
                key >= start && end.is_none_or(|end| key < end)
            };
            let same = id == other;
            prop_assert_eq!(within(SortInterval::default()), same);
            prop_assert_eq!(within(SortInterval { prefix: Some(string(&prefix)), ..Default::default() }), same && sort.starts_with(&prefix));
            let interval = SortInterval { from: Some(string(&from)), to: Some(string(&to)), ..Default::default() };
            prop_assert_eq!(within(interval), same && sort >= from && sort <= to);
        }
    }
}
