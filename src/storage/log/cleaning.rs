//! Segments go, keys are wrapped anew: what the log's thread does besides appending.
//!
//! The oldest segment goes when nothing in it is live. Where little is live, or where the log is past its budget, what lives is
//! copied to the head first, still sealed, each record with the newest wrapped form of its key in front of it. So no
//! range can pin the log, and a segment never needs a key record of another one.
//!
//! Copying is worth it only while it frees more than it writes: past the budget, if at most half of all bytes may
//! be live. Beyond that the engine is too slow with its flushing, and ordinary records are refused once live records fill
//! the budget; so the log never grows past twice its budget.
//!
//! The order of a drop: a mark with the new oldest number is synced first, the files go after. A log whose oldest
//! file is newer than its last mark says has lost a file.
//!
//! Damage in a segment does not keep it where nothing that stands there is needed: what lives beside it is copied all the
//! same. Entries are known by segment only, so this begins when all entries of the segment are durable elsewhere. What the
//! disk does not give counts as damaged, a block at a time. The file does not become a spare: the same blocks would have to
//! hold what is written next.
//!
//! Between two batches of copies the thread writes what waits, so a writer never waits for a whole segment.

use std::sync::atomic::Ordering;

use super::commit_log::AppendRefused;
use super::error::{FirstLost, LogError};
use super::format::{BatchHeader, FLAG_CARRIED, FLAG_SEGMENT_END, RECORD_HEADER_BYTES, Records, StoredRecord};
use super::group_commit::Writer;
use super::keys::KeyOwner;
use super::live::RecordPlace;
use super::record::{Record, RecordKind};
use super::scan::next_header;
use super::segment::{Found, SegmentReader, is_missing};
use crate::domain::ids::RangeId;

/// A segment is copied even below the budget where at most this part of it lives: one sixteenth.
const LIVE_PART_SMALL: u64 = 16;

