//! Schema migrations: numbered files under `migrations/`, only ever appended, applied when a file is
//! opened, one transaction each. `PRAGMA user_version` holds the number of the last one applied; a
//! file with a higher number was written by a later release and is refused.

use rusqlite::Connection;

use crate::storage::store::StoreError;

use super::failure;

/// The migrations of a replica's file, in order.
pub const RANGE: &[&str] = &[
    include_str!("../../../migrations/range/0001_cells.sql"),
    include_str!("../../../migrations/range/0002_local_indexes.sql"),
];
/// The migrations of a node's own database, in order.
pub const NODE: &[&str] = &[
    include_str!("../../../migrations/node/0001_node.sql"),
    include_str!("../../../migrations/node/0002_dropped_at.sql"),
    include_str!("../../../migrations/node/0003_group_file.sql"),
    include_str!("../../../migrations/node/0004_splits.sql"),
    include_str!("../../../migrations/node/0005_scrubs.sql"),
];
/// The migrations of a reporter's store, in order.
pub const REPORTING: &[&str] = &[include_str!("../../../migrations/reporting/0001_reporting.sql")];

/// Brings the schema of an open file up to date.
///
/// # Errors
/// Where the file is of a later release, or a migration fails; a failed one leaves no trace.
pub fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failure)?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > migrations.len() {
        return Err(StoreError::Failed(format!(
            "the file has schema version {version} and this release knows {}: run the release that wrote it, or a later one",
            migrations.len()
        )));
    }
    for (position, migration) in migrations.iter().enumerate().skip(version) {
        let transaction = connection.transaction().map_err(failure)?;
        transaction.execute_batch(migration).map_err(failure)?;
        transaction.pragma_update(None, "user_version", (position + 1) as i64).map_err(failure)?;
        transaction.commit().map_err(failure)?;
    }
    Ok(())
}
