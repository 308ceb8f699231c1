//! Items that have expired are gone for readers at once, in both protocols, though they may be stored for a while until
//! they are removed ([`crate::services::expiring`]). [`LivingItems`] stands before other [`Items`] and lets no such
//! item through.
//!
//! A page that lost items to this is shorter, down to none, and says all the same where the next one begins.
//!
//! Writes pass as they are: a condition, an update or the image that a write tells sees what is stored, until it is
//! removed. That is how DynamoDB has it; deciding otherwise would need the clock of whoever asks in each entry of the log.
//!
//! Tables without a time to live pay one look at their definition, and no future more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::ids::ReceiptId;
use crate::domain::key::PackedKey;
use crate::domain::table::TableDefinition;
use crate::domain::{Clock, Refusal};
use crate::replication::operation::Operation;
use crate::services::ports::{
    Consistency, Items, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};

/// See the module's essay.
pub struct LivingItems {
    inner: Arc<dyn Items>,
    clock: Arc<dyn Clock>,
}

impl LivingItems {
    /// These items, but for those that have expired by this clock.
    pub fn new(inner: Arc<dyn Items>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock }
    }

    fn lives(&self, table: &TableDefinition, key: &PackedKey, item: &StoredItem) -> bool {
        !table.specification.has_expired(key, &item.document, self.clock.now())
    }
}

/// What a method of a trait made by `async_trait` gives.
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

