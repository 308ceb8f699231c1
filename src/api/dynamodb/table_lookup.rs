//! From a `TableName` to the table of the caller's tenant, and from attributes to the key of an item.
//!
//! What is an ID and a sort key elsewhere are two attributes of the item here, the partition key and the sort key of its
//! [`KeySchema`]. Items are stored without them, since the packed key says the same. REST may have stored them inside all the
//! same, in an equal spelling; the key attributes count then. Going in, an item is read with its key attributes apart
//! ([`split_item`]); coming out, they are made again from the packed key ([`key_document`]) and written among the others.
//!
//! An index is looked up by its name ([`find_index`]). What it orders the items of an ID by takes the place of the sort key in
//! its schema ([`KeySchema::of_index`]).
//!
//! Operations on items learn nothing of a table by its absence: "Requested resource not found" is the same for a table that is
//! not there and for one of another tenant or another location.

use std::sync::Arc;

use super::attribute_value::{self, Split};
use super::call::Call;
use super::failure::Failure;
use super::names::{Named, named};
use super::request::{NAME_RULE, Text, is_spelled};
use crate::domain::TableName;
use crate::domain::document::{BuildError, Builder, Document, Node};
use crate::domain::key::{KeyType, KeyValue, PackedKey};
use crate::domain::limits::{ID_BYTES_MAX, ITEM_BYTES_MAX, SORT_BYTES_MAX};
use crate::domain::local_index::LocalIndex;
use crate::domain::table::{TableDefinition, TableSpecification};

#[cfg(test)]
mod tests;

/// A key attribute: its name and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAttribute<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub key_type: KeyType,
}

/// The key attributes of a table, or of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySchema<'a> {
    /// The partition key: the ID.
    pub id: KeyAttribute<'a>,
    /// The sort key, where there is one.
    pub sort: Option<KeyAttribute<'a>>,
}

impl KeyAttribute<'_> {
    /// Whether this item has it, with a value of its type.
    pub fn fits(&self, attributes: &Document) -> bool {
        self.find(attributes).is_some()
    }

    /// Its value in this item; none where it has another type, or is not there.
    fn find<'d>(&self, attributes: &'d Document) -> Option<Node<'d>> {
        attributes.get(self.name).filter(|value| value.type_code() == self.key_type.type_code())
    }
}

impl<'a> KeySchema<'a> {
    /// Those of this table.
    pub fn of(specification: &'a TableSpecification) -> Self {
        Self {
            id: KeyAttribute { name: &specification.id_name, key_type: specification.id_type },
            sort: specification
                .sort_type
                .map(|key_type| KeyAttribute { name: specification.sort_name.as_str(), key_type }),
        }
    }

    /// Those of an index of the table with these: the partition key is the same, and the index's attribute is the sort key.
    pub fn of_index(&self, index: &'a LocalIndex) -> Self {
        Self { id: self.id, sort: Some(KeyAttribute { name: &index.attribute, key_type: index.key_type }) }
    }

    /// The names, partition key first; the second is the first again where there is no sort key.
    pub fn names(&self) -> [&'a str; 2] {
        [self.id.name, self.sort.map_or(self.id.name, |sort| sort.name)]
    }

    /// Whether this attribute is part of the key.
    pub fn contains(&self, name: &str) -> bool {
        self.names().contains(&name)
    }

    /// How many attributes the key has.
    pub fn len(&self) -> usize {
        if self.sort.is_some() { 2 } else { 1 }
    }

    /// Never: a key has at least one attribute.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The attributes, partition key first.
    pub fn attributes(&self) -> impl Iterator<Item = KeyAttribute<'a>> {
        std::iter::once(self.id).chain(self.sort)
    }
}

/// What a `TableName` names, before anything is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableReference {
    /// A table of the caller's tenant may have this name.
    Own(TableName),
    /// A table of another tenant or another location: not for this caller to know of.
    Foreign,
}

/// Checks a `TableName` and takes the name out of it. Whether it was given, and its length as the service model has it, is checked
/// with the other constraints ([`super::request::check_table_name`]).
///
/// # Errors
/// ValidationException where it is neither a name nor an ARN.
pub fn table_reference(call: &Call<'_>, name: &str) -> Result<TableReference, Failure> {
    let (plain, is_own) = match named(name) {
        Named::Plain(plain) => (plain, true),
        Named::Arn { location, tenant, table } => {
            (table, location == call.location.as_str() && tenant == call.tenant.as_str())
        }
        Named::Malformed => return Err(Failure::validation(format!("Invalid TableArn: {name}"))),
    };
    let checked = TableName::new(plain).map_err(|_| Failure::validation(wrong_name(plain)))?;
    Ok(if is_own { TableReference::Own(checked) } else { TableReference::Foreign })
}

