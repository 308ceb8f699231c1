//! When routes are published: on changes, after a failure, and while the coordinator is away.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::coordination::{
    Compare, Coordinator, LeaseId, Operation, Page, Revision, StoreHealth, TransactionResult, Watch,
};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, ReplicaId};
use crate::replication::publish::EPOCH_INDEX_BITS;
use crate::services::group::ports::GroupStatus;
use crate::services::publishing::PublishedAddress;
use crate::services::publishing::tests::{Fixture, directory, founding_route, leading, node, served};

/// Groups that stand as the test says.
struct Groups {
    standing: Mutex<BTreeMap<RangeId, GroupStatus>>,
    changed: broadcast::Sender<RangeId>,
}

#[async_trait]
impl GroupOperations for Groups {
    fn status(&self, range: RangeId) -> Option<GroupStatus> {
        self.standing.lock().get(&range).cloned()
    }

    fn changes(&self) -> broadcast::Receiver<RangeId> {
        self.changed.subscribe()
    }

    async fn add_learner(&self, _: RangeId, _: ReplicaId, _: NodeId) -> Result<(), Refusal> {
        unreachable!("publishing changes no group")
    }

    async fn change_voters(&self, _: RangeId, _: BTreeSet<ReplicaId>) -> Result<(), Refusal> {
        unreachable!("publishing changes no group")
    }

    async fn hand_over(&self, _: RangeId, _: ReplicaId) -> Result<(), Refusal> {
        unreachable!("publishing changes no group")
    }
}

struct Held(Vec<ServedRange>);

impl HeldRanges for Held {
    fn held(&self, asked: Option<&BTreeSet<RangeId>>) -> Vec<ServedRange> {
        let is_asked = |range: &&ServedRange| asked.is_none_or(|asked| asked.contains(&range.range));
        self.0.iter().filter(is_asked).cloned().collect()
    }
}

/// A coordinator that can be away.
struct Sometimes {
    inner: Arc<dyn Coordinator>,
    away: Arc<AtomicBool>,
}

impl Sometimes {
    fn there(&self) -> crate::coordination::Result<&dyn Coordinator> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(crate::coordination::Error::Unavailable("it is away".to_owned())),
            false => Ok(&*self.inner),
        }
    }
}

