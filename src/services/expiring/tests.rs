//! Expired items removed, by a clock that is moved by hand, from ranges in memory that count what they are asked.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;
use crate::domain::document::Document;
use crate::domain::ids::TenantId;
use crate::domain::key::{KeyType, KeyValue};
use crate::domain::table::TableSpecification;
use crate::domain::table_options::OptionTimes;
use crate::domain::{TableName, TenantName};
use crate::services::ports::StoredItem;

const START: u64 = 1_800_000_000;
const TABLE: TableId = TableId(uuid::Uuid::from_u128(7));

struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed) * 1_000_000)
    }
}

#[derive(Default)]
struct Held {
    items: BTreeMap<PackedKey, StoredItem>,
    index: u64,
    pages: usize,
    is_led_here: bool,
    /// Writes that come between the look and the delete.
    touch_before_delete: bool,
    refuse: Option<Refusal>,
    refuse_page: Option<Refusal>,
    refuse_led: Option<Refusal>,
}

/// One range.
#[derive(Default)]
struct OneRange(Mutex<Held>);

impl OneRange {
    fn put(&self, id: &str, json: &str) {
        let held = &mut *self.0.lock();
        held.index += 1;
        let document = Document::from_json(json.as_bytes()).unwrap();
        held.items.insert(key(id), StoredItem { document, version: ItemVersion(held.index) });
    }

    fn ids(&self) -> Vec<String> {
        let held = self.0.lock();
        let mut ids: Vec<String> = held.items.keys().map(|key| key.decode().unwrap().0.to_text()).collect();
        ids.sort();
        ids
    }

    fn pages(&self) -> usize {
        std::mem::take(&mut self.0.lock().pages)
    }
}

fn key(id: &str) -> PackedKey {
    PackedKey::new(&KeyValue::String(id.into()), None)
}

fn address() -> RangeAddress {
    RangeAddress { table: TABLE, range: RangeId(uuid::Uuid::from_u128(8)) }
}

#[async_trait]
impl LedRanges for OneRange {
    async fn led(&self, tables: &ExpiringTables) -> Result<Vec<LedRange>, Refusal> {
        let mut held = self.0.lock();
        if let Some(refusal) = held.refuse_led.take() {
            return Err(refusal);
        }
        let is_led = held.is_led_here && tables.contains_key(&TABLE);
        let range = LedRange { address: address(), hashes: HashRange::FULL, applied_index: held.index };
        Ok(is_led.then_some(range).into_iter().collect())
    }

    async fn page(&self, range: RangeAddress, request: ListRequest) -> Result<Page, Refusal> {
        assert_eq!(range, address());
        let held = &mut *self.0.lock();
        if let Some(refusal) = held.refuse_page.take() {
            return Err(refusal);
        }
        held.pages += 1;
        let mut left = held.items.range(request.start..);
        // Small pages, so that there are some.
        let items: Vec<_> = left.by_ref().take(3).map(|(key, item)| (key.clone(), item.clone())).collect();
        let last = items.last().filter(|_| left.next().is_some()).map(|(key, _)| key.clone());
        Ok(Page { items, last })
    }

    async fn remove(&self, range: RangeAddress, key: PackedKey, version: ItemVersion) -> Result<bool, Refusal> {
        assert_eq!(range, address());
        let held = &mut *self.0.lock();
        if let Some(refusal) = held.refuse.take() {
            return Err(refusal);
        }
        held.index += 1;
        if held.touch_before_delete
            && let Some(item) = held.items.get_mut(&key)
        {
            item.version = ItemVersion(held.index);
        }
        let is_same = held.items.get(&key).is_some_and(|item| item.version == version);
        if is_same {
            held.items.remove(&key);
        }
        Ok(is_same)
    }
}

fn table(attribute: &str) -> Arc<TableDefinition> {
    let time_to_live = Some(attribute.to_owned());
    Arc::new(TableDefinition {
        tenant_id: TenantId::from_bytes([1; 16]),
        tenant: TenantName::new("acme").unwrap(),
        id: TABLE,
        name: TableName::new("things").unwrap(),
        specification: TableSpecification { time_to_live, ..TableSpecification::new(KeyType::String) },
        created_at: Timestamp(0),
        version: 1,
        option_times: OptionTimes::default(),
    })
}

struct Fixture {
    range: Arc<OneRange>,
    tables: Arc<Mutex<ExpiringTables>>,
    clock: Arc<HandClock>,
    expiring: Expiring,
}

impl Fixture {
    fn new() -> Self {
        let range = Arc::new(OneRange::default());
        range.0.lock().is_led_here = true;
        let tables = Arc::new(Mutex::new(ExpiringTables::from([(TABLE, table("until"))])));
        let clock = Arc::new(HandClock(AtomicU64::new(START)));
        let told = tables.clone();
        let source: TableSource = Arc::new(move || told.lock().clone());
        let expiring = Expiring::new(range.clone(), source, clock.clone(), Duration::from_secs(60));
        Self { range, tables, clock, expiring }
    }

