//! What is published of ranges that are alone and of groups, over a real coordinator.

use std::collections::BTreeSet;

use super::*;
use crate::coordination::Writer;
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::values::ReplicaState;
use crate::domain::Random;
use crate::domain::ids::PlaneId;
use crate::replication::machine_state::LogPlace;
use crate::replication::membership::Membership;
use crate::services::node_directory::DirectoryCopy;
use crate::storage::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};

/// There are none: no copy of the directory is kept.
struct NoKeys;

impl FileKeys for NoKeys {
    fn newest(&self, _: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        Err(KeyUnavailable("there is none".to_owned()))
    }

    fn of_version(&self, _: KeyOwner, _: u32) -> Result<crate::crypto::Key256, KeyUnavailable> {
        Err(KeyUnavailable("there is none".to_owned()))
    }
}

struct Same;

impl Random for Same {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(3);
    }
}

/// A directory over this coordinator that keeps nothing on disk.
pub(in crate::services) fn directory(coordinator: &Arc<dyn Coordinator>) -> Arc<NodeDirectory> {
    let copy = DirectoryCopy {
        path: "/dev/null/nodes.copy".into(),
        plane: PlaneId(uuid::Uuid::from_u128(7)),
        keys: Arc::new(NoKeys),
    };
    Arc::new(NodeDirectory::open(Arc::clone(coordinator), copy, Arc::new(Same)))
}

fn address(port: u16) -> PublishedAddress {
    PublishedAddress { uri: format!("http://node:{port}/"), inside_uri: Some(format!("https://node:{}/", port + 1)) }
}

pub(in crate::services) fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub(in crate::services) fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

/// The range of this number, of which node 1 has the copy of number 1.
pub(in crate::services) fn served(number: u8) -> ServedRange {
    let low = u32::from(number) * 100;
    ServedRange {
        tenant: TenantName::new("acme").unwrap(),
        table: TableName::new("users").unwrap(),
        table_id: TableId::from_bytes([7; 16]),
        range: RangeId::from_bytes([number; 16]),
        hashes: HashRange { low, high: low + 99 },
        replica: replica(1),
    }
}

fn own() -> NodeId {
    node(1)
}

/// A route led by this node, with its copy alone and without an id.
fn route(range: &ServedRange, node: NodeId, epoch: u64) -> Route {
    let uri = "http://before:1/".to_owned();
    Route {
        node,
        uri: uri.clone(),
        inside_uri: None,
        high_hash: range.hashes.high,
        range: range.range,
        epoch,
        table_uuid: range.table_id,
        replicas: vec![RouteReplica { node, uri, inside_uri: None, state: ReplicaState::Voter, replica: None }],
        split_from: None,
    }
}

/// A route of epoch 0 as control makes it, with copies 1, 2 and 3 on the nodes of the same numbers.
pub(in crate::services) fn founding_route(range: &ServedRange) -> Route {
    let copy = |number| RouteReplica {
        node: node(number),
        uri: format!("http://node-{number}:1/"),
        inside_uri: None,
        state: ReplicaState::Voter,
        replica: Some(replica(number)),
    };
    Route { replicas: [1, 2, 3].map(copy).to_vec(), ..route(range, own(), 0) }
}

/// How the group of copies 1, 2 and 3 stands at the copy of this number, which leads in this term.
pub(in crate::services) fn leading(range: &ServedRange, number: u8, term: u64) -> GroupStatus {
    GroupStatus {
        range: range.range,
        replica: replica(number),
        term,
        leader: Some(replica(number)),
        is_leader: true,
        is_awake: true,
        membership: Membership::founding([1, 2, 3].map(|number| (replica(number), node(number)))),
        membership_at: LogPlace::default(),
        last_index: 1,
        committed: 1,
        applied: 1,
        matched: BTreeMap::new(),
    }
}

pub(in crate::services) struct Fixture {
    pub(in crate::services) coordinator: Arc<dyn Coordinator>,
    _store: EmbeddedStore,
    _folder: tempfile::TempDir,
}

