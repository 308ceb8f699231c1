//! Sums of records by minute and by hour, and what is asked of them.
//!
//! Each number of the counts is a column of its own, so that SQLite adds them up by itself. A number from outside that no
//! honest component could have counted is cut off at [`NUMBER_MAX`]: sums of millions of them still fit.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params_from_iter, types::Value};
use uuid::Uuid;

use crate::domain::ids::{PrincipalId, TableId, TenantId};
use crate::domain::usage::latency::BUCKETS;
use crate::domain::usage::query::{UsageBy, UsageOf, UsageQuestion, UsageRow, UsageStep};
use crate::domain::usage::record::{Record, RecordBody, UsageRecord};
use crate::domain::usage::{LatencyHistogram, UsageCounts};

/// The steps that sums are kept of.
pub(super) const MINUTE_MS: u64 = 60_000;
/// See [`MINUTE_MS`].
pub(super) const HOUR_MS: u64 = 3_600_000;
/// What a single number may be, at most.
const NUMBER_MAX: u64 = 1 << 42;
const PLAIN: [&str; 6] = ["requests", "read_bytes", "written_bytes", "read_half_units", "write_units", "latency_us"];

/// The columns that hold numbers.
fn columns() -> impl Iterator<Item = String> {
    PLAIN.into_iter().map(str::to_owned).chain((0..BUCKETS).map(|bucket| format!("latency_{bucket}")))
}

/// The numbers, in the order of their columns.
fn numbers(counts: &UsageCounts) -> impl Iterator<Item = Value> {
    let plain = [
        counts.requests,
        counts.read_bytes,
        counts.written_bytes,
        counts.read_half_units,
        counts.write_units,
        counts.latency.sum_us,
    ];
    plain.into_iter().chain(counts.latency.buckets).map(|number| Value::Integer(number.min(NUMBER_MAX) as i64))
}

/// The counts in a row whose numbers begin at this column.
fn counts_of(row: &Row<'_>, first: usize) -> rusqlite::Result<UsageCounts> {
    let number = |index: usize| row.get::<_, i64>(first + index).map(|number| number as u64);
    let mut latency = LatencyHistogram { sum_us: number(5)?, ..LatencyHistogram::default() };
    for (bucket, held) in latency.buckets.iter_mut().enumerate() {
        *held = number(PLAIN.len() + bucket)?;
    }
    Ok(UsageCounts {
        requests: number(0)?,
        read_bytes: number(1)?,
        written_bytes: number(2)?,
        read_half_units: number(3)?,
        write_units: number(4)?,
        latency,
    })
}

/// Adds a record that is new; only those of usage count.
pub(super) fn add(transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    let RecordBody::Usage(usage) = &record.body else { return Ok(()) };
    for step_ms in [MINUTE_MS, HOUR_MS] {
        let names = columns().collect::<Vec<_>>();
        let places = (8..8 + names.len()).map(|place| format!("?{place}")).collect::<Vec<_>>();
        let sums = names.iter().map(|name| format!("{name} = {name} + excluded.{name}")).collect::<Vec<_>>();
        let sql = format!(
            "INSERT INTO sums (step_ms, at_ms, tenant, table_id, principal, operation, result, {})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, {}) ON CONFLICT DO UPDATE SET {}",
            names.join(", "),
            places.join(", "),
            sums.join(", ")
        );
        let at_ms = record.at_ms - record.at_ms % step_ms;
        let values = key_of(step_ms, at_ms, usage).into_iter().chain(numbers(&usage.counts));
        transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    }
    let named =
        [(Some(usage.key.tenant.0), &usage.tenant_name), (usage.key.table.map(|table| table.0), &usage.table_name)];
    for (id, name) in named {
        if let (Some(id), Some(name)) = (id, name) {
            let sql = "INSERT INTO names (id, name) VALUES (?1, ?2)
                ON CONFLICT DO UPDATE SET name = excluded.name WHERE name <> excluded.name";
            transaction.prepare_cached(sql)?.execute(rusqlite::params![id.as_bytes(), name])?;
        }
    }
    Ok(())
}

fn key_of(step_ms: u64, at_ms: u64, usage: &UsageRecord) -> [Value; 7] {
    let blob = |id: Option<Uuid>| Value::Blob(id.map(|id| id.as_bytes().to_vec()).unwrap_or_default());
    [
        Value::Integer(step_ms as i64),
        Value::Integer(at_ms as i64),
        blob(Some(usage.key.tenant.0)),
        blob(usage.key.table.map(|table| table.0)),
        blob(usage.key.principal.map(|principal| principal.0)),
        Value::Text(usage.key.operation.word().to_owned()),
        Value::Text(usage.key.result.word().to_owned()),
    ]
}

/// See [`ReportingStore::usage`](crate::storage::reporting::ReportingStore::usage).
pub(super) fn usage(
    connection: &Connection,
    question: &UsageQuestion,
    rows_max: usize,
) -> rusqlite::Result<Option<Vec<UsageRow>>> {
    let kept_ms = if question.step == UsageStep::Minute { MINUTE_MS } else { HOUR_MS };
    // What is not kept apart is the same in all rows.
    let part = |name: &'static str, by: &[UsageBy]| if by.contains(&question.by) { name } else { "NULL" };
    let parts = [
        part("tenant", &[UsageBy::Tenant, UsageBy::Table, UsageBy::Principal]),
        part("table_id", &[UsageBy::Table]),
        part("principal", &[UsageBy::Principal]),
        part("operation", &[UsageBy::Operation]),
        part("result", &[UsageBy::Result]),
    ]
    .join(", ");
    let sums = columns().map(|name| format!("sum({name})")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT at_ms - at_ms % ?3, {parts}, {sums} FROM sums
         WHERE step_ms = ?7 AND at_ms >= ?1 AND at_ms < ?2 AND (?4 IS NULL OR tenant = ?4) AND (?5 IS NULL OR table_id = ?5)
         GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6 LIMIT ?6"
    );
    let number = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let id = |id: Option<Uuid>| id.map_or(Value::Null, |id| Value::Blob(id.as_bytes().to_vec()));
    let values = [
        number(question.from_ms),
        number(question.to_ms),
        number(question.step.length_ms()),
        id(question.tenant.map(|tenant| tenant.0)),
        id(question.table.map(|table| table.0)),
        number(rows_max as u64 + 1),
        number(kept_ms),
    ];
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| row_of(connection, row))?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((rows.len() <= rows_max).then_some(rows))
}

fn row_of(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    // An empty blob is none, too.
    let id = |column: usize| -> rusqlite::Result<Option<Uuid>> {
        let bytes = row.get_ref(column)?.as_blob_or_null()?.unwrap_or_default();
        Ok(Uuid::from_slice(bytes).ok())
    };
    let name = |id: Option<Uuid>| -> rusqlite::Result<Option<String>> {
        let Some(id) = id else { return Ok(None) };
        let sql = "SELECT name FROM names WHERE id = ?1";
        connection.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0)).optional()
    };
    let (tenant, table) = (id(1)?, id(2)?);
    let of = UsageOf {
        tenant_name: name(tenant)?,
        table_name: name(table)?,
        tenant: tenant.map(TenantId),
        table: table.map(TableId),
        principal: id(3)?.map(PrincipalId),
        operation: row.get(4)?,
        result: row.get(5)?,
    };
    Ok(UsageRow { at_ms: row.get::<_, i64>(0)? as u64, of, counts: counts_of(row, 6)? })
}
