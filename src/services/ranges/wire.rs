//! Questions to a range and their answers as bytes: what a proxy sends to a node's inside listener, and
//! what comes back. Integers are big-endian.
//!
//! A question:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | operation: 1 read, 2 write, 3 list, 4 receipt, 5 stored |
//! | 16 | table |
//! | 16 | range |
//! | rest | by operation |
//!
//! | operation | rest |
//! |---|---|
//! | read | 1: consistency (0 strong, 1 eventual); the packed key |
//! | write | 1: flags (1 respond-async); the operation as a [log entry](crate::replication::entry) of time 0 |
//! | list | 1: flags (1 eventual, 2 descending, 4 there is an end, 8 sizes are bounded, 16 in the order of a local index); 4: limit, 1 to 1000; 4: bytes of items, where they are bounded; 1: position of the index, where there is one; 4 + n: start; the end |
//! | receipt | 16: receipt |
//! | stored | 4: a hash of the range; for all of it nothing more; for what a local index shows 1: 1, 1: its position; for the items of one ID 1: 2, what their packed keys begin with |
//!
//! An answer:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | what follows |
//! | rest | below |
//!
//! | what | rest |
//! |---|---|
//! | 0 refused | 1: kind, see [`KINDS`]; 1: flags (1 retry-after, 2 location, 4 leader, 8 moved); 4: seconds, where there are; 4 + n: location, where there is one; 16: the node that leads, where it is known; 16, 4, 4: the range that has the key since the one that was asked was split, its first and its last hash; the message |
//! | 1 item | 8: version; the document |
//! | 2 no item | |
//! | 3 write applied | the [outcome](crate::replication::outcome) |
//! | 4 write queued | |
//! | 5 page | 1: flags (1 there is a last key); 4 + n: that key; 4: number of items; each: 4 + n key, 8 version, 4 + n document |
//! | 6 receipt of a queued write | |
//! | 7 receipt of a write that ended | the outcome |
//! | 8 receipt of a lost write | |
//! | 9 no receipt | |
//! | 10 what is stored | 8: items; 8: their bytes |
//!
//! Keys and documents are slices of the buffer they came in. Documents, and keys that are to be written, are checked when
//! they are read, because what walks them later relies on it, and a peer's certificate says who it is and not that it
//! is well.
//! The time of an operation is its leader's, so none travels; there is no deadline either: a write that
//! was handed to the log happens, whether or not anybody waits for it.
//!
//! Rejected: JSON (documents would be printed and parsed between two processes that both have them as
//! bytes), and a path for each operation and range (a URL to print and parse for each request).

mod stored_part;

use bytes::{BufMut, Bytes, BytesMut};

