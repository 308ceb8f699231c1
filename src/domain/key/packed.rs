//! Keys as bytes in the order everything is kept in. The format stands in the module above.

use bytes::Bytes;

use super::value::{KeyType, KeyValue};
use crate::domain::hash::HashRange;
use crate::domain::number::Number;
use crate::domain::refusal::Refusal;

const TAG_INTEGER: u8 = 1;
const TAG_STRING: u8 = 2;
const TAG_BYTES: u8 = 3;
const ESCAPE: u8 = 0;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: u8 = 1;
/// What a key begins with.
pub(super) const HASH_BYTES: usize = 4;
/// What ends a String or Bytes that something follows.
pub(super) const TERMINATOR_BYTES: usize = 2;

/// Why bytes are no packed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// They end too early.
    #[error("the packed key is cut short")]
    Short,
    /// A type that no key has.
    #[error("the packed key has a part of unknown type {0}")]
    Type(u8),
    /// A part that is not written as its type is.
    #[error("a part of the packed key is not encoded as its type wants")]
    Encoding,
    /// The hash is not the ID's.
    #[error("the packed key's hash is not that of its ID")]
    Hash,
}

/// A key as bytes, or the bound of an interval of keys. Ordered bytewise. Cheap to clone. Debug shows the
/// hash and the length only: keys belong to the tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackedKey(pub(super) Bytes);

impl PackedKey {
    /// The key of the item with this ID and sort key.
    pub fn new(id: &KeyValue, sort: Option<&KeyValue>) -> PackedKey {
        let mut bytes = id_bytes(id, sort.map_or(0, encoded_bytes_max));
        if let Some(sort) = sort {
            write_sort(&mut bytes, sort);
        }
        PackedKey(bytes.into())
    }

    /// These bytes as a key or a bound. Whether they are a key, [`PackedKey::decode`] tells.
    ///
    /// # Errors
    /// Where they are too short to hold a hash.
    pub fn from_bytes(bytes: Bytes) -> Result<PackedKey, KeyError> {
        if bytes.len() < HASH_BYTES { Err(KeyError::Short) } else { Ok(PackedKey(bytes)) }
    }

    /// The smallest bytes that a key with this hash can have.
    pub fn hash_floor(hash: u32) -> PackedKey {
        PackedKey(Bytes::copy_from_slice(&hash.to_be_bytes()))
    }

    /// All keys with a hash in the range: the first bytes in the interval, and the first behind it (none: no end).
    pub fn hash_interval(range: &HashRange) -> (PackedKey, Option<PackedKey>) {
        (Self::hash_floor(range.low), range.high.checked_add(1).map(Self::hash_floor))
    }

    /// What all keys with this ID begin with, and no others.
    pub fn id_prefix(id: &KeyValue) -> PackedKey {
        PackedKey(id_bytes(id, 0).into())
    }

    /// All keys with this ID: the first bytes in the interval, and the first behind it.
    pub fn id_interval(id: &KeyValue) -> (PackedKey, PackedKey) {
        let prefix = Self::id_prefix(id);
        let end = prefix.prefix_end();
        (prefix, end)
    }

    /// The smallest bytes above these: the start of an interval that begins behind this key, or the end of
    /// one that includes it.
    pub fn successor(&self) -> PackedKey {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        PackedKey(bytes.into())
    }

