//! Counting through starts, stops and kills, in time that stands still unless everybody waits.

use super::*;
use crate::crypto::cipher::tests::SystemRandom;
use crate::domain::Timestamp;
use crate::domain::usage::{EarlierStart, KeptUpTo};
use crate::services::usage::meter::tests::{read, table};
use crate::services::usage::spool::tests::context;
use std::path::Path;

/// The time of the test, from a time in 2027 on that is no whole second.
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_003_400_000 + self.0.elapsed().as_micros() as u64)
    }
}

struct OneNode;

impl Gauges for OneNode {
    fn look(&self) -> Looked {
        Looked { node: crate::domain::usage::NodeGauge { syncs: 7, ..Default::default() }, ..Looked::default() }
    }
}

struct Fixture {
    notices: Arc<Notices>,
    clock: Arc<TestClock>,
}

impl Fixture {
    fn new() -> Self {
        Self { notices: Arc::default(), clock: Arc::new(TestClock(tokio::time::Instant::now())) }
    }

    fn start(&self, folder: &Path) -> Arc<Usage> {
        let (context, _) = context();
        let parts = UsageParts {
            component: Component { role: crate::domain::ids::Role::Proxy, id: context.component },
            plane: context.plane,
            folder: folder.to_owned(),
            keys: context.keys,
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom::default()),
            notices: Arc::clone(&self.notices),
            gauges: Some(Arc::new(OneNode)),
        };
        let usage = Usage::new(parts, UsageSettings::default());
        usage.begin();
        usage
    }

    fn told(&self) -> Vec<String> {
        self.notices.take().into_iter().map(|notice| notice.details).collect()
    }
}

/// All batches, as soon as that many were kept.
async fn until_kept(usage: &Usage, count: u64) -> Vec<UsageBatch> {
    let kept = async {
        while usage.numbers().spool.batches < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), kept).await.expect("they are kept in time");
    let pull = UsagePull { acknowledged: None, batches_max: 1000 };
    usage.pull(Uuid::from_u128(9), pull).await.unwrap().batches
}

/// Time stands still until everybody waits, so nothing that is to be done by then is left.
async fn until_a_second_later() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn kill(usage: &Usage) {
    usage.task.lock().take().expect("it runs").abort();
}

#[tokio::test(start_paused = true)]
async fn each_second_is_a_batch_and_all_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let usage = fixture.start(&folder.path().join("usage"));
    let first = until_kept(&usage, 1).await.remove(0);
    assert_eq!((first.id.interval, first.before, first.counts.len(), first.is_last), (1, None, 0, false));
    let table = table(1, 2);
    for _ in 0..3 {
        (0..5).for_each(|_| usage.meter().count(&read(Some(&table))));
        until_a_second_later().await;
    }
    let batches = until_kept(&usage, 4).await;
    let counted: Vec<u64> =
        batches.iter().map(|batch| batch.counts.iter().map(|(_, counts)| counts.requests).sum()).collect();
    assert_eq!(counted, [0, 5, 5, 5]);
    assert!(batches[1..].iter().all(|batch| batch.ended_ms % 1000 == 0 && batch.ended_ms - batch.began_ms <= 1000));
    assert!(
        batches
            .windows(2)
            .all(|two| two[0].ended_ms <= two[1].began_ms && two[0].id.interval + 1 == two[1].id.interval)
    );
    assert_eq!(batches[1].names.values().collect::<Vec<_>>(), ["tenant-1", "table-2"]);
    // The gauges of the ten seconds that end at 1,800,000,010.
    let batches = until_kept(&usage, 5).await;
    assert_eq!((batches[4].ended_ms, batches[4].node.map(|node| node.syncs)), (1_800_000_010_000, Some(7)));
    assert!(batches[..4].iter().all(|batch| batch.node.is_none()), "no second without anything is a batch");
    let numbers = usage.numbers();
    assert_eq!((numbers.tenants.0[0].0.as_str(), numbers.tenants.0[0].1.requests), ("tenant-1", 15));
}

#[tokio::test(start_paused = true)]
async fn a_planned_end_is_told_from_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (path, fixture) = (folder.path().join("usage"), Fixture::new());
    let usage = fixture.start(&path);
    let first = until_kept(&usage, 1).await.remove(0);
    usage.meter().count(&read(Some(&table(1, 2))));
    usage.stop().await;
    let usage = fixture.start(&path);
    let batches = until_kept(&usage, 3).await;
    assert!(batches[1].is_last && batches[1].counts.len() == 1, "what was counted last is in it");
    let ended_ms = batches[1].ended_ms;
    let before = EarlierStart { boot: first.id.boot, interval: 2, ended_ms, was_planned: true };
    assert_eq!(batches[2].before, Some(before));
    assert_eq!(fixture.told(), Vec::<String>::new());
    kill(&usage);
    let usage = fixture.start(&path);
    let before = until_kept(&usage, 4).await.remove(3).before.unwrap();
    assert_eq!((before.boot, before.was_planned), (batches[2].id.boot, false));
    let told = fixture.told();
    assert!(told.len() == 1 && told[0].contains("the last second before its end"), "{told:?}");
    kill(&usage);
}

#[tokio::test(start_paused = true)]
async fn without_a_disk_counts_wait_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (blocker, fixture) = (folder.path().join("disk"), Fixture::new());
    std::fs::write(&blocker, "in the way").unwrap();
    let usage = fixture.start(&blocker.join("usage"));
    let table = table(1, 2);
    for _ in 0..3 {
        usage.meter().count(&read(Some(&table)));
        until_a_second_later().await;
    }
    assert!(usage.numbers().is_failing);
    let told = fixture.told();
    assert!(told.len() == 1 && told[0].contains("wait in memory"), "{told:?}");
    let pull = UsagePull { acknowledged: None, batches_max: 1 };
    let refused = usage.pull(Uuid::from_u128(9), pull.clone()).await.unwrap_err();
    assert_eq!(refused.kind, crate::domain::RefusalKind::Unavailable);
    std::fs::remove_file(&blocker).unwrap();
    let batches = until_kept(&usage, 1).await;
    assert_eq!((batches[0].id.interval, batches[0].counts[0].1.requests), (1, 3));
    assert!(!usage.numbers().is_failing);
    // A reporter that has it is not given it again.
    let acknowledged = Some(KeptUpTo { boot: batches[0].id.boot, interval: 1 });
    assert_eq!(usage.pull(Uuid::from_u128(9), UsagePull { acknowledged, ..pull }).await.unwrap().batches, []);
    usage.stop().await;
}