impl<C: Send + 'static> Writer<C> {
    /// Drops what can be dropped, of segments up to `through` whatever it takes; the number of segments.
    pub(crate) fn drop_segments(&mut self, through: u64) -> Result<u64, LogError> {
        let dropped = self.drop_and_carry(through);
        self.account();
        dropped
    }

    fn drop_and_carry(&mut self, through: u64) -> Result<u64, LogError> {
        let head = self.head.next.segment;
        let mut dropped = 0;
        loop {
            dropped += self.drop_dead()?;
            if self.segment_oldest >= head || !self.is_worth_carrying(through) || !self.carry(self.segment_oldest)? {
                return Ok(dropped);
            }
        }
    }

    fn drop_dead(&mut self) -> Result<u64, LogError> {
        let head = self.head.next.segment;
        let oldest_before = self.segment_oldest;
        {
            let live = self.shared.live.lock();
            while self.segment_oldest < head && live.live_bytes(self.segment_oldest) == 0 {
                self.segment_oldest += 1;
            }
        }
        if self.segment_oldest == oldest_before {
            return Ok(0);
        }
        if let Err(error) = self.write_drop_mark() {
            self.segment_oldest = oldest_before;
            return Err(error);
        }
        self.shared.closed.lock().start = self.segment_oldest;
        self.shared.live.lock().drop_before(self.segment_oldest);
        self.retire_leftovers()?;
        self.replenish();
        let dropped = self.segment_oldest - oldest_before;
        self.shared.stats.lock().segments_dropped += dropped;
        Ok(dropped)
    }

    /// Makes spares of the segments below the oldest, or removes them.
    pub(crate) fn retire_leftovers(&mut self) -> Result<(), LogError> {
        let leftovers: Vec<u64> = self.folder.segments().range(..self.segment_oldest).copied().collect();
        for number in &leftovers {
            let is_damaged = self.shared.damaged.lock().contains(number);
            // One more than is kept ahead: else a fresh spare, made when the last segment was begun, would
            // leave no place for one whose blocks are written already.
            let spares_wanted = if is_damaged { 0 } else { self.options.spare_segments + 1 };
            self.folder.retire(*number, spares_wanted)?;
            self.shared.damaged.lock().remove(number);
        }
        if leftovers.is_empty() { Ok(()) } else { self.folder.sync() }
    }

    /// Whether copying the oldest segment's live records would free more than it costs, or is to be done all the same.
    fn is_worth_carrying(&self, through: u64) -> bool {
        let segment = self.segment_oldest;
        let live = self.shared.live.lock();
        let live_bytes = live.live_bytes(segment);
        // It would only be copied again up to where it is damaged: for certain while any entry lives in it.
        if let Some((_, bytes)) = self.not_carried.filter(|(number, _)| *number == segment)
            && (bytes == live_bytes || live.has_live_entries(segment))
        {
            return false;
        }
        // On a full disk what is left is for what frees more than it takes.
        if segment <= through && !self.shared.disk_full.load(Ordering::Relaxed) {
            return true;
        }
        if live_bytes <= self.options.segment_bytes / LIVE_PART_SMALL {
            return true;
        }
        let total = self.bytes_total();
        total > self.options.budget_bytes && live.live_bytes_total() <= total / 2
    }

    fn bytes_total(&self) -> u64 {
        self.folder.segments().range(self.segment_oldest..).count() as u64 * self.options.segment_bytes
    }

    /// Counts what is live, and closes or opens the log to ordinary records.
    pub(crate) fn account(&self) {
        let bytes_live = self.shared.live.lock().live_bytes_total();
        self.shared.over_budget.store(bytes_live > self.options.budget_bytes, Ordering::Relaxed);
        let mut stats = self.shared.stats.lock();
        stats.bytes_total = self.bytes_total();
        stats.segments = self.folder.segments().range(self.segment_oldest..).count() as u64;
        stats.spares = self.folder.spare_count() as u64;
    }

    /// Copies what lives in the segment to the head. `false`: the disk is full.
    fn carry(&mut self, number: u64) -> Result<bool, LogError> {
        let carried = self.carry_records(number);
        if self.is_failed() {
            return carried;
        }
        // Also what was copied before it ended early: it must not stand in one batch with new records.
        self.flush_carried()?;
        let mut live = self.shared.live.lock();
        match &carried {
            Ok(true) => live.set_carried(number),
            Err(LogError::Damaged { .. } | LogError::SegmentMissing { .. }) => {
                self.not_carried = Some((number, live.live_bytes(number)));
            }
            Ok(false) | Err(_) => {}
        }
        carried
    }

    fn carry_records(&mut self, number: u64) -> Result<bool, LogError> {
        let mut reader = match self.folder.reader(number) {
            Err(error) if is_missing(&error) => return Err(LogError::SegmentMissing { segment: number }),
            opened => opened?.lenient(),
        };
        let mut offset = 0;
        while let Some(header) = self.batch_from(&mut reader, offset)? {
            for (record_number, record) in Records::new(reader.body(&header)?).enumerate() {
                let place = RecordPlace { batch: header.place, number: record_number as u32 };
                if !self.carry_record(place, &record)? {
                    return Ok(false);
                }
            }
            offset = header.place.offset + header.batch_bytes();
            if header.has(FLAG_SEGMENT_END) {
                break;
            }
        }
        Ok(true)
    }

    /// The batch at this offset, or the next one where what stands before does not read and nothing of it is needed; `None`
    /// where that goes on to the segment's end.
    fn batch_from(&self, reader: &mut SegmentReader, offset: u64) -> Result<Option<BatchHeader>, LogError> {
        let segment = reader.number;
        let mut next = Some(offset);
        while let Some(offset) = next {
            if let Found::Batch(header) = reader.find(offset)? {
                return Ok(Some(header));
            }
            self.shared.damaged.lock().insert(segment);
            // Where an entry lives, it is not worth looking how far the damage goes.
            let has_entries = self.shared.live.lock().has_live_entries(segment);
            let is_needed = has_entries || {
                next = next_header(reader, offset + 8, self.log_id)?;
                self.shared.live.lock().may_live_in(segment, &(offset..next.unwrap_or(u64::MAX)))
            };
            if is_needed {
                let detail = "it was whole when the log was opened".into();
                return Err(LogError::Damaged { segment, offset, detail, first_lost: FirstLost::Unreadable });
            }
            tracing::warn!(segment, offset, "the commit log is damaged where nothing is needed any more");
        }
        Ok(None)
    }

    /// Copies the record if it lives. `false`: the disk is full.
    fn carry_record(&mut self, place: RecordPlace, record: &StoredRecord<'_>) -> Result<bool, LogError> {
        let key_id = record.header.key_id;
        loop {
            let live = self.shared.live.lock();
            // Asked again after each wait: what was truncated meanwhile must not come back behind its truncation.
            if !live.is_live(place, &record.header) {
                return Ok(true);
            }
            let key = live.key(key_id).map(|(owner, wrapped)| (owner, wrapped.clone()));
            drop(live);
            let key = key.filter(|_| !self.head.key_ids.contains(&key_id));
            let key_bytes = key.as_ref().map_or(0, |(_, wrapped)| RECORD_HEADER_BYTES + wrapped.bytes.len());
            let need = record.bytes.len() + key_bytes;
            let is_too_long = self.batch.bytes_with(need) > self.options.group_bytes_max;
            if !self.batch.is_empty() && (is_too_long || !self.fits(need)) {
                self.flush_carried()?;
                let waiting = self.shared.take_appends();
                self.commit(waiting);
                if self.is_failed() {
                    return Err(LogError::Failed);
                }
            } else if !self.fits(need) {
                if self.roll(true).is_err() {
                    return if self.is_failed() { Err(LogError::Failed) } else { Ok(false) };
                }
            } else {
                if let Some((owner, wrapped)) = key {
                    self.batch.push_key(owner, key_id, wrapped);
                    self.head.key_ids.insert(key_id);
                }
                self.batch.push_stored(record);
                self.shared.stats.lock().records_carried += 1;
                return Ok(true);
            }
        }
    }

    fn flush_carried(&mut self) -> Result<(), LogError> {
        if self.batch.is_empty() { Ok(()) } else { self.write_batch(FLAG_CARRIED) }
    }

    /// Writes every data key of the owner wrapped anew; their number, once that is synced.
    pub(crate) fn rewrap(&mut self, owner: KeyOwner) -> Result<u64, LogError> {
        let keys = self.shared.live.lock().keys_of(owner);
        let count = keys.len() as u64;
        for (key_id, wrapped) in keys {
            let failed = |source| LogError::WrongKey { owner, key_id, source };
            let data_key = self.keys.unwrap(owner, key_id, &wrapped).map_err(failed);
            let wrapped = data_key.and_then(|key| self.keys.wrap(owner, key_id, &key).map_err(failed));
            let wrapped = match wrapped {
                Ok(wrapped) => wrapped,
                Err(error) => {
                    self.flush_keys()?;
                    return Err(error);
                }
            };
            let need = RECORD_HEADER_BYTES + wrapped.bytes.len();
            if self.batch.bytes_with(need) > self.options.group_bytes_max || !self.fits(need) {
                self.flush_keys()?;
            }
            if !self.fits(need) && self.roll(true).is_err() {
                return Err(if self.is_failed() { LogError::Failed } else { LogError::Full });
            }
            self.batch.push_key(owner, key_id, wrapped);
        }
        self.flush_keys()?;
        Ok(count)
    }

    /// Writes that a range left this node, which voids its records; one, once that is synced.
    pub(crate) fn remove_range(&mut self, range: RangeId) -> Result<u64, LogError> {
        let record = Record {
            range,
            owner: KeyOwner::Node,
            kind: RecordKind::RangeRemoved,
            term: 0,
            index: 0,
            payload: bytes::Bytes::new(),
        };
        self.add(&record, true).map_err(|refused| match refused {
            AppendRefused::DiskFull => LogError::Full,
            _ => LogError::Failed,
        })?;
        self.write_batch(0)?;
        Ok(1)
    }

    fn flush_keys(&mut self) -> Result<(), LogError> {
        if self.batch.is_empty() { Ok(()) } else { self.write_batch(0) }
    }
}