/// What AWS says of a name that no table can have.
fn wrong_name(name: &str) -> String {
    let rule = if !is_spelled(name) {
        NAME_RULE
    } else if name.len() < 3 {
        "Member must have length greater than or equal to 3"
    } else {
        "Member must have length less than or equal to 255"
    };
    format!("1 validation error detected: Value '{name}' at 'tableName' failed to satisfy constraint: {rule}")
}

/// The table that an operation on items names; it is counted for this table from here on.
///
/// # Errors
/// ValidationException for a name that cannot be, ResourceNotFoundException where there is no such table.
pub fn find(call: &Call<'_>, name: &Text<'_>) -> Result<Arc<TableDefinition>, Failure> {
    find_named(call, name.get().unwrap_or_default())
}

/// As [`find`], for a name that is there.
///
/// # Errors
/// As [`find`].
pub fn find_named(call: &Call<'_>, name: &str) -> Result<Arc<TableDefinition>, Failure> {
    let TableReference::Own(name) = table_reference(call, name)? else {
        return Err(Failure::requested_resource_not_found());
    };
    let table = call.find_table(&name).ok_or_else(Failure::requested_resource_not_found)?;
    call.note_table(&table);
    Ok(table)
}

/// The index of this name, and its position among those of the table.
///
/// # Errors
/// ValidationException where the table has none of this name.
pub fn find_index<'a>(table: &'a TableSpecification, name: &str) -> Result<(u8, &'a LocalIndex), Failure> {
    let found = (0u8..).zip(&table.local_indexes).find(|(_, index)| index.name == name);
    found.ok_or_else(|| Failure::validation(format!("The table does not have the specified index: {name}")))
}

/// The key of an item: as everything is ordered by it, and as attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemKey {
    /// The packed key.
    pub packed: PackedKey,
    /// The key attributes.
    pub attributes: Document,
}

/// The item that a PutItem brings: its key, and all other attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitItem {
    /// The key.
    pub key: ItemKey,
    /// All attributes that are no part of it.
    pub document: Document,
}

/// Reads the `Item` of a request, its key attributes apart. Where the table is not known, no attribute is one.
///
/// # Errors
/// Those of values that cannot be.
pub fn read_item(json: &[u8], schema: Option<&KeySchema<'_>>) -> Result<Split, Failure> {
    let names = schema.map(KeySchema::names);
    let names: &[&str] = match &names {
        Some(names) => names,
        None => &[],
    };
    Ok(attribute_value::read_split(json, names)?)
}

/// Checks that an item is not over 400 KB.
///
/// # Errors
/// ValidationException.
pub fn check_item_size(item: &Split) -> Result<(), Failure> {
    if item.item_size() > ITEM_BYTES_MAX {
        return Err(Failure::validation(attribute_value::ITEM_TOO_LARGE));
    }
    Ok(())
}

/// Makes the key of an item out of its key attributes.
///
/// # Errors
/// ValidationException where one is missing, of another type, empty or too long.
pub fn split_item(split: Split, schema: &KeySchema<'_>) -> Result<SplitItem, Failure> {
    let invalid = |text: String| Failure::validation(format!("One or more parameter values were invalid: {text}"));
    for attribute in schema.attributes() {
        let name = attribute.name;
        let expected = attribute.key_type.type_code();
        let value = split.keys.get(name).ok_or_else(|| invalid(format!("Missing the key {name} in the item")))?;
        let actual = value.type_code();
        if actual != expected {
            return Err(invalid(format!("Type mismatch for key {name} expected: {expected} actual: {actual}")));
        }
    }
    let packed = packed_key(&split.keys, schema)?;
    Ok(SplitItem { key: ItemKey { packed, attributes: split.keys }, document: split.rest })
}

