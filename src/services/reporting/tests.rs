//! Pulling, answering and events over a real store: components that go, come back, repeat themselves and change their place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::events::{ClusterEvent, EventFeed, EventKind};
use super::puller::{Components, PullCounters, Puller};
use super::*;
use crate::crypto::Key256;
use crate::crypto::cipher::tests::SystemRandom;
use crate::domain::Timestamp;
use crate::domain::ids::{PlaneId, ReporterId, Role, TenantId};
use crate::domain::usage::query::{UsageBy, UsageQuestion, UsageStep};
use crate::domain::usage::record::RecordBody;
use crate::domain::usage::{
    BatchId, Component, UsageBatch, UsageCounts, UsageKey, UsageOperation, UsagePull, UsagePulled, UsageResult,
};
use crate::services::usage::UsageSource;
use crate::storage::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};
use crate::storage::reporting::KeepFrom;
use crate::storage::sqlite::reporting::SqliteReportingStore;

const DEADLINE: Duration = Duration::from_secs(30);
const START_MS: u64 = 1_800_000_000_000;

struct OneKey;

impl FileKeys for OneKey {
    fn newest(&self, _: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        Ok(VersionedKey { version: 1, key: Key256::new([1; 32]) })
    }

    fn of_version(&self, _: KeyOwner, _: u32) -> Result<Key256, KeyUnavailable> {
        Ok(Key256::new([1; 32]))
    }
}

/// A clock that is moved by hand, in milliseconds.
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed) * 1000)
    }
}

fn open(folder: &Path) -> (Arc<Reporting>, Arc<HandClock>) {
    let sinks = ["files".to_owned()];
    let random = Arc::new(SystemRandom::default());
    crate::storage::vfs::register(random.clone()).unwrap();
    let (plane, reporter) = (PlaneId::from_bytes([1; 16]), ReporterId::from_bytes([2; 16]));
    let store = SqliteReportingStore::open(folder, plane, reporter, Arc::new(OneKey), random).unwrap();
    let clock = Arc::new(HandClock(AtomicU64::new(START_MS)));
    (Reporting::over(store, clock.clone(), &sinks).unwrap(), clock)
}

/// A component with a spool in memory: it lets go what was acknowledged, and tells the rest.
struct Counting {
    component: Component,
    spool: Mutex<Vec<UsageBatch>>,
    is_away: AtomicBool,
}

impl Counting {
    fn new(number: u128) -> Arc<Self> {
        let component = Component { role: Role::Proxy, id: Uuid::from_u128(number) };
        Arc::new(Self { component, spool: Mutex::default(), is_away: AtomicBool::new(false) })
    }

    /// One more batch, of one request.
    fn count(&self, interval: u64) {
        let key = UsageKey {
            tenant: TenantId::from_bytes([9; 16]),
            table: None,
            principal: None,
            operation: UsageOperation::GetItem,
            result: UsageResult::Ok,
        };
        let began_ms = START_MS + interval * 1000;
        self.spool.lock().push(UsageBatch {
            id: BatchId { component: self.component, boot: Uuid::from_u128(1), interval },
            began_ms,
            ended_ms: began_ms + 999,
            before: None,
            is_last: false,
            counts: vec![(key, UsageCounts { requests: 1, ..UsageCounts::default() })],
            ranges: Vec::new(),
            node: None,
            names: BTreeMap::new(),
        });
    }
}

#[async_trait]
impl UsageSource for Counting {
    async fn pull(&self, _: Uuid, pull: UsagePull) -> Result<UsagePulled, Refusal> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Refusal::unavailable("away", 1));
        }
        let mut spool = self.spool.lock();
        if let Some(kept) = pull.acknowledged {
            spool.retain(|batch| batch.id.boot != kept.boot || batch.id.interval > kept.interval);
        }
        let batches = spool.iter().take(pull.batches_max as usize).cloned().collect();
        Ok(UsagePulled { component: self.component, batches, dropped: 0 })
    }
}

/// All components there are, with the address that each has now.
#[derive(Default)]
struct Cluster(Mutex<Vec<(Arc<Counting>, String)>>);

#[async_trait]
impl Components for Cluster {
    async fn list(&self) -> Result<Vec<(Component, String)>, Refusal> {
        Ok(self.0.lock().iter().map(|(counting, address)| (counting.component, address.clone())).collect())
    }

