//! Which records are still needed: pure bookkeeping beside the log, and the same code when reading and writing.
//!
//! The log is dropped from its oldest segment on, never in the middle. That makes three things simple: a
//! truncation or removal is never dropped before what it voids; a key record may stand in the segment where it is
//! used first; and a hole in the numbers is always damage.
//!
//! Kept per range: its last vote, purge and commit point with their places, the truncations that still have
//! something to void ("cuts"), and the index that is durable elsewhere. Kept per segment and range: the greatest index
//! that may be live in it. So memory grows with ranges times segments, not with records.
//!
//! What the next author must keep: a purge does not make entries dead. They are needed until they are durable
//! elsewhere, which only [`LiveIndex::set_durable`] says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::format::{Place, RecordHeader, StoredKind};
use super::keys::{KeyOwner, WrappedLogKey};
use super::record::RecordKind;
use crate::domain::ids::{LogKeyId, RangeId};

/// Where a record stands: its batch, and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct RecordPlace {
    pub(crate) batch: Place,
    pub(crate) number: u32,
}

/// The last record of one kind of a range.
#[derive(Debug, Clone, Copy)]
struct Last {
    place: RecordPlace,
    bytes: u64,
}

/// From here on, entries at or above the index that stand before are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    place: RecordPlace,
    index: u64,
}

#[derive(Debug, Default)]
struct RangeLife {
    removed: Option<RecordPlace>,
    durable: Option<u64>,
    index_last: Option<u64>,
    /// Both places and indexes only grow: a later cut at a lower index makes an earlier one needless.
    cuts: Vec<Cut>,
    vote: Option<Last>,
    purge: Option<Last>,
    committed: Option<Last>,
}

impl RangeLife {
    fn last(&self, kind: RecordKind) -> Option<Last> {
        match kind {
            RecordKind::Vote => self.vote,
            RecordKind::Purge => self.purge,
            RecordKind::Committed => self.committed,
            RecordKind::Entry | RecordKind::Truncate | RecordKind::RangeRemoved => None,
        }
    }

    fn is_above_durable(&self, index: Option<u64>) -> bool {
        index > self.durable
    }

    /// Bytes of the last vote, purge and commit point that stand in this segment.
    fn last_bytes_in(&self, segment: u64) -> u64 {
        let lasts = [self.vote, self.purge, self.committed];
        lasts.iter().flatten().filter(|last| last.place.batch.segment == segment).map(|last| last.bytes).sum()
    }
}

/// What a segment holds of one range.
#[derive(Debug, Default)]
struct Span {
    /// The greatest index of an entry that may be live; `None` where none is.
    index_max: Option<u64>,
    /// The smallest index of an entry that may be live.
    index_min: u64,
    /// Bytes of all its entries.
    bytes: u64,
}

impl Span {
    fn add(&mut self, index: u64, bytes: u64) {
        if self.index_max.is_none() {
            (self.index_min, self.bytes) = (index, 0);
        }
        self.index_max = self.index_max.max(Some(index));
        self.index_min = self.index_min.min(index);
        self.bytes += bytes;
    }

    /// Entries from this index on are void.
    fn cut(&mut self, index: u64) {
        let below = index.checked_sub(1).filter(|below| *below >= self.index_min);
        self.index_max = self.index_max.min(below);
    }
}

#[derive(Debug, Default)]
struct SegmentLife {
    spans: HashMap<RangeId, Span>,
    /// All that lives was copied to the head.
    carried: bool,
}

#[derive(Debug)]
struct KeyLife {
    owner: KeyOwner,
    wrapped: WrappedLogKey,
    /// The last segment with a record under it.
    segment_last: u64,
}

/// Which records, segments and keys are still needed.
#[derive(Debug, Default)]
pub(crate) struct LiveIndex {
    ranges: HashMap<RangeId, RangeLife>,
    segments: BTreeMap<u64, SegmentLife>,
    keys: HashMap<LogKeyId, KeyLife>,
}

impl LiveIndex {
    /// Takes note of a record that is in the log now. Records come in the log's order.
    pub(crate) fn note(&mut self, place: RecordPlace, header: &RecordHeader, carried: bool) {
        let segment = place.batch.segment;
        let kind = match header.kind {
            StoredKind::Record(kind) => kind,
            StoredKind::Key => return,
        };
        if let Some(key) = self.keys.get_mut(&header.key_id) {
            key.segment_last = segment;
        }
        let bytes = header.record_bytes() as u64;
        match kind {
            RecordKind::Truncate => self.cut(header.range, place, header.index),
            RecordKind::RangeRemoved => self.remove(header.range, place),
            RecordKind::Entry => self.note_entry(place, header, carried),
            RecordKind::Vote | RecordKind::Purge | RecordKind::Committed => {
                let range = self.ranges.entry(header.range).or_default();
                let last = Some(Last { place, bytes });
                match kind {
                    RecordKind::Vote => range.vote = last,
                    RecordKind::Purge => range.purge = last,
                    _ => range.committed = last,
                }
                self.segments.entry(segment).or_default().spans.entry(header.range).or_default();
            }
        }
    }

