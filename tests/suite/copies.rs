//! Copies of ranges with several: a node founds them, joins, loses, replaces and removes them as its plan and the ranges'
//! routes say, and no other way.

mod splits;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dstore::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use dstore::coordination::values::{
    AssignedRange, AssignedReplica, ReplicaState, Route, RouteReplica, TableAtNode, from_json, to_json,
};
use dstore::coordination::{Coordinator, Reflected, Writer, layout};
use dstore::domain::ids::{NodeId, RangeId, ReplicaId};
use dstore::replication::machine_state::LogPlace;
use dstore::replication::membership::Membership;
use dstore::roles::ambient;
use dstore::services::assignments::{AssignmentParts, Assignments, GroupInstances};
use dstore::services::group::ports::GroupStatus;
use dstore::services::node_directory::{DirectoryCopy, NodeDirectory};
use dstore::services::publishing::{PublishedAddress, RoutePublisher};
use parking_lot::Mutex;

use crate::engine::{NODE, Node, PLANE, open, record, small};
use crate::retirement::Control;

/// The epoch of the first term of a group, and of the second.
const FIRST: u64 = 1 << 40;
const SECOND: u64 = 2 << 40;

/// Groups that run nowhere; what was asked of them.
#[derive(Default)]
struct Groups {
    woken: AtomicUsize,
    ended: AtomicUsize,
    status: Mutex<Option<GroupStatus>>,
}

#[async_trait::async_trait]
impl GroupInstances for Groups {
    fn status(&self, _range: RangeId) -> Option<GroupStatus> {
        self.status.lock().clone()
    }

    fn wake(&self, _range: RangeId) {
        self.woken.fetch_add(1, Ordering::SeqCst);
    }

    async fn end(&self, _range: RangeId) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

fn node(number: u8) -> NodeId {
    if number == 1 { NODE } else { NodeId::from_bytes([100 + number; 16]) }
}

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

/// The node that a copy of this number is on: the last digit names it, so that 11 is another copy on node 1.
fn of_copy(copy: u8) -> NodeId {
    node(copy % 10)
}

struct Fixture {
    node: Node,
    control: Arc<dyn Coordinator>,
    groups: Arc<Groups>,
    assignments: Assignments,
    _store: EmbeddedStore,
    _folders: [tempfile::TempDir; 2],
}

impl Fixture {
    async fn new() -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let node = open(folders[0].path(), small());
        let store = EmbeddedStore::open(&folders[1].path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let groups = Arc::new(Groups::default());
        let assignments = follower(&store, &node, &groups);
        let control: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
        control.put(layout::CONTROL_CLUSTER, "{}".into(), None).await.unwrap();
        let table = record(1).table;
        control.put(&layout::control_table(&table.tenant, &table.name), to_json(&table), None).await.unwrap();
        Self { node, control, groups, assignments, _store: store, _folders: folders }
    }

    /// Control gives the node this copy of the range; these are wanted.
    async fn assign(&self, copy: u8, wanted: &[u8]) {
        self.assign_of(copy, wanted, false).await;
    }

    /// The same, of a range that is new or not.
    async fn assign_of(&self, copy: u8, wanted: &[u8], is_new: bool) {
        let record = record(1);
        let wanted = wanted.iter().map(|copy| AssignedReplica { node: of_copy(*copy), replica: replica(*copy) });
        let assigned = AssignedRange {
            low_hash: 0,
            high_hash: u32::MAX,
            range: Some(record.name.range),
            replica: Some(replica(copy)),
            table_uuid: Some(record.table.id),
            replicas: wanted.collect(),
            leader: None,
            is_new,
        };
        self.control.put(&assignment_key(), to_json(&assigned), None).await.unwrap();
    }

    /// The range's route names these copies, the first of which leads.
    async fn route(&self, epoch: u64, copies: &[u8]) {
        let record = record(1);
        let copy = |copy: &u8| RouteReplica {
            node: of_copy(*copy),
            uri: String::new(),
            inside_uri: None,
            state: ReplicaState::Voter,
            replica: Some(replica(*copy)),
        };
        let route = Route {
            node: of_copy(copies[0]),
            uri: String::new(),
            inside_uri: None,
            high_hash: u32::MAX,
            range: record.name.range,
            epoch,
            table_uuid: record.table.id,
            replicas: copies.iter().map(copy).collect(),
            split_from: None,
        };
        let key = layout::route(&record.table.tenant, &record.table.name, 0);
        self.control.put(&key, to_json(&route), None).await.unwrap();
    }

