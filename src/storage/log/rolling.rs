//! From segment to segment, and what to do when the disk is full.
//!
//! When a segment is full, the next one gets a mark at its start, then the full one its end batch, each synced
//! before what follows: so a segment that says "the next goes on" without a next that begins is damage, and a batch
//! that does not read is the end only if no later segment goes on.
//!
//! Spares are made ahead, so a full disk shows while there is still room: then ordinary records are refused, and the
//! head's rest, the spares, and at last the reserve's space go to urgent ones, which free more than they take.
//! Being full is no failure: nothing is lost, and the log opens to all again when it can make its spares and reserve.

use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::commit_log::AppendRefused;
use super::disk::DiskFile;
use super::error::LogError;
use super::format::{BATCH_HEADER_BYTES, FLAG_MARK, FLAG_SEGMENT_END, Place};
use super::group_commit::{Head, Writer};
use super::segment::is_full;

impl<C: Send + 'static> Writer<C> {
    /// Ends the segment and begins the next. The batch must be empty.
    pub(crate) fn roll(&mut self, urgent: bool) -> Result<(), AppendRefused> {
        let number = self.head.next.segment + 1;
        if self.shared.disk_full.load(Ordering::Relaxed) && !urgent {
            return Err(AppendRefused::DiskFull);
        }
        let begun = match self.folder.begin_segment(number) {
            Ok(None) => {
                self.make_room(urgent)?;
                self.folder.begin_segment(number)
            }
            begun => begun,
        };
        let (file, length) = match begun {
            Ok(Some(begun)) => begun,
            Ok(None) => return Err(AppendRefused::DiskFull),
            Err(error) => {
                self.fail(error);
                return Err(AppendRefused::Failed);
            }
        };
        let next = self.write_start(&*file, length, number).map_err(|_| AppendRefused::Failed)?;
        self.write_batch(FLAG_MARK | FLAG_SEGMENT_END).map_err(|_| AppendRefused::Failed)?;
        self.head = Head::new(file, length, next);
        self.shared.closed.lock().end = number;
        self.cleaning_due = true;
        self.replenish();
        Ok(())
    }

    /// Writes the mark at the start of the next segment; where that goes on.
    fn write_start(&mut self, file: &dyn DiskFile, length: u64, number: u64) -> Result<Place, LogError> {
        let header = self.header(FLAG_MARK, Place { segment: number, offset: 0 }, length);
        let mut mark = Batch::new(self.log_id);
        let (bytes, batch_bytes) = mark.finish(header, BATCH_HEADER_BYTES);
        if let Err(source) = file.write_at(bytes, 0).and_then(|()| file.sync_data()) {
            let path = self.folder.segment_path(number);
            return Err(self.fail(LogError::Disk { action: "write and sync", path, source }));
        }
        let mut stats = self.shared.stats.lock();
        stats.writes += 1;
        stats.syncs += 1;
        stats.marks += 1;
        stats.bytes_written += bytes.len() as u64;
        Ok(Place { segment: number, offset: batch_bytes as u64 })
    }

    /// Makes a spare where there is none, for urgent records out of the reserve.
    fn make_room(&mut self, urgent: bool) -> Result<(), AppendRefused> {
        let mut made = self.folder.make_spare();
        if made.as_ref().is_err_and(is_full) {
            self.set_disk_full(true);
            if urgent && self.folder.has_reserve() {
                made = self.folder.give_up_reserve().and_then(|()| self.folder.make_spare());
            }
        }
        match made {
            Ok(()) => Ok(()),
            Err(error) if is_full(&error) => Err(AppendRefused::DiskFull),
            Err(error) => {
                self.fail(error);
                Err(AppendRefused::Failed)
            }
        }
    }

    /// Makes spares and reserve as many as there should be; what cannot be made for want of space closes the log to
    /// ordinary records, and opens it again when it can.
    pub(crate) fn replenish(&mut self) {
        let made = self.try_replenish();
        match made {
            Ok(()) => self.set_disk_full(false),
            Err(error) if is_full(&error) => self.set_disk_full(true),
            Err(error) => {
                self.fail(error);
            }
        }
    }

    fn try_replenish(&mut self) -> Result<(), LogError> {
        while self.folder.spare_count() < self.options.spare_segments {
            self.folder.make_spare()?;
        }
        if self.options.reserve_bytes > 0 {
            self.folder.make_reserve(self.options.reserve_bytes)?;
        }
        Ok(())
    }

    fn set_disk_full(&self, full: bool) {
        if self.shared.disk_full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!("the disk of the commit log is full: only records that free space are taken");
            } else {
                tracing::info!("the disk of the commit log has space again");
            }
        }
    }
}