#[async_trait]
impl Items for LivingItems {
    // Written out where it is asked most: the future of the items behind is handed on, not wrapped in another.
    fn read<'life0, 'life1, 'async_trait>(
        &'life0 self,
        table: &'life1 Arc<TableDefinition>,
        key: PackedKey,
        consistency: Consistency,
    ) -> Answer<'async_trait, Option<StoredItem>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        if table.specification.time_to_live.is_none() {
            return self.inner.read(table, key, consistency);
        }
        Box::pin(async move {
            let item = self.inner.read(table, key.clone(), consistency).await?;
            Ok(item.filter(|item| self.lives(table, &key, item)))
        })
    }

    fn write<'life0, 'life1, 'async_trait>(
        &'life0 self,
        table: &'life1 Arc<TableDefinition>,
        operation: Operation,
        respond_async: bool,
    ) -> Answer<'async_trait, WriteAnswer>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        self.inner.write(table, operation, respond_async)
    }

    async fn list(&self, table: &Arc<TableDefinition>, request: ListRequest) -> Result<Page, Refusal> {
        let mut page = self.inner.list(table, request).await?;
        if table.specification.time_to_live.is_some() {
            page.items.retain(|(key, item)| self.lives(table, key, item));
        }
        Ok(page)
    }

    async fn receipt(&self, table: &Arc<TableDefinition>, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        self.inner.receipt(table, receipt).await
    }

    async fn stored(&self, table: &Arc<TableDefinition>, part: StoredPart) -> Result<Stored, Refusal> {
        self.inner.stored(table, part).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use parking_lot::Mutex;

    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::document::Document;
    use crate::domain::ids::{TableId, TenantId};
    use crate::domain::key::{KeyType, KeyValue};
    use crate::domain::table::TableSpecification;
    use crate::domain::table_options::OptionTimes;
    use crate::domain::version::ItemVersion;
    use crate::domain::{TableName, TenantName};

    /// A clock that is moved by hand, in seconds.
    struct HandClock(AtomicU64);

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed) * 1_000_000)
        }
    }

    /// What is stored: pages of two.
    #[derive(Default)]
    struct Shelf(Mutex<Vec<(PackedKey, StoredItem)>>);

    #[async_trait]
    impl Items for Shelf {
        async fn read(
            &self,
            _table: &Arc<TableDefinition>,
            key: PackedKey,
            _consistency: Consistency,
        ) -> Result<Option<StoredItem>, Refusal> {
            Ok(self.0.lock().iter().find(|(stored, _)| *stored == key).map(|(_, item)| item.clone()))
        }

        async fn write(&self, _: &Arc<TableDefinition>, _: Operation, _: bool) -> Result<WriteAnswer, Refusal> {
            Ok(WriteAnswer::Queued)
        }

        async fn list(&self, _table: &Arc<TableDefinition>, request: ListRequest) -> Result<Page, Refusal> {
            let all = self.0.lock();
            let mut left = all.iter().filter(|(key, _)| *key >= request.start);
            let items: Vec<_> = left.by_ref().take(2).cloned().collect();
            let last = items.last().filter(|_| left.next().is_some()).map(|(key, _)| key.clone());
            Ok(Page { items, last })
        }

        async fn receipt(&self, _: &Arc<TableDefinition>, _: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
            Ok(None)
        }

        async fn stored(&self, _table: &Arc<TableDefinition>, _part: StoredPart) -> Result<Stored, Refusal> {
            Ok(Stored { items: self.0.lock().len() as u64, bytes: 0 })
        }
    }

    fn table(time_to_live: Option<&str>) -> Arc<TableDefinition> {
        let time_to_live = time_to_live.map(str::to_owned);
        Arc::new(TableDefinition {
            tenant_id: TenantId::from_bytes([1; 16]),
            tenant: TenantName::new("acme").unwrap(),
            id: TableId::from_bytes([2; 16]),
            name: TableName::new("things").unwrap(),
            specification: TableSpecification { time_to_live, ..TableSpecification::new(KeyType::String) },
            created_at: Timestamp(0),
            version: 1,
            option_times: OptionTimes::default(),
        })
    }

    fn key(number: u64) -> PackedKey {
        PackedKey::new(&KeyValue::String(format!("item-{number}").into()), None)
    }

    /// Items that expire at these seconds.
    fn living(expires_at: &[u64]) -> (Arc<HandClock>, LivingItems) {
        let clock = Arc::new(HandClock(AtomicU64::new(1_000_000_000)));
        let item = |at: &u64| StoredItem {
            document: Document::from_json(format!(r#"{{"until":{at}}}"#).as_bytes()).unwrap(),
            version: ItemVersion(*at),
        };
        let mut all: Vec<_> = expires_at.iter().zip(0..).map(|(at, number)| (key(number), item(at))).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        (clock.clone(), LivingItems::new(Arc::new(Shelf(Mutex::new(all))), clock))
    }

    #[tokio::test]
    async fn an_item_is_gone_from_the_second_after_its_last() {
        let (clock, items) = living(&[1_000_000_010]);
        let (table, plain) = (table(Some("until")), table(None));
        let read = |table: &Arc<TableDefinition>| {
            let table = Arc::clone(table);
            let items = &items;
            async move { items.read(&table, key(0), Consistency::Strong).await.unwrap().is_some() }
        };
        assert!(read(&table).await);
        clock.0.store(1_000_000_010, Ordering::Relaxed);
        assert!(read(&table).await);
        clock.0.store(1_000_000_011, Ordering::Relaxed);
        assert!(!read(&table).await);
        assert!(read(&plain).await, "only where the table says so");
        assert_eq!(items.stored(&table, StoredPart::Table).await.unwrap().items, 1, "it is stored until it is removed");
        clock.0.store(2_000_000_000, Ordering::Relaxed);
        assert!(read(&table).await, "what is past for many years was not meant as a time");
    }

    #[tokio::test]
    async fn pages_lose_items_and_keep_their_place() {
        let (_, items) = living(&[5, 999_999_999, 999_999_998, 999_999_997, 1_000_000_001, 999_999_996]);
        let table = table(Some("until"));
        let mut request = ListRequest {
            index: None,
            start: PackedKey::hash_floor(0),
            end: None,
            limit: 2,
            descending: false,
            consistency: Consistency::Strong,
            bytes_max: None,
        };
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let page = items.list(&table, request.clone()).await.unwrap();
            seen.extend(page.items.into_iter().map(|(key, _)| key));
            pages += 1;
            let Some(last) = page.last else { break };
            request.start = last.successor();
        }
        seen.sort();
        let mut expected = vec![key(0), key(4)];
        expected.sort();
        assert_eq!((pages, seen), (3, expected));
    }
}