#[async_trait]
impl Coordinator for Sometimes {
    async fn get(&self, key: &str) -> crate::coordination::Result<Option<crate::coordination::KeyValue>> {
        self.there()?.get(key).await
    }

    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<Revision>,
        limit: usize,
    ) -> crate::coordination::Result<Page> {
        self.there()?.list_page(prefix, after, revision, limit).await
    }

    async fn transact(
        &self,
        compares: Vec<Compare>,
        operations: Vec<Operation>,
    ) -> crate::coordination::Result<TransactionResult> {
        self.there()?.transact(compares, operations).await
    }

    async fn lease_grant(&self, seconds: u32) -> crate::coordination::Result<LeaseId> {
        self.there()?.lease_grant(seconds).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> crate::coordination::Result<u32> {
        self.there()?.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> crate::coordination::Result<()> {
        self.there()?.lease_revoke(lease).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> crate::coordination::Result<Watch> {
        self.there()?.watch(prefix, from).await
    }

    async fn compact(&self, revision: Revision) -> crate::coordination::Result<()> {
        self.there()?.compact(revision).await
    }

    async fn health(&self) -> crate::coordination::Result<StoreHealth> {
        self.there()?.health().await
    }
}

struct Rounds {
    fixture: Fixture,
    groups: Arc<Groups>,
    away: Arc<AtomicBool>,
    notices: Arc<Notices>,
    rounds: PublishingRounds,
}

/// Rounds of node 1 over these ranges, over a coordinator that can be away.
async fn rounds(ranges: &[ServedRange]) -> Rounds {
    let fixture = Fixture::new();
    for range in ranges {
        fixture.put(range, &founding_route(range)).await;
    }
    let away = Arc::new(AtomicBool::new(false));
    let coordinator: Arc<dyn Coordinator> =
        Arc::new(Sometimes { inner: fixture.coordinator.clone(), away: Arc::clone(&away) });
    let directory = directory(&coordinator);
    let address = PublishedAddress { uri: "http://node:8080/".to_owned(), inside_uri: None };
    let publisher = RoutePublisher::new(node(1), address, coordinator, directory.clone());
    let groups = Arc::new(Groups { standing: Mutex::default(), changed: broadcast::Sender::new(4) });
    let (held, notices) = (Arc::new(Held(ranges.to_vec())), Arc::new(Notices::default()));
    let rounds = PublishingRounds::new(Arc::new(publisher), groups.clone(), held, &directory, Arc::clone(&notices));
    Rounds { fixture, groups, away, notices, rounds }
}

impl Rounds {
    /// The range is led here, in this term.
    fn lead(&self, range: &ServedRange, term: u64) {
        self.groups.standing.lock().insert(range.range, leading(range, 1, term));
        let _ = self.groups.changed.send(range.range);
    }

    async fn term(&self, range: &ServedRange) -> u64 {
        self.fixture.get(range).await.0.epoch >> EPOCH_INDEX_BITS
    }
}

#[tokio::test]
async fn what_is_led_here_is_published_and_what_changed_again() {
    let ranges: Vec<ServedRange> = (0..10).map(served).collect();
    let mut rounds = rounds(&ranges).await;
    for range in &ranges[..8] {
        rounds.lead(range, 1);
    }
    assert!(rounds.rounds.round().await, "more changes than the channel holds: all are looked at");
    assert_eq!((rounds.term(&ranges[7]).await, rounds.term(&ranges[8]).await), (1, 0));
    rounds.lead(&ranges[3], 5);
    assert!(rounds.rounds.round().await);
    assert_eq!((rounds.term(&ranges[3]).await, rounds.term(&ranges[4]).await), (5, 1));
    // Who leads no more says nothing.
    let following = GroupStatus { is_leader: false, ..leading(&ranges[4], 1, 9) };
    rounds.groups.standing.lock().insert(ranges[4].range, following);
    let _ = rounds.groups.changed.send(ranges[4].range);
    assert!(rounds.rounds.round().await);
    assert_eq!(rounds.term(&ranges[4]).await, 1);
}

#[tokio::test]
async fn while_the_coordinator_is_away_it_waits_and_says_so() {
    let ranges: Vec<ServedRange> = (0..3).map(served).collect();
    let mut rounds = rounds(&ranges).await;
    assert!(rounds.rounds.round().await);
    let waiting = rounds.rounds.waiting();
    rounds.away.store(true, Ordering::SeqCst);
    rounds.lead(&ranges[0], 1);
    assert!(!rounds.rounds.round().await);
    rounds.lead(&ranges[1], 1);
    for _ in 1..FAILURES_NOTICED {
        assert!(rounds.notices.take().is_empty(), "not at once");
        assert!(!rounds.rounds.round().await);
    }
    assert_eq!(waiting.load(Ordering::Relaxed), 2, "all that changed meanwhile");
    assert!(!rounds.rounds.round().await);
    let notices = rounds.notices.take();
    assert_eq!((notices.len(), notices[0].repeats), (1, 1), "once");
    rounds.away.store(false, Ordering::SeqCst);
    assert!(rounds.rounds.round().await);
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
    assert_eq!((rounds.term(&ranges[0]).await, rounds.term(&ranges[1]).await), (1, 1));
}

/// The whole loop: a change is published without anybody asking for a round.
#[tokio::test]
async fn a_change_is_followed() {
    let range = served(1);
    let fixture = rounds(std::slice::from_ref(&range)).await;
    let (groups, coordinator) = (Arc::clone(&fixture.groups), fixture.fixture);
    let following = tokio::spawn(fixture.rounds.follow());
    for term in 1..4 {
        groups.standing.lock().insert(range.range, leading(&range, 1, term));
        let _ = groups.changed.send(range.range);
        let until = async {
            while coordinator.get(&range).await.0.epoch != term << EPOCH_INDEX_BITS {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), until).await.expect("it is published");
    }
    following.abort();
}
