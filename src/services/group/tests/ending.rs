//! Groups that are ended: because the engine has taken their replicas out of service, or all of them because the node stops.

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::*;
use crate::domain::Random;
use crate::services::assignments::GroupInstances;
use crate::services::group::awake::Purpose;
use crate::services::group::host::{Groups, GroupsParts};
use crate::services::group::network::{GroupNetworks, NetworkOptions};
use crate::services::group::slots::{Slot, SlotCounts};
use crate::transport::links::{LinkOptions, Links};
use crate::transport::memory::MemoryNetwork;

/// The groups of a node that reaches no other.
fn groups_of(node: &Node) -> Arc<Groups> {
    let random: Arc<dyn Random> = Arc::new(SystemRandom::default());
    let carrier = MemoryNetwork::direct().carrier(NODE);
    let links = Arc::new(Links::new(carrier, Handle::current(), LinkOptions::default()));
    let networks = GroupNetworks::new(links, &*random, NetworkOptions::default());
    Groups::new(GroupsParts { node: NODE, engine: node.engine.clone(), networks, random }).unwrap()
}

/// Whoever wakes it has fetched its parts while its replica was good, and is not done when that is over.
#[tokio::test]
async fn a_group_that_is_just_waking_is_ended_too() {
    let ground = Ground::simulated();
    let node = ground.start();
    node.engine.create_member(&record(1), founding(&[1])).unwrap();
    let groups = groups_of(&node);
    let waking = groups.slots.lock().begin(range(1));
    let group = groups.open(range(1), None).await.unwrap();
    group.replica.mark_damaged("it is of no use any more".to_owned());
    let mut ending = GroupInstances::end(&*groups, range(1));
    assert!(ending.as_mut().now_or_never().is_none(), "it waits for the end of the waking");
    groups.slots.lock().set(range(1), Slot::Awake(group));
    drop(waking);
    ending.await;
    let stats = groups.stats();
    assert_eq!((stats.slots, stats.fallen_asleep), (SlotCounts::default(), 1), "nothing of it is left");
}

/// Nobody wakes it again after the stop, but whoever did before is not done.
#[tokio::test]
async fn a_group_that_is_just_waking_is_stopped_too() {
    let ground = Ground::simulated();
    let node = ground.start();
    node.engine.create_member(&record(1), founding(&[1])).unwrap();
    let groups = groups_of(&node);
    let waking = groups.slots.lock().begin(range(1));
    let group = groups.open(range(1), None).await.unwrap();
    let mut stopping = Box::pin(groups.stop());
    assert!(stopping.as_mut().now_or_never().is_none(), "it waits for the end of the waking");
    groups.slots.lock().set(range(1), Slot::Awake(group));
    drop(waking);
    stopping.await;
    let stats = groups.stats();
    assert_eq!((stats.slots.awake, stats.slots.asleep, stats.fallen_asleep), (0, 1, 1), "it has ended");
    assert!(groups.wake(range(1), Purpose::Request).await.is_err(), "and is not woken again");
}

/// The log of one that wakes has to be synced first. A disk that takes no more would hold up the stop for ever.
#[tokio::test]
async fn a_waking_that_waits_for_its_disk_is_given_up_by_the_stop() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    ground.simulated.hold_syncs(true);
    let (sender, _synced) = Types::oneshot();
    parts.log.append(vec![blank(1, 1)], IOFlushed::signal(sender)).await.unwrap();
    assert!(ground.simulated.wait_for_held_sync());
    let groups = groups_of(&node);
    let mut waking = Box::pin(groups.wake(range(1), Purpose::Request));
    assert!(waking.as_mut().now_or_never().is_none(), "it has begun");
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(60), groups.stop()).await;
    assert!(stopped.is_ok(), "it waits for the disk");
    assert!(waking.await.is_err());
    assert_eq!(groups.stats().slots, SlotCounts::default(), "nothing of it is left");
    ground.simulated.hold_syncs(false);
}

/// Nobody serves its replica any more, so there is nothing to wait for either.
#[tokio::test]
async fn a_waking_that_waits_for_its_disk_is_given_up_where_its_replica_goes() {
    let ground = Ground::simulated();
    let node = ground.start();
    let mut parts = node.member(1, founding(&[1])).await;
    ground.simulated.hold_syncs(true);
    let (sender, _synced) = Types::oneshot();
    parts.log.append(vec![blank(1, 1)], IOFlushed::signal(sender)).await.unwrap();
    assert!(ground.simulated.wait_for_held_sync());
    let groups = groups_of(&node);
    let mut waking = Box::pin(groups.wake(range(1), Purpose::Request));
    assert!(waking.as_mut().now_or_never().is_none(), "it has begun");
    // It has fetched its replica when it waits for the first time.
    tokio::task::yield_now().await;
    node.engine.retire_replica(range(1)).unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), GroupInstances::end(&*groups, range(1))).await;
    assert!(ended.is_ok(), "it waits for the disk");
    assert!(waking.await.is_err());
    assert_eq!(groups.stats().slots, SlotCounts::default(), "nothing of it is left");
    ground.simulated.hold_syncs(false);
}

/// The time of one that has failed is not the next one's.
#[tokio::test]
async fn only_the_last_attempt_to_hand_over_ends_a_leader() {
    let ground = Ground::simulated();
    let node = ground.start();
    node.engine.create_member(&record(1), founding(&[1])).unwrap();
    let groups = groups_of(&node);
    let group = groups.wake(range(1), Purpose::Upkeep).await.unwrap();
    let attempts = [1, 1].map(|term| group.begin_hand_over(term));
    assert_eq!(attempts.map(|attempt| group.is_last_hand_over(attempt)), [false, true]);
    drop(group);
    groups.stop().await;
}
