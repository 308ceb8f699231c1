//! BatchGetItem: up to 100 items of several tables, each read for itself. The answer holds up to 16 MB of items; keys
//! behind that, and those that cannot be read now, come back as UnprocessedKeys.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::batch::{self, Progress};
use super::body::Body;
use super::{choices, get};
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::capacity::{self, Consumed};
use crate::api::dynamodb::expressions::{self, Parameters};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{
    self, Constraints, Flag, Names, RawList, RawMap, ReturnConsumedCapacity, Text, Texts,
};
use crate::api::dynamodb::table_lookup::{self, ItemKey, KeySchema};
use crate::domain::Refusal;
use crate::domain::document::Document;
use crate::domain::json;
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::domain::usage::Cost;
use crate::expression::Projection;
use crate::services::ports::{Consistency, StoredItem};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    request_items: RawMap<'a>,
    #[serde(borrow)]
    return_consumed_capacity: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct KeysAndAttributes<'a> {
    #[serde(borrow)]
    keys: RawList<'a>,
    attributes_to_get: Texts,
    consistent_read: Flag,
    #[serde(borrow)]
    projection_expression: Text<'a>,
    expression_attribute_names: Names,
}

/// What is asked of one table.
struct Wanted<'a> {
    /// The table as the request calls it.
    name: &'a str,
    given: KeysAndAttributes<'a>,
}

/// One table's part, ready to be read.
struct Part<'a> {
    wanted: Wanted<'a>,
    table: Arc<TableDefinition>,
    consistency: Consistency,
    projection: Option<Projection>,
    keys: Vec<ItemKey>,
}

/// BatchGetItem.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn batch_get_item(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let (wanted, returned) = tables(&asked)?;
    let parts = prepare(call, wanted)?;
    let mut places = Vec::new();
    for (part, prepared) in parts.iter().enumerate() {
        places.extend((0..prepared.keys.len()).map(|key| (part, key)));
    }
    let reads = places.iter().map(|(part, key)| read(call, &parts[*part], *key));
    let mut reads = stream::iter(reads).buffered(batch::PARALLEL_MAX);
    let mut gathered: Vec<Gathered> = parts.iter().map(|_| Gathered::default()).collect();
    let mut progress = Progress::default();
    let mut bytes = 0;
    let mut done = 0;
    while let Some(found) = reads.next().await {
        let (part, key) = places[done];
        match found {
            Ok(found) => {
                let size = found.as_ref().map_or(0, |item| item_bytes(&parts[part], key, item));
                if bytes + size > batch::READ_BYTES_MAX {
                    break;
                }
                bytes += size;
                progress.serve();
                gathered[part].take(&parts[part], key, size, found.as_ref());
            }
            Err(refusal) => {
                progress.refuse(refusal)?;
                gathered[part].unprocessed.push(key);
            }
        }
        done += 1;
    }
    drop(reads);
    for (part, key) in &places[done..] {
        gathered[*part].unprocessed.push(*key);
    }
    for (part, gathered) in parts.iter().zip(&gathered) {
        call.note_cost(&part.table, gathered.cost);
    }
    progress.finish()?;
    Ok(answer(&parts, &gathered, returned))
}

/// The tables that are asked, after the checks of the service model.
fn tables<'a>(asked: &'a Asked<'a>) -> Result<(Vec<Wanted<'a>>, ReturnConsumedCapacity), Failure> {
    let mut constraints = Constraints::new();
    let returned = choices::capacity(&mut constraints, &asked.return_consumed_capacity);
    batch::check_tables(&mut constraints, &asked.request_items, batch::READS_MAX);
    let mut wanted = Vec::new();
    for (name, part) in asked.request_items.0.iter().flatten() {
        let given: KeysAndAttributes<'a> = request::parse_part(part)?;
        let place = |member: &str| format!("requestItems.{name}.member.{member}");
        batch::check_list(&mut constraints, &place("keys"), &given.keys, batch::READS_MAX);
        get::check_attributes_to_get(&mut constraints, &place("attributesToGet"), &given.attributes_to_get);
        wanted.push(Wanted { name, given });
    }
    constraints.finish()?;
    Ok((wanted, returned))
}

/// What is asked of one table, its keys as they were given, and what is wanted of the items.
type Unlocated<'a> = (Wanted<'a>, Vec<Document>, Option<Projection>);

/// Reads keys and expressions.
fn read_wanted(wanted: Vec<Wanted<'_>>) -> Result<Vec<Unlocated<'_>>, Failure> {
    let mut read = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let keys: Vec<Document> = wanted.keys().map(key).collect::<Result<_, Failure>>()?;
        let parameters = Parameters {
            projection: wanted.given.projection_expression.get(),
            names: wanted.given.expression_attribute_names.0.as_ref(),
            attributes_to_get: wanted.given.attributes_to_get.0.as_deref(),
            ..Parameters::default()
        };
        let projection = expressions::read(expressions::Operation::GetItem, &parameters)?.projection;
        read.push((wanted, keys, projection));
    }
    if read.iter().map(|(_, keys, _)| keys.len()).sum::<usize>() > batch::READS_MAX {
        return Err(Failure::validation("Too many items requested for the BatchGetItem call"));
    }
    Ok(read)
}

/// For the fuzzer: reads a request as if each of its tables were this one, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    let schema = KeySchema::of(table);
    for (_, keys, _) in read_wanted(tables(&asked)?.0)? {
        keys.into_iter().try_for_each(|key| table_lookup::key_of(key, &schema).map(drop))?;
    }
    Ok(())
}