use super::RangeAddress;
use crate::domain::document::Document;
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReceiptId, TableId};
use crate::domain::key::PackedKey;
use crate::domain::limits::{BODY_BYTES_MAX, PAGE_ITEMS_MAX};
use crate::domain::refusal::MovedTo;
use crate::domain::version::ItemVersion;
use crate::domain::{Refusal, RefusalKind, Timestamp};
use crate::replication::entry;
use crate::replication::operation::{Operation, Outcome};
use crate::services::ports::{
    Consistency, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use crate::services::wire_reader::Reader;
pub use crate::services::wire_reader::WireError;

/// The version of both formats.
pub const FORMAT_VERSION: u8 = 1;
/// Where a node is asked, with POST.
pub const RANGE_PATH: &str = "/inside/v1/range";
/// The largest question, in bytes. Two megabytes of JSON text become at most two and a half times as many bytes
/// (lists in lists in lists); key and conditions come on top.
pub const QUESTION_BYTES_MAX: usize = 3 * BODY_BYTES_MAX;
/// The largest answer, in bytes: a page holds a megabyte and one item more.
pub const ANSWER_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

const FLAG_RESPOND_ASYNC: u8 = 1;
const FLAG_EVENTUAL: u8 = 1;
const FLAG_DESCENDING: u8 = 2;
const FLAG_END: u8 = 4;
const FLAG_BYTES_MAX: u8 = 8;
const FLAG_INDEX: u8 = 16;
const FLAG_RETRY_AFTER: u8 = 1;
const FLAG_LOCATION: u8 = 2;
const FLAG_LEADER: u8 = 4;
const FLAG_MOVED: u8 = 8;
const FLAG_LAST: u8 = 1;

/// The kinds of refusals in the order of their numbers, from 1. Numbers are never given a second meaning; new
/// kinds come last.
pub const KINDS: &[RefusalKind] = &[
    RefusalKind::BadInput,
    RefusalKind::Unauthenticated,
    RefusalKind::Denied,
    RefusalKind::NotFound,
    RefusalKind::Conflict,
    RefusalKind::PreconditionFailed,
    RefusalKind::TooLarge,
    RefusalKind::UnsupportedMediaType,
    RefusalKind::WrongNode,
    RefusalKind::RequestIdReused,
    RefusalKind::TooSlow,
    RefusalKind::Throttled,
    RefusalKind::Unavailable,
    RefusalKind::OutcomeUnknown,
    RefusalKind::Damaged,
    RefusalKind::Internal,
    RefusalKind::StorageFull,
];

/// What is asked of a range.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// One item.
    Read {
        /// Its key.
        key: PackedKey,
        /// How fresh.
        consistency: Consistency,
    },
    /// To write one item.
    Write {
        /// What shall happen.
        operation: Operation,
        /// Whether the answer may come when the write is durable and not yet applied.
        respond_async: bool,
    },
    /// One page.
    List(ListRequest),
    /// What became of a write.
    Receipt(ReceiptId),
    /// How much the range holds.
    Stored {
        /// A hash of it: where it was split, who has that one is told.
        hash: u32,
        /// What of it is meant.
        part: StoredPart,
    },
}

/// What a range answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To a read.
    Item(Option<StoredItem>),
    /// To a write.
    Written(WriteAnswer),
    /// To a listing.
    Page(Page),
    /// To a question for a receipt.
    Receipt(Option<ReceiptState>),
    /// To the question how much there is.
    Stored(Stored),
}

impl Question {
    /// The word for it, in logs.
    pub fn word(&self) -> &'static str {
        match self {
            Question::Read { .. } => "read",
            Question::Write { .. } => "write",
            Question::List(_) => "list",
            Question::Receipt(_) => "receipt",
            Question::Stored { .. } => "stored",
        }
    }

    /// The question as bytes.
    pub fn encode(&self, address: RangeAddress) -> Bytes {
        let (tag, room) = match self {
            Question::Read { key, .. } => (1, 1 + key.len()),
            Question::Write { operation, .. } => (2, 1 + entry::encoded_bytes(operation)),
            Question::List(request) => (3, 14 + request.start.len() + request.end.as_ref().map_or(0, PackedKey::len)),
            Question::Receipt(_) => (4, 16),
            Question::Stored { part, .. } => (5, 4 + stored_part::room(part)),
        };
        let mut buffer = BytesMut::with_capacity(34 + room);
        buffer.put_u8(FORMAT_VERSION);
        buffer.put_u8(tag);
        buffer.put_slice(address.table.as_bytes());
        buffer.put_slice(address.range.as_bytes());
        match self {
            Question::Read { key, consistency } => {
                buffer.put_u8(eventual(*consistency));
                buffer.put_slice(key.as_bytes());
            }
            Question::Write { operation, respond_async } => {
                buffer.put_u8(if *respond_async { FLAG_RESPOND_ASYNC } else { 0 });
                entry::encode_into(&mut buffer, Timestamp(0), operation);
            }
            Question::List(request) => put_list(&mut buffer, request),
            Question::Receipt(receipt) => buffer.put_slice(receipt.as_bytes()),
            Question::Stored { hash, part } => {
                buffer.put_u32(*hash);
                stored_part::put(&mut buffer, part);
            }
        }
        buffer.freeze()
    }

    /// The question in these bytes, and the range that it is for.
    ///
    /// # Errors
    /// Where the bytes are no question of a format this release knows.
    pub fn decode(bytes: &Bytes) -> Result<(RangeAddress, Question), WireError> {
        let mut reader = Reader::new(bytes, FORMAT_VERSION)?;
        let operation = reader.u8()?;
        let address =
            RangeAddress { table: TableId::from_bytes(reader.array()?), range: RangeId::from_bytes(reader.array()?) };
        let question = match operation {
            1 => {
                let consistency = consistency(reader.flags(FLAG_EVENTUAL)?);
                Question::Read { consistency, key: key(reader.rest())? }
            }
            2 => {
                let respond_async = reader.flags(FLAG_RESPOND_ASYNC)? != 0;
                let entry = entry::decode(&reader.rest()).map_err(|_| WireError::Field("operation"))?;
                entry.operation.key.decode().map_err(|_| WireError::Field("key"))?;
                Question::Write { operation: entry.operation, respond_async }
            }
            3 => Question::List(reader.list()?),
            4 => Question::Receipt(ReceiptId::from_bytes(reader.array()?)),
            5 => Question::Stored { hash: reader.u32()?, part: stored_part::read(&mut reader)? },
            _ => return Err(WireError::Field("kind of question")),
        };
        reader.end()?;
        Ok((address, question))
    }
}

