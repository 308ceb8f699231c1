//! Limits over a clock that is moved by hand, and over a real embedded coordinator.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::stored::{Crossings, Looks, is_news};
use super::*;
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::values::{StoredBytes, to_json};
use crate::coordination::{Coordinator, Writer, layout};
use crate::domain::ids::{NodeId, ProxyId, RangeId, TenantId};
use crate::domain::table::Tenant;
use crate::domain::tenant_limits::{LimitMode, LimitShares, TenantLimits};
use crate::domain::throttle::BURST_SECONDS;
use crate::domain::usage::Cost;
use crate::domain::{Clock, Random, RefusalKind, TenantName, Timestamp};
use crate::services::engine::notices::Notices;
use crate::services::routing::{RoutingOptions, RoutingTable};

const ACME: TenantId = TenantId(uuid::Uuid::from_u128(1));

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn limits(storage_bytes: Option<u64>, request_units: Option<u64>, mode: LimitMode) -> TenantLimits {
    TenantLimits { storage_bytes, request_units, mode, shares: Some(LimitShares { proxies: 4, nodes: 2 }) }
}

fn limited(limits: TenantLimits, stored_bytes: u64) -> LimitedTenant {
    LimitedTenant { name: TenantName::new("acme").unwrap(), limits, stored_bytes, teller: Some(node(1)) }
}

#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

struct Fixture {
    limiter: TenantLimiter,
    clock: Arc<HandClock>,
    notices: Arc<Notices>,
}

impl Fixture {
    fn new(door: Door, limits: TenantLimits, stored_bytes: u64) -> Self {
        let (clock, notices) = (Arc::new(HandClock::default()), Arc::new(Notices::default()));
        let book = Arc::new(LimitBook::of([(ACME, limited(limits, stored_bytes))]));
        let limiter = TenantLimiter::new(book, door, clock.clone(), notices.clone());
        Self { limiter, clock, notices }
    }

    fn ask(&self) -> Result<(), crate::domain::Refusal> {
        self.limiter.admit(ACME, false).map(|admitted| admitted.charge(|| Cost::read(4096, true)))
    }

    /// How many strong reads of one unit are let in now, of so many.
    fn let_in(&self, asked: u64) -> u64 {
        (0..asked).filter(|_| self.ask().is_ok()).count() as u64
    }

