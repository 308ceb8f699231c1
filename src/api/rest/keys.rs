//! Keys of items between their text in paths and JSON and their packed form.
//!
//! | type | in a path, after decoding | in JSON |
//! |---|---|---|
//! | String | the string | a string |
//! | Integer | decimal: `7`, `007` and `+7` are one | a number |
//! | Bytes | base64url, without padding | the same in a string |
//!
//! A body may repeat the key in the attributes that the table names for it (`id_name`, `sort_name`); what it
//! says there must be the key in the path. Nothing is added to a body that does not: what went in comes out.

use super::asked::Asked;
use super::parameters::Parameter;
use crate::domain::Refusal;
use crate::domain::document::{Document, Node};
use crate::domain::key::{KeyType, KeyValue, PackedKey};
use crate::domain::table::TableSpecification;

/// The key of an item, whole and in parts.
#[derive(Debug, Clone)]
pub struct ItemKey {
    /// The key as everything is ordered by it.
    pub packed: PackedKey,
    /// The ID.
    pub id: KeyValue,
    /// The sort key, where the table has one.
    pub sort: Option<KeyValue>,
}

/// The key that the path names.
///
/// # Errors
/// `BadInput` where a part is not of its type or too long, is missing, or is one too many.
pub fn of_item(asked: &Asked<'_>) -> Result<ItemKey, Refusal> {
    let specification = &asked.table().specification;
    let id = value(asked, Parameter::Id, specification.id_type)?;
    let sort = match (specification.sort_type, asked.given.get(Parameter::Sort)) {
        (Some(sort_type), Some(_)) => Some(value(asked, Parameter::Sort, sort_type)?),
        (None, None) => None,
        (Some(_), None) => {
            return Err(Refusal::bad_input("this table has a sort key: name the item as …/id/{id}/sort/{sort}"));
        }
        (None, Some(_)) => return Err(Refusal::bad_input("this table has no sort key: name the item as …/id/{id}")),
    };
    let packed = PackedKey::new(&id, sort.as_ref());
    Ok(ItemKey { packed, id, sort })
}

fn value(asked: &Asked<'_>, parameter: Parameter, key_type: KeyType) -> Result<KeyValue, Refusal> {
    let text = asked.parameter(parameter)?;
    let read = if parameter == Parameter::Sort { KeyValue::parse_sort } else { KeyValue::parse_id };
    read(key_type, &text).map_err(|refusal| about(parameter.name(), &refusal))
}

/// The ID that the path names, of a table with a sort key.
///
/// # Errors
/// `BadInput` where it is not of its type or too long.
pub fn id_of_query(asked: &Asked<'_>) -> Result<KeyValue, Refusal> {
    value(asked, Parameter::Id, asked.table().specification.id_type)
}

/// A sort key in the query string.
///
/// # Errors
/// `BadInput` where it is not of its type or too long.
pub fn sort_parameter(asked: &Asked<'_>, name: &str, sort_type: KeyType) -> Result<Option<KeyValue>, Refusal> {
    let Some(text) = asked.query.get(name) else { return Ok(None) };
    KeyValue::parse_sort(sort_type, text).map(Some).map_err(|refusal| about(name, &refusal))
}

/// Checks that the attributes which the table names for the key, where the body has them, are the key in the path.
///
/// # Errors
/// `BadInput` that names the attribute.
pub fn check_attributes(specification: &TableSpecification, key: &ItemKey, document: &Document) -> Result<(), Refusal> {
    let parts = [(&specification.id_name, Some(&key.id)), (&specification.sort_name, key.sort.as_ref())];
    for (name, value) in parts {
        let (Some(value), Some(node)) = (value, document.get(name)) else { continue };
        if !equal(value, node) {
            let rule = "leave it out of the body, or give it as in the path";
            return Err(Refusal::bad_input(format!("the attribute {name:?} is the key and differs from it: {rule}")));
        }
    }
    Ok(())
}

/// Appends a part of a key as JSON.
pub fn write_json(value: &KeyValue, json: &mut Vec<u8>) {
    match value {
        KeyValue::String(text) => write_string(json, text),
        KeyValue::Integer(_) => json.extend_from_slice(value.to_text().as_bytes()),
        KeyValue::Bytes(_) => write_string(json, &value.to_text()),
    }
}

/// Appends a JSON string.
pub fn write_string(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("a string can be written to memory");
}

fn equal(value: &KeyValue, node: Node<'_>) -> bool {
    match (value, node) {
        (KeyValue::String(text), Node::String(given)) => **text == *given,
        (KeyValue::Integer(_), Node::Number(given)) => *value.to_text() == *given,
        (KeyValue::Bytes(_), Node::String(given)) => *value.to_text() == *given,
        (KeyValue::Bytes(bytes), Node::Binary(given)) => **bytes == *given,
        _ => false,
    }
}

/// The refusal, telling which part of the request it is about.
fn about(what: &str, refusal: &Refusal) -> Refusal {
    Refusal { message: format!("{what}: {}", refusal.message), ..refusal.clone() }
}
