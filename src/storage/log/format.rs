//! The bytes of the log: batches, and records in them. Pure; everything here is a function of bytes.
//!
//! A segment is a row of batches, each at an offset that is a multiple of 8, and zeros after the last. Integers
//! are little-endian.
//!
//! | batch header | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `dStorLog` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 1 | flags: 1 mark, 2 clean stop, 4 end of segment, 8 carried |
//! | 11 | 1 | 0 |
//! | 12 | 4 | number of records |
//! | 16 | 16 | log id |
//! | 32 | 8 | segment number |
//! | 40 | 8 | offset of this header in its segment |
//! | 48 | 8 + 8 | synced through: segment, offset. All before that place had been synced when this was written |
//! | 64 | 8 | oldest segment that is still needed |
//! | 72 | 8 | length of this segment's file |
//! | 80 | 4 | length of the body, without padding |
//! | 84 | 4 | CRC-32C of the body with its padding |
//! | 88 | 4 | 0 |
//! | 92 | 4 | CRC-32C of bytes 0 to 92 |
//! | 96 | | body: records, then zeros up to a multiple of 8 |
//!
//! | record | bytes | |
//! |---|---|---|
//! | 0 | 4 | length of the payload |
//! | 4 | 1 | kind: 1 entry, 2 vote, 3 truncate, 4 purge, 5 committed, 6 range removed, 7 key |
//! | 5 | 3 | 0 |
//! | 8 | 16 | key id |
//! | 24 | 16 | range UUID |
//! | 40 | 8 | term |
//! | 48 | 8 | index |
//! | 56 | 12 | nonce |
//! | 68 | n | payload, sealed with AES-256-GCM-SIV; associated data: log id, bytes 0 to 56 |
//! | 68 + n | 16 | tag |
//!
//! A key record has the same header: the range is the tenant's UUID (zero for the node), the term is 0 for the
//! node and 1 for a tenant, the index is the version of the key that wraps, the nonce is zero; the payload is the
//! wrapped data key as the engine made it, and there is no tag.
//!
//! Two checksums, not one over all: a header that is whole says how long the torn body is and what had been synced,
//! even where the body does not read. Segment and offset are in the batch header and not in a record's associated
//! data, so that a live record can be copied to the head without its tenant's key. What the next author must keep:
//! the first 96 bytes keep their places in every later version, so that an older program can say "too new".

use super::keys::KeyOwner;
use super::record::RecordKind;
use crate::domain::ids::{LogId, LogKeyId, RangeId, TenantId};

/// Length of a batch header.
pub(crate) const BATCH_HEADER_BYTES: usize = 96;
/// Length of a record before its payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 68;
/// Length of a record's tag.
pub(crate) const TAG_BYTES: usize = 16;
/// The part of a record's header that is associated data.
pub(crate) const RECORD_BOUND_BYTES: usize = 56;
/// The longest wrapped key.
pub(crate) const WRAPPED_KEY_BYTES_MAX: usize = 1024;
/// How batches begin.
pub(crate) const MAGIC: [u8; 8] = *b"dStorLog";
/// The version of the format written here.
pub const FORMAT_VERSION: u16 = 1;

/// The batch says that all before it was synced, and holds no records.
pub(crate) const FLAG_MARK: u8 = 1;
/// The log was closed in order after this.
pub(crate) const FLAG_CLEAN_STOP: u8 = 2;
/// The log goes on at the start of the next segment.
pub(crate) const FLAG_SEGMENT_END: u8 = 4;
/// The records are copies of records that stand, or stood, further back.
pub(crate) const FLAG_CARRIED: u8 = 8;
const FLAGS_KNOWN: u8 = FLAG_MARK | FLAG_CLEAN_STOP | FLAG_SEGMENT_END | FLAG_CARRIED;

const KIND_KEY: u8 = 7;

/// A place in the log: a byte of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Place {
    /// The place as one number, in the same order: a segment is shorter than 4 GiB.
    pub(crate) fn number(self) -> u64 {
        self.segment << 32 | self.offset.min(u64::from(u32::MAX))
    }
}

