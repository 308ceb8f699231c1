//! The answer of Query and Scan.
//!
//! ```json
//! {"Count":1,"ScannedCount":2,"Items":[{"id":{"S":"a"}}],"LastEvaluatedKey":{"id":{"S":"b"}}}
//! ```

use std::sync::Arc;

use super::pages::{self, Found, Interval, Wanted};
use super::parameters::{Checked, Request};
use crate::api::dynamodb::attribute_value::write_item;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::capacity::{self, Consumed};
use crate::api::dynamodb::request::ReturnConsumedCapacity;
use crate::domain::table::TableDefinition;

/// Reads the interval, notes what that cost, and answers.
///
/// # Errors
/// Those of [`pages::read`].
pub(super) async fn give(
    call: &Call<'_>,
    table: &Arc<TableDefinition>,
    request: &Request<'_>,
    wanted: &Wanted<'_>,
    interval: Interval,
) -> Answered {
    let checked = wanted.checked;
    let found = pages::read(call, table, interval, wanted).await?;
    let (cost, consumed) = found.cost(wanted.source, checked.consistency);
    call.note_cost(table, cost);
    Ok(write(&found, request, checked, &consumed))
}

fn write(found: &Found, request: &Request<'_>, checked: &Checked, consumed: &Consumed) -> Vec<u8> {
    let mut json = Vec::with_capacity(found.items.len() + 256);
    json.extend_from_slice(format!("{{\"Count\":{},\"ScannedCount\":{}", found.count, found.scanned).as_bytes());
    if !checked.counts_only {
        json.extend_from_slice(b",\"Items\":[");
        json.extend_from_slice(&found.items);
        json.push(b']');
    }
    if let Some(last) = &found.last {
        json.extend_from_slice(b",\"LastEvaluatedKey\":");
        write_item(last, None, &mut json);
    }
    if checked.capacity != ReturnConsumedCapacity::None {
        json.extend_from_slice(b",\"ConsumedCapacity\":");
        let name = request.table_name.get().unwrap_or_default();
        capacity::write_consumed(&mut json, name, consumed, checked.capacity);
    }
    json.push(b'}');
    json
}
