//! Items in memory, as the tests of `api` see them: all of a table is one range, and everything is applied at once.

#![cfg(test)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::domain::Refusal;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId, TableId};
use crate::domain::key::PackedKey;
use crate::domain::table::TableDefinition;
use crate::domain::version::ItemVersion;
use crate::replication::apply::{Effect, Present, evaluate_indexed};
use crate::replication::operation::{Operation, Outcome, RequestIdentity};
use crate::services::ports::*;

#[derive(Default)]
struct ItemsInner {
    index: u64,
    items: BTreeMap<(TableId, PackedKey), StoredItem>,
    requests: HashMap<(PrincipalId, RequestId), ([u8; 32], Outcome)>,
    receipts: HashMap<(TableId, ReceiptId), ReceiptState>,
    waiting: Vec<(Arc<TableDefinition>, Operation)>,
}

/// Items in memory.
#[derive(Default)]
pub struct MemoryItems {
    inner: Mutex<ItemsInner>,
    /// What the next call is refused with.
    pub refuse_next: Mutex<Option<Refusal>>,
    /// Whether writes that may be answered early stay queued until [`MemoryItems::apply_waiting`].
    pub hold: AtomicBool,
}

impl MemoryItems {
    fn check(&self) -> Result<(), Refusal> {
        self.refuse_next.lock().take().map_or(Ok(()), Err)
    }

    /// Applies what is queued.
    pub fn apply_waiting(&self) {
        let mut inner = self.inner.lock();
        for (table, operation) in std::mem::take(&mut inner.waiting) {
            let outcome = inner.apply(&table, &operation);
            if let Some(receipt) = operation.receipt {
                inner.receipts.insert((table.id, receipt), ReceiptState::Ended(outcome));
            }
        }
    }

    /// Loses what is queued.
    pub fn lose_waiting(&self) {
        let mut inner = self.inner.lock();
        for (table, operation) in std::mem::take(&mut inner.waiting) {
            if let Some(receipt) = operation.receipt {
                inner.receipts.insert((table.id, receipt), ReceiptState::Lost);
            }
        }
    }
}

impl ItemsInner {
    fn apply(&mut self, table: &TableDefinition, operation: &Operation) -> Outcome {
        if let Some(RequestIdentity::Client(request)) = &operation.request {
            let known = self.requests.get(&(request.principal, request.request_id));
            if let Some((digest, outcome)) = known {
                return if *digest == request.digest { outcome.clone() } else { Outcome::RequestIdReused };
            }
        }
        self.index += 1;
        let place = (table.id, operation.key.clone());
        let present = self.items.get(&place);
        let present = present.map(|item| Present { version: item.version, document: Some(item.document.clone()) });
        let indexes = &table.specification.local_indexes;
        let (outcome, effect) = evaluate_indexed(self.index, operation, present.as_ref(), indexes);
        match effect {
            Effect::None => {}
            Effect::Store(document) => {
                self.items.insert(place, StoredItem { document, version: ItemVersion(self.index) });
            }
            Effect::Remove => {
                self.items.remove(&place);
            }
        }
        if let Some(RequestIdentity::Client(request)) = &operation.request {
            self.requests.insert((request.principal, request.request_id), (request.digest, outcome.clone()));
        }
        outcome
    }
}

#[async_trait]
impl Items for MemoryItems {
    async fn read(
        &self,
        table: &Arc<TableDefinition>,
        key: PackedKey,
        _consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        self.check()?;
        Ok(self.inner.lock().items.get(&(table.id, key)).cloned())
    }

    async fn write(
        &self,
        table: &Arc<TableDefinition>,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        self.check()?;
        let mut inner = self.inner.lock();
        if respond_async && self.hold.load(Ordering::Relaxed) {
            let receipt = operation.receipt.expect("who wants an early answer brings a receipt");
            inner.receipts.insert((table.id, receipt), ReceiptState::Queued);
            inner.waiting.push((Arc::clone(table), operation));
            return Ok(WriteAnswer::Queued);
        }
        Ok(WriteAnswer::Applied(inner.apply(table, &operation)))
    }

    async fn list(&self, table: &Arc<TableDefinition>, request: ListRequest) -> Result<Page, Refusal> {
        self.check()?;
        let inner = self.inner.lock();
        let within = |place: &PackedKey| *place >= request.start && request.end.as_ref().is_none_or(|end| place < end);
        let index = request.index.map(|position| &table.specification.local_indexes[usize::from(position)]);
        // Where an item lies: at its key, or at its entry in the index, if it has one.
        let place = |key: &PackedKey, item: &StoredItem| {
            index.map_or_else(|| Some(key.clone()), |index| index.entry(key, &item.document))
        };
        let own = inner.items.iter().filter(|((id, _), _)| *id == table.id);
        let placed = own.filter_map(|((_, key), item)| Some((place(key, item)?, key.clone(), item.clone())));
        let mut found: Vec<_> = placed.filter(|(place, ..)| within(place)).collect();
        found.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        if request.descending {
            found.reverse();
        }
        let mut sizes = 0;
        let full = found.iter().position(|(_, key, item)| {
            sizes += key.len() + item.document.item_size();
            request.bytes_max.is_some_and(|max| sizes >= max as usize)
        });
        let wanted = request.limit.min(full.map_or(usize::MAX, |place| place + 1));
        let more = found.len() > wanted;
        found.truncate(wanted);
        let last = found.last().filter(|_| more).map(|(place, ..)| place.clone());
        Ok(Page { items: found.into_iter().map(|(_, key, item)| (key, item)).collect(), last })
    }

    async fn receipt(&self, table: &Arc<TableDefinition>, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        self.check()?;
        Ok(self.inner.lock().receipts.get(&(table.id, receipt)).cloned())
    }

    async fn stored(&self, table: &Arc<TableDefinition>, part: StoredPart) -> Result<Stored, Refusal> {
        self.check()?;
        let inner = self.inner.lock();
        let own = inner.items.iter().filter(|((id, _), _)| *id == table.id);
        let sizes = own.filter_map(|((_, key), item)| {
            let whole = (key.len() + item.document.item_size()) as u64;
            match &part {
                StoredPart::Table => Some(whole),
                StoredPart::Index(position) => {
                    let index = &table.specification.local_indexes[usize::from(*position)];
                    index.entry(key, &item.document).map(|_| index.projected_bytes(key, &item.document))
                }
                StoredPart::Collection(prefix) => key.as_bytes().starts_with(prefix.as_bytes()).then_some(whole),
            }
        });
        Ok(sizes.fold(Stored::default(), |sum, bytes| sum.plus(Stored { items: 1, bytes })))
    }
}
