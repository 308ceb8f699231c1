//! What a new file is told once and keeps: the local indexes of its table.

use super::SqliteRangeStore;
use crate::domain::local_index::LocalIndex;
use crate::storage::sqlite::index_entries::{KnownIndex, define};
use crate::storage::store::{RangeStore, StoreError};

impl SqliteRangeStore {
    /// Tells a new file its indexes. They are in the file itself when this returns, not only in its write-ahead log: the
    /// log of a file without items may be thrown away, or be cut, and nobody would miss anything.
    pub(in crate::storage::sqlite) fn define_indexes(&self, indexes: &[LocalIndex]) -> Result<(), StoreError> {
        if indexes.is_empty() {
            return Ok(());
        }
        let texts = indexes.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|error| StoreError::Failed(format!("the local indexes of a table: {error}")))?;
        self.write_with(|writer| {
            let transaction = writer.connection.transaction()?;
            define(&transaction, &texts)?;
            transaction.commit()?;
            writer.indexes = KnownIndex::all(indexes);
            Ok(())
        })?;
        self.make_durable()?;
        self.checkpoint()
    }
}
