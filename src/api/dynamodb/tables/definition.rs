//! From KeySchema and AttributeDefinitions to the keys of a table. AWS tells a mistake in this order: capacity, attributes
//! without a definition, the order of the key, definitions that nothing uses.
//!
//! Keys of local indexes are keys, too: [`super::local_indexes`] reads them with what stands here, checks them against the
//! same definitions, and they count as uses of them ([`check_definitions`]).

use serde::Deserialize;

use super::invalid;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{Constraints, Text};
use crate::domain::key::KeyType;
use crate::domain::table::TableSpecification;

/// The longest name of a key attribute.
const NAME_CHARACTERS_MAX: usize = 255;
/// Attributes of a key, at most.
const KEY_ATTRIBUTES_MAX: usize = 2;

/// What an attribute is in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Hash,
    Range,
}

const PARTS: &[(&str, Part)] = &[("HASH", Part::Hash), ("RANGE", Part::Range)];
const TYPES: &[(&str, KeyType)] = &[("B", KeyType::Bytes), ("N", KeyType::Integer), ("S", KeyType::String)];

/// An element of KeySchema.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct KeyElement<'a> {
    #[serde(borrow)]
    attribute_name: Text<'a>,
    #[serde(borrow)]
    key_type: Text<'a>,
}

/// An element of AttributeDefinitions.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct AttributeDefinition<'a> {
    #[serde(borrow)]
    attribute_name: Text<'a>,
    #[serde(borrow)]
    attribute_type: Text<'a>,
}

impl KeyElement<'_> {
    /// The attribute.
    pub(super) fn name(&self) -> &str {
        self.attribute_name.get().unwrap_or_default()
    }

    fn part(&self) -> Part {
        if self.key_type.get() == Some("RANGE") { Part::Range } else { Part::Hash }
    }
}

impl AttributeDefinition<'_> {
    fn name(&self) -> &str {
        self.attribute_name.get().unwrap_or_default()
    }

    fn key_type(&self) -> KeyType {
        let word = self.attribute_type.get();
        TYPES.iter().find(|(known, _)| Some(*known) == word).map_or(KeyType::String, |(_, key_type)| *key_type)
    }
}

