//! A log on a simulated disk, with keys that can be rotated and destroyed, and a sink that remembers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::super::disk_simulated::SimulatedDisk;
use super::super::format::BatchHeader;
use super::super::*;
use crate::crypto::Key256;
use crate::crypto::cipher::Aead;
use crate::domain::Random;
use crate::domain::ids::{LogKeyId, RangeId, TenantId};

pub(super) const FOLDER: &str = "/log";
/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that are the same in every run.
pub(super) struct SeededRandom(AtomicU64);

impl SeededRandom {
    pub(super) fn new(seed: u64) -> SeededRandom {
        SeededRandom(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            // SplitMix64, public domain, by Sebastiano Vigna.
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Keys of all owners: versions from 1, destroyed ones.
#[derive(Default)]
pub(super) struct TestKeys {
    versions: Mutex<HashMap<KeyOwner, u32>>,
    destroyed: Mutex<Vec<KeyOwner>>,
    /// Versions below are gone.
    version_oldest: AtomicU64,
    secret: u8,
}

impl TestKeys {
    pub(super) fn with_secret(secret: u8) -> TestKeys {
        TestKeys { secret, ..TestKeys::default() }
    }

    pub(super) fn rotate(&self, owner: KeyOwner) -> u32 {
        let mut versions = self.versions.lock();
        let version = versions.entry(owner).or_insert(1);
        *version += 1;
        *version
    }

    pub(super) fn destroy(&self, owner: KeyOwner) {
        self.destroyed.lock().push(owner);
    }

    pub(super) fn restore(&self) {
        self.destroyed.lock().clear();
    }

    pub(super) fn forget_versions_below(&self, version: u32) {
        self.version_oldest.store(version.into(), Ordering::Relaxed);
    }

    fn cipher(&self, owner: KeyOwner, version: u32) -> Result<Aead, LogKeyError> {
        let is_forgotten = u64::from(version) < self.version_oldest.load(Ordering::Relaxed);
        if is_forgotten || self.destroyed.lock().contains(&owner) {
            return Err(LogKeyError::Unavailable);
        }
        let mut key = [self.secret; 32];
        if let KeyOwner::Tenant(tenant) = owner {
            key[..16].copy_from_slice(tenant.as_bytes());
        }
        key[16..20].copy_from_slice(&version.to_le_bytes());
        Ok(Aead::new(&Key256::new(key)))
    }
}

impl LogKeys for TestKeys {
    fn wrap(&self, owner: KeyOwner, key_id: LogKeyId, data_key: &Key256) -> Result<WrappedLogKey, LogKeyError> {
        let version = self.versions.lock().get(&owner).copied().unwrap_or(1);
        let mut bytes = data_key.expose().to_vec();
        let tag = self.cipher(owner, version)?.seal_in_place(&[0; 12], key_id.as_bytes(), &mut bytes);
        bytes.extend_from_slice(&tag);
        Ok(WrappedLogKey { version, bytes })
    }

    fn unwrap(&self, owner: KeyOwner, key_id: LogKeyId, wrapped: &WrappedLogKey) -> Result<Key256, LogKeyError> {
        let cipher = self.cipher(owner, wrapped.version)?;
        let (sealed, tag) = wrapped.bytes.split_at(32);
        let mut key: [u8; 32] = sealed.try_into().unwrap();
        let opened = cipher.open_in_place(&[0; 12], key_id.as_bytes(), &mut key, tag.try_into().unwrap());
        opened.map_err(|_| LogKeyError::Wrong)?;
        Ok(Key256::new(key))
    }
}

/// Remembers what became of records.
#[derive(Default)]
pub(super) struct Remembering {
    done: Mutex<Vec<Committed<u64>>>,
    groups: AtomicU64,
    changed: Condvar,
}

impl GroupSink<u64> for Remembering {
    fn group_committed(&self, group: Vec<Committed<u64>>) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.done.lock().extend(group);
        self.changed.notify_all();
    }
}

impl Remembering {
    /// Waits until the fate of so many records is known; their companions and fates, in order.
    pub(super) fn wait_for(&self, count: usize) -> Vec<(u64, Outcome)> {
        let mut done = self.done.lock();
        let result = self.changed.wait_while_for(&mut done, |done| done.len() < count, PATIENCE);
        assert!(!result.timed_out(), "{} of {count} records have a known fate", done.len());
        done.iter().map(|committed| (committed.companion, committed.outcome)).collect()
    }

    pub(super) fn so_far(&self) -> Vec<(u64, Outcome)> {
        self.done.lock().iter().map(|committed| (committed.companion, committed.outcome)).collect()
    }

    pub(super) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }
}

/// What a log showed when it was opened.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Entries by range and index: the payload, or `None` where unreadable.
    pub(super) entries: BTreeMap<(RangeId, u64), Option<Bytes>>,
    /// Other records, in order.
    pub(super) others: Vec<Record>,
    pub(super) removed: Vec<RangeId>,
}

impl Seen {
    pub(super) fn take(&mut self, event: ReplayEvent) {
        match event {
            ReplayEvent::Record(record) if record.kind == RecordKind::Entry => {
                let payload = record.payload.clone();
                let before = self.entries.insert((record.range, record.index), Some(record.payload));
                assert!(before.is_none_or(|before| before == Some(payload)), "two entries at one index");
            }
            ReplayEvent::Record(record) => self.others.push(record),
            ReplayEvent::Unreadable { range, index, .. } => {
                self.entries.insert((range, index), None);
            }
            ReplayEvent::RangeRemoved(range) => self.removed.push(range),
        }
    }

