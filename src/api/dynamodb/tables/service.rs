//! What clients ask of the service itself: its limits, where it is, and whether tables are backed up all the time.

use serde_json::json;

use super::parameters::TableOnly;
use super::{body, find_or};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request;

/// Capacity units a second that an account may have, as AWS has it where nobody asked for more. Nothing is reserved here, so
/// no table comes near it.
const ACCOUNT_UNITS: u64 = 80_000;
/// The same for one table.
const TABLE_UNITS: u64 = 40_000;
/// For how long a client may keep the address, in minutes.
const CACHE_MINUTES: u64 = 1440;

/// DescribeLimits.
///
/// # Errors
/// SerializationException where the body is no JSON object.
pub async fn describe_limits(call: &Call<'_>) -> Answered {
    check_object(&call.body)?;
    body(&json!({
        "AccountMaxReadCapacityUnits": ACCOUNT_UNITS,
        "AccountMaxWriteCapacityUnits": ACCOUNT_UNITS,
        "TableMaxReadCapacityUnits": TABLE_UNITS,
        "TableMaxWriteCapacityUnits": TABLE_UNITS,
    }))
}

/// DescribeEndpoints: the one by which the client came.
///
/// # Errors
/// SerializationException where the body is no JSON object.
pub async fn describe_endpoints(call: &Call<'_>) -> Answered {
    check_object(&call.body)?;
    body(&json!({ "Endpoints": [{ "Address": call.host, "CachePeriodInMinutes": CACHE_MINUTES }] }))
}

/// DescribeContinuousBackups: there are none yet.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn describe_continuous_backups(call: &Call<'_>) -> Answered {
    let asked = TableOnly::read(&call.body)?;
    let name = asked.table_name.get().unwrap_or_default();
    find_or(call, name, || Failure::no_table_to_back_up(name))?;
    body(&json!({ "ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "DISABLED",
        "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": "DISABLED" },
    }}))
}

/// Members do not matter, but the body must be an object. The fuzzer calls it, too.
pub(in crate::api::dynamodb) fn check_object(body: &[u8]) -> Result<(), Failure> {
    request::parse::<serde_json::Map<String, serde_json::Value>>(body).map(drop)
}
