//! Groups that do as they are told, and the steps that their leaders take.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::*;
use crate::coordination::values::AssignedReplica;
use crate::replication::machine_state::LogPlace;
use crate::replication::membership::Membership;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// The copy of a range that is on the node of the same number.
fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn range(number: u8) -> RangeId {
    RangeId::from_bytes([number; 16])
}

fn members(numbers: &[u8]) -> Membership {
    Membership::founding(numbers.iter().map(|number| (replica(*number), node(*number))))
}

/// Groups as this cluster's node 1 sees them, and the node itself. A change takes an entry; a learner is empty until
/// the test fills it.
struct Cluster {
    groups: Mutex<HashMap<RangeId, GroupStatus>>,
    alone: Mutex<BTreeSet<RangeId>>,
    silent: Mutex<BTreeSet<NodeId>>,
    woken: Mutex<BTreeSet<RangeId>>,
    /// Changes fail before they are made, or after: their answer is lost.
    failing: Mutex<Option<Failing>>,
    changes_made: Mutex<Vec<(RangeId, Taken)>>,
    at_once: Mutex<HashMap<RangeId, usize>>,
    changed: broadcast::Sender<RangeId>,
}

#[derive(Clone, Copy)]
enum Failing {
    Before,
    After,
}

impl Cluster {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            groups: Mutex::default(),
            alone: Mutex::default(),
            silent: Mutex::default(),
            woken: Mutex::default(),
            failing: Mutex::default(),
            changes_made: Mutex::default(),
            at_once: Mutex::default(),
            changed: broadcast::Sender::new(64),
        })
    }

    /// A group of these, led by the copy on node 1.
    fn lead(&self, number: u8, numbers: &[u8]) {
        let matched = numbers.iter().map(|number| (replica(*number), 1_000)).collect();
        let status = GroupStatus {
            range: range(number),
            replica: replica(1),
            term: 1,
            leader: Some(replica(1)),
            is_leader: true,
            is_awake: true,
            membership: members(numbers),
            membership_at: LogPlace { term: 1, index: 1 },
            last_index: 1_000,
            committed: 1_000,
            applied: 1_000,
            matched,
        };
        self.groups.lock().insert(range(number), status);
    }

    fn membership(&self, number: u8) -> Membership {
        self.groups.lock()[&range(number)].membership.clone()
    }

    fn voters(&self, number: u8) -> BTreeSet<ReplicaId> {
        let membership = self.membership(number);
        assert!(!membership.is_joint());
        membership.voters[0].clone()
    }

    /// The copy has caught up.
    fn fill(&self, number: u8, copy: u8) {
        let mut groups = self.groups.lock();
        let group = groups.get_mut(&range(number)).unwrap();
        group.matched.insert(replica(copy), group.last_index);
    }

    fn made(&self) -> Vec<(RangeId, Taken)> {
        std::mem::take(&mut self.changes_made.lock())
    }

    /// Makes a change, unless it is to fail.
    async fn change(&self, of: RangeId, taken: Taken, make: impl FnOnce(&mut GroupStatus)) -> Result<(), Refusal> {
        *self.at_once.lock().entry(of).or_default() += 1;
        // Others get their turn while it is under way.
        tokio::task::yield_now().await;
        let lost = || Refusal::unavailable("no answer came", 1);
        let failing = self.failing.lock().take();
        let outcome = match failing {
            Some(Failing::Before) => Err(lost()),
            _ => {
                let mut groups = self.groups.lock();
                let group = groups.get_mut(&of).ok_or_else(|| Refusal::unavailable("no such group", 1))?;
                assert!(group.is_leader, "only leaders are asked");
                make(group);
                group.last_index += 1;
                group.committed = group.last_index;
                group.membership_at = LogPlace { term: group.term, index: group.last_index };
                self.changes_made.lock().push((of, taken));
                if failing.is_some() { Err(lost()) } else { Ok(()) }
            }
        };
        let before = std::mem::take(self.at_once.lock().get_mut(&of).unwrap());
        assert_eq!(before, 1, "never two changes of one range at once");
        outcome
    }
}

#[async_trait]
impl GroupOperations for Cluster {
    fn status(&self, range: RangeId) -> Option<GroupStatus> {
        self.groups.lock().get(&range).cloned()
    }

    fn changes(&self) -> broadcast::Receiver<RangeId> {
        self.changed.subscribe()
    }

    async fn add_learner(&self, of: RangeId, replica: ReplicaId, node: NodeId) -> Result<(), Refusal> {
        let make = |group: &mut GroupStatus| {
            group.membership.members.insert(replica, node);
        };
        self.change(of, Taken::AddLearner(replica, node), make).await
    }

