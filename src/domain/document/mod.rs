//! Documents: one item's attributes as bytes.
//!
//! A [`Document`] is one JSON object (or one DynamoDB item) in a compact encoding that is made once, when a
//! request comes in, and then is the same bytes everywhere: in the log record, in the memory table, in the
//! item cache. JSON text and [cells](super::cell) are streamed from it. Cloning it copies a pointer.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 4 | item size by DynamoDB's formula ([`item_size`](super::item_size)), little-endian |
//! | n | the root: the entries of a map, up to the end |
//!
//! A map's entries are name and value, one after the other, **in ascending order of the names' bytes**, no name
//! twice. A name is its length and its UTF-8 bytes. A value is a type and what follows it:
//!
//! | type | value | what follows |
//! |---|---|---|
//! | 1 | null | nothing |
//! | 2, 3 | false, true | nothing |
//! | 4 | number | length, [canonical text](super::number) |
//! | 5 | string | length, UTF-8 bytes |
//! | 6 | binary | length, bytes |
//! | 7 | map | 4 bytes: length of the entries, little-endian; the entries |
//! | 8 | list | 4 bytes: length of the values, little-endian; the values |
//! | 9, 10, 11 | string, number, binary set | 4 bytes: length of the elements, little-endian; each: length, bytes |
//!
//! Lengths without a width are LEB128: seven bits to a byte, lowest first, the high bit says that more
//! follow, no longer than needed. Elements of sets ascend (numbers by value, the rest bytewise), no element twice, never none.
//!
//! So equal items have equal bytes: comparing, merging and diffing skip what is the same without looking into
//! it. The price is sorting the names once when an item comes in, which also finds duplicates without a
//! hash table.
//!
//! The root counts as the first of at most 32 levels of maps and lists. AWS counts the attribute itself as level 1
//! and refuses what is deeper than 32, which comes to the same.
//!
//! [`Document::from_bytes`] checks everything above, so code that walks a document need not; where bytes are
//! wrong after all it stops early and never panics.
//!
//! Rejected: keeping JSON text (parsed again at each merge, compare and flattening), `serde_json::Value` (an
//! allocation for each value, no exact numbers), MessagePack (no exact numbers, no sets), binary numbers (text
//! is copied in and out, and is compared only in conditions).

mod builder;
mod check;
mod encoding;
mod merge;
mod owned;
mod parse;
mod print;
#[cfg(test)]
pub(crate) mod sample;
mod view;

pub use builder::{BuildError, Builder};
pub use check::DocumentError;
pub use owned::{Document, fuzz_document, fuzz_json};
pub(crate) use view::Raw;
pub use view::{Entries, Node, Nodes, SetItems};

pub use super::json;
