//! A record, flat: every value under a name of its own. This one table of columns makes the JSON that is posted and written to files,
//! the columns of Parquet files, and the statements for PostgreSQL, so that a value has the same name everywhere.
//!
//! Others build on these names: a column is added at the end of its group and never renamed, removed or given another meaning. With a new
//! one go a line in `docs/REPORTING.md`, a migration for PostgreSQL, and nothing else; tests hold all of them together.
//!
//! In JSON a value that is not known is `null`, so that every line of a kind has the same fields; `kind` comes first, as lines of
//! several kinds may stand in one stream.
//!
//! Rejected: serde on structures made for this. Five kinds in four forms would be twenty structures that say the same.

use serde::ser::{Serialize, SerializeMap, Serializer};
use uuid::Uuid;

use crate::domain::usage::Component;
use crate::domain::usage::record::{Record, RecordBody};

/// The kinds of records, as one chooses them for a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// What was served.
    Usage,
    /// How ranges were.
    Range,
    /// How nodes were.
    Node,
    /// Notices of control.
    Notice,
    /// What admins did.
    AdminEvent,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [RecordKind; 5] = [Self::Usage, Self::Range, Self::Node, Self::Notice, Self::AdminEvent];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Range => "range",
            Self::Node => "node",
            Self::Notice => "notice",
            Self::AdminEvent => "admin-event",
        }
    }

    /// The kind of a record.
    pub fn of(record: &Record) -> Self {
        match record.body {
            RecordBody::Usage(_) => Self::Usage,
            RecordBody::Range(_) => Self::Range,
            RecordBody::Node(_) => Self::Node,
            RecordBody::Notice(_) => Self::Notice,
            RecordBody::AdminEvent(_) => Self::AdminEvent,
        }
    }
}

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A UUID.
    Id,
    /// Text.
    Text,
    /// A count.
    Number,
    /// Several counts, in an order that means something.
    Numbers,
    /// Milliseconds since 1970.
    Milliseconds,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What stands in it.
    pub holds: Type,
    /// Whether it may be unknown.
    pub is_optional: bool,
}

const fn always(name: &'static str, holds: Type) -> Column {
    Column { name, holds, is_optional: false }
}

const fn perhaps(name: &'static str, holds: Type) -> Column {
    Column { name, holds, is_optional: true }
}

const fn number(name: &'static str) -> Column {
    always(name, Type::Number)
}

const HEAD: &[Column] = &[always("id", Type::Id), number("sequence"), always("at_ms", Type::Milliseconds)];
const COMPONENT: &[Column] = &[always("component_role", Type::Text), always("component_id", Type::Id)];
const PLACE: &[Column] = &[
    always("tenant_id", Type::Id),
    perhaps("tenant_name", Type::Text),
    perhaps("table_id", Type::Id),
    perhaps("table_name", Type::Text),
];
const USAGE: &[Column] = &[
    perhaps("principal_id", Type::Id),
    always("operation", Type::Text),
    always("result", Type::Text),
    number("requests"),
    number("read_bytes"),
    number("written_bytes"),
    number("read_half_units"),
    number("write_units"),
    number("latency_sum_us"),
    always("latency_buckets", Type::Numbers),
];
const RANGE: &[Column] = &[
    always("range_id", Type::Id),
    number("items"),
    number("stored_bytes"),
    number("file_bytes"),
    number("log_bytes"),
    number("lag_entries"),
];
const NODE: &[Column] = &[
    number("cache_hits"),
    number("cache_misses"),
    number("queue_age_us"),
    number("rejections"),
    number("syncs"),
    number("sync_us"),
    number("log_bytes"),
    number("disk_free_bytes"),
    number("disk_bytes"),
    number("lag_entries"),
];
const EVENT: &[Column] = &[always("what", Type::Text), always("subject", Type::Text), always("message", Type::Text)];

/// The columns of a kind, in their order.
pub fn columns(kind: RecordKind) -> impl Iterator<Item = &'static Column> {
    let groups: &[&[Column]] = match kind {
        RecordKind::Usage => &[HEAD, COMPONENT, PLACE, USAGE],
        RecordKind::Range => &[HEAD, COMPONENT, PLACE, RANGE],
        RecordKind::Node => &[HEAD, COMPONENT, NODE],
        RecordKind::Notice | RecordKind::AdminEvent => &[HEAD, EVENT],
    };
    groups.iter().copied().flatten()
}

