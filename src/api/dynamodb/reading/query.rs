//! Query: the items of one partition whose sort keys, or whose values of an index's attribute, are as asked for, in the order of
//! these or the opposite one.

use super::answer;
use super::index::Source;
use super::key_interval;
use super::pages::{Interval, Wanted};
use super::parameters::{Checked, Request};
use super::start_key;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::expressions::Operation;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request;
use crate::api::dynamodb::table_lookup::{self, KeySchema};
use crate::domain::document::Document;
use crate::domain::table::TableSpecification;
use crate::expression::{Condition, KeyCondition};

/// Answers a Query.
///
/// # Errors
/// As AWS does.
pub async fn query(call: &Call<'_>) -> Answered {
    let request: Request<'_> = request::parse(&call.body)?;
    let (checked, start_key) = read(&request)?;
    let table = table_lookup::find(call, &request.table_name)?;
    let source = Source::find(&table.specification, request.index_name.get())?;
    let interval = interval(&request, &checked, start_key, &source)?;
    let wanted = Wanted { source: &source, checked: &checked, fetch: source.fetch(&checked) };
    answer::give(call, &table, &request, &wanted, interval).await
}

/// For the fuzzer: reads a request about this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let request: Request<'_> = request::parse(body)?;
    let (checked, start_key) = read(&request)?;
    let source = Source::find(table, request.index_name.get())?;
    source.fetch(&checked);
    interval(&request, &checked, start_key, &source).map(drop)
}

/// What a request says, and the map of ExclusiveStartKey: what is read without the table.
fn read(request: &Request<'_>) -> Result<(Checked, Option<Document>), Failure> {
    let checked = request.check(Operation::Query)?;
    key_condition(&checked)?;
    Ok((checked, start_key::read(request.exclusive_start_key)?))
}

fn key_condition(checked: &Checked) -> Result<&KeyCondition, Failure> {
    checked.expressions.key_condition.as_ref().ok_or_else(|| {
        Failure::validation(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
        )
    })
}

/// Where in the table or index is read.
fn interval(
    request: &Request<'_>,
    checked: &Checked,
    start_key: Option<Document>,
    source: &Source<'_>,
) -> Result<Interval, Failure> {
    let schema = source.schema();
    let keys = key_interval::of(key_condition(checked)?, &schema, source.order())?;
    if let Some(filter) = &checked.expressions.filter {
        check_filter(filter, &schema, request.query_filter.is_some())?;
    }
    let place = start_key.map(|attributes| source.place(&attributes)).transpose()?;
    if let Some(place) = &place {
        start_key::check_query(place, &keys)?;
    }
    let descending = request.scan_index_forward.0 == Some(false);
    let mut interval = Interval { start: keys.start, end: keys.end, descending };
    if let Some(place) = place {
        interval.go_on_after(place);
    }
    Ok(interval)
}

/// What is said of keys belongs into the key condition, where it saves reading: a filter may not name them.
fn check_filter(filter: &Condition, schema: &KeySchema<'_>, is_legacy: bool) -> Result<(), Failure> {
    let Some(path) = filter.paths().into_iter().find(|path| schema.contains(&path.attribute)) else { return Ok(()) };
    let what = if is_legacy { "QueryFilter" } else { "Filter Expression" };
    let name = &path.attribute;
    Err(Failure::validation(format!(
        "{what} can only contain non-primary key attributes: Primary key attribute: {name}"
    )))
}
