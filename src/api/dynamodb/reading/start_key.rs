//! ExclusiveStartKey: the place behind which a page goes on. Any place of the right shape will do, whether an item is there or
//! not, as long as it lies where the request reads.

use serde_json::value::RawValue;

use super::key_interval::{KeyOrder, QueryKeys};
use super::segment::Segment;
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::failure::Failure;
use crate::domain::document::Document;
use crate::domain::key::PackedKey;

const INVALID: &str = "The provided starting key is invalid";
const MISMATCH: &str = "The provided key element does not match the schema";

/// Reads the JSON of the key, whatever the table.
pub(super) fn read(json: Option<&RawValue>) -> Result<Option<Document>, Failure> {
    let read = |json: &RawValue| {
        attribute_value::read_item(json.get().as_bytes()).map_err(|problem| problem.within(&format!("{INVALID}: "), ""))
    };
    Ok(json.map(read).transpose()?)
}

/// The attributes are not those that name a place, or have other types. Of indexes AWS says no more than that.
pub(super) fn no_match(order: KeyOrder) -> Failure {
    Failure::validation(match order {
        KeyOrder::Table => format!("{INVALID}: {MISMATCH}"),
        KeyOrder::Index => INVALID.to_owned(),
    })
}

/// What is wrong with a value, told of a starting key.
pub(super) fn invalid(failure: Failure) -> Failure {
    match failure.message() {
        Some(text) => Failure::validation(format!("{INVALID}: {text}")),
        None => failure,
    }
}

/// Checks that a query with these conditions could have ended there.
pub(super) fn check_query(place: &PackedKey, wanted: &QueryKeys) -> Result<(), Failure> {
    if !wanted.has_id_of(place) {
        return Err(Failure::validation(
            "The provided starting key is outside query boundaries based on provided conditions",
        ));
    }
    if !wanted.contains(place) {
        return Err(Failure::validation("The provided starting key does not match the range key predicate"));
    }
    Ok(())
}

/// Checks that a scan of this segment could have ended there.
pub(super) fn check_segment(place: &PackedKey, segment: Segment) -> Result<(), Failure> {
    if segment.hashes().contains(place.hash()) {
        return Ok(());
    }
    Err(Failure::validation(format!(
        "{INVALID}: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. TotalSegments: {} Segment: {}",
        segment.total, segment.number
    )))
}
