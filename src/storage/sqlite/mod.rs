//! Ranges in encrypted SQLite files, one file a replica, and the node's own database in another; and a reporter's store.
//!
//! ```text
//! <folder>/<plane>/node.db                                       the node's own database
//! <folder>/<plane>/<tenant>/<table>/<replica>.db                 one replica
//! <folder>/<plane>/reporting.db                                  a reporter's store
//! ```
//!
//! Names of tenants and tables appear in no path. Files are opened when first used and closed again
//! when too many are open ([`keeper`]): a node with ten thousand replicas holds a few hundred files.
//!
//! - [`keeper`]: which files are there, which are open.
//! - [`range_store`]: one replica's file.
//! - [`cells`]: items as rows and back.
//! - `index_entries`: the items in the order of local indexes.
//! - [`node_database`]: the node's own database.
//! - [`reporting`]: a reporter's store.
//! - [`migrate`]: numbered schema changes.
//! - [`rewrap`]: a file's key, wrapped anew.
//! - `snapshot`: one replica's file as it was at one moment.

pub mod cells;
mod index_entries;
pub mod keeper;
pub mod migrate;
pub mod node_database;
mod open_files;
pub mod range_store;
pub mod reporting;
pub mod rewrap;
mod snapshot;

use crate::storage::store::StoreError;

/// What SQLite's error means to us.
pub(crate) fn failure(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    match error.sqlite_error_code() {
        Some(DiskFull) => StoreError::Full,
        Some(DatabaseCorrupt | NotADatabase) => StoreError::Damaged(error.to_string()),
        _ => StoreError::Failed(error.to_string()),
    }
}

/// Makes folders down to `folder`, and syncs each new one's parent, so that they survive a crash.
pub(crate) fn make_folders(root: &std::path::Path, folder: &std::path::Path) -> Result<(), StoreError> {
    let failed =
        |path: &std::path::Path, error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let mut missing = Vec::new();
    let mut at = folder;
    while !at.exists() {
        missing.push(at);
        match at.parent() {
            Some(parent) if at != root => at = parent,
            _ => break,
        }
    }
    for path in missing.into_iter().rev() {
        std::fs::create_dir_all(path).map_err(|error| failed(path, error))?;
        if let Some(parent) = path.parent() {
            std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| failed(parent, error))?;
        }
    }
    Ok(())
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_if_there(path: &std::path::Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::Failed(format!("{}: {error}", path.display()))),
    }
}
