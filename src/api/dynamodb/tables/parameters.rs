//! Parts of bodies that several operations on tables take: lists of structures, capacity, the name of a table alone.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::invalid;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Constraints, Count, Raw, Text};
use crate::domain::table_options::{
    CAPACITY_UNITS_MAX, TAG_NAME_CHARACTERS_MAX, TAG_TEXT_CHARACTERS_MAX, TAGS_MAX, TableClass, Throughput,
};

/// What AWS keeps for tags of its own, in upper and lower case; users cannot give such (developer guide, "Tagging restrictions").
const TAG_PREFIX_OF_AWS: &str = "aws:";

/// Reads a list of structures; none where it is not given.
pub(super) fn list_of<'a, T: Deserialize<'a>>(list: Raw<'a>) -> Result<Option<Vec<T>>, Failure> {
    let Some(list) = list else { return Ok(None) };
    match list.get().as_bytes().first() {
        Some(b'[') => {}
        Some(b'{') => return Err(Failure::serialization("Start of structure or map found where not expected")),
        _ => return Err(Failure::serialization("Unexpected field type")),
    }
    let parts: Vec<&'a RawValue> = serde_json::from_str(list.get()).map_err(|_| Failure::not_json())?;
    parts.into_iter().map(request::parse_part).collect::<Result<Vec<T>, Failure>>().map(Some)
}

/// Reads a structure; none where it is not given.
pub(super) fn structure<'a, T: Deserialize<'a>>(part: Raw<'a>) -> Result<Option<T>, Failure> {
    part.map(request::parse_part).transpose()
}

/// A body that names a table and nothing else.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TableOnly<'a> {
    #[serde(borrow)]
    pub(super) table_name: Text<'a>,
}

impl<'a> TableOnly<'a> {
    /// Reads and checks it.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Failure> {
        let asked: Self = request::parse(body)?;
        let mut constraints = Constraints::new();
        request::check_table_name(&mut constraints, &asked.table_name);
        constraints.finish()?;
        Ok(asked)
    }
}

/// How a table is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BillingMode {
    Provisioned,
    PayPerRequest,
}

impl BillingMode {
    /// Its words.
    pub(super) const WORDS: &'static [(&'static str, BillingMode)] =
        &[("PROVISIONED", BillingMode::Provisioned), ("PAY_PER_REQUEST", BillingMode::PayPerRequest)];
}

/// The words of TableClass.
pub(super) const TABLE_CLASSES: &[(&str, TableClass)] =
    &[("STANDARD", TableClass::Standard), ("STANDARD_INFREQUENT_ACCESS", TableClass::InfrequentAccess)];

/// The word of this class.
pub(super) fn class_word(class: TableClass) -> &'static str {
    TABLE_CLASSES.iter().find(|(_, known)| *known == class).map_or("STANDARD", |(word, _)| word)
}

/// ProvisionedThroughput.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct AskedThroughput {
    read_capacity_units: Count,
    write_capacity_units: Count,
}

impl AskedThroughput {
    /// Notes what the model does not allow.
    pub(super) fn check(&self, constraints: &mut Constraints) {
        for (place, units) in [
            ("provisionedThroughput.readCapacityUnits", self.read_capacity_units),
            ("provisionedThroughput.writeCapacityUnits", self.write_capacity_units),
        ] {
            constraints.required(place, units.0.as_ref());
            constraints.within(place, units, 1, i64::MAX);
        }
    }

    /// What is asked for, within bounds.
    pub(super) fn throughput(&self) -> Result<Throughput, Failure> {
        let units = |name: &str, units: Count| {
            let units = units.0.and_then(|units| u64::try_from(units).ok()).unwrap_or_default();
            let out = || Failure::validation(format!("Given value {units} for {name} is out of bounds"));
            if units > CAPACITY_UNITS_MAX { Err(out()) } else { Ok(units) }
        };
        Ok(Throughput {
            read: units("ReadCapacityUnits", self.read_capacity_units)?,
            write: units("WriteCapacityUnits", self.write_capacity_units)?,
        })
    }
}

/// The refusal of capacity for a table that pays by the request.
pub(super) fn no_capacity_by_request() -> Failure {
    invalid("Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
}

/// The refusal of a table that pays for capacity and does not say for how much.
pub(super) fn capacity_is_missing() -> Failure {
    invalid("ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED")
}

/// A tag.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Tag<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    value: Text<'a>,
}

/// Notes what the model does not allow of tags.
pub(super) fn check_tags(constraints: &mut Constraints, tags: &[Tag<'_>]) {
    for (number, tag) in (1..).zip(tags) {
        let (key, value) = (format!("tags.{number}.member.key"), format!("tags.{number}.member.value"));
        match tag.key.get() {
            None => constraints.missing(&key),
            Some(text) => constraints.length(&key, text, 1, TAG_NAME_CHARACTERS_MAX),
        }
        match tag.value.get() {
            None => constraints.missing(&value),
            Some(text) => constraints.length(&value, text, 0, TAG_TEXT_CHARACTERS_MAX),
        }
    }
}

/// The tags by their names, of which there is each but once.
pub(super) fn tag_map(tags: &[Tag<'_>]) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for tag in tags {
        let (key, value) = (tag.key.get().unwrap_or_default(), tag.value.get().unwrap_or_default());
        if is_of_aws(key) {
            return Err(invalid(format!("Tag keys that begin with {TAG_PREFIX_OF_AWS} cannot be given: {key}")));
        }
        if map.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(invalid(format!("Duplicate tag key: {key}")));
        }
    }
    check_tag_count(map.len())?;
    Ok(map)
}

fn is_of_aws(key: &str) -> bool {
    key.get(..TAG_PREFIX_OF_AWS.len()).is_some_and(|start| start.eq_ignore_ascii_case(TAG_PREFIX_OF_AWS))
}

/// Checks how many tags a table would have.
pub(super) fn check_tag_count(count: usize) -> Result<(), Failure> {
    if count > TAGS_MAX {
        return Err(invalid(format!("A table has at most {TAGS_MAX} tags, and would have {count}")));
    }
    Ok(())
}