impl Answer {
    /// The answer as bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            Answer::Item(Some(item)) => {
                let document = item.document.as_bytes();
                let mut buffer = begin(1, 8 + document.len());
                buffer.put_u64(item.version.0);
                buffer.put_slice(document);
                buffer.freeze()
            }
            Answer::Item(None) => begin(2, 0).freeze(),
            Answer::Written(WriteAnswer::Applied(outcome)) => with(3, &outcome.encode()),
            Answer::Written(WriteAnswer::Queued) => begin(4, 0).freeze(),
            Answer::Page(page) => encode_page(page),
            Answer::Receipt(Some(ReceiptState::Queued)) => begin(6, 0).freeze(),
            Answer::Receipt(Some(ReceiptState::Ended(outcome))) => with(7, &outcome.encode()),
            Answer::Receipt(Some(ReceiptState::Lost)) => begin(8, 0).freeze(),
            Answer::Receipt(None) => begin(9, 0).freeze(),
            Answer::Stored(Stored { items, bytes }) => with(10, &[items.to_be_bytes(), bytes.to_be_bytes()].concat()),
        }
    }
}

/// A refusal as bytes, in place of an answer.
pub fn encode_refusal(refusal: &Refusal) -> Bytes {
    let number = KINDS.iter().position(|kind| *kind == refusal.kind).unwrap_or(KINDS.len() - 1);
    let location = refusal.location.as_deref().unwrap_or_default();
    let mut buffer = begin(0, 50 + location.len() + refusal.message.len());
    buffer.put_u8(number as u8 + 1);
    let mut flags = 0;
    if refusal.retry_after_seconds.is_some() {
        flags |= FLAG_RETRY_AFTER;
    }
    if refusal.location.is_some() {
        flags |= FLAG_LOCATION;
    }
    if refusal.leader.is_some() {
        flags |= FLAG_LEADER;
    }
    if refusal.moved.is_some() {
        flags |= FLAG_MOVED;
    }
    buffer.put_u8(flags);
    if let Some(seconds) = refusal.retry_after_seconds {
        buffer.put_u32(seconds);
    }
    if refusal.location.is_some() {
        put_counted(&mut buffer, location.as_bytes());
    }
    if let Some(leader) = refusal.leader {
        buffer.put_slice(leader.as_bytes());
    }
    if let Some(moved) = refusal.moved {
        buffer.put_slice(moved.range.as_bytes());
        buffer.put_u32(moved.hashes.low);
        buffer.put_u32(moved.hashes.high);
    }
    buffer.put_slice(refusal.message.as_bytes());
    buffer.freeze()
}

