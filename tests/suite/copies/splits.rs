//! Copies of a range that is split: the plan does not name them for a while, and they stay; then the parent's goes, and no
//! sooner.

use std::collections::BTreeSet;

use dstore::coordination::values::{RangeWish, SplitMember, SplitWish};
use dstore::domain::ids::RangeId;
use dstore::replication::command::Command;
use dstore::replication::split::SplitFrom;
use dstore::services::group::convert::log_id;
use dstore::services::group::types::{Entry, Proposed};
use openraft::storage::RaftStateMachine;

use super::*;

const AT: u32 = 1 << 31;
const LOWER: RangeId = RangeId(uuid::Uuid::from_bytes([0x51; 16]));
const UPPER: RangeId = RangeId(uuid::Uuid::from_bytes([0x52; 16]));

fn child_replica(child: RangeId, copy: u8) -> ReplicaId {
    replica(if child == LOWER { 60 } else { 70 } + copy)
}

fn wish() -> RangeWish {
    let table = record(1).table;
    let member = |copy: u8| SplitMember {
        replica: replica(copy),
        lower: child_replica(LOWER, copy),
        upper: child_replica(UPPER, copy),
    };
    RangeWish {
        tenant: table.tenant.clone(),
        table: table.name.clone(),
        table_uuid: table.id,
        split: SplitWish { at: AT, lower: LOWER, upper: UPPER, members: [1, 2, 3].map(member).to_vec() },
    }
}

impl Fixture {
    async fn put_wish(&self) {
        let key = layout::control_range(record(1).name.range);
        self.control.put(&key, to_json(&wish()), None).await.unwrap();
    }

    /// The copy on node 1 comes to the split.
    async fn split(&self) {
        let mut parts = self.node.engine.group_parts(record(1).name.range).await.unwrap();
        let proposed = Proposed(Command::Split(wish().split.split()).encode());
        let place = LogPlace { term: 1, index: 1 };
        let entry = Entry { log_id: log_id(place), payload: openraft::EntryPayload::Normal(proposed) };
        parts.machine.apply(futures_util::stream::iter([Ok((entry, None))])).await.unwrap();
    }

    /// The routes of the children, who have begun or not.
    async fn publish_children(&self, begun: [bool; 2]) {
        let record = record(1);
        for (child, low, high, begun) in [(LOWER, 0, AT - 1, begun[0]), (UPPER, AT, u32::MAX, begun[1])] {
            let copy = |copy: u8| RouteReplica {
                node: of_copy(copy),
                uri: String::new(),
                inside_uri: None,
                state: ReplicaState::Voter,
                replica: Some(child_replica(child, copy)),
            };
            let route = Route {
                node: of_copy(2),
                uri: String::new(),
                inside_uri: None,
                high_hash: high,
                range: child,
                epoch: SECOND,
                table_uuid: record.table.id,
                replicas: [2, 1, 3].map(copy).to_vec(),
                split_from: Some(SplitFrom { range: record.name.range, index: 1, begun }),
            };
            let key = layout::route(&record.table.tenant, &record.table.name, low);
            self.control.put(&key, to_json(&route), None).await.unwrap();
        }
    }

    /// Control gives the children to the node, takes the parent away, and has no wish any more.
    async fn give_children(&self) {
        let record = record(1);
        for (child, low, high) in [(LOWER, 0, AT - 1), (UPPER, AT, u32::MAX)] {
            let copies =
                [1, 2, 3].map(|copy| AssignedReplica { node: of_copy(copy), replica: child_replica(child, copy) });
            let assigned = AssignedRange {
                low_hash: low,
                high_hash: high,
                range: Some(child),
                replica: Some(child_replica(child, 1)),
                table_uuid: Some(record.table.id),
                replicas: copies.to_vec(),
                leader: None,
                is_new: false,
            };
            let key = layout::node_range(NODE, &record.table.tenant, &record.table.name, low);
            self.control.put(&key, to_json(&assigned), None).await.unwrap();
        }
        self.control.delete(&layout::control_range(record.name.range)).await.unwrap();
    }

    fn ranges(&self) -> BTreeSet<RangeId> {
        self.node.engine.replicas().iter().map(|replica| replica.name.range).collect()
    }

    /// Hears everything, and looks again so often that what may go has gone.
    async fn settle(&mut self) {
        self.follow().await;
        for _ in 0..3 {
            self.look_again().await;
        }
    }
}

#[tokio::test]
async fn parent_and_children_stay_until_control_and_their_leaders_have_spoken() {
    let mut fixture = member().await;
    let parent = record(1).name.range;
    fixture.put_wish().await;
    fixture.split().await;
    let all: BTreeSet<RangeId> = [parent, LOWER, UPPER].into();
    fixture.settle().await;
    assert_eq!(fixture.ranges(), all, "the children are in no plan yet");
    fixture.publish_children([false, false]).await;
    fixture.settle().await;
    assert_eq!(fixture.ranges(), all, "and control has not taken them over");
    fixture.give_children().await;
    for begun in [[false, false], [true, false], [false, true]] {
        fixture.publish_children(begun).await;
        fixture.settle().await;
        assert_eq!(fixture.ranges(), all, "somebody may need the parent's log");
    }
    fixture.publish_children([true, true]).await;
    fixture.settle().await;
    assert_eq!(fixture.ranges(), [LOWER, UPPER].into());
    assert!(fixture.node.engine.retired().is_empty(), "the parent is gone for good");
    assert!(fixture.node.database.splits().unwrap().is_empty(), "and nothing is left of it");
    assert_eq!(fixture.said().await.unwrap().status, "okay");
}

#[tokio::test]
async fn a_copy_that_lags_makes_the_children_itself_and_one_that_was_replaced_goes() {
    let mut fixture = member().await;
    let parent = record(1).name.range;
    fixture.publish_children([false, false]).await;
    fixture.give_children().await;
    fixture.settle().await;
    assert_eq!(fixture.ranges(), [parent].into(), "the children are not begun empty");
    let is_lost = |said: Option<TableAtNode>| said.is_some_and(|said| !said.lost.is_empty());
    assert!(!is_lost(fixture.said().await), "nor said to be lost");
    fixture.split().await;
    fixture.settle().await;
    assert_eq!(fixture.ranges(), [parent, LOWER, UPPER].into());

    let mut replaced = member().await;
    replaced.publish_children([true, true]).await;
    replaced.control.delete(&assignment_key()).await.unwrap();
    replaced.settle().await;
    assert_eq!((replaced.ranges(), replaced.node.engine.retired().len()), (BTreeSet::new(), 0));
}
