//! A replica's way to its file: memory is frozen, written a layer a transaction, and dropped.

use std::sync::atomic::Ordering;

use crate::storage::store::{BatchChanges, StoreError};

use super::memory_table::{MemoryTable, Written};
use super::replica::Replica;

impl Replica {
    /// Freezes what is in memory: how many layers are to be flushed so that everything applied by now is in the file.
    pub fn freeze(&self) -> usize {
        self.memory.write().freeze()
    }

    /// Writes the oldest frozen layer to the file; none where there is none. Blocks. Nothing is lost where it fails: the
    /// layer stays readable, and the next flush tries it again first.
    pub fn flush_layer(&self) -> Result<Option<BatchChanges>, StoreError> {
        let _one_at_a_time = self.flushing.lock();
        if self.is_closed() {
            return Err(closed());
        }
        let Some(oldest) = self.memory.read().oldest() else { return Ok(None) };
        let (store, batch) = (self.store(), oldest.to_batch());
        let written = store.write(&batch)?;
        self.side.pins.written(batch.applied_index, &*store);
        self.drop_layer(&oldest, Written { items: batch.item_count, bytes: written.stored_bytes });
        Ok(Some(written))
    }

    /// Writes to the file what has been applied by now, and not what comes meanwhile: a flush under load ends.
    pub fn flush(&self) -> Result<BatchChanges, StoreError> {
        let mut changes = BatchChanges::default();
        for _ in 0..self.freeze() {
            let Some(written) = self.flush_layer()? else { break };
            changes.cells_written += written.cells_written;
            changes.cells_removed += written.cells_removed;
            changes.stored_bytes = written.stored_bytes;
        }
        Ok(changes)
    }

    fn drop_layer(&self, layer: &MemoryTable, in_file: Written) {
        let mut memory = self.memory.write();
        memory.in_file = Some(in_file);
        for (key, item) in layer.items() {
            match &item.document {
                Some(document) => self.cache.insert(self.cache_key(), key.clone(), document.clone(), item.version),
                None => self.cache.remove(self.cache_key(), key),
            }
        }
        memory.drop_oldest();
        if let Some(machine) = layer.machine() {
            self.side.note_in_file(machine);
        }
    }

    /// Forces what is in the file to the disk, and returns the applied index that is then safe. Blocks.
    pub(super) fn make_durable(&self) -> Result<u64, StoreError> {
        // So that no snapshot takes the file's place meanwhile.
        let _one_at_a_time = self.flushing.lock();
        if self.is_closed() {
            return Err(closed());
        }
        self.store().make_durable()
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.memory.read().bytes()
    }

    /// Items and their bytes, where they are known without a look into the file.
    pub fn stored_known(&self) -> Option<Written> {
        self.memory.read().stored()
    }

    /// Items and their bytes. Blocks where they are not known yet.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn stored(&self) -> Result<Written, StoreError> {
        if let Some(known) = self.stored_known() {
            return Ok(known);
        }
        let flushes = self.memory.read().flushes;
        let state = self.read_with(|store| store.state())?;
        let mut memory = self.memory.write();
        if memory.flushes != flushes {
            // The file was written or replaced meanwhile: what was read says nothing of what is in memory now.
            drop(memory);
            return self.stored();
        }
        let in_file = *memory.in_file.get_or_insert(Written { items: state.item_count, bytes: state.stored_bytes });
        memory.item_count.get_or_insert(state.item_count);
        Ok(memory.stored().unwrap_or(in_file))
    }

    /// How large its file is.
    pub fn file_bytes(&self) -> u64 {
        self.store().file_bytes()
    }

    /// Bytes by which memory has grown since the last call.
    pub fn take_growth(&self) -> u64 {
        let now = self.memory_bytes() as u64;
        now.saturating_sub(self.bytes_reported.swap(now, Ordering::Relaxed))
    }

    /// Whether memory holds anything that is not in the file.
    pub fn is_dirty(&self) -> bool {
        !self.memory.read().is_empty()
    }
}

fn closed() -> StoreError {
    StoreError::Failed("the replica was closed: another object stands for it".to_owned())
}
