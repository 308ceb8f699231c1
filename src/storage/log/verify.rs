//! Reading closed segments while the log is in use: damage is found before a start needs what is damaged.
//!
//! A segment is closed when the next one is written to; its end was synced before. From then on every batch of it has to
//! read: here without asking whether anybody was promised it. All that a start checks of a batch is checked, by the same code
//! (`scan`, `replay`); records that are void are not opened, as at a start.
//!
//! A segment may go while it is read, and its file become another one. So what does not read is damage only if the segment
//! is still in use, and the log open, after it was read: the log says that one goes before it touches the file.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::Disk;
use super::error::{FirstLost, LogError};
use super::format::FLAG_SEGMENT_END;
use super::keys::LogKeys;
use super::live::LiveIndex;
use super::replay::Opener;
use super::scan::{damage_in, each_record, find_batch};
use super::segment::{Found, SegmentReader, is_missing, path_in};
use crate::domain::ids::LogId;

/// What a look at a piece of a closed segment found to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Bytes that were read; none of a segment that is not in use any more.
    pub bytes: u64,
    /// The offset to go on at; none where the segment ends before.
    pub next: Option<u64>,
}

/// What it takes to read a log's segments beside its thread.
pub(crate) struct Verifier {
    pub(crate) log_id: LogId,
    pub(crate) folder: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) keys: Arc<dyn LogKeys>,
}

impl Verifier {
    /// The segment's file.
    pub(crate) fn path(&self, segment: u64) -> PathBuf {
        path_in(&self.folder, segment)
    }

    /// Reads batches from `offset` on, one at least, until `bytes` are read or the segment ends.
    ///
    /// # Errors
    /// What is wrong with the segment; [`LogError::Disk`] where it could not be opened, which says nothing of it.
    pub(crate) fn read(
        &self,
        live: &Mutex<LiveIndex>,
        segment: u64,
        offset: u64,
        bytes: u64,
    ) -> Result<Verified, LogError> {
        let opened = SegmentReader::open(&*self.disk, &self.folder, segment)
            .map_err(|error| if is_missing(&error) { LogError::SegmentMissing { segment } } else { error });
        self.walk(&mut opened?, live, offset, bytes).map_err(|error| match error {
            // A start could not read it either.
            LogError::Disk { source, .. } => {
                let detail = format!("the disk does not give it: {source}");
                LogError::Damaged { segment, offset, detail, first_lost: FirstLost::Unreadable }
            }
            other => other,
        })
    }

    fn walk(
        &self,
        reader: &mut SegmentReader,
        live: &Mutex<LiveIndex>,
        start: u64,
        bytes: u64,
    ) -> Result<Verified, LogError> {
        let mut opener = Opener::new(self.log_id, &*self.keys);
        let mut offset = start;
        loop {
            let found = find_batch(reader, offset, &mut Some(self.log_id))?;
            let Found::Batch(header) = found else {
                return Err(damage_in(reader, offset, &found)?);
            };
            each_record(&header, reader.body(&header)?, |place, record| {
                // Held for one question at a time: the log's thread needs it after each batch it writes.
                let survives = live.lock().survives(place, &record.header);
                if survives {
                    let find = |key_id| live.lock().key(key_id).map(|(owner, wrapped)| (owner, wrapped.clone()));
                    opener.open(place.batch, record, find)?;
                }
                Ok(())
            })?;
            offset += header.batch_bytes();
            let read = offset - start;
            if header.has(FLAG_SEGMENT_END) {
                return Ok(Verified { bytes: read, next: None });
            }
            if read >= bytes {
                return Ok(Verified { bytes: read, next: Some(offset) });
            }
        }
    }
}