    async fn change_voters(&self, of: RangeId, voters: BTreeSet<ReplicaId>) -> Result<(), Refusal> {
        let taken = Taken::ChangeVoters(voters.clone());
        self.change(of, taken, |group| {
            assert!(voters.iter().all(|voter| group.membership.members.contains_key(voter)));
            group.membership.members.retain(|member, _| voters.contains(member));
            group.membership.voters = vec![voters];
        })
        .await
    }

    async fn hand_over(&self, of: RangeId, to: ReplicaId) -> Result<(), Refusal> {
        let make = |group: &mut GroupStatus| (group.leader, group.is_leader) = (Some(to), false);
        self.change(of, Taken::HandOver(to), make).await
    }
}

#[async_trait]
impl Surroundings for Cluster {
    fn is_alone(&self, range: RangeId) -> bool {
        self.alone.lock().contains(&range)
    }

    async fn begin_group(&self, of: RangeId) -> Result<(), Refusal> {
        self.changes_made.lock().push((of, Taken::BeginGroup));
        self.alone.lock().remove(&of);
        self.lead(of.as_bytes()[0], &[1]);
        Ok(())
    }

    fn wake(&self, range: RangeId) {
        self.woken.lock().insert(range);
    }

    fn is_heard(&self, node: NodeId) -> bool {
        !self.silent.lock().contains(&node)
    }
}

/// What control wants of a range of which node 1 has a copy.
fn wanted(copies: &[u8], leader: Option<u8>) -> GivenRange {
    let wanted = copies.iter().map(|number| AssignedReplica { node: node(*number), replica: replica(*number) });
    GivenRange { replica: replica(1), wanted: wanted.collect(), leader: leader.map(node) }
}

struct Fixture {
    cluster: Arc<Cluster>,
    plan: watch::Sender<Arc<Given>>,
    leaders: Reconfiguring,
}

impl Fixture {
    fn new() -> Self {
        let (cluster, plan) = (Cluster::new(), watch::Sender::new(Arc::<Given>::default()));
        let leaders = Reconfiguring::new(cluster.clone(), cluster.clone(), plan.subscribe());
        Self { cluster, plan, leaders }
    }

    /// Control wants this of the range.
    fn want(&self, number: u8, given: GivenRange) {
        self.plan.send_modify(|plan| drop(Arc::make_mut(plan).insert(range(number), given)));
    }

    /// The node is killed, and starts again.
    fn restart(&mut self) {
        self.leaders = Reconfiguring::new(self.cluster.clone(), self.cluster.clone(), self.plan.subscribe());
    }

    /// Looks once, and does nothing of what it began.
    fn look(&mut self) -> usize {
        self.leaders.hear();
        self.leaders.look();
        self.leaders.under_way.len()
    }

    /// Looks and does until nothing can be done now. What was put off is looked at again once.
    async fn settle(&mut self) {
        let later = std::mem::take(&mut self.leaders.later);
        self.leaders.pending.extend(later);
        self.leaders.welcome();
        self.leaders.hear();
        loop {
            self.leaders.look();
            let Some(ended) = self.leaders.steps.join_next().await else { return };
            let (range, taken, outcome) = ended.unwrap();
            self.leaders.ended(range, &taken, outcome);
        }
    }
}

#[tokio::test]
async fn a_copy_alone_becomes_a_group_of_three() {
    let mut fixture = Fixture::new();
    fixture.cluster.alone.lock().insert(range(1));
    fixture.want(1, wanted(&[1], None));
    fixture.settle().await;
    assert!(fixture.cluster.made().is_empty(), "one copy is what it is to have");
    fixture.want(1, wanted(&[1, 2, 3], None));
    fixture.settle().await;
    let expected = [Taken::BeginGroup, Taken::AddLearner(replica(2), node(2)), Taken::AddLearner(replica(3), node(3))];
    assert_eq!(fixture.cluster.made(), expected.map(|taken| (range(1), taken)));
    fixture.cluster.fill(1, 2);
    fixture.settle().await;
    assert!(fixture.cluster.made().is_empty(), "they wait for the last of them");
    fixture.cluster.fill(1, 3);
    fixture.settle().await;
    assert_eq!(fixture.cluster.membership(1), members(&[1, 2, 3]));
    fixture.settle().await;
    assert_eq!(fixture.cluster.made().len(), 1, "and nothing is left to do");
}

