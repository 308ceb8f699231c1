//! What an operator asks of nodes and ranges, with nodes that obey.

use super::node_side::NodeSide;
use super::placement::{cluster, routes, settle};
use crate::coordination::layout;
use crate::coordination::values::{NodeDetails, NodeStatus, from_json, to_json};
use crate::domain::ids::{NodeId, Role};
use crate::domain::{RefusalKind, TenantName};
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::control::{ControlOptions, HAND_OVER_SECONDS, JoinRequest, RemoveNode};
use crate::services::ports::Catalog;

async fn held(cluster: &Cluster, node: NodeId) -> usize {
    cluster.plane.node_ranges(node).await.unwrap().len()
}

/// The node's own word, as after a restart.
async fn says(cluster: &Cluster, node: NodeId, status: NodeStatus) {
    let key = layout::node_details(node);
    let details: NodeDetails = from_json(&cluster.coordinator.get(&key).await.unwrap().unwrap().value).unwrap();
    cluster.coordinator.put(&key, to_json(&NodeDetails { status, ..details }), None).await.unwrap();
}

async fn status(cluster: &Cluster, node: NodeId) -> NodeStatus {
    cluster.plane.node_list().await.unwrap().into_iter().find(|one| one.id == node).unwrap().status
}

async fn made(cluster: &Cluster, acme: &TenantName, ranges: u16, factor: u8) {
    cluster.plane.create_table(&cluster.root, acme, &table("users"), specification(ranges, factor)).await.unwrap();
}