    fn forward(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

#[test]
fn hard_refuses_with_a_time_to_come_back_and_says_so_once() {
    let fixture = Fixture::new(Door::Alone, limits(None, Some(3), LimitMode::Hard), u64::MAX);
    assert_eq!(fixture.let_in(100), 3 * BURST_SECONDS);
    let refusal = fixture.ask().unwrap_err();
    assert_eq!((refusal.kind, refusal.retry_after_seconds), (RefusalKind::Throttled, Some(1)));
    for word in ["the tenant acme", "3 capacity units", "tenant set acme --request-limit"] {
        assert!(refusal.message.contains(word), "{}", refusal.message);
    }
    assert_eq!(fixture.limiter.refused(), 100 - 3 * BURST_SECONDS + 1);
    fixture.forward(1);
    assert_eq!(fixture.let_in(100), 3, "as many as a second brings");
    let notices = fixture.notices.take();
    assert_eq!((notices.len(), notices[0].repeats), (1, 1), "{notices:?}");
    assert!(notices[0].details.contains("answered 429"), "{notices:?}");
    fixture.forward(BURST_SECONDS);
    assert_eq!(fixture.let_in(100), 3 * BURST_SECONDS);
    assert_eq!(fixture.notices.take().len(), 1, "told again, since it was well in between");
}

#[test]
fn soft_lets_pass_and_is_well_again_soon() {
    let fixture = Fixture::new(Door::Alone, limits(None, Some(3), LimitMode::Soft), 0);
    assert_eq!(fixture.let_in(10_000), 10_000);
    assert_eq!(fixture.limiter.refused(), 0);
    let notices = fixture.notices.take();
    assert_eq!((notices.len(), notices[0].repeats), (1, 1));
    assert!(notices[0].details.contains("nothing is refused"), "{notices:?}");
    fixture.forward(2 * BURST_SECONDS);
    assert_eq!(fixture.let_in(1), 1);
    assert!(fixture.notices.take().is_empty());
    assert_eq!(fixture.let_in(100), 100);
    assert_eq!(fixture.notices.take().len(), 1, "another crossing");
}

#[test]
fn each_door_takes_its_share() {
    for (door, share) in [(Door::Alone, 8), (Door::Proxy, 2), (Door::Node, 4)] {
        let fixture = Fixture::new(door, limits(None, Some(8), LimitMode::Hard), 0);
        assert_eq!(fixture.let_in(1_000), share * BURST_SECONDS, "{door:?}");
    }
}

#[test]
fn what_a_request_cost_is_waited_for_by_the_next() {
    let fixture = Fixture::new(Door::Alone, limits(None, Some(1), LimitMode::Hard), 0);
    let admitted = fixture.limiter.admit(ACME, true).unwrap();
    admitted.charge(|| Cost::write(110 << 10, true));
    let wait = u64::from(fixture.ask().unwrap_err().retry_after_seconds.unwrap());
    assert_eq!(wait, 100 + 1, "110 units, of which 10 were saved; and the bucket must not be empty");
    fixture.forward(wait);
    assert_eq!(fixture.let_in(10), 1);
}

#[test]
fn a_full_tenant_may_not_grow() {
    let fixture = Fixture::new(Door::Proxy, limits(Some(1 << 30), None, LimitMode::Hard), 1 << 30);
    let refusal = fixture.limiter.admit(ACME, true).err().unwrap();
    assert_eq!((refusal.kind, refusal.retry_after_seconds), (RefusalKind::StorageFull, None));
    for word in ["the tenant acme stores 1 GiB and may store 1 GiB", "tenant set acme --storage-limit", "delete items"]
    {
        assert!(refusal.message.contains(word), "{}", refusal.message);
    }
    assert!(fixture.limiter.admit(ACME, false).is_ok(), "reads and deletes go on");
    assert!(fixture.limiter.admit(TenantId(uuid::Uuid::nil()), true).is_ok(), "another tenant");
    for (stored, mode) in [(1 << 30, LimitMode::Soft), ((1 << 30) - 1, LimitMode::Hard)] {
        let fixture = Fixture::new(Door::Proxy, limits(Some(1 << 30), None, mode), stored);
        assert!(fixture.limiter.admit(ACME, true).is_ok(), "{stored} {mode:?}");
    }
}

#[test]
fn a_crossing_of_storage_is_told_once_and_by_one_node() {
    let (notices, mut crossings) = (Notices::default(), Crossings::default());
    let of = |stored, mode| HashMap::from([(ACME, Arc::new(limited(limits(Some(1000), None, mode), stored)))]);
    crossings.look(node(1), &of(999, LimitMode::Hard), &notices);
    crossings.look(node(2), &of(1000, LimitMode::Hard), &notices);
    assert!(notices.take().is_empty(), "not yet, and not by another one");
    for stored in [1000, 2000, 990, 1000, 951] {
        crossings.look(node(1), &of(stored, LimitMode::Hard), &notices);
    }
    let told = notices.take();
    assert_eq!((told.len(), told[0].repeats), (1, 1), "{told:?}");
    assert!(told[0].details.contains("the tenant acme stores as much as it may, 1000 B"), "{told:?}");
    crossings.look(node(1), &of(950, LimitMode::Soft), &notices);
    crossings.look(node(1), &of(1000, LimitMode::Soft), &notices);
    assert!(notices.take()[0].details.contains("nothing is refused"));
}

#[test]
fn news_are_a_hundredth_of_what_is_left() {
    let tenants =
        |stored| HashMap::from([(ACME, Arc::new(limited(limits(Some(100_000), None, LimitMode::Hard), stored)))]);
    let of = |bytes: u64| BTreeMap::from([(ACME, bytes)]);
    let nothing = BTreeMap::new();
    assert!(is_news(&nothing, &of(0), &tenants(0)) && is_news(&of(0), &nothing, &tenants(0)));
    assert!(!is_news(&of(0), &of(1_000), &tenants(0)) && is_news(&of(0), &of(1_001), &tenants(0)));
    assert!(
        !is_news(&of(99_000), &of(99_010), &tenants(99_000)) && is_news(&of(99_000), &of(99_011), &tenants(99_000))
    );
    assert!(is_news(&of(100_000), &of(99_999), &tenants(100_000)) && !is_news(&of(5), &of(5), &tenants(100_000)));
}

#[test]
fn a_process_that_starts_counts_all_at_once() {
    let led = |ranges: &[u128]| ranges.iter().map(|range| (RangeId(uuid::Uuid::from_u128(*range)), ACME, 1)).collect();
    let mut looks = Looks::default();
    let of = |stored: BTreeMap<TenantId, u64>| stored.get(&ACME).copied();
    assert_eq!(of(looks.settled(led(&[1, 2]))), Some(2));
    assert_eq!(of(looks.settled(led(&[1, 2, 3]))), Some(2));
    assert_eq!(of(looks.settled(led(&[1, 2, 3]))), Some(2));
    assert_eq!(of(looks.settled(led(&[1, 2, 3]))), Some(3), "from the third look on");
    assert_eq!(of(looks.settled(led(&[3]))), Some(1), "and no more at once");
}

proptest! {
    /// Ranges change their leader at any time, but each only after all nodes have looked; nodes look in turn, and
    /// what they told holds until they look again. A leadership that leaves a node for less than the time between
    /// two of its looks is not seen to have left.
    #[test]
    fn no_range_counts_twice(moves in proptest::collection::vec((0usize..4, 0usize..3), 1..200)) {
        let mut leaders = [0usize; 4];
        let mut moved_at = [0usize; 4];
        let mut looks: [Looks; 3] = Default::default();
        let mut told = [0u64; 3];
        for (step, (range, leader)) in moves.into_iter().enumerate() {
            let looker = step % 3;
            let led = (0..4).filter(|range| leaders[*range] == looker);
            let led = led.map(|range| (RangeId(uuid::Uuid::from_u128(range as u128)), ACME, 1)).collect();
            told[looker] = looks[looker].settled(led).get(&ACME).copied().unwrap_or(0);
            prop_assert!(told.iter().sum::<u64>() <= 4, "{told:?}");
            // Not before all have looked for the first time: that counts at once.
            if step >= 2 && leaders[range] != leader && step >= moved_at[range] + looks.len() {
                (leaders[range], moved_at[range]) = (leader, step);
            }
        }
    }
}

struct NoDice;

impl Random for NoDice {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it comes to that");
}

/// As a proxy follows it: with no more rights than it has.
#[tokio::test]
async fn the_book_follows_records_and_what_nodes_tell() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("db"), EmbeddedOptions::default()).unwrap();
    let control = store.handle(Writer::Control);
    let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Proxy(ProxyId::from_bytes([9; 16]))));
    let (clock, random) = (Arc::new(HandClock::default()), Arc::new(NoDice));
    let routing = Arc::new(RoutingTable::start(coordinator.clone(), RoutingOptions::default(), clock, random));
    let book = Arc::new(LimitBook::default());
    let task = tokio::spawn(book.clone().follow(routing, coordinator));

    let name = TenantName::new("acme").unwrap();
    let put = async |limits| {
        let tenant = Tenant { id: ACME, name: name.clone(), created_at: Timestamp(1), limits };
        control.put(&layout::control_tenant(&name), to_json(&tenant), None).await.unwrap();
    };
    let tell = async |from: u8, bytes: u64| {
        let told = StoredBytes { tenants: BTreeMap::from([(ACME, bytes)]) };
        store.handle(Writer::Node(node(from))).put(&layout::stored(node(from)), to_json(&told), None).await.unwrap();
    };
    tell(2, 600).await;
    put(limits(Some(1000), None, LimitMode::Hard)).await;
    until(|| book.get(ACME).is_some_and(|limited| limited.stored_bytes == 600 && limited.teller == Some(node(2))))
        .await;
    assert!(book.admit_write(ACME).is_ok());
    tell(1, 400).await;
    until(|| book.admit_write(ACME).is_err()).await;
    assert_eq!(book.get(ACME).unwrap().teller, Some(node(1)), "the first of them");
    assert!(book.refused() > 0);
    control.put(&layout::stored(node(1)), "{".into(), None).await.unwrap();
    control.delete(&layout::stored(node(2))).await.unwrap();
    until(|| book.get(ACME).is_some_and(|limited| limited.stored_bytes == 400)).await;
    put(TenantLimits::default()).await;
    until(|| book.get(ACME).is_none()).await;
    assert!(book.admit_write(ACME).is_ok());
    task.abort();
}