    fn note_entry(&mut self, place: RecordPlace, header: &RecordHeader, carried: bool) {
        let range = self.ranges.entry(header.range).or_default();
        if !carried && range.index_last.is_some_and(|last| header.index <= last) {
            self.cut(header.range, place, header.index);
        }
        let range = self.ranges.entry(header.range).or_default();
        range.index_last = range.index_last.max(Some(header.index));
        let segment = self.segments.entry(place.batch.segment).or_default();
        let span = segment.spans.entry(header.range).or_default();
        span.add(header.index, header.record_bytes() as u64);
    }

    fn cut(&mut self, range: RangeId, place: RecordPlace, index: u64) {
        let life = self.ranges.entry(range).or_default();
        life.cuts.retain(|cut| cut.index < index);
        life.cuts.push(Cut { place, index });
        let below = index.checked_sub(1);
        life.index_last = life.index_last.min(below);
        for segment in self.segments.values_mut() {
            if let Some(span) = segment.spans.get_mut(&range) {
                span.cut(index);
            }
        }
    }

    fn remove(&mut self, range: RangeId, place: RecordPlace) {
        self.ranges.insert(range, RangeLife { removed: Some(place), ..RangeLife::default() });
        for segment in self.segments.values_mut() {
            segment.spans.remove(&range);
        }
        // So that the range is remembered as long as this segment stands.
        self.segments.entry(place.batch.segment).or_default().spans.entry(range).or_default();
    }

    /// Takes note of a wrapped key; a later one of the same id replaces it.
    pub(crate) fn note_key(&mut self, segment: u64, owner: KeyOwner, key_id: LogKeyId, wrapped: WrappedLogKey) {
        let segment_last = self.keys.get(&key_id).map_or(segment, |key| key.segment_last);
        self.keys.insert(key_id, KeyLife { owner, wrapped, segment_last });
    }

    /// Entries of the range up to and with `index` are durable elsewhere. Never falls. Whether that is news.
    pub(crate) fn set_durable(&mut self, range: RangeId, index: u64) -> bool {
        let Some(life) = self.ranges.get_mut(&range) else { return false };
        let before = life.durable;
        life.durable = before.max(Some(index));
        life.durable != before
    }

    /// Whether the record is needed still; what is not durable elsewhere is.
    pub(crate) fn is_live(&self, place: RecordPlace, header: &RecordHeader) -> bool {
        let (StoredKind::Record(kind), Some(range)) = (header.kind, self.ranges.get(&header.range)) else {
            return false;
        };
        self.survives(place, header) && (kind != RecordKind::Entry || range.is_above_durable(Some(header.index)))
    }

    /// Whether the record is not void: neither truncated, nor superseded, nor of a range removed later.
    pub(crate) fn survives(&self, place: RecordPlace, header: &RecordHeader) -> bool {
        let (StoredKind::Record(kind), Some(range)) = (header.kind, self.ranges.get(&header.range)) else {
            return false;
        };
        if range.removed.is_some_and(|removed| place < removed) {
            return false;
        }
        match kind {
            RecordKind::Entry => {
                let cut = &range.cuts[range.cuts.partition_point(|cut| cut.place <= place)..];
                cut.first().is_none_or(|cut| header.index < cut.index)
            }
            RecordKind::Truncate | RecordKind::RangeRemoved => false,
            kind => range.last(kind).is_some_and(|last| last.place == place),
        }
    }

    /// An upper bound of the bytes of live records in a segment; zero means that it can go.
    pub(crate) fn live_bytes(&self, segment: u64) -> u64 {
        let Some(life) = self.segments.get(&segment).filter(|life| !life.carried) else { return 0 };
        let of_span = |(range, span): (&RangeId, &Span)| {
            let Some(life) = self.ranges.get(range) else { return 0 };
            let entries = if life.is_above_durable(span.index_max) { span.bytes } else { 0 };
            entries + life.last_bytes_in(segment)
        };
        life.spans.iter().map(of_span).sum()
    }