/// Reads keys and expressions, then finds the tables.
fn prepare<'a>(call: &Call<'_>, wanted: Vec<Wanted<'a>>) -> Result<Vec<Part<'a>>, Failure> {
    let read = read_wanted(wanted)?;
    let mut parts = Vec::with_capacity(read.len());
    for (wanted, keys, projection) in read {
        let table = table_lookup::find_named(call, wanted.name)?;
        let schema = KeySchema::of(&table.specification);
        let keys = keys.into_iter().map(|key| table_lookup::key_of(key, &schema));
        let keys: Vec<ItemKey> = keys.collect::<Result<_, Failure>>()?;
        let consistency = get::consistency(wanted.given.consistent_read);
        parts.push(Part { wanted, table, consistency, projection, keys });
    }
    check_different(&parts)?;
    Ok(parts)
}

/// No key stands twice, also where its table stands once by its name and once by its ARN.
fn check_different(parts: &[Part<'_>]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for part in parts {
        for key in &part.keys {
            if !seen.insert((part.table.id, key.packed.as_bytes())) {
                return Err(batch::duplicates());
            }
        }
    }
    Ok(())
}

fn key(json: &RawValue) -> Result<Document, Failure> {
    Ok(attribute_value::read_item(json.get().as_bytes())?)
}

impl<'a> Wanted<'a> {
    fn keys(&self) -> impl Iterator<Item = &'a RawValue> {
        self.given.keys.0.iter().flatten().copied()
    }
}

async fn read(call: &Call<'_>, part: &Part<'_>, key: usize) -> Result<Option<StoredItem>, Refusal> {
    call.state.items.read(&part.table, part.keys[key].packed.clone(), part.consistency).await
}

fn item_bytes(part: &Part<'_>, key: usize, item: &StoredItem) -> u64 {
    capacity::item_bytes(&part.keys[key].attributes, &item.document)
}

/// What came of one table's part.
#[derive(Default)]
struct Gathered {
    /// Items as JSON, with commas between them.
    items: Vec<u8>,
    /// Keys that were not read, by their place.
    unprocessed: Vec<usize>,
    cost: Cost,
}

impl Gathered {
    fn take(&mut self, part: &Part<'_>, key: usize, bytes: u64, found: Option<&StoredItem>) {
        let cost = capacity::read_cost(bytes, part.consistency);
        self.cost.read_bytes += cost.read_bytes;
        self.cost.read_half_units += cost.read_half_units;
        let Some(item) = found else { return };
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        let keys = &part.keys[key].attributes;
        get::write_wanted(&mut self.items, &item.document, keys, part.projection.as_ref());
    }
}

fn answer(parts: &[Part<'_>], gathered: &[Gathered], returned: ReturnConsumedCapacity) -> Vec<u8> {
    let bytes = gathered.iter().map(|gathered| gathered.items.len() + 64).sum::<usize>();
    let mut body = Body::with_capacity(bytes + 64);
    let out = body.member("Responses");
    batch::write_map(out, parts.iter().zip(gathered), |(part, gathered), out| {
        json::write_string(out, part.wanted.name);
        out.extend_from_slice(b":[");
        out.extend_from_slice(&gathered.items);
        out.push(b']');
    });
    let out = body.member("UnprocessedKeys");
    let left = parts.iter().zip(gathered).filter(|(_, gathered)| !gathered.unprocessed.is_empty());
    batch::write_map(out, left, |(part, gathered), out| write_unprocessed(part, &gathered.unprocessed, out));
    let consumed = |gathered: &Gathered| Consumed::of_table(capacity::half_units(&gathered.cost));
    let consumed: Vec<Consumed> = gathered.iter().map(consumed).collect();
    body.consumed_by_table(parts.iter().map(|part| part.wanted.name).zip(&consumed), returned);
    body.finish()
}

/// Appends a table's part as it was given, with the keys that are left.
fn write_unprocessed(part: &Part<'_>, unprocessed: &[usize], out: &mut Vec<u8>) {
    let given = &part.wanted.given;
    json::write_string(out, part.wanted.name);
    out.extend_from_slice(b":{\"Keys\":[");
    let mut is_first = true;
    for (_, key) in part.wanted.keys().enumerate().filter(|(index, _)| unprocessed.contains(index)) {
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.extend_from_slice(key.get().as_bytes());
    }
    out.push(b']');
    if let Some(names) = &given.attributes_to_get.0 {
        out.extend_from_slice(b",\"AttributesToGet\":");
        out.extend_from_slice(serde_json::Value::from(names.as_slice()).to_string().as_bytes());
    }
    if let Flag(Some(is_consistent)) = given.consistent_read {
        out.extend_from_slice(b",\"ConsistentRead\":");
        out.extend_from_slice(is_consistent.to_string().as_bytes());
    }
    if let Some(expression) = given.projection_expression.get() {
        out.extend_from_slice(b",\"ProjectionExpression\":");
        json::write_string(out, expression);
    }
    if let Some(names) = &given.expression_attribute_names.0 {
        out.extend_from_slice(b",\"ExpressionAttributeNames\":");
        batch::write_map(out, names.iter(), |(placeholder, name), out| {
            json::write_string(out, placeholder);
            out.push(b':');
            json::write_string(out, name);
        });
    }
    out.push(b'}');
}
