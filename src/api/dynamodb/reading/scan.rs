//! Scan: all items of a table or of an index, or of one segment of it, in the order in which they are laid out. Nothing is hidden
//! from it. Entries of an index begin with the hash as keys do, so segments are the same for both.

use super::answer;
use super::index::Source;
use super::pages::{Interval, Wanted};
use super::parameters::{Checked, Request};
use super::segment::Segment;
use super::start_key;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::expressions::Operation;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request;
use crate::api::dynamodb::table_lookup;
use crate::domain::document::Document;
use crate::domain::hash::HashRange;
use crate::domain::key::PackedKey;
use crate::domain::table::TableSpecification;

/// What is read without the table: what a request says, its segment, and the map of ExclusiveStartKey.
type Read = (Checked, Option<Segment>, Option<Document>);

/// Answers a Scan.
///
/// # Errors
/// As AWS does.
pub async fn scan(call: &Call<'_>) -> Answered {
    let request: Request<'_> = request::parse(&call.body)?;
    let (checked, segment, start_key) = read(&request)?;
    let table = table_lookup::find(call, &request.table_name)?;
    let source = Source::find(&table.specification, request.index_name.get())?;
    let interval = interval(segment, start_key, &source)?;
    let wanted = Wanted { source: &source, checked: &checked, fetch: source.fetch(&checked) };
    answer::give(call, &table, &request, &wanted, interval).await
}

/// For the fuzzer: reads a request about this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let request: Request<'_> = request::parse(body)?;
    let (checked, segment, start_key) = read(&request)?;
    let source = Source::find(table, request.index_name.get())?;
    source.fetch(&checked);
    interval(segment, start_key, &source).map(drop)
}

fn read(request: &Request<'_>) -> Result<Read, Failure> {
    let checked = request.check(Operation::Scan)?;
    let segment = Segment::read(request.segment, request.total_segments)?;
    Ok((checked, segment, start_key::read(request.exclusive_start_key)?))
}

/// Where in the table or index is read.
fn interval(segment: Option<Segment>, start_key: Option<Document>, source: &Source<'_>) -> Result<Interval, Failure> {
    let hashes = segment.map_or(HashRange::FULL, Segment::hashes);
    let (start, end) = PackedKey::hash_interval(&hashes);
    let mut interval = Interval { start, end, descending: false };
    if let Some(attributes) = start_key {
        let place = source.place(&attributes)?;
        if let Some(segment) = segment {
            start_key::check_segment(&place, segment)?;
        }
        interval.go_on_after(place);
    }
    Ok(interval)
}