    fn reach(&self, component: Component, _: &str) -> Result<Arc<dyn UsageSource>, Refusal> {
        let found = self.0.lock().iter().find(|(counting, _)| counting.component == component).cloned();
        found.map(|(counting, _)| counting as Arc<dyn UsageSource>).ok_or_else(|| Refusal::not_found("gone"))
    }
}

fn puller(reporting: &Arc<Reporting>, cluster: &Arc<Cluster>, has_room: &Arc<AtomicBool>) -> Puller {
    let room = has_room.clone();
    Puller {
        reporting: reporting.clone(),
        reporter: Uuid::from_u128(3),
        components: cluster.clone(),
        has_room: Arc::new(move || room.load(Ordering::Relaxed)),
        counters: Arc::new(PullCounters::default()),
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn requests(reporting: &Reporting) -> u64 {
    let question = UsageQuestion {
        from_ms: START_MS,
        to_ms: START_MS + 3_600_000,
        step: UsageStep::Minute,
        by: UsageBy::Tenant,
        tenant: None,
        table: None,
    };
    reporting.usage(question).await.unwrap().total.requests
}

#[tokio::test]
async fn what_all_components_counted_is_gathered_over_kills_and_absences() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(Cluster::default());
    let (first, second) = (Counting::new(1), Counting::new(2));
    cluster.0.lock().extend([(first.clone(), "a".to_owned()), (second.clone(), "b".to_owned())]);
    (1..=100).for_each(|interval| first.count(interval));
    (1..=25).for_each(|interval| second.count(interval));
    second.is_away.store(true, Ordering::Relaxed);
    let has_room = Arc::new(AtomicBool::new(true));
    {
        let (reporting, _) = open(folder.path());
        let pulling = Arc::new(puller(&reporting, &cluster, &has_room));
        let counters = pulling.counters.clone();
        let task = tokio::spawn(pulling.run());
        // The last interval of the first is open still.
        until("the first is gathered", async || requests(&reporting).await == 99).await;
        until("the first is let go", async || first.spool.lock().is_empty()).await;
        let why = counters.away.lock().get(&second.component).cloned().flatten();
        assert_eq!(why.as_deref(), Some("away"));
        // Killed as it stands; and what was let go there is nowhere else any more.
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    second.is_away.store(false, Ordering::Relaxed);
    // It moved, and told everything again from the beginning.
    cluster.0.lock()[0].1 = "c".to_owned();
    (95..=101).for_each(|interval| first.count(interval));
    let (reporting, clock) = open(folder.path());
    clock.0.store(START_MS + 200_000, Ordering::Relaxed);
    let task = tokio::spawn(Arc::new(puller(&reporting, &cluster, &has_room)).run());
    until("all is gathered", async || requests(&reporting).await == 101 + 25).await;
    task.abort();
    let records = reporting.records_after(0, 1000).await.unwrap();
    assert_eq!(records.len(), 11 + 3, "one for each interval of each component");
}

#[tokio::test]
async fn nobody_is_asked_while_the_disk_is_nearly_full() {
    let folder = tempfile::tempdir().unwrap();
    let (reporting, clock) = open(folder.path());
    let cluster = Arc::new(Cluster::default());
    let counting = Counting::new(1);
    counting.count(1);
    cluster.0.lock().push((counting.clone(), String::new()));
    let has_room = Arc::new(AtomicBool::new(false));
    let pulling = Arc::new(puller(&reporting, &cluster, &has_room));
    let counters = pulling.counters.clone();
    let task = tokio::spawn(pulling.run());
    let why = || counters.away.lock().get(&counting.component).cloned().flatten();
    until("it is said why", async || why().is_some_and(|why| why.contains("nearly full"))).await;
    assert_eq!(counting.spool.lock().len(), 1);
    clock.0.store(START_MS + 60_000, Ordering::Relaxed);
    has_room.store(true, Ordering::Relaxed);
    until("it is gathered", async || requests(&reporting).await == 1).await;
    assert_eq!(why(), None);
    task.abort();
}

#[tokio::test]
async fn what_a_removed_component_told_comes_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (reporting, clock) = open(folder.path());
    let cluster = Arc::new(Cluster::default());
    let counting = Counting::new(1);
    counting.count(1);
    cluster.0.lock().push((counting.clone(), String::new()));
    let task = tokio::spawn(Arc::new(puller(&reporting, &cluster, &Arc::new(AtomicBool::new(true)))).run());
    until("it is taken in", async || counting.spool.lock().is_empty()).await;
    task.abort();
    cluster.0.lock().clear();
    clock.0.store(START_MS + 2 * intake::SILENCE_MS, Ordering::Relaxed);
    let task = tokio::spawn(Arc::new(puller(&reporting, &cluster, &Arc::new(AtomicBool::new(true)))).run());
    until("it ends", async || requests(&reporting).await == 1).await;
    task.abort();
}

#[tokio::test]
async fn sinks_read_in_order_keep_their_place_and_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (reporting, _) = open(folder.path());
    assert_eq!(reporting.position("files").await, Ok(0));
    let waiting = reporting.clone();
    let waiter = tokio::spawn(async move {
        waiting.until_more(0).await;
        waiting.records_after(0, 10).await.unwrap().len()
    });
    let feed = Told(vec![event("notice/1", 5)]);
    reporting.gather_events(&feed).await.unwrap();
    assert_eq!(waiter.await.unwrap(), 1);
    reporting.set_position("files", 1).await.unwrap();
    let (again, _) = {
        drop(reporting);
        open(folder.path())
    };
    assert_eq!((again.position("files").await, again.newest()), (Ok(1), 1));
    again.until_more(0).await;
    // What a new sink finds let go is not waited for.
    again
        .on_store(|store| store.prune(&KeepFrom { records_ms: u64::MAX, minutes_ms: 0, hours_ms: 0 }, 10))
        .await
        .unwrap();
    let waiting = again.clone();
    let waiter = tokio::spawn(async move { waiting.until_more(0).await });
    again.gather_events(&Told(vec![event("notice/2", 900)])).await.unwrap();
    waiter.await.unwrap();
    assert_eq!(again.records_after(0, 10).await.unwrap()[0].sequence, 2);
}

