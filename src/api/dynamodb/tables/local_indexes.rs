//! LocalSecondaryIndexes of CreateTable: read, checked, and made into the [`LocalIndex`]es of the table. In the order of the
//! request, since an index is known by its position from then on.
//!
//! Two kinds of checks, as everywhere here. What the service model does not allow is noted with all else that it does
//! not allow of the request ([`check`]). What fits the model and makes no sense is told one at a time
//! ([`specification`]): first that the table can have such indexes at all, then each index with its key and its
//! projection, then what is wrong with all of them together. No check says that an index projects too many attributes: by
//! the model it names 20 at most, and five times that is what a table may have.
//!
//! An index by the table's own range key is refused, which AWS does not do. It would hold the items in the order that they
//! have in the table, so a query of the table answers the same.

use serde::Deserialize;
use serde_json::{Value, json};

use super::definition::{self, AttributeDefinition, KeyElement};
use super::invalid;
use super::parameters::{list_of, structure};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{Constraints, Raw, Text, Texts};
use crate::domain::local_index::{IndexProjection, LOCAL_INDEXES_MAX, LocalIndex};
use crate::domain::table::TableSpecification;

/// Attributes that an index names to be projected, at most.
const NON_KEY_ATTRIBUTES_MAX: usize = 20;
/// The longest name of such an attribute.
const NON_KEY_ATTRIBUTE_CHARACTERS_MAX: usize = 255;

/// What an index shows of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Include,
    KeysOnly,
}

const KINDS: &[(&str, Kind)] = &[("ALL", Kind::All), ("INCLUDE", Kind::Include), ("KEYS_ONLY", Kind::KeysOnly)];

/// An element of LocalSecondaryIndexes as it stands in the body.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    index_name: Text<'a>,
    #[serde(borrow)]
    key_schema: Raw<'a>,
    #[serde(borrow)]
    projection: Raw<'a>,
}

/// Projection.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AskedProjection<'a> {
    #[serde(borrow)]
    projection_type: Text<'a>,
    non_key_attributes: Texts,
}

/// An index that is asked for, with the parts of it read.
pub(super) struct AskedIndex<'a> {
    name: Text<'a>,
    key: Option<Vec<KeyElement<'a>>>,
    projection: Option<AskedProjection<'a>>,
}

/// Reads the list; none where it is not given.
pub(super) fn read<'a>(list: Raw<'a>) -> Result<Option<Vec<AskedIndex<'a>>>, Failure> {
    let asked: Option<Vec<Asked<'a>>> = list_of(list)?;
    let Some(asked) = asked else { return Ok(None) };
    let parts = |index: Asked<'a>| -> Result<AskedIndex<'a>, Failure> {
        let (key, projection) = (list_of(index.key_schema)?, structure(index.projection)?);
        Ok(AskedIndex { name: index.index_name, key, projection })
    };
    asked.into_iter().map(parts).collect::<Result<Vec<_>, _>>().map(Some)
}

/// Notes what the model does not allow of indexes.
pub(super) fn check(constraints: &mut Constraints, indexes: &[AskedIndex<'_>]) {
    for (number, index) in (1..).zip(indexes) {
        let place = |member: &str| format!("localSecondaryIndexes.{number}.member.{member}");
        match index.name.get() {
            None => constraints.missing(&place("indexName")),
            Some(name) => constraints.spelled(&place("indexName"), name),
        }
        definition::check_key(constraints, &place("keySchema"), index.key.as_deref());
        match &index.projection {
            None => constraints.missing(&place("projection")),
            Some(projection) => projection.check(constraints, &place("projection")),
        }
    }
}

impl AskedProjection<'_> {
    fn check(&self, constraints: &mut Constraints, place: &str) {
        constraints.word(&format!("{place}.projectionType"), &self.projection_type, KINDS);
        let Some(names) = &self.non_key_attributes.0 else { return };
        let place = format!("{place}.nonKeyAttributes");
        let shown = format!("[{}]", names.join(", "));
        if names.is_empty() {
            constraints.broken(&shown, &place, "Member must have length greater than or equal to 1");
        } else if names.len() > NON_KEY_ATTRIBUTES_MAX {
            constraints.broken(&shown, &place, "Member must have length less than or equal to 20");
        }
        let fits = |name: &String| (1..=NON_KEY_ATTRIBUTE_CHARACTERS_MAX).contains(&name.chars().count());
        if !names.iter().all(fits) {
            let rule = "Member must satisfy constraint: [Member must have length less than or equal to 255, Member must have length greater than or equal to 1]";
            constraints.broken(&shown, &place, rule);
        }
    }

    /// The projection, where it makes sense.
    fn specification(&self) -> Result<IndexProjection, Failure> {
        let word = self.projection_type.get();
        let kind = KINDS.iter().find(|(known, _)| Some(*known) == word).map(|(_, kind)| *kind);
        match (kind, &self.non_key_attributes.0) {
            (None, _) => Err(invalid("Unknown ProjectionType: null")),
            (Some(Kind::All), None) => Ok(IndexProjection::All),
            (Some(Kind::KeysOnly), None) => Ok(IndexProjection::KeysOnly),
            (Some(Kind::Include), None) => {
                Err(invalid("ProjectionType is INCLUDE, but NonKeyAttributes is not specified"))
            }
            (Some(Kind::Include), Some(names)) => {
                check_distinct(names)?;
                Ok(IndexProjection::Include(names.clone()))
            }
            (Some(Kind::All | Kind::KeysOnly), Some(_)) => Err(invalid(format!(
                "ProjectionType is {}, but NonKeyAttributes is specified",
                word.unwrap_or_default()
            ))),
        }
    }
}

