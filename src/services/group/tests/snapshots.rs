//! Snapshots: whatever a replica is kept in, another one becomes the same by them, and a crash leaves one or the other.

use super::*;
use crate::services::engine::replica::Replica;
use crate::services::group::pieces::{PieceError, PieceTarget, Wanted};
use crate::services::group::snapshot::{GroupSnapshot, SnapshotData};

/// A member with a few megabytes, so that a snapshot has several pieces.
async fn filled(node: &Node, number: u8) -> GroupParts {
    let mut parts = node.member(number, founding(&[number])).await;
    let text = |index: u64| format!(r#"{{"pad":"{}","n":{index}}}"#, "x".repeat(30_000));
    let entries = (1..=60).map(|index| operation(1, index, &put(&format!("k{index}"), &text(index))));
    apply(&mut parts.machine, entries.collect()).await;
    parts
}

async fn snapshot_of(parts: &mut GroupParts) -> GroupSnapshot {
    parts.replica.flush().unwrap();
    parts.machine.get_current_snapshot().await.unwrap().unwrap()
}

fn digest(replica: &Replica) -> crate::services::engine::StateDigest {
    replica.digest(&HashRange::FULL).unwrap()
}

/// Sends all pieces, some of them twice, out of order, or damaged.
fn send(snapshot: &SnapshotData, target: &mut dyn PieceTarget) -> u32 {
    let mut source = snapshot.open().unwrap();
    let mut wanted = Wanted::Piece(0);
    let mut count = 0;
    while let Wanted::Piece(number) = wanted {
        let piece = source.piece(number).unwrap().unwrap();
        let mut damaged = piece.to_vec();
        damaged[piece.len() / 2] ^= 1;
        assert!(matches!(target.take(&damaged.into()), Err(PieceError::Damaged(_))));
        wanted = target.take(&piece).unwrap();
        assert_eq!(source.piece(number).unwrap().unwrap(), piece, "asked for again, it is the same");
        assert_eq!(target.take(&piece).unwrap(), wanted, "taken again, it changes nothing");
        count = number + 1;
    }
    assert!(source.piece(count).unwrap().is_none());
    count
}

async fn round_trip(from: &Ground, to: &Ground) {
    let (one, other) = (from.start(), to.start());
    let mut source = filled(&one, 1).await;
    let mut target = other.member(1, MemberStart::Joining).await;
    let snapshot = snapshot_of(&mut source).await;
    let mut taker = Box::new(other.engine.snapshot_target(&target.replica));
    assert!(send(&snapshot.snapshot, &mut *taker) > 2);
    let received = taker.finish().unwrap();
    assert_eq!(received.meta, snapshot.meta);
    target.machine.install_snapshot(&received.meta, received.snapshot).await.unwrap();
    assert_eq!(digest(&source.replica), digest(&target.replica));
    assert_eq!(target.machine.applied_state().await.unwrap(), source.machine.applied_state().await.unwrap());
    assert_eq!(target.replica.item_count().unwrap(), 60);
    // Both go on the same way.
    let next = || {
        vec![
            operation(2, 61, &put("k1", "{}")),
            operation(2, 62, &Operation { change: Change::Delete, ..put("k2", "{}") }),
        ]
    };
    apply(&mut source.machine, next()).await;
    apply(&mut target.machine, next()).await;
    assert_eq!(digest(&source.replica), digest(&target.replica));
}

#[tokio::test]
async fn a_snapshot_makes_the_same_replica() {
    round_trip(&Ground::files(), &Ground::files()).await;
    round_trip(&Ground::files(), &Ground::simulated()).await;
    round_trip(&Ground::simulated(), &Ground::simulated()).await;
}

/// What is written while a snapshot is sent is not in it, and a broken transfer goes on where it was.
#[tokio::test]
async fn a_snapshot_is_of_one_moment_and_goes_on_after_a_break() {
    let ground = Ground::files();
    let node = ground.start();
    let mut source = filled(&node, 1).await;
    let mut target = node.member(2, MemberStart::Joining).await;
    let snapshot = snapshot_of(&mut source).await;
    let expected = digest(&source.replica);
    let mut pieces = snapshot.snapshot.open().unwrap();
    let mut taker = Box::new(node.engine.snapshot_target(&target.replica));
    assert_eq!(taker.take(&pieces.piece(0).unwrap().unwrap()).unwrap(), Wanted::Piece(1));
    // Another reader of the same state goes on where the first one was.
    let mut again = snapshot.snapshot.open().unwrap();
    assert_eq!(again.identity(), pieces.identity());
    assert_eq!(taker.take(&again.piece(1).unwrap().unwrap()).unwrap(), Wanted::Piece(2));
    apply(&mut source.machine, vec![operation(1, 61, &put("later", "{}"))]).await;
    source.replica.flush().unwrap();
    let mut wanted = Wanted::Piece(2);
    while let Wanted::Piece(number) = wanted {
        wanted = taker.take(&pieces.piece(number).unwrap().unwrap()).unwrap();
    }
    let received = taker.finish().unwrap();
    target.machine.install_snapshot(&received.meta, received.snapshot).await.unwrap();
    assert_eq!(digest(&target.replica), expected);
    // A reader that begins now shows the later state, and a target begins anew with it.
    let mut taker = Box::new(node.engine.snapshot_target(&target.replica));
    assert_eq!(taker.take(&pieces.piece(0).unwrap().unwrap()).unwrap(), Wanted::Piece(1));
    let mut later = snapshot.snapshot.open().unwrap();
    assert_eq!(taker.take(&later.piece(1).unwrap().unwrap()).unwrap(), Wanted::Piece(0));
    assert!(matches!(taker.finish(), Err(PieceError::Incomplete)));
    // Two never write into one file: the later one has the right to it.
    let mut older = node.engine.snapshot_target(&target.replica);
    assert_eq!(older.take(&later.piece(0).unwrap().unwrap()).unwrap(), Wanted::Piece(1));
    let mut newer = node.engine.snapshot_target(&target.replica);
    assert!(matches!(older.take(&later.piece(1).unwrap().unwrap()), Err(PieceError::Store(_))));
    assert_eq!(newer.take(&later.piece(0).unwrap().unwrap()).unwrap(), Wanted::Piece(1));
}

/// A crash before the snapshot is the replica's leaves the old state, one after it the new one, and no other file.
#[tokio::test]
async fn a_crash_leaves_the_old_state_or_the_new_one() {
    for installed in [false, true] {
        let (from, to) = (Ground::simulated(), Ground::simulated());
        let (one, other) = (from.start(), to.start());
        let mut source = filled(&one, 1).await;
        let mut target = other.member(1, founding(&[1, 2])).await;
        append(&mut target.log, (1..=5).map(|index| blank(1, index)).collect()).await.unwrap();
        apply(&mut target.machine, (1..=3).map(|index| blank(1, index)).collect()).await;
        let before = digest(&target.replica);
        target.replica.file().make_durable().unwrap();
        let snapshot = snapshot_of(&mut source).await;
        let name = target.replica.name;
        let mut taker = Box::new(other.engine.snapshot_target(&target.replica));
        send(&snapshot.snapshot, &mut *taker);
        let received = taker.finish().unwrap();
        if installed {
            target.machine.install_snapshot(&received.meta, received.snapshot).await.unwrap();
        }
        let again = to.after_power_cut(true).start();
        let parts = again.wake(1).await;
        let expected = if installed { digest(&source.replica) } else { before };
        assert_eq!(digest(&parts.replica), expected, "installed: {installed}");
        let kept = parts.replica.group_log().unwrap();
        assert_eq!(kept.last_index(), if installed { 60 } else { 5 }, "what the snapshot covers is void");
        let files: Vec<_> =
            (0..3).filter(|number| to.keeper.open(name.file(*number)).unwrap().state().is_ok()).collect();
        assert_eq!(files, [u64::from(installed)]);
    }
}

/// Real files: an installed snapshot is there after a stop, under the number of its file.
#[tokio::test]
async fn an_installed_snapshot_outlives_a_stop() {
    let ground = Ground::files();
    let node = ground.start();
    let mut source = filled(&node, 1).await;
    let mut target = node.member(2, MemberStart::Joining).await;
    for _ in 0..2 {
        let snapshot = snapshot_of(&mut source).await;
        target.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
        let next = target.replica.applied_index() + 1;
        apply(&mut source.machine, vec![operation(3, next, &put("more", "{}"))]).await;
        apply(&mut target.machine, vec![operation(3, next, &put("more", "{}"))]).await;
    }
    assert_eq!(target.replica.group_file(), Some(2));
    let expected = digest(&source.replica);
    let engine = node.engine.clone();
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
    drop((node, source, target));
    let node = ground.start();
    let parts = node.wake(2).await;
    assert_eq!(digest(&parts.replica), expected);
    assert!(node.notices.take().is_empty());
}
