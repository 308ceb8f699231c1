//! The second pass over a log: hands every record that survives to the engine.
//!
//! The first pass (`scan`) has gathered all keys, truncations and removals by now, so that nothing dead is
//! opened and a key that was wrapped anew later is used in its newest form. A key that is not available makes its
//! records unreadable and nothing else; a key that does not unwrap, or a record that does not open although its
//! checksum is right, is an error.
//!
//! The batches are read again instead of being kept: a log may be larger than memory.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::error::{FirstLost, LogError};
use super::format::{BatchHeader, Place, RECORD_HEADER_BYTES, Records, StoredKind, StoredRecord, associated_data};
use super::keys::{KeyOwner, LogKeyError, LogKeys, WrappedLogKey};
use super::live::RecordPlace;
use super::record::{Record, RecordKind};
use super::scan::Scan;
use super::segment::{Found, LogFolder};
use crate::crypto::cipher::Aead;
use crate::domain::ids::{LogId, LogKeyId, RangeId};

/// What replay hands to the engine, one at a time, in the log's order. Only what survives: entries that were
/// truncated, superseded votes, and all of removed ranges are left out.
///
/// Records that were copied to the head come later than entries with greater indexes, and may come twice (with the
/// same content): keep them by index.
#[derive(Debug)]
pub enum ReplayEvent {
    /// A record that survives: an [`RecordKind::Entry`], or the last vote, purge or commit point of its range.
    Record(Record),
    /// A record that survives and whose key is not available (tenant destroyed, plane away).
    Unreadable {
        /// Its range.
        range: RangeId,
        /// Whose key is missing.
        owner: KeyOwner,
        /// Its kind.
        kind: RecordKind,
        /// Its term.
        term: u64,
        /// Its index.
        index: u64,
    },
    /// The log holds the removal of this range: what is left of it elsewhere can go.
    RangeRemoved(RangeId),
}

/// How the log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEnd {
    /// With a mark: all that was ever written before it is there.
    Marked,
    /// Without a mark, and nothing recognisable after the last batch.
    Unmarked,
    /// With a batch that had not been synced and is not whole. It was dropped; nothing in it was acknowledged.
    Torn {
        /// Segment of the torn batch.
        segment: u64,
        /// Offset of the torn batch.
        offset: u64,
        /// The first index lost per range, as far as readable.
        lost: Vec<(RangeId, u64)>,
    },
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySummary {
    /// The log's id.
    pub log_id: LogId,
    /// Whether the log was made just now.
    pub created: bool,
    /// Segments read.
    pub segments: u64,
    /// Batches read.
    pub batches: u64,
    /// Records handed over.
    pub records: u64,
    /// Records handed over as unreadable.
    pub records_unreadable: u64,
    /// How it ended.
    pub end: LogEnd,
}

/// How many records were handed over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Replayed {
    pub(crate) records: u64,
    pub(crate) unreadable: u64,
}

/// An unwrapped data key; `None` where its owner's key is not available.
struct OpenedKey {
    owner: KeyOwner,
    cipher: Option<Aead>,
}

/// Opens records of a log, and unwraps each key once.
pub(crate) struct Opener<'a> {
    log_id: LogId,
    keys: &'a dyn LogKeys,
    opened: HashMap<LogKeyId, OpenedKey>,
}

struct Replay<'a> {
    scan: &'a Scan,
    opener: Opener<'a>,
    unavailable: HashSet<LogKeyId>,
    sink: &'a mut dyn FnMut(ReplayEvent),
    replayed: Replayed,
}

/// Hands every surviving record to the sink.
pub(crate) fn replay(
    folder: &LogFolder,
    scan: &Scan,
    keys: &dyn LogKeys,
    sink: &mut dyn FnMut(ReplayEvent),
) -> Result<Replayed, LogError> {
    let opener = Opener::new(scan.log_id, keys);
    let mut replay = Replay { scan, opener, unavailable: HashSet::new(), sink, replayed: Replayed::default() };
    for (number, end) in &scan.ends {
        let mut reader = folder.reader(*number)?;
        let mut offset = 0;
        while offset < *end {
            let Found::Batch(header) = reader.find(offset)? else {
                let (segment, detail) = (*number, "it changed while it was read".into());
                return Err(LogError::Damaged { segment, offset, detail, first_lost: FirstLost::Unreadable });
            };
            replay.batch(&header, reader.body(&header)?)?;
            offset += header.batch_bytes();
        }
    }
    Ok(replay.replayed)
}

