//! How far the scrub is, in memory and in the node's database.
//!
//! What cannot be written down now is not lost while the node runs; after a restart some of it is done once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::Timestamp;
use crate::domain::ids::ReplicaId;
use crate::storage::node_database::{NodeDatabase, ScrubRecord};
use crate::storage::store::StoreError;
use crate::storage::workers::Workers;

/// See the module's essay.
pub(super) struct Records {
    database: Arc<dyn NodeDatabase>,
    workers: Workers,
    known: Mutex<BTreeMap<ReplicaId, ScrubRecord>>,
}

impl Records {
    /// Nothing is known before [`Records::load`].
    pub(super) fn new(database: Arc<dyn NodeDatabase>, workers: Workers) -> Self {
        Self { database, workers, known: Mutex::default() }
    }

    /// Reads what was written down; when the round began.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub(super) async fn load(&self) -> Result<Option<Timestamp>, StoreError> {
        let database = Arc::clone(&self.database);
        let read = self.workers.run(move || database.scrub_progress()).await;
        let progress = read.map_err(|_| StoreError::Failed("reading how far the scrub is failed".to_owned()))??;
        let mut known = self.known.lock();
        for record in progress.files {
            known.entry(record.replica).or_insert(record);
        }
        Ok(progress.round_began)
    }

    /// A round begins.
    pub(super) async fn begin_round(&self, at: Timestamp) {
        let database = Arc::clone(&self.database);
        let written = self.workers.run(move || database.begin_scrub(at)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "that a round of the scrub began could not be written down");
        }
    }

    /// What is known of a replica's file.
    pub(super) fn of(&self, replica: ReplicaId, file: u64) -> ScrubRecord {
        let fresh = ScrubRecord { replica, file, next_page: 1, verified_at: None, digested_at: None };
        match self.known.lock().get(&replica) {
            // Another file has other pages; the replica's state is the same.
            Some(known) if known.file != file => ScrubRecord { digested_at: known.digested_at, ..fresh },
            Some(known) => *known,
            None => fresh,
        }
    }

    /// Changes what is known of a replica's file, in memory only.
    pub(super) fn note(&self, replica: ReplicaId, file: u64, change: impl FnOnce(&mut ScrubRecord)) {
        let mut record = self.of(replica, file);
        change(&mut record);
        self.known.lock().insert(replica, record);
    }

    /// Changes what is known of a replica's file, and writes it down.
    pub(super) async fn change(&self, replica: ReplicaId, file: u64, change: impl FnOnce(&mut ScrubRecord)) {
        let mut record = self.of(replica, file);
        change(&mut record);
        self.known.lock().insert(replica, record);
        let database = Arc::clone(&self.database);
        let written = self.workers.run(move || database.put_scrub(&record)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%replica, %error, "how far the scrub of a file is could not be written down");
        }
    }

    /// Forgets replicas that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(ReplicaId) -> bool) {
        self.known.lock().retain(|replica, _| is_there(*replica));
    }
}
