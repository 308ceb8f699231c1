//! Records of one kind as a Parquet file: a column for each of [`columns`], one row group, compressed by gzip.
//!
//! The schema is flat, in types that every reader knows: UUIDs are text, counts are signed 64-bit integers (what is larger, which nothing
//! counts to, is stored as the largest), the time is a timestamp in UTC called `at`, and the buckets of latencies are a list. The crate is used without arrow: a file
//! is written a column at a time from rows, and that is all that is wanted of it.

use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, GzipLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use crate::domain::usage::record::Record;
use crate::sinks::rows::{Column, RecordKind, Type, Value, columns, row};

/// The schema of files of this kind, as Parquet writes one down.
pub(super) fn schema(kind: RecordKind) -> String {
    let mut text = format!("message {} {{\n", kind.word().replace('-', "_"));
    for Column { name, holds, is_optional } in columns(kind) {
        let often = if *is_optional { "optional" } else { "required" };
        text += &match holds {
            Type::Id | Type::Text => format!("  {often} binary {name} (STRING);\n"),
            Type::Number => format!("  {often} int64 {name};\n"),
            Type::Milliseconds => format!("  {often} int64 at (TIMESTAMP(MILLIS,true));\n"),
            Type::Numbers => {
                format!("  {often} group {name} (LIST) {{ repeated group list {{ required int64 element; }} }}\n")
            }
        };
    }
    text + "}\n"
}

/// The bytes of a file that holds these records.
pub(super) fn file(kind: RecordKind, records: &[&Record]) -> io::Result<Vec<u8>> {
    written(kind, records).map_err(io::Error::other)
}

fn written(kind: RecordKind, records: &[&Record]) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(parse_message_type(&schema(kind))?);
    let properties = WriterProperties::builder().set_compression(Compression::GZIP(GzipLevel::default()));
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    let rows: Vec<Vec<Value<'_>>> = records.iter().map(|record| row(record)).collect();
    let mut group = file.next_row_group()?;
    for (index, column) in columns(kind).enumerate() {
        if let Some(mut writer) = group.next_column()? {
            write_column(&mut writer, column, rows.iter().map(|row| &row[index]))?;
            writer.close()?;
        }
    }
    group.close()?;
    file.into_inner()
}

/// Levels of definition say which values are there; those of repetition, which elements go on with the list of their row.
fn write_column<'a>(
    writer: &mut SerializedColumnWriter<'_>,
    column: &Column,
    values: impl Iterator<Item = &'a Value<'a>>,
) -> Result<(), ParquetError> {
    let (mut texts, mut numbers, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for value in values {
        defined.push(i16::from(*value != Value::Absent));
        match value {
            Value::Absent => {}
            Value::Id(id) => texts.push(ByteArray::from(id.to_string().as_str())),
            Value::Text(text) => texts.push(ByteArray::from(*text)),
            Value::Number(number) => numbers.push(signed(*number)),
            Value::Numbers(list) => {
                numbers.extend(list.iter().map(|number| signed(*number)));
                repeated.extend((0..list.len()).map(|place| i16::from(place > 0)));
            }
        }
    }
    let defined = column.is_optional.then_some(defined.as_slice());
    match column.holds {
        Type::Id | Type::Text => writer.typed::<ByteArrayType>().write_batch(&texts, defined, None)?,
        Type::Number | Type::Milliseconds => writer.typed::<Int64Type>().write_batch(&numbers, defined, None)?,
        Type::Numbers => {
            // No list is empty or unknown, so every element is there.
            let defined = vec![1; numbers.len()];
            writer.typed::<Int64Type>().write_batch(&numbers, Some(&defined), Some(&repeated))?
        }
    };
    Ok(())
}