impl Replay<'_> {
    fn batch(&mut self, header: &BatchHeader, body: &[u8]) -> Result<(), LogError> {
        for (number, record) in Records::new(body).enumerate() {
            let place = RecordPlace { batch: header.place, number: number as u32 };
            match record.header.kind {
                StoredKind::Record(RecordKind::RangeRemoved) => {
                    (self.sink)(ReplayEvent::RangeRemoved(record.header.range));
                }
                StoredKind::Record(kind) if self.scan.live.survives(place, &record.header) => {
                    self.record(header, &record, kind)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn record(&mut self, batch: &BatchHeader, record: &StoredRecord<'_>, kind: RecordKind) -> Result<(), LogError> {
        let header = &record.header;
        let (range, term, index) = (header.range, header.term, header.index);
        let scan = self.scan;
        let (owner, payload) = self.opener.open(batch.place, record, |key_id| {
            scan.live.key(key_id).map(|(owner, wrapped)| (owner, wrapped.clone()))
        })?;
        let Some(payload) = payload else {
            if self.unavailable.insert(header.key_id) {
                let key_id = header.key_id;
                tracing::warn!(?owner, %key_id, "a key of the log is not available; its records are passed over");
            }
            (self.sink)(ReplayEvent::Unreadable { range, owner, kind, term, index });
            self.replayed.unreadable += 1;
            return Ok(());
        };
        (self.sink)(ReplayEvent::Record(Record { range, owner, kind, term, index, payload: Bytes::from(payload) }));
        self.replayed.records += 1;
        Ok(())
    }
}

impl<'a> Opener<'a> {
    pub(crate) fn new(log_id: LogId, keys: &'a dyn LogKeys) -> Opener<'a> {
        Opener { log_id, keys, opened: HashMap::new() }
    }

    /// A record's owner, and its payload in clear; `None` where the owner's key is not available. `find` gives the newest
    /// wrapped form of a key.
    ///
    /// # Errors
    /// [`LogError::Damaged`] where the log has no such key, [`LogError::WrongKey`], [`LogError::RecordForged`].
    pub(crate) fn open(
        &mut self,
        batch: Place,
        record: &StoredRecord<'_>,
        find: impl FnOnce(LogKeyId) -> Option<(KeyOwner, WrappedLogKey)>,
    ) -> Result<(KeyOwner, Option<Vec<u8>>), LogError> {
        let header = &record.header;
        let (range, index) = (header.range, header.index);
        let associated = associated_data(self.log_id, &record.bytes[..RECORD_HEADER_BYTES]);
        let key = self.key(header.key_id, find)?.ok_or_else(|| LogError::Damaged {
            segment: batch.segment,
            offset: batch.offset,
            detail: "a record is sealed under a key that is not in the log".into(),
            first_lost: FirstLost::Record { range, index },
        })?;
        let Some(cipher) = &key.cipher else { return Ok((key.owner, None)) };
        let mut payload = record.payload().to_vec();
        if cipher.open_in_place(&header.nonce, &associated, &mut payload, &record.tag()).is_err() {
            return Err(LogError::RecordForged { segment: batch.segment, offset: batch.offset, range, index });
        }
        Ok((key.owner, Some(payload)))
    }

    /// A key, unwrapped; `None` where the log does not have it.
    fn key(
        &mut self,
        key_id: LogKeyId,
        find: impl FnOnce(LogKeyId) -> Option<(KeyOwner, WrappedLogKey)>,
    ) -> Result<Option<&OpenedKey>, LogError> {
        use std::collections::hash_map::Entry;
        let vacant = match self.opened.entry(key_id) {
            Entry::Occupied(entry) => return Ok(Some(entry.into_mut())),
            Entry::Vacant(vacant) => vacant,
        };
        let Some((owner, wrapped)) = find(key_id) else { return Ok(None) };
        let cipher = match self.keys.unwrap(owner, key_id, &wrapped) {
            Ok(key) => Some(Aead::new(&key)),
            Err(LogKeyError::Unavailable) => None,
            Err(source) => return Err(LogError::WrongKey { owner, key_id, source }),
        };
        Ok(Some(vacant.insert(OpenedKey { owner, cipher })))
    }
}
