//! What a cell is.

use std::borrow::Cow;

use crate::domain::document::Node;

/// What a cell holds; the numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CellType {
    /// `null`
    Null = 1,
    /// `false`
    False = 2,
    /// `true`
    True = 3,
    /// A number in canonical text.
    Number = 4,
    /// A string.
    String = 5,
    /// Bytes.
    Binary = 6,
    /// `{}`
    EmptyMap = 7,
    /// `[]`
    EmptyList = 8,
    /// A set of strings, in the document's form.
    StringSet = 9,
    /// A set of numbers, in the document's form.
    NumberSet = 10,
    /// A set of binaries, in the document's form.
    BinarySet = 11,
}

impl CellType {
    /// The type with this number.
    pub fn from_number(number: u8) -> Option<CellType> {
        use CellType::{
            Binary, BinarySet, EmptyList, EmptyMap, False, Null, Number, NumberSet, String, StringSet, True,
        };
        [Null, False, True, Number, String, Binary, EmptyMap, EmptyList, StringSet, NumberSet, BinarySet]
            .get(usize::from(number).checked_sub(1)?)
            .copied()
    }
}

/// What a cell's row holds beside its type. Debug tells the kind only: values belong to the tenant.
#[derive(Clone, PartialEq, Eq)]
pub enum CellData<'a> {
    /// The type says all.
    None,
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
}

impl CellData<'_> {
    /// The data as bytes; none are empty.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            CellData::None => &[],
            CellData::Text(text) => text.as_bytes(),
            CellData::Bytes(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for CellData<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CellData::None => formatter.write_str("None"),
            CellData::Text(text) => write!(formatter, "Text({} bytes)", text.len()),
            CellData::Bytes(bytes) => write!(formatter, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// One leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell<'a> {
    /// What it is.
    pub cell_type: CellType,
    /// What it holds.
    pub data: CellData<'a>,
}

impl<'a> Cell<'a> {
    /// The cell of a leaf; none for a map or list that holds something.
    pub(super) fn of(node: Node<'a>) -> Option<Cell<'a>> {
        let set = |set: crate::domain::document::SetItems<'a>| CellData::Bytes(Cow::Borrowed(set.rest()));
        let (cell_type, data) = match node {
            Node::Null => (CellType::Null, CellData::None),
            Node::Boolean(false) => (CellType::False, CellData::None),
            Node::Boolean(true) => (CellType::True, CellData::None),
            Node::Number(text) => (CellType::Number, CellData::Text(text)),
            Node::String(text) => (CellType::String, CellData::Text(text)),
            Node::Binary(bytes) => (CellType::Binary, CellData::Bytes(Cow::Borrowed(bytes))),
            Node::Map(entries) if entries.is_empty() => (CellType::EmptyMap, CellData::None),
            Node::List(nodes) if nodes.is_empty() => (CellType::EmptyList, CellData::None),
            Node::Map(_) | Node::List(_) => return None,
            Node::StringSet(items) => (CellType::StringSet, set(items)),
            Node::NumberSet(items) => (CellType::NumberSet, set(items)),
            Node::BinarySet(items) => (CellType::BinarySet, set(items)),
        };
        Some(Cell { cell_type, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_types_stay() {
        for number in 0..=u8::MAX {
            match CellType::from_number(number) {
                Some(cell_type) => assert_eq!(cell_type as u8, number),
                None => assert!(number == 0 || number > 11),
            }
        }
    }
}
