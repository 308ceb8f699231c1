//! Writes, reads, and what becomes of them when the leader goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dstore::domain::RefusalKind;
use dstore::domain::document::Document;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{PrincipalId, ReceiptId, RequestId};
use dstore::expression::{Path, Update, Value};
use dstore::replication::operation::{Change, ClientRequest, Conditional, Images, Operation, Outcome, RequestIdentity};
use dstore::replication::request_id;
use dstore::services::assignments::GroupInstances;
use dstore::services::engine::MemberStart;
use dstore::services::group::ports::GroupOperations;
use dstore::services::ports::{Consistency, ReceiptState, WriteAnswer};
use dstore::services::ranges::RangeService;
use dstore::services::reconfiguring::Surroundings;
use tokio::time::Instant;

use crate::cluster::{
    Cluster, PATIENCE, RANGE, address, eventually, node_id, packed, put, record, replica_id, wait_a_little,
};

/// So many hand-overs have to go by without a failed request and without an election beside them.
const CLEAN_HAND_OVERS: usize = 4;
/// Of so many: a machine that stands still spoils some of them.
const HAND_OVERS_MAX: usize = 12;
/// How often a node leaves at most until nobody but the next leader was elected meanwhile.
const DEPARTURES_MAX: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_leader_acknowledged_outlives_it() {
    let mut cluster = Cluster::with_range(3);
    for number in 0..20 {
        assert!(matches!(cluster.put(&format!("k{number}"), r#"{"x":1}"#).await, Outcome::Created(_)));
    }
    assert_eq!(cluster.read("k7").await.as_deref(), Some(r#"{"x":1}"#));
    let first = cluster.eventually_led().await;
    cluster.kill(first).await;
    for number in 0..20 {
        assert_eq!(cluster.read(&format!("k{number}")).await.as_deref(), Some(r#"{"x":1}"#), "k{number}");
    }
    let second = cluster.eventually_led().await;
    assert_ne!(first, second);
    assert!(matches!(cluster.put("k7", r#"{"x":2}"#).await, Outcome::Updated(_)));
    cluster.start(first);
    let seen = |number| cluster.status(number).map(|status| status.applied);
    eventually("the one that was away catches up", || (seen(first)? == seen(second)?).then_some(())).await;
    same_everywhere(&cluster).await;
    cluster.stop().await;
}

/// All replicas are equal once all have applied the same.
async fn same_everywhere(cluster: &Cluster) {
    let applied = |number: &u8| cluster.status(*number).map(|status| (status.last_index, status.applied));
    eventually("all have applied the same", || {
        let all: Vec<_> = cluster.nodes.keys().map(applied).collect();
        all.windows(2)
            .all(|pair| pair[0] == pair[1] && pair[0].is_some_and(|(last, applied)| last == applied))
            .then_some(())
    })
    .await;
    let digests: Vec<_> = cluster
        .nodes
        .values()
        .map(|node| node.engine.replica_of(RANGE).unwrap().digest(&HashRange::FULL).unwrap())
        .collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_answers_no_strong_read_after_its_lease_and_acknowledges_nothing() {
    let cluster = Cluster::with_range(3);
    cluster.put("a", r#"{"x":1}"#).await;
    let first = cluster.eventually_led().await;
    cluster.isolate(first);
    let alone = cluster.nodes[&first].ranges.clone();
    let under_way = tokio::spawn({
        let alone = alone.clone();
        async move { alone.write(address(), put("a", r#"{"x":2}"#), false).await }
    });
    eventually("the others have a leader", || cluster.leader().filter(|leader| *leader != first)).await;
    // Another leads: the lease of the first is over, whatever it thinks.
    let read = alone.read(address(), packed("a"), Consistency::Strong).await;
    assert!(matches!(read.unwrap_err().kind, RefusalKind::Unavailable | RefusalKind::WrongNode));
    let refused = under_way.await.unwrap().unwrap_err();
    assert!(matches!(refused.kind, RefusalKind::OutcomeUnknown | RefusalKind::Unavailable), "{refused:?}");
    assert!(matches!(cluster.put("a", r#"{"x":3}"#).await, Outcome::Updated(_)));
    cluster.network.heal();
    let applied = |number| cluster.status(number).map(|status| (status.term, status.applied));
    let second = cluster.leader().unwrap();
    eventually("the first follows", || (applied(first)? == applied(second)?).then_some(())).await;
    assert_eq!(cluster.read("a").await.as_deref(), Some(r#"{"x":3}"#));
    same_everywhere(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_after_a_failover_is_answered_as_before() {
    let mut cluster = Cluster::with_range(3);
    let request = |digest| ClientRequest {
        principal: PrincipalId::from_bytes([5; 16]),
        request_id: RequestId::from_bytes([6; 16]),
        digest: [digest; 32],
    };
    let operation = Operation { request: Some(RequestIdentity::Client(request(1))), ..put("a", "{}") };
    let first_answer = cluster.write(operation.clone()).await.unwrap();
    let leader = cluster.eventually_led().await;
    cluster.kill(leader).await;
    assert_eq!(cluster.write(operation).await.unwrap(), first_answer);
    let other = Operation { request: Some(RequestIdentity::Client(request(2))), ..put("a", "{}") };
    assert_eq!(cluster.write(other).await.unwrap(), WriteAnswer::Applied(Outcome::RequestIdReused));
    cluster.stop().await;
}

/// Adds a number, under a proxy's id, and wants the item as it is then.
fn count(id: &str, number: u32, random: u8) -> Operation {
    let one = Document::from_json(format!(r#"{{"v":{number}}}"#).as_bytes()).unwrap();
    let value = Value::new(one.get("v").unwrap()).unwrap();
    let adds = vec![(Path { attribute: "n".into(), steps: Vec::new() }, value)];
    let keys = Document::from_json(format!(r#"{{"id":"{id}"}}"#).as_bytes()).unwrap();
    let images = Images { after: true, ..Images::default() };
    let conditional = Conditional { condition: None, key_bytes: keys.item_size() as u32, keys, images };
    let now = dstore::roles::ambient::clock().now();
    Operation {
        change: Change::Update(Box::new(Update { adds, ..Update::default() })),
        conditional: Some(Box::new(conditional)),
        request: Some(RequestIdentity::Proxy(request_id::make(now, [random; 8]))),
        ..put(id, "{}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_comes_again_after_a_failover_happens_once_and_is_told_the_same() {
    let mut cluster = Cluster::with_range(3);
    let operation = count("a", 5, 1);
    let first = cluster.write(operation.clone()).await.unwrap();
    let WriteAnswer::Applied(Outcome::Changed(told)) = &first else { panic!("{first:?}") };
    assert_eq!(told.after.as_ref().map(Document::to_json).as_deref(), Some(r#"{"n":5}"#));
    cluster.write(count("a", 1, 2)).await.unwrap();
    let leader = cluster.eventually_led().await;
    cluster.kill(leader).await;
    assert_eq!(cluster.write(operation.clone()).await.unwrap(), first);
    assert_eq!(cluster.read("a").await.as_deref(), Some(r#"{"n":6}"#));
    cluster.start(leader);
    assert_eq!(cluster.write(operation).await.unwrap(), first);
    let missing = Operation { change: Change::Remove, conditional: None, ..put("none", "{}") };
    assert!(matches!(cluster.write(missing).await.unwrap(), WriteAnswer::Applied(Outcome::Changed(_))));
    same_everywhere(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_without_a_failed_request() {
    let cluster = Arc::new(Cluster::with_range(3));
    cluster.put("a", "{}").await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn({
        let (cluster, stop, written) = (cluster.clone(), stop.clone(), written.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                let item = format!("{{\"x\":{}}}", written.load(Ordering::SeqCst));
                assert!(matches!(cluster.put("a", &item).await, Outcome::Updated(_)));
                written.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    // While leadership is handed over no promise binds the members: where the machine stands still then, another may be first, or
    // the hand-over or a write gives up. Such a one does not count, and the next one is tried.
    let (mut leader, mut term) = cluster.eventually_led_since(0).await;
    let (mut clean, mut tried) = (0, Vec::new());
    while clean < CLEAN_HAND_OVERS {
        assert!(tried.len() < HAND_OVERS_MAX, "{clean} without a failed request and another election: {tried:?}");
        let to = leader % 3 + 1;
        let asked_again = cluster.asked_again();
        let outcome = cluster.nodes[&leader].groups.hand_over(RANGE, replica_id(to)).await;
        // The old leader hears of the new one by its first message, which may be there before that one tells itself.
        let (next, next_term) = cluster.eventually_led_since(term).await;
        // Since the hand-over before: one that was elected only behind that counts too.
        let elected = next_term - term;
        let took_over = next == to && elected == 1;
        assert!(outcome.is_err() || took_over || elected > 1, "{next} leads and not {to}, {elected} elected");
        let before = written.load(Ordering::SeqCst);
        eventually("the write that was under way is answered", || {
            assert!(!writer.is_finished(), "a write failed");
            (written.load(Ordering::SeqCst) > before).then_some(())
        })
        .await;
        let repeated = cluster.asked_again() - asked_again;
        clean += usize::from(outcome.is_ok() && took_over && repeated == 0);
        tried.push((outcome, to, next, elected, repeated));
        (leader, term) = (next, next_term);
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    let last = written.load(Ordering::SeqCst) - 1;
    assert_eq!(cluster.read("a").await, Some(format!("{{\"x\":{last}}}")));
    Arc::into_inner(cluster).unwrap().stop().await;
}

/// The others sleep and are not told, and their leader's node is there: they have no reason to look for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_of_which_nobody_hears_does_not_end_all_writes() {
    let cluster = Cluster::with_range(3);
    cluster.put("a", "{}").await;
    // A leader that has something to say says it again and again, which would wake them: it has nothing.
    let (leader, term) = cluster.eventually_followed().await;
    cluster.isolate(leader);
    let others: Vec<u8> = (1..=3).filter(|number| *number != leader).collect();
    for other in &others {
        GroupInstances::end(&*cluster.nodes[other].groups, RANGE).await;
    }
    let outcome = cluster.nodes[&leader].groups.hand_over(RANGE, replica_id(others[0])).await;
    assert_eq!(outcome.unwrap_err().kind, RefusalKind::Unavailable);
    cluster.network.heal();
    eventually("somebody is elected", || {
        let leading = cluster.status(cluster.leader()?)?;
        (leading.term > term).then_some(())
    })
    .await;
    assert!(matches!(cluster.put("a", r#"{"x":1}"#).await, Outcome::Updated(_)));
    cluster.stop().await;
}

/// A planned stop: others lead at once, nobody hands the range back to the node that is about to go, and nobody waits for its
/// silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_is_given_no_leadership_and_is_not_waited_for() {
    let mut cluster = Cluster::with_range(3);
    cluster.put("a", "{}").await;
    // Where the machine stands still others are elected, or nobody takes over in time: it leaves once more then.
    let mut tried: Vec<(bool, u64)> = Vec::new();
    while !tried.contains(&(true, 1)) {
        assert!(tried.len() < DEPARTURES_MAX, "not handed over with one election: {tried:?}");
        tried.push(leave_and_come_back(&mut cluster).await);
    }
    cluster.stop().await;
}

/// The leader's node stops as planned and starts again: whether another led when it had handed over, and how many leaders were
/// elected until it was gone.
async fn leave_and_come_back(cluster: &mut Cluster) -> (bool, u64) {
    let others_of = |number: u8| (1..=3u8).filter(move |other| *other != number);
    let can_lead = |cluster: &Cluster, number: u8, other: u8| cluster.nodes[&number].groups.is_heard(node_id(other));
    let all_hear = |cluster: &Cluster, of: u8| others_of(of).all(|number| can_lead(cluster, number, of));
    eventually("all are heard", || (1..=3).all(|number| all_hear(cluster, number)).then_some(())).await;
    // All hear of a leader after this: whoever campaigns without being asked to has heard nothing for so long.
    cluster.put("a", r#"{"x":0}"#).await;
    let (leaving, term) = cluster.eventually_followed().await;
    let deadline = || Instant::now() + PATIENCE;
    cluster.nodes[&leaving].groups.hand_over_all(deadline()).await;
    let (next, _) = cluster.eventually_led_since(term).await;
    let is_given_none = || others_of(leaving).all(|number| !can_lead(cluster, number, leaving)).then_some(());
    eventually("it is given none", is_given_none).await;
    let is_led = || (cluster.nodes[&next].groups.standing().leaderless == 0).then_some(());
    eventually("it is there still", is_led).await;
    // They follow the new leader now: whoever campaigns has heard nothing for a lease and the shortest election time.
    cluster.put("a", r#"{"x":1}"#).await;
    cluster.eventually_followed().await;
    cluster.nodes[&leaving].groups.until_unused(deadline()).await;
    cluster.nodes[&leaving].groups.depart();
    cluster.kill(leaving).await;
    cluster.put("a", r#"{"x":2}"#).await;
    // Did it lead again, one more is elected now.
    let (_, last) = cluster.eventually_led_since(term).await;
    cluster.start(leaving);
    eventually("it is heard again", || all_hear(cluster, leaving).then_some(())).await;
    (next != leaving, last - term)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_copy_is_filled_by_a_snapshot_and_becomes_a_voter() {
    let mut cluster = Cluster::with_range(3);
    for number in 0..50 {
        cluster.put(&format!("k{number}"), r#"{"x":1}"#).await;
    }
    cluster.add(4);
    cluster.nodes[&4].engine.create_member(&record(4), MemberStart::Joining).unwrap();
    let leader = cluster.eventually_led().await;
    let operations = cluster.nodes[&leader].groups.clone();
    operations.add_learner(RANGE, replica_id(4), node_id(4)).await.unwrap();
    let filled = || {
        let status = cluster.status(4)?;
        (status.applied >= cluster.status(leader)?.applied).then_some(())
    };
    eventually("the copy is filled", filled).await;
    let file = cluster.nodes[&4].engine.replica_of(RANGE).unwrap().group_file();
    assert_eq!(file, Some(1), "a snapshot came in a file of its own");
    let voters =
        (1..=4).filter(|number| *number == leader || *number == 4 || *number == leader % 3 + 1).map(replica_id);
    let voters: std::collections::BTreeSet<_> = voters.collect();
    operations.change_voters(RANGE, voters.clone()).await.unwrap();
    let status = cluster.status(leader).unwrap();
    assert_eq!(status.membership.voters, std::slice::from_ref(&voters));
    assert_eq!(status.membership.members.keys().copied().collect::<std::collections::BTreeSet<_>>(), voters);
    assert_eq!(cluster.read("k7").await.as_deref(), Some(r#"{"x":1}"#));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_answered_early_is_queued_and_then_done_and_its_receipt_outlives_the_leader() {
    let mut cluster = Cluster::with_range(3);
    cluster.put("a", "{}").await;
    let leader = cluster.eventually_led().await;
    let ranges = cluster.nodes[&leader].ranges.clone();
    let deadline = Instant::now() + PATIENCE;
    let mut numbers = 0..;
    // One that was applied before it was seen to be durable is answered with its outcome, as others are.
    let receipt = loop {
        let receipt = ReceiptId::from_bytes([9 + numbers.next().unwrap_or(0u8); 16]);
        let operation = Operation { receipt: Some(receipt), ..put("a", r#"{"x":1}"#) };
        match ranges.write(address(), operation, true).await.unwrap() {
            WriteAnswer::Queued => break receipt,
            WriteAnswer::Applied(outcome) => assert!(matches!(outcome, Outcome::Updated(_)), "{outcome:?}"),
        }
        assert!(Instant::now() < deadline, "none is answered early");
    };
    let ask = async || cluster.call(|ranges| async move { ranges.receipt(address(), receipt).await }).await.unwrap();
    while !matches!(ask().await, Some(ReceiptState::Ended(Outcome::Updated(_)))) {
        assert!(Instant::now() < deadline);
        wait_a_little().await;
    }
    cluster.kill(leader).await;
    let state = cluster.call(|ranges| async move { ranges.receipt(address(), receipt).await }).await.unwrap();
    assert!(matches!(state, Some(ReceiptState::Ended(Outcome::Updated(_)))), "{state:?}");
    cluster.stop().await;
}
