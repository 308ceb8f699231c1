//! Both formats read back; batches that come again in any cut; what a crash leaves.

use std::collections::BTreeMap;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use proptest::prelude::*;

use super::*;
use crate::sinks::rows::{Column, Type, Value, columns, row};
use crate::sinks::samples::{any_record, read_back, record};
use crate::sinks::testing::terms;

fn place(folder: &Path, format: FileFormat) -> Place {
    Place { folder: folder.to_owned(), format, writing: Arc::default() }
}

/// All names, and the records in all files of JSON lines, in the order of the names.
fn held(folder: &Path) -> (Vec<String>, Vec<Record>) {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let lines = |name: &String| {
        let text = std::fs::read(folder.join(name)).unwrap();
        text.split_inclusive(|byte| *byte == b'\n').map(read_back).collect::<Vec<_>>()
    };
    let records = names.iter().flat_map(lines).collect();
    (names, records)
}

#[tokio::test]
async fn a_batch_becomes_a_file_for_each_kind() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = FilesSink::new(terms(), folder.path().to_owned(), FileFormat::JsonLines);
    let records = [record(RecordKind::Usage, 1), record(RecordKind::Node, 2), record(RecordKind::Usage, 4)];
    sink.take(&records).await.unwrap();
    let names = [
        "node-00000000000000000002-00000000000000000002-20270115T080020Z-00000000.jsonl",
        "usage-00000000000000000001-00000000000000000004-20270115T080010Z-00000000.jsonl",
    ];
    let [first, second, third] = records;
    assert_eq!(held(folder.path()), (names.map(str::to_owned).to_vec(), vec![second, first, third]));
    sink.take(&[]).await.unwrap();
    drop(folder);
    let gone = sink.take(&[record(RecordKind::Usage, 5)]).await;
    assert!(matches!(gone, Err(SinkError::Later(_))), "{gone:?}");
}

#[test]
fn what_a_crash_left_is_removed_and_files_of_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join(".usage-1.jsonl.part");
    let theirs = folder.path().join("README");
    std::fs::write(&half, "half").unwrap();
    std::fs::write(&theirs, "").unwrap();
    let place = place(folder.path(), FileFormat::JsonLines);
    let records = [record(RecordKind::Usage, 1), record(RecordKind::Usage, 2)];
    place.write(&records).unwrap();
    assert!(!half.exists() && theirs.exists());
    // A reporting process that was made anew counts from 1 again: its records have other ids, and are not taken for known.
    let mut anew = records.clone();
    anew.iter_mut().for_each(|record| record.id = uuid::Uuid::from_u128(record.id.as_u128() ^ (7 << 100)));
    place.write(&anew).unwrap();
    std::fs::remove_file(theirs).unwrap();
    let (names, mut all) = held(folder.path());
    all.sort_by_key(|record| record.sequence);
    assert_eq!((names.len(), all.len()), (2, 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// From a position that stands still any longer piece may be offered again, and the position may move up to the end of a piece that was
    /// written: whatever happens, each record stands in one file, in order.
    #[test]
    fn nothing_stands_in_two_files(offers in proptest::collection::vec((1usize..20, any::<bool>()), 1..12)) {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path(), FileFormat::JsonLines);
        let all: Vec<Record> =
            (1..=300).map(|sequence| record(RecordKind::ALL[sequence % 2], sequence as u64)).collect();
        let (mut position, mut reached) = (0, 0);
        for (more, moves) in offers {
            let end = reached + more;
            place.write(&all[position..end]).unwrap();
            reached = end;
            if moves {
                position = end;
            }
        }
        let (_, held) = held(folder.path());
        for kind in [RecordKind::Usage, RecordKind::Range] {
            let of_kind = |records: &[Record]| -> Vec<Record> {
                records.iter().filter(|record| RecordKind::of(record) == kind).cloned().collect()
            };
            prop_assert_eq!(of_kind(&held), of_kind(&all[..reached]));
        }
    }

    #[test]
    fn parquet_reads_back(records in proptest::collection::vec(any_record(), 1..40)) {
        let mut by_kind: BTreeMap<RecordKind, Vec<&Record>> = BTreeMap::new();
        records.iter().for_each(|record| by_kind.entry(RecordKind::of(record)).or_default().push(record));
        for (kind, records) in by_kind {
            let bytes = parquet_file::file(kind, &records).unwrap();
            let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
            let rows: Vec<Row> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(rows.len(), records.len());
            for (found, record) in rows.iter().zip(&records) {
                let wanted: Vec<(String, Vec<Field>)> = columns(kind).zip(row(record)).map(fields).collect();
                let found: Vec<(String, Vec<Field>)> = found.get_column_iter().map(read_fields).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}

/// What the reader of the crate makes of a value; of a list, its elements.
fn fields((column, value): (&Column, Value<'_>)) -> (String, Vec<Field>) {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let name = if column.holds == Type::Milliseconds { "at" } else { column.name };
    let field = match value {
        Value::Absent => Field::Null,
        Value::Id(id) => Field::Str(id.to_string()),
        Value::Text(text) => Field::Str(text.to_owned()),
        Value::Number(number) if column.holds == Type::Milliseconds => Field::TimestampMillis(signed(number)),
        Value::Number(number) => Field::Long(signed(number)),
        Value::Numbers(numbers) => {
            return (name.to_owned(), numbers.iter().map(|number| Field::Long(signed(*number))).collect());
        }
    };
    (name.to_owned(), vec![field])
}

fn read_fields((name, field): (&String, &Field)) -> (String, Vec<Field>) {
    let fields = match field {
        Field::ListInternal(list) => list.elements().to_vec(),
        other => vec![other.clone()],
    };
    (name.clone(), fields)
}

#[test]
fn the_documents_show_the_schema() {
    let document = include_str!("../../../docs/REPORTING.md");
    for kind in RecordKind::ALL {
        for line in parquet_file::schema(kind).lines() {
            assert!(document.contains(line.trim()), "{line}");
        }
    }
}
