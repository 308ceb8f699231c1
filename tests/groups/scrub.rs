//! Copies that are damaged: found, blamed rightly, and given up where the others can do without them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dstore::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use dstore::coordination::values::{ReplicaState, Route, RouteReplica, TableAtNode, from_json, to_json};
use dstore::coordination::{Coordinator, Writer, layout};
use dstore::domain::Timestamp;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{FileId, ReplicaId};
use dstore::replication::digest::{Sum, compare, intervals};
use dstore::replication::machine_state::LogPlace;
use dstore::replication::operation::{Change, Operation, Outcome};
use dstore::services::engine::DigestState;
use dstore::services::ports::Consistency;
use dstore::services::ranges::RangeService;
use dstore::services::scrubbing::{ScrubCounters, ScrubParts, start};
use dstore::storage::keys::{FileKeys, KeyOwner};
use dstore::storage::vfs;
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, RANGE, TENANT, address, eventually, node_id, packed, put, record, replica_id};

const ITEMS: u32 = 300;

fn item(number: u32) -> String {
    format!(r#"{{"text":"{}"}}"#, format!("right-{number}-").repeat(20))
}

async fn fill(cluster: &Cluster) {
    for number in 0..ITEMS {
        assert!(matches!(cluster.put(&format!("k{number}"), &item(number)).await, Outcome::Created(_)));
    }
}

/// All nodes have applied everything.
async fn eventually_even(cluster: &Cluster) {
    let applied = |number: &u8| cluster.status(*number).map(|status| (status.last_index, status.applied));
    eventually("all have applied the same", || {
        let all: Vec<_> = cluster.nodes.keys().map(applied).collect();
        all.iter().all(|one| *one == all[0] && one.is_some_and(|(last, applied)| last == applied)).then_some(())
    })
    .await;
}

/// Brings all that a node's copy has into its file.
fn bring_into_file(cluster: &Cluster, number: u8) {
    let replica = cluster.nodes[&number].engine.replica_of(RANGE).unwrap();
    replica.flush().unwrap();
    let index = replica.file().make_durable().unwrap();
    assert!(index >= u64::from(ITEMS));
    replica.file().checkpoint().unwrap();
}

/// The digests of a node's copy at a place, when it has come there.
async fn digests(cluster: &Cluster, number: u8, place: LogPlace) -> Vec<Sum> {
    let replica = cluster.nodes[&number].engine.replica_of(RANGE).unwrap();
    eventually("the state is pinned and digested", || {
        if let Some(mut run) = replica.take_digest().unwrap() {
            let sums = loop {
                if let (_, Some(sums)) = run.step().unwrap() {
                    break sums;
                }
            };
            replica.note_digest(run.place, Some(sums));
        }
        match replica.digest_at(place) {
            DigestState::Ready(sums) => Some(sums),
            DigestState::Working => None,
            DigestState::Missed => panic!("it was there from the beginning"),
        }
    })
    .await
}

async fn all_digests(cluster: &Cluster, place: LogPlace) -> BTreeMap<ReplicaId, Vec<Sum>> {
    let mut all = BTreeMap::new();
    for number in 1..=3 {
        all.insert(replica_id(number), digests(cluster, number, place).await);
    }
    all
}

async fn propose(cluster: &Cluster) -> LogPlace {
    let leader = cluster.eventually_led().await;
    cluster.nodes[&leader].groups.propose_digest(RANGE, Timestamp(1)).await.unwrap()
}

fn voters() -> BTreeSet<ReplicaId> {
    (1..=3).map(replica_id).collect()
}

/// The part in which the item of this id is.
fn part_of(id: &str) -> u16 {
    let hash = packed(id).hash();
    intervals(&HashRange::FULL).iter().position(|interval| interval.contains(hash)).unwrap() as u16
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_equal_at_a_place_whatever_is_in_memory_and_whatever_came_after() {
    let cluster = Cluster::on_files(3);
    let flush = |number: u8| cluster.nodes[&number].engine.replica_of(RANGE).unwrap().flush().unwrap();
    for number in 0..ITEMS {
        cluster.put(&format!("k{}", number % 100), &item(number)).await;
        if number % 40 == 7 {
            flush(2);
        }
    }
    cluster.write(Operation { change: Change::Delete, ..put("k3", "{}") }).await.unwrap();
    let before = propose(&cluster).await;
    // Later than the place, and on one of the nodes in the file before the place is looked at.
    cluster.put("k5", &item(1000)).await;
    eventually_even(&cluster).await;
    flush(3);
    let first = all_digests(&cluster, before).await;
    assert!(compare(&voters(), &first).is_equal(), "{first:?}");
    assert_eq!(first[&replica_id(1)].len(), 65);
    let after = propose(&cluster).await;
    let second = all_digests(&cluster, after).await;
    assert!(compare(&voters(), &second).is_equal());
    let differ = |part: &usize| first[&replica_id(1)][*part] != second[&replica_id(1)][*part];
    let changed: Vec<usize> = (0..65).filter(differ).collect();
    // The other is what the file knows of itself.
    assert_eq!(changed, [usize::from(part_of("k5")), 64], "one item was written in between");
    cluster.stop().await;
}

/// A connection to a file of a node beside the node's own, past everything but the file's key.
fn open_beside(cluster: &Cluster, number: u8, path: &Path, owner: KeyOwner, file: FileId) -> rusqlite::Connection {
    let version = vfs::key_versions(path).unwrap()[0];
    let key = cluster.nodes[&number].keys.of_version(owner, version).unwrap();
    let data_key = vfs::unlock(path, &key).unwrap();
    vfs::open(path, file, &data_key, &vfs::OpenOptions::default()).unwrap()
}

/// Writes a wrong value into an item of a node's file.
fn falsify(cluster: &Cluster, number: u8, id: &str) {
    let (path, file) = (cluster.file_of(number), FileId(replica_id(number).0));
    let connection = open_beside(cluster, number, &path, KeyOwner::Tenant(TENANT), file);
    let sql = "UPDATE cells SET data = replace(data, 'right', 'wrong') WHERE key = ?1 AND path <> ''";
    assert_eq!(connection.execute(sql, [packed(id).as_bytes()]).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_changed_in_one_file_is_found_in_its_interval() {
    let cluster = Cluster::on_files(3);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    (1..=3).for_each(|number| bring_into_file(&cluster, number));
    falsify(&cluster, 2, "k77");
    let place = propose(&cluster).await;
    let found = compare(&voters(), &all_digests(&cluster, place).await);
    assert_eq!(found.damaged, [(replica_id(2), [part_of("k77")].into())].into());
    assert!(found.may_replace);
    cluster.stop().await;
}

/// The scrub of all nodes, over a coordinator that knows the range.
struct Scrubs {
    coordinator: Arc<dyn Coordinator>,
    counters: BTreeMap<u8, Arc<ScrubCounters>>,
    tasks: Vec<JoinHandle<()>>,
    _store: EmbeddedStore,
    _folder: tempfile::TempDir,
}

impl Scrubs {
    async fn start(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
        let table = record(1).table;
        let copy = |number| RouteReplica {
            node: node_id(number),
            uri: String::new(),
            inside_uri: None,
            state: ReplicaState::Voter,
            replica: Some(replica_id(number)),
        };
        let route = Route {
            node: node_id(1),
            uri: String::new(),
            inside_uri: None,
            high_hash: u32::MAX,
            range: RANGE,
            epoch: 1,
            table_uuid: table.id,
            split_from: None,
            replicas: cluster.nodes.keys().map(|number| copy(*number)).collect(),
        };
        coordinator.put(&layout::route(&table.tenant, &table.name, 0), to_json(&route), None).await.unwrap();
        let (mut counters, mut tasks) = (BTreeMap::new(), Vec::new());
        for (number, node) in &cluster.nodes {
            coordinator.put(&layout::node_alive(node_id(*number)), "{}".into(), None).await.unwrap();
            let (counted, running) = start(ScrubParts {
                node: node_id(*number),
                engine: node.engine.clone(),
                groups: node.groups.clone(),
                database: node.database.clone(),
                coordinator: Arc::new(store.handle(Writer::Node(node_id(*number)))),
                period: Duration::from_secs(1),
            });
            counters.insert(*number, counted);
            tasks.extend(running);
        }
        Self { coordinator, counters, tasks, _store: store, _folder: folder }
    }

    async fn said(&self, number: u8) -> Vec<ReplicaId> {
        let table = record(1).table;
        let key = layout::node_table_details(node_id(number), &table.tenant, &table.name);
        let entry = self.coordinator.get(&key).await.unwrap();
        entry.map_or_else(Vec::new, |entry| from_json::<TableAtNode>(&entry.value).unwrap().lost)
    }
}

impl Drop for Scrubs {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn is_given_up(cluster: &Cluster, number: u8) -> bool {
    cluster.nodes[&number].engine.replica_of(RANGE).unwrap().damage().is_some()
}

/// Flips a byte in the middle of a file.
fn flip(cluster: &Cluster, number: u8) {
    let path = cluster.file_of(number);
    let position = std::fs::metadata(&path).unwrap().len() / 8192 * 4096 + 1234;
    flip_at(&path, position);
}

fn flip_at(path: &Path, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

async fn all_are_served(cluster: &Cluster) {
    for number in 0..ITEMS {
        assert_eq!(cluster.read(&format!("k{number}")).await, Some(item(number)), "k{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_found_by_the_scrub_and_by_nobody_else() {
    let cluster = Cluster::on_files(3);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    (1..=3).for_each(|number| bring_into_file(&cluster, number));
    let target = cluster.eventually_led().await % 3 + 1;
    flip(&cluster, target);
    all_are_served(&cluster).await;
    let node = &cluster.nodes[&target];
    let eventual = node.ranges.read(address(), packed("k0"), Consistency::Eventual).await;
    assert!(eventual.unwrap().is_some() && !is_given_up(&cluster, target), "nobody has noticed");
    let scrubs = Scrubs::start(&cluster).await;
    eventually("the damaged copy is given up", || is_given_up(&cluster, target).then_some(())).await;
    assert_eq!(scrubs.said(target).await, [replica_id(target)]);
    let refused = node.ranges.read(address(), packed("k0"), Consistency::Eventual).await;
    assert!(refused.is_err(), "it answers nothing any more");
    let told = node.notices.take();
    assert!(told.iter().any(|notice| notice.details.contains("of its file is damaged")), "{told:?}");
    assert!(told.iter().any(|notice| notice.details.contains("taken out of service")), "{told:?}");
    all_are_served(&cluster).await;
    for number in (1..=3).filter(|number| *number != target) {
        assert!(!is_given_up(&cluster, number) && scrubs.said(number).await.is_empty());
        assert_eq!(scrubs.counters[&number].damaged_pages.load(Ordering::SeqCst), 0);
    }
    drop(scrubs);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_damaged_copies_one_is_given_up_and_the_other_serves_on() {
    let cluster = Cluster::on_files(3);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    (1..=3).for_each(|number| bring_into_file(&cluster, number));
    let leader = cluster.eventually_led().await;
    let targets: Vec<u8> = (1..=3).filter(|number| *number != leader).collect();
    targets.iter().for_each(|number| flip(&cluster, *number));
    let scrubs = Scrubs::start(&cluster).await;
    // What it has found it has dealt with when it has come to its end.
    eventually("all files are read", || {
        let is_done = |number: &u8| {
            let counters = &scrubs.counters[number];
            counters.damaged_pages.load(Ordering::SeqCst) > 0 && counters.completed_at.load(Ordering::SeqCst) > 0
        };
        targets.iter().all(is_done).then_some(())
    })
    .await;
    let given_up = || targets.iter().filter(|number| is_given_up(&cluster, **number)).count();
    eventually("one is given up", || (given_up() > 0).then_some(())).await;
    assert_eq!(given_up(), 1);
    assert!(matches!(cluster.put("after", "{}").await, Outcome::Created(_)), "the two others are a majority");
    assert_eq!(given_up(), 1);
    drop(scrubs);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_with_another_state_is_given_up_also_where_it_leads() {
    for leads in [false, true] {
        let cluster = Cluster::on_files(3);
        fill(&cluster).await;
        eventually_even(&cluster).await;
        (1..=3).for_each(|number| bring_into_file(&cluster, number));
        let leader = cluster.eventually_led().await;
        let target = if leads { leader } else { leader % 3 + 1 };
        falsify(&cluster, target, "k7");
        let scrubs = Scrubs::start(&cluster).await;
        eventually("the copy is given up", || is_given_up(&cluster, target).then_some(())).await;
        let told = cluster.nodes[&target].notices.take();
        assert!(told.iter().any(|notice| notice.details.contains("differs from the majority")), "{told:?}");
        all_are_served(&cluster).await;
        assert!((1..=3).filter(|number| is_given_up(&cluster, *number)).count() == 1);
        drop(scrubs);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_is_known_after_a_restart() {
    let mut cluster = Cluster::on_files(3);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    (1..=3).for_each(|number| bring_into_file(&cluster, number));
    let scrubs = Scrubs::start(&cluster).await;
    eventually("all files are read", || (scrubs.counters[&1].completed_at.load(Ordering::SeqCst) > 0).then_some(()))
        .await;
    drop(scrubs);
    cluster.kill(1).await;
    cluster.start(1);
    let progress = cluster.nodes[&1].database.scrub_progress().unwrap();
    let verified: Vec<_> = progress.files.iter().map(|file| (file.replica, file.verified_at.is_some())).collect();
    assert_eq!(verified, [(replica_id(1), true)]);
    assert!(progress.round_began.is_some());
    cluster.stop().await;
}

/// Takes a node's notices: one of them is of the segment in this file, and was written once.
fn told_once(cluster: &Cluster, number: u8, path: &Path) {
    let told = cluster.nodes[&number].notices.take();
    let name = path.file_name().unwrap().to_str().unwrap();
    let of_segment: Vec<_> = told.iter().filter(|notice| notice.details.contains(name)).collect();
    assert!(of_segment.len() == 1 && of_segment[0].repeats == 1, "{told:?}");
}

/// The node would not start again over the damaged segment. It finds the damage while it can do without.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_of_the_log_is_found_and_dropped_and_nothing_is_lost() {
    const SEGMENT_BYTES: u64 = 32 << 10;
    const TARGET: u8 = 2;
    let mut cluster = Cluster::on_files_and_segments(3, SEGMENT_BYTES);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    let segment = 1;
    for node in cluster.nodes.values() {
        assert_eq!(node.engine.log().closed_segments().start, segment, "nothing is in files yet");
        assert!(node.engine.log().closed_segments().contains(&segment));
    }
    let path = cluster.nodes[&TARGET].engine.log().segment_path(segment);
    // The votes stand in front, the middle has entries.
    flip_at(&path, SEGMENT_BYTES / 2);
    let scrubs = Scrubs::start(&cluster).await;
    let damaged = |number: u8| scrubs.counters[&number].damaged_segments.load(Ordering::SeqCst);
    eventually("the damage is found", || (damaged(TARGET) > 0).then_some(())).await;
    let is_there = || cluster.nodes[&TARGET].engine.log().closed_segments().contains(&segment);
    eventually("the segment is dropped", || (!is_there()).then_some(())).await;
    for number in (1..=3).filter(|number| *number != TARGET) {
        let counters = &scrubs.counters[&number];
        eventually("the others' logs are read", || {
            let is_over = counters.completed_at.load(Ordering::SeqCst) > 0;
            (is_over && counters.segment_bytes.load(Ordering::SeqCst) > SEGMENT_BYTES / 2).then_some(())
        })
        .await;
        assert_eq!(damaged(number), 0);
    }
    assert_eq!(damaged(TARGET), 1, "it counts once");
    told_once(&cluster, TARGET, &path);
    drop(scrubs);
    cluster.kill(TARGET).await;
    cluster.start(TARGET);
    eventually_even(&cluster).await;
    all_are_served(&cluster).await;
    let place = propose(&cluster).await;
    let found = compare(&voters(), &all_digests(&cluster, place).await);
    assert!(found.is_equal(), "{:?}", found.damaged);
    cluster.stop().await;
}

/// Nothing is left to be written to files, so nothing but the damage itself makes the log look at its segments.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_dropped_also_where_files_had_all_of_it_before() {
    const SEGMENT_BYTES: u64 = 32 << 10;
    let mut cluster = Cluster::on_files_and_segments(3, SEGMENT_BYTES);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    let target = cluster.eventually_led().await % 3 + 1;
    cluster.kill(target).await;
    cluster.start(target);
    eventually_even(&cluster).await;
    let log = || cluster.nodes[&target].engine.log();
    assert!(log().closed_segments().contains(&1), "it was not dropped at the end, nor at the start");
    flip_at(&log().segment_path(1), SEGMENT_BYTES / 2);
    let scrubs = Scrubs::start(&cluster).await;
    let counters = &scrubs.counters[&target];
    eventually("the damage is found", || (counters.damaged_segments.load(Ordering::SeqCst) > 0).then_some(())).await;
    eventually("the segment is dropped", || (!log().closed_segments().contains(&1)).then_some(())).await;
    let left = || counters.damaged_segments_left.load(Ordering::SeqCst);
    eventually("none is left", || (left() == 0).then_some(())).await;
    all_are_served(&cluster).await;
    drop(scrubs);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_that_stays_is_told_once_and_counted_as_long() {
    const TARGET: u8 = 2;
    let cluster = Cluster::on_files_and_segments(3, 32 << 10);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    let log = || cluster.nodes[&TARGET].engine.log();
    assert!(log().closed_segments().contains(&1));
    let path = log().segment_path(1);
    // All of it: also the batch with the last vote, which is in no file.
    let bytes: Vec<u8> = std::fs::read(&path).unwrap().iter().map(|byte| !byte).collect();
    std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    let scrubs = Scrubs::start(&cluster).await;
    let counters = &scrubs.counters[&TARGET];
    eventually("the damage is found", || (counters.damaged_segments.load(Ordering::SeqCst) > 0).then_some(())).await;
    for _ in 0..3 {
        let before = counters.completed_at.load(Ordering::SeqCst);
        let is_over = || counters.completed_at.load(Ordering::SeqCst) != before;
        eventually("a round more is over", || is_over().then_some(())).await;
    }
    assert_eq!(counters.damaged_segments.load(Ordering::SeqCst), 1);
    told_once(&cluster, TARGET, &path);
    // Another election, on a slow machine, lets go of it.
    let is_counted = || {
        let left = counters.damaged_segments_left.load(Ordering::SeqCst);
        left == u64::from(log().closed_segments().contains(&1))
    };
    eventually("it is counted while it is there", || is_counted().then_some(())).await;
    all_are_served(&cluster).await;
    drop(scrubs);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_of_a_nodes_own_database_is_told() {
    let cluster = Cluster::on_files(3);
    fill(&cluster).await;
    eventually_even(&cluster).await;
    let (number, path) = (2, cluster.folder_of(2).join("node.db"));
    let page: i64 = {
        let connection = open_beside(&cluster, number, &path, KeyOwner::Node, FileId(node_id(number).0));
        // Of a table that nobody writes here: a page that is written anew is good again.
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'splits'";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    flip_at(&path, page as u64 * 4096 + 2000);
    // The header block, which nobody reads while the file is open.
    flip_at(&path, 90);
    let scrubs = Scrubs::start(&cluster).await;
    let (notices, mut told) = (&cluster.nodes[&number].notices, Vec::new());
    let kinds = ["cannot be read".to_owned(), format!("page {page}.")];
    eventually("people are told of both", || {
        told.extend(notices.take().into_iter().map(|notice| notice.details));
        let is_told = |kind: &String| told.iter().any(|told| told.contains("own database") && told.contains(kind));
        kinds.iter().all(is_told).then_some(())
    })
    .await;
    assert!(scrubs.counters[&number].damaged_pages.load(Ordering::SeqCst) > 0);
    all_are_served(&cluster).await;
    for other in [1, 3] {
        assert_eq!(scrubs.counters[&other].damaged_pages.load(Ordering::SeqCst), 0);
    }
    drop(scrubs);
    cluster.stop().await;
}
