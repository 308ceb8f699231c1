//! A range is split while it is written to and read, and while its nodes fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use dstore::domain::hash::HashRange;
use dstore::domain::ids::{RangeId, ReplicaId};
use dstore::domain::key::PackedKey;
use dstore::domain::{Refusal, RefusalKind, Timestamp};
use dstore::replication::operation::{Operation, Outcome, Preconditions, RequestIdentity, TagCondition};
use dstore::replication::request_id;
use dstore::replication::split::{ChildReplicas, Split};
use dstore::services::group::host::Groups;
use dstore::services::group::ports::{GroupOperations, SplitOperations};
use dstore::services::ports::{Consistency, ListRequest, WriteAnswer};
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::services::reconfiguring::Surroundings;
use dstore::services::replicated::ReplicatedRanges;

use crate::cluster::{
    Cluster, PATIENCE, RANGE, address, eventually, node_id, packed, put, record, replica_id, wait_a_little,
};

const LOWER: RangeId = RangeId(uuid::Uuid::from_bytes([0x21; 16]));
const UPPER: RangeId = RangeId(uuid::Uuid::from_bytes([0x22; 16]));
const AT: u32 = 1 << 31;

fn child_replica(child: RangeId, number: u8) -> ReplicaId {
    ReplicaId::from_bytes([if child == LOWER { 0x30 } else { 0x40 } | number; 16])
}

fn split_of(count: u8) -> Split {
    let copies = |number| {
        let copies = ChildReplicas { lower: child_replica(LOWER, number), upper: child_replica(UPPER, number) };
        (replica_id(number), copies)
    };
    Split { at: AT, lower: LOWER, upper: UPPER, members: (1..=count).map(copies).collect() }
}

fn child_of(key: &PackedKey) -> RangeId {
    if key.hash() < AT { LOWER } else { UPPER }
}

/// A write that happens once: it makes the item, under an id by which a repeat is known.
fn create(id: &str, number: u32) -> Operation {
    let now = dstore::roles::ambient::clock().now();
    let request = request_id::make(Timestamp(now.0), u64::from(number).to_be_bytes());
    Operation {
        preconditions: Preconditions { if_none_match: Some(TagCondition::Any), ..Preconditions::default() },
        request: Some(RequestIdentity::Proxy(request)),
        ..put(id, &format!("{{\"n\":{number}}}"))
    }
}

/// A client's call that knows the parent alone: it goes to the child that it is told of, and asks again where nobody
/// leads or it is not known how it ended.
async fn call<T, F>(cluster: &Cluster, ask: impl Fn(Arc<ReplicatedRanges>, RangeAddress) -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut target = address();
    let mut turn = cluster.nodes.keys().cycle();
    let mut next = None;
    loop {
        let number: u8 = next.take().unwrap_or_else(|| *turn.next().unwrap());
        let refusal = match ask(cluster.nodes[&number].ranges.clone(), target).await {
            Err(refusal) => refusal,
            Ok(answer) => return Ok(answer),
        };
        let may_ask_again =
            matches!(refusal.kind, RefusalKind::WrongNode | RefusalKind::Unavailable | RefusalKind::OutcomeUnknown);
        if !may_ask_again || tokio::time::Instant::now() >= deadline {
            return Err(refusal);
        }
        if let Some(moved) = refusal.moved {
            (target.range, next) = (moved.range, Some(number));
            continue;
        }
        let hint = refusal.leader.map(|node| node.as_bytes()[0]);
        next = hint.filter(|hint| cluster.nodes.contains_key(hint) && *hint != number);
        if next.is_none() {
            wait_a_little().await;
        }
    }
}

async fn write(cluster: &Cluster, operation: Operation) -> Outcome {
    let answer = call(cluster, |ranges, target| {
        let operation = operation.clone();
        async move { ranges.write(target, operation, false).await }
    });
    match answer.await.expect("the write is answered") {
        WriteAnswer::Applied(outcome) => outcome,
        WriteAnswer::Queued => panic!("nobody asked for that"),
    }
}

async fn read(cluster: &Cluster, id: &str) -> Option<String> {
    let key = packed(id);
    let read = call(cluster, |ranges, target| {
        let key = key.clone();
        async move { ranges.read(target, key, Consistency::Strong).await }
    });
    read.await.expect("the read is answered").map(|item| item.document.to_json())
}

/// Splits the range by its leader, whoever that is.
async fn split(cluster: &Cluster, count: u8) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let leader = cluster.eventually_led().await;
        match cluster.nodes[&leader].groups.split(RANGE, split_of(count)).await {
            Ok(()) => return,
            Err(refusal) => assert!(tokio::time::Instant::now() < deadline, "{refusal:?}"),
        }
        wait_a_little().await;
    }
}

