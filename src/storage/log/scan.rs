//! The first pass over a log: where it ends, whether it is whole, which records survive, which keys there are.
//!
//! Reading goes from batch to batch and stops at the first place where none stands. Then the question is whether
//! something is missing. Everything behind that place is searched for batch headers, and if one says that the place
//! had been synced when it was written, what is missing was acknowledged: damage. If none does, what is missing
//! was in flight when the power went: a torn tail, which is dropped. A header is believed when its checksum is
//! right, for its statement stays true even if its body is torn.
//!
//! The oldest segment is found first, from the head: segments below it are leftovers of an interrupted drop, in
//! whatever state, and are not read.

use std::collections::BTreeMap;

use super::error::{FirstLost, LogError};
use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, FLAG_CARRIED, FLAG_CLEAN_STOP, FLAG_MARK, FLAG_SEGMENT_END, FORMAT_VERSION, MAGIC,
    Place, Records, StoredKind, StoredRecord,
};
use super::keys::WrappedLogKey;
use super::live::{LiveIndex, RecordPlace};
use super::record::RecordKind;
use super::replay::LogEnd;
use super::segment::{Found, LogFolder, SegmentReader};
use crate::domain::ids::{LogId, RangeId};

/// What the first pass found.
pub(crate) struct Scan {
    pub(crate) log_id: LogId,
    pub(crate) live: LiveIndex,
    pub(crate) segment_oldest: u64,
    /// Where the next batch goes.
    pub(crate) next: Place,
    /// All before was synced, as the log itself says.
    pub(crate) synced_through: Place,
    /// Where the batches of each segment end.
    pub(crate) ends: BTreeMap<u64, u64>,
    pub(crate) batches: u64,
    pub(crate) end: LogEnd,
}

/// Walks over the batches of some segments, in order.
struct Walk<'a> {
    folder: &'a LogFolder,
    expected: Option<LogId>,
    batches: u64,
    last: Option<BatchHeader>,
    synced_through: Place,
    ends: BTreeMap<u64, u64>,
}

/// Where and why a walk stopped.
struct Stop {
    place: Place,
    found: Found,
    /// The last segment said that the log goes on, and there is no next.
    is_segment_missing: bool,
}

impl Walk<'_> {
    fn new(folder: &LogFolder, expected: Option<LogId>) -> Walk<'_> {
        let (last, ends, synced_through) = (None, BTreeMap::new(), Place::default());
        Walk { folder, expected, batches: 0, last, synced_through, ends }
    }

    fn run(
        &mut self,
        segments: &mut dyn Iterator<Item = u64>,
        visit: &mut dyn FnMut(&BatchHeader, &[u8]) -> Result<(), LogError>,
    ) -> Result<Stop, LogError> {
        let mut next = 0;
        for number in segments {
            if let Some(stop) = self.run_segment(&mut self.folder.reader(number)?, visit)? {
                return Ok(stop);
            }
            next = number + 1;
        }
        Ok(Stop { place: Place { segment: next, offset: 0 }, found: Found::Blank, is_segment_missing: true })
    }

    /// `None`: the segment says that it ends and the next goes on.
    fn run_segment(
        &mut self,
        reader: &mut SegmentReader,
        visit: &mut dyn FnMut(&BatchHeader, &[u8]) -> Result<(), LogError>,
    ) -> Result<Option<Stop>, LogError> {
        let mut place = Place { segment: reader.number, offset: 0 };
        loop {
            let found = find_batch(reader, place.offset, &mut self.expected)?;
            let Found::Batch(header) = found else {
                self.ends.insert(place.segment, place.offset);
                return Ok(Some(Stop { place, found, is_segment_missing: false }));
            };
            visit(&header, reader.body(&header)?)?;
            place.offset += header.batch_bytes();
            self.batches += 1;
            self.synced_through = self.synced_through.max(header.synced_through);
            let ends = header.has(FLAG_SEGMENT_END);
            self.last = Some(header);
            if ends {
                self.ends.insert(place.segment, place.offset);
                return Ok(None);
            }
        }
    }
}

/// What stands at `offset`, where its header fits the file; the first one says which log it is, where that is not known.
pub(crate) fn find_batch(
    reader: &mut SegmentReader,
    offset: u64,
    expected: &mut Option<LogId>,
) -> Result<Found, LogError> {
    if reader.length < BATCH_HEADER_BYTES as u64 {
        return Err(truncated(reader, BATCH_HEADER_BYTES as u64));
    }
    let found = reader.find(offset)?;
    if let Found::Batch(header) | Found::Bad { header: Some(header), .. } = &found {
        check(reader, header, expected)?;
    }
    Ok(found)
}

/// What a header that is whole says about its file.
fn check(reader: &SegmentReader, header: &BatchHeader, expected: &mut Option<LogId>) -> Result<(), LogError> {
    let path = reader.path.clone();
    if header.version != FORMAT_VERSION || !header.is_plain() {
        return Err(LogError::UnknownFormat { path, version: header.version });
    }
    let expected = *expected.get_or_insert(header.log_id);
    if header.log_id != expected {
        return Err(LogError::WrongLog { path, found: header.log_id, expected });
    }
    if reader.length < header.segment_bytes {
        return Err(truncated(reader, header.segment_bytes));
    }
    Ok(())
}

