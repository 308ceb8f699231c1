//! A snapshot in pieces: how a replica's state goes from one node to another.
//!
//! A snapshot is the state of a range at one applied place, cut into pieces that are numbered from 0. Whoever sends
//! it asks a [`PieceSource`] for one piece after the other; whoever receives it gives each to a
//! [`PieceTarget`], which says which one it wants next. Pieces may come twice or out of order, and a transfer that was
//! broken off goes on where it was, as long as the source still has the same state. All of it blocks on
//! disk and is to be kept off async workers.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | flags: 1 the last piece |
//! | 16 | the replica it was made from |
//! | 8 + 8 | term and index of the place it shows |
//! | 4 | its number |
//! | 4 | CRC-32C of the 38 bytes before and of all behind |
//! | rest | records, one after the other |
//!
//! Records, each with its kind in the first byte:
//!
//! | kind | bytes | what |
//! |---|---|---|
//! | 1 | 8, 8, 4 + n | items in the range, leader's time in microseconds since 1970, the state of the group; first in piece 0 |
//! | 2 | 2 + n, 8, 4 + n | an item: packed key, version, document |
//! | 3 | 16, 16, 32, 8, 8, 4 + n | a remembered request: principal, request id, digest, index, time, outcome |
//! | 4 | 16, 8, 4 + n | a kept receipt: id, time, outcome |
//!
//! Everything is big-endian, and lengths stand before what they measure. Items come in the order of their keys,
//! then requests and receipts in the order of their ids.
//!
//! What the next author must keep: a piece is whole or refused; nothing of one that does not check is taken in.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, ReplicaId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;
use crate::replication::machine_state::{LogPlace, MachineState};
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;
use crate::storage::store::{KeptReceipt, RememberedRequest, StoreError};

use super::snapshot::GroupSnapshot;

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes at which a piece is closed; one holds at least one record, and so may be longer by an item.
pub const PIECE_BYTES: usize = 512 << 10;
const FLAG_LAST: u8 = 1;
const HEADER_BYTES: usize = 42;
const CHECKED_BYTES: usize = 38;
const STATE: u8 = 1;
const ITEM: u8 = 2;
const REQUEST: u8 = 3;
const RECEIPT: u8 = 4;

/// Gives a snapshot in pieces. Its first call begins the reading.
pub trait PieceSource: Send + 'static {
    /// Which state it shows.
    fn identity(&self) -> SnapshotIdentity;

    /// The piece of this number, from 0; none past the last one. Asked for in order, or for the one before again, it
    /// costs the reading of one piece; other numbers cost a beginning anew.
    ///
    /// # Errors
    /// Where the store cannot be read any more: the snapshot is to be begun anew.
    fn piece(&mut self, number: u32) -> Result<Option<Bytes>, StoreError>;
}

/// Takes a snapshot's pieces in.
pub trait PieceTarget: Send + 'static {
    /// Takes a piece, and says what it wants next. One that it has already changes nothing; one of another state of the
    /// range than the pieces before begins anew, with its number 0.
    ///
    /// # Errors
    /// [`PieceError::Damaged`] where the piece does not check: it is to be sent again. [`PieceError::Store`] where
    /// the disk fails or is full.
    fn take(&mut self, piece: &Bytes) -> Result<Wanted, PieceError>;

    /// The whole snapshot, synced, as openraft wants to have it to install it.
    ///
    /// # Errors
    /// Where pieces are missing, or the disk fails.
    fn finish(self: Box<Self>) -> Result<GroupSnapshot, PieceError>;
}

/// What a [`PieceTarget`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The piece of this number.
    Piece(u32),
    /// Nothing: all are here.
    Nothing,
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// It is not what was sent, or of a later release.
    #[error("a piece of a snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// Pieces are missing.
    #[error("the snapshot is not whole")]
    Incomplete,
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which state of which replica a snapshot shows. Two with the same identity have the same pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotIdentity {
    /// The replica that it is made from.
    pub replica: ReplicaId,
    /// The last entry in it.
    pub place: LogPlace,
}

/// What a piece holds besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceHeader {
    /// Which snapshot it is of.
    pub identity: SnapshotIdentity,
    /// Its number.
    pub number: u32,
    /// Whether it is the last one.
    pub is_last: bool,
}

/// A part of a range's state.
#[derive(Debug, Clone, PartialEq)]
pub enum PieceRecord {
    /// How many items there are, the leader's time in the last entry, and where the group stands.
    State(u64, Timestamp, MachineState),
    /// An item.
    Item(PackedKey, ItemVersion, Document),
    /// A remembered request.
    Request(RememberedRequest),
    /// A kept receipt.
    Receipt(KeptReceipt),
}

/// A piece in the making.
#[derive(Debug, Default)]
pub struct PieceBuilder(BytesMut);

