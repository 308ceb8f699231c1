//! The bytes of a spool file. All numbers little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `dStUsage` |
//! | 8 | 1 | version: 1 |
//! | 9 | 8 | number of the file |
//! | 17 | | frames |
//!
//! | in a frame | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of what is sealed, n |
//! | 4 | 4 | CRC-32C of the length and what is sealed |
//! | 8 | n | nonce (12), JSON encrypted (AES-256-GCM-SIV), tag (16) |
//!
//! A frame is sealed with the number of its file and its offset, so none opens in another place. The first one holds a [`Head`], each
//! other one a batch: the k-th is interval `first` + k of the head's start.
//!
//! A file is written to by one start of the process, by appending whole frames, each synced before anybody is given it. So what
//! is behind the last whole frame is what a crash or a full disk has left of one that nobody has seen.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto::envelope::{EnvelopeError, open_secret, seal_secret};
use crate::domain::usage::UsageBatch;

use super::key::SpoolKey;

const MAGIC: &[u8; 9] = b"dStUsage\x01";
/// Where frames begin.
pub const FRAMES_AT: usize = 17;
const FRAME_HEAD: usize = 8;

/// What the first frame of a file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The start of the process that wrote the file.
    pub boot: Uuid,
    /// The interval of its first batch. Where an earlier file of the same start has it too, that one is void: it was not synced.
    pub first: u64,
    /// Files with lower numbers than this are let go.
    pub oldest: u64,
    /// Batches that were thrown away before everyone had them, so far.
    pub dropped: u64,
    /// Who asked for batches, and when about, in milliseconds since 1970.
    pub reporters: BTreeMap<Uuid, u64>,
}

/// The beginning of a file.
pub fn begin(number: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(number.to_le_bytes());
    bytes
}

/// Appends a frame that stands at the end of what a file of this number holds: `at` bytes.
pub fn push_frame(bytes: &mut Vec<u8>, key: &SpoolKey, number: u64, at: u64, nonce: [u8; 12], content: &[u8]) {
    let sealed = seal_secret(key.data_key(), &key.label(number, at), content, nonce);
    let length = (sealed.len() as u32).to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), &sealed);
    bytes.extend(length);
    bytes.extend(checksum.to_le_bytes());
    bytes.extend(sealed);
}

/// Opens a frame that begins at `at` in the file of this number.
///
/// # Errors
/// Where it is not what was sealed there.
pub fn open_frame(key: &SpoolKey, number: u64, at: u64, frame: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let sealed = frame.get(FRAME_HEAD..).ok_or(EnvelopeError::TooShort)?;
    open_secret(key.data_key(), &key.label(number, at), sealed)
}

/// What was found in the bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The number it says it has.
    pub number: u64,
    /// Its whole frames, in their order, without gaps.
    pub frames: Vec<Range<usize>>,
}

/// The whole frames of a file; none where it is no spool file of this version.
pub fn scan(bytes: &[u8]) -> Option<Found> {
    let number = bytes.strip_prefix(MAGIC)?.first_chunk::<8>()?;
    let mut frames = Vec::new();
    let mut at = FRAMES_AT;
    while let Some(end) = frame_end(bytes, at) {
        frames.push(at..end);
        at = end;
    }
    Some(Found { number: u64::from_le_bytes(*number), frames })
}

/// Where the frame at this offset ends; none where no whole one stands there.
fn frame_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (checksum, sealed) = after.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*length) as usize;
    let sealed = sealed.get(..count)?;
    let is_whole = crc32c::crc32c_append(crc32c::crc32c(length), sealed) == u32::from_le_bytes(*checksum);
    is_whole.then_some(at + FRAME_HEAD + count)
}

/// For the fuzzer: whatever the bytes, the frames found lie one behind the other, and are all of the file that ends with them.
#[doc(hidden)]
pub fn fuzz_usage_spool(data: &[u8]) {
    let Some(found) = scan(data) else { return };
    let mut at = FRAMES_AT;
    for frame in &found.frames {
        assert!(frame.start == at && frame.end >= at + FRAME_HEAD);
        at = frame.end;
    }
    assert_eq!(scan(&data[..at]), Some(found));
}

/// For the fuzzer: what was opened is a head, a batch or neither; what is understood is written and read again.
#[doc(hidden)]
pub fn fuzz_usage_batch(data: &[u8]) {
    if let Ok(batch) = serde_json::from_slice::<UsageBatch>(data) {
        let text = serde_json::to_vec(&batch).expect("a batch can be written");
        assert!(serde_json::from_slice::<UsageBatch>(&text).expect("and read") == batch);
    }
    if let Ok(head) = serde_json::from_slice::<Head>(data) {
        let text = serde_json::to_vec(&head).expect("a head can be written");
        assert!(serde_json::from_slice::<Head>(&text).expect("and read") == head);
    }
}