/// Notes what the model does not allow of attribute definitions.
pub(super) fn check_attributes(constraints: &mut Constraints, attributes: Option<&[AttributeDefinition<'_>]>) {
    constraints.required("attributeDefinitions", attributes.as_ref());
    for (number, attribute) in (1..).zip(attributes.unwrap_or_default()) {
        let place = |member: &str| format!("attributeDefinitions.{number}.member.{member}");
        check_name(constraints, &place("attributeName"), &attribute.attribute_name);
        check_word(constraints, &place("attributeType"), &attribute.attribute_type, TYPES);
    }
}

/// Notes what the model does not allow of a key: the table's at `keySchema`, or an index's at its own place.
pub(super) fn check_key(constraints: &mut Constraints, place: &str, key: Option<&[KeyElement<'_>]>) {
    constraints.required(place, key.as_ref());
    let Some(key) = key else { return };
    if key.is_empty() {
        constraints.broken("[]", place, "Member must have length greater than or equal to 1");
    } else if key.len() > KEY_ATTRIBUTES_MAX {
        constraints.broken(shown(key), place, "Member must have length less than or equal to 2");
    }
    for (number, element) in (1..).zip(key) {
        let member = |member: &str| format!("{place}.{number}.member.{member}");
        check_name(constraints, &member("attributeName"), &element.attribute_name);
        check_word(constraints, &member("keyType"), &element.key_type, PARTS);
    }
}

fn check_name(constraints: &mut Constraints, place: &str, name: &Text<'_>) {
    match name.get() {
        None => constraints.missing(place),
        Some(name) => constraints.length(place, name, 1, NAME_CHARACTERS_MAX),
    }
}

fn check_word<T: Copy>(constraints: &mut Constraints, place: &str, word: &Text<'_>, words: &[(&str, T)]) {
    constraints.required(place, word.get().as_ref());
    constraints.word(place, word, words);
}

fn shown(key: &[KeyElement<'_>]) -> String {
    let one = |element: &KeyElement<'_>| {
        let word = element.key_type.get().unwrap_or("null");
        format!("KeySchemaElement(attributeName={}, keyType={word})", element.name())
    };
    format!("[{}]", key.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// The keys of a table as a specification that says nothing else. Whether all definitions are used is asked when its
/// indexes are known, too ([`check_definitions`]).
pub(super) fn specification(
    key: &[KeyElement<'_>],
    attributes: &[AttributeDefinition<'_>],
) -> Result<TableSpecification, Failure> {
    check_defined(key, attributes)?;
    let (id, sort) = parts(key)?;
    let mut specification = TableSpecification::new(type_of(id, attributes));
    specification.id_name = id.name().to_owned();
    if let Some(sort) = sort {
        specification.sort_type = Some(type_of(sort, attributes));
        specification.sort_name = sort.name().to_owned();
    }
    Ok(specification)
}

/// Checks that all attributes of a key are defined.
pub(super) fn check_defined(key: &[KeyElement<'_>], attributes: &[AttributeDefinition<'_>]) -> Result<(), Failure> {
    let is_defined = |element: &KeyElement<'_>| attributes.iter().any(|attribute| attribute.name() == element.name());
    if key.iter().all(is_defined) {
        return Ok(());
    }
    let keys: Vec<&str> = key.iter().map(KeyElement::name).collect();
    Err(invalid(format!(
        "Some index key attributes are not defined in AttributeDefinitions. Keys: [{}], AttributeDefinitions: [{}]",
        keys.join(", "),
        defined_names(attributes)
    )))
}

/// The type of a part of a key that is defined.
pub(super) fn type_of(element: &KeyElement<'_>, attributes: &[AttributeDefinition<'_>]) -> KeyType {
    let found = attributes.iter().find(|attribute| attribute.name() == element.name());
    found.map_or(KeyType::String, AttributeDefinition::key_type)
}

/// A key taken apart: first what is hashed, then what it is ordered by, where that is given.
pub(super) fn parts<'key, 'a>(
    key: &'key [KeyElement<'a>],
) -> Result<(&'key KeyElement<'a>, Option<&'key KeyElement<'a>>), Failure> {
    let Some((id, rest)) = key.split_first().filter(|(id, _)| id.part() == Part::Hash) else {
        return Err(Failure::validation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type"));
    };
    let sort = rest.first();
    if sort.is_some_and(|sort| sort.name() == id.name()) {
        let text = "Both the Hash Key and the Range Key element in the KeySchema have the same name";
        return Err(Failure::validation(text));
    }
    if sort.is_some_and(|sort| sort.part() != Part::Range) {
        return Err(Failure::validation("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"));
    }
    Ok((id, sort))
}

/// Checks that no attribute is defined that no key uses, neither the table's nor one of its indexes'. All that they use is
/// defined ([`check_defined`]), so counting is enough; it finds what is defined twice, too.
pub(super) fn check_definitions(
    key: &[KeyElement<'_>],
    index_keys: &[&[KeyElement<'_>]],
    attributes: &[AttributeDefinition<'_>],
) -> Result<(), Failure> {
    let mut used: Vec<&str> = Vec::new();
    for name in key.iter().chain(index_keys.iter().copied().flatten()).map(KeyElement::name) {
        if !used.contains(&name) {
            used.push(name);
        }
    }
    if attributes.len() == used.len() {
        return Ok(());
    }
    if index_keys.is_empty() {
        return Err(invalid(
            "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions",
        ));
    }
    Err(invalid(format!(
        "Some AttributeDefinitions are not used. AttributeDefinitions: [{}], keys used: [{}]",
        defined_names(attributes),
        used.join(", ")
    )))
}

fn defined_names(attributes: &[AttributeDefinition<'_>]) -> String {
    attributes.iter().map(AttributeDefinition::name).collect::<Vec<_>>().join(", ")
}