fn check_distinct(names: &[String]) -> Result<(), Failure> {
    let twice = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name));
    twice.map_or(Ok(()), |(_, name)| Err(invalid(format!("Duplicate attribute in NonKeyAttributes: {name}"))))
}

impl<'a> AskedIndex<'a> {
    /// Its key, which is given where the model was kept to.
    pub(super) fn key(&self) -> &[KeyElement<'a>] {
        self.key.as_deref().unwrap_or_default()
    }

    /// The index of a table with these keys.
    fn specification(
        &self,
        keys: &TableSpecification,
        attributes: &[AttributeDefinition<'_>],
    ) -> Result<LocalIndex, Failure> {
        let name = self.name.get().unwrap_or_default();
        definition::check_defined(self.key(), attributes)?;
        let (id, sort) = definition::parts(self.key())?;
        if id.name() != keys.id_name {
            return Err(invalid(format!(
                "Index KeySchema does not have the same leading hash key as table KeySchema for index: {name}. index hash key: {}, table hash key: {}",
                id.name(),
                keys.id_name
            )));
        }
        let Some(sort) = sort else {
            return Err(invalid(format!("Index KeySchema does not have a range key for index: {name}")));
        };
        if sort.name() == keys.sort_name {
            return Err(invalid(format!(
                "An index whose range key is the range key of the table is not supported by dStore: {name}"
            )));
        }
        let projection = self.projection.as_ref().map_or(Ok(IndexProjection::All), AskedProjection::specification)?;
        let key_type = definition::type_of(sort, attributes);
        Ok(LocalIndex { name: name.to_owned(), attribute: sort.name().to_owned(), key_type, projection })
    }
}

/// The indexes of a table with these keys; none where none are asked for.
pub(super) fn specification(
    asked: Option<&[AskedIndex<'_>]>,
    keys: &TableSpecification,
    attributes: &[AttributeDefinition<'_>],
) -> Result<Vec<LocalIndex>, Failure> {
    let Some(asked) = asked else { return Ok(Vec::new()) };
    if asked.is_empty() {
        return Err(invalid("List of LocalSecondaryIndexes is empty"));
    }
    if keys.sort_type.is_none() {
        return Err(invalid(
            "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex",
        ));
    }
    let mut indexes: Vec<LocalIndex> = Vec::new();
    for index in asked {
        let index = index.specification(keys, attributes)?;
        if indexes.iter().any(|other| other.name == index.name) {
            return Err(invalid(format!("Duplicate index name: {}", index.name)));
        }
        // Beyond the limit only their number is told, and no list of any length is searched for names.
        if indexes.len() == LOCAL_INDEXES_MAX {
            return Err(invalid(format!(
                "Number of LocalSecondaryIndexes exceeds per-table limit of {LOCAL_INDEXES_MAX}"
            )));
        }
        indexes.push(index);
    }
    Ok(indexes)
}

/// An index's projection as answers show it.
pub(super) fn shown_projection(projection: &IndexProjection) -> Value {
    match projection {
        IndexProjection::All => json!({"ProjectionType": "ALL"}),
        IndexProjection::KeysOnly => json!({"ProjectionType": "KEYS_ONLY"}),
        IndexProjection::Include(names) => json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": names}),
    }
}
