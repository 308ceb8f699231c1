//! Ranges as people see them, and nodes that are not heard of.

use std::sync::Arc;

use crate::coordination::layout;
use crate::coordination::values::NodeStatus;
use crate::domain::ids::{NodeId, RangeId, TableId};
use crate::domain::{Refusal, RefusalKind};
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::ports::Catalog;
use crate::services::range_reports::{RangeReport, RangeReports};

#[tokio::test]
async fn ranges_are_described_in_order() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let node = cluster.node(1, "a").await;
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(3, 1)).await.unwrap();
    let ranges = cluster.plane.range_list(&acme, &table("users")).await.unwrap();
    assert_eq!(ranges.iter().map(|range| range.low_hash).collect::<Vec<_>>(), [0, 1_431_655_765, 2_863_311_530]);
    assert_eq!(ranges[2].high_hash, u32::MAX);
    assert!(ranges.iter().all(|range| range.leader == node && range.replicas.len() == 1));
    let missing = cluster.plane.range_list(&acme, &table("nothing")).await.unwrap_err();
    assert_eq!(missing.kind, RefusalKind::NotFound);
}

/// Answers for one node; another is slow for ever, and all others are not to be reached.
struct OneAnswers {
    node: NodeId,
    silent: NodeId,
    report: RangeReport,
}

#[async_trait::async_trait]
impl RangeReports for OneAnswers {
    async fn of_table(&self, node: NodeId, _table: TableId) -> Result<Vec<RangeReport>, Refusal> {
        if node == self.silent {
            std::future::pending::<()>().await;
        }
        if node == self.node {
            return Ok(vec![self.report.clone()]);
        }
        Err(Refusal::unavailable("no route to this node", 1))
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_leaves_a_gap_in_the_list_and_no_error() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    for number in 1..=3 {
        cluster.node(number, "a").await;
    }
    let users = table("users");
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(3, 1)).await.unwrap();
    let unknown = cluster.plane.range_list(&acme, &users).await.unwrap();
    assert!(unknown.iter().all(|range| range.quantity.is_none() && range.replicas[0].table.is_none()));
    let report = RangeReport {
        range: unknown[0].range,
        rid_tenant: acme.clone(),
        rid_table: users.clone(),
        hash_start: 0,
        hash_end: unknown[0].high_hash,
        quantity: 42,
        uuid: None,
        table_version: 1,
        group: None,
    };
    let (node, silent) = (unknown[0].leader, unknown[1].leader);
    cluster.plane.ask_nodes_through(Arc::new(OneAnswers { node, silent, report: report.clone() }));
    let known = cluster.plane.range_list(&acme, &users).await.unwrap();
    assert_eq!(known.iter().map(|range| range.quantity).collect::<Vec<_>>(), [Some(42), None, None]);
    assert_eq!(known[0].replicas[0].table, Some(report));
    assert_eq!(cluster.plane.range_show(&acme, &users, known[0].range).await.unwrap(), known[0]);
    let missing = cluster.plane.range_show(&acme, &users, RangeId::from_bytes([9; 16])).await.unwrap_err();
    assert_eq!(missing.kind, RefusalKind::NotFound);
}

/// Leases that vanish all at once are the coordinator's fault: it was restored, or stood still.
#[tokio::test]
async fn nobody_is_given_up_because_leases_are_gone() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let lease = cluster.coordinator.lease_grant(600).await.unwrap();
    for number in 1..=3 {
        let node = cluster.node(number, "a").await;
        cluster.coordinator.put(&layout::node_alive(node), "{}".into(), Some(lease)).await.unwrap();
    }
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(6, 3)).await.unwrap();
    let before = cluster.coordinator.list("").await.unwrap().entries;
    cluster.coordinator.lease_revoke(lease).await.unwrap();
    cluster.clock.forward(24 * 3600);
    cluster.plane.maintain().await.unwrap();
    let after = cluster.coordinator.list("").await.unwrap().entries;
    let kept = |key: &str| ["tenant/", "node/", "control/table"].iter().any(|prefix| key.starts_with(prefix));
    let without_signs_of_life: Vec<_> =
        before.into_iter().filter(|entry| kept(&entry.key) && !entry.key.ends_with("/alive")).collect();
    let after: Vec<_> = after.into_iter().filter(|entry| kept(&entry.key)).collect();
    assert_eq!(after, without_signs_of_life, "routes, assignments and details stay as they are");
    let nodes = cluster.plane.node_list().await.unwrap();
    assert!(nodes.iter().all(|node| !node.alive && node.status == NodeStatus::Okay));
    // And while all are silent, none is treated as worse than another.
    cluster.plane.create_table(&cluster.root, &acme, &table("others"), specification(3, 1)).await.unwrap();
    // Where one is heard, the silent ones get nothing new.
    let alive = nodes[1].id;
    cluster.coordinator.put(&layout::node_alive(alive), "{}".into(), None).await.unwrap();
    cluster.plane.create_table(&cluster.root, &acme, &table("more"), specification(3, 1)).await.unwrap();
    let ranges = cluster.plane.range_list(&acme, &table("more")).await.unwrap();
    assert!(ranges.iter().all(|range| range.leader == alive));
}
