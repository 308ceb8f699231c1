//! What calls consume, as answers tell it. Units are those of [`Cost`]: a read unit for each begun 4 KiB of an item (half of it
//! where the read may lag), a write unit for each begun KiB of the item before or after a write, whichever is the larger.
//! Indexes consume as tables do, by the size of what they show of an item ([`super::index_units`] for writes).
//!
//! ```json
//! {"TableName":"Music","CapacityUnits":1.5,"Table":{"CapacityUnits":1.0},
//!  "LocalSecondaryIndexes":{"by-year":{"CapacityUnits":0.5}}}
//! ```
//!
//! `Table` and `LocalSecondaryIndexes` stand there only where INDEXES was asked for, and of the indexes only those that
//! consumed anything. The table is called as the request called it, by its name or its ARN. Everything is counted in half
//! units, so that nothing is rounded.

use super::request::ReturnConsumedCapacity;
use crate::domain::document::Document;
use crate::domain::json;
use crate::domain::usage::Cost;
use crate::services::ports::Consistency;

/// What was consumed by a table and by its indexes, in half units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumed {
    /// By the table itself.
    pub table: u64,
    /// By its indexes, by name: only those that consumed anything.
    pub indexes: Vec<(String, u64)>,
}

impl Consumed {
    /// What a call consumes that touches no index.
    pub fn of_table(half_units: u64) -> Self {
        Self { table: half_units, indexes: Vec::new() }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.table + self.indexes.iter().map(|(_, half_units)| half_units).sum::<u64>()
    }

    /// Adds what something else consumed of the same table.
    pub fn add(&mut self, other: &Consumed) {
        self.table += other.table;
        for (name, half_units) in &other.indexes {
            match self.indexes.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += half_units,
                None => self.indexes.push((name.clone(), *half_units)),
            }
        }
    }
}

/// The size of an item for limits and units: its attributes, those of the key included.
pub fn item_bytes(keys: &Document, document: &Document) -> u64 {
    (keys.item_size() + document.item_size()) as u64
}

/// What it costs to read items of so many bytes together; or to find none.
pub fn read_cost(bytes: u64, consistency: Consistency) -> Cost {
    Cost::read(bytes, consistency == Consistency::Strong)
}

/// Half units of everything in it.
pub fn half_units(cost: &Cost) -> u64 {
    cost.read_half_units + 2 * cost.write_units
}

/// Appends a `ConsumedCapacity` object for the table of this name. Nothing is asked for with NONE; the caller looks at that.
pub fn write_consumed(json: &mut Vec<u8>, table: &str, consumed: &Consumed, wanted: ReturnConsumedCapacity) {
    json.extend_from_slice(b"{\"TableName\":");
    json::write_string(json, table);
    json.push(b',');
    write_units(json, consumed.total());
    if wanted == ReturnConsumedCapacity::Indexes {
        json.extend_from_slice(b",\"Table\":{");
        write_units(json, consumed.table);
        json.push(b'}');
        if !consumed.indexes.is_empty() {
            write_indexes(json, &consumed.indexes);
        }
    }
    json.push(b'}');
}

fn write_indexes(json: &mut Vec<u8>, indexes: &[(String, u64)]) {
    json.extend_from_slice(b",\"LocalSecondaryIndexes\":{");
    for (place, (name, half_units)) in indexes.iter().enumerate() {
        if place > 0 {
            json.push(b',');
        }
        json::write_string(json, name);
        json.extend_from_slice(b":{");
        write_units(json, *half_units);
        json.push(b'}');
    }
    json.push(b'}');
}

/// Appends half units as units: `"CapacityUnits":1.0`, `"CapacityUnits":0.5`.
fn write_units(json: &mut Vec<u8>, half_units: u64) {
    let fraction = if half_units.is_multiple_of(2) { ".0" } else { ".5" };
    json.extend_from_slice(b"\"CapacityUnits\":");
    json.extend_from_slice((half_units / 2).to_string().as_bytes());
    json.extend_from_slice(fraction.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(consumed: &Consumed, wanted: ReturnConsumedCapacity) -> String {
        let mut json = Vec::new();
        write_consumed(&mut json, "Music", consumed, wanted);
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn objects_are_those_of_the_protocol() {
        let half = Consumed::of_table(1);
        assert_eq!(written(&half, ReturnConsumedCapacity::Total), r#"{"TableName":"Music","CapacityUnits":0.5}"#);
        assert_eq!(
            written(&Consumed::of_table(20), ReturnConsumedCapacity::Indexes),
            r#"{"TableName":"Music","CapacityUnits":10.0,"Table":{"CapacityUnits":10.0}}"#
        );
    }

    #[test]
    fn indexes_are_told_apart_where_that_is_asked_for() {
        let indexes = vec![("by-year".to_owned(), 3), ("by-\"name\"".to_owned(), 2)];
        let consumed = Consumed { table: 0, indexes };
        assert_eq!(written(&consumed, ReturnConsumedCapacity::Total), r#"{"TableName":"Music","CapacityUnits":2.5}"#);
        assert_eq!(
            written(&consumed, ReturnConsumedCapacity::Indexes),
            r#"{"TableName":"Music","CapacityUnits":2.5,"Table":{"CapacityUnits":0.0},"LocalSecondaryIndexes":{"by-year":{"CapacityUnits":1.5},"by-\"name\"":{"CapacityUnits":1.0}}}"#
        );
    }

    #[test]
    fn what_several_consumed_adds_up_by_name() {
        let mut sum = Consumed::of_table(2);
        sum.add(&Consumed { table: 1, indexes: vec![("one".to_owned(), 2), ("two".to_owned(), 4)] });
        sum.add(&Consumed { table: 0, indexes: vec![("two".to_owned(), 1)] });
        assert_eq!(sum, Consumed { table: 3, indexes: vec![("one".to_owned(), 2), ("two".to_owned(), 5)] });
        assert_eq!(sum.total(), 10);
    }

    #[test]
    fn reads_that_may_lag_cost_half() {
        for (bytes, strong) in [(0, 2), (4096, 2), (4097, 4)] {
            assert_eq!(half_units(&read_cost(bytes, Consistency::Strong)), strong, "{bytes}");
            assert_eq!(half_units(&read_cost(bytes, Consistency::Eventual)), strong / 2, "{bytes}");
        }
        assert_eq!(half_units(&Cost::write(1025, true)), 4);
    }
}
