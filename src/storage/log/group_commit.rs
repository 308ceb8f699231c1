//! The log's thread: takes what waits, seals it into one batch, writes it with one write and one `fdatasync`, and
//! hands the whole group on.
//!
//! Only one batch is ever in flight. While it is synced the next one gathers in the queue, so the group grows with the
//! load and nothing has to be tuned; a batch behind another that was not synced cannot exist, which keeps replay simple.
//! Rejected: several writes in flight (a torn one before a whole one would have to be told from damage), and a
//! timer that waits for more records (the sync itself is the wait).
//!
//! A write or sync that fails is never tried again: after a failed sync Linux forgets that the pages were dirty, so a second
//! sync would succeed and mean nothing. The log fails as a whole: what was in flight is unknown, what waited is
//! refused, and only opening from disk helps.
//!
//! What happens where a segment or the disk is full stands in `rolling`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::batch::Batch;
use super::commit_log::{Append, AppendRefused, Committed, GroupSink, Outcome};
use super::disk::DiskFile;
use super::error::LogError;
use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, FLAG_CARRIED, FLAG_CLEAN_STOP, FLAG_MARK, FORMAT_VERSION, Place,
    RECORD_HEADER_BYTES, WRAPPED_KEY_BYTES_MAX,
};
use super::keys::{KeyOwner, LogKeys};
use super::options::LogOptions;
use super::queue::{Command, Shared, Work, stored_bytes};
use super::record::Record;
use super::segment::LogFolder;
use crate::crypto::Key256;
use crate::crypto::cipher::{Aead, NonceSource};
use crate::domain::Random;
use crate::domain::ids::{LogId, LogKeyId};
use crate::domain::mutation::{Mutation, is_on};
use crate::storage::workers::{Patience, Step, Worker};

/// The longest key record.
const KEY_RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + WRAPPED_KEY_BYTES_MAX;

/// The longest record that fits in a segment of this length, beside its key, the start mark and
/// the end batch.
pub(crate) fn record_bytes_max(segment_bytes: u64) -> usize {
    let overhead = 4 * BATCH_HEADER_BYTES + KEY_RECORD_BYTES_MAX + 8;
    (segment_bytes as usize).saturating_sub(overhead).min(u32::MAX as usize / 2)
}

/// The segment that is being written.
pub(crate) struct Head {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) length: u64,
    /// Where the next batch goes; all before is synced.
    pub(crate) next: Place,
    /// One data key per owner that has written in this segment.
    ciphers: HashMap<KeyOwner, (LogKeyId, Aead)>,
    /// Keys whose key record stands in this segment.
    pub(crate) key_ids: HashSet<LogKeyId>,
}

impl Head {
    pub(crate) fn new(file: Box<dyn DiskFile>, length: u64, next: Place) -> Head {
        Head { file, length, next, ciphers: HashMap::new(), key_ids: HashSet::new() }
    }
}

/// Everything the log's thread owns.
pub(crate) struct Writer<C: Send + 'static> {
    pub(crate) shared: Arc<Shared<C>>,
    pub(crate) sink: Arc<dyn GroupSink<C>>,
    pub(crate) keys: Arc<dyn LogKeys>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) nonces: NonceSource,
    pub(crate) options: LogOptions,
    pub(crate) log_id: LogId,
    pub(crate) folder: LogFolder,
    /// Held until the thread ends.
    pub(crate) lock: Option<Box<dyn DiskFile>>,
    pub(crate) head: Head,
    pub(crate) segment_oldest: u64,
    pub(crate) batch: Batch,
    /// What goes with the batch, and what was refused in between.
    pub(crate) group: Vec<(Append<C>, Option<AppendRefused>)>,
    /// When a mark is due; `None` right after one.
    pub(crate) mark_due: Option<Instant>,
    /// A segment was begun: see whether others can go.
    pub(crate) cleaning_due: bool,
    /// The segment that could not be copied to the head since it is damaged where something may be needed, or missing, and
    /// the bytes that lived in it then.
    pub(crate) not_carried: Option<(u64, u64)>,
}

