//! A batch of applied entries, written to a range's file: its items, what is remembered of requests and receipts, and what
//! the file knows of itself.

use rusqlite::{Connection, params};

use super::meta;
use crate::domain::Timestamp;
use crate::domain::limits::{RECEIPT_SECONDS, REQUEST_WINDOW_SECONDS};
use crate::storage::sqlite::cells::CellWriter;
use crate::storage::sqlite::index_entries::KnownIndex;
use crate::storage::store::{Batch, BatchChanges, StoreError};

/// Brings a batch into the file, within the transaction that the connection is in; where there is damage inside, nothing
/// of it is to be kept.
pub(super) fn write_batch(
    connection: &Connection,
    indexes: &[KnownIndex],
    batch: &Batch,
) -> rusqlite::Result<Result<BatchChanges, StoreError>> {
    let mut writer = CellWriter::new(connection, indexes)?;
    for item in &batch.items {
        writer.write(item)?;
    }
    if let Err(error) = writer.finish_indexes()? {
        return Ok(Err(error));
    }
    let (mut changes, bytes_added) = (writer.changes(), writer.bytes_added());
    drop(writer);
    write_remembered(connection, batch)?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?;
    statement.execute(params!["applied_index", batch.applied_index as i64])?;
    statement.execute(params!["item_count", batch.item_count as i64])?;
    let stored_bytes = (meta(connection, "stored_bytes")? as i64).saturating_add(bytes_added).max(0);
    statement.execute(params!["stored_bytes", stored_bytes])?;
    changes.stored_bytes = stored_bytes as u64;
    if let Some(machine) = &batch.machine {
        statement.execute(params!["machine", &machine.encode()[..]])?;
    }
    let later = "INSERT INTO meta (name, value) VALUES ('time', ?1) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";
    connection.prepare_cached(later)?.execute([batch.now.0 as i64])?;
    Ok(Ok(changes))
}

fn write_remembered(connection: &Connection, batch: &Batch) -> rusqlite::Result<()> {
    if !batch.requests.is_empty() {
        let mut statement = connection.prepare_cached(
            "INSERT INTO requests (principal, request_id, digest, outcome, entry_index, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (principal, request_id) DO UPDATE
             SET digest = excluded.digest, outcome = excluded.outcome, entry_index = excluded.entry_index, at = excluded.at",
        )?;
        for (principal, id, known) in &batch.requests {
            let outcome = known.outcome.encode();
            statement.execute(params![
                principal.as_bytes(),
                id.as_bytes(),
                known.digest,
                outcome,
                known.index as i64,
                known.at.0 as i64
            ])?;
        }
        forget(connection, "DELETE FROM requests WHERE at <= ?1", batch.now, REQUEST_WINDOW_SECONDS)?;
    }
    if !batch.receipts.is_empty() {
        let mut statement =
            connection.prepare_cached("INSERT OR REPLACE INTO receipts (id, outcome, at) VALUES (?1, ?2, ?3)")?;
        for (id, outcome, at) in &batch.receipts {
            statement.execute(params![id.as_bytes(), outcome.encode(), at.0 as i64])?;
        }
        forget(connection, "DELETE FROM receipts WHERE at <= ?1", batch.now, RECEIPT_SECONDS)?;
    }
    Ok(())
}

/// Only what has expired for good, to the second: a replica that flushes late must not know what another has forgotten.
fn forget(connection: &Connection, statement: &str, now: Timestamp, seconds: u64) -> rusqlite::Result<()> {
    let Some(last) = now.0.checked_sub((seconds + 1) * 1_000_000) else { return Ok(()) };
    connection.prepare_cached(statement)?.execute([last as i64]).map(|_| ())
}
