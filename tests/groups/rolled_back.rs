//! A node whose data folder is put back from an older copy: found out by whoever knows more, and no voter any more.

use std::sync::Arc;

use dstore::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use dstore::coordination::values::{NodeDetails, from_json};
use dstore::coordination::{Coordinator, Writer, layout};
use dstore::domain::ids::ReplicaId;
use dstore::replication::operation::Outcome;
use dstore::services::assignments::incarnation::Incarnation;
use dstore::services::engine::MemberStart;
use dstore::services::group::awake::Purpose;
use dstore::services::group::ports::GroupOperations;
use dstore::storage::node_database::ReplicaRecord;
use dstore::storage::store::ReplicaName;

use crate::cluster::{Cluster, PATIENCE, RANGE, eventually, node_id, record, replica_id, wait_a_little};

async fn write(cluster: &Cluster, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let outcome = cluster.put(&format!("k{number}"), &format!(r#"{{"n":{number}}}"#)).await;
        assert!(matches!(outcome, Outcome::Created(_)));
    }
}

async fn all_are_there(cluster: &Cluster, count: u32) {
    for number in 0..count {
        assert_eq!(cluster.read(&format!("k{number}")).await, Some(format!(r#"{{"n":{number}}}"#)), "k{number}");
    }
}

/// A follower and the leader.
async fn a_follower(cluster: &Cluster) -> (u8, u8) {
    let leader = cluster.eventually_led().await;
    (leader % 3 + 1, leader)
}

async fn eventually_caught_up(cluster: &Cluster, number: u8, leader: u8) {
    let applied = |number| cluster.status(number).map(|status| status.applied);
    eventually("it has all", || (applied(number)? == applied(leader)?).then_some(())).await;
}

fn damage(cluster: &Cluster, number: u8) -> Option<String> {
    cluster.nodes[&number].engine.replica_of(RANGE).and_then(|replica| replica.damage())
}

async fn eventually_found_out(cluster: &Cluster, number: u8) {
    eventually("the older folder is found out", || damage(cluster, number)).await;
    // It is out of service a moment before its group has ended.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while cluster.nodes[&number].groups.wake(RANGE, Purpose::Request).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "it takes part in its group");
        wait_a_little().await;
    }
    let notices = &cluster.nodes[&number].notices;
    let told = eventually("people are told", || {
        let told = notices.take();
        told.iter().any(|notice| notice.details.contains("1 copies of ranges on it are given up")).then_some(told)
    });
    assert!(told.await.iter().any(|notice| notice.details.contains("an older copy of itself")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_from_before_its_last_start_gives_up_its_copies_and_gets_new_ones() {
    let mut cluster = Cluster::on_files(3);
    write(&cluster, 0..30).await;
    let (target, leader) = a_follower(&cluster).await;
    cluster.kill(target).await;
    let copy = cluster.copy_of(target);
    cluster.start(target);
    write(&cluster, 30..60).await;
    eventually_caught_up(&cluster, target, leader).await;
    assert_eq!(damage(&cluster, target), None, "a start of its own is no fault");
    cluster.kill(target).await;
    cluster.put_back(target, &copy);
    cluster.start(target);
    eventually_found_out(&cluster, target).await;
    all_are_there(&cluster, 60).await;
    // It stays so.
    cluster.kill(target).await;
    cluster.start(target);
    assert!(damage(&cluster, target).is_some());
    // A new copy on it is a voter like any other, also after a start.
    let new = ReplicaId::from_bytes([0x77; 16]);
    let node = &cluster.nodes[&target];
    node.engine.remove_member(RANGE, replica_id(target)).unwrap();
    let name = ReplicaName { replica: new, ..record(target).name };
    node.engine.create_member(&ReplicaRecord { name, ..record(target) }, MemberStart::Joining).unwrap();
    let leader = cluster.eventually_led().await;
    let groups = cluster.nodes[&leader].groups.clone();
    groups.add_learner(RANGE, new, node_id(target)).await.unwrap();
    eventually_caught_up(&cluster, target, leader).await;
    let voters = (1..=3).filter(|number| *number != target).map(replica_id).chain([new]).collect();
    groups.change_voters(RANGE, voters).await.unwrap();
    cluster.kill(target).await;
    cluster.start(target);
    cluster.kill(leader).await;
    assert!(matches!(cluster.put("after", "{}").await, Outcome::Created(_)), "its vote is needed");
    assert_eq!(damage(&cluster, target), None);
    all_are_there(&cluster, 60).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_running_nodes_disk_is_found_out_by_how_far_its_log_had_come() {
    let mut cluster = Cluster::on_files(3);
    write(&cluster, 0..30).await;
    let (target, leader) = a_follower(&cluster).await;
    eventually_caught_up(&cluster, target, leader).await;
    let copy = cluster.copy_of(target);
    write(&cluster, 30..60).await;
    eventually_caught_up(&cluster, target, leader).await;
    let beacons = cluster.nodes[&target].groups.stats().beacons;
    eventually("it is heard how far its log is", || {
        (cluster.nodes[&target].groups.stats().beacons >= beacons + 4).then_some(())
    })
    .await;
    cluster.kill(target).await;
    cluster.put_back(target, &copy);
    cluster.start(target);
    eventually_found_out(&cluster, target).await;
    all_are_there(&cluster, 60).await;
    cluster.stop().await;
}

/// What the coordinator knows of a node, and the node itself, settle what folder it has.
async fn settle(cluster: &Cluster, number: u8, store: &EmbeddedStore) {
    let node = &cluster.nodes[&number];
    let details: NodeDetails = from_json(br#"{"status":"okay","uri":"http://n:1/"}"#).unwrap();
    let settling = Incarnation {
        node: node_id(number),
        own: uuid::Uuid::from_bytes([number; 16]),
        details,
        coordinator: Arc::new(store.handle(Writer::Node(node_id(number)))),
        boots: node.boots.clone(),
    };
    settling.settle_with(&node.engine, &node.groups, &node.notices).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_knows_it_where_nobody_else_is_there_and_a_restored_one_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
    let control = store.handle(Writer::Control);
    let mut cluster = Cluster::on_files(3);
    write(&cluster, 0..30).await;
    let (target, leader) = a_follower(&cluster).await;
    let key = layout::node_details(node_id(target));
    settle(&cluster, target, &store).await;
    let backup = control.get(&key).await.unwrap().unwrap().value;
    cluster.kill(target).await;
    let copy = cluster.copy_of(target);
    for _ in 0..2 {
        cluster.start(target);
        settle(&cluster, target, &store).await;
        assert_eq!(damage(&cluster, target), None);
        cluster.kill(target).await;
    }
    // The coordinator comes back from a backup: it knows an older start, and says nothing against this one.
    control.put(&key, backup, None).await.unwrap();
    cluster.start(target);
    settle(&cluster, target, &store).await;
    assert_eq!(damage(&cluster, target), None);
    write(&cluster, 30..60).await;
    eventually_caught_up(&cluster, target, leader).await;
    cluster.kill(target).await;
    cluster.put_back(target, &copy);
    // Before it starts: nobody but the coordinator is to tell it.
    cluster.isolate(target);
    cluster.start(target);
    settle(&cluster, target, &store).await;
    assert!(damage(&cluster, target).is_some(), "it is out of service before the coordinator hears of the start");
    let known: NodeDetails = from_json(&control.get(&key).await.unwrap().unwrap().value).unwrap();
    assert_eq!(known.boot, Some(cluster.nodes[&target].boots.present()));
    // What the others hold against it was given up, and they hear so.
    cluster.network.heal();
    write(&cluster, 60..70).await;
    all_are_there(&cluster, 70).await;
    cluster.stop().await;
}