    /// The same for all segments together.
    pub(crate) fn live_bytes_total(&self) -> u64 {
        self.segments.keys().map(|segment| self.live_bytes(*segment)).sum()
    }

    /// Whether an entry of the segment lives.
    pub(crate) fn has_live_entries(&self, segment: u64) -> bool {
        let Some(life) = self.segments.get(&segment) else { return false };
        life.spans
            .iter()
            .any(|(range, span)| self.ranges.get(range).is_some_and(|life| life.is_above_durable(span.index_max)))
    }

    /// Whether something that lives may stand between these offsets of a segment. Of an entry it is not known where in its
    /// segment it stands.
    pub(crate) fn may_live_in(&self, segment: u64, offsets: &Range<u64>) -> bool {
        let Some(life) = self.segments.get(&segment) else { return false };
        let is_there = |last: &Last| {
            let batch = last.place.batch;
            batch.segment == segment && offsets.contains(&batch.offset)
        };
        life.spans.iter().any(|(range, span)| {
            self.ranges.get(range).is_some_and(|life| {
                let lasts = [life.vote, life.purge, life.committed];
                life.is_above_durable(span.index_max) || lasts.iter().flatten().any(is_there)
            })
        })
    }

    /// All that lives in the segment stands at the head too.
    pub(crate) fn set_carried(&mut self, segment: u64) {
        self.segments.entry(segment).or_default().carried = true;
    }

    /// Forgets the segments before `oldest`, and what was known only because of them.
    pub(crate) fn drop_before(&mut self, oldest: u64) {
        self.segments = self.segments.split_off(&oldest);
        self.keys.retain(|_, key| key.segment_last >= oldest);
        let segments = &self.segments;
        self.ranges.retain(|range, life| {
            life.cuts.retain(|cut| cut.place.batch.segment >= oldest);
            let removed_and_gone = life.removed.is_some_and(|place| place.batch.segment < oldest);
            if removed_and_gone {
                life.removed = None;
            }
            // What is durable is worth remembering as long as the range may come again; a removed range does not.
            !removed_and_gone || segments.values().any(|segment| segment.spans.contains_key(range))
        });
    }

    /// The wrapped form of a key, and its owner.
    pub(crate) fn key(&self, key_id: LogKeyId) -> Option<(KeyOwner, &WrappedLogKey)> {
        self.keys.get(&key_id).map(|key| (key.owner, &key.wrapped))
    }

    /// The keys of an owner.
    pub(crate) fn keys_of(&self, owner: KeyOwner) -> Vec<(LogKeyId, WrappedLogKey)> {
        let of_owner = self.keys.iter().filter(|(_, key)| key.owner == owner);
        of_owner.map(|(id, key)| (*id, key.wrapped.clone())).collect()
    }

    /// Versions of the owner's key under which its data keys rest.
    pub(crate) fn key_versions(&self, owner: KeyOwner) -> BTreeSet<u32> {
        self.keys.values().filter(|key| key.owner == owner).map(|key| key.wrapped.version).collect()
    }

