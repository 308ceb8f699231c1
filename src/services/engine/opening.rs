//! Opening a node's engine: what the files have and what only the log has are put together again.
//!
//! For each replica the file tells how far it got. If that is below what the node's database knows
//! to have been synced, the file is damaged as a whole, whatever its pages say: it is set aside, and
//! rebuilt from the log where the log still holds everything from the first entry on; else the
//! replica is out of service and a notice says so. Above that point the log's entries are applied
//! again, the same way as the first time. A tenant whose key is not to be had is out of service by
//! itself; everyone else is served.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::domain::ids::RangeId;
use crate::domain::refusal::RefusalKind;
use crate::domain::{Clock, Random, Refusal};
use crate::replication::entry;
use crate::storage::log::{CommitLog, Disk, LogError, LogKeys, LogOptions};
use crate::storage::node_database::{DurableMark, NodeDatabase, ReplicaRecord, ReplicaState};
use crate::storage::store::{RangeStore, StoreError, StoreKeeper};
use crate::storage::workers::{Running, Workers};

use super::admission::{Admission, AdmissionLimits};
use super::apply_stage::GroupBatch;
use super::companion::Companion;
use super::flusher::{FlushBudget, Flusher};
use super::item_cache::ItemCache;
use super::lifetimes::RetiredReplica;
use super::log_opening::{Replayed, Sink, open_log};
use super::notices::Notices;
use super::readers::ReadPool;
use super::replica::{Replica, StartingPoint};
use crate::services::ranges::RangeAddress;

/// Sizes and limits of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where the commit log lies.
    pub log_folder: PathBuf,
    /// How the commit log is kept. Where its work runs, there runs the engine's, too.
    pub log: LogOptions,
    /// How much piles up in memory.
    pub flush: FlushBudget,
    /// What is refused.
    pub admission: AdmissionLimits,
    /// Bytes of the item cache.
    pub cache_bytes: u64,
    /// Threads that apply entries.
    pub apply_lanes: usize,
    /// Threads that read files.
    pub read_threads: usize,
    /// Reads that may wait for those threads.
    pub reads_waiting_max: usize,
}

/// What an engine stands on; chosen by the role.
pub struct EngineParts {
    /// Keeps the ranges' files.
    pub keeper: Arc<dyn StoreKeeper>,
    /// The node's own database.
    pub database: Arc<dyn NodeDatabase>,
    /// Wraps the commit log's keys.
    pub log_keys: Arc<dyn LogKeys>,
    /// The disk under the commit log.
    pub disk: Arc<dyn Disk>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives random bytes.
    pub random: Arc<dyn Random>,
    /// Takes notices.
    pub notices: Arc<Notices>,
}

