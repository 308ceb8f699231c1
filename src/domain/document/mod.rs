//! Documents: one item's JSON object in a compact, typed form. The same bytes travel in the log
//! record, sit in the in-memory table and the item cache, and are written out as JSON or as cells;
//! text is parsed once, when it comes in ([`json`]).
//!
//! A document is one map node:
//!
//! | tag | node | bytes after the tag |
//! |---|---|---|
//! | 0, 1, 2 | null, false, true | – |
//! | 3 | number | u32 length, canonical decimal text |
//! | 4 | string | u32 length, UTF-8 |
//! | 5 | binary | u32 length, bytes |
//! | 6 | map | u32 length of what follows it, u32 count, then for each entry: u32 length and UTF-8 of the name, node |
//! | 7 | list | u32 length, u32 count, nodes |
//! | 8, 9, 10 | set of strings, numbers, binaries | u32 length, u32 count, then for each: u32 length, bytes |
//!
//! All lengths are little-endian. Names in a map are different from each other. Sets and binaries
//! come from the DynamoDB protocol; plain JSON shows them as [`json`] says.

pub mod json;
pub mod merge;
mod size;
mod view;

pub use view::{Entries, Node, Nodes, SetItems};

use bytes::Bytes;

use super::limits::NESTING_LEVELS_MAX;

pub(crate) const TAG_NULL: u8 = 0;
pub(crate) const TAG_FALSE: u8 = 1;
pub(crate) const TAG_TRUE: u8 = 2;
pub(crate) const TAG_NUMBER: u8 = 3;
pub(crate) const TAG_STRING: u8 = 4;
pub(crate) const TAG_BINARY: u8 = 5;
pub(crate) const TAG_MAP: u8 = 6;
pub(crate) const TAG_LIST: u8 = 7;
pub(crate) const TAG_STRING_SET: u8 = 8;
pub(crate) const TAG_NUMBER_SET: u8 = 9;
pub(crate) const TAG_BINARY_SET: u8 = 10;

/// Why bytes are no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no document")]
pub struct DocumentError;

/// One item: a JSON object. Cheap to clone.
#[derive(Clone)]
pub struct Document(Bytes);

impl std::fmt::Debug for Document {
    /// Items are the tenants' business: only the size is shown.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Document({} bytes)", self.0.len())
    }
}

impl PartialEq for Document {
    /// Equal values, whatever the order of names.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || view::equal(self.root(), other.root())
    }
}

impl Document {
    /// Checks the bytes and takes them as a document.
    ///
    /// # Errors
    /// Where they are none.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DocumentError> {
        if bytes.first() != Some(&TAG_MAP) {
            return Err(DocumentError);
        }
        match view::check(&bytes, 0)? {
            [] => Ok(Self(bytes)),
            _ => Err(DocumentError),
        }
    }

    /// Takes bytes that a writer in this folder has made.
    pub(crate) fn trusted(bytes: Vec<u8>) -> Self {
        debug_assert!(view::check(&bytes, 0) == Ok(&[]), "a writer made no document");
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The object itself.
    pub fn root(&self) -> Node<'_> {
        view::node(&self.0).0
    }

    /// The names and values of the object.
    pub fn entries(&self) -> Entries<'_> {
        match self.root() {
            Node::Map(entries) => entries,
            _ => Entries::empty(),
        }
    }

    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<Node<'_>> {
        self.entries().find(|(known, _)| *known == name).map(|(_, node)| node)
    }

    /// Size in bytes by DynamoDB's formula; see [`size`].
    pub fn item_size(&self) -> usize {
        size::of_map(self.entries())
    }
}

/// A place in a buffer where a length and a count are filled in when they are known.
pub(crate) struct Open {
    at: usize,
}

/// Begins a map, list or set.
pub(crate) fn begin(out: &mut Vec<u8>, tag: u8) -> Open {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    Open { at }
}

/// Ends it, with so many entries.
pub(crate) fn end(out: &mut [u8], open: &Open, count: usize) {
    let length = (out.len() - open.at - 4) as u32;
    out[open.at..open.at + 4].copy_from_slice(&length.to_le_bytes());
    out[open.at + 4..open.at + 8].copy_from_slice(&(count as u32).to_le_bytes());
}

/// Writes a length and bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Writes a node with a tag, a length and bytes.
pub(crate) fn put_scalar(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_bytes(out, bytes);
}

/// Nesting levels that a document may have; the object itself is the first.
pub(crate) const LEVELS_MAX: usize = NESTING_LEVELS_MAX;

/// For the fuzzer: what is accepted can be walked, written and read again.
#[doc(hidden)]
pub fn fuzz_document(data: &[u8]) {
    if let Ok(document) = Document::from_bytes(Bytes::copy_from_slice(data)) {
        let _ = document.item_size();
        let _ = document.to_json();
        let _ = super::cell::cells_of(&document);
    }
}

/// For the fuzzer: any text, and what is accepted comes back equal.
#[doc(hidden)]
pub fn fuzz_json(data: &[u8]) {
    if let Ok(document) = Document::from_json(data) {
        assert_eq!(Document::from_json(document.to_json().as_bytes()).as_ref(), Ok(&document));
    }
}
