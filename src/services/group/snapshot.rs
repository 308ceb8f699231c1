//! Snapshots of a replica: read from its file, and taken in as a new file.
//!
//! A snapshot is what the file shows, in a read transaction that stays open while it is sent; so it costs no copy, and
//! what is in memory only is not in it. It therefore stands at or below what the replica has applied, and at or above
//! what it may have purged of its log, since only what is in the file is ever purged.
//!
//! openraft asks often how the snapshot stands and seldom for its content: the file is opened by
//! [`SnapshotData::open`] and not before. Where a flush came in between, the pieces show a later state than openraft was
//! told of. That is no harm: the receiving side believes what is in the pieces ([`StoreTarget::finish`] makes
//! the words for openraft from them), and the sending side counts on less than the receiver has.
//!
//! The receiving side writes into a new file beside the replica's own, which becomes the replica's by one transaction in
//! the node's database (`services/engine/members.rs`). Until the last piece the new file says that nothing was
//! applied to it, so that half of a snapshot can never be mistaken for a whole one.

use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::SnapshotMeta;
use parking_lot::Mutex;

use crate::domain::Timestamp;
use crate::domain::ids::{PrincipalId, ReceiptId, ReplicaId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::mutation::{Mutation, is_on};
use crate::replication::machine_state::MachineState;
use crate::storage::store::{Batch, ItemWrite, KeyInterval, RangeStore, StoreError, StoreSnapshot};

use super::convert::{log_id, stored_membership};
use super::pieces::{
    PIECE_BYTES, PieceBuilder, PieceError, PieceHeader, PieceRecord, PieceSource, PieceTarget, SnapshotIdentity,
    Wanted, read_header, read_records,
};
use super::types::Types;

/// A snapshot in openraft's words.
pub type GroupSnapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;
/// What openraft knows of a snapshot.
pub type GroupSnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// Rows read at once.
const ROWS: usize = 500;
/// Pieces after which what was taken in is synced and brought back into the file.
const PIECES_BETWEEN_SYNCS: u32 = 32;

/// The content of a snapshot, as openraft passes it around.
pub enum SnapshotData {
    /// The state of a replica on this node.
    Here(StoredSnapshot),
    /// What was received from another node, whole.
    Received(ReceivedSnapshot),
}

impl SnapshotData {
    /// Begins to read it. Blocks.
    ///
    /// # Errors
    /// Where the store cannot be read, or nothing was ever applied to it.
    pub fn open(&self) -> Result<Box<dyn PieceSource>, StoreError> {
        let (replica, store) = match self {
            SnapshotData::Here(stored) => (stored.replica, &stored.store),
            SnapshotData::Received(received) => (received.replica, &received.store),
        };
        Ok(Box::new(StorePieces::begin(replica, &**store)?))
    }
}

/// The state of a replica on this node.
pub struct StoredSnapshot {
    /// The replica.
    pub replica: ReplicaId,
    /// Its file.
    pub store: Arc<dyn RangeStore>,
}

/// A snapshot that has been received, in the file that is to be the replica's.
pub struct ReceivedSnapshot {
    /// The replica that it was made from.
    pub replica: ReplicaId,
    /// The file.
    pub store: Arc<dyn RangeStore>,
    /// The number of the file.
    pub file: u64,
    /// Where the group stands in it.
    pub machine: MachineState,
    /// The right to that file.
    pub claim: FileClaim,
}

/// What openraft knows of a snapshot of this state; none where its membership makes no sense.
pub fn meta_of(machine: &MachineState) -> Option<GroupSnapshotMeta> {
    let last_membership = stored_membership(Some(machine))?;
    Some(SnapshotMeta { last_log_id: Some(log_id(machine.applied)), last_membership })
}

/// How far a snapshot was read.
#[derive(Clone)]
enum Cursor {
    Items(PackedKey),
    Requests(Option<(PrincipalId, RequestId)>),
    Receipts(Option<ReceiptId>),
    End,
}

/// Reads a store in pieces.
pub struct StorePieces {
    identity: SnapshotIdentity,
    machine: MachineState,
    snapshot: Box<dyn StoreSnapshot>,
    cursor: Cursor,
    next: u32,
    last: Option<(u32, Bytes)>,
}

impl StorePieces {
    /// Begins to read the store.
    ///
    /// # Errors
    /// Where it cannot be read, or nothing of a group was ever written to it.
    pub fn begin(replica: ReplicaId, store: &dyn RangeStore) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let machine = snapshot.state().machine.clone();
        let machine = machine.ok_or_else(|| StoreError::Failed("the replica has no state to show yet".to_owned()))?;
        let identity = SnapshotIdentity { replica, place: machine.applied };
        Ok(Self { identity, machine, snapshot, cursor: start(), next: 0, last: None })
    }

    fn make(&mut self) -> Result<Option<Bytes>, StoreError> {
        if matches!(self.cursor, Cursor::End) {
            return Ok(None);
        }
        let mut builder = PieceBuilder::default();
        if self.next == 0 {
            let state = self.snapshot.state();
            builder.push(&PieceRecord::State(state.item_count, state.time, self.machine.clone()));
        }
        while builder.len() < PIECE_BYTES && !matches!(self.cursor, Cursor::End) {
            self.fill(&mut builder)?;
        }
        let is_last = matches!(self.cursor, Cursor::End);
        let piece = builder.finish(&PieceHeader { identity: self.identity, number: self.next, is_last });
        self.last = Some((self.next, piece.clone()));
        self.next += 1;
        Ok(Some(piece))
    }

    fn fill(&mut self, builder: &mut PieceBuilder) -> Result<(), StoreError> {
        self.cursor = match self.cursor.clone() {
            Cursor::Items(start) => {
                let interval = KeyInterval { start, end: None };
                let chunk = self.snapshot.items(&interval, ROWS, PIECE_BYTES.saturating_sub(builder.len()))?;
                let last = chunk.items.last().map(|(key, ..)| key.successor());
                for (key, document, version) in chunk.items {
                    builder.push(&PieceRecord::Item(key, version, document));
                }
                last.filter(|_| !chunk.complete).map_or(Cursor::Requests(None), Cursor::Items)
            }
            Cursor::Requests(after) => {
                let requests = self.snapshot.requests(after, ROWS)?;
                let last = requests.last().map(|(principal, id, _)| (*principal, *id));
                let is_all = requests.len() < ROWS;
                if !is_on(Mutation::SnapshotWithoutRequests) {
                    requests.into_iter().for_each(|request| builder.push(&PieceRecord::Request(request)));
                }
                if is_all { Cursor::Receipts(None) } else { Cursor::Requests(last) }
            }
            Cursor::Receipts(after) => {
                let receipts = self.snapshot.receipts(after, ROWS)?;
                let last = receipts.last().map(|(id, ..)| *id);
                let is_all = receipts.len() < ROWS;
                receipts.into_iter().for_each(|receipt| builder.push(&PieceRecord::Receipt(receipt)));
                if is_all { Cursor::End } else { Cursor::Receipts(last) }
            }
            Cursor::End => Cursor::End,
        };
        Ok(())
    }
}