/// What stands before the records of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) version: u16,
    pub(crate) flags: u8,
    pub(crate) record_count: u32,
    pub(crate) log_id: LogId,
    pub(crate) place: Place,
    pub(crate) synced_through: Place,
    pub(crate) segment_oldest: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) body_bytes: u32,
    pub(crate) body_crc: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Length of a body with its padding.
pub(crate) fn padded(body_bytes: usize) -> usize {
    body_bytes.next_multiple_of(8)
}

impl BatchHeader {
    /// The header's bytes, with its checksum.
    pub(crate) fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[10] = self.flags;
        bytes[12..16].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.place.segment.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.place.offset.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.synced_through.segment.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.synced_through.offset.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.segment_oldest.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[84..88].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..92]);
        bytes[92..96].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header whose magic and checksum are right; `None` for anything else. Says nothing about whether it
    /// stands where it belongs.
    pub(crate) fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        if bytes.len() < BATCH_HEADER_BYTES || bytes[0..8] != MAGIC {
            return None;
        }
        if u32_at(bytes, 92) != crc32c::crc32c(&bytes[..92]) {
            return None;
        }
        Some(BatchHeader {
            version: u16_at(bytes, 8),
            flags: bytes[10],
            record_count: u32_at(bytes, 12),
            log_id: LogId::from_bytes(array_at(bytes, 16)),
            place: Place { segment: u64_at(bytes, 32), offset: u64_at(bytes, 40) },
            synced_through: Place { segment: u64_at(bytes, 48), offset: u64_at(bytes, 56) },
            segment_oldest: u64_at(bytes, 64),
            segment_bytes: u64_at(bytes, 72),
            body_bytes: u32_at(bytes, 80),
            body_crc: u32_at(bytes, 84),
        })
    }

    /// Whether nothing in the header is unknown to this version of the format.
    pub(crate) fn is_plain(&self) -> bool {
        self.flags & !FLAGS_KNOWN == 0
    }

    /// Whether it carries this flag.
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Length of the whole batch, header and padding included.
    pub(crate) fn batch_bytes(&self) -> u64 {
        (BATCH_HEADER_BYTES + padded(self.body_bytes as usize)) as u64
    }

    /// Whether the padded body is the one the checksum was made of.
    pub(crate) fn fits_body(&self, body: &[u8]) -> bool {
        crc32c::crc32c(body) == self.body_crc
    }
}

/// A record's kind in the file: what callers know, and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StoredKind {
    /// A record of the engine.
    Record(RecordKind),
    /// A wrapped data key.
    Key,
}

impl StoredKind {
    fn code(self) -> u8 {
        match self {
            StoredKind::Record(kind) => kind as u8,
            StoredKind::Key => KIND_KEY,
        }
    }

    fn from_code(code: u8) -> Option<StoredKind> {
        Some(StoredKind::Record(match code {
            1 => RecordKind::Entry,
            2 => RecordKind::Vote,
            3 => RecordKind::Truncate,
            4 => RecordKind::Purge,
            5 => RecordKind::Committed,
            6 => RecordKind::RangeRemoved,
            KIND_KEY => return Some(StoredKind::Key),
            _ => return None,
        }))
    }
}

/// What stands before a record's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) payload_bytes: u32,
    pub(crate) kind: StoredKind,
    pub(crate) key_id: LogKeyId,
    pub(crate) range: RangeId,
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) nonce: [u8; 12],
}

impl RecordHeader {
    /// The header of a key record.
    pub(crate) fn of_key(owner: KeyOwner, key_id: LogKeyId, version: u32, wrapped_bytes: usize) -> RecordHeader {
        let (range, term) = match owner {
            KeyOwner::Node => (RangeId::from_bytes([0; 16]), 0),
            KeyOwner::Tenant(tenant) => (RangeId::from_bytes(*tenant.as_bytes()), 1),
        };
        let payload_bytes = wrapped_bytes as u32;
        RecordHeader {
            payload_bytes,
            kind: StoredKind::Key,
            key_id,
            range,
            term,
            index: version.into(),
            nonce: [0; 12],
        }
    }