/// The answer in these bytes, or the refusal in its place.
///
/// # Errors
/// Where the bytes are neither, in a format this release knows.
pub fn decode_answer(bytes: &Bytes) -> Result<Result<Answer, Refusal>, WireError> {
    let mut reader = Reader::new(bytes, FORMAT_VERSION)?;
    let answer = match reader.u8()? {
        0 => return reader.refusal().map(Err),
        1 => {
            let version = ItemVersion(reader.u64()?);
            Answer::Item(Some(StoredItem { version, document: document(reader.rest())? }))
        }
        2 => Answer::Item(None),
        3 => Answer::Written(WriteAnswer::Applied(reader.outcome()?)),
        4 => Answer::Written(WriteAnswer::Queued),
        5 => Answer::Page(reader.page()?),
        6 => Answer::Receipt(Some(ReceiptState::Queued)),
        7 => Answer::Receipt(Some(ReceiptState::Ended(reader.outcome()?))),
        8 => Answer::Receipt(Some(ReceiptState::Lost)),
        9 => Answer::Receipt(None),
        10 => Answer::Stored(Stored { items: reader.u64()?, bytes: reader.u64()? }),
        _ => return Err(WireError::Field("kind of answer")),
    };
    reader.end()?;
    Ok(Ok(answer))
}

fn begin(what: u8, room: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(2 + room);
    buffer.put_u8(FORMAT_VERSION);
    buffer.put_u8(what);
    buffer
}

fn with(what: u8, rest: &[u8]) -> Bytes {
    let mut buffer = begin(what, rest.len());
    buffer.put_slice(rest);
    buffer.freeze()
}

fn put_counted(buffer: &mut BytesMut, bytes: &[u8]) {
    buffer.put_u32(bytes.len() as u32);
    buffer.put_slice(bytes);
}

fn put_list(buffer: &mut BytesMut, request: &ListRequest) {
    let mut flags = eventual(request.consistency);
    if request.descending {
        flags |= FLAG_DESCENDING;
    }
    if request.end.is_some() {
        flags |= FLAG_END;
    }
    if request.bytes_max.is_some() {
        flags |= FLAG_BYTES_MAX;
    }
    if request.index.is_some() {
        flags |= FLAG_INDEX;
    }
    buffer.put_u8(flags);
    buffer.put_u32(u32::try_from(request.limit).unwrap_or(u32::MAX));
    if let Some(bytes) = request.bytes_max {
        buffer.put_u32(bytes);
    }
    if let Some(position) = request.index {
        buffer.put_u8(position);
    }
    put_counted(buffer, request.start.as_bytes());
    buffer.put_slice(request.end.as_ref().map_or(&[][..], PackedKey::as_bytes));
}

fn encode_page(page: &Page) -> Bytes {
    let items = page.items.iter().map(|(key, item)| 16 + key.len() + item.document.as_bytes().len());
    let mut buffer = begin(5, 9 + page.last.as_ref().map_or(0, PackedKey::len) + items.sum::<usize>());
    buffer.put_u8(if page.last.is_some() { FLAG_LAST } else { 0 });
    if let Some(last) = &page.last {
        put_counted(&mut buffer, last.as_bytes());
    }
    buffer.put_u32(page.items.len() as u32);
    for (key, item) in &page.items {
        put_counted(&mut buffer, key.as_bytes());
        buffer.put_u64(item.version.0);
        put_counted(&mut buffer, item.document.as_bytes());
    }
    buffer.freeze()
}

fn eventual(consistency: Consistency) -> u8 {
    match consistency {
        Consistency::Strong => 0,
        Consistency::Eventual => FLAG_EVENTUAL,
    }
}

fn consistency(flags: u8) -> Consistency {
    if flags & FLAG_EVENTUAL == 0 { Consistency::Strong } else { Consistency::Eventual }
}

fn key(bytes: Bytes) -> Result<PackedKey, WireError> {
    PackedKey::from_bytes(bytes).map_err(|_| WireError::Field("key"))
}

