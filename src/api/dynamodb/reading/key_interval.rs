//! What a query says of keys, as an interval of packed keys, or of an index's entries. The partition key is one value; the sort
//! key, or the index's attribute, if anything is said of it, has bounds. Keys of one ID sort as their sort keys do and entries
//! as the attribute does, so every condition that a query can have is one interval.
//!
//! All that has one value lies between the value's floor and its ceiling: in a table one key, in an index any number of
//! entries ([`KeyOrder`]). Every interval begins and ends at floors and ceilings, and nothing else tells a table from an index.

use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::table_lookup::{KeyAttribute, KeySchema, check_key_part};
use crate::domain::key::{KeyType, KeyValue, PackedKey, SortInterval, index_prefix_interval, index_value_interval};
use crate::expression::{KeyCondition, KeyRange, Value};

/// What the places of items are, in the order in which they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrder {
    /// Packed keys of the table.
    Table,
    /// Entries of an index.
    Index,
}

impl KeyOrder {
    /// The first place that this value can have with this ID, and the first behind all that it has.
    fn of_value(self, id: &KeyValue, value: &KeyValue) -> (PackedKey, PackedKey) {
        match self {
            KeyOrder::Table => {
                let key = PackedKey::new(id, Some(value));
                let end = key.successor();
                (key, end)
            }
            KeyOrder::Index => index_value_interval(id, value),
        }
    }

    /// The same for all values that begin with this one, which is no number.
    fn of_prefix(self, id: &KeyValue, prefix: KeyValue) -> Result<(PackedKey, Option<PackedKey>), Failure> {
        match self {
            _ if prefix.key_type() == KeyType::Integer => Err(unsupported()),
            KeyOrder::Table => {
                let begins = SortInterval { prefix: Some(prefix), ..SortInterval::default() };
                begins.bounds(id).map_err(|_| unsupported())
            }
            KeyOrder::Index => {
                let (start, end) = index_prefix_interval(id, &prefix);
                Ok((start, Some(end)))
            }
        }
    }
}

fn unsupported() -> Failure {
    Failure::validation("Query key condition not supported")
}

/// The keys, or the entries, that a query wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueryKeys {
    /// What all keys of the ID begin with.
    id_prefix: PackedKey,
    /// The first that may be one of them.
    pub(super) start: PackedKey,
    /// The first that is none any more; none: there is no end.
    pub(super) end: Option<PackedKey>,
}

impl QueryKeys {
    /// Whether the key is one of the ID.
    pub(super) fn has_id_of(&self, key: &PackedKey) -> bool {
        key.as_bytes().starts_with(self.id_prefix.as_bytes())
    }

    /// Whether the key is one of those wanted.
    pub(super) fn contains(&self, key: &PackedKey) -> bool {
        *key >= self.start && self.end.as_ref().is_none_or(|end| key < end)
    }
}

/// The keys that a key condition wants of a table with these key attributes, or the entries of such an index.
///
/// # Errors
/// ValidationException with AWS's texts.
pub(super) fn of(condition: &KeyCondition, schema: &KeySchema<'_>, order: KeyOrder) -> Result<QueryKeys, Failure> {
    let said =
        |name: &str| condition.attributes.iter().find(|(attribute, _)| **attribute == *name).map(|(_, range)| range);
    let missed = |name: &str| Failure::validation(format!("Query condition missed key schema element: {name}"));
    if condition.attributes.len() > 2 {
        return Err(Failure::validation("Conditions can be of length 1 or 2 only"));
    }
    let on_id = said(schema.id.name).ok_or_else(|| missed(schema.id.name))?;
    let on_sort = match (condition.attributes.len(), schema.sort) {
        (0 | 1, _) => None,
        (_, None) => return Err(unsupported()),
        (_, Some(sort)) => Some((sort, said(sort.name).ok_or_else(|| missed(sort.name))?)),
    };
    check_types(on_id, schema.id)?;
    if let Some((sort, range)) = on_sort {
        check_types(range, sort)?;
    }
    let KeyRange::Equal(id) = on_id else { return Err(unsupported()) };
    let id = key_value(id, schema.id, true)?;
    match on_sort {
        None => {
            let (start, end) = PackedKey::id_interval(&id);
            Ok(QueryKeys { id_prefix: start.clone(), start, end: Some(end) })
        }
        Some((sort, range)) => of_sort(&id, sort, range, order),
    }
}

