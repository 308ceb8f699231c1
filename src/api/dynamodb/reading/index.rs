//! What is read: the table itself, or one of its indexes. All that is special to an index stands here.
//!
//! An index has its own order, in which items lie by their entries ([`index_entry()`]) instead of by their
//! packed keys. So a place in it is named by the table's key attributes and by the index's attribute: LastEvaluatedKey holds
//! them all, and ExclusiveStartKey must.
//!
//! Of an item it shows what its projection says. What it does not show can be had all the same, as an index lies beside its
//! table: the item is then fetched from the table. It comes with the entry anyway, so whether it is fetched is nothing but a
//! matter of what the request costs ([`Fetch`]).

use std::borrow::Cow;

use super::key_interval::KeyOrder;
use super::parameters::Checked;
use super::start_key;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::table_lookup::{
    KeyAttribute, KeySchema, check_key_part, find_index, key_document, packed_key, write_key_attribute,
};
use crate::domain::document::{BuildError, Builder, Document};
use crate::domain::key::{KeyValue, PackedKey, index_entry, read_index_entry};
use crate::domain::local_index::LocalIndex;
use crate::domain::table::TableSpecification;

/// Which items of an index are fetched from the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// None: the index shows all that is wanted.
    None,
    /// Those that the filter lets through: more of them is wanted than the index shows.
    Found,
    /// All that are looked at: the filter wants to know more of them.
    All,
}

/// The table, or an index of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// The key attributes of the table.
    table: KeySchema<'a>,
    /// The index, and its position among those of the table.
    index: Option<(u8, &'a LocalIndex)>,
}

impl<'a> Source<'a> {
    /// What a request with this IndexName reads.
    ///
    /// # Errors
    /// ValidationException where the table has no such index.
    pub(super) fn find(table: &'a TableSpecification, index_name: Option<&str>) -> Result<Self, Failure> {
        let index = index_name.map(|name| find_index(table, name)).transpose()?;
        Ok(Self { table: KeySchema::of(table), index })
    }

    /// The position of the index.
    pub(super) fn position(&self) -> Option<u8> {
        self.index.map(|(position, _)| position)
    }

    /// The name of the index.
    pub(super) fn index_name(&self) -> Option<&'a str> {
        self.index.map(|(_, index)| index.name.as_str())
    }

    /// The key attributes of the table.
    pub(super) fn table(&self) -> &KeySchema<'a> {
        &self.table
    }

    /// The attributes by which it is ordered.
    pub(super) fn schema(&self) -> KeySchema<'a> {
        self.index.map_or(self.table, |(_, index)| self.table.of_index(index))
    }

    /// What places in it are.
    pub(super) fn order(&self) -> KeyOrder {
        if self.index.is_some() { KeyOrder::Index } else { KeyOrder::Table }
    }

    /// What it shows of a stored item.
    pub(super) fn shown<'d>(&self, document: &'d Document) -> Cow<'d, Document> {
        match self.index {
            None => Cow::Borrowed(document),
            Some((_, index)) => Cow::Owned(index.project(document)),
        }
    }

    /// Which items must be fetched from the table for this request.
    pub(super) fn fetch(&self, checked: &Checked) -> Fetch {
        let Some((_, index)) = self.index else { return Fetch::None };
        let key_names = self.table.names();
        let hides = |attribute: &str| !index.projects(attribute, &key_names);
        let filter = checked.expressions.filter.as_ref();
        if filter.is_some_and(|filter| filter.paths().iter().any(|path| hides(&path.attribute))) {
            return Fetch::All;
        }
        let projection = checked.expressions.projection.as_ref();
        let wants_more = match projection {
            Some(projection) => projection.paths.iter().any(|path| hides(&path.attribute)),
            None => checked.all_attributes && !index.shows_all(),
        };
        if wants_more { Fetch::Found } else { Fetch::None }
    }

    /// The place that these attributes name, which a client gave.
    ///
    /// # Errors
    /// ValidationException where they are not those that name a place, or have other types, or values that no key can have.
    pub(super) fn place(&self, attributes: &Document) -> Result<PackedKey, Failure> {
        let index = self.index.map(|(_, index)| index_attribute(index));
        let named = self.table.len() + usize::from(index.is_some());
        let fits = self.table.attributes().chain(index).all(|attribute| attribute.fits(attributes));
        if !fits || attributes.entries().len() != named {
            return Err(start_key::no_match(self.order()));
        }
        let key = packed_key(attributes, &self.table).map_err(start_key::invalid)?;
        let Some(attribute) = index else { return Ok(key) };
        let value = attributes.get(attribute.name).and_then(|node| KeyValue::from_node(attribute.key_type, &node));
        let value = value.ok_or_else(|| start_key::no_match(self.order()))?;
        check_key_part(&value, attribute.name, false).map_err(start_key::invalid)?;
        index_entry(&key, &value).map_err(|error| Failure::internal(error.to_string()))
    }

    /// The attributes that name the place of an item with these key attributes.
    ///
    /// # Errors
    /// InternalServerError where it is none of the index, which only damage can bring about.
    pub(super) fn naming(&self, keys: Document, document: &Document) -> Result<Document, Failure> {
        let Some((_, index)) = self.index else { return Ok(keys) };
        let value =
            index.value(document).ok_or_else(|| Failure::internal("an entry of an index is none of its item"))?;
        with_value(&keys, index, &value)
    }

    /// The attributes that name this place; none where it is a bound between places.
    pub(super) fn naming_place(&self, place: &PackedKey) -> Option<Document> {
        let Some((_, index)) = self.index else { return key_document(place, &self.table).ok() };
        let (key, value) = read_index_entry(place).ok()?;
        let keys = key_document(&key, &self.table).ok()?;
        with_value(&keys, index, &value).ok()
    }
}