/// Makes a key out of the map of a `Key` parameter: exactly the key attributes, each of its type.
///
/// # Errors
/// ValidationException: "The provided key element does not match the schema", or what [`split_item`] says of values.
pub fn key_of(attributes: Document, schema: &KeySchema<'_>) -> Result<ItemKey, Failure> {
    let found = schema.id.find(&attributes).and_then(|id| match schema.sort {
        Some(sort) => sort.find(&attributes).map(|sort| (id, Some(sort))),
        None => Some((id, None)),
    });
    let (id, sort) = found.filter(|_| attributes.entries().len() == schema.len()).ok_or_else(no_match)?;
    let packed = pack(id, sort, schema)?;
    Ok(ItemKey { packed, attributes })
}

fn no_match() -> Failure {
    Failure::validation("The provided key element does not match the schema")
}

/// The packed key of attributes that are there and of the right types. There may be others beside them.
///
/// # Errors
/// ValidationException where a value is empty or too long.
pub fn packed_key(attributes: &Document, schema: &KeySchema<'_>) -> Result<PackedKey, Failure> {
    let id = attributes.get(schema.id.name).ok_or_else(no_match)?;
    let sort = schema.sort.and_then(|sort| attributes.get(sort.name));
    pack(id, sort, schema)
}

/// The packed key of these values.
fn pack(id: Node<'_>, sort: Option<Node<'_>>, schema: &KeySchema<'_>) -> Result<PackedKey, Failure> {
    let id = key_value(id, schema.id, ID_BYTES_MAX, true)?;
    let sort = schema.sort.map(|attribute| {
        let sort = sort.ok_or_else(no_match)?;
        key_value(sort, attribute, SORT_BYTES_MAX, false)
    });
    Ok(PackedKey::new(&id, sort.transpose()?.as_ref()))
}

fn key_value(node: Node<'_>, attribute: KeyAttribute<'_>, bytes_max: usize, is_id: bool) -> Result<KeyValue, Failure> {
    // Types were compared before, and a number in a document is one.
    let value = KeyValue::from_node(attribute.key_type, &node).ok_or_else(no_match)?;
    check_key_value(&value, attribute.name, bytes_max, is_id)?;
    Ok(value)
}

/// Checks the length of a key value.
fn check_key_value(value: &KeyValue, name: &str, bytes_max: usize, is_id: bool) -> Result<(), Failure> {
    let length = match value {
        KeyValue::String(text) => text.len(),
        KeyValue::Bytes(bytes) => bytes.len(),
        KeyValue::Integer(_) => return Ok(()),
    };
    if length == 0 {
        let what = if matches!(value, KeyValue::String(_)) { "string" } else { "binary" };
        return Err(Failure::validation(format!(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty {what} value. Key: {name}"
        )));
    }
    if length > bytes_max {
        let text = if is_id {
            format!("Size of hashkey has exceeded the maximum size limit of{bytes_max} bytes")
        } else {
            format!("Aggregated size of all range keys has exceeded the size limit of {bytes_max} bytes")
        };
        return Err(Failure::validation(format!("One or more parameter values were invalid: {text}")));
    }
    Ok(())
}

/// Checks that a value of a key condition can be an ID (`is_id`) or a sort key: not empty, not too long.
///
/// # Errors
/// ValidationException.
pub fn check_key_part(value: &KeyValue, name: &str, is_id: bool) -> Result<(), Failure> {
    check_key_value(value, name, if is_id { ID_BYTES_MAX } else { SORT_BYTES_MAX }, is_id)
}

/// The key attributes of an item that has this packed key.
///
/// # Errors
/// InternalServerError where the bytes are no key, which only damage can bring about.
pub fn key_document(packed: &PackedKey, schema: &KeySchema<'_>) -> Result<Document, Failure> {
    let (id, sort) = packed.decode().map_err(|error| Failure::internal(error.to_string()))?;
    let build = || -> Result<Document, BuildError> {
        let mut builder = Builder::new();
        write_key_attribute(&mut builder, schema.id.name, &id)?;
        if let (Some(attribute), Some(value)) = (schema.sort, &sort) {
            write_key_attribute(&mut builder, attribute.name, value)?;
        }
        builder.finish()
    };
    build().map_err(|error| Failure::internal(error.to_string()))
}

/// Writes a key attribute under its name.
pub(super) fn write_key_attribute(builder: &mut Builder, name: &str, value: &KeyValue) -> Result<(), BuildError> {
    builder.name(name)?;
    match value {
        KeyValue::String(text) => builder.string(text),
        KeyValue::Integer(number) => builder.number(number.to_text().as_bytes()),
        KeyValue::Bytes(bytes) => builder.binary(bytes),
    }
}
