//! What a node makes of the plan that control writes for it: it makes what it is given, and gives nothing up on a plan
//! that is empty, older than one it has read, contradicts itself, or could not be read twice.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use dstore::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use dstore::coordination::values::{AssignedRange, ReplicaState, Route, RouteReplica, TableAtNode, from_json, to_json};
use dstore::coordination::{Coordinator, Listing, Reflected, WatchBatch, Writer, layout};
use dstore::domain::TableName;
use dstore::domain::table::TableDefinition;
use dstore::roles::ambient;
use dstore::services::assignments::{AssignmentParts, Assignments, NoGroups};
use dstore::services::engine::Engine;
use dstore::services::engine::notices::Notices;
use dstore::services::node_directory::{DirectoryCopy, NodeDirectory};
use dstore::services::publishing::{PublishedAddress, RoutePublisher};
use dstore::services::ranges::RangeAddress;

use crate::engine::{NODE, Node, PLANE, apply, open, put, read, record, small};
use crate::retirement::Control;

/// What follows a plan for an engine, with the keys and the database of `node`.
fn assignments(store: &EmbeddedStore, node: &Node, engine: Arc<Engine>, notices: Arc<Notices>) -> Assignments {
    let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Node(NODE)));
    let copy = DirectoryCopy { path: "/dev/null/nodes.copy".into(), plane: PLANE, keys: node.keys.clone() };
    let directory = Arc::new(NodeDirectory::open(coordinator.clone(), copy, ambient::random()));
    let address = PublishedAddress { uri: "http://node:8080/".to_owned(), inside_uri: None };
    Assignments::new(AssignmentParts {
        node: NODE,
        publisher: Arc::new(RoutePublisher::new(NODE, address, coordinator.clone(), directory.clone())),
        coordinator,
        directory,
        notices,
        engine,
        keys: node.keys.clone(),
        database: node.database.clone(),
        parts: Arc::new(Control { answer: None, asked: AtomicUsize::new(0) }),
        random: ambient::random(),
        groups: Arc::new(NoGroups),
    })
}

/// A node, its coordinator, and what it follows its plan with.
struct Fixture {
    node: Node,
    control: Arc<dyn Coordinator>,
    assignments: Assignments,
    address: RangeAddress,
    store: EmbeddedStore,
    _folders: [tempfile::TempDir; 2],
}

