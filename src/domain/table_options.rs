//! What a table may be told besides its keys: when its items expire, whether it may be deleted, what it is labelled with,
//! and what its owner says that it will use. All of it has a default, and what is at its default is not written: a table
//! that was never told any of this stands in the coordinator in the same bytes as before there was any of it.
//!
//! Capacity and class are kept and shown, since tools set them and read them back; nothing is reserved, refused or
//! placed by them. What a tenant may use at most is another thing ([`super::tenant_limits`]).
//!
//! An item has expired when the attribute that its table names holds a time in the past, in whole seconds since
//! 1970. Anything else there (text, a time in milliseconds, one more than five years ago) means that the item
//! never expires: a mistake must not delete a table.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::ambient::Timestamp;
use super::document::{Document, Node};
use super::key::{KeyValue, PackedKey};
use super::refusal::Refusal;
use super::table::{TableChange, TableSpecification};

/// Labels of a table, at most.
pub const TAGS_MAX: usize = 50;
/// The longest name of a label, in characters.
pub const TAG_NAME_CHARACTERS_MAX: usize = 128;
/// The longest text of a label, in characters.
pub const TAG_TEXT_CHARACTERS_MAX: usize = 256;
/// The longest name of the attribute that holds when an item expires, in bytes.
pub const TIME_TO_LIVE_NAME_BYTES_MAX: usize = 255;
/// Capacity units a second that can be said, at most.
pub const CAPACITY_UNITS_MAX: u64 = 1_000_000_000_000;
/// A time to live further back than this was not meant as one: five years, in seconds.
pub const EXPIRED_SECONDS_MAX: u64 = 5 * 365 * 24 * 3600;

/// Capacity that was asked for, in units a second. A table without pays by the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throughput {
    /// Strong reads of up to 4 KiB.
    pub read: u64,
    /// Writes of up to 1 KiB.
    pub write: u64,
}

/// The class of a table's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableClass {
    /// As any table.
    #[default]
    Standard,
    /// Kept for long and seldom read.
    InfrequentAccess,
}

impl TableClass {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == TableClass::default()
    }
}

/// When options of a table were last changed, where somebody may want to know. Written by control alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OptionTimes {
    /// Since when it pays by the request, where it did not from its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_request_since: Option<Timestamp>,
    /// When its capacity was last raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised_at: Option<Timestamp>,
    /// When its capacity was last lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowered_at: Option<Timestamp>,
    /// How often it was lowered on the day of `lowered_at` (UTC).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lowered_count: u32,
    /// When its class was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_changed_at: Option<Timestamp>,
}

impl OptionTimes {
    /// Whether nothing was ever changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How often the capacity was lowered today.
    pub fn lowered_today(&self, now: Timestamp) -> u32 {
        if self.lowered_at.is_some_and(|at| day(at) == day(now)) { self.lowered_count } else { 0 }
    }

    /// Notes how a change made `after` of `before`.
    pub fn note(&mut self, before: &TableSpecification, after: &TableSpecification, now: Timestamp) {
        if before.table_class != after.table_class {
            self.class_changed_at = Some(now);
        }
        let (before, after) = match (before.throughput, after.throughput) {
            (Some(_), None) => {
                self.by_request_since = Some(now);
                return;
            }
            (Some(before), Some(after)) => (before, after),
            (None, _) => return,
        };
        if after.read > before.read || after.write > before.write {
            self.raised_at = Some(now);
        }
        if after.read < before.read || after.write < before.write {
            self.lowered_count = self.lowered_today(now).saturating_add(1);
            self.lowered_at = Some(now);
        }
    }
}

fn day(time: Timestamp) -> u64 {
    time.0 / (24 * 3600 * 1_000_000)
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Reads what was given although it may be null: `None` is left to what was not given at all.
pub(super) fn given<'de, D, T>(reader: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(reader).map(Some)
}

