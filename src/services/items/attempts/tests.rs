//! The table of the essay, row by row.

use super::*;
use crate::domain::hash::HashRange;
use crate::domain::ids::RangeId;

fn address(number: u8) -> Arc<NodeAddress> {
    Arc::new(NodeAddress::new(node(number), format!("https://node-{number}:8080/"), None))
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn route(copies: u8) -> RangeRoute {
    let replica = |number| RangeReplica { address: address(number), state: ReplicaState::Voter };
    RangeRoute {
        range: RangeId::from_bytes([9; 16]),
        hashes: HashRange::FULL,
        leader: address(0),
        epoch: 7,
        replicas: (0..copies).map(replica).collect(),
    }
}

fn asked(next: &Next) -> (NodeId, Duration) {
    match next {
        Next::Ask(address, pause) => (address.node, *pause),
        Next::Tell(refusal) => panic!("told {refusal:?}"),
    }
}

fn told(next: Next) -> RefusalKind {
    match next {
        Next::Ask(address, _) => panic!("asks {}", address.node),
        Next::Tell(refusal) => refusal.kind,
    }
}

/// Simulated time passes.
async fn wait(pause: Duration) {
    tokio::time::advance(pause).await;
}

fn not_here(leader: Option<u8>) -> Refusal {
    Refusal::wrong_node("not here", leader.map(node))
}

fn unreached() -> Refusal {
    Refusal { unreached: true, ..Refusal::unavailable("away", 1) }
}

fn unknown() -> Refusal {
    Refusal::new(RefusalKind::OutcomeUnknown, "no answer")
}

#[tokio::test(start_paused = true)]
async fn the_leader_that_is_named_is_asked_at_once() {
    let route = route(3);
    let next = Attempts::new(true).after(&route, Some(&route), not_here(Some(2)));
    assert_eq!(asked(&next), (node(2), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_name_each_other_are_not_followed_for_ever() {
    let route = route(3);
    let mut attempts = Attempts::new(true);
    let mut pauses = 0;
    for turn in 0..20 {
        let here = RangeRoute { leader: address(turn % 2), ..route.clone() };
        let (_, pause) = asked(&attempts.after(&here, Some(&route), not_here(Some(1 - turn % 2))));
        pauses += u32::from(!pause.is_zero());
    }
    assert!(pauses >= 4, "{pauses}");
}

#[tokio::test(start_paused = true)]
async fn every_copy_comes_in_turn_while_nobody_leads_until_time_is_over() {
    let route = route(3);
    let mut attempts = Attempts::new(true);
    let mut used = route.clone();
    let mut seen = std::collections::BTreeSet::new();
    let begun = Instant::now();
    let last = loop {
        match attempts.after(&used, Some(&route), if seen.len() % 2 == 0 { unreached() } else { not_here(None) }) {
            Next::Tell(refusal) => break refusal,
            Next::Ask(next, pause) => {
                assert!(!pause.is_zero() && pause <= PAUSE_MAX);
                assert_ne!(next.node, used.leader.node);
                seen.insert(next.node);
                used.leader = next;
                wait(pause).await;
            }
        }
    };
    assert_eq!(seen.len(), 3);
    assert!(begun.elapsed() >= TIME_MAX && begun.elapsed() < TIME_MAX + PAUSE_MAX);
    assert!(matches!(last.kind, RefusalKind::Unavailable | RefusalKind::WrongNode));
}

#[tokio::test(start_paused = true)]
async fn a_range_with_one_copy_is_asked_once() {
    for refusal in [unreached(), unknown(), not_here(None), Refusal::unavailable("busy", 1)] {
        let (kind, route) = (refusal.kind, route(1));
        assert_eq!(told(Attempts::new(true).after(&route, Some(&route), refusal)), kind);
    }
    let (old, new) = (route(1), RangeRoute { leader: address(5), epoch: 8, ..route(1) });
    let mut attempts = Attempts::new(false);
    assert_eq!(asked(&attempts.after(&old, Some(&new), not_here(None))), (node(5), Duration::ZERO));
    assert_eq!(told(attempts.after(&new, Some(&new), not_here(None))), RefusalKind::WrongNode);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_cannot_be_told_from_its_repeat_is_not_repeated() {
    let route = route(3);
    assert_eq!(told(Attempts::new(false).after(&route, Some(&route), unknown())), RefusalKind::OutcomeUnknown);
    asked(&Attempts::new(true).after(&route, Some(&route), unknown()));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_never_told_as_if_it_had_not() {
    let route = route(3);
    let mut attempts = Attempts::new(true);
    asked(&attempts.after(&route, Some(&route), unknown()));
    tokio::time::advance(TIME_MAX).await;
    assert_eq!(told(attempts.after(&route, Some(&route), unreached())), RefusalKind::OutcomeUnknown);
    // What was decided about the write is told as it is.
    let mut attempts = Attempts::new(true);
    asked(&attempts.after(&route, Some(&route), unknown()));
    let reused = Refusal::new(RefusalKind::RequestIdReused, "another body");
    assert_eq!(told(attempts.after(&route, Some(&route), reused)), RefusalKind::RequestIdReused);
}

#[tokio::test(start_paused = true)]
async fn a_busy_node_is_not_asked_without_end() {
    let route = route(3);
    let mut attempts = Attempts::new(true);
    for _ in 0..BUSY_MAX {
        asked(&attempts.after(&route, Some(&route), Refusal::unavailable("full", 1)));
    }
    assert_eq!(told(attempts.after(&route, Some(&route), Refusal::unavailable("full", 1))), RefusalKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_location_is_for_the_client() {
    let route = route(3);
    let elsewhere = Refusal { location: Some("https://there/".into()), ..not_here(Some(1)) };
    assert_eq!(told(Attempts::new(true).after(&route, Some(&route), elsewhere)), RefusalKind::WrongNode);
}
