//! What a node says when it comes with the folder that is known, the first one, or another.

use super::*;
use crate::coordination::Writer;
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::values::{AssignedRange, NodeStatus};
use crate::domain::ids::{RangeId, TableId};
use crate::domain::{TableName, TenantName};

const OWN: NodeId = NodeId(Uuid::from_bytes([1; 16]));

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn details(incarnation: Option<u8>) -> NodeDetails {
    NodeDetails {
        status: NodeStatus::Draining,
        uri: "http://node:1/".to_owned(),
        inside_uri: None,
        zone: None,
        incarnation: incarnation.map(|byte| Uuid::from_bytes([byte; 16])),
        // That of a folder that was never started.
        boot: incarnation.filter(|byte| *byte == 7).map(|_| 0),
        capacity_bytes: None,
        free_bytes: None,
        version: None,
        format: None,
    }
}

struct Fixture {
    control: Arc<dyn Coordinator>,
    settling: Incarnation,
    _store: EmbeddedStore,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// A node whose folder is of incarnation 7, and that was given copies 1 to 4 of table 1 and copy 5 of table 2.
    async fn new(known: Option<NodeDetails>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let control: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
        if let Some(known) = known {
            control.put(&layout::node_details(OWN), to_json(&known), None).await.unwrap();
        }
        let settling = Incarnation {
            node: OWN,
            own: Uuid::from_bytes([7; 16]),
            details: NodeDetails { status: NodeStatus::Okay, ..details(None) },
            coordinator: Arc::new(store.handle(Writer::Node(OWN))),
            boots: OwnBoots::new(Default::default(), Box::new(|_| Ok(()))).unwrap(),
        };
        let fixture = Self { control, settling, _store: store, _folder: folder };
        for (table, number) in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5)] {
            fixture.give(table, number).await;
        }
        fixture
    }

    async fn give(&self, table: u8, number: u8) {
        let low_hash = u32::from(number) * 100;
        let assigned = AssignedRange {
            low_hash,
            high_hash: low_hash + 99,
            range: Some(RangeId::from_bytes([number; 16])),
            replica: Some(replica(number)),
            table_uuid: Some(TableId::from_bytes([table; 16])),
            replicas: Vec::new(),
            leader: None,
            is_new: false,
        };
        let key = layout::node_range(OWN, &tenant(), &name(table), low_hash);
        self.control.put(&key, to_json(&assigned), None).await.unwrap();
    }

    async fn said(&self, table: u8) -> Option<TableAtNode> {
        let key = layout::node_table_details(OWN, &tenant(), &name(table));
        self.control.get(&key).await.unwrap().map(|entry| from_json(&entry.value).unwrap())
    }

    async fn details(&self) -> NodeDetails {
        let entry = self.control.get(&layout::node_details(OWN)).await.unwrap().unwrap();
        from_json(&entry.value).unwrap()
    }
}

fn tenant() -> TenantName {
    TenantName::new("acme").unwrap()
}

fn name(table: u8) -> TableName {
    TableName::new(&format!("table-{table}")).unwrap()
}

#[tokio::test]
async fn a_folder_that_is_known_or_the_first_one_has_lost_nothing() {
    let none = BTreeSet::new();
    let first = Fixture::new(None).await;
    assert_eq!(first.settling.settle(&none).await.unwrap(), 0);
    assert_eq!(first.details().await, NodeDetails { status: NodeStatus::Okay, ..details(Some(7)) });
    for known in [details(None), details(Some(7))] {
        let fixture = Fixture::new(Some(known)).await;
        assert_eq!(fixture.settling.settle(&none).await.unwrap(), 0);
        assert_eq!(fixture.details().await, details(Some(7)), "and the rest stays as control wrote it");
        assert_eq!(fixture.said(1).await, None);
    }
}

#[tokio::test]
async fn another_folder_reports_what_it_does_not_have_before_it_says_who_it_is() {
    let fixture = Fixture::new(Some(details(Some(6)))).await;
    let before = TableAtNode {
        status: "okay".to_owned(),
        lost: vec![replica(9)],
        table_uuid: Some(TableId::from_bytes([1; 16])),
    };
    let key = layout::node_table_details(OWN, &tenant(), &name(1));
    fixture.control.put(&key, to_json(&before), None).await.unwrap();
    let held = BTreeSet::from([replica(2)]);
    // Killed after the report: the details still name the other folder, so it is reported again.
    assert_eq!(fixture.settling.report(&held).await.unwrap(), 4);
    assert_eq!(fixture.details().await.incarnation, Some(Uuid::from_bytes([6; 16])));
    assert_eq!(fixture.settling.settle(&held).await.unwrap(), 4);
    let said = fixture.said(1).await.unwrap();
    assert_eq!((said.status.as_str(), said.lost), ("lost", [1, 3, 4, 9].map(replica).to_vec()));
    assert_eq!(fixture.said(2).await.unwrap().lost, [replica(5)]);
    assert_eq!(fixture.details().await, details(Some(7)));
    // Given afterwards: that is not lost.
    fixture.give(1, 6).await;
    assert_eq!(fixture.settling.settle(&held).await.unwrap(), 0);
    assert!(!fixture.said(1).await.unwrap().lost.contains(&replica(6)));
}

#[tokio::test]
async fn details_that_cannot_be_read_are_not_written_over() {
    let fixture = Fixture::new(None).await;
    let key = layout::node_details(OWN);
    fixture.control.put(&key, "of a later version".into(), None).await.unwrap();
    assert!(fixture.settling.settle(&BTreeSet::new()).await.is_err());
    assert_eq!(fixture.control.get(&key).await.unwrap().unwrap().version, 1);
}