/// Waits until a child is led.
async fn eventually_led(cluster: &Cluster, child: RangeId) -> u8 {
    let leading = |(number, node): (&u8, &crate::cluster::Node)| {
        let is_alone = || node.engine.replica_of(child).is_some_and(|replica| !replica.is_grouped());
        let leads = node.groups.status(child).map_or_else(is_alone, |status| status.is_leader);
        leads.then_some(*number)
    };
    eventually("a child is led", || cluster.nodes.iter().find_map(leading)).await
}

/// Hands the leadership of the lower child over, to whoever is next, while the upper one keeps its leader. Where the machine
/// stands still, others are elected, of either: then it is done again.
async fn hand_over_lower_alone(cluster: &Cluster) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let upper = eventually_led(cluster, UPPER).await;
        let led_in = || {
            let status = cluster.nodes[&upper].groups.status(UPPER).filter(|status| status.is_leader);
            status.map(|status| status.term)
        };
        let before = led_in();
        let lower = eventually_led(cluster, LOWER).await;
        let to = child_replica(LOWER, lower % 3 + 1);
        let outcome = cluster.nodes[&lower].groups.hand_over(LOWER, to).await;
        let after = led_in();
        if outcome.is_ok() && after.is_some() && after == before {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{outcome:?}; the other was led in {before:?}, now {after:?}");
        wait_a_little().await;
    }
}

/// What the leader of the parent's group says, whoever that is: asked again where nobody is just now.
async fn ask_parent<F>(cluster: &Cluster, ask: impl Fn(Arc<Groups>) -> F) -> Result<(), Refusal>
where
    F: Future<Output = Result<(), Refusal>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let leader = cluster.eventually_led().await;
        let answer = ask(cluster.nodes[&leader].groups.clone()).await;
        let is_led = |refusal: &Refusal| !matches!(refusal.kind, RefusalKind::WrongNode | RefusalKind::Unavailable);
        if answer.as_ref().err().is_none_or(is_led) || tokio::time::Instant::now() >= deadline {
            return answer;
        }
        wait_a_little().await;
    }
}

/// All copies of the children are equal once all have applied the same.
async fn same_everywhere(cluster: &Cluster) {
    for child in [LOWER, UPPER] {
        let applied =
            |node: &crate::cluster::Node| node.groups.status(child).map(|status| (status.last_index, status.applied));
        eventually("all have applied the same", || {
            let all: Vec<_> = cluster.nodes.values().map(applied).collect();
            let is_same = |pair: &[Option<(u64, u64)>]| pair[0] == pair[1];
            (all.windows(2).all(is_same) && all[0].is_some_and(|(last, applied)| last == applied)).then_some(())
        })
        .await;
        let digests =
            cluster.nodes.values().map(|node| node.engine.replica_of(child).unwrap().digest(&HashRange::FULL).unwrap());
        let digests: Vec<_> = digests.collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    }
}

/// What was acknowledged is there, in the child that it belongs to and in no other.
async fn all_are_there(cluster: &Cluster, acknowledged: &BTreeMap<String, Outcome>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut found = BTreeMap::new();
    for child in [LOWER, UPPER] {
        let request = ListRequest {
            index: None,
            start: PackedKey::hash_floor(0),
            end: None,
            limit: 1000,
            descending: false,
            consistency: Consistency::Strong,
            bytes_max: None,
        };
        let address = RangeAddress { range: child, ..address() };
        let page = loop {
            let leader = eventually_led(cluster, child).await;
            match cluster.nodes[&leader].ranges.list(address, request.clone()).await {
                Ok(page) => break page,
                // It leads no more, or is not sure of it.
                Err(refusal) => assert!(tokio::time::Instant::now() < deadline, "{refusal:?}"),
            }
            wait_a_little().await;
        };
        assert!(page.items.iter().all(|(key, _)| child_of(key) == child));
        found.extend(page.items.into_iter().map(|(key, item)| (key, item.version)));
    }
    for (id, outcome) in acknowledged {
        let Outcome::Created(version) = outcome else { panic!("{id}: {outcome:?}") };
        assert_eq!(found.get(&packed(id)), Some(version), "{id}");
    }
}

