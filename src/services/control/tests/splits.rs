//! Splits as control sees them: wished for, carried out by nodes, taken over.

use std::collections::BTreeSet;

use super::node_side::NodeSide;
use super::placement::{cluster, routes, settle};
use crate::coordination::values::{AssignedRange, RangeWish, Route, from_json, to_json};
use crate::coordination::{Operation, layout};
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::domain::{RefusalKind, TenantName};
use crate::placement::repair::RangeHealth;
use crate::replication::split::SplitFrom;
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::ports::Catalog;

async fn wish(cluster: &Cluster, range: RangeId) -> Option<RangeWish> {
    let entry = cluster.coordinator.get(&layout::control_range(range)).await.unwrap();
    entry.map(|entry| from_json(&entry.value).unwrap())
}

/// What the nodes do: the routes of both children over the parent's.
async fn carry_out(cluster: &Cluster, parent: &Route, low: u32, wish: &RangeWish) {
    let child = |range: RangeId, high: u32, of: fn(&crate::coordination::values::SplitMember) -> ReplicaId| {
        let mut child = Route { range, high_hash: high, epoch: parent.epoch + (1 << 40), ..parent.clone() };
        for copy in &mut child.replicas {
            let member = wish.split.members.iter().find(|member| Some(member.replica) == copy.replica).unwrap();
            copy.replica = Some(of(member));
        }
        child.split_from = Some(SplitFrom { range: parent.range, index: 9, begun: false });
        child
    };
    let (tenant, name) = (&wish.tenant, &wish.table);
    let lower = child(wish.split.lower, wish.split.at - 1, |member| member.lower);
    let upper = child(wish.split.upper, parent.high_hash, |member| member.upper);
    let operations = vec![
        Operation::put(layout::route(tenant, name, low), to_json(&lower)),
        Operation::put(layout::route(tenant, name, wish.split.at), to_json(&upper)),
    ];
    cluster.coordinator.transact(Vec::new(), operations).await.unwrap();
}

async fn assigned(cluster: &Cluster) -> Vec<(NodeId, AssignedRange)> {
    let entries = cluster.coordinator.list(layout::NODES).await.unwrap().entries;
    let range = |entry: crate::coordination::KeyValue| match layout::NodeKey::parse(&entry.key) {
        Some(layout::NodeKey::Range(node, _)) => Some((node, from_json(&entry.value).unwrap())),
        _ => None,
    };
    entries.into_iter().filter_map(range).collect()
}

async fn made(cluster: &Cluster, acme: &TenantName, side: &mut NodeSide<'_>) -> Route {
    let specification = specification(1, 3);
    cluster.plane.create_table(&cluster.root, acme, &table("users"), specification).await.unwrap();
    settle(&cluster.plane, side).await;
    routes(cluster).await.remove(0)
}

