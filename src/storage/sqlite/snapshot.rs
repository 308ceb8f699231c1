//! One replica's file as it was at one moment: a connection of its own in a read transaction that stays open.
//!
//! SQLite keeps what the transaction sees in the write-ahead log, so the log cannot start from its beginning while a
//! snapshot is read; it grows by what is written meanwhile. The pool's readers are not used for it: they are few, and
//! a snapshot is read for minutes. Closing the file's other connections does not end it, but where the
//! write-ahead log is to be thrown away it has to, and then says so at its next call.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rusqlite::{Connection, Params, params};

use crate::domain::Timestamp;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::storage::store::{
    Chunk, KeptReceipt, KeyInterval, RememberedRequest, StoreError, StoreSnapshot, StoreState,
};

use super::cells;
use super::range_store::{kept_outcome, read_state, remembered};

type Shared = Mutex<Option<Connection>>;
type Explain = Box<dyn Fn(rusqlite::Error) -> StoreError + Send>;

/// The snapshots of one file that are open.
#[derive(Default)]
pub(super) struct OpenSnapshots(Mutex<Vec<Weak<Shared>>>);

impl OpenSnapshots {
    /// Ends them all; waits for a call that is under way.
    pub(super) fn end(&self) {
        for snapshot in self.0.lock().drain(..) {
            if let Some(connection) = snapshot.upgrade() {
                *connection.lock() = None;
            }
        }
    }

    fn note(&self, connection: &Arc<Shared>) {
        let mut open = self.0.lock();
        open.retain(|snapshot| snapshot.strong_count() > 0);
        open.push(Arc::downgrade(connection));
    }
}

/// See the module's essay.
pub(super) struct SqliteSnapshot {
    connection: Arc<Shared>,
    state: StoreState,
    explain: Explain,
}

impl SqliteSnapshot {
    /// Begins one; what it shows is settled by the time this returns.
    pub(super) fn begin(connection: Connection, open: &OpenSnapshots, explain: Explain) -> Result<Self, StoreError> {
        let begun = connection.execute_batch("BEGIN").and_then(|()| read_state(&connection));
        let state = begun.map_err(&explain)??;
        let connection = Arc::new(Mutex::new(Some(connection)));
        open.note(&connection);
        Ok(Self { connection, state, explain })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let connection = self.connection.lock();
        let connection = connection
            .as_ref()
            .ok_or_else(|| StoreError::Failed("the snapshot was ended: the file's state is not believed".to_owned()))?;
        work(connection).map_err(&self.explain)?
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        row: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<Result<T, StoreError>>,
    ) -> Result<Vec<T>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(parameters, row)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(rows.into_iter().collect())
        })
    }
}

impl StoreSnapshot for SqliteSnapshot {
    fn state(&self) -> &StoreState {
        &self.state
    }

    fn items(&mut self, interval: &KeyInterval, items_max: usize, bytes_max: usize) -> Result<Chunk, StoreError> {
        let applied_index = self.state.applied_index;
        self.read(|connection| {
            cells::scan(connection, interval, false, items_max, bytes_max)
                .map(|scanned| scanned.map(|(items, complete)| Chunk { items, complete, applied_index }))
        })
    }

    fn requests(
        &mut self,
        after: Option<(PrincipalId, RequestId)>,
        max: usize,
    ) -> Result<Vec<RememberedRequest>, StoreError> {
        let sql = "SELECT principal, request_id, digest, outcome, entry_index, at FROM requests
                   WHERE ?1 IS NULL OR (principal, request_id) > (?1, ?2) ORDER BY principal, request_id LIMIT ?3";
        let (principal, id) = after.unzip();
        let (principal, id) = (principal.as_ref().map(PrincipalId::as_bytes), id.as_ref().map(RequestId::as_bytes));
        self.rows(sql, params![principal, id, max as i64], |row| {
            let outcome: Vec<u8> = row.get(3)?;
            let known = remembered(row.get(2)?, &outcome, row.get(4)?, row.get(5)?);
            let (principal, id) = (PrincipalId::from_bytes(row.get(0)?), RequestId::from_bytes(row.get(1)?));
            Ok(known.map(|known| (principal, id, known)))
        })
    }

    fn receipts(&mut self, after: Option<ReceiptId>, max: usize) -> Result<Vec<KeptReceipt>, StoreError> {
        let sql = "SELECT id, outcome, at FROM receipts WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2";
        self.rows(sql, params![after.as_ref().map(ReceiptId::as_bytes), max as i64], |row| {
            let (id, outcome, at): (_, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(kept_outcome(&outcome).map(|outcome| (ReceiptId::from_bytes(id), outcome, Timestamp(at as u64))))
        })
    }
}
