//! What groups cost, in counts that a change of the code may not raise unseen: looks, tasks and messages where nobody does anything;
//! syncs, frames and messages where somebody writes.

use std::sync::Arc;

use dstore::domain::ids::{RangeId, ReplicaId};
use dstore::replication::membership::Membership;
use dstore::services::engine::MemberStart;
use dstore::services::group::awake::Purpose;
use dstore::services::group::timing::{IDLE, IDLE_UNUSED};
use dstore::storage::node_database::ReplicaRecord;
use dstore::transport::links::Lane;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, RANGE, eventually, node_id, put, record};

/// Ranges beside the cluster's own.
const RANGES: u8 = 40;

fn range(number: u8) -> RangeId {
    RangeId::from_bytes([0x80 | number; 16])
}

/// The replica of range `number` on a node.
fn member(node: u8, number: u8) -> ReplicaRecord {
    let mut record = record(node);
    let mut replica = [0x80 | number; 16];
    replica[0] = node;
    (record.name.range, record.name.replica) = (range(number), ReplicaId::from_bytes(replica));
    record
}

fn create_ranges(cluster: &Cluster) {
    let nodes: Vec<u8> = cluster.nodes.keys().copied().collect();
    for number in 0..RANGES {
        let members = nodes.iter().map(|node| (member(*node, number).name.replica, node_id(*node)));
        let membership = Membership::founding(members);
        for node in &nodes {
            let start = MemberStart::Founding(membership.clone());
            cluster.nodes[node].engine.create_member(&member(*node, number), start).unwrap();
        }
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until every group sleeps on every node.
async fn eventually_all_rest(cluster: &Cluster, count: usize) {
    eventually("all groups sleep", || {
        let sleeps = |slots: dstore::services::group::slots::SlotCounts| (slots.awake, slots.asleep) == (0, count);
        cluster.nodes.values().all(|node| sleeps(node.groups.stats().slots)).then_some(())
    })
    .await;
}

/// Waits for so many beacons of each node more.
async fn eventually_beacons(cluster: &Cluster, more: u64) {
    let sent = || cluster.nodes.values().map(|node| node.groups.stats().beacons).min().unwrap();
    let before = sent();
    eventually("some beacons more", || (sent() >= before + more).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_sleep_cost_no_task_no_look_and_no_message() {
    let cluster = Cluster::new(3);
    let looked_at = || cluster.nodes.values().map(|node| node.groups.stats().looked_at).sum::<u64>();
    let before = tasks();
    create_ranges(&cluster);
    let awake = || cluster.nodes.values().map(|node| node.groups.stats().slots.awake).sum::<usize>();
    // Not all in one moment: on a slow machine the first sleep again before the last have woken.
    let (mut most_awake, mut tasks_then) = (0, 0);
    eventually("all groups have been awake", || {
        let (awake_before, tasks) = (awake(), tasks());
        let awake = awake_before.min(awake());
        if awake > most_awake {
            (most_awake, tasks_then) = (awake, tasks);
        }
        let woken = cluster.nodes.values().map(|node| node.groups.stats().woken).min();
        (woken >= Some(u64::from(RANGES))).then_some(())
    })
    .await;
    assert!(
        tasks_then > before + most_awake,
        "each costs tasks while it is awake: {most_awake} groups, {tasks_then} tasks, {before} of them before"
    );
    eventually_all_rest(&cluster, usize::from(RANGES)).await;
    // What sends a beacon just now is a task.
    eventually("all tasks of groups are gone", || (tasks() <= before).then_some(())).await;
    let (looked, messages) = (looked_at(), messages(&cluster));
    let beacons: u64 = cluster.nodes.values().map(|node| node.groups.stats().beacons).sum();
    eventually_beacons(&cluster, 6).await;
    assert_eq!(looked_at(), looked, "no regular look looks at what sleeps");
    let more_beacons = cluster.nodes.values().map(|node| node.groups.stats().beacons).sum::<u64>() - beacons;
    let more = self::messages(&cluster) - messages;
    // Two for each node may be in the middle of being counted.
    assert!(more <= more_beacons + 6, "{more} messages, {more_beacons} beacons");
    // A replica that comes is the only reason to look at all.
    cluster.nodes[&1].engine.retire_replica(range(0)).unwrap();
    eventually("it is noticed", || (cluster.nodes[&1].groups.stats().slots.asleep < usize::from(RANGES)).then_some(()))
        .await;
    assert!(looked_at() <= looked + 2 * u64::from(RANGES), "one look at each");
    cluster.stop().await;
}

/// Messages that all nodes have sent.
fn messages(cluster: &Cluster) -> u64 {
    let sent = |node: &crate::cluster::Node| [Lane::Small, Lane::Signs].map(|lane| node.links.counts(lane).messages);
    cluster.nodes.values().flat_map(sent).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_sleeps_without_a_member_that_is_gone_and_brings_it_up_to_date_when_it_is_back() {
    let mut cluster = Cluster::with_range(3);
    cluster.put("a", r#"{"x":1}"#).await;
    let leader = cluster.eventually_led().await;
    let gone = leader % 3 + 1;
    cluster.kill(gone).await;
    cluster.put("a", r#"{"x":2}"#).await;
    eventually_all_rest(&cluster, 1).await;
    let leader = cluster.eventually_led().await;
    let stats = cluster.nodes[&leader].groups.stats();
    assert_eq!(stats.slots.incomplete, 1, "it is remembered that somebody missed something");
    assert_eq!(cluster.nodes[&leader].groups.standing().under_replicated, 1, "and told");
    cluster.start(gone);
    // Nobody asks for anything.
    let applied = |number: u8| cluster.status(number).map(|status| status.applied);
    eventually("it has what it missed", || (applied(gone) == applied(leader)).then_some(())).await;
    eventually_all_rest(&cluster, 1).await;
    for (number, node) in &cluster.nodes {
        let stats = node.groups.stats();
        assert_eq!(stats.slots.incomplete, 0, "node {number}");
        assert_eq!(stats.snapshots_sent, 0, "the end of the log was kept for it");
    }
    let replicas = cluster.nodes.values().map(|node| node.engine.replicas().remove(0));
    let digests: Vec<_> =
        replicas.map(|replica| replica.digest(&dstore::domain::hash::HashRange::FULL).unwrap()).collect();
    assert!(digests.iter().all(|digest| digest.sum == digests[0].sum));
    cluster.stop().await;
}

/// Its process is back before anybody has missed its beacons: it leads nothing any more, and the others notice.
#[tokio::test(flavor = "multi_thread")]
async fn groups_led_by_a_node_that_starts_anew_at_once_find_a_leader() {
    let mut cluster = Cluster::with_range(3);
    cluster.put("a", r#"{"x":1}"#).await;
    let leader = cluster.eventually_led().await;
    let term = cluster.status(leader).unwrap().term;
    eventually_all_rest(&cluster, 1).await;
    eventually_beacons(&cluster, 2).await;
    cluster.kill(leader).await;
    cluster.start(leader);
    eventually("somebody leads in a later term", || {
        let leads = |number: &u8| cluster.status(*number).is_some_and(|status| status.is_leader && status.term > term);
        cluster.nodes.keys().any(leads).then_some(())
    })
    .await;
    cluster.stop().await;
}

/// Writes one after the other: an entry goes to each follower, which answers, and how far is committed goes with the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_comes_alone_takes_two_messages_for_each_follower() {
    const WRITES: u64 = 200;
    let cluster = Cluster::with_range(3);
    cluster.put("first", "{}").await;
    let before = messages(&cluster);
    let began = tokio::time::Instant::now();
    for number in 0..WRITES {
        cluster.put(&format!("k{number}"), r#"{"a":1}"#).await;
    }
    // Beside them go heartbeats and beacons, some for each fifth of a second.
    let others = 60 * (1 + began.elapsed().as_millis() as u64 / 1000);
    let messages = messages(&cluster) - before;
    assert!(messages >= 4 * WRITES, "{messages}");
    assert!(messages <= 4 * WRITES + WRITES / 4 + others, "{messages} messages for {WRITES} writes, {others} others");
    cluster.stop().await;
}

/// Writes at the same time share syncs and frames, at the leader and at its followers.
#[tokio::test(flavor = "multi_thread")]
async fn writes_at_the_same_time_share_syncs_and_frames() {
    const WRITERS: u64 = 64;
    const EACH: u64 = 20;
    let cluster = Arc::new(Cluster::with_range(3));
    cluster.put("first", "{}").await;
    let syncs = |number: u8| cluster.nodes[&number].engine.log().counters().syncs;
    let frames = || cluster.nodes.values().map(|node| node.links.counts(Lane::Small).frames).sum::<u64>();
    let before: Vec<u64> = (1..=3).map(syncs).collect();
    let frames_before = frames();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let cluster = Arc::clone(&cluster);
        writers.spawn(async move {
            for number in 0..EACH {
                cluster.write(put(&format!("{writer}-{number}"), r#"{"a":1}"#)).await.unwrap();
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let writes = WRITERS * EACH;
    for (number, before) in (1..=3).zip(before) {
        let syncs = syncs(number) - before;
        assert!(syncs * 5 <= writes, "node {number}: {syncs} syncs for {writes} writes, more than one for five");
    }
    let frames = frames() - frames_before;
    assert!(frames <= writes, "{frames} frames for {writes} writes");
    let cluster = Arc::into_inner(cluster).unwrap();
    cluster.stop().await;
}

/// Thousands of groups wake for upkeep where a node comes or goes: those are not to stay as long as what clients use.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_stays_awake_for_clients_longer_than_for_upkeep() {
    let cluster = Cluster::with_range(1);
    let groups = &cluster.nodes[&1].groups;
    let for_upkeep = groups.wake(RANGE, Purpose::Upkeep).await.unwrap();
    assert_eq!(for_upkeep.patience(), IDLE_UNUSED);
    let for_a_client = groups.wake(RANGE, Purpose::Request).await.unwrap();
    assert_eq!((for_a_client.patience(), for_upkeep.patience()), (IDLE, IDLE), "it is the same group");
    drop((for_upkeep, for_a_client));
    cluster.stop().await;
}