    /// The same, and the last of the copies is being filled.
    async fn route_with_learner(&self, epoch: u64, copies: &[u8]) {
        self.route(epoch, copies).await;
        let table = record(1).table;
        let key = layout::route(&table.tenant, &table.name, 0);
        let entry = self.control.get(&key).await.unwrap().unwrap();
        let mut route: Route = from_json(&entry.value).unwrap();
        route.replicas.last_mut().unwrap().state = ReplicaState::Learner;
        self.control.put(&key, to_json(&route), None).await.unwrap();
    }

    /// The node hears how its plan stands, and does what it can. Whether that was everything.
    async fn follow(&mut self) -> bool {
        let listing = self.control.list(&layout::node_tables(NODE)).await.unwrap();
        self.assignments.take(Reflected::Snapshot(listing));
        self.assignments.ensure().await
    }

    /// It looks again at what is missing, and does what it can.
    async fn look_again(&mut self) -> bool {
        self.assignments.look_again().await;
        self.assignments.ensure().await
    }

    /// The process is gone and comes back over the same engine: nothing is remembered but what stands written.
    fn forget(&mut self) {
        self.assignments = follower(&self._store, &self.node, &self.groups);
    }

    async fn said(&self) -> Option<TableAtNode> {
        let table = record(1).table;
        let key = layout::node_table_details(NODE, &table.tenant, &table.name);
        self.control.get(&key).await.unwrap().map(|entry| from_json(&entry.value).unwrap())
    }

    /// The copy that serves.
    fn held(&self) -> Option<ReplicaId> {
        self.node.engine.replicas().first().map(|replica| replica.name.replica)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.node.engine.stop();
    }
}

fn follower(store: &EmbeddedStore, node: &Node, groups: &Arc<Groups>) -> Assignments {
    let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Node(NODE)));
    let copy = DirectoryCopy { path: "/dev/null/nodes.copy".into(), plane: PLANE, keys: node.keys.clone() };
    let directory = Arc::new(NodeDirectory::open(coordinator.clone(), copy, ambient::random()));
    let address = PublishedAddress { uri: "http://node:8080/".to_owned(), inside_uri: None };
    Assignments::new(AssignmentParts {
        node: NODE,
        publisher: Arc::new(RoutePublisher::new(NODE, address, coordinator.clone(), directory.clone())),
        coordinator,
        directory,
        notices: node.notices.clone(),
        engine: node.engine.clone(),
        keys: node.keys.clone(),
        database: node.database.clone(),
        parts: Arc::new(Control { answer: None, asked: AtomicUsize::new(0) }),
        random: ambient::random(),
        groups: groups.clone(),
    })
}

fn assignment_key() -> String {
    let table = record(1).table;
    layout::node_range(NODE, &table.tenant, &table.name, 0)
}

fn founders(copies: &[u8]) -> Membership {
    Membership::founding(copies.iter().map(|copy| (replica(*copy), of_copy(*copy))))
}