fn start() -> Cursor {
    Cursor::Items(PackedKey::hash_floor(0))
}

impl PieceSource for StorePieces {
    fn identity(&self) -> SnapshotIdentity {
        self.identity
    }

    fn piece(&mut self, number: u32) -> Result<Option<Bytes>, StoreError> {
        if let Some((last, piece)) = &self.last
            && *last == number
        {
            return Ok(Some(piece.clone()));
        }
        if number < self.next {
            (self.cursor, self.next, self.last) = (start(), 0, None);
        }
        while self.next < number {
            if self.make()?.is_none() {
                return Ok(None);
            }
        }
        self.make()
    }
}

/// Makes an empty file for a snapshot, in place of what an earlier attempt left.
pub type MakeStore = Box<dyn Fn() -> Result<Arc<dyn RangeStore>, StoreError> + Send>;

/// The right to write one file, which only the last who asked has: two transfers must not write into one file.
#[derive(Debug)]
pub struct FileClaim {
    newest: Arc<Mutex<u64>>,
    mine: u64,
}

impl FileClaim {
    /// Takes the right away from whoever has it.
    pub fn take(newest: &Arc<Mutex<u64>>) -> Self {
        let mut number = newest.lock();
        *number += 1;
        Self { newest: Arc::clone(newest), mine: *number }
    }

    /// Whether the right is still there.
    pub fn holds(&self) -> bool {
        *self.newest.lock() == self.mine
    }

    /// Does something with the file while nobody can take the right away.
    fn with<T>(&self, work: impl FnOnce() -> Result<T, PieceError>) -> Result<T, PieceError> {
        let newest = self.newest.lock();
        if *newest != self.mine {
            return Err(StoreError::Failed("another snapshot is being taken in".to_owned()).into());
        }
        work()
    }
}

