//! Local indexes: the items of each ID in the order of another attribute than the sort key.
//!
//! An index is part of its table's definition, settled when the table is created, and goes by its position there. An
//! item is in it if it has the index's attribute, at the top level, with the index's type and, where that is a String or
//! Bytes, with as many bytes as a sort key may have. What has the attribute and cannot be in the index for its
//! value is not stored at all, as at AWS: whoever reads the index may rely on finding there whatever has the attribute.
//!
//! A write leaves an [entry](super::key::index_entry) of keys beside the item, in the same file and the same transaction;
//! attributes are read from the item itself. So a projection costs no room here, and an index that shows all is no dearer
//! than one that shows keys: a projection only says what an answer may hold, and what is counted for it.

use serde::{Deserialize, Serialize};

use super::document::{BuildError, Builder, Document, Node};
use super::key::{KeyType, KeyValue, PackedKey, index_entry};
use super::limits::SORT_BYTES_MAX;
use super::refusal::Refusal;
use super::table::TableSpecification;

/// Local indexes of a table, at most.
pub const LOCAL_INDEXES_MAX: usize = 5;
/// Attributes that all local indexes of a table together may name to be shown.
pub const PROJECTED_NAMES_MAX: usize = 100;
/// The longest name of an attribute that an index names, in bytes.
pub const INDEX_ATTRIBUTE_BYTES_MAX: usize = 255;

/// A local index of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalIndex {
    /// Its name within its table.
    pub name: String,
    /// The attribute it orders items by.
    pub attribute: String,
    /// The type that the attribute has.
    pub key_type: KeyType,
    /// What it shows of an item.
    #[serde(default)]
    pub projection: IndexProjection,
}

/// What an index shows of an item, beside the table's keys and its own attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexProjection {
    /// All of it.
    #[default]
    All,
    /// Nothing else.
    KeysOnly,
    /// These attributes.
    Include(Vec<String>),
}

/// Why an item cannot be stored in a table with this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unindexable {
    /// The attribute has another type.
    WrongType {
        /// The type it has, as the DynamoDB protocol calls it.
        actual: &'static str,
    },
    /// A String or Bytes that is empty.
    Empty,
    /// A String or Bytes that is longer than a sort key may be.
    TooLong,
}

impl LocalIndex {
    /// The value it orders this item by; none: the item is not in the index.
    pub fn value(&self, document: &Document) -> Option<KeyValue> {
        self.value_of(&document.get(&self.attribute)?)
    }

    /// The value it orders an item by whose attribute is this; none: the item is not in the index.
    pub fn value_of(&self, node: &Node<'_>) -> Option<KeyValue> {
        self.check_node(node).ok()?;
        KeyValue::from_node(self.key_type, node)
    }

    /// The item's entry, none where it is not in the index.
    pub fn entry(&self, key: &PackedKey, document: &Document) -> Option<PackedKey> {
        index_entry(key, &self.value(document)?).ok()
    }

    /// Whether an item with this document may be stored.
    ///
    /// # Errors
    /// Where it has the index's attribute, with a value that the index cannot hold.
    pub fn check(&self, document: &Document) -> Result<(), Unindexable> {
        document.get(&self.attribute).map_or(Ok(()), |node| self.check_node(&node))
    }

    fn check_node(&self, node: &Node<'_>) -> Result<(), Unindexable> {
        let length = match (self.key_type, node) {
            (KeyType::Integer, Node::Number(_)) => return Ok(()),
            (KeyType::String, Node::String(text)) => text.len(),
            (KeyType::Bytes, Node::Binary(bytes)) => bytes.len(),
            (_, other) => return Err(Unindexable::WrongType { actual: other.type_code() }),
        };
        match length {
            0 => Err(Unindexable::Empty),
            1..=SORT_BYTES_MAX => Ok(()),
            _ => Err(Unindexable::TooLong),
        }
    }

    /// Whether the index shows this attribute by its projection: `All` shows every one, and each the table's key
    /// attributes, which are `key_names`, and its own attribute.
    pub fn projects(&self, attribute: &str, key_names: &[&str]) -> bool {
        let is_named = || self.included().iter().any(|name| name == attribute);
        self.shows_all() || self.attribute == attribute || key_names.contains(&attribute) || is_named()
    }

    /// What it shows of a document that has no key attributes, as a stored item's has none.
    pub fn project(&self, document: &Document) -> Document {
        if self.shows_all() {
            return document.clone();
        }
        // A part of a document is one: nothing can fail.
        self.shown_part(document).unwrap_or_default()
    }

    fn shown_part(&self, document: &Document) -> Result<Document, BuildError> {
        let mut builder = Builder::new();
        for (name, node) in document.entries().filter(|(name, _)| self.projects(name, &[])) {
            builder.name(name)?;
            builder.node(node)?;
        }
        builder.finish()
    }

    /// The size of what it shows of an item, key included: as an item's size is defined for limits.
    pub fn projected_bytes(&self, key: &PackedKey, document: &Document) -> u64 {
        (key.len() + self.project(document).item_size()) as u64
    }

    /// Whether it shows an item as a whole.
    pub fn shows_all(&self) -> bool {
        self.projection == IndexProjection::All
    }