impl TableSpecification {
    /// Checks what stands in this file, and local indexes: all but keys, replicas and ranges.
    ///
    /// # Errors
    /// `BadInput` that names the rule.
    pub fn check_options(&self) -> Result<(), Refusal> {
        check_time_to_live(self.time_to_live.as_deref())?;
        check_throughput(self.throughput)?;
        check_tags(&self.tags)?;
        super::local_index::check_all(self)
    }
}

impl TableChange {
    /// Applies the change. What is not given stays.
    ///
    /// # Errors
    /// `BadInput` where it cannot be so; nothing is to be kept then.
    pub fn apply(&self, specification: &mut TableSpecification) -> Result<(), Refusal> {
        if let Some(factor) = self.replication_factor {
            super::table::check_replication_factor(factor)?;
            specification.replication_factor = Some(factor);
        }
        if let Some(attribute) = &self.time_to_live {
            specification.time_to_live.clone_from(attribute);
        }
        if let Some(throughput) = self.throughput {
            specification.throughput = throughput;
        }
        specification.deletion_protection = self.deletion_protection.unwrap_or(specification.deletion_protection);
        specification.table_class = self.table_class.unwrap_or(specification.table_class);
        for (name, text) in &self.tags {
            match text {
                Some(text) => specification.tags.insert(name.clone(), text.clone()),
                None => specification.tags.remove(name),
            };
        }
        specification.check_options()
    }
}

fn check_time_to_live(attribute: Option<&str>) -> Result<(), Refusal> {
    match attribute.map(str::len) {
        None | Some(1..=TIME_TO_LIVE_NAME_BYTES_MAX) => Ok(()),
        Some(_) => Err(Refusal::bad_input(format!(
            "time_to_live names an attribute: 1 to {TIME_TO_LIVE_NAME_BYTES_MAX} bytes, or null for none"
        ))),
    }
}

fn check_throughput(throughput: Option<Throughput>) -> Result<(), Refusal> {
    let is_good = |units: u64| (1..=CAPACITY_UNITS_MAX).contains(&units);
    match throughput {
        Some(Throughput { read, write }) if !is_good(read) || !is_good(write) => Err(Refusal::bad_input(format!(
            "read and write of throughput are 1 to {CAPACITY_UNITS_MAX} units a second"
        ))),
        _ => Ok(()),
    }
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if tags.len() > TAGS_MAX {
        return Err(Refusal::bad_input(format!("a table has at most {TAGS_MAX} tags, and would have {}", tags.len())));
    }
    for (name, text) in tags {
        if !(1..=TAG_NAME_CHARACTERS_MAX).contains(&name.chars().count()) {
            return Err(Refusal::bad_input(format!("the name of a tag has 1 to {TAG_NAME_CHARACTERS_MAX} characters")));
        }
        if text.chars().count() > TAG_TEXT_CHARACTERS_MAX {
            return Err(Refusal::bad_input(format!(
                "the text of a tag has at most {TAG_TEXT_CHARACTERS_MAX} characters"
            )));
        }
    }
    Ok(())
}

impl TableSpecification {
    /// When this item expires, in seconds since 1970; none where it never does.
    pub fn expires_at(&self, key: &PackedKey, document: &Document) -> Option<i64> {
        let attribute = self.time_to_live.as_deref()?;
        if let Some(part) = self.key_part(attribute, key) {
            return match part {
                KeyValue::Integer(number) => seconds(&number.to_text()),
                KeyValue::String(_) | KeyValue::Bytes(_) => None,
            };
        }
        match document.get(attribute) {
            Some(Node::Number(text)) => seconds(text),
            _ => None,
        }
    }

    /// Whether this item has expired: readers no longer see it, and it is about to be removed.
    pub fn has_expired(&self, key: &PackedKey, document: &Document, now: Timestamp) -> bool {
        self.expires_at(key, document).is_some_and(|at| is_past(at, now))
    }

    /// The part of the key that goes by this name.
    fn key_part(&self, attribute: &str, key: &PackedKey) -> Option<KeyValue> {
        let is_sort = self.sort_type.is_some() && self.sort_name == attribute;
        if !is_sort && self.id_name != attribute {
            return None;
        }
        let (id, sort) = key.decode().ok()?;
        if is_sort { sort } else { Some(id) }
    }
}

