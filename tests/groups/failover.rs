//! Writes, reads, and what becomes of them when the leader goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dstore::domain::RefusalKind;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{PrincipalId, ReceiptId, RequestId};
use dstore::replication::operation::{ClientRequest, Operation, Outcome, RequestIdentity};
use dstore::services::engine::MemberStart;
use dstore::services::group::ports::GroupOperations;
use dstore::services::ports::{Consistency, ReceiptState, WriteAnswer};
use dstore::services::ranges::RangeService;

use crate::cluster::{
    Cluster, PATIENCE, RANGE, address, eventually, node_id, packed, put, record, replica_id, wait_a_little,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_without_a_failed_request() {
    let cluster = Arc::new(Cluster::with_range(3));
    cluster.put("a", "{}").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (cluster, stop) = (cluster.clone(), stop.clone());
        async move {
            let mut written = 0u32;
            while !stop.load(Ordering::SeqCst) {
                assert!(matches!(cluster.put("a", &format!("{{\"x\":{written}}}")).await, Outcome::Updated(_)));
                written += 1;
            }
            written
        }
    });
    for _ in 0..4 {
        let leader = cluster.eventually_led().await;
        let to = leader % 3 + 1;
        cluster.nodes[&leader].groups.hand_over(RANGE, replica_id(to)).await.unwrap();
        assert_eq!(cluster.leader(), Some(to));
    }
    stop.store(true, Ordering::SeqCst);
    let written = writer.await.unwrap();
    assert!(written > 0);
    assert_eq!(cluster.read("a").await, Some(format!("{{\"x\":{}}}", written - 1)));
    let terms: Vec<_> = (1..=3).filter_map(|number| cluster.status(number)).map(|status| status.term).collect();
    assert!(terms.iter().all(|term| *term == 5), "one election for each hand-over, and the first: {terms:?}");
    Arc::into_inner(cluster).unwrap().stop().await;
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
    let receipt = ReceiptId::from_bytes([9; 16]);
    let leader = cluster.eventually_led().await;
    let ranges = cluster.nodes[&leader].ranges.clone();
    let operation = Operation { receipt: Some(receipt), ..put("a", r#"{"x":1}"#) };
    assert_eq!(ranges.write(address(), operation, true).await.unwrap(), WriteAnswer::Queued);
    let ask = async || cluster.call(|ranges| async move { ranges.receipt(address(), receipt).await }).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !matches!(ask().await, Some(ReceiptState::Ended(Outcome::Updated(_)))) {
        assert!(tokio::time::Instant::now() < deadline);
        wait_a_little().await;
    }
    cluster.kill(leader).await;
    let state = cluster.call(|ranges| async move { ranges.receipt(address(), receipt).await }).await.unwrap();
    assert!(matches!(state, Some(ReceiptState::Ended(Outcome::Updated(_)))), "{state:?}");
    cluster.stop().await;
}
