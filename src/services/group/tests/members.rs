//! Members of groups: founded, begun from a replica without a group, applied to, started again, removed.

use super::*;
use crate::domain::RefusalKind;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::version::ItemVersion;
use crate::replication::operation::{ClientRequest, Outcome, RequestIdentity};
use crate::services::engine::replica::{Peek, Replica};
use crate::services::ports::{Consistency, ReceiptState, WriteAnswer};
use crate::services::ranges::RangeService;

async fn version(node: &Node, replica: &Arc<Replica>, id: &str) -> Option<u64> {
    node.engine.read_applied(replica.clone(), key(id)).await.unwrap().map(|item| item.version.0)
}

/// A bit of everything: items, deletions, a request that comes twice, a receipt.
fn history() -> Vec<Entry> {
    let request = ClientRequest {
        principal: PrincipalId::from_bytes([1; 16]),
        request_id: RequestId::from_bytes([2; 16]),
        digest: [3; 32],
    };
    let once = Operation { request: Some(RequestIdentity::Client(request)), ..put("b", r#"{"n":2}"#) };
    let with_receipt = Operation { receipt: Some(ReceiptId::from_bytes([5; 16])), ..put("c", r#"{"n":[1,{}]}"#) };
    vec![
        blank(1, 1),
        operation(1, 2, &put("a", r#"{"n":1}"#)),
        operation(1, 3, &once),
        operation(1, 4, &once),
        operation(2, 5, &with_receipt),
        operation(2, 6, &Operation { change: Change::Delete, ..put("a", "{}") }),
    ]
}

#[tokio::test]
async fn the_same_entries_make_the_same_state_wherever_and_whenever_they_are_flushed() {
    let mut digests = Vec::new();
    for (ground, flush_after) in [(Ground::files(), 1), (Ground::files(), 3), (Ground::simulated(), 100)] {
        let node = ground.start();
        let mut parts = node.member(1, founding(&[1])).await;
        for (entry, number) in history().into_iter().zip(1..) {
            apply(&mut parts.machine, vec![entry]).await;
            if number % flush_after == 0 {
                parts.replica.flush().unwrap();
            }
        }
        assert_eq!(version(&node, &parts.replica, "b").await, Some(3), "the repeat changed nothing");
        assert_eq!(parts.replica.item_count().unwrap(), 2);
        let receipt = node.engine.receipt_applied(parts.replica.clone(), ReceiptId::from_bytes([5; 16])).await.unwrap();
        assert_eq!(receipt, Some(ReceiptState::Ended(Outcome::Created(ItemVersion(5)))));
        let half = HashRange { low: 0, high: u32::MAX / 2 };
        digests.push((parts.replica.digest(&HashRange::FULL).unwrap(), parts.replica.digest(&half).unwrap()));
        assert_eq!(digests.last().unwrap().0.place, LogPlace { term: 2, index: 6 });
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
    let node = Ground::simulated().start();
    let mut parts = node.member(1, founding(&[1])).await;
    apply(&mut parts.machine, history().into_iter().take(5).collect()).await;
    assert_ne!(parts.replica.digest(&HashRange::FULL).unwrap().sum, digests[0].0.sum, "another state shows");
}

/// What is not in the file is applied again after a start, from the log, and comes to the same.
#[tokio::test]
async fn a_start_goes_on_from_the_file() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    append(&mut parts.log, history()).await.unwrap();
    apply(&mut parts.machine, history()[..3].to_vec()).await;
    parts.replica.flush().unwrap();
    parts.replica.file().make_durable().unwrap();
    apply(&mut parts.machine, history()[3..].to_vec()).await;
    let again = ground.after_power_cut(false).start();
    let mut parts = again.wake(1).await;
    let (applied, membership) = parts.machine.applied_state().await.unwrap();
    assert_eq!(applied, Some(log_id(LogPlace { term: 1, index: 3 })));
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [replica_id(1)]);
    assert!(parts.replica.needs_wake());
    apply(&mut parts.machine, history()[3..].to_vec()).await;
    assert!(!parts.replica.needs_wake());
    let other = Ground::simulated().start();
    let mut whole = other.member(1, founding(&[1])).await;
    apply(&mut whole.machine, history()).await;
    assert_eq!(
        parts.replica.digest(&HashRange::FULL).unwrap(),
        whole.replica.digest(&HashRange::FULL).unwrap(),
        "interrupted or not"
    );
}

#[tokio::test]
async fn a_range_becomes_a_group_of_one_and_loses_nothing() {
    for ground in [Ground::files(), Ground::simulated()] {
        let node = ground.start();
        node.engine.create_replica(&record(1)).unwrap();
        for number in 0..20 {
            let answer = node.engine.write(address(1), put(&format!("k{number}"), "{}"), false).await.unwrap();
            assert!(matches!(answer, WriteAnswer::Applied(Outcome::Created(_))));
        }
        node.engine.begin_group(range(1), NODE).await.unwrap();
        node.engine.begin_group(range(1), NODE).await.unwrap();
        let refused = node.engine.write(address(1), put("late", "{}"), false).await.unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Unavailable, "it is asked through its group now");
        assert!(node.engine.read(address(1), key("k1"), Consistency::Strong).await.is_err());
        let last = LogPlace { term: 1, index: 20 };
        let mut parts = node.wake(1).await;
        let (applied, membership) = parts.machine.applied_state().await.unwrap();
        assert_eq!((applied, membership.log_id()), (Some(log_id(last)), &Some(log_id(last))));
        assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [replica_id(1)]);
        append(&mut parts.log, vec![operation(2, 21, &put("k1", r#"{"new":1}"#))]).await.unwrap();
        apply(&mut parts.machine, vec![operation(2, 21, &put("k1", r#"{"new":1}"#))]).await;
        assert_eq!(version(&node, &parts.replica, "k1").await, Some(21));
        assert!(matches!(parts.replica.peek(&key("k1")), Peek::Known(Some(_))));
        if ground.memory.is_some() {
            let again = ground.after_power_cut(false).start();
            let mut parts = again.wake(1).await;
            assert_eq!(parts.machine.applied_state().await.unwrap().0, Some(log_id(last)));
            assert!(parts.replica.needs_wake(), "entry 21 is in the log");
            assert_eq!(version(&again, &parts.replica, "k19").await, Some(20));
        } else {
            let engine = node.engine.clone();
            tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
        }
    }
}

/// Writers that come while the range becomes a group are answered, and what was acknowledged is in the group's state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_when_a_group_begins_is_settled_first() {
    let ground = Ground::simulated();
    let node = ground.start();
    node.engine.create_replica(&record(1)).unwrap();
    let mut writers = Vec::new();
    for number in 0..200 {
        let engine = node.engine.clone();
        writers.push(tokio::spawn(async move {
            engine.write(address(1), put(&format!("k{number}"), "{}"), false).await.is_ok()
        }));
    }
    node.engine.begin_group(range(1), NODE).await.unwrap();
    let mut acknowledged = 0;
    let replica = node.wake(1).await.replica;
    for (number, writer) in writers.into_iter().enumerate() {
        if writer.await.unwrap() {
            acknowledged += 1;
            assert!(version(&node, &replica, &format!("k{number}")).await.is_some());
        }
    }
    assert_eq!(replica.applied_index(), acknowledged);
    assert_eq!(replica.machine_in_file().unwrap().applied.index, acknowledged);
}

#[tokio::test]
async fn a_member_that_was_moved_away_is_gone_at_once() {
    let ground = Ground::files();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1, 2])).await;
    append(&mut parts.log, vec![blank(1, 1)]).await.unwrap();
    assert!(node.engine.remove_member(range(1), replica_id(9)).is_err(), "not that one");
    node.engine.remove_member(range(1), replica_id(1)).unwrap();
    assert!(node.engine.group_parts(range(1)).await.is_err());
    assert!(node.database.replicas().unwrap().is_empty());
    let mut other = record(1);
    other.name.replica = replica_id(7);
    node.engine.create_member(&other, MemberStart::Joining).unwrap();
    let parts = node.wake(1).await;
    assert_eq!(parts.replica.group_log().unwrap().bounds(), (None, None), "nothing of the one before");
}

/// A file that lost what was synced to it is no member any more: it must not vote with what is left.
#[tokio::test]
async fn a_file_that_lost_something_is_out_of_service() {
    let ground = Ground::files();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    apply(&mut parts.machine, history()).await;
    let engine = node.engine.clone();
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
    let name = parts.replica.name;
    drop((parts, node));
    ground.keeper.remove(name).unwrap();
    ground.keeper.create(name, &[]).unwrap();
    let node = ground.start();
    let refused = node.engine.group_parts(range(1)).await.err().unwrap();
    assert_eq!(refused.kind, RefusalKind::Damaged);
    assert!(node.notices.take().iter().any(|notice| notice.details.contains("out of service")));
}