/// Whether an item that expires at this second has.
pub fn is_past(expires_at: i64, now: Timestamp) -> bool {
    let now = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
    expires_at < now && now - expires_at.max(0) <= EXPIRED_SECONDS_MAX as i64
}

/// Whole seconds of a number's canonical text, which has no exponent.
fn seconds(text: &str) -> Option<i64> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    whole.parse().ok().filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::KeyType;
    use proptest::prelude::*;

    fn specification() -> TableSpecification {
        TableSpecification::new(KeyType::String)
    }

    fn key(id: &str) -> PackedKey {
        PackedKey::new(&KeyValue::String(id.into()), None)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn what_is_at_its_default_is_not_written() {
        let plain = specification();
        let text = r#"{"id_type":"String","id_name":"id","sort_name":"sort"}"#;
        assert_eq!(serde_json::to_string(&plain).unwrap(), text);
        assert_eq!(serde_json::from_str::<TableSpecification>(text).unwrap(), plain);
        let told = TableSpecification {
            time_to_live: Some("until".into()),
            deletion_protection: true,
            throughput: Some(Throughput { read: 5, write: 6 }),
            table_class: TableClass::InfrequentAccess,
            tags: BTreeMap::from([("team".into(), "blue".into())]),
            ..plain
        };
        let text = r#"{"id_type":"String","id_name":"id","sort_name":"sort","throughput":{"read":5,"write":6},"table_class":"infrequent-access","deletion_protection":true,"time_to_live":"until","tags":{"team":"blue"}}"#;
        assert_eq!(serde_json::to_string(&told).unwrap(), text);
        assert_eq!(serde_json::from_str::<TableSpecification>(text).unwrap(), told);
        assert_eq!(serde_json::to_string(&OptionTimes::default()).unwrap(), "{}");
    }

    #[test]
    fn a_change_sets_clears_and_leaves() {
        let mut table = specification();
        let change = |text: &str| serde_json::from_str::<TableChange>(text).unwrap();
        let set = change(r#"{"time_to_live":"until","throughput":{"read":1,"write":2},"tags":{"a":"1","b":"2"}}"#);
        set.apply(&mut table).unwrap();
        assert_eq!(table.time_to_live.as_deref(), Some("until"));
        let before = table.clone();
        change("{}").apply(&mut table).unwrap();
        assert_eq!(table, before);
        change(r#"{"deletion_protection":true,"tags":{"a":null}}"#).apply(&mut table).unwrap();
        assert!(table.deletion_protection);
        assert_eq!(table.tags, BTreeMap::from([("b".to_owned(), "2".to_owned())]));
        change(r#"{"time_to_live":null,"throughput":null,"tags":{"b":null},"deletion_protection":false}"#)
            .apply(&mut table)
            .unwrap();
        assert_eq!(table, specification());
        for change in [set, change(r#"{"time_to_live":null}"#), change("{}")] {
            let text = serde_json::to_string(&change).unwrap();
            assert_eq!(serde_json::from_str::<TableChange>(&text).unwrap(), change, "{text}");
        }
    }

    #[test]
    fn rules_are_held() {
        for bad in [
            r#"{"time_to_live":""}"#.to_owned(),
            format!(r#"{{"time_to_live":"{}"}}"#, "x".repeat(256)),
            r#"{"throughput":{"read":0,"write":1}}"#.to_owned(),
            r#"{"throughput":{"read":1,"write":1000000000001}}"#.to_owned(),
            r#"{"replication_factor":2}"#.to_owned(),
            r#"{"tags":{"":"x"}}"#.to_owned(),
            format!(r#"{{"tags":{{"{}":"x"}}}}"#, "ä".repeat(129)),
            format!(r#"{{"tags":{{"a":"{}"}}}}"#, "ä".repeat(257)),
        ] {
            let change: TableChange = serde_json::from_str(&bad).unwrap();
            assert!(change.apply(&mut specification()).is_err(), "{bad}");
        }
        let tags = |count: usize| (0..count).map(|tag| (tag.to_string(), Some(String::new()))).collect();
        assert!(TableChange { tags: tags(50), ..TableChange::default() }.apply(&mut specification()).is_ok());
        assert!(TableChange { tags: tags(51), ..TableChange::default() }.apply(&mut specification()).is_err());
    }

    #[test]
    fn an_item_expires_by_its_attribute() {
        let table = TableSpecification { time_to_live: Some("until".into()), ..specification() };
        let now = at(1_800_000_000);
        let has = |text: &str| {
            let document = Document::from_json(text.as_bytes()).unwrap();
            table.has_expired(&key("a"), &document, now)
        };
        for expired in [r#"{"until":1799999999}"#, r#"{"until":1799999999.9}"#, r#"{"until":1700000000}"#] {
            assert!(has(expired), "{expired}");
        }
        for alive in [
            "{}",
            r#"{"until":1800000000}"#,
            r#"{"until":1800000001}"#,
            r#"{"until":"1700000000"}"#,
            r#"{"until":1799999999000}"#,
            r#"{"until":0}"#,
            r#"{"until":-1799999999}"#,
            r#"{"until":1}"#,
            r#"{"until":1642000000}"#,
            r#"{"until":null}"#,
            r#"{"until":1e30}"#,
            r#"{"other":1700000000}"#,
        ] {
            assert!(!has(alive), "{alive}");
        }
        let document = Document::from_json(br#"{"until":1700000000}"#).unwrap();
        assert!(!specification().has_expired(&key("a"), &document, now), "a table without a time to live");
    }

    #[test]
    fn the_attribute_may_be_one_of_the_keys() {
        let table = TableSpecification {
            sort_type: Some(KeyType::Integer),
            time_to_live: Some("sort".into()),
            ..specification()
        };
        let number = |text: &str| KeyValue::Integer(crate::domain::number::Number::parse(text).unwrap());
        let key = PackedKey::new(&KeyValue::String("a".into()), Some(&number("1700000000")));
        assert_eq!(table.expires_at(&key, &Document::empty()), Some(1_700_000_000));
        let by_text = TableSpecification { time_to_live: Some("id".into()), ..specification() };
        let document = Document::from_json(br#"{"id":1700000000}"#).unwrap();
        assert_eq!(by_text.expires_at(&key_of_text(), &document), None, "the key says what the attribute is");
    }

    fn key_of_text() -> PackedKey {
        key("1700000000")
    }

    #[test]
    fn times_of_capacity() {
        let with = |read| TableSpecification { throughput: Some(Throughput { read, write: 5 }), ..specification() };
        let mut times = OptionTimes::default();
        let noon = at(20_000 * 86_400);
        times.note(&with(5), &with(9), noon);
        assert_eq!((times.raised_at, times.lowered_at, times.lowered_today(noon)), (Some(noon), None, 0));
        times.note(&with(9), &with(3), noon);
        times.note(&with(3), &with(2), noon.plus_seconds(60));
        assert_eq!(times.lowered_today(noon.plus_seconds(60)), 2);
        assert_eq!(times.lowered_today(noon.plus_seconds(86_400)), 0);
        times.note(&with(2), &specification(), noon);
        assert_eq!(times.by_request_since, Some(noon));
        times.note(&specification(), &with(2), noon);
        assert_eq!(times.lowered_today(noon), 2);
    }

    proptest! {
        #[test]
        fn only_the_last_five_years_count(expires_at in any::<i64>(), now in 0u64..1 << 40) {
            let expected = expires_at > 0
                && (expires_at as u64) < now
                && now - expires_at as u64 <= EXPIRED_SECONDS_MAX;
            let table = TableSpecification { time_to_live: Some("until".into()), ..specification() };
            let document = Document::from_json(format!(r#"{{"until":{expires_at}}}"#).as_bytes()).unwrap();
            prop_assert_eq!(table.has_expired(&key("a"), &document, at(now)), expected);
        }
    }
}
