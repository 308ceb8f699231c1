//! Keys: what names an item within its table, and the bytes everything is ordered by.
//!
//! A [`KeyValue`] is an ID or a sort key as a value. A [`PackedKey`] is both together as bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | hash of the ID's canonical bytes, big-endian |
//! | 1 | type of the ID: 1 Integer, 2 String, 3 Bytes |
//! | n | the ID: Integer as [ordered bytes](super::number), String and Bytes as their bytes with each 00 written `00 FF`, ended by `00 01` |
//! | 1 | type of the sort key, where there is one |
//! | n | the sort key: Integer as above; String and Bytes as they are, up to the end |
//!
//! Byte order of packed keys is: hash, then ID, then sort key in its own order (strings by UTF-8 bytes,
//! numbers by value, bytes bytewise). So a range of hashes is one interval, and all items of one ID are
//! neighbours in sort order. The ID ends itself and no ID's bytes are the beginning of another's, so "all
//! sort keys of this ID" is exactly one prefix, also where two IDs share a hash.
//!
//! Intervals are given as a start that belongs to them and an end that does not; ends need not be
//! keys of anything ([`PackedKey::successor`]).
//!
//! A table's local indexes keep an [`index_entry`] for each of their items, which begins as the item's key does.
//!
//! Rejected: a length before the ID (destroys the order), hashing at each comparison (the hash leads
//! everything), escaping the sort key too (nothing follows it).

mod index_entry;
mod packed;
mod value;

pub use index_entry::{fuzz_index_entry, index_entry, index_prefix_interval, index_value_interval, read_index_entry};
pub use packed::{KeyError, PackedKey, SortInterval, fuzz_packed_key};
pub use value::{KeyType, KeyValue, fuzz_key_text};