#[tokio::test]
async fn a_drained_node_is_emptied_also_over_its_restart_and_can_go() {
    let (cluster, acme, nodes) = cluster(4).await;
    let mut side = NodeSide::new(&cluster);
    made(&cluster, &acme, 8, 3).await;
    cluster.plane.create_table(&cluster.root, &acme, &table("single"), specification(8, 1)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    assert!(held(&cluster, nodes[0]).await > 0);
    let refused = cluster.plane.node_remove(&cluster.root, nodes[0], RemoveNode::default()).await.unwrap_err();
    assert!(refused.message.contains("node drain"), "{refused}");
    cluster.plane.node_drain(&cluster.root, nodes[0]).await.unwrap();
    says(&cluster, nodes[0], NodeStatus::Okay).await;
    assert_eq!(status(&cluster, nodes[0]).await, NodeStatus::Draining, "the operator's word counts");
    settle(&cluster.plane, &mut side).await;
    assert_eq!(held(&cluster, nodes[0]).await, 0);
    assert!(routes(&cluster).await.iter().all(|route| route.replicas.iter().all(|copy| copy.node != nodes[0])));
    cluster.plane.create_table(&cluster.root, &acme, &table("more"), specification(8, 3)).await.unwrap();
    assert_eq!(held(&cluster, nodes[0]).await, 0, "nothing new comes either");
    cluster.plane.node_remove(&cluster.root, nodes[0], RemoveNode::default()).await.unwrap();
    let history = cluster.plane.history(&format!("node/{}", nodes[0]), None, 10).await.unwrap();
    assert_eq!(history.versions[1].after.as_ref().unwrap()["wish"], "drain");
}

#[tokio::test]
async fn a_node_whose_copies_could_go_nowhere_is_not_drained() {
    let (cluster, acme, nodes) = cluster(3).await;
    let mut side = NodeSide::new(&cluster);
    made(&cluster, &acme, 2, 3).await;
    settle(&cluster.plane, &mut side).await;
    let refused = cluster.plane.node_drain(&cluster.root, nodes[0]).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(refused.message.contains("2 ranges") && refused.message.contains("Start another node"), "{refused}");
    assert_eq!(status(&cluster, nodes[0]).await, NodeStatus::Okay);
    // What was begun while there was room waits when the room is gone, and says so.
    let fourth = cluster.node(4, "a").await;
    cluster.alive(fourth, true).await;
    cluster.plane.node_drain(&cluster.root, nodes[0]).await.unwrap();
    side.fall_silent(fourth).await;
    cluster.plane.reconcile().await.unwrap();
    assert_eq!(cluster.plane.node_stuck(nodes[0]).await.unwrap(), 2);
    assert_eq!(
        cluster.plane.node_drain(&cluster.root, NodeId::from_bytes([9; 16])).await.unwrap_err().kind,
        RefusalKind::NotFound
    );
    side.come_back(fourth).await;
    settle(&cluster.plane, &mut side).await;
    assert_eq!((held(&cluster, nodes[0]).await, cluster.plane.node_stuck(nodes[0]).await.unwrap()), (0, 0));
}

#[tokio::test]
async fn a_node_that_is_given_up_is_replaced_at_once_and_stays_given_up() {
    let (cluster, acme, nodes) = cluster(4).await;
    let mut side = NodeSide::new(&cluster);
    made(&cluster, &acme, 8, 3).await;
    settle(&cluster.plane, &mut side).await;
    side.fall_silent(nodes[1]).await;
    cluster.plane.node_status_set(&cluster.root, nodes[1], NodeStatus::Down).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    assert_eq!(held(&cluster, nodes[1]).await, 0);
    side.come_back(nodes[1]).await;
    says(&cluster, nodes[1], NodeStatus::Okay).await;
    assert_eq!(status(&cluster, nodes[1]).await, NodeStatus::Down);
    cluster.plane.create_table(&cluster.root, &acme, &table("more"), specification(8, 3)).await.unwrap();
    assert_eq!(held(&cluster, nodes[1]).await, 0);
    cluster.plane.node_status_set(&cluster.root, nodes[1], NodeStatus::Okay).await.unwrap();
    assert_eq!(status(&cluster, nodes[1]).await, NodeStatus::Okay);
}

#[tokio::test]
async fn a_stopped_node_keeps_what_it_has_until_the_delay_is_over() {
    let (cluster, acme, nodes) = cluster(4).await;
    let mut side = NodeSide::new(&cluster);
    made(&cluster, &acme, 8, 3).await;
    settle(&cluster.plane, &mut side).await;
    let before = held(&cluster, nodes[1]).await;
    says(&cluster, nodes[1], NodeStatus::Down).await;
    side.fall_silent(nodes[1]).await;
    settle(&cluster.plane, &mut side).await;
    assert_eq!(held(&cluster, nodes[1]).await, before);
    assert!(cluster.plane.node_list().await.unwrap().iter().any(|node| node.status == NodeStatus::Down));
}

#[tokio::test]
async fn leaderships_are_handed_over_for_a_while_and_copies_stay() {
    let (cluster, acme, nodes) = cluster(3).await;
    let mut side = NodeSide::new(&cluster);
    made(&cluster, &acme, 6, 3).await;
    settle(&cluster.plane, &mut side).await;
    let leads = async || {
        let all = cluster.plane.node_list().await.unwrap();
        all.into_iter().map(|node| (node.leads, node.ranges)).collect::<Vec<_>>()
    };
    assert_eq!(leads().await, [(2, 6), (2, 6), (2, 6)]);
    cluster.plane.node_hand_over(&cluster.root, nodes[0]).await.unwrap();
    assert_eq!(cluster.plane.node_leads_shared(nodes[0]).await.unwrap(), 2);
    settle(&cluster.plane, &mut side).await;
    assert_eq!(leads().await, [(0, 6), (3, 6), (3, 6)]);
    assert_eq!(cluster.plane.node_leads_shared(nodes[0]).await.unwrap(), 0);
    cluster.clock.forward(HAND_OVER_SECONDS);
    settle(&cluster.plane, &mut side).await;
    assert_eq!(leads().await.iter().map(|(leads, _)| leads).sum::<usize>(), 6);
    assert!(leads().await[0].0 >= 1, "it leads again");
}

#[tokio::test]
async fn a_leader_and_a_copy_move_where_they_are_told_to() {
    let (cluster, acme, nodes) = cluster(4).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    made(&cluster, &acme, 1, 3).await;
    settle(&cluster.plane, &mut side).await;
    let (plane, root) = (&cluster.plane, &cluster.root);
    let range = plane.range_list(&acme, &users).await.unwrap().remove(0);
    let holders: Vec<NodeId> = range.replicas.iter().map(|copy| copy.node).collect();
    let other = *holders.iter().find(|node| **node != range.leader).unwrap();
    let free = *nodes.iter().find(|node| !holders.contains(node)).unwrap();
    let kind = |outcome: Result<(), crate::domain::Refusal>| outcome.unwrap_err().kind;
    assert_eq!(kind(plane.range_lead(root, &acme, &users, range.range, free).await), RefusalKind::Conflict);
    assert_eq!(kind(plane.range_lead(root, &acme, &table("none"), range.range, other).await), RefusalKind::NotFound);
    plane.range_lead(root, &acme, &users, range.range, other).await.unwrap();
    let wish = plane.range_show(&acme, &users, range.range).await.unwrap();
    assert_eq!((wish.leader, wish.wished_leader), (range.leader, Some(other)));
    settle(plane, &mut side).await;
    let led = plane.range_show(&acme, &users, range.range).await.unwrap();
    assert_eq!((led.leader, led.wished_leader), (other, None));

    let move_it = async |from, to| plane.range_move(root, &acme, &users, range.range, from, to).await;
    assert_eq!(kind(move_it(free, other).await), RefusalKind::Conflict, "nothing is there to move");
    assert_eq!(kind(move_it(other, holders[0]).await), RefusalKind::Conflict, "one copy on a node");
    side.fall_silent(free).await;
    assert_eq!(kind(move_it(other, free).await), RefusalKind::Conflict, "it is not heard");
    side.come_back(free).await;
    move_it(other, free).await.unwrap();
    assert_eq!(kind(move_it(other, free).await), RefusalKind::Conflict, "it is changing");
    let coming = plane.range_show(&acme, &users, range.range).await.unwrap();
    assert_eq!(coming.coming.iter().map(|copy| copy.node).collect::<Vec<_>>(), [free]);
    assert!(coming.replicas.iter().any(|copy| copy.node == other && copy.is_leaving));
    settle(plane, &mut side).await;
    let moved = plane.range_show(&acme, &users, range.range).await.unwrap();
    let on: Vec<NodeId> = moved.replicas.iter().map(|copy| copy.node).collect();
    assert!(on.contains(&free) && !on.contains(&other) && on.len() == 3 && moved.leader != other, "{moved:?}");
    let history = plane.history(&format!("range/{}", range.range), None, 10).await.unwrap();
    assert_eq!(history.versions.len(), 2);
}

#[tokio::test]
async fn formats_are_raised_when_every_node_knows_them_and_old_programs_stay_out() {
    let (cluster, acme, nodes) = cluster(2).await;
    made(&cluster, &acme, 1, 1).await;
    let newer = cluster.with(ControlOptions { program_format: 2, ..ControlOptions::default() }).await;
    let knows = async |node: NodeId, format: u32| {
        let key = layout::node_details(node);
        let details: NodeDetails = from_json(&cluster.coordinator.get(&key).await.unwrap().unwrap().value).unwrap();
        let details = NodeDetails { format: Some(format), ..details };
        cluster.coordinator.put(&key, to_json(&details), None).await.unwrap();
    };
    let nothing = cluster.plane.upgrade_finish(&cluster.root).await.unwrap();
    assert_eq!((nothing.format, nothing.can_finish), (1, false), "there is nothing newer than this program knows");
    knows(nodes[0], 2).await;
    let status = newer.upgrade_status().await.unwrap();
    assert_eq!((status.format, status.program_format, status.can_finish), (1, 2, false));
    assert_eq!(
        status.nodes.iter().map(|node| (node.format, node.is_awaited)).collect::<Vec<_>>(),
        [(2, false), (1, true)]
    );
    let refused = newer.upgrade_finish(&cluster.root).await.unwrap_err();
    assert!(refused.kind == RefusalKind::Conflict && refused.message.contains("node-2"), "{refused}");
    knows(nodes[1], 2).await;
    assert!(newer.upgrade_status().await.unwrap().can_finish);
    assert_eq!(newer.upgrade_finish(&cluster.root).await.unwrap().format, 2);
    assert_eq!(newer.upgrade_finish(&cluster.root).await.unwrap().format, 2, "again is nothing");
    let invitation = newer.invite(&cluster.root, Role::Node, None, None).await.unwrap();
    let join = async |format: Option<u32>| {
        let (_, certificate_request_pem) = crate::transport::pki::certificate_request().unwrap();
        let asked = JoinRequest {
            token: invitation.token.to_string(),
            role: Role::Node,
            certificate_request_pem,
            uri: Some("https://n:8080/".to_owned()),
            inside_uri: None,
            zone: None,
            format,
        };
        newer.join(asked).await
    };
    let too_old = join(Some(1)).await.err().unwrap();
    assert!(too_old.kind == RefusalKind::Conflict && too_old.message.contains("install a newer dstore"), "{too_old}");
    join(Some(2)).await.unwrap();
    let old = crate::services::control::testing::open(&cluster.coordinator, &cluster.control_key, &cluster.clock).await;
    assert!(old.err().unwrap().message.contains("install a newer dstore"));
    let outdated = crate::services::control::check_cluster_format(cluster.coordinator.as_ref()).await.unwrap_err();
    assert!(outdated.message.contains("version 2") && outdated.message.contains("up to 1 only"), "{outdated}");
}
