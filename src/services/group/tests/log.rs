//! A group's log: what is acknowledged is synced, and comes back.

use openraft::storage::RaftLogReader;
use openraft::type_config::alias::OneshotReceiverOf;

use super::*;
use crate::services::group::types::Vote;

/// Begins to append, and does not wait for the disk.
async fn begin(log: &mut GroupLog, entries: Vec<Entry>) -> OneshotReceiverOf<Types, std::io::Result<()>> {
    let (sender, synced) = Types::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await.unwrap();
    synced
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn indexes(log: &mut GroupLog) -> Vec<u64> {
    let entries = log.get_log_reader().await.try_get_log_entries(..).await.unwrap();
    entries.iter().map(RaftEntry::index).collect()
}

#[tokio::test]
async fn groups_share_syncs_and_nobody_waits_for_one() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut one = node.member(1, founding(&[1])).await;
    let mut other = node.member(2, founding(&[2])).await;
    append(&mut one.log, vec![blank(1, 1)]).await.unwrap();
    let before = node.engine.log().stats().syncs;
    ground.simulated.hold_syncs(true);
    let mut waiting = vec![begin(&mut one.log, vec![blank(1, 2)]).await];
    assert!(ground.simulated.wait_for_held_sync());
    waiting.push(begin(&mut one.log, vec![blank(1, 3)]).await);
    waiting.push(begin(&mut one.log, vec![blank(1, 4), blank(1, 5)]).await);
    waiting.push(begin(&mut other.log, vec![blank(1, 1)]).await);
    assert_eq!(indexes(&mut one.log).await, [1, 2, 3, 4, 5], "readable at once");
    ground.simulated.hold_syncs(false);
    for synced in waiting {
        synced.await.unwrap().unwrap();
    }
    assert_eq!(node.engine.log().stats().syncs - before, 2, "one for the first, one for all that came meanwhile");
}

#[tokio::test]
async fn a_vote_is_synced_before_it_is_given() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    ground.simulated.hold_syncs(true);
    let vote = Vote::new_committed(7, replica_id(9));
    let mut reader = parts.log.get_log_reader().await;
    let saving = tokio::spawn(async move { parts.log.save_vote(&vote).await });
    let simulated = ground.simulated.clone();
    assert!(tokio::task::spawn_blocking(move || simulated.wait_for_held_sync()).await.unwrap());
    assert!(!saving.is_finished());
    assert_eq!(reader.read_vote().await.unwrap(), None, "it is not given yet");
    ground.simulated.hold_syncs(false);
    saving.await.unwrap().unwrap();
    let again = ground.after_power_cut(false).start();
    let mut parts = again.wake(1).await;
    assert_eq!(parts.log.get_log_reader().await.read_vote().await.unwrap(), Some(vote));
}

#[tokio::test]
async fn what_was_acknowledged_comes_back_and_what_was_truncated_does_not() {
    for keep_unsynced in [false, true] {
        let ground = Ground::simulated();
        let node = ground.start();
        let mut parts = node.member(1, founding(&[1])).await;
        append(&mut parts.log, (1..=6).map(|index| blank(1, index)).collect()).await.unwrap();
        parts.log.truncate_after(Some(log_id(LogPlace { term: 1, index: 3 }))).await.unwrap();
        append(&mut parts.log, vec![blank(2, 4)]).await.unwrap();
        let again = ground.after_power_cut(keep_unsynced).start();
        let mut parts = again.wake(1).await;
        assert!(parts.replica.needs_wake(), "what is not applied is to be");
        assert_eq!(indexes(&mut parts.log).await, [1, 2, 3, 4]);
        let state = parts.log.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id, Some(log_id(LogPlace { term: 2, index: 4 })));
        assert_eq!(state.last_purged_log_id, Some(log_id(LogPlace::default())), "founded as if from a snapshot");
    }
}

#[tokio::test]
async fn only_the_newest_handle_writes() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut old = node.member(1, founding(&[1])).await;
    let mut new = node.wake(1).await;
    assert!(append(&mut old.log, vec![blank(1, 1)]).await.is_err());
    assert!(old.log.save_vote(&Vote::new(1, replica_id(1))).await.is_err());
    append(&mut new.log, vec![blank(1, 1)]).await.unwrap();
    assert!(append(&mut new.log, vec![blank(1, 3)]).await.is_err(), "no gap");
}