impl PieceBuilder {
    /// Adds a record.
    pub fn push(&mut self, record: &PieceRecord) {
        if self.0.is_empty() {
            self.0.put_bytes(0, HEADER_BYTES);
        }
        let buffer = &mut self.0;
        match record {
            PieceRecord::State(item_count, time, machine) => {
                buffer.put_u8(STATE);
                buffer.put_u64(*item_count);
                buffer.put_u64(time.0);
                put_long(buffer, &machine.encode());
            }
            PieceRecord::Item(key, version, document) => {
                buffer.put_u8(ITEM);
                buffer.put_u16(key.len() as u16);
                buffer.put_slice(key.as_bytes());
                buffer.put_u64(version.0);
                put_long(buffer, document.as_bytes());
            }
            PieceRecord::Request((principal, id, known)) => {
                buffer.put_u8(REQUEST);
                buffer.put_slice(principal.as_bytes());
                buffer.put_slice(id.as_bytes());
                buffer.put_slice(&known.digest);
                buffer.put_u64(known.index);
                buffer.put_u64(known.at.0);
                put_long(buffer, &known.outcome.encode());
            }
            PieceRecord::Receipt((id, outcome, at)) => {
                buffer.put_u8(RECEIPT);
                buffer.put_slice(id.as_bytes());
                buffer.put_u64(at.0);
                put_long(buffer, &outcome.encode());
            }
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The piece.
    pub fn finish(mut self, header: &PieceHeader) -> Bytes {
        if self.0.is_empty() {
            self.0.put_bytes(0, HEADER_BYTES);
        }
        let mut head = &mut self.0[..HEADER_BYTES];
        head.put_u8(FORMAT_VERSION);
        head.put_u8(if header.is_last { FLAG_LAST } else { 0 });
        head.put_slice(header.identity.replica.as_bytes());
        head.put_u64(header.identity.place.term);
        head.put_u64(header.identity.place.index);
        head.put_u32(header.number);
        let crc = checksum(&self.0);
        self.0[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        self.0.freeze()
    }
}

/// Of all of a piece but the checksum itself; the piece has a whole header.
fn checksum(piece: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&piece[..CHECKED_BYTES]), &piece[HEADER_BYTES..])
}

fn put_long(buffer: &mut BytesMut, bytes: &[u8]) {
    buffer.put_u32(bytes.len() as u32);
    buffer.put_slice(bytes);
}

/// A piece's header, after its checksum was found right.
///
/// # Errors
/// [`PieceError::Damaged`].
pub fn read_header(piece: &[u8]) -> Result<PieceHeader, PieceError> {
    let mut head = piece.get(..HEADER_BYTES).ok_or(PieceError::Damaged("it is cut short"))?;
    if head[CHECKED_BYTES..] != checksum(piece).to_be_bytes() {
        return Err(PieceError::Damaged("its checksum is wrong"));
    }
    if head.get_u8() != FORMAT_VERSION {
        return Err(PieceError::Damaged("this release does not know its format"));
    }
    let flags = head.get_u8();
    if flags & !FLAG_LAST != 0 {
        return Err(PieceError::Damaged("this release does not know its flags"));
    }
    let mut replica = [0; 16];
    head.copy_to_slice(&mut replica);
    let place = LogPlace { term: head.get_u64(), index: head.get_u64() };
    let identity = SnapshotIdentity { replica: ReplicaId::from_bytes(replica), place };
    Ok(PieceHeader { identity, number: head.get_u32(), is_last: flags & FLAG_LAST != 0 })
}

/// The records of a piece whose header was read; documents and keys are slices of it.
///
/// # Errors
/// [`PieceError::Damaged`].
pub fn read_records(piece: &Bytes) -> Result<Vec<PieceRecord>, PieceError> {
    let damaged = PieceError::Damaged;
    let mut rest =
        Records(piece.get(HEADER_BYTES..).map(|body| piece.slice_ref(body)).ok_or(damaged("it is cut short"))?);
    let mut records = Vec::new();
    while !rest.0.is_empty() {
        records.push(rest.next().ok_or(damaged("a record makes no sense"))?);
    }
    Ok(records)
}

struct Records(Bytes);

impl Records {
    fn next(&mut self) -> Option<PieceRecord> {
        Some(match self.0.try_get_u8().ok()? {
            STATE => {
                let (item_count, time) = (self.number()?, Timestamp(self.number()?));
                PieceRecord::State(item_count, time, MachineState::decode(&self.long()?)?)
            }
            ITEM => {
                let length = self.0.try_get_u16().ok()?;
                let key = PackedKey::from_bytes(self.take(usize::from(length))?).ok()?;
                let version = ItemVersion(self.number()?);
                PieceRecord::Item(key, version, Document::from_bytes(self.long()?).ok()?)
            }
            REQUEST => {
                let principal = PrincipalId::from_bytes(self.array()?);
                let (id, digest) = (RequestId::from_bytes(self.array()?), self.array()?);
                let (index, at) = (self.number()?, Timestamp(self.number()?));
                let outcome = Outcome::decode(&self.long()?)?;
                PieceRecord::Request((principal, id, Remembered { digest, outcome, index, at }))
            }
            RECEIPT => {
                let (id, at) = (ReceiptId::from_bytes(self.array()?), Timestamp(self.number()?));
                PieceRecord::Receipt((id, Outcome::decode(&self.long()?)?, at))
            }
            _ => return None,
        })
    }

    fn number(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let head = *self.0.first_chunk::<LENGTH>()?;
        self.0.advance(LENGTH);
        Some(head)
    }

    fn long(&mut self) -> Option<Bytes> {
        let length = self.0.try_get_u32().ok()?;
        self.take(length as usize)
    }

    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }
}

/// Reads any bytes as a piece, with and without the right checksum: for the fuzzer.
#[doc(hidden)]
pub fn fuzz_snapshot_piece(data: &[u8]) {
    assert!(read_header(data).is_err() || data.len() >= HEADER_BYTES);
    let mut bytes = data.to_vec();
    if bytes.len() >= HEADER_BYTES {
        let crc = checksum(&bytes);
        bytes[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    }
    let piece = Bytes::from(bytes);
    if let (Ok(header), Ok(records)) = (read_header(&piece), read_records(&piece)) {
        let mut builder = PieceBuilder::default();
        records.iter().for_each(|record| builder.push(record));
        assert_eq!(builder.finish(&header), piece, "what was read is written the same");
    }
}

#[cfg(test)]
mod tests;
