//! Groups at rest: what is left of a group that nobody uses, and what wakes it.

use dstore::replication::operation::Outcome;
use dstore::services::ports::Consistency;
use dstore::services::ranges::RangeService;
use dstore::transport::links::Lane;

use crate::cluster::{Cluster, address, eventually, node_id, packed};

/// All nodes have put the group to sleep.
async fn eventually_at_rest(cluster: &Cluster) {
    eventually("the group falls asleep", || {
        cluster.nodes.values().all(|node| node.groups.stats().slots.awake == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_nobody_uses_costs_nothing_and_goes_on_when_it_is_asked() {
    let cluster = Cluster::with_range(3);
    cluster.put("a", r#"{"x":1}"#).await;
    // Who led it to sleep: while it was awake, the leader may have changed.
    eventually_at_rest(&cluster).await;
    let leader = cluster.eventually_led().await;
    let term = cluster.status(leader).unwrap().term;
    // At rest nothing is sent but beacons: their number is that of the looks around.
    let sent = |number: u8| {
        cluster.nodes[&number].links.counts(Lane::Small).messages
            + cluster.nodes[&number].links.counts(Lane::Signs).messages
    };
    let beacons = |number: u8| cluster.nodes[&number].groups.stats().beacons;
    let before: Vec<_> = (1..=3).map(|number| (sent(number), beacons(number))).collect();
    eventually("some beacons more", || (beacons(1) >= before[0].1 + 8).then_some(())).await;
    for number in 1..=3 {
        let (sent_before, beacons_before) = before[usize::from(number) - 1];
        let (more, more_beacons) = (sent(number) - sent_before, beacons(number) - beacons_before);
        assert!(more <= more_beacons + 2, "{more} messages, {more_beacons} beacons");
    }
    assert!(cluster.nodes.values().all(|node| node.groups.stats().slots.awake == 0), "it still sleeps");
    // Any replica answers an eventual read asleep, and one that does not lead names the leader.
    let other = leader % 3 + 1;
    let read = cluster.nodes[&other].ranges.read(address(), packed("a"), Consistency::Eventual).await;
    assert_eq!(read.unwrap().unwrap().document.to_json(), r#"{"x":1}"#);
    let refused = cluster.nodes[&other].ranges.read(address(), packed("a"), Consistency::Strong).await.unwrap_err();
    assert_eq!(refused.leader, Some(node_id(leader)));
    assert!(cluster.nodes.values().all(|node| node.groups.stats().slots.awake == 0), "it still sleeps");
    // A request wakes it, and the leader goes on in its term.
    assert!(matches!(cluster.put("a", r#"{"x":2}"#).await, Outcome::Updated(_)));
    assert_eq!(cluster.status(leader).map(|status| (status.is_leader, status.term)), Some((true, term)));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_sleeps_is_woken_when_the_node_of_its_leader_is_gone() {
    let mut cluster = Cluster::with_range(3);
    cluster.put("a", r#"{"x":1}"#).await;
    // Who led it to sleep: while it was awake, the leader may have changed.
    eventually_at_rest(&cluster).await;
    let leader = cluster.eventually_led().await;
    cluster.kill(leader).await;
    eventually("another leads", || {
        cluster
            .leader()
            .filter(|other| *other != leader && cluster.status(*other).is_some_and(|status| status.is_awake))
    })
    .await;
    assert_eq!(cluster.read("a").await.as_deref(), Some(r#"{"x":1}"#));
    cluster.stop().await;
}
