//! BatchWriteItem: up to 25 puts and deletes in several tables, each for itself, without conditions. What cannot be written now
//! comes back as UnprocessedItems, as it was given. A mistake in one of them, also an item that an index of its table cannot
//! hold, fails the call before anything is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::batch::{self, Progress};
use super::body::Body;
use super::choices;
use super::collections::Collections;
use super::indexed;
use super::write::{NotWritten, Write, Written};
use crate::api::dynamodb::attribute_value::{self, EMPTY_VALUE, SEVERAL_TYPES, Split};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::capacity::Consumed;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Constraints, Raw, RawList, RawMap, ReturnConsumedCapacity, Text};
use crate::api::dynamodb::table_lookup::{self, ItemKey, KeySchema, SplitItem};
use crate::domain::document::Document;
use crate::domain::json;
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::replication::operation::Change;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    request_items: RawMap<'a>,
    #[serde(borrow)]
    return_consumed_capacity: Text<'a>,
    #[serde(borrow)]
    return_item_collection_metrics: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WriteRequest<'a> {
    #[serde(borrow)]
    put_request: Raw<'a>,
    #[serde(borrow)]
    delete_request: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Subject<'a> {
    #[serde(borrow)]
    item: Raw<'a>,
    #[serde(borrow)]
    key: Raw<'a>,
}

/// What one write brings.
enum Brought<'a> {
    /// A put of this item.
    Item(&'a RawValue),
    /// A delete of this key.
    Key(&'a RawValue),
}

/// The writes of one table, as they were given.
struct Wanted<'a> {
    /// The table as the request calls it.
    name: &'a str,
    /// Each as a whole, for UnprocessedItems, and what it brings.
    writes: Vec<(&'a RawValue, Brought<'a>)>,
}

/// The writes of one table, ready.
struct Part<'a> {
    name: &'a str,
    table: Arc<TableDefinition>,
    /// Each as it was given.
    given: Vec<&'a RawValue>,
}

/// What the answer is to tell of the writes that were done.
#[derive(Clone, Copy)]
struct Returned {
    capacity: ReturnConsumedCapacity,
    /// The sizes of item collections.
    collection_metrics: bool,
}

/// What came of one table's part.
#[derive(Default)]
struct Gathered {
    /// Writes that were not done, by their place.
    unprocessed: Vec<usize>,
    consumed: Consumed,
    collections: Collections,
    /// The metrics of each of these.
    metrics: Vec<Vec<u8>>,
}

/// One write, ready.
struct Ready {
    part: usize,
    /// Its place among the writes of its table.
    index: usize,
    write: Write,
}

/// BatchWriteItem.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn batch_write_item(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let (wanted, returned) = tables(&asked)?;
    let (parts, ready) = prepare(call, wanted, returned.capacity)?;
    let writes = ready.into_iter().map(|ready| run(call, &parts[ready.part].table, ready));
    let mut writes = stream::iter(writes).buffered(batch::PARALLEL_MAX);
    let mut gathered: Vec<Gathered> = parts.iter().map(|_| Gathered::default()).collect();
    let mut progress = Progress::default();
    let mut failed = None;
    while let Some((part, index, written)) = writes.next().await {
        match written {
            Ok(written) => {
                progress.serve();
                gathered[part].consumed.add(&written.consumed);
                if returned.collection_metrics {
                    gathered[part].collections.note(&parts[part].table.specification, &written.keys);
                }
            }
            Err(NotWritten::Refused(refusal)) => {
                gathered[part].unprocessed.push(index);
                // The others are on their way already and are waited for, so that what is told is true.
                failed = failed.or(progress.refuse(refusal).err());
            }
            Err(other) => failed = failed.or(Some(other.into())),
        }
    }
    drop(writes);
    if let Some(failure) = failed {
        return Err(failure);
    }
    progress.finish()?;
    for (part, gathered) in parts.iter().zip(&mut gathered) {
        gathered.metrics = gathered.collections.metrics(call, &part.table).await;
    }
    Ok(answer(&parts, &gathered, returned.capacity))
}

/// The tables that are written to, after the checks of the service model.
fn tables<'a>(asked: &'a Asked<'a>) -> Result<(Vec<Wanted<'a>>, Returned), Failure> {
    let mut constraints = Constraints::new();
    let returned = Returned {
        capacity: choices::capacity(&mut constraints, &asked.return_consumed_capacity),
        collection_metrics: choices::collection_metrics(&mut constraints, &asked.return_item_collection_metrics),
    };
    batch::check_tables(&mut constraints, &asked.request_items, batch::WRITES_MAX);
    let mut wanted = Vec::new();
    let mut malformed = None;
    for (name, part) in asked.request_items.0.iter().flatten() {
        let list: RawList<'a> = request::parse_list(part)?;
        batch::check_list(&mut constraints, &format!("requestItems.{name}"), &list, batch::WRITES_MAX);
        let mut writes = Vec::new();
        // A longer list is refused for that; what is wrong in the rest of it does not matter then.
        for (index, given) in list.0.into_iter().flatten().take(batch::WRITES_MAX).enumerate() {
            let place = format!("requestItems.{name}.member.{}.member", index + 1);
            match brought(given, &place, &mut constraints) {
                Ok(Some(brought)) => writes.push((given, brought)),
                Ok(None) => {}
                Err(failure) if failure.name() == "ValidationException" => malformed = malformed.or(Some(failure)),
                Err(failure) => return Err(failure),
            }
        }
        wanted.push(Wanted { name, writes });
    }
    constraints.finish()?;
    match malformed {
        Some(failure) => Err(failure),
        None => Ok((wanted, returned)),
    }
}