fn truncated(reader: &SegmentReader, expected: u64) -> LogError {
    LogError::SegmentTruncated { path: reader.path.clone(), length: reader.length, expected }
}

/// Reads the whole log. `None`: there is none yet.
pub(crate) fn scan(folder: &LogFolder, expected: Option<LogId>) -> Result<Option<Scan>, LogError> {
    let Some(segment_oldest) = oldest(folder, expected)? else {
        return Ok(None);
    };
    let segments: Vec<u64> = folder.segments().range(segment_oldest..).copied().collect();
    let missing = (segment_oldest..).zip(&segments).find(|(wanted, found)| wanted != *found);
    if let Some((segment, _)) = missing {
        return Err(LogError::SegmentMissing { segment });
    }
    let mut live = LiveIndex::default();
    let mut walk = Walk::new(folder, expected);
    let stop = walk.run(&mut segments.iter().copied(), &mut |header, body| note_batch(&mut live, header, body))?;
    if stop.is_segment_missing {
        return Err(LogError::SegmentMissing { segment: stop.place.segment });
    }
    let Some(last) = walk.last else {
        return Err(damage(folder, &stop)?);
    };
    // A segment that the one before leads to begins with a mark that was synced first.
    if stop.place.offset == 0 || is_known_synced(folder, &segments, stop.place, last.log_id)? {
        return Err(damage(folder, &stop)?);
    }
    Ok(Some(Scan {
        log_id: last.log_id,
        live,
        segment_oldest,
        next: stop.place,
        synced_through: walk.synced_through,
        ends: walk.ends,
        batches: walk.batches,
        end: end(folder, &stop, &last)?,
    }))
}

/// The oldest segment still needed, as the newest batches say. `None`: no segment has one and none can have had one.
///
/// Two segments are asked: the newest may have been begun before a crash and not been led to yet.
fn oldest(folder: &LogFolder, expected: Option<LogId>) -> Result<Option<u64>, LogError> {
    let mut said = Vec::new();
    for number in folder.segments().iter().rev() {
        let mut walk = Walk::new(folder, expected);
        walk.run(&mut std::iter::once(*number), &mut |_, _| Ok(()))?;
        said.extend(walk.last.map(|last| last.segment_oldest));
        if said.len() == 2 {
            break;
        }
    }
    if let Some(oldest) = said.into_iter().max() {
        return Ok(Some(oldest));
    }
    let mut segments = folder.segments().iter();
    match (segments.next(), segments.next()) {
        (None, _) => Ok(None),
        // The first start was interrupted before the first mark.
        (Some(1), None) if matches!(folder.reader(1)?.find(0)?, Found::Blank) && !has_any_batch(folder, 1)? => Ok(None),
        (Some(first), _) => {
            let place = Place { segment: *first, offset: 0 };
            let found = folder.reader(*first)?.find(0)?;
            Err(damage(folder, &Stop { place, found, is_segment_missing: false })?)
        }
    }
}

fn has_any_batch(folder: &LogFolder, number: u64) -> Result<bool, LogError> {
    let mut found = false;
    search(&mut folder.reader(number)?, 0, &mut |_| {
        found = true;
        true
    })?;
    Ok(found)
}

/// Whether any batch behind this place says that it had been synced.
fn is_known_synced(folder: &LogFolder, segments: &[u64], place: Place, log_id: LogId) -> Result<bool, LogError> {
    let mut known = false;
    for number in segments.iter().filter(|number| **number >= place.segment) {
        let from = if *number == place.segment { place.offset } else { 0 };
        search(&mut folder.reader(*number)?, from, &mut |header| {
            known |= header.log_id == log_id && header.synced_through > place;
            known
        })?;
        if known {
            break;
        }
    }
    Ok(known)
}

/// Where the next batch header of the log stands, from `offset` on, whatever is before it.
pub(crate) fn next_header(reader: &mut SegmentReader, offset: u64, log_id: LogId) -> Result<Option<u64>, LogError> {
    let mut next = None;
    search(reader, offset, &mut |header| {
        next = (header.log_id == log_id).then_some(header.place.offset);
        next.is_some()
    })?;
    Ok(next)
}