/// Why an engine did not open.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The commit log did not open.
    #[error("the commit log cannot be opened")]
    Log(#[from] LogError),
    /// The node's database, or a file, did not.
    #[error("the node's data cannot be opened")]
    Store(#[from] StoreError),
    /// The system gave no thread.
    #[error("no thread could be started")]
    Thread(#[from] std::io::Error),
}

/// A node's storage engine; see the essay of the folder.
pub struct Engine {
    pub(super) parts: EngineParts,
    pub(super) options: EngineOptions,
    pub(super) log: ArcSwap<CommitLog<Companion>>,
    /// Where entries of groups are applied.
    pub(super) sink: ArcSwap<Sink>,
    pub(super) replicas: RwLock<HashMap<RangeId, Arc<Replica>>>,
    pub(super) retired: RwLock<HashMap<RangeId, RetiredReplica>>,
    /// Held shared by whoever makes a file, alone by whoever counts what they are wrapped by.
    pub(super) making_files: RwLock<()>,
    cache: Arc<ItemCache>,
    /// Held while a replica's data is divided between the children of a split: one at a time on a node.
    pub(super) dividing: Mutex<()>,
    /// The ranges that children of splits come from.
    pub(super) parents: RwLock<HashMap<RangeId, RangeId>>,
    /// Held while a range becomes a group.
    pub(super) beginning: tokio::sync::Mutex<()>,
    /// Held by who changes in which file a replica is, and while everything is opened from disk anew.
    pub(super) changing_files: Mutex<()>,
    flusher: Arc<Flusher>,
    admission: Admission,
    pub(super) readers: ReadPool,
    numbers: AtomicU64,
    pub(super) threads: Mutex<Option<Threads>>,
    /// It is being opened from disk anew, since the disk failed.
    pub(super) restarting: AtomicBool,
    /// Counts how often a replica came, went, or became a member of a group.
    changes: AtomicU64,
}

pub(super) struct Threads {
    flusher: Running,
    pub(super) sink: Arc<Sink>,
}

impl Engine {
    /// Opens everything. Blocks on disk.
    ///
    /// # Errors
    /// Where the log or the node's database is damaged or locked. A damaged replica is no error: it
    /// is out of service, and a notice says so.
    pub fn open(parts: EngineParts, options: EngineOptions) -> Result<Arc<Self>, EngineError> {
        let records = parts.database.replicas()?;
        let (log, sink, replayed) = open_log(&parts, &options)?;
        let workers = options.log.workers.clone();
        let flusher = Flusher::new(options.flush, Arc::clone(&parts.database), Arc::clone(&parts.notices), &workers);
        sink.start(options.apply_lanes, &flusher, &workers)?;
        let flushing = flusher.start(&workers)?;
        let engine = Arc::new(Self {
            cache: Arc::new(ItemCache::new(options.cache_bytes)),
            dividing: Mutex::default(),
            parents: RwLock::default(),
            beginning: tokio::sync::Mutex::default(),
            changing_files: Mutex::default(),
            readers: ReadPool::start(options.read_threads, options.reads_waiting_max, &workers)?,
            admission: Admission::new(options.admission, Arc::clone(&parts.notices)),
            parts,
            options,
            log: ArcSwap::from(log),
            sink: ArcSwap::from(Arc::clone(&sink)),
            replicas: RwLock::default(),
            retired: RwLock::default(),
            making_files: RwLock::default(),
            flusher,
            numbers: AtomicU64::new(1),
            threads: Mutex::new(Some(Threads { flusher: flushing, sink })),
            restarting: AtomicBool::new(false),
            changes: AtomicU64::new(1),
        });
        engine.flusher.on_durable({
            let engine = Arc::downgrade(&engine);
            move |marks| {
                if let Some(engine) = engine.upgrade() {
                    engine.release_log(marks);
                }
            }
        });
        engine.bring_up(records, replayed)?;
        // Before the first write, so that none is taken on a disk that is full already.
        engine.look_after();
        Ok(engine)
    }

    /// Tells the log what is in files, and lets its segments go.
    pub(super) fn release_log(&self, marks: &[DurableMark]) {
        let log = self.log();
        for mark in marks {
            log.set_durable(mark.range, mark.durable_index);
        }
        match log.drop_segments() {
            // The node is stopping, or starts again from disk: the next start drops them.
            Ok(_) | Err(LogError::Closed | LogError::Failed) => {}
            Err(error) => tracing::error!(%error, "segments of the commit log could not be dropped"),
        }
    }

    pub(super) fn bring_up(&self, records: Vec<ReplicaRecord>, mut replayed: Replayed) -> Result<(), EngineError> {
        let distrusted: BTreeMap<_, _> = self.parts.database.distrusted()?.into_iter().collect();
        for record in records {
            let is_dropped = matches!(record.state, ReplicaState::Dropped(_));
            let is_removed = replayed.removed.contains(&record.name.range);
            if is_dropped && is_removed && !replayed.ranges.contains_key(&record.name.range) {
                self.finish_purge(&record)?;
                continue;
            }
            let found = replayed.ranges.remove(&record.name.range).unwrap_or_default();
            let unreadable = replayed.unreadable.get(&record.name.range).copied();
            let replica = match record.group_file {
                Some(file) => self.restore_member(&record, file, found, unreadable)?,
                None => {
                    let entries = found.entries.into_iter().map(|(index, (_, payload))| (index, payload));
                    self.restore(&record, entries.collect(), unreadable)?
                }
            };
            // What the file has now, not what it had: one that was made anew from the log has nothing yet.
            self.log().set_durable(record.name.range, replica.durable_index());
            if let Some(reason) = distrusted.get(&record.name.replica) {
                replica.mark_damaged(reason.clone());
            }
            match record.state {
                ReplicaState::Serving => {
                    self.replicas.write().insert(record.name.range, replica);
                    self.note_change();
                }
                ReplicaState::Dropped(at) => {
                    self.retired.write().insert(record.name.range, RetiredReplica { replica, at });
                }
                ReplicaState::Damaged => {}
            }
        }
        self.restore_splits()?;
        for (range, found) in replayed.ranges.iter().filter(|(_, found)| !found.entries.is_empty()) {
            self.parts.notices.write(format!(
                "the commit log holds {} entries of range {range}, which this node's database does not know",
                found.entries.len()
            ));
        }
        Ok(())
    }

    fn restore(
        &self,
        record: &ReplicaRecord,
        entries: BTreeMap<u64, Bytes>,
        unreadable: Option<u64>,
    ) -> Result<Arc<Replica>, EngineError> {
        let last_in_log = entries.last_key_value().map_or(0, |(index, _)| *index).max(unreadable.unwrap_or(0));
        let last_index = last_in_log.max(record.durable_index);
        let store = self.parts.keeper.open(record.name)?;
        store.expect_at_least(record.durable_index);
        let needs_file = last_in_log > record.durable_index;
        let start = |applied_index| StartingPoint { last_index, applied_index, durable_index: record.durable_index };
        if !needs_file {
            return Ok(self.make_replica(record, store, start(last_index)));
        }
        let found = store.state().and_then(|state| {
            super::stored_parts::check_indexes(&*store, &record.table.specification.local_indexes)?;
            Ok(state.applied_index)
        });
        if let Some(cut) = store.take_cut() {
            self.parts.notices.write(format!(
                "replica {}: {cut}; what stood there is taken from the commit log, nothing is lost",
                record.name.replica
            ));
        }
        match found {
            Ok(applied) => Ok(self.replay(record, store, start(applied.min(last_index)), &entries, unreadable)),
            Err(error) => self.rebuild(record, store, start(0), &entries, &error),
        }
    }

    /// Sets a damaged file aside and makes a new one from the log, where the log has everything.
    fn rebuild(
        &self,
        record: &ReplicaRecord,
        store: Arc<dyn RangeStore>,
        start: StartingPoint,
        entries: &BTreeMap<u64, Bytes>,
        error: &StoreError,
    ) -> Result<Arc<Replica>, EngineError> {
        store.release();
        let whole = entries.keys().copied().eq(1..=start.last_index);
        if !whole || matches!(error, StoreError::Key(_)) {
            let replica = self.make_replica(record, store, start);
            self.put_out_of_service(
                &replica,
                &format!("the file of replica {} cannot be used: {error}", record.name.replica),
            );
            return Ok(replica);
        }
        let _a_file_is_made = self.making_files.read();
        let aside = self.parts.keeper.set_aside(record.name)?;
        let fresh = self.parts.keeper.create(record.name, &record.table.specification.local_indexes)?;
        self.parts.notices.write(format!(
            "the file of replica {} was damaged ({error}); it was set aside as {aside} and rebuilt from the commit log, nothing is lost",
            record.name.replica
        ));
        Ok(self.replay(record, fresh, StartingPoint { durable_index: 0, ..start }, entries, None))
    }

    fn replay(
        &self,
        record: &ReplicaRecord,
        store: Arc<dyn RangeStore>,
        start: StartingPoint,
        entries: &BTreeMap<u64, Bytes>,
        unreadable: Option<u64>,
    ) -> Arc<Replica> {
        let replica = self.make_replica(record, store, start);
        if let Some(index) = unreadable {
            self.put_out_of_service(
                &replica,
                &format!(
                    "entry {index} of range {} cannot be read: the tenant's key is not available",
                    record.name.range
                ),
            );
            return replica;
        }
        let mut expected = start.applied_index + 1;
        for (index, payload) in entries.range(expected..) {
            let applied = if *index == expected {
                entry::decode(payload).map_err(|error| error.to_string()).and_then(|entry| {
                    replica.apply(*index, entry.time, &entry.operation).map_err(|error| error.to_string())
                })
            } else {
                Err(format!("entry {expected} is missing from the commit log"))
            };
            if let Err(error) = applied {
                self.put_out_of_service(
                    &replica,
                    &format!("entry {index} of range {} cannot be applied: {error}", record.name.range),
                );
                return replica;
            }
            expected = index + 1;
            self.flusher.note_dirty(&replica);
        }
        replica
    }

    pub(super) fn put_out_of_service(&self, replica: &Replica, reason: &str) {
        self.parts.notices.write(format!("{reason}; the range is out of service, all others are served"));
        replica.mark_damaged(reason.to_owned());
    }

    pub(super) fn make_replica(
        &self,
        record: &ReplicaRecord,
        store: Arc<dyn RangeStore>,
        start: StartingPoint,
    ) -> Arc<Replica> {
        let number = self.next_number();
        let table = Arc::new(record.table.clone());
        Arc::new(Replica::new(
            record.name,
            number,
            record.hashes,
            table,
            record.epoch,
            store,
            Arc::clone(&self.cache),
            start,
        ))
    }

    /// A number that was not given out before within this process.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The replica of a range that serves, or is a member of its group.
    pub fn replica_of(&self, range: RangeId) -> Option<Arc<Replica>> {
        self.replicas.read().get(&range).cloned()
    }

    /// A number that grows whenever a replica comes, goes, or becomes a member of a group: who has looked at all of them need not
    /// look again before.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// A replica came, went, or became a member of a group; called afterwards.
    pub(super) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The replicas that serve.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().values().cloned().collect()
    }

    /// The replica that is meant.
    ///
    /// # Errors
    /// `WrongNode` where it is not here, not of this table, or does not hold this hash; `Damaged`
    /// where it is out of service.
    pub(super) fn replica(&self, address: RangeAddress, hash: Option<u32>) -> Result<Arc<Replica>, Refusal> {
        let replica = self.replicas.read().get(&address.range).cloned();
        let fits = |replica: &Arc<Replica>| {
            replica.name.table == address.table && hash.is_none_or(|hash| replica.hashes.contains(hash))
        };
        let replica = replica.filter(fits).ok_or_else(|| self.not_here())?;
        match replica.damage() {
            None => Ok(replica),
            Some(reason) => Err(Refusal::new(RefusalKind::Damaged, reason)),
        }
    }

    /// Has entries of a group applied.
    pub(super) fn apply_on_lanes(&self, batch: GroupBatch) {
        let sink = self.sink.load_full();
        sink.apply_group(batch);
    }

    /// Writes everything to files, makes it durable, and closes the log with a mark. Blocks.
    pub fn stop(&self) {
        let Some(threads) = self.threads.lock().take() else { return };
        if let Err(error) = self.log().close() {
            tracing::error!(%error, "the commit log did not close cleanly; the next start replays it");
        }
        threads.sink.stop();
        self.flusher.stop();
        if threads.flusher.join().is_err() {
            tracing::error!("the flusher panicked");
        }
        self.readers.stop();
        let retired: Vec<_> = self.retired.read().values().map(|retired| Arc::clone(&retired.replica)).collect();
        for replica in self.replicas().into_iter().chain(retired) {
            replica.store().release();
        }
    }

    /// Looks after disk and log; called about once a second by the role while the node runs. Where the log has
    /// failed, starts again from disk.
    pub fn look_after(&self) {
        if self.must_restart() {
            self.restart();
        }
        match self.disk_bytes() {
            Ok((free, total)) => self.admission.note_disk(free, total),
            Err(error) => tracing::warn!(%error, "how much of the disk is free cannot be read"),
        }
        let stats = self.log().counters();
        // What could not be written to a file, a full disk for one, is tried again even if nobody writes. And each file may have
        // megabytes in its write-ahead log, which a disk that runs full has no room for.
        let is_near_full = self.admission.is_near_full();
        if is_near_full {
            self.flusher.note_backlogs(&self.replicas());
        }
        if stats.bytes_total * 2 > self.options.log.budget_bytes || self.flusher.is_failing() || is_near_full {
            self.flusher.ask_for_durability();
        }
    }

    /// The commit log, the one that is open now: not to be held for long.
    pub fn log(&self) -> Guard<Arc<CommitLog<Companion>>> {
        self.log.load()
    }

    /// The flusher.
    pub fn flusher(&self) -> &Arc<Flusher> {
        &self.flusher
    }

    /// Whether the disk was so full at the last look that people were told.
    pub fn is_near_full(&self) -> bool {
        self.admission.is_near_full()
    }

    /// What is refused.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Writes that were refused because too many were under way or the disk was full, so far.
    pub fn writes_refused(&self) -> u64 {
        self.admission.refused()
    }

    /// Free bytes of the disk under the commit log, and all of it.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn disk_bytes(&self) -> std::io::Result<(u64, u64)> {
        let folder = &self.options.log_folder;
        Ok((self.parts.disk.free_bytes(folder)?, self.parts.disk.total_bytes(folder)?))
    }

    /// Where notices go.
    pub fn notices(&self) -> &Notices {
        &self.parts.notices
    }

    /// Where its work runs.
    pub fn workers(&self) -> &Workers {
        &self.options.log.workers
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.parts.clock
    }
}
