//! Groups that are ended because the engine has taken their replicas out of service.

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::*;
use crate::domain::Random;
use crate::services::assignments::GroupInstances;
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