impl<C: Send + 'static> Worker for Writer<C> {
    /// Writes what waits, or does what is asked, until the log is closed or fails.
    fn step(&mut self, patience: Patience) -> Step {
        let deadline = self.deadline();
        match self.shared.next(deadline, patience) {
            Work::Nothing => return Step::Idle(deadline),
            Work::Records(appends) => self.commit(appends),
            Work::Idle => self.idle(),
            Work::Command(Command::Drop(through, answer)) => {
                let dropped = self.drop_segments(through);
                answer.send(dropped).ok();
            }
            Work::Command(Command::Rewrap(owner, answer)) => {
                let rewrapped = self.rewrap(owner);
                answer.send(rewrapped).ok();
            }
            Work::Command(Command::Remove(range, answer)) => {
                let removed = self.remove_range(range);
                answer.send(removed).ok();
            }
            Work::Command(Command::Close(answer)) => {
                let closed = match self.write_mark(FLAG_MARK | FLAG_CLEAN_STOP) {
                    Ok(()) | Err(LogError::Full) => Ok(0),
                    Err(error) => Err(error),
                };
                self.end();
                self.lock = None;
                answer.send(closed).ok();
                return Step::Ended;
            }
        }
        if self.cleaning_due && !self.is_failed() {
            self.cleaning_due = false;
            if let Err(error) = self.drop_segments(0) {
                tracing::error!(%error, "old segments of the log could not be dropped");
            }
        }
        if self.is_failed() {
            self.end();
            return Step::Ended;
        }
        Step::Worked
    }
}