#[tokio::test]
async fn a_group_that_nobody_has_led_since_the_start_is_woken_where_something_is_wanted_of_it() {
    let mut fixture = Fixture::new();
    for number in [1, 2, 3] {
        fixture.cluster.lead(number, &[1, 2]);
        let mut groups = fixture.cluster.groups.lock();
        let group = groups.get_mut(&range(number)).unwrap();
        (group.is_awake, group.is_leader) = (false, false);
        // The third fell asleep with a leader, which does what is to be done.
        group.leader = (number == 3).then(|| replica(2));
    }
    fixture.want(1, wanted(&[1, 2, 3], None));
    fixture.want(2, wanted(&[1, 2], None));
    fixture.want(3, wanted(&[1, 2, 3], None));
    fixture.settle().await;
    assert_eq!(*fixture.cluster.woken.lock(), [range(1)].into());
    assert!(fixture.cluster.made().is_empty());
}

#[tokio::test]
async fn who_leads_and_is_to_go_hands_over_first() {
    let mut fixture = Fixture::new();
    fixture.cluster.lead(1, &[1, 2, 3]);
    fixture.want(1, wanted(&[2, 3, 4], None));
    fixture.settle().await;
    fixture.cluster.fill(1, 4);
    fixture.settle().await;
    let made: Vec<Taken> = fixture.cluster.made().into_iter().map(|(_, taken)| taken).collect();
    assert_eq!(made, [Taken::AddLearner(replica(4), node(4)), Taken::HandOver(replica(2))]);
    assert!(fixture.cluster.voters(1).contains(&replica(1)), "the next leader takes it out");
    fixture.settle().await;
    assert!(fixture.cluster.made().is_empty(), "who follows changes nothing");
}

#[tokio::test]
async fn each_step_is_repeated_after_an_interruption_and_done_once() {
    for failing in [Failing::Before, Failing::After] {
        for at in 0..3 {
            let mut fixture = Fixture::new();
            fixture.cluster.lead(1, &[1, 2, 3]);
            fixture.want(1, wanted(&[1, 2, 4], None));
            for round in 0..6 {
                *fixture.cluster.failing.lock() = (round == at).then_some(failing);
                fixture.settle().await;
                // What was under way is forgotten, whatever came of it.
                fixture.restart();
                if fixture.cluster.membership(1).members.contains_key(&replica(4)) {
                    fixture.cluster.fill(1, 4);
                }
            }
            *fixture.cluster.failing.lock() = None;
            fixture.settle().await;
            assert_eq!(fixture.cluster.membership(1), members(&[1, 2, 4]));
            let made: Vec<Taken> = fixture.cluster.made().into_iter().map(|(_, taken)| taken).collect();
            let voters = BTreeSet::from([1, 2, 4].map(replica));
            assert_eq!(made, [Taken::AddLearner(replica(4), node(4)), Taken::ChangeVoters(voters)]);
        }
    }
}

#[tokio::test]
async fn few_copies_are_filled_at_a_time() {
    let mut fixture = Fixture::new();
    for number in 1..=5 {
        fixture.cluster.lead(number, &[1, 2]);
        fixture.want(number, wanted(&[1, 2, 3], None));
    }
    let filling = |cluster: &Cluster| {
        (1..=5).filter(|number| cluster.membership(*number).members.len() == 3).collect::<Vec<u8>>()
    };
    fixture.settle().await;
    assert_eq!(filling(&fixture.cluster), [1, 2]);
    fixture.settle().await;
    assert_eq!(filling(&fixture.cluster), [1, 2]);
    // A leader that has just started counts what it finds.
    fixture.restart();
    fixture.settle().await;
    assert_eq!(filling(&fixture.cluster), [1, 2]);
    fixture.cluster.fill(1, 3);
    fixture.settle().await;
    fixture.settle().await;
    assert_eq!(filling(&fixture.cluster), [1, 2, 3]);
    assert_eq!(fixture.cluster.voters(1).len(), 3);
    // One that is silent takes no place from others.
    fixture.cluster.silent.lock().insert(node(3));
    fixture.settle().await;
    fixture.settle().await;
    assert_eq!(filling(&fixture.cluster), [1, 2, 3, 4, 5]);
    assert_eq!(fixture.cluster.voters(5), BTreeSet::from([1, 2].map(replica)));
}

#[tokio::test(start_paused = true)]
async fn a_wished_leader_is_obeyed_where_it_can_be_and_not_too_often() {
    let mut fixture = Fixture::new();
    fixture.cluster.lead(1, &[1, 2, 3]);
    fixture.cluster.silent.lock().insert(node(3));
    fixture.want(1, wanted(&[1, 2, 3], Some(3)));
    fixture.settle().await;
    assert!(fixture.cluster.made().is_empty(), "it is not heard");
    fixture.cluster.silent.lock().clear();
    fixture.settle().await;
    assert_eq!(fixture.cluster.made(), [(range(1), Taken::HandOver(replica(3)))]);
    // It comes back at once: it is left alone for a while.
    fixture.cluster.lead(1, &[1, 2, 3]);
    fixture.leaders.pending.insert(range(1));
    fixture.settle().await;
    assert!(fixture.cluster.made().is_empty());
    tokio::time::advance(HAND_OVER_PAUSE).await;
    fixture.settle().await;
    assert_eq!(fixture.cluster.made(), [(range(1), Taken::HandOver(replica(3)))]);
}