fn document(bytes: Bytes) -> Result<Document, WireError> {
    Document::from_bytes(bytes).map_err(|_| WireError::Field("document"))
}

impl Reader {
    fn list(&mut self) -> Result<ListRequest, WireError> {
        let flags = self.flags(FLAG_EVENTUAL | FLAG_DESCENDING | FLAG_END | FLAG_BYTES_MAX | FLAG_INDEX)?;
        let limit = self.u32()? as usize;
        if !(1..=PAGE_ITEMS_MAX).contains(&limit) {
            return Err(WireError::Field("limit"));
        }
        let bytes_max = if flags & FLAG_BYTES_MAX == 0 { None } else { Some(self.u32()?) };
        let index = if flags & FLAG_INDEX == 0 { None } else { Some(self.u8()?) };
        let start = key(self.counted()?)?;
        let end = if flags & FLAG_END == 0 { None } else { Some(key(self.rest())?) };
        let descending = flags & FLAG_DESCENDING != 0;
        Ok(ListRequest { index, start, end, limit, descending, consistency: consistency(flags), bytes_max })
    }

    fn outcome(&mut self) -> Result<Outcome, WireError> {
        Outcome::decode(&self.rest()).ok_or(WireError::Field("outcome"))
    }

    /// A page. Its memory grows with what is read, not with what the count claims.
    fn page(&mut self) -> Result<Page, WireError> {
        let last = if self.flags(FLAG_LAST)? == 0 { None } else { Some(key(self.counted()?)?) };
        let count = self.u32()?;
        let item = |_| {
            let key = key(self.counted()?)?;
            let version = ItemVersion(self.u64()?);
            Ok((key, StoredItem { version, document: document(self.counted()?)? }))
        };
        Ok(Page { items: (0..count).map(item).collect::<Result<_, WireError>>()?, last })
    }

    fn refusal(&mut self) -> Result<Refusal, WireError> {
        let number = usize::from(self.u8()?);
        let kind =
            number.checked_sub(1).and_then(|place| KINDS.get(place)).ok_or(WireError::Field("kind of refusal"))?;
        let flags = self.flags(FLAG_RETRY_AFTER | FLAG_LOCATION | FLAG_LEADER | FLAG_MOVED)?;
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|_| WireError::Field("text"));
        let retry_after_seconds = if flags & FLAG_RETRY_AFTER == 0 { None } else { Some(self.u32()?) };
        let location = if flags & FLAG_LOCATION == 0 { None } else { Some(text(self.counted()?)?) };
        let leader = if flags & FLAG_LEADER == 0 { None } else { Some(NodeId::from_bytes(self.array()?)) };
        let moved = if flags & FLAG_MOVED == 0 { None } else { Some(self.moved()?) };
        Ok(Refusal {
            kind: *kind,
            message: text(self.rest())?,
            location,
            leader,
            moved,
            unreached: false,
            retry_after_seconds,
        })
    }

    fn moved(&mut self) -> Result<MovedTo, WireError> {
        let (range, low, high) = (RangeId::from_bytes(self.array()?), self.u32()?, self.u32()?);
        let hashes = HashRange::new(low, high).ok_or(WireError::Field("hashes"))?;
        Ok(MovedTo { range, hashes })
    }
}

/// For the fuzzer: whatever the bytes, no panic; and what decodes, encodes to something equal.
#[doc(hidden)]
pub fn fuzz_question(data: &[u8]) {
    if let Ok((address, question)) = Question::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(Question::decode(&question.encode(address)), Ok((address, question)));
    }
}

/// For the fuzzer: whatever the bytes, no panic; and what decodes, encodes to the same bytes.
#[doc(hidden)]
pub fn fuzz_answer(data: &[u8]) {
    match decode_answer(&Bytes::copy_from_slice(data)) {
        Ok(Ok(answer)) => assert_eq!(answer.encode(), data),
        Ok(Err(refusal)) => assert_eq!(encode_refusal(&refusal), data),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