    fn forward(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    fn removed(&self) -> u64 {
        self.expiring.counters.removed.load(Ordering::Relaxed)
    }

    /// Rounds, ranges and removals that failed.
    fn failed(&self) -> [u64; 3] {
        let counters = &self.expiring.counters;
        [&counters.failed_rounds, &counters.failed_ranges, &counters.failed_removals]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_goes_and_all_else_stays() {
    let mut fixture = Fixture::new();
    for number in 0..40 {
        fixture.range.put(&format!("gone-{number}"), &format!(r#"{{"until":{}}}"#, START - 1 - number));
    }
    fixture.range.put("later", &format!(r#"{{"until":{}}}"#, START + 100));
    fixture.range.put("never", "{}");
    fixture.range.put("long-ago", r#"{"until":5}"#);
    fixture.range.put("text", r#"{"until":"1700000000"}"#);
    fixture.expiring.round().await;
    assert_eq!(fixture.range.ids(), ["later", "long-ago", "never", "text"]);
    assert_eq!(fixture.removed(), 40);
    fixture.forward(101);
    fixture.expiring.round().await;
    assert_eq!(fixture.range.ids(), ["long-ago", "never", "text"]);
    assert_eq!(fixture.removed(), 41);
}

#[tokio::test(start_paused = true)]
async fn a_range_is_read_again_only_where_something_may_have_come_to_expire() {
    let mut fixture = Fixture::new();
    fixture.range.put("later", &format!(r#"{{"until":{}}}"#, START + 100));
    fixture.expiring.round().await;
    assert_eq!(fixture.range.pages(), 1);
    for _ in 0..5 {
        fixture.forward(20);
        fixture.expiring.round().await;
    }
    assert_eq!(fixture.range.pages(), 0, "nothing was written, and nothing has expired");
    fixture.range.put("another", "{}");
    fixture.expiring.round().await;
    assert_eq!(fixture.range.pages(), 1, "something was written");
    fixture.tables.lock().insert(TABLE, table("other"));
    fixture.expiring.round().await;
    assert_eq!(fixture.range.pages(), 1, "another attribute counts");
    fixture.tables.lock().insert(TABLE, table("until"));
    fixture.forward(1);
    fixture.expiring.round().await;
    assert_eq!((fixture.range.pages(), fixture.removed()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_was_written_in_between_lives_on() {
    let mut fixture = Fixture::new();
    fixture.range.put("contended", &format!(r#"{{"until":{}}}"#, START - 5));
    fixture.range.0.lock().touch_before_delete = true;
    fixture.expiring.round().await;
    assert_eq!((fixture.range.ids().len(), fixture.removed()), (1, 0));
    fixture.range.0.lock().touch_before_delete = false;
    fixture.expiring.round().await;
    assert_eq!((fixture.range.ids().len(), fixture.removed()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn tables_without_a_time_to_live_and_ranges_led_elsewhere_are_not_read() {
    let mut fixture = Fixture::new();
    fixture.range.put("gone", &format!(r#"{{"until":{}}}"#, START - 5));
    fixture.range.0.lock().is_led_here = false;
    fixture.expiring.round().await;
    fixture.range.0.lock().is_led_here = true;
    let tables = std::mem::take(&mut *fixture.tables.lock());
    fixture.expiring.round().await;
    assert_eq!((fixture.range.pages(), fixture.removed()), (0, 0));
    *fixture.tables.lock() = tables;
    fixture.range.0.lock().refuse = Some(Refusal::unavailable("not now", 1));
    fixture.expiring.round().await;
    assert_eq!(fixture.removed(), 0, "a leader that has just gone is asked in the next round");
    fixture.expiring.round().await;
    assert_eq!(fixture.removed(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_counted_and_made_up_for_in_the_next_round() {
    let mut fixture = Fixture::new();
    fixture.range.put("later", &format!(r#"{{"until":{}}}"#, START + 100));
    fixture.expiring.round().await;
    assert_eq!((fixture.range.pages(), fixture.failed()), (1, [0, 0, 0]));
    fixture.range.0.lock().refuse_led = Some(Refusal::internal("it panicked"));
    fixture.expiring.round().await;
    assert_eq!((fixture.range.pages(), fixture.failed()), (0, [1, 0, 0]), "a round that did not begin is no empty one");
    fixture.expiring.round().await;
    assert_eq!(fixture.range.pages(), 0, "what was known is still known");
    fixture.forward(101);
    fixture.range.0.lock().refuse_page = Some(Refusal::new(RefusalKind::Damaged, "a page is damaged"));
    fixture.expiring.round().await;
    assert_eq!((fixture.removed(), fixture.failed()), (0, [1, 1, 0]));
    fixture.range.0.lock().refuse = Some(Refusal::unavailable("not now", 1));
    fixture.expiring.round().await;
    assert_eq!((fixture.removed(), fixture.failed()), (0, [1, 2, 1]));
    fixture.expiring.round().await;
    assert_eq!((fixture.removed(), fixture.failed()), (1, [1, 2, 1]));
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_puts_right_holds_at_once() {
    let mut fixture = Fixture::new();
    fixture.range.put("not-meant", &format!(r#"{{"until":{}}}"#, START - 5));
    let (before, asked) = (fixture.tables.clone(), AtomicU64::new(0));
    // The round begins with the wrong attribute; then the right one is set.
    fixture.expiring.tables = Arc::new(move || match asked.fetch_add(1, Ordering::Relaxed) {
        0 => before.lock().clone(),
        _ => ExpiringTables::from([(TABLE, table("expires"))]),
    });
    fixture.expiring.round().await;
    fixture.expiring.round().await;
    assert_eq!((fixture.range.ids().len(), fixture.removed()), (1, 0));
}