    /// The smallest bytes above all that begin with these. There are none above FF FF …; those are no
    /// beginning of a key with an ID, whose type is below FF.
    pub(super) fn prefix_end(&self) -> PackedKey {
        let kept = self.0.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
        let mut bytes = self.0[..kept].to_vec();
        if let Some(last) = bytes.last_mut() {
            *last += 1;
        }
        PackedKey(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, sharing them.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many bytes it has.
    #[expect(clippy::len_without_is_empty, reason = "a key or bound is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The hash it begins with.
    pub fn hash(&self) -> u32 {
        self.0.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// The ID and the sort key.
    ///
    /// # Errors
    /// Where the bytes are a bound and no key, or the hash is not the ID's.
    pub fn decode(&self) -> Result<(KeyValue, Option<KeyValue>), KeyError> {
        let Parts { id_tag, id, sort } = split(&self.0)?;
        let id = match id_tag {
            TAG_INTEGER => KeyValue::Integer(Number::read_ordered(id).map_err(|_| KeyError::Encoding)?.0),
            tag => read_plain(tag, &unescape(id))?,
        };
        if id.hash() != self.hash() {
            return Err(KeyError::Hash);
        }
        let sort = match sort {
            None => None,
            Some((TAG_INTEGER, bytes)) => {
                Some(KeyValue::Integer(Number::read_ordered(bytes).map_err(|_| KeyError::Encoding)?.0))
            }
            Some((tag, bytes)) => Some(read_plain(tag, bytes)?),
        };
        Ok((id, sort))
    }
}

impl std::fmt::Debug for PackedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PackedKey(hash {}, {} bytes)", self.hash(), self.len())
    }
}

impl std::borrow::Borrow<[u8]> for PackedKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Which sort keys of one ID a query wants. All of it is optional; what is given must hold together.
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
    /// The interval of packed keys: start inclusive, end exclusive (none: no key is above). It may be empty: then
    /// the end is not above the start.
    ///
    /// # Errors
    /// `BadInput` where a prefix of a number is asked for.
    pub fn bounds(&self, id: &KeyValue) -> Result<(PackedKey, Option<PackedKey>), Refusal> {
        let (mut start, mut end) = PackedKey::id_interval(id);
        if let Some(prefix) = &self.prefix {
            if prefix.key_type() == KeyType::Integer {
                return Err(Refusal::bad_input(
                    "sort_prefix works on sort keys of type String or Bytes; use sort_from and sort_to for Integer",
                ));
            }
            // A sort key stands unescaped at the end, so the key of the prefix is the prefix of the keys.
            start = PackedKey::new(id, Some(prefix));
            end = start.prefix_end();
        }
        if let Some(from) = &self.from {
            start = start.max(PackedKey::new(id, Some(from)));
        }
        if let Some(to) = &self.to {
            end = end.min(PackedKey::new(id, Some(to)).successor());
        }
        Ok((start, Some(end)))
    }
}

fn tag(key_type: KeyType) -> u8 {
    match key_type {
        KeyType::Integer => TAG_INTEGER,
        KeyType::String => TAG_STRING,
        KeyType::Bytes => TAG_BYTES,
    }
}

/// Room for a part, unless it is full of zeros.
pub(super) fn encoded_bytes_max(value: &KeyValue) -> usize {
    match value {
        KeyValue::String(text) => 3 + text.len(),
        KeyValue::Integer(_) => 23,
        KeyValue::Bytes(bytes) => 3 + bytes.len(),
    }
}

/// Hash and ID, with room for `more` bytes.
pub(super) fn id_bytes(id: &KeyValue, more: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HASH_BYTES + encoded_bytes_max(id) + more);
    bytes.extend_from_slice(&id.hash().to_be_bytes());
    write_ended(&mut bytes, id);
    bytes
}

/// Appends a part that something may follow: its type, and its bytes, which end themselves.
pub(super) fn write_ended(buffer: &mut Vec<u8>, value: &KeyValue) {
    buffer.push(tag(value.key_type()));
    match value {
        KeyValue::Integer(number) => number.write_ordered(buffer),
        KeyValue::String(text) => escape(buffer, text.as_bytes()),
        KeyValue::Bytes(plain) => escape(buffer, plain),
    }
}

/// How many bytes the part takes that these begin with, as [`write_ended`] writes it.
pub(super) fn ended_length(bytes: &[u8]) -> Result<usize, KeyError> {
    let (&tag, rest) = bytes.split_first().ok_or(KeyError::Short)?;
    match tag {
        TAG_INTEGER => Ok(1 + Number::read_ordered(rest).map_err(|_| KeyError::Encoding)?.1),
        TAG_STRING | TAG_BYTES => Ok(1 + escaped_length(rest)? + TERMINATOR_BYTES),
        tag => Err(KeyError::Type(tag)),
    }
}

/// Reads a part as [`write_ended`] writes it, whose length [`ended_length`] has told.
pub(super) fn read_ended(part: &[u8]) -> Result<KeyValue, KeyError> {
    match part {
        [TAG_INTEGER, number @ ..] => {
            Ok(KeyValue::Integer(Number::read_ordered(number).map_err(|_| KeyError::Encoding)?.0))
        }
        [tag, escaped @ .., _, _] => read_plain(*tag, &unescape(escaped)),
        _ => Err(KeyError::Short),
    }
}