/// What stands in one column of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// It is not known.
    Absent,
    /// A UUID.
    Id(Uuid),
    /// Text.
    Text(&'a str),
    /// A count, or a time.
    Number(u64),
    /// Several counts.
    Numbers(&'a [u64]),
}

/// The values of a record, in the order of the columns of its kind.
pub fn row(record: &Record) -> Vec<Value<'_>> {
    use Value::{Id, Number, Numbers, Text};
    let mut row = vec![Id(record.id), Number(record.sequence), Number(record.at_ms)];
    match &record.body {
        RecordBody::Usage(usage) => {
            let (key, counts) = (&usage.key, &usage.counts);
            row.extend(component(&usage.component));
            let table = key.table.map(|table| table.0);
            row.extend([Id(key.tenant.0), text(&usage.tenant_name), id(table), text(&usage.table_name)]);
            row.extend([id(key.principal.map(|principal| principal.0))]);
            row.extend([Text(key.operation.word()), Text(key.result.word())]);
            row.extend([counts.requests, counts.read_bytes, counts.written_bytes].map(Number));
            row.extend([counts.read_half_units, counts.write_units, counts.latency.sum_us].map(Number));
            row.push(Numbers(&counts.latency.buckets));
        }
        RecordBody::Range(range) => {
            let gauge = &range.gauge;
            row.extend(component(&range.component));
            row.extend([Id(gauge.tenant.0), text(&range.tenant_name), Id(gauge.table.0), text(&range.table_name)]);
            row.push(Id(gauge.range.0));
            row.extend([gauge.items, gauge.stored_bytes, gauge.file_bytes].map(Number));
            row.extend([gauge.log_bytes, gauge.lag_entries].map(Number));
        }
        RecordBody::Node(node) => {
            let gauge = &node.gauge;
            row.extend(component(&node.component));
            row.extend([gauge.cache_hits, gauge.cache_misses, gauge.queue_age_us, gauge.rejections].map(Number));
            row.extend([gauge.syncs, gauge.sync_us, gauge.log_bytes].map(Number));
            row.extend([gauge.disk_free_bytes, gauge.disk_bytes, gauge.lag_entries].map(Number));
        }
        RecordBody::Notice(event) | RecordBody::AdminEvent(event) => {
            row.extend([&event.what, &event.subject, &event.message].map(|words| Text(words)));
        }
    }
    row
}

fn component(component: &Component) -> [Value<'static>; 2] {
    [Value::Text(component.role.word()), Value::Id(component.id)]
}

fn text(text: &Option<String>) -> Value<'_> {
    text.as_deref().map_or(Value::Absent, Value::Text)
}

fn id(id: Option<Uuid>) -> Value<'static> {
    id.map_or(Value::Absent, Value::Id)
}

struct Flat<'a>(&'a Record);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = RecordKind::of(self.0);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", kind.word())?;
        for (column, value) in columns(kind).zip(row(self.0)) {
            match value {
                Value::Absent => map.serialize_entry(column.name, &())?,
                Value::Id(id) => map.serialize_entry(column.name, &id)?,
                Value::Text(text) => map.serialize_entry(column.name, text)?,
                Value::Number(number) => map.serialize_entry(column.name, &number)?,
                Value::Numbers(numbers) => map.serialize_entry(column.name, numbers)?,
            }
        }
        map.end()
    }
}

/// Writes a record as one JSON object, without any line end.
pub fn write_json(record: &Record, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &Flat(record)).expect("names and plain values are JSON, and memory takes them");
}

/// Records as JSON lines.
pub fn json_lines<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        write_json(record, &mut lines);
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::samples::{any_record, read_back, record};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_reads_back_as_the_record(record in any_record()) {
            let mut line = Vec::new();
            write_json(&record, &mut line);
            prop_assert!(!line.contains(&b'\n'), "one line");
            prop_assert_eq!(read_back(&line), record);
        }

        #[test]
        fn values_stand_under_their_columns(record in any_record()) {
            let columns: Vec<_> = columns(RecordKind::of(&record)).collect();
            let row = row(&record);
            prop_assert_eq!(columns.len(), row.len());
            for (column, value) in columns.iter().zip(&row) {
                let fits = match value {
                    Value::Absent => column.is_optional,
                    Value::Id(_) => column.holds == Type::Id,
                    Value::Text(_) => column.holds == Type::Text,
                    Value::Number(_) => matches!(column.holds, Type::Number | Type::Milliseconds),
                    Value::Numbers(_) => column.holds == Type::Numbers,
                };
                prop_assert!(fits, "{}: {value:?}", column.name);
            }
        }
    }

    /// Receivers were written for these lines: they may get more fields, at the end of a group, and nothing else.
    #[test]
    fn lines_look_as_they_always_did() {
        let lines = String::from_utf8(json_lines(&RecordKind::ALL.map(|kind| record(kind, 7)))).unwrap();
        assert_eq!(lines, include_str!("lines.jsonl"));
    }

    #[test]
    fn the_documents_name_every_field() {
        let document = include_str!("../../docs/REPORTING.md");
        for kind in RecordKind::ALL {
            for column in columns(kind) {
                assert!(document.contains(&format!("| `{}` |", column.name)), "{} of {}", column.name, kind.word());
            }
        }
    }
}
