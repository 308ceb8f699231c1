//! A range is split: what becomes of everything in it, after a crash at each step, and in a snapshot.

use super::*;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::version::ItemVersion;
use crate::replication::command::Command;
use crate::replication::operation::{ClientRequest, Outcome, RequestIdentity};
use crate::replication::request_id;
use crate::replication::split::{ChildReplicas, Split, SplitRefused};
use crate::services::engine::replica::Replica;
use crate::services::engine::{Origin, receipt_hash};
use crate::services::group::pieces::{PieceTarget, Wanted};
use crate::services::group::types::Applied;
use crate::services::ports::{ReceiptState, WriteAnswer};
use crate::services::ranges::RangeService;
use crate::storage::store::Batch;

const AT: u32 = 1 << 31;
const LOWER: u8 = 0x21;
const UPPER: u8 = 0x22;
/// Where the split stands in the logs of these tests.
const PLACE: LogPlace = LogPlace { term: 3, index: 50 };

/// A split of range 1, whose members are these.
fn split(members: &[u8]) -> Split {
    let copies = |number: &u8| {
        let (lower, upper) = (replica_id(0x30 | number), replica_id(0x40 | number));
        (replica_id(*number), ChildReplicas { lower, upper })
    };
    Split { at: AT, lower: range(LOWER), upper: range(UPPER), members: members.iter().map(copies).collect() }
}

fn split_entry(split: &Split) -> Entry {
    Entry::new_normal(log_id(PLACE), Proposed(Command::Split(split.clone()).encode()))
}