fn escape(buffer: &mut Vec<u8>, plain: &[u8]) {
    let mut pieces = plain.split(|byte| *byte == ESCAPE);
    buffer.extend_from_slice(pieces.next().unwrap_or_default());
    for piece in pieces {
        buffer.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        buffer.extend_from_slice(piece);
    }
    buffer.extend_from_slice(&[ESCAPE, TERMINATOR]);
}

/// Undoes [`escape`] for bytes that [`split`] has checked, without their terminator.
fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        plain.push(*byte);
        if *byte == ESCAPE {
            bytes.next();
        }
    }
    plain
}

fn write_sort(buffer: &mut Vec<u8>, sort: &KeyValue) {
    buffer.push(tag(sort.key_type()));
    match sort {
        KeyValue::Integer(number) => number.write_ordered(buffer),
        KeyValue::String(text) => buffer.extend_from_slice(text.as_bytes()),
        KeyValue::Bytes(plain) => buffer.extend_from_slice(plain),
    }
}

fn read_plain(tag: u8, plain: &[u8]) -> Result<KeyValue, KeyError> {
    match tag {
        TAG_STRING => {
            std::str::from_utf8(plain).map(|text| KeyValue::String(text.into())).map_err(|_| KeyError::Encoding)
        }
        TAG_BYTES => Ok(KeyValue::Bytes(Bytes::copy_from_slice(plain))),
        tag => Err(KeyError::Type(tag)),
    }
}

struct Parts<'a> {
    id_tag: u8,
    /// Still escaped; without the terminator.
    id: &'a [u8],
    sort: Option<(u8, &'a [u8])>,
}

/// Takes a packed key apart and checks its form.
fn split(bytes: &[u8]) -> Result<Parts<'_>, KeyError> {
    let rest = bytes.get(HASH_BYTES..).ok_or(KeyError::Short)?;
    let (&id_tag, rest) = rest.split_first().ok_or(KeyError::Short)?;
    let (id, rest) = match id_tag {
        TAG_INTEGER => rest.split_at(Number::read_ordered(rest).map_err(|_| KeyError::Encoding)?.1),
        TAG_STRING | TAG_BYTES => {
            let length = escaped_length(rest)?;
            (&rest[..length], &rest[length + TERMINATOR_BYTES..])
        }
        tag => return Err(KeyError::Type(tag)),
    };
    if id_tag == TAG_STRING && std::str::from_utf8(id).is_err() && String::from_utf8(unescape(id)).is_err() {
        return Err(KeyError::Encoding);
    }
    let sort = match rest.split_first() {
        None => None,
        Some((&TAG_INTEGER, number)) => match Number::read_ordered(number) {
            Ok((_, length)) if length == number.len() => Some((TAG_INTEGER, number)),
            _ => return Err(KeyError::Encoding),
        },
        Some((&TAG_STRING, text)) if std::str::from_utf8(text).is_err() => return Err(KeyError::Encoding),
        Some((&sort_tag, plain)) if matches!(sort_tag, TAG_STRING | TAG_BYTES) => Some((sort_tag, plain)),
        Some((&sort_tag, _)) => return Err(KeyError::Type(sort_tag)),
    };
    Ok(Parts { id_tag, id, sort })
}

/// How many bytes stand before the terminator.
fn escaped_length(bytes: &[u8]) -> Result<usize, KeyError> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == ESCAPE).ok_or(KeyError::Short)?;
        match bytes.get(at + 1) {
            Some(&TERMINATOR) => return Ok(at),
            Some(&ESCAPED_ZERO) => at += 2,
            Some(_) => return Err(KeyError::Encoding),
            None => return Err(KeyError::Short),
        }
    }
}

/// Reads any bytes as a packed key; what is read must pack to the same bytes.
#[doc(hidden)]
pub fn fuzz_packed_key(data: &[u8]) {
    if let Ok(key) = PackedKey::from_bytes(Bytes::copy_from_slice(data))
        && let Ok((id, sort)) = key.decode()
    {
        assert_eq!(PackedKey::new(&id, sort.as_ref()).as_bytes(), data);
    }
}

#[cfg(test)]
mod tests;