/// The keys of this ID whose sort keys lie in the range.
fn of_sort(id: &KeyValue, sort: KeyAttribute<'_>, range: &KeyRange, order: KeyOrder) -> Result<QueryKeys, Failure> {
    let (id_prefix, id_end) = PackedKey::id_interval(id);
    let of_value = |value: &Value| key_value(value, sort, false).map(|value| order.of_value(id, &value));
    let floor = |value: &Value| of_value(value).map(|(floor, _)| floor);
    let ceiling = |value: &Value| of_value(value).map(|(_, ceiling)| ceiling);
    let (start, end) = match range {
        KeyRange::Equal(value) => of_value(value)?,
        KeyRange::Less(value) => (id_prefix.clone(), floor(value)?),
        KeyRange::LessOrEqual(value) => (id_prefix.clone(), ceiling(value)?),
        KeyRange::Greater(value) => (ceiling(value)?, id_end),
        KeyRange::GreaterOrEqual(value) => (floor(value)?, id_end),
        KeyRange::Between(low, high) => (floor(low)?, ceiling(high)?),
        KeyRange::BeginsWith(value) => {
            let (start, end) = order.of_prefix(id, key_value(value, sort, false)?)?;
            return Ok(QueryKeys { id_prefix, start, end });
        }
    };
    Ok(QueryKeys { id_prefix, start, end: Some(end) })
}

/// Checks that the values are of the type of the key attribute.
fn check_types(range: &KeyRange, attribute: KeyAttribute<'_>) -> Result<(), Failure> {
    let (first, second) = match range {
        KeyRange::Equal(value)
        | KeyRange::Less(value)
        | KeyRange::LessOrEqual(value)
        | KeyRange::Greater(value)
        | KeyRange::GreaterOrEqual(value)
        | KeyRange::BeginsWith(value) => (value, None),
        KeyRange::Between(low, high) => (low, Some(high)),
    };
    let fits = |value: &Value| value.node().type_code() == attribute.key_type.type_code();
    if fits(first) && second.is_none_or(fits) {
        return Ok(());
    }
    Err(Failure::validation(
        "One or more parameter values were invalid: Condition parameter type does not match schema type",
    ))
}

