//! The document itself: shared bytes that were checked.

use bytes::Bytes;

use super::check::{DocumentError, check};
use super::encoding::{FORMAT_VERSION, HEADER_BYTES};
use super::view::{Entries, Node};
use super::{merge, parse, print};
use crate::domain::refusal::Refusal;

/// One item's attributes. Equal documents have equal bytes. Cheap to clone. Debug shows the length
/// only: items belong to the tenant.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Document(Bytes);

impl Document {
    /// A document without attributes.
    pub fn empty() -> Document {
        Document(Bytes::from_static(&[FORMAT_VERSION, 0, 0, 0, 0]))
    }

    /// The document in these bytes, which it shares. Checks all of them.
    ///
    /// # Errors
    /// Where they are not exactly what this module writes.
    pub fn from_bytes(bytes: Bytes) -> Result<Document, DocumentError> {
        check(&bytes)?;
        Ok(Document(bytes))
    }

    /// What the builder made.
    pub(super) fn built(bytes: Bytes) -> Document {
        debug_assert_eq!(check(&bytes), Ok(()), "the builder keeps the format");
        Document(bytes)
    }

    /// Reads one JSON object, in one pass.
    ///
    /// # Errors
    /// `BadInput` that names line and column, where the text is no JSON object, has a name twice in one object, a
    /// number that cannot be stored exactly, a lone surrogate, more than 32 levels, or a `$binary` or set that is none.
    pub fn from_json(text: &[u8]) -> Result<Document, Refusal> {
        parse::from_json(text)
    }

    /// Appends the document as JSON, without whitespace.
    pub fn write_json(&self, buffer: &mut Vec<u8>) {
        buffer.reserve(self.0.len() + self.0.len() / 8);
        print::write_map(buffer, self.entries().rest(), true);
    }

    /// The document as JSON, without whitespace.
    pub fn to_json(&self) -> String {
        let mut buffer = Vec::new();
        self.write_json(&mut buffer);
        String::from_utf8(buffer).unwrap_or_default()
    }

    /// This document with `patch` merged into it by JSON merge patch (RFC 7396): nulls of the patch remove, objects
    /// merge, everything else replaces. Binary and sets replace.
    ///
    /// # Errors
    /// `BadInput` where the result could not be stored. Its item size is for the caller to check.
    pub fn merge_patch(&self, patch: &Document) -> Result<Document, Refusal> {
        Ok(merge::merge_patch(self, patch)?)
    }

    /// The attributes as one map.
    pub fn root(&self) -> Node<'_> {
        Node::Map(self.entries())
    }

    /// Names and values of the attributes, names in ascending order of their bytes.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(self.0.get(HEADER_BYTES..).unwrap_or_default())
    }

    /// The attribute of this name.
    pub fn get(&self, name: &str) -> Option<Node<'_>> {
        self.entries().get(name)
    }

    /// Whether it has no attributes.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// The item size by DynamoDB's formula, in bytes. Counted when the document was made.
    pub fn item_size(&self) -> usize {
        let size = self.0.get(1..HEADER_BYTES).and_then(|bytes| bytes.try_into().ok());
        size.map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same in memory of its own, so that it can be kept without whatever it is a slice of.
    pub fn apart(&self) -> Document {
        Document(Bytes::copy_from_slice(&self.0))
    }

    /// The bytes, sharing them.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::empty()
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Document({} bytes)", self.0.len())
    }
}

/// Reads any bytes as a document; what is read must survive JSON.
#[doc(hidden)]
pub fn fuzz_document(data: &[u8]) {
    if let Ok(document) = Document::from_bytes(Bytes::copy_from_slice(data)) {
        let again = Document::from_json(document.to_json().as_bytes());
        assert!(again.as_ref() == Ok(&document), "a document reads back from its JSON");
    }
}

/// Reads any bytes as JSON; what is read must be a document that passes all checks and reads back.
#[doc(hidden)]
pub fn fuzz_json(data: &[u8]) {
    if let Ok(document) = Document::from_json(data) {
        fuzz_document(document.as_bytes());
        assert_eq!(check(document.as_bytes()), Ok(()));
        let _ = document.merge_patch(&document);
    }
}

#[cfg(test)]
mod tests;
