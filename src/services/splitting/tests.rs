//! Wishes for splits, over a real coordinator and groups that say what they are asked for.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::coordination::values::{SplitMember, SplitWish, to_json};
use crate::domain::ids::{NodeId, ReplicaId, TableId};
use crate::domain::{TableName, TenantName};
use crate::replication::split::Split;
use crate::services::group::ports::GroupStatus;
use crate::services::publishing::tests::{Fixture, leading, served};

/// Groups of a node that carry out splits, one of which is refused at first.
struct Groups {
    standing: Mutex<BTreeMap<RangeId, GroupStatus>>,
    alone: Mutex<BTreeSet<RangeId>>,
    refused: Mutex<BTreeSet<RangeId>>,
    asked: Mutex<Vec<(RangeId, u32)>>,
    changed: broadcast::Sender<RangeId>,
}

#[async_trait]
impl GroupOperations for Groups {
    fn status(&self, range: RangeId) -> Option<GroupStatus> {
        self.standing.lock().get(&range).cloned()
    }

    fn changes(&self) -> broadcast::Receiver<RangeId> {
        self.changed.subscribe()
    }

    async fn add_learner(&self, _: RangeId, _: ReplicaId, _: NodeId) -> Result<(), Refusal> {
        unreachable!("a split changes no members")
    }

    async fn change_voters(&self, _: RangeId, _: BTreeSet<ReplicaId>) -> Result<(), Refusal> {
        unreachable!("a split changes no members")
    }

    async fn hand_over(&self, _: RangeId, _: ReplicaId) -> Result<(), Refusal> {
        unreachable!("a split changes no leader")
    }
}

#[async_trait]
impl SplitOperations for Groups {
    async fn split(&self, range: RangeId, split: Split) -> Result<(), Refusal> {
        self.asked.lock().push((range, split.at));
        match self.refused.lock().remove(&range) {
            true => Err(Refusal::conflict("the members have changed")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Surroundings for Groups {
    fn is_alone(&self, range: RangeId) -> bool {
        self.alone.lock().contains(&range)
    }

    async fn begin_group(&self, range: RangeId) -> Result<(), Refusal> {
        self.alone.lock().remove(&range);
        self.standing.lock().insert(range, leading(&served(range.as_bytes()[0]), 1, 1));
        let _ = self.changed.send(range);
        Ok(())
    }

    fn wake(&self, _: RangeId) {}

    fn is_heard(&self, _: NodeId) -> bool {
        true
    }
}

fn range(number: u8) -> RangeId {
    served(number).range
}

fn wish(at: u32) -> RangeWish {
    let id = ReplicaId::from_bytes;
    RangeWish {
        tenant: TenantName::new("acme").unwrap(),
        table: TableName::new("users").unwrap(),
        table_uuid: TableId::from_bytes([1; 16]),
        split: SplitWish {
            at,
            lower: RangeId::from_bytes([0x51; 16]),
            upper: RangeId::from_bytes([0x52; 16]),
            members: vec![SplitMember { replica: id([1; 16]), lower: id([2; 16]), upper: id([3; 16]) }],
        },
    }
}

/// Waits until so many splits were asked for; which.
async fn until_asked(groups: &Groups, count: usize) -> Vec<(RangeId, u32)> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while groups.asked.lock().len() < count {
        assert!(Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut asked = groups.asked.lock().clone();
    asked.sort_unstable();
    asked
}

#[tokio::test]
async fn leaders_split_what_is_wished_for_until_it_is_done() {
    let fixture = Fixture::new();
    let groups = Arc::new(Groups {
        standing: Mutex::default(),
        alone: Mutex::new([range(3)].into()),
        refused: Mutex::new([range(1)].into()),
        asked: Mutex::default(),
        changed: broadcast::Sender::new(4),
    });
    groups.standing.lock().insert(range(1), leading(&served(1), 1, 1));
    let followed = GroupStatus { is_leader: false, ..leading(&served(2), 1, 1) };
    groups.standing.lock().insert(range(2), followed);
    for number in 1..=4 {
        let key = layout::control_range(range(number));
        fixture.coordinator.put(&key, to_json(&wish(u32::from(number))), None).await.unwrap();
    }
    let splitting = Splitting::new(fixture.coordinator.clone(), groups.clone(), groups.clone(), groups.clone());
    let follows = tokio::spawn(splitting.follow());
    // The one that is refused is asked for again; the one that is alone becomes a group first; what others lead, or is not
    // here, is left to others.
    assert_eq!(until_asked(&groups, 3).await, [(range(1), 1), (range(1), 1), (range(3), 3)]);
    // A change of leaders is heard of.
    groups.standing.lock().insert(range(2), leading(&served(2), 1, 2));
    let _ = groups.changed.send(range(2));
    assert_eq!(until_asked(&groups, 4).await[2], (range(2), 2));
    // Another wish for the same range is another one.
    fixture.coordinator.put(&layout::control_range(range(1)), to_json(&wish(9)), None).await.unwrap();
    assert!(until_asked(&groups, 5).await.contains(&(range(1), 9)));
    follows.abort();
}