impl Fixture {
    /// A node that serves one range with an item in it, as control gave it.
    async fn start() -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let node = open(folders[0].path(), small());
        let store = EmbeddedStore::open(&folders[1].path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let control: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
        let assignments = assignments(&store, &node, node.engine.clone(), node.notices.clone());
        let record = record(1);
        let address = RangeAddress { table: record.table.id, range: record.name.range };
        let mut fixture = Self { node, control, assignments, address, store, _folders: folders };
        fixture.control.put(layout::CONTROL_CLUSTER, "{}".into(), None).await.unwrap();
        fixture.give(&record.table, 0).await;
        fixture.hear().await;
        assert!(fixture.assignments.ensure().await, "everything that was given is made");
        apply(&fixture.node, address, put("a", r#"{"x":1}"#)).await;
        fixture
    }

    /// Control gives the node the whole of this table, which was served before or not.
    async fn give(&self, table: &TableDefinition, epoch: u64) {
        let record = record(1);
        let assigned = AssignedRange {
            low_hash: 0,
            high_hash: u32::MAX,
            range: Some(record.name.range),
            replica: Some(record.name.replica),
            table_uuid: Some(table.id),
            replicas: Vec::new(),
            leader: None,
            is_new: false,
        };
        let route = Route {
            node: NODE,
            uri: String::new(),
            inside_uri: None,
            high_hash: u32::MAX,
            range: record.name.range,
            epoch,
            table_uuid: table.id,
            replicas: vec![RouteReplica {
                node: NODE,
                uri: String::new(),
                inside_uri: None,
                state: ReplicaState::Voter,
                replica: None,
            }],
            split_from: None,
        };
        let (tenant, name) = (&table.tenant, &table.name);
        for (key, value) in [
            (layout::control_table(tenant, name), to_json(table)),
            (layout::node_range(NODE, tenant, name, 0), to_json(&assigned)),
            (layout::route(tenant, name, 0), to_json(&route)),
        ] {
            self.control.put(&key, value, None).await.unwrap();
        }
    }

    /// Removes keys as control, or as somebody with too many rights, would.
    async fn remove(&self, prefixes: &[&str]) {
        for prefix in prefixes {
            for entry in self.control.list(prefix).await.unwrap().entries {
                self.control.delete(&entry.key).await.unwrap();
            }
        }
    }

    async fn listing(&self) -> Listing {
        self.control.list(&layout::node_tables(NODE)).await.unwrap()
    }

    /// The node hears how its plan stands.
    async fn hear(&mut self) {
        let listing = self.listing().await;
        self.assignments.take(Reflected::Snapshot(listing));
    }

    /// What follows the plan over the same coordinator for another engine.
    fn another(&self, engine: Arc<Engine>, notices: Arc<Notices>) -> Assignments {
        assignments(&self.store, &self.node, engine, notices)
    }

    /// The epoch that is published for the range.
    async fn epoch(&self) -> u64 {
        let table = record(1).table;
        let entry = self.control.get(&layout::route(&table.tenant, &table.name, 0)).await.unwrap().unwrap();
        from_json::<Route>(&entry.value).unwrap().epoch
    }

    async fn is_served(&self) -> bool {
        !self.node.engine.replicas().is_empty()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.node.engine.stop();
    }
}

#[tokio::test]
async fn what_is_given_is_made_and_said_to_be_ready() {
    let fixture = Fixture::start().await;
    let table = record(1).table;
    let key = layout::node_table_details(NODE, &table.tenant, &table.name);
    let said: TableAtNode = from_json(&fixture.control.get(&key).await.unwrap().unwrap().value).unwrap();
    assert_eq!((said.status.as_str(), said.table_uuid), ("okay", Some(table.id)));
    assert_eq!(read(&fixture.node, fixture.address, "a").await.as_deref(), Some(r#"{"x":1}"#));
}

#[tokio::test]
async fn a_range_is_new_until_its_file_is_there_and_never_again() {
    let mut fixture = Fixture::start().await;
    assert_eq!(fixture.epoch().await, 1);
    // A cluster of before epochs were published, or a node that was killed between the two.
    fixture.give(&record(1).table, 0).await;
    let record = record(1);
    let mut restarted = fixture.another(fixture.node.engine.clone(), fixture.node.notices.clone());
    restarted.take(Reflected::Snapshot(fixture.listing().await));
    assert!(restarted.ensure().await);
    assert_eq!(fixture.epoch().await, 1, "found at a start, it is published as well");
    let route =
        fixture.control.get(&layout::route(&record.table.tenant, &record.table.name, 0)).await.unwrap().unwrap();
    assert_eq!(from_json::<Route>(&route.value).unwrap().uri, "http://node:8080/", "with the node's address");
    // The same node with an empty folder: its file is gone.
    let folder = tempfile::tempdir().unwrap();
    let empty = open(folder.path(), small());
    let mut wiped = fixture.another(empty.engine.clone(), empty.notices.clone());
    wiped.take(Reflected::Snapshot(fixture.listing().await));
    for _ in 0..3 {
        assert!(!wiped.ensure().await);
    }
    assert!(empty.engine.replicas().is_empty(), "it is not started empty");
    let notices = empty.notices.take();
    let told: Vec<_> = notices.iter().filter(|notice| notice.details.contains("is not here")).collect();
    assert_eq!((told.len(), told[0].repeats), (1, 1));
    assert!(told[0].details.contains(&record.name.range.to_string()), "{told:?}");
    empty.engine.stop();
    fixture.hear().await;
    assert!(fixture.is_served().await);
}

#[tokio::test]
async fn a_dropped_table_is_taken_out_of_service_by_the_second_reading() {
    let mut fixture = Fixture::start().await;
    fixture.remove(&["node/", "tenant/", "control/table/"]).await;
    fixture.hear().await;
    fixture.hear().await;
    assert!(fixture.is_served().await, "what was only heard of, and be it twice, is not obeyed yet");
    fixture.assignments.look_again().await;
    assert!(!fixture.is_served().await);
    assert_eq!(fixture.node.engine.retired().len(), 1, "and its file is kept");
}

#[tokio::test]
async fn what_comes_back_before_the_second_reading_never_went() {
    let mut fixture = Fixture::start().await;
    fixture.remove(&["node/", "tenant/"]).await;
    fixture.hear().await;
    fixture.give(&record(1).table, 1).await;
    fixture.assignments.look_again().await;
    assert!(fixture.is_served().await);
    fixture.remove(&["node/"]).await;
    fixture.assignments.look_again().await;
    assert!(fixture.is_served().await, "the count of readings began anew");
}

#[tokio::test]
async fn an_emptied_coordinator_is_not_obeyed() {
    let mut fixture = Fixture::start().await;
    fixture.remove(&[""]).await;
    fixture.hear().await;
    for _ in 0..3 {
        fixture.assignments.look_again().await;
        assert!(fixture.is_served().await);
    }
    assert_eq!(read(&fixture.node, fixture.address, "a").await.as_deref(), Some(r#"{"x":1}"#));
}

#[tokio::test]
async fn an_older_plan_is_not_obeyed() {
    let mut fixture = Fixture::start().await;
    let before = fixture.listing().await;
    // A backup from before the table was made: nothing of it, at a lower revision.
    fixture.remove(&["node/", "tenant/", "control/table/"]).await;
    let revision = before.revision + 1_000;
    fixture.assignments.take(Reflected::Changes(WatchBatch { events: Vec::new(), revision }));
    fixture.assignments.take(Reflected::Snapshot(Listing { entries: Vec::new(), revision: 1 }));
    for _ in 0..3 {
        fixture.assignments.look_again().await;
        assert!(fixture.is_served().await);
    }
}

#[tokio::test]
async fn a_plan_that_its_own_routes_contradict_is_not_obeyed() {
    let mut fixture = Fixture::start().await;
    fixture.remove(&["node/"]).await;
    fixture.hear().await;
    fixture.assignments.look_again().await;
    assert!(fixture.is_served().await, "the route says that the range is here");
    fixture.remove(&["tenant/"]).await;
    fixture.assignments.look_again().await;
    assert!(!fixture.is_served().await);
}

#[tokio::test]
async fn a_table_brought_back_under_another_name_at_once_is_served_under_it() {
    let mut fixture = Fixture::start().await;
    let old = record(1).table;
    let new = TableDefinition { name: TableName::new("renamed").unwrap(), version: 2, ..old.clone() };
    fixture.remove(&["node/", "tenant/", "control/table/"]).await;
    fixture.give(&new, 1).await;
    fixture.hear().await;
    assert!(fixture.assignments.ensure().await);
    assert_eq!(*fixture.node.engine.replicas()[0].table(), new);
    let key = layout::node_table_details(NODE, &new.tenant, &new.name);
    assert!(fixture.control.get(&key).await.unwrap().is_some(), "and said to be ready");
    assert_eq!(read(&fixture.node, fixture.address, "a").await.as_deref(), Some(r#"{"x":1}"#));
}