impl<C: Send + 'static> Writer<C> {
    /// Refuses what still waits.
    fn end(&mut self) {
        let (appends, commands) = self.shared.shut();
        let reason = if self.is_failed() { AppendRefused::Failed } else { AppendRefused::Closed };
        self.group.extend(appends.into_iter().map(|append| (append, Some(reason))));
        self.deliver(Outcome::Unknown);
        for command in commands {
            let (Command::Drop(_, answer)
            | Command::Rewrap(_, answer)
            | Command::Remove(_, answer)
            | Command::Close(answer)) = command;
            answer.send(Err(if self.is_failed() { LogError::Failed } else { LogError::Closed })).ok();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = self.shared.disk_full.load(Ordering::Relaxed);
        let retry = retry.then(|| Shared::<C>::deadline(self.options.retry_ms));
        [self.mark_due, retry].into_iter().flatten().min()
    }

    fn idle(&mut self) {
        if self.shared.disk_full.load(Ordering::Relaxed) {
            self.replenish();
        }
        if self.mark_due.is_some_and(|due| due <= Instant::now())
            && let Err(error) = self.write_mark(FLAG_MARK)
        {
            tracing::warn!(%error, "the idle log could not be marked");
        }
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Writes records, in one group or as many as it takes, and hands them on.
    pub(crate) fn commit(&mut self, appends: Vec<Append<C>>) {
        self.group.reserve(appends.len());
        for append in appends {
            let refused = self.add(&append.record, append.urgent).err();
            self.group.push((append, refused));
        }
        self.flush_group();
    }

    /// Adds a record to the batch; what does not fit any more is written before.
    pub(crate) fn add(&mut self, record: &Record, urgent: bool) -> Result<(), AppendRefused> {
        let owner = record.owner;
        loop {
            if self.is_failed() {
                return Err(AppendRefused::Failed);
            }
            let is_key_new = !self.head.ciphers.contains_key(&owner);
            let need = stored_bytes(record) + if is_key_new { KEY_RECORD_BYTES_MAX } else { 0 };
            if !self.batch.is_empty() && self.batch.bytes_with(need) > self.options.group_bytes_max {
                self.flush_group();
            } else if !self.fits(need) {
                self.flush_group();
                self.roll(urgent)?;
            } else if is_key_new {
                self.make_key(owner)?;
            } else {
                break;
            }
        }
        if let Some((key_id, cipher)) = self.head.ciphers.get(&owner) {
            self.batch.push(record, *key_id, cipher, self.nonces.next());
        }
        Ok(())
    }

    /// Whether so many more bytes fit in the segment, with a mark and an end batch behind: where the disk is full
    /// and nothing can be begun, segments can still be dropped, which takes a mark.
    pub(crate) fn fits(&self, need: usize) -> bool {
        self.fits_before(need, 2 * BATCH_HEADER_BYTES)
    }

    fn fits_before(&self, need: usize, kept: usize) -> bool {
        self.head.next.offset + (self.batch.bytes_with(need) + kept) as u64 <= self.head.length
    }

    fn make_key(&mut self, owner: KeyOwner) -> Result<(), AppendRefused> {
        let key_id = LogKeyId::random(&*self.random);
        let key = Key256::random(&*self.random);
        let wrapped = match self.keys.wrap(owner, key_id, &key) {
            Ok(wrapped) if wrapped.bytes.len() <= WRAPPED_KEY_BYTES_MAX => wrapped,
            Ok(_) => {
                tracing::error!(?owner, "a wrapped key is longer than the log takes");
                return Err(AppendRefused::KeyUnavailable);
            }
            Err(error) => {
                tracing::warn!(?owner, %error, "a data key of the log could not be wrapped");
                return Err(AppendRefused::KeyUnavailable);
            }
        };
        self.batch.push_key(owner, key_id, wrapped);
        self.head.ciphers.insert(owner, (key_id, Aead::new(&key)));
        self.head.key_ids.insert(key_id);
        Ok(())
    }

    /// Writes the batch and hands on what goes with it.
    pub(crate) fn flush_group(&mut self) {
        let outcome =
            if self.batch.is_empty() || self.write_batch(0).is_ok() { Outcome::Durable } else { Outcome::Unknown };
        self.deliver(outcome);
    }

    fn deliver(&mut self, outcome: Outcome) {
        if self.group.is_empty() {
            return;
        }
        let mut bytes = 0;
        let mut durable = 0;
        let mut done = Vec::with_capacity(self.group.len());
        for (append, refused) in self.group.drain(..) {
            bytes += stored_bytes(&append.record);
            let outcome = refused.map_or(outcome, Outcome::Refused);
            durable += u64::from(outcome == Outcome::Durable);
            done.push(Committed { record: append.record, outcome, companion: append.companion });
        }
        if durable > 0 {
            let mut stats = self.shared.stats.lock();
            stats.records += durable;
            stats.groups += 1;
        }
        self.sink.group_committed(done);
        self.shared.release(bytes);
    }

    /// Writes and syncs the batch as it is. An error fails the log.
    pub(crate) fn write_batch(&mut self, flags: u8) -> Result<(), LogError> {
        let place = self.head.next;
        let header = self.header(flags, place, self.head.length);
        let room = self.head.length - place.offset - self.batch.bytes_with(0) as u64;
        let (bytes, batch_bytes) = self.batch.finish(header, (room as usize).min(BATCH_HEADER_BYTES));
        let sync = || if is_on(Mutation::AcknowledgeBeforeSync) { Ok(()) } else { self.head.file.sync_data() };
        let began = Instant::now();
        let written = self.head.file.write_at(bytes, place.offset).and_then(|()| sync());
        let took = began.elapsed();
        let bytes_written = bytes.len() as u64;
        if let Err(source) = written {
            let path = self.folder.segment_path(place.segment);
            return Err(self.fail(LogError::Disk { action: "write and sync", path, source }));
        }
        let is_mark = flags & FLAG_MARK != 0;
        self.mark_due = (!is_mark).then(|| Shared::<C>::deadline(self.options.idle_mark_ms));
        self.head.next.offset += batch_bytes as u64;
        self.batch.note(&mut self.shared.live.lock(), place, flags & FLAG_CARRIED != 0);
        self.batch.clear(2 * self.options.group_bytes_max);
        let mut stats = self.shared.stats.lock();
        stats.writes += 1;
        stats.syncs += 1;
        stats.sync_us += took.as_micros() as u64;
        stats.bytes_written += bytes_written;
        stats.synced = self.head.next.number();
        stats.marks += u64::from(is_mark);
        Ok(())
    }

    /// A header for a batch at this place; the batch fills in what is its own.
    pub(crate) fn header(&self, flags: u8, place: Place, segment_bytes: u64) -> BatchHeader {
        BatchHeader {
            version: FORMAT_VERSION,
            flags,
            record_count: 0,
            log_id: self.log_id,
            place,
            synced_through: self.head.next,
            segment_oldest: self.segment_oldest,
            segment_bytes,
            body_bytes: 0,
            body_crc: 0,
        }
    }

    /// The log has failed; gives the error back.
    pub(crate) fn fail(&mut self, error: LogError) -> LogError {
        tracing::error!(%error, "the commit log has failed; it must be opened anew from disk");
        self.shared.failed.store(true, Ordering::Release);
        self.shared.stats.lock().failed = true;
        error
    }

    /// Writes a batch without records that says that all before it is synced.
    ///
    /// # Errors
    /// [`LogError::Full`] where there is no room and no next segment: the log goes on unmarked, which is safe.
    pub(crate) fn write_mark(&mut self, flags: u8) -> Result<(), LogError> {
        if self.fits(0) {
            return self.write_batch(flags);
        }
        // The end batch says the same.
        self.mark_due = None;
        self.roll(false).map_err(|_| if self.is_failed() { LogError::Failed } else { LogError::Full })
    }

    /// The same before segments are dropped; takes the room that is kept for it where there is no other.
    pub(crate) fn write_drop_mark(&mut self) -> Result<(), LogError> {
        match self.write_mark(FLAG_MARK) {
            Err(LogError::Full) if self.fits_before(0, BATCH_HEADER_BYTES) => self.write_batch(FLAG_MARK),
            written => written,
        }
    }
}