    /// How many keys of an owner rest under this version of its key.
    pub(crate) fn keys_in_use(&self, owner: KeyOwner, version: u32) -> u64 {
        self.keys.values().filter(|key| key.owner == owner && key.wrapped.version == version).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One event in the life of a log; small numbers, so that they collide.
    #[derive(Debug, Clone)]
    enum Event {
        Record(RecordKind, u8, u64),
        Durable(u8, u64),
        NextSegment,
        /// Copies what lives in the oldest segment and drops it.
        Carry,
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let kind = prop_oneof![
            8 => Just(RecordKind::Entry),
            1 => Just(RecordKind::Vote),
            2 => Just(RecordKind::Truncate),
            1 => Just(RecordKind::Purge),
            1 => Just(RecordKind::RangeRemoved),
        ];
        prop_oneof![
            10 => (kind, 0u8..3, 0u64..8).prop_map(|(kind, range, index)| Event::Record(kind, range, index)),
            2 => (0u8..3, 0u64..8).prop_map(|(range, index)| Event::Durable(range, index)),
            3 => Just(Event::NextSegment),
            2 => Just(Event::Carry),
        ]
    }

    fn header(kind: RecordKind, range: u8, index: u64) -> RecordHeader {
        RecordHeader {
            payload_bytes: 0,
            kind: StoredKind::Record(kind),
            key_id: LogKeyId::from_bytes([0; 16]),
            range: RangeId::from_bytes([range; 16]),
            term: 0,
            index,
            nonce: [0; 12],
        }
    }

    /// The whole log kept, and every question answered by reading all of it.
    #[derive(Default)]
    struct Model {
        log: Vec<(RecordPlace, RecordHeader, bool)>,
        durable: BTreeMap<RangeId, u64>,
        segment: u64,
        number: u32,
        /// By range and index, the record that stands for it.
        entries: BTreeMap<(RangeId, u64), RecordPlace>,
    }

    impl Model {
        fn place(&mut self) -> RecordPlace {
            self.number += 1;
            RecordPlace { batch: Place { segment: self.segment, offset: self.number.into() }, number: self.number }
        }

        fn push(&mut self, header: RecordHeader, carried: bool) -> RecordPlace {
            let place = self.place();
            let (range, index) = (header.range, header.index);
            match header.kind {
                StoredKind::Record(RecordKind::Entry) => {
                    if !carried {
                        self.entries.retain(|(of, at), _| *of != range || *at < index);
                    }
                    self.entries.insert((range, index), place);
                }
                StoredKind::Record(RecordKind::Truncate) => {
                    self.entries.retain(|(of, at), _| *of != range || *at < index);
                }
                StoredKind::Record(RecordKind::RangeRemoved) => {
                    self.entries.retain(|(of, _), _| *of != range);
                    self.durable.remove(&range);
                }
                _ => {}
            }
            self.log.push((place, header, carried));
            place
        }

        fn is_live(&self, place: RecordPlace, header: &RecordHeader) -> bool {
            let later = || self.log.iter().filter(|(at, other, _)| *at > place && other.range == header.range);
            match header.kind {
                StoredKind::Record(RecordKind::Entry) => {
                    // A copy makes the original needless, but not void.
                    let stands = self.entries.contains_key(&(header.range, header.index))
                        && later().all(|(_, other, carried)| match other.kind {
                            StoredKind::Record(RecordKind::Entry) => *carried || other.index > header.index,
                            StoredKind::Record(RecordKind::Truncate) => other.index > header.index,
                            StoredKind::Record(RecordKind::RangeRemoved) => false,
                            _ => true,
                        });
                    stands && Some(header.index) > self.durable.get(&header.range).copied()
                }
                StoredKind::Record(RecordKind::Vote | RecordKind::Purge | RecordKind::Committed) => {
                    let voids = [header.kind, StoredKind::Record(RecordKind::RangeRemoved)];
                    later().all(|(_, other, _)| !voids.contains(&other.kind))
                }
                _ => false,
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_reading_the_whole_log(events in proptest::collection::vec(any_event(), 1..80)) {
            let (mut live, mut model) = (LiveIndex::default(), Model::default());
            let mut oldest = 0;
            for event in events {
                match event {
                    Event::Record(kind, range, index) => {
                        let header = header(kind, range, index);
                        let place = model.push(header.clone(), false);
                        live.note(place, &header, false);
                    }
                    Event::Durable(range, index) => {
                        let range = RangeId::from_bytes([range; 16]);
                        // The index forgets ranges it has never seen, and keeps their records: that is safe.
                        if live.ranges.contains_key(&range) {
                            live.set_durable(range, index);
                            let durable = model.durable.entry(range).or_default();
                            *durable = (*durable).max(index);
                        }
                    }
                    Event::NextSegment => model.segment += 1,
                    Event::Carry if oldest < model.segment => {
                        let stay = model.log.iter().filter(|(place, _, _)| place.batch.segment == oldest).cloned();
                        for (place, header, _) in stay.collect::<Vec<_>>() {
                            if live.is_live(place, &header) {
                                let place = model.push(header.clone(), true);
                                live.note(place, &header, true);
                            }
                        }
                        live.set_carried(oldest);
                        prop_assert_eq!(live.live_bytes(oldest), 0);
                        oldest += 1;
                        live.drop_before(oldest);
                        // A removed range is forgotten with its last segment, and what was said to be durable too.
                        model.durable.retain(|range, _| live.ranges.contains_key(range));
                        model.log.retain(|(place, _, _)| place.batch.segment >= oldest);
                    }
                    Event::Carry => {}
                }
                for (place, header, _) in &model.log {
                    let expected = model.is_live(*place, header);
                    prop_assert_eq!(live.is_live(*place, header), expected, "{:?} {:?}", place, header);
                    let segment = place.batch.segment;
                    prop_assert!(!expected || live.live_bytes(segment) > 0, "segment {} would be dropped", segment);
                    let offset = place.batch.offset;
                    let may_live = live.may_live_in(segment, &(offset..offset + 1));
                    prop_assert!(!expected || may_live, "{:?} would be passed over", place);
                }
            }
        }
    }
}
