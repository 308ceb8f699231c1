//! One batch in the making: a buffer that is filled with sealed records and then written with one write.
//!
//! The buffer is kept from batch to batch. Payloads are copied into it once and sealed where they lie.

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, RECORD_HEADER_BYTES, RecordHeader, StoredKind, StoredRecord, associated_data,
    padded,
};
use super::keys::{KeyOwner, WrappedLogKey};
use super::live::{LiveIndex, RecordPlace};
use super::record::Record;
use crate::crypto::cipher::Aead;
use crate::domain::ids::{LogId, LogKeyId};

/// A key record of the batch.
struct NewKey {
    owner: KeyOwner,
    key_id: LogKeyId,
    wrapped: WrappedLogKey,
}

/// A batch in the making.
pub(crate) struct Batch {
    log_id: LogId,
    /// Room for the header, then the body.
    bytes: Vec<u8>,
    headers: Vec<RecordHeader>,
    keys: Vec<NewKey>,
}

impl Batch {
    /// An empty one.
    pub(crate) fn new(log_id: LogId) -> Batch {
        Batch { log_id, bytes: vec![0; BATCH_HEADER_BYTES], headers: Vec::new(), keys: Vec::new() }
    }

    /// Whether it has no records.
    pub(crate) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Length in bytes of the batch if a body of `more` bytes is added.
    pub(crate) fn bytes_with(&self, more: usize) -> usize {
        BATCH_HEADER_BYTES + padded(self.bytes.len() - BATCH_HEADER_BYTES + more)
    }

    /// Adds a record of the engine, sealed.
    pub(crate) fn push(&mut self, record: &Record, key_id: LogKeyId, cipher: &Aead, nonce: [u8; 12]) {
        let header = RecordHeader {
            payload_bytes: record.payload.len() as u32,
            kind: StoredKind::Record(record.kind),
            key_id,
            range: record.range,
            term: record.term,
            index: record.index,
            nonce,
        };
        let header_bytes = header.encode();
        self.bytes.extend_from_slice(&header_bytes);
        let payload_at = self.bytes.len();
        self.bytes.extend_from_slice(&record.payload);
        let associated = associated_data(self.log_id, &header_bytes);
        let tag = cipher.seal_in_place(&nonce, &associated, &mut self.bytes[payload_at..]);
        self.bytes.extend_from_slice(&tag);
        self.headers.push(header);
    }

    /// Adds a wrapped key.
    pub(crate) fn push_key(&mut self, owner: KeyOwner, key_id: LogKeyId, wrapped: WrappedLogKey) {
        let header = RecordHeader::of_key(owner, key_id, wrapped.version, wrapped.bytes.len());
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(&wrapped.bytes);
        self.headers.push(header);
        self.keys.push(NewKey { owner, key_id, wrapped });
    }

    /// Adds a record as it stands elsewhere in the log, still sealed.
    pub(crate) fn push_stored(&mut self, record: &StoredRecord<'_>) {
        debug_assert!(record.bytes.len() >= RECORD_HEADER_BYTES);
        self.bytes.extend_from_slice(record.bytes);
        self.headers.push(record.header.clone());
    }

    /// The bytes to write: the header as given, completed; the body; and `blank` zeros, so that a reader finds
    /// nothing behind the batch even where an older segment's bytes lie. Returns the batch's own length too.
    pub(crate) fn finish(&mut self, mut header: BatchHeader, blank: usize) -> (&[u8], usize) {
        let body_bytes = self.bytes.len() - BATCH_HEADER_BYTES;
        let batch_bytes = BATCH_HEADER_BYTES + padded(body_bytes);
        self.bytes.resize(batch_bytes + blank, 0);
        header.record_count = self.headers.len() as u32;
        header.body_bytes = body_bytes as u32;
        header.body_crc = crc32c::crc32c(&self.bytes[BATCH_HEADER_BYTES..batch_bytes]);
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        (&self.bytes, batch_bytes)
    }

    /// Notes all its records, which are in the log now.
    pub(crate) fn note(&mut self, live: &mut LiveIndex, place: super::format::Place, carried: bool) {
        for key in self.keys.drain(..) {
            live.note_key(place.segment, key.owner, key.key_id, key.wrapped);
        }
        for (number, header) in self.headers.iter().enumerate() {
            live.note(RecordPlace { batch: place, number: number as u32 }, header, carried);
        }
    }

    /// Empties it; the buffer stays, unless one huge record had made it large.
    pub(crate) fn clear(&mut self, kept_bytes_max: usize) {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.bytes.shrink_to(kept_bytes_max);
        self.headers.clear();
        self.keys.clear();
    }
}
