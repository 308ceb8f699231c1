//! The part of a file's scrub that needs its connections: whether suspect pages are damaged.
//!
//! While the writing connection is held nobody commits and nobody checkpoints, so the file does not change. What its
//! write-ahead log has is copied into it first: a page that a crash tore in the middle of a checkpoint has its good copy
//! there. Where a reader keeps the log from being copied as a whole, nothing can be said yet.

use super::super::cells::vfs_failure;
use super::{SqliteRangeStore, is_failed_sync};
use crate::storage::store::{Scrubbed, StoreError};
use crate::storage::vfs;

impl SqliteRangeStore {
    pub(super) fn read_pages(&self, first: u64, pages_max: u64) -> Result<Scrubbed, StoreError> {
        let (file, key) = (self.key)()?;
        vfs::scrub(&self.path, file, &key, first, pages_max).map_err(|error| vfs_failure(&error))
    }

    pub(super) fn judge_pages(&self, suspects: &[u64]) -> Result<Option<Vec<u64>>, StoreError> {
        let _in_use = self.in_use.read();
        let mut writer = self.writer.lock();
        let connection = &self.writer_in(&mut writer)?.connection;
        let copied = match vfs::checkpoint(connection) {
            Ok(copied) => copied,
            Err(error) if is_failed_sync(&error) => return Err(self.distrust(&self.explain(error))),
            Err(error) => return Err(self.explain(error)),
        };
        if !copied.is_complete() {
            return Ok(None);
        }
        vfs::damaged_pages(&self.path, suspects).map(Some).map_err(|error| vfs_failure(&error))
    }
}