/// Takes pieces into a new file.
pub struct StoreTarget {
    file: u64,
    claim: FileClaim,
    make: MakeStore,
    progress: Option<Progress>,
}

struct Progress {
    identity: SnapshotIdentity,
    store: Arc<dyn RangeStore>,
    next: u32,
    items: u64,
    last_key: Option<PackedKey>,
    state: Option<(u64, Timestamp, MachineState)>,
    is_whole: bool,
}

impl StoreTarget {
    /// A target that makes its file, of this number, when the first piece comes.
    pub fn new(file: u64, claim: FileClaim, make: MakeStore) -> Self {
        Self { file, claim, make, progress: None }
    }
}

impl PieceTarget for StoreTarget {
    fn take(&mut self, piece: &Bytes) -> Result<Wanted, PieceError> {
        let header = read_header(piece)?;
        if self.progress.as_ref().is_some_and(|progress| progress.identity != header.identity) {
            self.progress = None;
        }
        let progress = match &mut self.progress {
            Some(progress) => progress,
            None if header.number > 0 => return Ok(Wanted::Piece(0)),
            progress => {
                let store = self.claim.with(|| Ok((self.make)()?))?;
                progress.insert(Progress::begin(header.identity, store))
            }
        };
        if header.number != progress.next || progress.is_whole {
            return Ok(progress.wanted());
        }
        let records = read_records(piece)?;
        let taken = self.claim.with(|| progress.take(&header, records));
        if taken.is_err() {
            // What is in the file is not known any more.
            self.progress = None;
        }
        taken
    }

    fn finish(self: Box<Self>) -> Result<GroupSnapshot, PieceError> {
        let progress = self.progress.filter(|progress| progress.is_whole).ok_or(PieceError::Incomplete)?;
        let (_, _, machine) = progress.state.ok_or(PieceError::Incomplete)?;
        self.claim.with(|| {
            progress.store.make_durable()?;
            Ok(progress.store.checkpoint()?)
        })?;
        let meta = meta_of(&machine).ok_or(PieceError::Damaged("its membership makes no sense"))?;
        let (replica, store, file, claim) = (progress.identity.replica, progress.store, self.file, self.claim);
        Ok(GroupSnapshot {
            meta,
            snapshot: SnapshotData::Received(ReceivedSnapshot { replica, store, file, machine, claim }),
        })
    }
}

impl Progress {
    fn begin(identity: SnapshotIdentity, store: Arc<dyn RangeStore>) -> Self {
        Self { identity, store, next: 0, items: 0, last_key: None, state: None, is_whole: false }
    }

    fn wanted(&self) -> Wanted {
        if self.is_whole { Wanted::Nothing } else { Wanted::Piece(self.next) }
    }

    fn take(&mut self, header: &PieceHeader, records: Vec<PieceRecord>) -> Result<Wanted, PieceError> {
        let mut batch = self.batch(records)?;
        if header.is_last {
            let Some((count, time, machine)) = &self.state else {
                return Err(PieceError::Damaged("it does not say where it stands"));
            };
            if *count != self.items || machine.applied != header.identity.place {
                return Err(PieceError::Damaged("it does not hold what it says"));
            }
            batch = Batch {
                applied_index: machine.applied.index,
                item_count: *count,
                now: *time,
                machine: Some(machine.clone()),
                ..batch
            };
        }
        self.store.write(&batch)?;
        self.is_whole = header.is_last;
        self.next += 1;
        if self.next.is_multiple_of(PIECES_BETWEEN_SYNCS) && !self.is_whole {
            self.store.make_durable()?;
            self.store.checkpoint()?;
        }
        Ok(self.wanted())
    }

    fn batch(&mut self, records: Vec<PieceRecord>) -> Result<Batch, PieceError> {
        let mut batch = Batch::default();
        for record in records {
            match record {
                PieceRecord::State(count, time, machine) => self.state = Some((count, time, machine)),
                PieceRecord::Item(key, version, document) => {
                    if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                        return Err(PieceError::Damaged("its items are out of order"));
                    }
                    self.last_key = Some(key.clone());
                    self.items += 1;
                    batch.items.push(ItemWrite { key, version, document: Some(document) });
                }
                PieceRecord::Request(request) => batch.requests.push(request),
                PieceRecord::Receipt(receipt) => batch.receipts.push(receipt),
            }
        }
        Ok(batch)
    }
}