    /// Whose key a key record holds, and the version it is wrapped under.
    pub(crate) fn key_owner(&self) -> Option<(KeyOwner, u32)> {
        let owner = match self.term {
            0 => KeyOwner::Node,
            1 => KeyOwner::Tenant(TenantId::from_bytes(*self.range.as_bytes())),
            _ => return None,
        };
        (self.kind == StoredKind::Key).then_some(())?;
        Some((owner, u32::try_from(self.index).ok()?))
    }

    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[4] = self.kind.code();
        bytes[8..24].copy_from_slice(self.key_id.as_bytes());
        bytes[24..40].copy_from_slice(self.range.as_bytes());
        bytes[40..48].copy_from_slice(&self.term.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.index.to_le_bytes());
        bytes[56..68].copy_from_slice(&self.nonce);
        bytes
    }

    /// Reads a header; `None` where it cannot be one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        if bytes.len() < RECORD_HEADER_BYTES || bytes[5..8] != [0; 3] {
            return None;
        }
        Some(RecordHeader {
            payload_bytes: u32_at(bytes, 0),
            kind: StoredKind::from_code(bytes[4])?,
            key_id: LogKeyId::from_bytes(array_at(bytes, 8)),
            range: RangeId::from_bytes(array_at(bytes, 24)),
            term: u64_at(bytes, 40),
            index: u64_at(bytes, 48),
            nonce: array_at(bytes, 56),
        })
    }

    /// Length of the whole record.
    pub(crate) fn record_bytes(&self) -> usize {
        let tag_bytes = if self.kind == StoredKind::Key { 0 } else { TAG_BYTES };
        RECORD_HEADER_BYTES + self.payload_bytes as usize + tag_bytes
    }
}

/// What the payload of a record is bound to.
pub(crate) fn associated_data(log_id: LogId, header: &[u8]) -> [u8; 16 + RECORD_BOUND_BYTES] {
    let mut bytes = [0; 16 + RECORD_BOUND_BYTES];
    bytes[..16].copy_from_slice(log_id.as_bytes());
    bytes[16..].copy_from_slice(&header[..RECORD_BOUND_BYTES]);
    bytes
}

/// The records of a body, one after the other; ends early, with `None`, where what follows is no record.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

/// One record as it stands in a body.
#[derive(Debug, Clone)]
pub(crate) struct StoredRecord<'a> {
    pub(crate) header: RecordHeader,
    /// The whole record, header and tag included.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Over a body without its padding.
    pub(crate) fn new(body: &'a [u8]) -> Records<'a> {
        Records { rest: body }
    }

    /// Whether all of the body was records.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = StoredRecord<'a>;

    fn next(&mut self) -> Option<StoredRecord<'a>> {
        let header = RecordHeader::decode(self.rest)?;
        let (bytes, rest) = self.rest.split_at_checked(header.record_bytes())?;
        self.rest = rest;
        Some(StoredRecord { header, bytes })
    }
}

impl<'a> StoredRecord<'a> {
    /// Payload as stored, sealed unless the record is a key.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.header.payload_bytes as usize]
    }

    /// The tag; zeros for a key.
    pub(crate) fn tag(&self) -> [u8; TAG_BYTES] {
        let at = RECORD_HEADER_BYTES + self.header.payload_bytes as usize;
        if at == self.bytes.len() { [0; TAG_BYTES] } else { array_at(self.bytes, at) }
    }
}