#[tokio::test]
async fn three_found_a_range_as_its_route_says() {
    let mut fixture = Fixture::new().await;
    fixture.route(0, &[1, 2, 3]).await;
    // Control has changed its mind meanwhile: the others began with what the route says, and so does this one.
    fixture.assign(1, &[1, 2, 4]).await;
    assert!(!fixture.follow().await, "nobody leads it yet");
    let held = fixture.node.engine.replicas();
    assert!(held[0].is_grouped());
    assert_eq!(held[0].machine_state().unwrap().unwrap().membership, founders(&[1, 2, 3]));
    assert_eq!(fixture.said().await, None);
    assert_eq!(fixture.groups.woken.load(Ordering::SeqCst), 1, "somebody must stand for election");
    // Also where the node was stopped in between.
    fixture.forget();
    assert!(!fixture.follow().await);
    assert_eq!(fixture.groups.woken.load(Ordering::SeqCst), 2);
    fixture.route(FIRST, &[2, 1, 3]).await;
    assert!(fixture.follow().await);
    assert_eq!(fixture.said().await.unwrap().status, "okay");
    assert_eq!(fixture.groups.woken.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_is_not_named_joins_with_nothing() {
    for epoch in [0, 1, FIRST] {
        let mut fixture = Fixture::new().await;
        fixture.route(epoch, &[2, 3]).await;
        fixture.assign(1, &[1, 2, 3]).await;
        let is_done = fixture.follow().await;
        assert_eq!(is_done, epoch > 0);
        let held = fixture.node.engine.replicas();
        assert!(held[0].is_grouped());
        assert_eq!(held[0].machine_state().unwrap(), None, "it waits to be filled");
    }
}

#[tokio::test]
async fn what_was_there_and_is_gone_is_said_to_be_lost_and_another_takes_its_place() {
    let mut fixture = Fixture::new().await;
    fixture.route(FIRST, &[2, 1, 3]).await;
    fixture.assign(1, &[1, 2, 3]).await;
    for _ in 0..2 {
        assert!(!fixture.follow().await);
        assert_eq!(fixture.held(), None);
        let said = fixture.said().await.unwrap();
        assert_eq!((said.status.as_str(), said.lost), ("lost", vec![replica(1)]));
        // It stays lost, whoever looks, and also where a route of before comes back.
        fixture.forget();
        fixture.route(0, &[1, 2, 3]).await;
    }
    assert!(fixture.node.notices.take().iter().any(|notice| notice.details.contains("is not here")));
    fixture.route(FIRST, &[2, 1, 3]).await;
    fixture.assign(11, &[11, 2, 3]).await;
    assert!(fixture.follow().await);
    assert_eq!(fixture.held(), Some(replica(11)));
    let said = fixture.said().await.unwrap();
    assert_eq!((said.status.as_str(), said.lost.len()), ("okay", 0));
}

/// A copy of a group on node 1, founded with others, that a leader elsewhere has published.
async fn member() -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture.route(0, &[2, 1, 3]).await;
    fixture.assign(1, &[1, 2, 3]).await;
    fixture.follow().await;
    fixture.route(FIRST, &[2, 1, 3]).await;
    assert!(fixture.follow().await);
    fixture
}

#[tokio::test]
async fn a_damaged_copy_makes_room_for_its_successor_and_a_good_one_waits_for_its_leader() {
    for is_damaged in [true, false] {
        let mut fixture = member().await;
        if is_damaged {
            fixture.node.engine.replicas()[0].mark_damaged("a page of it cannot be read".to_owned());
            fixture.follow().await;
            assert_eq!(fixture.said().await.unwrap().lost, [replica(1)]);
            assert_eq!(fixture.held(), Some(replica(1)), "it stays until another is to take its place");
        }
        fixture.assign(11, &[11, 2, 3]).await;
        assert!(!fixture.follow().await);
        assert_eq!(fixture.held(), Some(replica(1)), "what was only heard of is not obeyed yet");
        for _ in 0..3 {
            fixture.look_again().await;
        }
        let expected = if is_damaged { replica(11) } else { replica(1) };
        assert_eq!(fixture.held(), Some(expected));
        fixture.route(SECOND, &[2, 3]).await;
        for _ in 0..3 {
            fixture.look_again().await;
        }
        assert!(fixture.follow().await);
        assert_eq!(fixture.held(), Some(replica(11)));
        assert!(fixture.node.engine.retired().is_empty(), "the old one is gone for good");
        assert_eq!(fixture.said().await.unwrap().status, "okay");
    }
}

#[tokio::test]
async fn a_successor_that_its_leader_has_published_before_there_was_room_joins_all_the_same() {
    for was_given_before in [false, true] {
        let mut fixture = member().await;
        fixture.node.engine.replicas()[0].mark_damaged("a page of it cannot be read".to_owned());
        fixture.follow().await;
        fixture.assign(11, &[11, 2, 3]).await;
        fixture.route_with_learner(SECOND, &[2, 1, 3, 11]).await;
        if was_given_before {
            // A process that finds the copy in its first reading does not know that it never began.
            fixture.forget();
        }
        fixture.follow().await;
        for _ in 0..3 {
            fixture.look_again().await;
        }
        fixture.follow().await;
        assert_eq!(fixture.held(), (!was_given_before).then_some(replica(11)));
    }
}

/// Two of three founders are a majority: they may serve the range, and publish it, before the third has heard of it.
#[tokio::test]
async fn a_founder_that_was_slower_than_the_others_founds_all_the_same() {
    for (was_given_before, is_new) in [(false, true), (true, true), (false, false)] {
        let mut fixture = Fixture::new().await;
        fixture.follow().await;
        fixture.route(FIRST, &[2, 1, 3]).await;
        fixture.assign_of(1, &[1, 2, 3], is_new).await;
        if was_given_before {
            fixture.forget();
        }
        fixture.follow().await;
        let held = fixture.node.engine.replicas();
        if was_given_before || !is_new {
            assert!(held.is_empty(), "it may have been there before");
            assert_eq!(fixture.said().await.unwrap().lost, [replica(1)]);
            continue;
        }
        assert_eq!(held[0].machine_state().unwrap().unwrap().membership, founders(&[1, 2, 3]));
        assert_eq!(fixture.said().await.unwrap().lost, []);
    }
}

#[tokio::test]
async fn a_damaged_copy_stays_where_nobody_else_has_the_range() {
    let mut fixture = member().await;
    fixture.node.engine.replicas()[0].mark_damaged("a page of it cannot be read".to_owned());
    fixture.route(SECOND, &[1]).await;
    fixture.assign(11, &[11]).await;
    fixture.follow().await;
    for _ in 0..3 {
        fixture.look_again().await;
    }
    assert_eq!(fixture.held(), Some(replica(1)));
}

#[tokio::test]
async fn a_copy_goes_only_when_its_route_names_it_no_more_and_then_at_once() {
    let mut fixture = member().await;
    fixture.control.delete(&assignment_key()).await.unwrap();
    fixture.follow().await;
    for _ in 0..3 {
        fixture.look_again().await;
        assert_eq!(fixture.held(), Some(replica(1)), "the route names it");
    }
    fixture.route(SECOND, &[2, 3]).await;
    fixture.look_again().await;
    assert_eq!(fixture.held(), Some(replica(1)), "one reading is none");
    fixture.look_again().await;
    assert_eq!((fixture.held(), fixture.node.engine.retired().len()), (None, 0), "its file is not kept");
    assert!(fixture.groups.ended.load(Ordering::SeqCst) > 0, "nothing of it ran any more");
}

#[tokio::test]
async fn a_copy_whose_own_log_knows_better_stays() {
    let mut fixture = member().await;
    // Its log names it at a place that is later than the route's.
    *fixture.groups.status.lock() = Some(GroupStatus {
        range: record(1).name.range,
        replica: replica(1),
        term: 3,
        leader: Some(replica(2)),
        is_leader: false,
        is_awake: true,
        membership: founders(&[1, 2, 3]),
        membership_at: LogPlace { term: 3, index: 9 },
        last_index: 9,
        committed: 9,
        applied: 9,
        matched: Default::default(),
    });
    fixture.control.delete(&assignment_key()).await.unwrap();
    fixture.route(SECOND, &[2, 3]).await;
    fixture.follow().await;
    for _ in 0..4 {
        fixture.look_again().await;
        assert_eq!(fixture.held(), Some(replica(1)));
    }
    fixture.route(4 << 40, &[2, 3]).await;
    for _ in 0..2 {
        fixture.look_again().await;
    }
    assert_eq!(fixture.held(), None);
}

#[tokio::test]
async fn a_dropped_table_keeps_the_files_of_its_copies() {
    let mut fixture = member().await;
    let table = record(1).table;
    for key in [
        assignment_key(),
        layout::route(&table.tenant, &table.name, 0),
        layout::control_table(&table.tenant, &table.name),
    ] {
        fixture.control.delete(&key).await.unwrap();
    }
    fixture.follow().await;
    fixture.look_again().await;
    assert_eq!((fixture.held(), fixture.node.engine.retired().len()), (None, 1));
}
