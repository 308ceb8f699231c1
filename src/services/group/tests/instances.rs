//! Two instances of one replica's group: one that has ended still has entries to apply, and the next one, which was told where
//! the state stood before that, has the same ones. What is applied counts, so that twice would show.

use std::ops::RangeInclusive;

use super::*;
use crate::expression::{Path, Update, Value};
use crate::services::engine::replica::Replica;

/// Entries each of which adds one to the same number.
fn counts(indexes: RangeInclusive<u64>) -> Vec<Entry> {
    let one = Value::new(Document::from_json(br#"{"v":1}"#).unwrap().get("v").unwrap()).unwrap();
    let update = Update { adds: vec![(Path::attribute("n"), one)], ..Update::default() };
    let count = Operation { change: Change::Update(Box::new(update)), ..put("a", "{}") };
    indexes.map(|index| operation(1, index, &count)).collect()
}

async fn counted(node: &Node, replica: &Arc<Replica>) -> Option<String> {
    node.engine.read_applied(replica.clone(), key("a")).await.unwrap().map(|item| item.document.to_json())
}

/// One that has ended, and the next one.
async fn instances(node: &Node) -> [GroupParts; 2] {
    let ended = node.member(1, founding(&[1])).await;
    [ended, node.wake(1).await]
}

#[tokio::test]
async fn what_two_instances_have_is_applied_once() {
    let (ground, other) = (Ground::simulated(), Ground::simulated());
    let (node, once) = (ground.start(), other.start());
    let [mut ended, mut next] = instances(&node).await;
    assert!(Arc::ptr_eq(&ended.replica, &next.replica));
    tokio::join!(apply(&mut ended.machine, counts(1..=3)), apply(&mut next.machine, counts(1..=5)));
    // The state is further than what comes now.
    apply(&mut ended.machine, counts(4..=4)).await;
    assert_eq!(next.replica.applied_index(), 5, "it does not go back");
    assert_eq!(next.machine.applied_state().await.unwrap().0, Some(log_id(LogPlace { term: 1, index: 5 })));
    assert_eq!(counted(&node, &next.replica).await.as_deref(), Some(r#"{"n":5}"#));
    let mut whole = once.member(1, founding(&[1])).await;
    apply(&mut whole.machine, counts(1..=5)).await;
    let digest = |parts: &GroupParts| parts.replica.digest(&HashRange::FULL).unwrap();
    assert_eq!(digest(&next), digest(&whole));
}

/// The next instance has taken in a snapshot, in which some of it is.
#[tokio::test]
async fn what_is_in_a_snapshot_is_not_applied_again_by_an_instance_that_has_ended() {
    let ground = Ground::simulated();
    let node = ground.start();
    let [mut ended, mut next] = instances(&node).await;
    let mut source = node.member(2, founding(&[2])).await;
    apply(&mut source.machine, counts(1..=4)).await;
    source.replica.flush().unwrap();
    apply(&mut ended.machine, counts(1..=2)).await;
    let snapshot = source.machine.get_current_snapshot().await.unwrap().unwrap();
    next.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    apply(&mut ended.machine, counts(3..=3)).await;
    assert_eq!((next.replica.applied_index(), next.replica.group_file()), (4, Some(1)));
    assert_eq!(counted(&node, &next.replica).await.as_deref(), Some(r#"{"n":4}"#));
    apply(&mut ended.machine, counts(4..=5)).await;
    assert_eq!(counted(&node, &next.replica).await.as_deref(), Some(r#"{"n":5}"#), "nothing is missed either");
}

/// What has ended has applied more than the next instance knows of, to which such a snapshot is news.
#[tokio::test]
async fn a_snapshot_of_before_does_not_take_the_states_place() {
    let ground = Ground::simulated();
    let node = ground.start();
    let [mut ended, mut next] = instances(&node).await;
    let mut source = node.member(2, founding(&[2])).await;
    apply(&mut source.machine, counts(1..=2)).await;
    source.replica.flush().unwrap();
    apply(&mut ended.machine, counts(1..=3)).await;
    let snapshot = source.machine.get_current_snapshot().await.unwrap().unwrap();
    assert!(next.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.is_err());
    assert_eq!((next.replica.applied_index(), next.replica.group_file()), (3, Some(0)));
    assert_eq!(next.replica.damage(), None, "it is as good as before");
    apply(&mut next.machine, counts(3..=4)).await;
    assert_eq!(counted(&node, &next.replica).await.as_deref(), Some(r#"{"n":4}"#));
}