/// The attribute by which an index is ordered.
fn index_attribute(index: &LocalIndex) -> KeyAttribute<'_> {
    KeyAttribute { name: &index.attribute, key_type: index.key_type }
}

/// The key attributes of an item, and the index's attribute with this value.
fn with_value(keys: &Document, index: &LocalIndex, value: &KeyValue) -> Result<Document, Failure> {
    let build = || -> Result<Document, BuildError> {
        let mut builder = Builder::with_capacity(keys.as_bytes().len() + 64);
        for (name, node) in keys.entries() {
            builder.name(name)?;
            builder.node(node)?;
        }
        write_key_attribute(&mut builder, &index.attribute, value)?;
        builder.finish()
    };
    build().map_err(|error| Failure::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dynamodb::attribute_value::read_item;
    use crate::domain::key::KeyType;
    use crate::domain::local_index::IndexProjection;

    fn table() -> TableSpecification {
        TableSpecification {
            sort_type: Some(KeyType::Integer),
            local_indexes: vec![LocalIndex::of("by-rank", "rank", KeyType::Bytes, IndexProjection::KeysOnly)],
            ..TableSpecification::new(KeyType::String)
        }
    }

    fn attributes(json: &str) -> Document {
        read_item(json.as_bytes()).unwrap()
    }

    #[test]
    fn places_are_named_and_found_again() {
        let table = table();
        let index = Source::find(&table, Some("by-rank")).unwrap();
        let named = attributes(r#"{"id":{"S":"a"},"sort":{"N":"7"},"rank":{"B":"AAE="}}"#);
        let place = index.place(&named).unwrap();
        assert_eq!(index.naming_place(&place), Some(named.clone()));
        let keys = attributes(r#"{"id":{"S":"a"},"sort":{"N":"7"}}"#);
        let document = attributes(r#"{"rank":{"B":"AAE="},"other":{"S":"x"}}"#);
        assert_eq!(index.naming(keys.clone(), &document).unwrap(), named);
        assert_eq!(index.naming_place(&PackedKey::hash_floor(7)), None);

        let itself = Source::find(&table, None).unwrap();
        let place = itself.place(&keys).unwrap();
        assert_eq!(itself.naming_place(&place), Some(keys.clone()));
        assert_eq!(itself.naming(keys.clone(), &document).unwrap(), keys);
    }

    #[test]
    fn an_index_shows_what_it_projects_and_the_table_everything() {
        let table = table();
        let document = attributes(r#"{"rank":{"B":"AAE="},"other":{"S":"x"}}"#);
        let index = Source::find(&table, Some("by-rank")).unwrap();
        assert_eq!(*index.shown(&document), attributes(r#"{"rank":{"B":"AAE="}}"#));
        assert_eq!(*Source::find(&table, None).unwrap().shown(&document), document);
        assert_eq!((index.schema().names(), index.position()), (["id", "rank"], Some(0)));
    }
}