fn client(id: &str) -> Operation {
    let request = ClientRequest {
        principal: PrincipalId::from_bytes([1; 16]),
        request_id: RequestId::from_bytes([2; 16]),
        digest: [3; 32],
    };
    Operation { request: Some(RequestIdentity::Client(request)), ..put(id, r#"{"by":"client"}"#) }
}

fn proxy(id: &str) -> Operation {
    let request = request_id::make(Timestamp(30_000_000), [9; 8]);
    Operation { request: Some(RequestIdentity::Proxy(request)), ..put(id, r#"{"by":"proxy"}"#) }
}

/// A receipt of a write of this item.
fn receipt(id: &str) -> ReceiptId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&key(id).hash().to_be_bytes());
    ReceiptId::from_bytes(bytes)
}

fn with_receipt(id: &str) -> Operation {
    Operation { receipt: Some(receipt(id)), ..put(id, "{}") }
}

fn ids() -> impl Iterator<Item = String> {
    (0..40).map(|number| format!("k{number}"))
}

/// 40 items, one of them gone again, and of each kind of memory something.
fn before() -> Vec<Entry> {
    let mut entries: Vec<Entry> = ids().zip(1..).map(|(id, index)| operation(1, index, &put(&id, "{}"))).collect();
    let more = [client("k3"), proxy("k4"), with_receipt("k5"), with_receipt("k6")];
    entries.extend(more.iter().zip(41..).map(|(one, index)| operation(2, index, one)));
    entries.push(operation(2, 45, &Operation { change: Change::Delete, ..put("k7", "{}") }));
    entries.extend((46..50).map(|index| blank(3, index)));
    entries
}

async fn version(node: &Node, replica: &Arc<Replica>, id: &str) -> Option<u64> {
    node.engine.read_applied(replica.clone(), key(id)).await.unwrap().map(|item| item.version.0)
}

fn child_of(id: &str) -> u8 {
    if key(id).hash() < AT { LOWER } else { UPPER }
}

fn child(node: &Node, number: u8) -> Arc<Replica> {
    node.engine.replica_of(range(number)).expect("the child is here")
}

/// A replica of range 1 whose range is split.
async fn split_range(node: &Node) -> GroupParts {
    let mut parts = node.member(1, founding(&[1])).await;
    apply(&mut parts.machine, before()).await;
    apply(&mut parts.machine, vec![split_entry(&split(&[1]))]).await;
    parts
}

/// Each item is in its child, as it was in the parent, and in no other.
async fn check_children(node: &Node) {
    let mut counts = [0; 2];
    for (id, index) in ids().zip(1..) {
        let own = child_of(&id);
        let expected = match id.as_str() {
            "k3" => Some(41),
            "k4" => Some(42),
            "k5" => Some(43),
            "k6" => Some(44),
            "k7" => None,
            _ => Some(index),
        };
        for number in [LOWER, UPPER] {
            let found = version(node, &child(node, number), &id).await;
            assert_eq!(found, expected.filter(|_| number == own), "{id}");
        }
        counts[usize::from(own - LOWER)] += u64::from(expected.is_some());
    }
    let of = |number| child(node, number).item_count().unwrap();
    assert_eq!([of(LOWER), of(UPPER)], counts);
    assert!(counts.iter().all(|count| *count > 5), "both have some: {counts:?}");
    let hashes = [LOWER, UPPER].map(|number| child(node, number).hashes);
    assert_eq!(hashes, [HashRange { low: 0, high: AT - 1 }, HashRange { low: AT, high: u32::MAX }]);
}

#[tokio::test]
async fn items_requests_receipts_and_the_proxies_window_are_with_the_child_that_has_the_hash() {
    for ground in [Ground::files(), Ground::simulated()] {
        let node = ground.start();
        let mut parent = split_range(&node).await;
        check_children(&node).await;
        for number in [LOWER, UPPER] {
            let machine = child(&node, number).machine_state().unwrap().unwrap();
            assert_eq!((machine.applied, machine.membership_at), (PLACE, PLACE));
            let replica = replica_id(if number == LOWER { 0x31 } else { 0x41 });
            assert_eq!(machine.membership, Membership::founding([(replica, NODE)]));
            // What was asked for before comes again, and is known.
            let mut parts = node.wake(number).await;
            let again = [client("k3"), proxy("k4")].map(|one| (child_of("k3"), child_of("k4"), one));
            let mut next = PLACE.index + 1;
            for (of_client, of_proxy, operation_again) in again {
                let is_client = matches!(operation_again.request, Some(RequestIdentity::Client(_)));
                if number == if is_client { of_client } else { of_proxy } {
                    apply(&mut parts.machine, vec![operation(4, next, &operation_again)]).await;
                    next += 1;
                }
            }
            for id in ["k5", "k6"] {
                let known = node.engine.receipt_applied(child(&node, number), receipt(id)).await;
                let hash = receipt_hash(receipt(id));
                assert_eq!(hash, key(id).hash());
                let expected = if id == "k5" { 43 } else { 44 };
                let expected = ReceiptState::Ended(Outcome::Updated(ItemVersion(expected)));
                assert_eq!(known.unwrap(), Some(expected).filter(|_| child_of(id) == number), "{id}");
            }
        }
        check_children(&node).await;
        // The parent says who has each key, and applies nothing behind the split.
        for id in ids() {
            let to = parent.replica.check_split(key(&id).hash()).unwrap_err().moved.unwrap();
            assert_eq!(to.range, range(child_of(&id)));
            assert_eq!(to.hashes, child(&node, child_of(&id)).hashes);
            assert!(node.engine.read_applied(parent.replica.clone(), key(&id)).await.is_err());
        }
        let frozen = parent.replica.digest(&HashRange { low: 1, high: u32::MAX }).unwrap();
        apply(&mut parent.machine, vec![operation(3, 51, &put("k9", r#"{"late":1}"#)), blank(4, 52)]).await;
        let after = parent.replica.digest(&HashRange { low: 1, high: u32::MAX }).unwrap();
        assert_eq!((after.sum, after.place.index), (frozen.sum, 52));
    }
}

#[tokio::test]
async fn a_split_that_does_not_hold_leaves_the_range_as_it_was() {
    let ground = Ground::files();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    apply(&mut parts.machine, before()).await;
    let wrong = [
        (split(&[1, 2]), SplitRefused::Members),
        (Split { at: 0, ..split(&[1]) }, SplitRefused::Hash),
        (Split { lower: range(1), ..split(&[1]) }, SplitRefused::Ids),
    ];
    for ((split, expected), index) in wrong.into_iter().zip(50..) {
        let (engine, replica) = (node.engine.clone(), parts.replica.clone());
        let place = LogPlace { term: 3, index };
        let refused = tokio::task::spawn_blocking(move || engine.split_replica(&replica, place, &split)).await.unwrap();
        assert_eq!(refused.unwrap(), Applied::Split(Err(expected)));
        assert_eq!(parts.replica.applied_index(), index);
    }
    apply(&mut parts.machine, vec![operation(3, 53, &put("k0", "{}"))]).await;
    assert_eq!(version(&node, &parts.replica, "k0").await, Some(53));
    assert!(node.engine.replica_of(range(LOWER)).is_none());
    // Once it is split, it is not split again.
    let place = LogPlace { term: 3, index: 54 };
    let (engine, replica) = (node.engine.clone(), parts.replica.clone());
    let twice = tokio::task::spawn_blocking(move || {
        let other = Split { at: 7, lower: range(0x51), ..split(&[1]) };
        let first = engine.split_replica(&replica, place, &split(&[1])).unwrap();
        (first, engine.split_replica(&replica, LogPlace { index: 55, ..place }, &other).unwrap())
    });
    assert_eq!(twice.await.unwrap(), (Applied::Split(Ok(())), Applied::Split(Err(SplitRefused::Done))));
}

/// An instance of the group that has ended comes to it when more has been applied.
#[tokio::test]
async fn a_split_that_comes_twice_is_judged_once() {
    let (refusing, splitting) = (Ground::files(), Ground::files());
    let node = refusing.start();
    let mut parts = node.member(1, founding(&[1])).await;
    let mut late = node.wake(1).await;
    let entries = || vec![split_entry(&split(&[1, 2])), members(4, 51, &[1, 2])];
    apply(&mut parts.machine, before()).await;
    apply(&mut parts.machine, entries()).await;
    apply(&mut late.machine, entries()).await;
    assert!(parts.replica.split().is_none(), "it was refused, and the members of now do not count");
    assert!(node.engine.replica_of(range(LOWER)).is_none());
    assert_eq!(parts.replica.machine_state().unwrap().unwrap().applied, LogPlace { term: 4, index: 51 });
    let node = splitting.start();
    let mut parts = split_range(&node).await;
    let mut late = node.wake(1).await;
    apply(&mut parts.machine, vec![blank(4, 51)]).await;
    apply(&mut late.machine, vec![split_entry(&split(&[1]))]).await;
    assert_eq!(parts.replica.machine_state().unwrap().unwrap().applied, LogPlace { term: 4, index: 51 });
    assert_eq!(parts.replica.applied_index(), 51, "the state does not go back to the split");
    check_children(&node).await;
}

/// Power goes after the split, before the parent's file has it: the entries are applied again, and the children are not made
/// again, for they have gone on meanwhile.
#[tokio::test]
async fn a_split_that_is_applied_again_after_a_crash_leaves_the_children_alone() {
    for keep_unsynced in [false, true] {
        let ground = Ground::simulated();
        let node = ground.start();
        let mut parts = node.member(1, founding(&[1])).await;
        let mut all = before();
        all.push(split_entry(&split(&[1])));
        append(&mut parts.log, all.clone()).await.unwrap();
        apply(&mut parts.machine, all.clone()).await;
        let mut lower = node.wake(LOWER).await;
        let id = ids().find(|id| child_of(id) == LOWER).unwrap();
        let later = operation(4, PLACE.index + 1, &put(&id, r#"{"later":1}"#));
        append(&mut lower.log, vec![later.clone()]).await.unwrap();
        apply(&mut lower.machine, vec![later.clone()]).await;
        let ground = ground.after_power_cut(keep_unsynced);
        let node = ground.start();
        let parent = node.engine.replica_of(range(1)).unwrap();
        assert!(parent.split().is_some(), "it is known before its file is looked at");
        let mut parts = node.wake(1).await;
        let applied = parts.replica.applied_index();
        assert!(applied < PLACE.index, "the file was cut back to {applied}");
        let rest = all.into_iter().filter(|entry| entry.index() > applied);
        apply(&mut parts.machine, rest.collect()).await;
        assert_eq!(parts.replica.machine_state().unwrap().unwrap().split, parent.split());
        let mut lower = node.wake(LOWER).await;
        assert_eq!(lower.replica.applied_index(), PLACE.index);
        apply(&mut lower.machine, vec![later]).await;
        assert_eq!(version(&node, &lower.replica, &id).await, Some(PLACE.index + 1));
        let mut reader = lower.log.get_log_reader().await;
        let vote = openraft::storage::RaftLogReader::read_vote(&mut reader).await.unwrap().unwrap();
        assert_eq!((vote.leader_id.term, vote.committed), (PLACE.term, false), "it begins in its parent's term");
    }
}

/// What an attempt has left that was cut off before it was registered is made anew.
#[tokio::test]
async fn half_a_child_is_made_anew() {
    for ground in [Ground::files(), Ground::simulated()] {
        let name = ReplicaName { range: range(LOWER), replica: replica_id(0x31), ..record(1).name };
        let stray = ground.keeper.create(name, &[]).unwrap();
        let document = Document::from_json(b"{}").unwrap();
        let item =
            crate::storage::store::ItemWrite { key: key("stray"), version: ItemVersion(1), document: Some(document) };
        stray.write(&Batch { items: vec![item], item_count: 1, ..Batch::default() }).unwrap();
        stray.make_durable().unwrap();
        stray.release();
        drop(stray);
        let node = ground.start();
        split_range(&node).await;
        check_children(&node).await;
        assert_eq!(version(&node, &child(&node, LOWER), "stray").await, None);
    }
}

/// A replica that lags is sent a snapshot behind the split, and makes the same children from it; one that came later makes
/// none.
#[tokio::test]
async fn a_snapshot_behind_the_split_makes_the_same_children() {
    let (one, other, third) = (Ground::files(), Ground::files(), Ground::files());
    let (node, lagging, late) = (one.start(), other.start(), third.start());
    let mut source = node.member(1, founding(&[1, 2])).await;
    apply(&mut source.machine, before()).await;
    apply(&mut source.machine, vec![split_entry(&split(&[1, 2])), members(4, 51, &[1, 2, 3])]).await;
    source.replica.flush().unwrap();
    for (receiver, number) in [(&lagging, 2), (&late, 3)] {
        let record = ReplicaRecord { name: ReplicaName { replica: replica_id(number), ..record(1).name }, ..record(1) };
        receiver.engine.create_member(&record, MemberStart::Joining).unwrap();
        let mut target = receiver.wake(1).await;
        let snapshot = source.machine.get_current_snapshot().await.unwrap().unwrap();
        let mut pieces = snapshot.snapshot.open().unwrap();
        let mut taker = Box::new(receiver.engine.snapshot_target(&target.replica));
        let mut wanted = Wanted::Piece(0);
        while let Wanted::Piece(piece) = wanted {
            wanted = taker.take(&pieces.piece(piece).unwrap().unwrap()).unwrap();
        }
        let received = taker.finish().unwrap();
        target.machine.install_snapshot(&received.meta, received.snapshot).await.unwrap();
        assert_eq!(target.replica.split(), source.replica.split());
        let is_here = |child| receiver.engine.replica_of(range(child)).is_some();
        assert_eq!([is_here(LOWER), is_here(UPPER)], [number == 2; 2]);
        let origin = receiver.engine.origin_of(range(UPPER)).unwrap();
        assert_eq!((origin.parent, origin.children.is_some()), (range(1), number == 2));
    }
    check_children(&lagging).await;
    for number in [LOWER, UPPER] {
        assert_eq!(child(&node, number).hashes, child(&lagging, number).hashes);
        let digest = |node: &Node| child(node, number).digest(&HashRange::FULL).unwrap();
        assert_eq!(digest(&node), digest(&lagging));
    }
    let Some(Origin { children: Some([lower, _]), .. }) = node.engine.origin_of(range(LOWER)) else { panic!() };
    assert_eq!((lower.range, lower.replica), (range(LOWER), replica_id(0x31)));
}

/// A range with one copy, and no write by a proxy's id: its children take the short-cut, before and after a start.
#[tokio::test]
async fn the_children_of_one_copy_are_alone() {
    let ground = Ground::files();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    let entries = ids().zip(1..).map(|(id, index)| operation(1, index, &put(&id, "{}")));
    apply(&mut parts.machine, entries.collect()).await;
    apply(&mut parts.machine, vec![split_entry(&split(&[1]))]).await;
    let mut next = [PLACE.index + 1; 2];
    for id in ids() {
        let next = &mut next[usize::from(child_of(&id) - LOWER)];
        let answer = node.engine.write(address(child_of(&id)), put(&id, r#"{"by":"itself"}"#), false).await.unwrap();
        assert_eq!(answer, WriteAnswer::Applied(Outcome::Updated(ItemVersion(*next))), "above all of its parent's");
        *next += 1;
    }
    let engine = node.engine.clone();
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
    drop((parts, node));
    let node = ground.start();
    for id in ids() {
        let replica = child(&node, child_of(&id));
        assert!(!replica.is_grouped());
        assert!(version(&node, &replica, &id).await > Some(PLACE.index));
    }
    let origin = node.engine.origin_of(range(LOWER)).unwrap();
    assert_eq!((origin.parent, origin.children.is_some()), (range(1), true));
}