/// What one write brings; none where a member that must be given is not, which is noted.
fn brought<'a>(
    given: &'a RawValue,
    place: &str,
    constraints: &mut Constraints,
) -> Result<Option<Brought<'a>>, Failure> {
    let write: WriteRequest<'a> = request::parse_part(given)?;
    match (write.put_request, write.delete_request) {
        (Some(put), None) => {
            let subject: Subject<'a> = request::parse_part(put)?;
            constraints.required(&format!("{place}.putRequest.item"), subject.item.as_ref());
            Ok(subject.item.map(Brought::Item))
        }
        (None, Some(delete)) => {
            let subject: Subject<'a> = request::parse_part(delete)?;
            constraints.required(&format!("{place}.deleteRequest.key"), subject.key.as_ref());
            Ok(subject.key.map(Brought::Key))
        }
        (None, None) => Err(Failure::validation(EMPTY_VALUE)),
        (Some(_), Some(_)) => Err(Failure::validation(SEVERAL_TYPES)),
    }
}

/// The attributes of one write, read.
enum Read {
    Put(Split),
    Delete(Document),
}

/// Reads items and keys and makes writes of them.
fn prepare<'a>(
    call: &Call<'_>,
    wanted: Vec<Wanted<'a>>,
    capacity: ReturnConsumedCapacity,
) -> Result<(Vec<Part<'a>>, Vec<Ready>), Failure> {
    // Tables are looked up first for their key attributes, and told of last: see PutItem.
    let tables: Vec<Result<Arc<TableDefinition>, Failure>> =
        wanted.iter().map(|wanted| table_lookup::find_named(call, wanted.name)).collect();
    let mut read = Vec::with_capacity(wanted.len());
    for (wanted, table) in wanted.iter().zip(&tables) {
        let schema = table.as_ref().ok().map(|table| KeySchema::of(&table.specification));
        let one = |(_, brought): &(&RawValue, Brought<'_>)| read_one(brought, schema.as_ref());
        read.push(wanted.writes.iter().map(one).collect::<Result<Vec<Read>, Failure>>()?);
    }
    if read.iter().map(Vec::len).sum::<usize>() > batch::WRITES_MAX {
        return Err(Failure::validation("Too many items requested for the BatchWriteItem call"));
    }
    let tables = tables.into_iter().collect::<Result<Vec<Arc<TableDefinition>>, Failure>>()?;
    let mut parts = Vec::with_capacity(wanted.len());
    let mut ready = Vec::new();
    // A table may stand there by its name and by its ARN, and is one all the same.
    let mut seen = BTreeSet::new();
    for (part, ((wanted, table), read)) in wanted.into_iter().zip(tables).zip(read).enumerate() {
        for (index, read) in read.into_iter().enumerate() {
            let (key, change) = operation(read, &table.specification)?;
            if !seen.insert((table.id, key.packed.clone())) {
                return Err(batch::duplicates());
            }
            ready.push(Ready { part, index, write: Write::plain(key, change, capacity) });
        }
        let given = wanted.writes.into_iter().map(|(given, _)| given).collect();
        parts.push(Part { name: wanted.name, table, given });
    }
    Ok((parts, ready))
}

fn read_one(brought: &Brought<'_>, schema: Option<&KeySchema<'_>>) -> Result<Read, Failure> {
    match brought {
        Brought::Item(item) => {
            let split = table_lookup::read_item(item.get().as_bytes(), schema)?;
            table_lookup::check_item_size(&split)?;
            Ok(Read::Put(split))
        }
        Brought::Key(key) => Ok(Read::Delete(attribute_value::read_item(key.get().as_bytes())?)),
    }
}

fn operation(read: Read, table: &TableSpecification) -> Result<(ItemKey, Change), Failure> {
    let schema = KeySchema::of(table);
    match read {
        Read::Put(split) => {
            let SplitItem { key, document } = table_lookup::split_item(split, &schema)?;
            indexed::check_put(table, &key.attributes, &document)?;
            Ok((key, Change::Put(document)))
        }
        Read::Delete(key) => Ok((table_lookup::key_of(key, &schema)?, Change::Remove)),
    }
}

/// For the fuzzer: reads a request as if each of its tables were this one, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    let schema = KeySchema::of(table);
    for wanted in tables(&asked)?.0 {
        for (_, brought) in &wanted.writes {
            operation(read_one(brought, Some(&schema))?, table)?;
        }
    }
    Ok(())
}

async fn run(
    call: &Call<'_>,
    table: &Arc<TableDefinition>,
    ready: Ready,
) -> (usize, usize, Result<Written, NotWritten>) {
    (ready.part, ready.index, ready.write.run(call, table).await)
}

fn answer(parts: &[Part<'_>], gathered: &[Gathered], capacity: ReturnConsumedCapacity) -> Vec<u8> {
    let mut body = Body::with_capacity(64);
    let out = body.member("UnprocessedItems");
    let left = parts.iter().zip(gathered).filter(|(_, gathered)| !gathered.unprocessed.is_empty());
    batch::write_map(out, left, |(part, gathered), out| {
        json::write_string(out, part.name);
        out.extend_from_slice(b":[");
        for (count, index) in gathered.unprocessed.iter().enumerate() {
            if count > 0 {
                out.push(b',');
            }
            out.extend_from_slice(part.given[*index].get().as_bytes());
        }
        out.push(b']');
    });
    let by_table = || parts.iter().map(|part| part.name).zip(gathered);
    body.collections_by_table(by_table().map(|(name, gathered)| (name, gathered.metrics.as_slice())));
    body.consumed_by_table(by_table().map(|(name, gathered)| (name, &gathered.consumed)), capacity);
    body.finish()
}
