//! Checks that bytes are exactly what the builder writes, before anything walks them: they come from disk and
//! from other nodes.

use super::builder::BuildError;
use super::encoding::{
    BINARY, BINARY_SET, FALSE, FORMAT_VERSION, HEADER_BYTES, LIST, MAP, NULL, NUMBER, NUMBER_SET, Reader, STRING,
    STRING_SET, TRUE, Value,
};
use crate::domain::item_size::{CONSTANT_BYTES, CONTAINER_BYTES, ELEMENT_BYTES, number_bytes};
use crate::domain::limits::{ATTRIBUTE_NAME_BYTES_MAX, NESTING_LEVELS_MAX};
use crate::domain::number::{Number, is_canonical};

/// Why bytes are no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A format this release does not know.
    #[error("the document has an unknown format version")]
    Format,
    /// Cut short, too long, or of unknown types.
    #[error("the document's bytes do not add up")]
    Structure,
    /// Names not in order, or one twice.
    #[error("the document has names that are out of order, double or too long")]
    Names,
    /// A name or string that is not UTF-8.
    #[error("the document has text that is not UTF-8")]
    Text,
    /// A number that is not in canonical text.
    #[error("the document has a number that is not in canonical text")]
    Number,
    /// A set that is empty, out of order, or has an element twice.
    #[error("the document has a set that is empty, out of order, or has an element twice")]
    Set,
    /// More than 32 levels.
    #[error("the document nests too deeply")]
    Depth,
    /// Cells that do not go together.
    #[error("the cells do not make a document: {0}")]
    Cells(#[from] BuildError),
    /// A path that names no cell.
    #[error("the path names no cell")]
    Path,
    /// An item size that is not the item's.
    #[error("the document's item size is not that of its attributes")]
    ItemSize,
}

/// Checks a whole document.
pub(super) fn check(bytes: &[u8]) -> Result<(), DocumentError> {
    let mut reader = Reader::new(bytes);
    if reader.byte() != Some(FORMAT_VERSION) {
        return Err(DocumentError::Format);
    }
    let header = reader.take(HEADER_BYTES - 1).ok_or(DocumentError::Structure)?;
    let item_size = map_size(reader.rest(), 1)?;
    if header == (item_size as u32).to_le_bytes() { Ok(()) } else { Err(DocumentError::ItemSize) }
}

/// Checks the content of one value of this kind, for a value that stands alone.
pub(super) fn check_leaf(kind: u8, content: &[u8]) -> Result<(), DocumentError> {
    value_size(Value { kind, content }, NESTING_LEVELS_MAX).map(|_| ())
}

/// Checks the entries of a map on this level; the size of its names and values.
fn map_size(body: &[u8], level: usize) -> Result<usize, DocumentError> {
    let mut reader = Reader::new(body);
    let mut size = 0;
    let mut last: Option<&[u8]> = None;
    let element_bytes = if level > 1 { ELEMENT_BYTES } else { 0 };
    while !reader.is_empty() {
        let (name, value) = reader.entry().ok_or(DocumentError::Structure)?;
        if last.is_some_and(|last| last >= name) || name.len() > ATTRIBUTE_NAME_BYTES_MAX {
            return Err(DocumentError::Names);
        }
        last = Some(name);
        text(name)?;
        size += name.len() + value_size(value, level)? + element_bytes;
    }
    Ok(size)
}

/// Checks a value that lies in a map or list on this level; its size.
fn value_size(value: Value<'_>, level: usize) -> Result<usize, DocumentError> {
    let content = value.content;
    match value.kind {
        NULL | FALSE | TRUE if content.is_empty() => Ok(CONSTANT_BYTES),
        NUMBER if is_canonical(content) => Ok(number_bytes(content)),
        NUMBER => Err(DocumentError::Number),
        STRING => text(content).map(|()| content.len()),
        BINARY => Ok(content.len()),
        MAP | LIST if level == NESTING_LEVELS_MAX => Err(DocumentError::Depth),
        MAP => map_size(content, level + 1).map(|size| size + CONTAINER_BYTES),
        LIST => list_size(content, level + 1).map(|size| size + CONTAINER_BYTES),
        STRING_SET | NUMBER_SET | BINARY_SET => set_size(value.kind, content),
        _ => Err(DocumentError::Structure),
    }
}

fn list_size(body: &[u8], level: usize) -> Result<usize, DocumentError> {
    let mut reader = Reader::new(body);
    let mut size = 0;
    while !reader.is_empty() {
        size += value_size(reader.value().ok_or(DocumentError::Structure)?, level)? + ELEMENT_BYTES;
    }
    Ok(size)
}

fn set_size(kind: u8, body: &[u8]) -> Result<usize, DocumentError> {
    let mut reader = Reader::new(body);
    let mut size = 0;
    let mut last: Option<&[u8]> = None;
    while !reader.is_empty() {
        let element = reader.bytes().ok_or(DocumentError::Structure)?;
        match kind {
            STRING_SET => text(element)?,
            NUMBER_SET if !is_canonical(element) => return Err(DocumentError::Number),
            _ => {}
        }
        if last.is_some_and(|last| !ascends(kind, last, element)) {
            return Err(DocumentError::Set);
        }
        last = Some(element);
        size += if kind == NUMBER_SET { number_bytes(element) } else { element.len() };
    }
    if last.is_none() { Err(DocumentError::Set) } else { Ok(size) }
}

fn ascends(kind: u8, last: &[u8], element: &[u8]) -> bool {
    if kind == NUMBER_SET { Number::parse_bytes(last).ok() < Number::parse_bytes(element).ok() } else { last < element }
}

fn text(bytes: &[u8]) -> Result<(), DocumentError> {
    std::str::from_utf8(bytes).map(|_| ()).map_err(|_| DocumentError::Text)
}