/// The value as a part of a key. Its type was checked.
fn key_value(value: &Value, attribute: KeyAttribute<'_>, is_id: bool) -> Result<KeyValue, Failure> {
    let key = KeyValue::from_node(attribute.key_type, &value.node()).ok_or_else(unsupported)?;
    check_key_part(&key, attribute.name, is_id)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::index_entry;
    use proptest::prelude::*;

    const SCHEMA: KeySchema<'static> = KeySchema {
        id: KeyAttribute { name: "id", key_type: KeyType::String },
        sort: Some(KeyAttribute { name: "at", key_type: KeyType::Integer }),
    };

    fn string(text: &str) -> Value {
        Value::build(|builder| builder.string(text)).unwrap()
    }

    fn number(number: i64) -> Value {
        Value::build(|builder| builder.number(number.to_string().as_bytes())).unwrap()
    }

    fn condition(attributes: Vec<(&str, KeyRange)>) -> KeyCondition {
        KeyCondition { attributes: attributes.into_iter().map(|(name, range)| (name.into(), range)).collect() }
    }

    fn text(attributes: Vec<(&str, KeyRange)>, schema: &KeySchema<'_>) -> String {
        of(&condition(attributes), schema, KeyOrder::Table).unwrap_err().message().unwrap().to_owned()
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let id = || ("id", KeyRange::Equal(string("a")));
        let plain = KeySchema { sort: None, ..SCHEMA };
        assert_eq!(
            text(vec![("at", KeyRange::Equal(number(1)))], &SCHEMA),
            "Query condition missed key schema element: id"
        );
        assert_eq!(
            text(vec![id(), ("other", KeyRange::Equal(number(1)))], &SCHEMA),
            "Query condition missed key schema element: at"
        );
        assert_eq!(
            text(vec![id(), ("other", KeyRange::Equal(number(1)))], &plain),
            "Query key condition not supported"
        );
        assert_eq!(text(vec![("id", KeyRange::Less(string("a")))], &SCHEMA), "Query key condition not supported");
        let mismatch = "One or more parameter values were invalid: Condition parameter type does not match schema type";
        assert_eq!(text(vec![("id", KeyRange::Equal(number(1)))], &SCHEMA), mismatch);
        assert_eq!(text(vec![id(), ("at", KeyRange::Between(number(1), string("a")))], &SCHEMA), mismatch);
        assert_eq!(
            text(vec![("id", KeyRange::Equal(string("")))], &SCHEMA),
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty \
             string value. Key: id"
        );
    }

    /// Where an item with this ID and this value lies.
    fn place(order: KeyOrder, id: &str, value: KeyValue) -> PackedKey {
        let id = KeyValue::String(id.into());
        match order {
            KeyOrder::Table => PackedKey::new(&id, Some(&value)),
            KeyOrder::Index => {
                // The item's own sort key is of no account for the interval.
                let key = PackedKey::new(&id, Some(&KeyValue::String("zz".into())));
                index_entry(&key, &value).unwrap()
            }
        }
    }

    #[test]
    fn a_partition_has_all_its_keys_and_no_others() {
        for (schema, order) in [
            (SCHEMA, KeyOrder::Table),
            (SCHEMA, KeyOrder::Index),
            (KeySchema { sort: None, ..SCHEMA }, KeyOrder::Table),
        ] {
            let keys = of(&condition(vec![("id", KeyRange::Equal(string("a")))]), &schema, order).unwrap();
            let place = |id, number: i64| place(order, id, KeyValue::Integer(number.into()));
            assert!(keys.contains(&place("a", -5)) && keys.has_id_of(&place("a", 5)));
            assert!(!keys.contains(&place("b", 0)) && !keys.has_id_of(&place("b", 0)));
            assert!(!keys.has_id_of(&place("aa", 0)));
        }
    }

    #[test]
    fn beginnings_are_those_of_the_bytes() {
        let schema = KeySchema { sort: Some(KeyAttribute { name: "at", key_type: KeyType::String }), ..SCHEMA };
        let begins = condition(vec![("id", KeyRange::Equal(string("a"))), ("at", KeyRange::BeginsWith(string("ab")))]);
        for order in [KeyOrder::Table, KeyOrder::Index] {
            let keys = of(&begins, &schema, order).unwrap();
            let holds = |sort: &str| keys.contains(&place(order, "a", KeyValue::String(sort.into())));
            assert!(holds("ab") && holds("abc") && holds("ab\0") && holds("ab\u{10ffff}"));
            assert!(!holds("aa") && !holds("ac") && !holds("a") && !holds("b"));
        }
    }

    proptest! {
        #[test]
        fn intervals_hold_what_the_comparison_holds(sort in -9i64..9, low in -9i64..9, high in -9i64..9) {
            let cases = [
                (KeyRange::Equal(number(low)), sort == low),
                (KeyRange::Less(number(low)), sort < low),
                (KeyRange::LessOrEqual(number(low)), sort <= low),
                (KeyRange::Greater(number(low)), sort > low),
                (KeyRange::GreaterOrEqual(number(low)), sort >= low),
                (KeyRange::Between(number(low), number(high)), low <= sort && sort <= high),
            ];
            for (range, holds) in cases {
                let wanted = condition(vec![("at", range), ("id", KeyRange::Equal(string("a")))]);
                for order in [KeyOrder::Table, KeyOrder::Index] {
                    let keys = of(&wanted, &SCHEMA, order).unwrap();
                    let place = |id| place(order, id, KeyValue::Integer(sort.into()));
                    prop_assert_eq!(keys.contains(&place("a")), holds);
                    prop_assert!(!keys.contains(&place("b")));
                }
            }
        }
    }
}