    /// The attributes that are named to be shown.
    pub fn included(&self) -> &[String] {
        match &self.projection {
            IndexProjection::Include(names) => names,
            IndexProjection::All | IndexProjection::KeysOnly => &[],
        }
    }

    /// What is said to who wanted to store an item that this index cannot hold, in the words of AWS; `is_update`: by an
    /// update expression.
    pub fn refusal(&self, why: &Unindexable, is_update: bool) -> String {
        let empty = if self.key_type == KeyType::Bytes { "an empty binary value" } else { "an empty string value" };
        let (name, attribute, expected) = (&self.name, &self.attribute, self.key_type.type_code());
        match (why, is_update) {
            (Unindexable::WrongType { .. }, true) => {
                "The update expression attempted to update the secondary index key to unsupported type".to_owned()
            }
            (Unindexable::WrongType { actual }, false) => format!(
                "One or more parameter values were invalid: Type mismatch for Index Key {attribute} Expected: {expected} Actual: {actual} IndexName: {name}"
            ),
            (Unindexable::Empty, true) => format!(
                "The update expression attempted to update the secondary index key to a value that is not supported. The AttributeValue for a key attribute cannot contain {empty}."
            ),
            (Unindexable::Empty, false) => format!(
                "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain {empty}. IndexName: {name}, IndexKey: {attribute}"
            ),
            (Unindexable::TooLong, _) => format!(
                "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of {SORT_BYTES_MAX} bytes"
            ),
        }
    }

    /// Checks the index by itself.
    fn check_definition(&self) -> Result<(), Refusal> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if !(3..=255).contains(&self.name.len()) || !self.name.bytes().all(is_good) {
            return Err(Refusal::bad_input(
                "the name of a local index is 3 to 255 characters of a-z, A-Z, 0-9, '_', '-' and '.'",
            ));
        }
        let named = std::iter::once(&self.attribute).chain(self.included());
        if named.map(String::len).any(|length| !(1..=INDEX_ATTRIBUTE_BYTES_MAX).contains(&length)) {
            return Err(Refusal::bad_input(format!(
                "the attributes that the local index {} names are 1 to {INDEX_ATTRIBUTE_BYTES_MAX} bytes long",
                self.name
            )));
        }
        let is_told_twice = |(place, name): (usize, &String)| self.included()[..place].contains(name);
        if matches!(&self.projection, IndexProjection::Include(names) if names.is_empty())
            || self.included().iter().enumerate().any(is_told_twice)
        {
            return Err(Refusal::bad_input(format!(
                "the local index {} includes at least one attribute, and each once",
                self.name
            )));
        }
        Ok(())
    }
}

/// The size of an item together with its entries, each with what its index shows: what the limit on items counts in a
/// table with local indexes, as at AWS. `key_bytes` is the size of its key.
pub fn bytes_with_entries(indexes: &[LocalIndex], key_bytes: usize, document: &Document) -> usize {
    let holds =
        |index: &&LocalIndex| document.get(&index.attribute).is_some_and(|node| index.check_node(&node).is_ok());
    let shown = |index: &LocalIndex| key_bytes + index.project(document).item_size();
    key_bytes + document.item_size() + indexes.iter().filter(holds).map(shown).sum::<usize>()
}

/// Checks the local indexes of a table.
///
/// # Errors
/// `BadInput` that names the rule.
pub fn check_all(table: &TableSpecification) -> Result<(), Refusal> {
    let indexes = &table.local_indexes;
    if indexes.is_empty() {
        return Ok(());
    }
    if indexes.len() > LOCAL_INDEXES_MAX {
        let count = indexes.len();
        return Err(Refusal::bad_input(format!(
            "a table has at most {LOCAL_INDEXES_MAX} local indexes, and would have {count}"
        )));
    }
    if table.sort_type.is_none() {
        return Err(Refusal::bad_input("only a table with a sort key can have local indexes"));
    }
    for (position, index) in indexes.iter().enumerate() {
        index.check_definition()?;
        let (name, attribute, before) = (&index.name, &index.attribute, &indexes[..position]);
        if before.iter().any(|other| other.name == *name) {
            return Err(Refusal::bad_input(format!("two local indexes are called {name}")));
        }
        if [&table.id_name, &table.sort_name].contains(&attribute) {
            return Err(Refusal::bad_input(format!(
                "the local index {name} is by {attribute}, which is one of the keys"
            )));
        }
        if before.iter().any(|other| other.attribute == *attribute && other.key_type != index.key_type) {
            return Err(Refusal::bad_input(format!("two local indexes give {attribute} two types")));
        }
    }
    let included: usize = indexes.iter().map(|index| index.included().len()).sum();
    if included > PROJECTED_NAMES_MAX {
        return Err(Refusal::bad_input(format!(
            "the local indexes of a table include at most {PROJECTED_NAMES_MAX} attributes together, and would include {included}"
        )));
    }
    Ok(())
}

#[cfg(test)]
impl LocalIndex {
    /// An index for tests.
    pub(crate) fn of(name: &str, attribute: &str, key_type: KeyType, projection: IndexProjection) -> Self {
        Self { name: name.to_owned(), attribute: attribute.to_owned(), key_type, projection }
    }
}

#[cfg(test)]
mod tests;