#[tokio::test]
async fn a_failed_disk_is_an_error_and_groups_are_made_anew() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    append(&mut parts.log, vec![blank(1, 1)]).await.unwrap();
    ground.simulated.fail_sync_after(0);
    assert!(append(&mut parts.log, vec![blank(1, 2)]).await.is_err());
    assert!(parts.log.save_vote(&Vote::new(1, replica_id(1))).await.is_err());
    let engine = node.engine.clone();
    tokio::task::spawn_blocking(move || engine.look_after()).await.unwrap();
    assert!(append(&mut parts.log, vec![blank(1, 2)]).await.is_err(), "the old handle stays dead");
    assert!(parts.replica.is_closed());
    let mut parts = node.wake(1).await;
    assert_eq!(indexes(&mut parts.log).await.first(), Some(&1), "what was acknowledged is there");
    let next = parts.replica.group_log().unwrap().last_index() + 1;
    append(&mut parts.log, vec![blank(1, next)]).await.unwrap();
}

/// Entries that a full disk refuses are waited out: nothing is acknowledged before, nothing fails, and no gap is left.
#[tokio::test]
async fn a_full_disk_is_waited_out() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    append(&mut parts.log, vec![blank(1, 1)]).await.unwrap();
    ground.simulated.set_capacity(Some(0));
    let mut waiting = Vec::new();
    let text = format!(r#"{{"pad":"{}"}}"#, "x".repeat(20_000));
    for index in 2..12 {
        waiting.push(begin(&mut parts.log, vec![operation(1, index, &put("a", &text))]).await);
    }
    wait_until("the disk is full", || node.engine.log().stats().disk_full).await;
    ground.simulated.set_capacity(None);
    for synced in waiting {
        synced.await.unwrap().unwrap();
    }
    let mut parts = ground.after_power_cut(false).start().wake(1).await;
    assert_eq!(indexes(&mut parts.log).await, (1..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_tail_is_kept_and_the_rest_is_purged() {
    use crate::services::group::kept_log::TAIL_ENTRIES;
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    let last = TAIL_ENTRIES as u64 + 100;
    append(&mut parts.log, (1..=last).map(|index| blank(1, index)).collect()).await.unwrap();
    assert_eq!(parts.replica.purge_point(), None, "nothing is in the file");
    apply(&mut parts.machine, (1..=last).map(|index| blank(1, index)).collect()).await;
    node.engine.flusher().ask_for_durability();
    wait_until("the flusher has done its round", || parts.replica.durable_index() >= last).await;
    let point = parts.replica.purge_point().unwrap();
    assert_eq!(point, 100);
    parts.log.purge(log_id(LogPlace { term: 1, index: point })).await.unwrap();
    assert_eq!((indexes(&mut parts.log).await.len(), parts.replica.purge_point()), (TAIL_ENTRIES, None));
    parts.replica.rest(0);
    assert!(append(&mut parts.log, vec![blank(1, last + 1)]).await.is_err(), "it sleeps");
    let mut parts = node.wake(1).await;
    assert!(indexes(&mut parts.log).await.is_empty());
    append(&mut parts.log, vec![blank(1, last + 1)]).await.unwrap();
    let mut parts = ground.after_power_cut(false).start().wake(1).await;
    assert_eq!(indexes(&mut parts.log).await.last(), Some(&(last + 1)));
}

/// A group that sleeps while a member is away keeps the end of its log for that one.
#[tokio::test]
async fn a_tail_of_so_many_bytes_is_kept_at_rest() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    append(&mut parts.log, (1..=100).map(|index| blank(1, index)).collect()).await.unwrap();
    apply(&mut parts.machine, (1..=90).map(|index| blank(1, index)).collect()).await;
    node.engine.flusher().ask_for_durability();
    wait_until("the flusher has done its round", || parts.replica.durable_index() >= 90).await;
    let bytes = parts.replica.log_bytes();
    parts.replica.rest(bytes);
    assert_eq!(parts.replica.log_bytes(), bytes, "all of it has room");
    parts.replica.rest(bytes / 4);
    assert_eq!(indexes(&mut node.wake(1).await.log).await, (76..=100).collect::<Vec<_>>());
    parts.replica.rest(0);
    assert_eq!(indexes(&mut node.wake(1).await.log).await, (91..=100).collect::<Vec<_>>(), "the file has the others");
}

#[tokio::test]
async fn a_membership_counts_before_it_is_applied() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    let replica = node.engine.group_replica(range(1)).unwrap();
    let (place, membership) = replica.last_membership().unwrap().unwrap();
    assert_eq!((place.index, membership.members.len()), (0, 1));
    append(&mut parts.log, vec![blank(1, 1), members(1, 2, &[1, 2]), blank(1, 3)]).await.unwrap();
    let (place, membership) = replica.last_membership().unwrap().unwrap();
    assert_eq!((place.index, membership.members.len()), (2, 2), "it is in the log, and not applied");
    assert_eq!(replica.applied_index(), 0);
    parts.log.truncate_after(Some(log_id(LogPlace { term: 1, index: 1 }))).await.unwrap();
    assert_eq!(replica.last_membership().unwrap().unwrap().0.index, 0, "what is truncated counts no more");
}