impl Fixture {
    pub(in crate::services) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        Self { coordinator: Arc::new(store.handle(Writer::Control)), _store: store, _folder: folder }
    }

    pub(in crate::services) fn publisher(&self, number: u8, port: u16) -> RoutePublisher {
        RoutePublisher::new(node(number), address(port), self.coordinator.clone(), directory(&self.coordinator))
    }

    pub(in crate::services) async fn put(&self, range: &ServedRange, route: &Route) {
        self.coordinator.put(&range.route_key(), to_json(route), None).await.unwrap();
    }

    pub(in crate::services) async fn get(&self, range: &ServedRange) -> (Route, i64) {
        let entry = self.coordinator.get(&range.route_key()).await.unwrap().unwrap();
        (from_json(&entry.value).unwrap(), entry.version)
    }
}

fn alone(ranges: &[ServedRange]) -> Vec<(ServedRange, Standing)> {
    ranges.iter().map(|range| (range.clone(), Standing::Alone)).collect()
}

fn grouped(range: &ServedRange, status: GroupStatus) -> Vec<(ServedRange, Standing)> {
    vec![(range.clone(), Standing::Group(status))]
}

#[tokio::test]
async fn a_served_range_gets_an_epoch_and_later_another_address() {
    let fixture = Fixture::new();
    let ranges: Vec<ServedRange> = (0..150).map(served).collect();
    for range in &ranges {
        fixture.put(range, &route(range, own(), 0)).await;
    }
    let publisher = fixture.publisher(1, 8080);
    let all = alone(&ranges);
    assert_eq!(publisher.publish(&all).await.unwrap(), Published { written: 150, ..Published::default() });
    assert_eq!(publisher.publish(&all).await.unwrap(), Published::default());
    let (first, version) = fixture.get(&ranges[0]).await;
    assert_eq!((first.epoch, first.uri.as_str(), version), (1, "http://node:8080/", 2));
    assert_eq!(first.replicas[0].inside_uri.as_deref(), Some("https://node:8081/"));
    assert_eq!(first.replicas[0].replica, Some(replica(1)), "and tells the copy's own id");

    let again = fixture.publisher(1, 8080);
    assert_eq!(again.publish(&all).await.unwrap(), Published::default(), "nothing to say after a restart");
    let moved = fixture.publisher(1, 9090);
    assert_eq!(moved.publish(&all).await.unwrap().written, 150);
    let (first, _) = fixture.get(&ranges[0]).await;
    assert_eq!((first.epoch, first.uri.as_str()), (1, "http://node:9090/"));
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone_and_epochs_never_fall() {
    let fixture = Fixture::new();
    let (high, foreign, replaced, absent) = (served(1), served(2), served(3), served(4));
    fixture.put(&high, &route(&high, own(), 9)).await;
    fixture.put(&foreign, &route(&foreign, node(2), 3)).await;
    let other = Route { range: RangeId::from_bytes([99; 16]), ..route(&replaced, own(), 0) };
    fixture.put(&replaced, &other).await;
    let asked = alone(&[high.clone(), foreign.clone(), replaced.clone(), absent]);
    let published = fixture.publisher(1, 8080).publish(&asked).await.unwrap();
    assert_eq!(published, Published { written: 1, not_ours: 3, contended: 0 });
    assert_eq!(fixture.get(&high).await.0.epoch, 9);
    assert_eq!(fixture.get(&foreign).await.1, 1);
    assert_eq!(fixture.get(&replaced).await.0, other);
}

#[tokio::test]
async fn who_is_alone_never_writes_over_a_group_or_another_copy() {
    let fixture = Fixture::new();
    let (group, successor) = (served(1), served(2));
    fixture.put(&group, &route(&group, own(), EPOCH_GROUPED_MIN)).await;
    let mut of_another = route(&successor, own(), 1);
    of_another.replicas[0].replica = Some(replica(9));
    fixture.put(&successor, &of_another).await;
    let published = fixture.publisher(1, 8080).publish(&alone(&[group.clone(), successor.clone()])).await.unwrap();
    assert_eq!(published, Published { not_ours: 2, ..Published::default() });
    assert_eq!((fixture.get(&group).await.1, fixture.get(&successor).await.1), (1, 1));
}

#[tokio::test]
async fn one_changed_route_does_not_hold_up_the_others() {
    let fixture = Fixture::new();
    let ranges: Vec<ServedRange> = (0..10).map(served).collect();
    let mut read = Vec::new();
    for range in &ranges {
        fixture.put(range, &route(range, own(), 0)).await;
        let entry = fixture.coordinator.get(&range.route_key()).await.unwrap().unwrap();
        let route = renewed(own(), &address(8080), range, &route(range, own(), 0)).unwrap();
        read.push(Change { range: range.range, fingerprint: 0, entry, route });
    }
    // Changed after it was read.
    fixture.put(&ranges[4], &route(&ranges[4], own(), 5)).await;
    let publisher = fixture.publisher(1, 8080);
    let mut published = Published::default();
    publisher.write_all(&read, &mut published).await.unwrap();
    assert_eq!(published, Published { written: 9, not_ours: 0, contended: 1 });
    assert_eq!(fixture.get(&ranges[4]).await.0, route(&ranges[4], own(), 5));
    publisher.publish(&alone(&ranges)).await.unwrap();
    let (route, _) = fixture.get(&ranges[4]).await;
    assert_eq!((route.epoch, route.uri.as_str()), (5, "http://node:8080/"));
}

#[tokio::test]
async fn a_group_is_published_by_its_leader_with_all_copies() {
    let fixture = Fixture::new();
    let range = served(1);
    fixture.put(&range, &founding_route(&range)).await;
    let publisher = fixture.publisher(1, 8080);
    assert_eq!(publisher.unserved(std::slice::from_ref(&range)).await.unwrap(), [range.range]);
    let written = publisher.publish(&grouped(&range, leading(&range, 1, 1))).await.unwrap().written;
    let (route, _) = fixture.get(&range).await;
    assert_eq!((written, route.epoch, route.node), (1, EPOCH_GROUPED_MIN, own()));
    let told = |copy: &RouteReplica| (copy.node, copy.replica, copy.uri.clone());
    let copies: Vec<_> = route.replicas.iter().map(told).collect();
    let uris = ["http://node:8080/", "http://node-2:1/", "http://node-3:1/"];
    let expected =
        [1, 2, 3].map(|number| (node(number), Some(replica(number)), uris[usize::from(number) - 1].to_owned()));
    assert_eq!(copies, expected, "its own address, and those of the others as they stood there");
    assert!(publisher.unserved(std::slice::from_ref(&range)).await.unwrap().is_empty());

    let mut status = leading(&range, 1, 1);
    status.membership.members.insert(replica(4), node(4));
    status.membership_at = LogPlace { term: 1, index: 7 };
    let uncommitted = publisher.publish(&grouped(&range, status.clone())).await.unwrap();
    assert_eq!(uncommitted, Published { contended: 1, ..Published::default() }, "not before it is committed");
    status.committed = 7;
    let unknown = publisher.publish(&grouped(&range, status.clone())).await.unwrap();
    assert_eq!(unknown, Published { contended: 1, ..Published::default() }, "nor before the address is known");
    let details = r#"{"status":"okay","uri":"http://node-4:1/"}"#;
    fixture.coordinator.put(&layout::node_details(node(4)), details.into(), None).await.unwrap();
    publisher.directory.want([node(4)]);
    let mut generations = publisher.directory.generations();
    let known = generations.wait_for(|_| publisher.directory.address(node(4)).is_some());
    tokio::time::timeout(std::time::Duration::from_secs(30), known).await.expect("it is heard").unwrap();
    assert_eq!(publisher.publish(&grouped(&range, status)).await.unwrap().written, 1);
    let (route, _) = fixture.get(&range).await;
    let learners: BTreeSet<NodeId> =
        route.replicas.iter().filter(|copy| copy.state == ReplicaState::Learner).map(|copy| copy.node).collect();
    assert_eq!((route.epoch, learners), (EPOCH_GROUPED_MIN + 7, BTreeSet::from([node(4)])));
}

#[tokio::test]
async fn of_two_who_think_they_lead_the_later_term_stays() {
    let fixture = Fixture::new();
    let range = served(1);
    fixture.put(&range, &founding_route(&range)).await;
    let (old, new) = (fixture.publisher(1, 8080), fixture.publisher(2, 8080));
    old.publish(&grouped(&range, leading(&range, 1, 1))).await.unwrap();
    let later = grouped(&range, leading(&range, 2, 2));
    // Both at once, again and again; whoever is first, the later term is what is left.
    for _ in 0..5 {
        old.forget_all();
        new.forget_all();
        let earlier = grouped(&range, leading(&range, 1, 1));
        let (_, _) = tokio::join!(old.publish(&earlier), new.publish(&later));
        new.publish(&later).await.unwrap();
        let (route, _) = fixture.get(&range).await;
        assert_eq!((route.node, route.epoch), (node(2), 2 << EPOCH_INDEX_BITS));
    }
    let (_, version) = fixture.get(&range).await;
    old.forget_all();
    assert_eq!(old.publish(&grouped(&range, leading(&range, 1, 1))).await.unwrap(), Published::default());
    assert_eq!(fixture.get(&range).await.1, version, "a greater epoch is left alone");
}

/// A write whose answer was lost is no answer: it is done again, and comes to the same.
#[tokio::test]
async fn what_was_published_before_a_crash_is_not_published_again() {
    let fixture = Fixture::new();
    let range = served(1);
    fixture.put(&range, &founding_route(&range)).await;
    let all = grouped(&range, leading(&range, 1, 3));
    fixture.publisher(1, 8080).publish(&all).await.unwrap();
    let (_, version) = fixture.get(&range).await;
    assert_eq!(fixture.publisher(1, 8080).publish(&all).await.unwrap(), Published::default());
    assert_eq!(fixture.get(&range).await.1, version);
    let moved = fixture.publisher(1, 9090);
    assert_eq!(moved.publish(&all).await.unwrap().written, 1, "an address under the same epoch");
    assert_eq!(fixture.get(&range).await.0.epoch, 3 << EPOCH_INDEX_BITS);
}

/// A child, as the node holds it, and where it comes from.
fn child(number: u8) -> (ServedRange, GroupStatus, Origin) {
    use crate::replication::split::{ChildReplicas, Split, SplitDone};
    let parent = served(1);
    let copies = |copy: u8| (replica(copy), ChildReplicas { lower: replica(20 + copy), upper: replica(30 + copy) });
    let split = Split {
        at: parent.hashes.low + 50,
        lower: RangeId::from_bytes([2; 16]),
        upper: RangeId::from_bytes([3; 16]),
        members: [1, 2, 3].map(copies).into(),
    };
    let membership = Membership::founding([1, 2, 3].map(|number| (replica(number), node(number))));
    let done = SplitDone { place: LogPlace { term: 1, index: 9 }, membership, split };
    let children = done.children(replica(1), parent.hashes).unwrap();
    let own = children[usize::from(number)].clone();
    let range = ServedRange { range: own.range, hashes: own.hashes, replica: own.replica, ..parent.clone() };
    let status = GroupStatus {
        replica: own.replica,
        leader: Some(own.replica),
        membership: own.machine.membership.clone(),
        membership_at: own.machine.membership_at,
        last_index: 10,
        committed: 10,
        ..leading(&range, 1, 2)
    };
    let origin =
        Origin { parent: parent.range, hashes: parent.hashes, split: Arc::new(done), children: Some(children) };
    (range, status, origin)
}

#[tokio::test]
async fn the_first_leader_of_a_child_publishes_both_and_says_when_all_have_begun() {
    for first in [0, 1] {
        let fixture = Fixture::new();
        let parent = served(1);
        let publisher = fixture.publisher(1, 8080);
        let (range, status, origin) = child(first);
        let asked =
            |status: &GroupStatus| vec![(range.clone(), Standing::Child(status.clone(), Box::new(origin.clone())))];
        // A table that was dropped does not come back.
        let published = publisher.publish(&asked(&status)).await.unwrap();
        assert_eq!(published, Published { not_ours: 1, ..Published::default() });
        let before = Route { epoch: EPOCH_GROUPED_MIN, ..founding_route(&parent) };
        fixture.put(&parent, &before).await;
        let written = publisher.publish(&asked(&status)).await.unwrap();
        assert_eq!(written, Published { written: 2, contended: 1, not_ours: 0 });
        let (lower, _, _) = child(0);
        let (upper, _, _) = child(1);
        for child in [&lower, &upper] {
            let (route, _) = fixture.get(child).await;
            assert_eq!((route.range, route.high_hash, route.node), (child.range, child.hashes.high, own()));
            let from = route.split_from.unwrap();
            assert_eq!((from.range, from.index, from.begun), (parent.range, 9, false));
            assert!(route.epoch > before.epoch && route.replicas.len() == 3);
        }
        // It is asked again until all have begun, and then no more.
        assert_eq!(publisher.publish(&asked(&status)).await.unwrap().contended, 1);
        let members: Vec<ReplicaId> = status.membership.members.keys().copied().collect();
        let matched = |indexes: [u64; 3]| GroupStatus {
            matched: members.iter().copied().zip(indexes).collect(),
            ..status.clone()
        };
        assert_eq!(publisher.publish(&asked(&matched([9, 9, 8]))).await.unwrap().contended, 1);
        assert!(!fixture.get(&range).await.0.split_from.unwrap().begun);
        let told = publisher.publish(&asked(&matched([9, 9, 10]))).await.unwrap();
        assert_eq!(told, Published { written: 1, ..Published::default() });
        assert!(fixture.get(&range).await.0.split_from.unwrap().begun);
        assert_eq!(publisher.publish(&asked(&matched([9, 9, 10]))).await.unwrap(), Published::default());
        // The sister's leader publishes over what was said of her.
        let (sister, status, origin) = child(1 - first);
        let asked = vec![(sister.clone(), Standing::Child(status, Box::new(origin)))];
        assert_eq!(publisher.publish(&asked).await.unwrap(), Published { written: 1, contended: 1, not_ours: 0 });
        assert_eq!(fixture.get(&sister).await.0.epoch >> EPOCH_INDEX_BITS, 2);
    }
}

#[tokio::test]
async fn children_that_are_alone_are_published_without_a_term_and_go_on_as_ranges_with_one_copy() {
    let fixture = Fixture::new();
    let parent = served(1);
    let publisher = fixture.publisher(1, 8080);
    fixture.put(&parent, &Route { epoch: EPOCH_GROUPED_MIN, ..route(&parent, own(), 0) }).await;
    let asked = [0, 1].map(|number| {
        let (range, _, mut origin) = child(number);
        let mut done = (*origin.split).clone();
        done.membership = Membership::founding([(replica(1), own())]);
        done.split.members.retain(|copy, _| *copy == replica(1));
        origin.children = done.children(replica(1), parent.hashes);
        let status = splits::alone(&range, &origin).unwrap();
        (range, Standing::Child(status, Box::new(origin)))
    });
    for _ in 0..3 {
        publisher.publish(&asked).await.unwrap();
    }
    for (range, _) in &asked {
        let (route, version) = fixture.get(range).await;
        assert_eq!((route.range, route.epoch, route.replicas.len()), (range.range, 9, 1));
        assert!(route.split_from.unwrap().begun, "its only copy has begun");
        assert_eq!(publisher.publish(&alone(std::slice::from_ref(range))).await.unwrap(), Published::default());
        assert_eq!(fixture.get(range).await.1, version);
    }
}