/// Writers that create one item after the other until they are told to stop; what was acknowledged.
async fn under_load(cluster: Arc<Cluster>, work: impl Future<Output = ()>) -> BTreeMap<String, Outcome> {
    let (stop, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let writer = |name: u32| {
        let (cluster, stop, number) = (cluster.clone(), stop.clone(), number.clone());
        tokio::spawn(async move {
            let mut written = BTreeMap::new();
            while !stop.load(Ordering::SeqCst) {
                let number = number.fetch_add(1, Ordering::SeqCst);
                let id = format!("w{name}-{number}");
                let operation = create(&id, number);
                let outcome = write(&cluster, operation.clone()).await;
                assert!(matches!(outcome, Outcome::Created(_)), "{id}: {outcome:?}");
                assert_eq!(
                    read(&cluster, &id).await,
                    Some(format!("{{\"n\":{number}}}")),
                    "what is acknowledged is read"
                );
                if number.is_multiple_of(3) {
                    assert_eq!(write(&cluster, operation).await, outcome, "a repeat is known as one");
                }
                written.insert(id, outcome);
            }
            written
        })
    };
    let writers: Vec<_> = (0..4).map(writer).collect();
    let count = |least: u32| {
        let number = number.clone();
        async move { eventually("some were written", || (number.load(Ordering::SeqCst) >= least).then_some(())).await }
    };
    count(20).await;
    work.await;
    count(number.load(Ordering::SeqCst) + 30).await;
    stop.store(true, Ordering::SeqCst);
    let mut all = BTreeMap::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_done_twice_when_a_range_is_split_under_load() {
    let cluster = Arc::new(Cluster::with_range(3));
    cluster.put("old", "{}").await;
    let kept = create("kept", 9_000_000);
    let before = write(&cluster, kept.clone()).await;
    let acknowledged = under_load(cluster.clone(), split(&cluster, 3)).await;
    assert_eq!(write(&cluster, kept).await, before, "asked again over the split, it is known");
    all_are_there(&cluster, &acknowledged).await;
    same_everywhere(&cluster).await;
    // The children are ranges of their own.
    let (lower, upper) = (eventually_led(&cluster, LOWER).await, eventually_led(&cluster, UPPER).await);
    let status = |number: u8, child| cluster.nodes[&number].groups.status(child).unwrap();
    assert_ne!(status(lower, LOWER).membership, status(upper, UPPER).membership);
    hand_over_lower_alone(&cluster).await;
    // It is not split twice, and its members change no more.
    let same = ask_parent(&cluster, |groups| async move { groups.split(RANGE, split_of(3)).await });
    same.await.expect("it was split so already");
    let other = ask_parent(&cluster, |groups| async move {
        let other = Split { at: 7, ..split_of(3) };
        groups.split(RANGE, other).await
    });
    assert_eq!(other.await.unwrap_err().kind, RefusalKind::Conflict);
    let learner = ReplicaId::from_bytes([0x77; 16]);
    let changed = ask_parent(&cluster, |groups| async move { groups.add_learner(RANGE, learner, node_id(9)).await });
    assert_eq!(changed.await.unwrap_err().kind, RefusalKind::Conflict);
    Arc::into_inner(cluster).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_whose_leader_is_killed_is_finished_by_the_others_and_by_itself_when_it_comes_back() {
    let mut cluster = Cluster::with_range(3);
    let mut acknowledged = BTreeMap::new();
    for number in 0..60 {
        let id = format!("k{number}");
        let outcome = write(&cluster, create(&id, number)).await;
        acknowledged.insert(id, outcome);
    }
    let leader = cluster.eventually_led().await;
    // All that was written is in the leader's log; what another has beyond it is the split.
    let before = cluster.status(leader).unwrap().last_index;
    let groups = cluster.nodes[&leader].groups.clone();
    let asked = tokio::spawn(async move { groups.split(RANGE, split_of(3)).await });
    let other = cluster.nodes[&(leader % 3 + 1)].groups.clone();
    // It has it in its log, whether or not anybody has applied it.
    eventually("it is on its way", || (other.status(RANGE)?.last_index > before).then_some(())).await;
    drop(other);
    cluster.kill(leader).await;
    let _ = asked.await;
    for child in [LOWER, UPPER] {
        assert_ne!(eventually_led(&cluster, child).await, leader);
    }
    for number in 60..80 {
        let id = format!("k{number}");
        let outcome = write(&cluster, create(&id, number)).await;
        acknowledged.insert(id, outcome);
    }
    cluster.start(leader);
    same_everywhere(&cluster).await;
    all_are_there(&cluster, &acknowledged).await;
    cluster.stop().await;
}

/// The others are quicker than the parent's leader: a child takes writes while it still copies, with a lease that is good in
/// the parent's group.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_still_copies_reads_nothing_old_while_a_child_serves() {
    let cluster = Cluster::with_range(3);
    cluster.put("a", r#"{"x":1}"#).await;
    let leader = cluster.eventually_led().await;
    cluster.gate(leader).close();
    let groups = cluster.nodes[&leader].groups.clone();
    let asked = tokio::spawn({
        let groups = groups.clone();
        async move { groups.split(RANGE, split_of(3)).await }
    });
    let child = child_of(&packed("a"));
    let other = eventually_led(&cluster, child).await;
    assert_ne!(other, leader);
    let target = RangeAddress { range: child, ..address() };
    let written = cluster.nodes[&other].ranges.write(target, put("a", r#"{"x":2}"#), false).await.unwrap();
    assert!(matches!(written, WriteAnswer::Applied(Outcome::Updated(_))));
    assert!(groups.status(RANGE).unwrap().is_leader, "it leads the parent as before");
    let ranges = &cluster.nodes[&leader].ranges;
    let refused = ranges.read(address(), packed("a"), Consistency::Strong).await;
    assert_eq!(refused.unwrap_err().kind, RefusalKind::Unavailable, "it does not know better, and says so");
    cluster.gate(leader).open();
    asked.await.unwrap().unwrap();
    let moved = ranges.read(address(), packed("a"), Consistency::Strong).await.unwrap_err().moved;
    assert_eq!(moved.map(|moved| moved.range), Some(child));
    assert_eq!(read(&cluster, "a").await.as_deref(), Some(r#"{"x":2}"#));
    same_everywhere(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_makes_its_children_when_it_comes_back() {
    let mut cluster = Cluster::with_range(3);
    for number in 0..20 {
        write(&cluster, create(&format!("k{number}"), number)).await;
    }
    let leader = cluster.eventually_led().await;
    let away = leader % 3 + 1;
    cluster.kill(away).await;
    split(&cluster, 3).await;
    let outcome = write(&cluster, create("later", 99)).await;
    cluster.start(away);
    same_everywhere(&cluster).await;
    all_are_there(&cluster, &[("later".to_owned(), outcome)].into()).await;
    // All start again: the children are led without anybody asking for them.
    for number in 1..=3 {
        cluster.kill(number).await;
    }
    for number in 1..=3 {
        cluster.start(number);
    }
    for child in [LOWER, UPPER] {
        eventually_led(&cluster, child).await;
    }
    same_everywhere(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_with_one_copy_is_split_too() {
    let mut cluster = Cluster::new(1);
    cluster.nodes[&1].engine.create_replica(&record(1)).unwrap();
    let mut acknowledged = BTreeMap::new();
    for number in 0..30 {
        let id = format!("k{number}");
        // Its proxies make no ids: it is asked once.
        let once = Operation { request: None, ..create(&id, number) };
        acknowledged.insert(id.clone(), write(&cluster, once).await);
    }
    cluster.nodes[&1].groups.begin_group(RANGE).await.unwrap();
    split(&cluster, 1).await;
    for number in 30..40 {
        let id = format!("k{number}");
        acknowledged.insert(id.clone(), write(&cluster, create(&id, number)).await);
    }
    let is_grouped = |child| cluster.nodes[&1].engine.replica_of(child).unwrap().is_grouped();
    assert_eq!([LOWER, UPPER].map(is_grouped), [false; 2], "each is alone, as its parent was");
    // The parent's group sleeps after a while, since nobody uses it any more.
    let led = eventually("the parent is led", || {
        let stats = cluster.nodes[&1].groups.stats();
        Some(stats.slots.leading + stats.leading_asleep).filter(|led| *led > 0)
    });
    assert_eq!(led.await, 1, "and nobody votes for the children");
    all_are_there(&cluster, &acknowledged).await;
    cluster.kill(1).await;
    cluster.start(1);
    all_are_there(&cluster, &acknowledged).await;
    assert_eq!(read(&cluster, "k7").await.as_deref(), Some(r#"{"n":7}"#));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_is_refused_where_the_disk_is_nearly_full_and_the_range_serves_on() {
    let mut cluster = Cluster::with_range(1);
    write(&cluster, create("before", 1)).await;
    cluster.kill(1).await;
    cluster.disk_notice = u64::MAX;
    cluster.start(1);
    // Nobody wakes the group but who asks for it.
    write(&cluster, create("again", 2)).await;
    cluster.nodes[&1].engine.look_after();
    let refusal = cluster.nodes[&1].groups.split(RANGE, split_of(1)).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.retry_after_seconds), (RefusalKind::Unavailable, Some(60)), "{refusal}");
    write(&cluster, create("after", 3)).await;
}