/// Shows every batch header that stands where it says, from `offset` to the end of the segment, until `show` says that this
/// is enough.
///
/// Most of a segment that was begun lately is zeros, which every start reads through: blocks of them are told by one
/// comparison, since what a header begins with stands within one block.
fn search(reader: &mut SegmentReader, offset: u64, show: &mut dyn FnMut(&BatchHeader) -> bool) -> Result<(), LogError> {
    const STEP_BYTES: usize = 1 << 18;
    const BLOCK_BYTES: usize = 4096;
    const ZEROS: &[u8; BLOCK_BYTES] = &[0; BLOCK_BYTES];
    let number = reader.number;
    let mut offset = offset;
    while offset < reader.length {
        // A header may begin at the end of one step and end in the next.
        let bytes = reader.bytes(offset, STEP_BYTES + BATCH_HEADER_BYTES)?;
        let end = STEP_BYTES.min(bytes.len());
        for block in (0..end).step_by(BLOCK_BYTES) {
            if bytes[block..].starts_with(ZEROS) {
                continue;
            }
            for at in (block..end.min(block + BLOCK_BYTES)).step_by(8) {
                if bytes[at..].starts_with(&MAGIC)
                    && let Some(header) = BatchHeader::decode(&bytes[at..])
                    && header.place == (Place { segment: number, offset: offset + at as u64 })
                    && show(&header)
                {
                    return Ok(());
                }
            }
        }
        offset += STEP_BYTES as u64;
    }
    Ok(())
}

fn note_batch(live: &mut LiveIndex, header: &BatchHeader, body: &[u8]) -> Result<(), LogError> {
    each_record(header, body, |place, record| {
        if let Some((owner, version)) = record.header.key_owner() {
            let wrapped = WrappedLogKey { version, bytes: record.payload().to_vec() };
            live.note_key(header.place.segment, owner, record.header.key_id, wrapped);
        }
        live.note(place, &record.header, header.has(FLAG_CARRIED));
        Ok(())
    })
}

/// Shows every record of a batch.
///
/// # Errors
/// Those of `visit`, and [`LogError::Damaged`] where the body is not the records that the header counts.
pub(crate) fn each_record(
    header: &BatchHeader,
    body: &[u8],
    mut visit: impl FnMut(RecordPlace, &StoredRecord<'_>) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let mut records = Records::new(body);
    let mut count = 0;
    for record in records.by_ref() {
        visit(RecordPlace { batch: header.place, number: count }, &record)?;
        count += 1;
    }
    if records.is_at_end() && count == header.record_count {
        return Ok(());
    }
    Err(LogError::Damaged {
        segment: header.place.segment,
        offset: header.place.offset,
        detail: format!("the checksum is right, yet record {count} of the batch is none"),
        first_lost: first_lost(body),
    })
}

/// What can be made out of the bytes where a batch should be, checked by nothing.
fn readable(folder: &LogFolder, stop: &Stop) -> Result<Vec<u8>, LogError> {
    if !folder.segments().contains(&stop.place.segment) {
        return Ok(Vec::new());
    }
    readable_in(&mut folder.reader(stop.place.segment)?, stop.place.offset, &stop.found)
}

/// The same of a segment.
fn readable_in(reader: &mut SegmentReader, offset: u64, found: &Found) -> Result<Vec<u8>, LogError> {
    const READABLE_BYTES_MAX: usize = 4 << 20;
    let length = match found {
        Found::Bad { header: Some(header), .. } => header.body_bytes as usize,
        _ => READABLE_BYTES_MAX,
    };
    let body = reader.bytes(offset + BATCH_HEADER_BYTES as u64, length.min(READABLE_BYTES_MAX))?;
    Ok(body.to_vec())
}

fn first_lost(body: &[u8]) -> FirstLost {
    let first = Records::new(body).find(|record| record.header.kind != StoredKind::Key);
    first.map_or(FirstLost::Unreadable, |record| FirstLost::Record {
        range: record.header.range,
        index: record.header.index,
    })
}

fn damage(folder: &LogFolder, stop: &Stop) -> Result<LogError, LogError> {
    Ok(damaged(stop.place, &stop.found, &readable(folder, stop)?))
}

/// That at this place of a segment this was found in place of a batch.
pub(crate) fn damage_in(reader: &mut SegmentReader, offset: u64, found: &Found) -> Result<LogError, LogError> {
    let body = readable_in(reader, offset, found)?;
    Ok(damaged(Place { segment: reader.number, offset }, found, &body))
}

fn damaged(place: Place, found: &Found, body: &[u8]) -> LogError {
    let detail = match found {
        Found::Bad { detail, .. } => detail.clone(),
        Found::Blank | Found::Batch(_) => "there are zeros where a batch was".into(),
    };
    LogError::Damaged { segment: place.segment, offset: place.offset, detail, first_lost: first_lost(body) }
}

fn end(folder: &LogFolder, stop: &Stop, last: &BatchHeader) -> Result<LogEnd, LogError> {
    if matches!(stop.found, Found::Blank) {
        let is_marked = last.flags & (FLAG_MARK | FLAG_CLEAN_STOP | FLAG_SEGMENT_END) != 0;
        return Ok(if is_marked { LogEnd::Marked } else { LogEnd::Unmarked });
    }
    let body = readable(folder, stop)?;
    let mut lost: BTreeMap<RangeId, u64> = BTreeMap::new();
    for record in Records::new(&body) {
        if record.header.kind == StoredKind::Record(RecordKind::Entry) {
            let first = lost.entry(record.header.range).or_insert(record.header.index);
            *first = record.header.index.min(*first);
        }
    }
    Ok(LogEnd::Torn { segment: stop.place.segment, offset: stop.place.offset, lost: lost.into_iter().collect() })
}
