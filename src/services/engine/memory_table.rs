//! The in-memory table of one range: what has been applied and is not yet in the range's file.
//!
//! It holds the newest state of each key once (a key written a thousand times between two flushes is
//! written to the file once), tombstones for deleted items, and the request ids and receipts that
//! belong to the same entries. Documents are slices of the log records they came with.

use std::collections::{BTreeMap, HashMap};

use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;
use crate::replication::machine_state::MachineState;
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;
use crate::storage::store::{Batch, ItemWrite};

/// What an entry in a map costs beside its own bytes: a fair guess, on the high side.
const ENTRY_BYTES: usize = 160;

/// The newest state of one key.
#[derive(Debug, Clone)]
pub struct MemoryItem {
    /// The version that the last write gave it.
    pub version: ItemVersion,
    /// The item; none: it was deleted.
    pub document: Option<Document>,
}

/// What there is of items that are not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// How many.
    pub items: u64,
    /// Their bytes, as their size is defined for limits.
    pub bytes: u64,
}

/// See the module's essay.
#[derive(Debug, Default)]
pub struct MemoryTable {
    items: BTreeMap<PackedKey, MemoryItem>,
    requests: HashMap<(PrincipalId, RequestId), Remembered>,
    receipts: HashMap<ReceiptId, (Outcome, Timestamp)>,
    bytes: usize,
    written: Written,
    first_index: Option<u64>,
    last_index: u64,
    last_time: Timestamp,
    item_count: u64,
    machine: Option<MachineState>,
}

impl MemoryTable {
    /// Says where the group's state stands after the last entry in here; the table takes in no more.
    pub fn close(&mut self, machine: Option<MachineState>) {
        self.machine = machine;
    }

    /// Where the group's state stands after the last entry in here, of a table that was closed.
    pub fn machine(&self) -> Option<&MachineState> {
        self.machine.as_ref()
    }

    /// The newest state of `key`, where it was written since the last flush.
    pub fn get(&self, key: &PackedKey) -> Option<&MemoryItem> {
        self.items.get(key)
    }

    /// A remembered request.
    pub fn request(&self, principal: PrincipalId, id: RequestId) -> Option<&Remembered> {
        self.requests.get(&(principal, id))
    }

    /// A kept receipt.
    pub fn receipt(&self, id: ReceiptId) -> Option<&Outcome> {
        self.receipts.get(&id).map(|(outcome, _)| outcome)
    }

    /// The states of an interval in order.
    pub fn range(
        &self,
        start: &PackedKey,
        end: Option<&PackedKey>,
    ) -> impl DoubleEndedIterator<Item = (&PackedKey, &MemoryItem)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let empty = end.is_some_and(|end| end <= start);
        let bounds = match end {
            _ if empty => (Included(start), Excluded(start)),
            Some(end) => (Included(start), Excluded(end)),
            None => (Included(start), Unbounded),
        };
        self.items.range::<PackedKey, _>(bounds)
    }

    /// Takes in a new state of `key`.
    pub fn put(&mut self, key: PackedKey, item: MemoryItem) {
        let size = |item: &MemoryItem| item.document.as_ref().map_or(0, |document| document.as_bytes().len());
        let added = size(&item);
        let key_bytes = key.len();
        let stored =
            |item: &MemoryItem| item.document.as_ref().map(|document| (key_bytes + document.item_size()) as u64);
        if let Some(bytes) = stored(&item) {
            self.written = Written { items: self.written.items + 1, bytes: self.written.bytes + bytes };
        }
        match self.items.insert(key, item) {
            Some(old) => {
                self.bytes = (self.bytes + added).saturating_sub(size(&old));
                if let Some(bytes) = stored(&old) {
                    self.written = Written { items: self.written.items - 1, bytes: self.written.bytes - bytes };
                }
            }
            None => self.bytes += added + key_bytes + ENTRY_BYTES,
        }
    }

    /// Remembers a request.
    pub fn remember(&mut self, principal: PrincipalId, id: RequestId, remembered: Remembered) {
        self.bytes += ENTRY_BYTES + remembered.outcome.told_bytes();
        self.requests.insert((principal, id), remembered);
    }

    /// Keeps a receipt of an entry with this leader's time.
    pub fn keep_receipt(&mut self, id: ReceiptId, outcome: Outcome, at: Timestamp) {
        self.bytes += ENTRY_BYTES;
        self.receipts.insert(id, (outcome, at));
    }

    /// Notes that the entry at `index` is in here, whether it changed anything or not.
    pub fn note_applied(&mut self, index: u64, time: Timestamp, item_count: u64) {
        self.first_index.get_or_insert(index);
        self.last_index = index;
        self.last_time = self.last_time.max(time);
        self.item_count = item_count;
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The items in here that are not deleted.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Whether no entry is in here.
    pub fn is_empty(&self) -> bool {
        self.first_index.is_none()
    }

    /// The keys held, in order.
    pub fn items(&self) -> impl Iterator<Item = (&PackedKey, &MemoryItem)> {
        self.items.iter()
    }

    /// The whole table as a batch for the store.
    pub fn to_batch(&self) -> Batch {
        Batch {
            items: self
                .items
                .iter()
                .map(|(key, item)| ItemWrite {
                    key: key.clone(),
                    version: item.version,
                    document: item.document.clone(),
                })
                .collect(),
            requests: self
                .requests
                .iter()
                .map(|((principal, id), remembered)| (*principal, *id, remembered.clone()))
                .collect(),
            receipts: self.receipts.iter().map(|(id, (outcome, at))| (*id, outcome.clone(), *at)).collect(),
            applied_index: self.last_index,
            item_count: self.item_count,
            now: self.last_time,
            machine: self.machine.clone(),
        }
    }
}