#[tokio::test]
async fn a_split_is_wished_for_and_its_children_are_given_to_their_nodes() {
    let (cluster, acme, _) = cluster(4).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    let parent = made(&cluster, &acme, &mut side).await;
    let (plane, root) = (&cluster.plane, &cluster.root);
    let split = async |range, at| plane.range_split(root, &acme, &users, range, at).await;
    let refused =
        |outcome: Result<_, crate::domain::Refusal>| outcome.map(|_: super::super::SplitAnswer| ()).unwrap_err();
    let unknown = refused(split(RangeId::from_bytes([9; 16]), None).await);
    assert_eq!(unknown.kind, RefusalKind::NotFound);
    let outside = refused(split(parent.range, Some(0)).await);
    assert!(outside.kind == RefusalKind::BadInput && outside.message.contains("from 1 to 4294967295"), "{outside}");
    assert_eq!(split(parent.range, None).await.unwrap().hash, 1 << 31);
    let again = refused(split(parent.range, Some(7)).await);
    assert!(again.kind == RefusalKind::Conflict && again.message.contains("already, at 2147483648"), "{again}");
    let shown = plane.range_show(&acme, &users, parent.range).await.unwrap();
    assert_eq!((shown.split_at, shown.health), (Some(1 << 31), RangeHealth::Changing));
    let wished = wish(&cluster, parent.range).await.unwrap();
    let members: BTreeSet<ReplicaId> = wished.split.members.iter().map(|member| member.replica).collect();
    assert_eq!(members, parent.replicas.iter().filter_map(|copy| copy.replica).collect());
    settle(plane, &mut side).await;
    assert_eq!(wish(&cluster, parent.range).await, Some(wished.clone()), "nothing to do before the nodes have done it");

    carry_out(&cluster, &parent, 0, &wished).await;
    let between = plane.range_list(&acme, &users).await.unwrap();
    assert!(between.len() == 2 && between.iter().all(|range| range.health == RangeHealth::Changing), "{between:?}");
    assert_eq!(plane.reconcile().await.unwrap().splits, 1);
    assert_eq!(wish(&cluster, parent.range).await, None);
    let given = assigned(&cluster).await;
    assert_eq!(given.len(), 6);
    for route in routes(&cluster).await {
        for copy in &route.replicas {
            let is_given = |(node, assigned): &&(NodeId, AssignedRange)| {
                *node == copy.node && assigned.range == Some(route.range) && assigned.high_hash == route.high_hash
            };
            let (_, assigned) = given.iter().find(is_given).unwrap();
            assert_eq!((assigned.replica, assigned.replicas.len()), (copy.replica, 3));
        }
    }
    let refused_again = refused(split(parent.range, None).await);
    assert!(refused_again.message.contains("was split already, into"), "{refused_again}");
    // Not before all its members have begun.
    let lower = wished.split.lower;
    let early = refused(split(lower, None).await);
    assert!(early.kind == RefusalKind::Conflict && early.message.contains("not all of its copies"), "{early}");
    let key = layout::route(&acme, &users, 0);
    let mut route: Route = from_json(&cluster.coordinator.get(&key).await.unwrap().unwrap().value).unwrap();
    route.split_from = route.split_from.map(|from| SplitFrom { begun: true, ..from });
    cluster.coordinator.put(&key, to_json(&route), None).await.unwrap();
    split(lower, Some(5)).await.unwrap();
    // They are ranges like any other.
    settle(plane, &mut NodeSide::new(&cluster)).await;
    let upper = plane.range_show(&acme, &users, wished.split.upper).await.unwrap();
    assert_eq!(
        (upper.health, upper.low_hash, upper.split_from.unwrap().range),
        (RangeHealth::Good, 1 << 31, parent.range)
    );
}

#[tokio::test]
async fn a_split_whose_members_have_changed_is_wished_for_anew_with_new_ids() {
    let (cluster, acme, nodes) = cluster(4).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    let parent = made(&cluster, &acme, &mut side).await;
    let (plane, root) = (&cluster.plane, &cluster.root);
    plane.range_split(root, &acme, &users, parent.range, Some(77)).await.unwrap();
    let first = wish(&cluster, parent.range).await.unwrap();
    let holders: Vec<NodeId> = parent.replicas.iter().map(|copy| copy.node).collect();
    let free = *nodes.iter().find(|node| !holders.contains(node)).unwrap();
    let moved = *holders.iter().find(|node| **node != parent.node).unwrap();
    plane.range_move(root, &acme, &users, parent.range, moved, free).await.unwrap();
    let changing = plane.range_split(root, &acme, &users, parent.range, None).await.unwrap_err();
    assert_eq!(changing.kind, RefusalKind::Conflict);
    settle(plane, &mut side).await;
    let second = wish(&cluster, parent.range).await.unwrap();
    assert_eq!(second.split.at, 77);
    let ids = |wish: &RangeWish| -> BTreeSet<uuid::Uuid> {
        let copies = wish.split.members.iter().flat_map(|member| [member.lower.0, member.upper.0]);
        copies.chain([wish.split.lower.0, wish.split.upper.0]).collect()
    };
    assert_eq!(ids(&second).len(), 8);
    assert!(ids(&first).is_disjoint(&ids(&second)));
    let route = routes(&cluster).await.remove(0);
    let members: BTreeSet<ReplicaId> = second.split.members.iter().map(|member| member.replica).collect();
    assert_eq!(members, route.replicas.iter().filter_map(|copy| copy.replica).collect());
    // The first was carried out after all: what counts is where the routes say that they come from.
    carry_out(&cluster, &parent, 0, &first).await;
    assert_eq!(plane.reconcile().await.unwrap().splits, 1);
    assert_eq!(wish(&cluster, parent.range).await, None);
    let ranges: BTreeSet<RangeId> =
        assigned(&cluster).await.iter().filter_map(|(_, assigned)| assigned.range).collect();
    assert_eq!(ranges, [first.split.lower, first.split.upper].into());
}

#[tokio::test]
async fn the_wish_of_a_dropped_table_goes_with_it() {
    let (cluster, acme, _) = cluster(3).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    let parent = made(&cluster, &acme, &mut side).await;
    let (plane, root) = (&cluster.plane, &cluster.root);
    plane.range_split(root, &acme, &users, parent.range, None).await.unwrap();
    plane.delete_table(root, &acme, &users).await.unwrap();
    plane.reconcile().await.unwrap();
    assert_eq!(wish(&cluster, parent.range).await, None);
}
