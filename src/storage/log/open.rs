//! Opening a log: lock, read, sync, replay, mark.
//!
//! Nothing is handed to the engine before everything is synced: after a crash of the process alone the page cache
//! shows batches that never reached the disk. The batches not known synced are written once more before that sync,
//! since after a failed sync the kernel holds such pages for clean and would not write them.
//!
//! At the end a mark is written where the log goes on, over whatever torn batch was there.

use std::path::Path;
use std::sync::Arc;

use super::batch::Batch;
use super::commit_log::GroupSink;
use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::format::{FLAG_MARK, Place};
use super::group_commit::{Head, Writer, record_bytes_max};
use super::keys::LogKeys;
use super::live::LiveIndex;
use super::options::LogOptions;
use super::queue::Shared;
use super::replay::{LogEnd, ReplayEvent, ReplaySummary, Replayed, replay};
use super::scan::{Scan, scan};
use super::segment::LogFolder;
use crate::crypto::cipher::NonceSource;
use crate::domain::Random;
use crate::domain::ids::LogId;

/// The smallest segment: room for a few batches and keys.
const SEGMENT_BYTES_MIN: u64 = 4096;

/// Opens the log; see [`super::CommitLog::open`].
pub(crate) fn open<C: Send + 'static>(
    folder: &Path,
    options: LogOptions,
    keys: Arc<dyn LogKeys>,
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    sink: Arc<dyn GroupSink<C>>,
    events: &mut dyn FnMut(ReplayEvent),
) -> Result<(Writer<C>, ReplaySummary), LogError> {
    check(&options)?;
    let (mut folder, lock) = LogFolder::open(disk, folder, options.segment_bytes)?;
    folder.discard_odd_spares()?;
    let found = scan(&folder, options.log_id)?;
    let created = found.is_none();
    let (scan, replayed) = match found {
        Some(scan) => {
            if let LogEnd::Torn { segment, offset, lost } = &scan.end {
                tracing::warn!(segment, offset, ?lost, "the last group of the commit log was torn and is dropped");
            }
            settle(&folder, &scan)?;
            let replayed = replay(&folder, &scan, &*keys, events)?;
            (scan, replayed)
        }
        None => (create(&mut folder, &options, &*random)?, Replayed::default()),
    };
    let summary = ReplaySummary {
        log_id: scan.log_id,
        created,
        segments: scan.ends.len() as u64,
        batches: scan.batches,
        records: replayed.records,
        records_unreadable: replayed.unreadable,
        end: scan.end.clone(),
    };
    let mut writer = start(folder, lock, scan, options, keys, random, sink)?;
    {
        let mut stats = writer.shared.stats.lock();
        stats.opened_at = writer.head.next.number();
        stats.synced = stats.opened_at;
    }
    match writer.write_mark(FLAG_MARK) {
        Ok(()) | Err(LogError::Full) => {}
        Err(error) => return Err(error),
    }
    writer.retire_leftovers()?;
    writer.replenish();
    if writer.is_failed() {
        return Err(LogError::Failed);
    }
    writer.account();
    Ok((writer, summary))
}

fn check(options: &LogOptions) -> Result<(), LogError> {
    if options.segment_bytes < SEGMENT_BYTES_MIN || !options.segment_bytes.is_multiple_of(8) {
        return Err(LogError::Options("a segment must have at least 4096 bytes and a multiple of 8"));
    }
    if options.budget_bytes < 2 * options.segment_bytes {
        return Err(LogError::Options("the budget must be two segments at least"));
    }
    Ok(())
}

/// Makes all that was read durable.
fn settle(folder: &LogFolder, scan: &Scan) -> Result<(), LogError> {
    for (number, end) in scan.ends.range(scan.synced_through.segment..) {
        let start = if *number == scan.synced_through.segment { scan.synced_through.offset } else { 0 };
        folder.reader(*number)?.rewrite(start, *end)?;
    }
    folder.sync_all()
}

/// The state of a log in which nothing was written yet.
fn create(folder: &mut LogFolder, options: &LogOptions, random: &dyn Random) -> Result<Scan, LogError> {
    if let Some(expected) = options.log_id {
        return Err(LogError::LogMissing { expected, folder: folder.path().to_owned() });
    }
    if folder.spare_count() == 0 && folder.segments().is_empty() {
        folder.make_spare()?;
    }
    folder.begin_segment(1)?;
    Ok(Scan {
        log_id: LogId::random(random),
        live: LiveIndex::default(),
        segment_oldest: 1,
        next: Place { segment: 1, offset: 0 },
        synced_through: Place { segment: 1, offset: 0 },
        ends: [(1, 0)].into(),
        batches: 0,
        end: LogEnd::Marked,
    })
}

fn start<C: Send + 'static>(
    folder: LogFolder,
    lock: Box<dyn DiskFile>,
    scan: Scan,
    options: LogOptions,
    keys: Arc<dyn LogKeys>,
    random: Arc<dyn Random>,
    sink: Arc<dyn GroupSink<C>>,
) -> Result<Writer<C>, LogError> {
    let (file, length) = folder.open_segment(scan.next.segment)?;
    let record_bytes_max = record_bytes_max(options.segment_bytes);
    let closed = scan.segment_oldest..scan.next.segment;
    Ok(Writer {
        shared: Arc::new(Shared::new(scan.live, closed, &options, record_bytes_max)),
        sink,
        keys,
        nonces: NonceSource::new(Arc::clone(&random)),
        random,
        log_id: scan.log_id,
        folder,
        lock: Some(lock),
        head: Head::new(file, length, scan.next),
        segment_oldest: scan.segment_oldest,
        batch: Batch::new(scan.log_id),
        group: Vec::new(),
        mark_due: None,
        cleaning_due: false,
        not_carried: None,
        options,
    })
}