    pub(super) fn indexes(&self, range: RangeId) -> Vec<u64> {
        self.entries.keys().filter(|(of, _)| *of == range).map(|(_, index)| *index).collect()
    }

    pub(super) fn last(&self, range: RangeId, kind: RecordKind) -> Option<&Record> {
        self.others.iter().rev().find(|record| record.range == range && record.kind == kind)
    }
}

pub(super) struct Harness {
    pub(super) disk: SimulatedDisk,
    pub(super) keys: Arc<TestKeys>,
    pub(super) options: LogOptions,
    /// So that no two openings draw the same keys.
    pub(super) openings: Arc<AtomicU64>,
}

/// A log that is open.
pub(super) struct Open {
    pub(super) log: CommitLog<u64>,
    pub(super) sink: Arc<Remembering>,
    pub(super) seen: Seen,
    pub(super) summary: ReplaySummary,
}

/// Small segments, no idle mark.
pub(super) fn small_options() -> LogOptions {
    LogOptions {
        segment_bytes: 8192,
        budget_bytes: 1 << 20,
        group_bytes_max: 4096,
        pending_bytes_max: 1 << 20,
        spare_segments: 1,
        reserve_bytes: 0,
        idle_mark_ms: 3_600_000,
        ..LogOptions::default()
    }
}

impl Harness {
    pub(super) fn new() -> Harness {
        Harness { disk: SimulatedDisk::new(), keys: Arc::default(), options: small_options(), openings: Arc::default() }
    }

    pub(super) fn with_options(options: LogOptions) -> Harness {
        Harness { options, ..Harness::new() }
    }

    /// The same keys and options on another disk.
    pub(super) fn on(&self, disk: SimulatedDisk) -> Harness {
        Harness {
            disk,
            keys: Arc::clone(&self.keys),
            options: self.options.clone(),
            openings: Arc::clone(&self.openings),
        }
    }

    pub(super) fn try_open(&self) -> Result<Open, LogError> {
        let sink = Arc::new(Remembering::default());
        let mut seen = Seen::default();
        let seed = 1 + self.openings.fetch_add(1, Ordering::Relaxed);
        let (log, summary) = CommitLog::open(
            Path::new(FOLDER),
            self.options.clone(),
            Arc::clone(&self.keys) as Arc<dyn LogKeys>,
            Arc::new(self.disk.clone()),
            Arc::new(SeededRandom::new(seed << 32)),
            Arc::clone(&sink) as Arc<dyn GroupSink<u64>>,
            &mut |event| seen.take(event),
        )?;
        Ok(Open { log, sink, seen, summary })
    }

    pub(super) fn open(&self) -> Open {
        self.try_open().unwrap()
    }

    /// The error of opening.
    pub(super) fn refused(&self) -> LogError {
        self.try_open().err().expect("the log must not open")
    }
}

pub(super) fn segment_path(number: u64) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{number:016x}.log"))
}

/// The batches of a segment: offset and header, up to the first place where none is.
pub(super) fn batches(disk: &SimulatedDisk, segment: u64) -> Vec<BatchHeader> {
    let bytes = disk.bytes(&segment_path(segment)).unwrap();
    let mut offset = 0;
    let mut headers = Vec::new();
    while let Some(header) = bytes.get(offset..).and_then(BatchHeader::decode) {
        offset += header.batch_bytes() as usize;
        headers.push(header);
    }
    headers
}

pub(super) fn range(number: u8) -> RangeId {
    RangeId::from_bytes([number; 16])
}

pub(super) fn tenant(number: u8) -> KeyOwner {
    KeyOwner::Tenant(TenantId::from_bytes([number; 16]))
}

/// A payload that tells its range and index, so that a mix-up shows.
pub(super) fn payload(range: RangeId, index: u64, length: usize) -> Bytes {
    let text = format!("{range} {index} ");
    text.into_bytes().into_iter().cycle().take(length).collect::<Vec<u8>>().into()
}

pub(super) fn record(range_number: u8, kind: RecordKind, index: u64, length: usize) -> Record {
    let range = range(range_number);
    Record { range, owner: tenant(range_number % 4), kind, term: 7, index, payload: payload(range, index, length) }
}

pub(super) fn entry(range_number: u8, index: u64) -> Append<u64> {
    plain(record(range_number, RecordKind::Entry, index, 100))
}

pub(super) fn plain(record: Record) -> Append<u64> {
    Append { companion: record.index, record, urgent: false }
}

pub(super) fn urgent(record: Record) -> Append<u64> {
    Append { companion: record.index, record, urgent: true }
}

impl Open {
    /// Appends records and waits until they are durable; the sink must have seen nothing else before.
    pub(super) fn write(&self, appends: Vec<Append<u64>>) {
        let count = self.sink.so_far().len() + appends.len();
        self.log.append(appends).unwrap();
        for (index, outcome) in self.sink.wait_for(count) {
            assert_eq!(outcome, Outcome::Durable, "record {index}");
        }
    }

    /// One entry after the other, each in a batch of its own.
    pub(super) fn write_singly(&self, range_number: u8, indexes: std::ops::Range<u64>) {
        for index in indexes {
            self.write(vec![entry(range_number, index)]);
        }
    }
}