#[tokio::test]
async fn nothing_is_changed_without_a_word_about_it() {
    let mut fixture = Fixture::new();
    fixture.cluster.lead(1, &[1, 2, 3]);
    fixture.want(1, wanted(&[], None));
    fixture.settle().await;
    fixture.cluster.lead(2, &[1, 2, 3]);
    fixture.leaders.pending.insert(range(2));
    fixture.settle().await;
    assert!(fixture.cluster.made().is_empty(), "an empty list is no wish, and no assignment neither");
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it comes to that");
}

/// The whole loop: what control writes is followed, and a copy that catches up is seen.
#[tokio::test]
async fn it_is_followed() {
    let Fixture { cluster, plan, leaders } = Fixture::new();
    cluster.lead(1, &[1, 2]);
    let following = tokio::spawn(leaders.follow());
    plan.send_modify(|plan| drop(Arc::make_mut(plan).insert(range(1), wanted(&[1, 2, 3], None))));
    until(|| cluster.membership(1).members.len() == 3).await;
    cluster.fill(1, 3);
    cluster.changed.send(range(1)).unwrap();
    until(|| cluster.voters(1).len() == 3).await;
    drop(plan);
    tokio::time::timeout(Duration::from_secs(30), following).await.expect("it ends with the plan").unwrap();
}

#[tokio::test]
async fn what_waits_for_a_node_that_is_away_is_not_looked_at_before_it_is_back() {
    let mut fixture = Fixture::new();
    fixture.cluster.silent.lock().insert(node(3));
    for number in 1..=200 {
        fixture.cluster.lead(number, &[1, 2, 3]);
        fixture.want(number, wanted(&[1, 2, 3], Some(3)));
    }
    fixture.settle().await;
    assert_eq!(fixture.leaders.away[&node(3)].len(), 200);
    assert!(fixture.leaders.later.is_empty() && fixture.leaders.pending.is_empty());
    // Somebody else has become leader of one of them meanwhile.
    fixture.want(1, wanted(&[1, 2, 3], Some(1)));
    fixture.settle().await;
    assert!(fixture.cluster.made().is_empty());
    fixture.cluster.silent.lock().clear();
    fixture.settle().await;
    assert_eq!(fixture.cluster.made().len(), 199, "all but the one whose wish has changed");
    assert!(fixture.leaders.away.is_empty());
}

#[tokio::test]
async fn leadership_of_many_ranges_is_handed_over_a_few_at_a_time() {
    let mut fixture = Fixture::new();
    for number in 1..=200 {
        fixture.cluster.lead(number, &[1, 2, 3]);
        fixture.want(number, wanted(&[1, 2, 3], Some(3)));
    }
    assert_eq!(fixture.look(), HAND_OVERS_MAX);
    assert_eq!(fixture.look(), HAND_OVERS_MAX);
    fixture.settle().await;
    assert_eq!(fixture.cluster.made().len(), 200, "one after the other");
    assert_eq!((fixture.leaders.handing_over, fixture.leaders.in_line.len()), (0, 0));
}

#[tokio::test]
async fn who_waits_for_a_hand_over_is_looked_at_though_those_before_need_none_any_more() {
    let mut fixture = Fixture::new();
    for number in 1..=200 {
        fixture.cluster.lead(number, &[1, 2, 3]);
        fixture.want(number, wanted(&[1, 2, 3], Some(3)));
    }
    fixture.look();
    let waiting = fixture.leaders.in_line.clone();
    assert_eq!(waiting.len(), 200 - HAND_OVERS_MAX);
    // All of them but the last are led as they are wished meanwhile; no news of it has come yet.
    let last = *waiting.last().unwrap();
    let known = Arc::make_mut(&mut fixture.leaders.known);
    waiting
        .iter()
        .filter(|range| **range != last)
        .for_each(|range| known.get_mut(range).unwrap().leader = Some(node(1)));
    fixture.plan.send_replace(Arc::clone(&fixture.leaders.known));
    fixture.settle().await;
    assert!(fixture.leaders.in_line.is_empty());
    assert_eq!(fixture.cluster.made().len(), HAND_OVERS_MAX + 1);
}
