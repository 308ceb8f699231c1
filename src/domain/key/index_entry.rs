//! Entries of local indexes: what stands for an item in an order by another attribute than its sort key.
//!
//! | bytes | what |
//! |---|---|
//! | 4, 1, n | hash, type and ID, as the [packed key](super) has them |
//! | 1 | type of the attribute |
//! | n | its value: Integer as ordered bytes, String and Bytes with each 00 written `00 FF`, ended by `00 01` |
//! | n | the sort part of the item's packed key, type included, as it stands there |
//!
//! Byte order of entries is: hash, then ID, then value, then sort key, each in its own order. The value ends itself, as
//! the ID does, so "all items of this ID with this value" is exactly one prefix, and so is "whose value begins
//! so". An entry begins with its item's hash and ID: whatever is routed, divided or cut off by hash treats entries
//! and bounds of entries as it treats keys.
//!
//! The item's key is in its entry as a whole, in two pieces, so an entry leads to its item without anything beside it.
//!
//! Rejected: the packed key as a whole behind the value (the ID twice, up to 2 KiB of it).

use bytes::Bytes;

use super::packed::{
    HASH_BYTES, KeyError, PackedKey, TERMINATOR_BYTES, encoded_bytes_max, ended_length, id_bytes, read_ended,
    write_ended,
};
use super::value::{KeyType, KeyValue};

/// The entry of the item with this key in an index that orders it by `value`.
///
/// # Errors
/// Where the bytes do not begin as those of a key.
pub fn index_entry(key: &PackedKey, value: &KeyValue) -> Result<PackedKey, KeyError> {
    let (id, sort) = key.as_bytes().split_at(id_end(key.as_bytes())?);
    let mut entry = Vec::with_capacity(key.len() + encoded_bytes_max(value));
    entry.extend_from_slice(id);
    write_ended(&mut entry, value);
    entry.extend_from_slice(sort);
    Ok(PackedKey(entry.into()))
}

/// The item's key and the index's value. Whether the key is one, [`PackedKey::decode`] tells.
///
/// # Errors
/// Where the bytes are a bound and no entry.
pub fn read_index_entry(entry: &PackedKey) -> Result<(PackedKey, KeyValue), KeyError> {
    let (id, rest) = entry.as_bytes().split_at(id_end(entry.as_bytes())?);
    let (value, sort) = rest.split_at(ended_length(rest)?);
    let value = read_ended(value)?;
    Ok((PackedKey([id, sort].concat().into()), value))
}

/// All entries of this ID with exactly this value: the first bytes in the interval, and the first behind it.
pub fn index_value_interval(id: &KeyValue, value: &KeyValue) -> (PackedKey, PackedKey) {
    let mut start = id_bytes(id, encoded_bytes_max(value));
    write_ended(&mut start, value);
    interval(start)
}

/// All entries of this ID whose value begins so, which is a String or Bytes: the first bytes in the interval, and the
/// first behind it. A number begins with nothing but itself.
pub fn index_prefix_interval(id: &KeyValue, prefix: &KeyValue) -> (PackedKey, PackedKey) {
    let mut start = id_bytes(id, encoded_bytes_max(prefix));
    write_ended(&mut start, prefix);
    if prefix.key_type() != KeyType::Integer {
        start.truncate(start.len() - TERMINATOR_BYTES);
    }
    interval(start)
}

/// All that begins with these bytes.
fn interval(start: Vec<u8>) -> (PackedKey, PackedKey) {
    let start = PackedKey(start.into());
    let end = start.prefix_end();
    (start, end)
}

/// Where the ID ends that these bytes begin with.
fn id_end(bytes: &[u8]) -> Result<usize, KeyError> {
    let id = bytes.get(HASH_BYTES..).ok_or(KeyError::Short)?;
    Ok(HASH_BYTES + ended_length(id)?)
}

/// Reads any bytes as an entry; what is read must make the same entry, within the interval of its value.
#[doc(hidden)]
pub fn fuzz_index_entry(data: &[u8]) {
    let Ok(entry) = PackedKey::from_bytes(Bytes::copy_from_slice(data)) else { return };
    let Ok((key, value)) = read_index_entry(&entry) else { return };
    assert!(index_entry(&key, &value).as_ref() == Ok(&entry));
    if let Ok((id, _)) = key.decode() {
        for (start, end) in [index_value_interval(&id, &value), index_prefix_interval(&id, &value)] {
            assert!(start <= entry && entry < end);
        }
    }
}

#[cfg(test)]
mod tests;