/// Tells these, where they are young enough.
struct Told(Vec<ClusterEvent>);

#[async_trait]
impl EventFeed for Told {
    async fn events_since(&self, since: Timestamp) -> Result<Vec<ClusterEvent>, Refusal> {
        Ok(self.0.iter().filter(|event| event.at > since).cloned().collect())
    }
}

fn event(name: &str, second: u64) -> ClusterEvent {
    ClusterEvent {
        name: name.to_owned(),
        kind: if name.starts_with("notice") { EventKind::Notice } else { EventKind::AdminEvent },
        at: Timestamp(START_MS * 1000 + second * 1_000_000),
        what: "created".to_owned(),
        subject: "tenant/acme".to_owned(),
        message: "root created tenant/acme".to_owned(),
    }
}

#[tokio::test]
async fn each_event_becomes_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let (reporting, _) = open(folder.path());
    let mut feed = Told(vec![event("notice/1", 1000), event("control/event/1", 1001)]);
    for _ in 0..3 {
        reporting.gather_events(&feed).await.unwrap();
    }
    // One that comes late, from a clock that is behind, and one that is new.
    feed.0.extend([event("control/event/0", 900), event("control/event/2", 2000)]);
    for _ in 0..3 {
        reporting.gather_events(&feed).await.unwrap();
    }
    let records = reporting.records_after(0, 100).await.unwrap();
    assert_eq!(records.len(), 4);
    let kinds: Vec<bool> = records.iter().map(|record| matches!(record.body, RecordBody::Notice(_))).collect();
    assert_eq!(kinds, [true, false, false, false]);
    assert_eq!(records[3].at_ms, START_MS + 2_000_000);
}

#[tokio::test]
async fn minutes_that_are_gone_are_refused_with_what_to_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let (reporting, _) = open(folder.path());
    let question = UsageQuestion {
        from_ms: START_MS - 31 * 24 * 3_600_000,
        to_ms: START_MS,
        step: UsageStep::Minute,
        by: UsageBy::Tenant,
        tenant: None,
        table: None,
    };
    let refusal = reporting.usage(question.clone()).await.unwrap_err();
    assert!(refusal.message.contains("1h or 1d"), "{refusal}");
    let hours = UsageQuestion { step: UsageStep::Hour, ..question };
    assert_eq!(reporting.usage(hours).await.unwrap().rows, []);
}