/// For the fuzzer: reads arbitrary bytes as a batch and its records, and checks that what reads writes back the same.
#[doc(hidden)]
pub fn fuzz_batch(bytes: &[u8]) {
    let mut whole = bytes.to_vec();
    if whole.len() >= BATCH_HEADER_BYTES {
        // A mutation would nearly always be stopped by the checksum.
        whole[..8].copy_from_slice(&MAGIC);
        let crc = crc32c::crc32c(&whole[..92]);
        whole[92..96].copy_from_slice(&crc.to_le_bytes());
    }
    let mut records_at = 0;
    if let Some(header) = BatchHeader::decode(&whole) {
        let again = header.encode();
        let reserved_are_zero = whole[11] == 0 && whole[88..92] == [0; 4];
        assert!(!reserved_are_zero || again[..] == whole[..BATCH_HEADER_BYTES]);
        assert!(header.batch_bytes() >= BATCH_HEADER_BYTES as u64 && header.batch_bytes() % 8 == 0);
        header.fits_body(&whole[BATCH_HEADER_BYTES..]);
        records_at = if bytes.starts_with(&MAGIC) { BATCH_HEADER_BYTES } else { 0 };
    }
    let bytes = &bytes[records_at..];
    let mut records = Records::new(bytes);
    let mut length = 0;
    for record in records.by_ref() {
        assert_eq!(record.header.encode()[..], record.bytes[..RECORD_HEADER_BYTES]);
        assert_eq!(record.payload().len(), record.header.payload_bytes as usize);
        record.header.key_owner();
        length += record.bytes.len();
    }
    assert!(length <= bytes.len());
    assert_eq!(records.is_at_end(), length == bytes.len());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_header() -> impl Strategy<Value = BatchHeader> {
        (any::<[u64; 6]>(), any::<[u32; 3]>(), any::<[u8; 16]>(), 0u8..16).prop_map(|(longs, words, id, flags)| {
            BatchHeader {
                version: FORMAT_VERSION,
                flags,
                record_count: words[0],
                log_id: LogId::from_bytes(id),
                place: Place { segment: longs[0], offset: longs[1] },
                synced_through: Place { segment: longs[2], offset: longs[3] },
                segment_oldest: longs[4],
                segment_bytes: longs[5],
                body_bytes: words[1],
                body_crc: words[2],
            }
        })
    }

    fn any_record() -> impl Strategy<Value = RecordHeader> {
        (0u32..300, 1u8..=7, any::<[[u8; 16]; 2]>(), any::<[u64; 2]>(), any::<[u8; 12]>()).prop_map(
            |(payload_bytes, kind, ids, longs, nonce)| RecordHeader {
                payload_bytes,
                kind: StoredKind::from_code(kind).unwrap(),
                key_id: LogKeyId::from_bytes(ids[0]),
                range: RangeId::from_bytes(ids[1]),
                term: longs[0],
                index: longs[1],
                nonce,
            },
        )
    }

    proptest! {
        #[test]
        fn batch_header_reads_back(header in any_header()) {
            prop_assert_eq!(BatchHeader::decode(&header.encode()), Some(header));
        }

        #[test]
        fn batch_header_with_a_flipped_bit_is_none(header in any_header(), bit in 0..BATCH_HEADER_BYTES * 8) {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(BatchHeader::decode(&bytes), None);
        }

        #[test]
        fn records_read_back(headers in proptest::collection::vec(any_record(), 0..8)) {
            let mut body = Vec::new();
            for header in &headers {
                body.extend_from_slice(&header.encode());
                body.resize(body.len() + header.record_bytes() - RECORD_HEADER_BYTES, 7);
            }
            let mut records = Records::new(&body);
            let read: Vec<_> = records.by_ref().map(|record| record.header).collect();
            prop_assert_eq!(read, headers);
            prop_assert!(records.is_at_end());
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_batch(&bytes);
        }
    }

    #[test]
    fn batch_header_bytes_are_pinned() {
        let header = BatchHeader {
            version: 1,
            flags: FLAG_CARRIED,
            record_count: 2,
            log_id: LogId::from_bytes([0xaa; 16]),
            place: Place { segment: 3, offset: 4096 },
            synced_through: Place { segment: 3, offset: 4000 },
            segment_oldest: 1,
            segment_bytes: 65536,
            body_bytes: 13,
            body_crc: 0x0102_0304,
        };
        let hex: String = header.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "6453746f724c6f67",
            "0100",
            "08",
            "00",
            "02000000",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0300000000000000",
            "0010000000000000",
            "0300000000000000",
            "a00f000000000000",
            "0100000000000000",
            "0000010000000000",
            "0d000000",
            "04030201",
            "00000000",
        );
        assert_eq!(&hex[..184], expected);
        assert_eq!(header.batch_bytes(), 96 + 16);
    }
}
