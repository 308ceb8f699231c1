//! The way from the copies there are to those that are wanted, copies that go and copies that come back.

use super::*;
use crate::domain::hash::HashRange;
use crate::domain::ids::TableId;
use crate::replication::publish::{Address, CopyState, RouteCopy};
use proptest::prelude::*;

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn members(numbers: &[u8]) -> BTreeMap<ReplicaId, NodeId> {
    numbers.iter().map(|number| (replica(*number), node(*number))).collect()
}

fn set(numbers: &[u8]) -> BTreeSet<ReplicaId> {
    numbers.iter().map(|number| replica(*number)).collect()
}

fn wanted(numbers: &[u8]) -> Desired {
    Desired { copies: members(numbers), leader: None }
}

/// A group led by its copy `own`, in which everyone has everything.
fn group(own: u8, voters: &[u8], learners: &[u8]) -> GroupNow {
    let all = [voters, learners].concat();
    GroupNow {
        own: replica(own),
        leads: true,
        membership: Membership { voters: vec![set(voters)], members: members(&all) },
        membership_is_committed: true,
        last_index: 100,
        matched: all.iter().filter(|number| **number != own).map(|number| (replica(*number), 100)).collect(),
    }
}

fn step(desired: &Desired, now: &GroupNow) -> Step {
    next_step(desired, now, 10)
}

/// Takes steps as a group without faults would, and lists them.
fn walk(desired: &Desired, mut now: GroupNow) -> (Vec<Step>, GroupNow) {
    let mut steps = Vec::new();
    loop {
        let next = step(desired, &now);
        steps.push(next.clone());
        match next {
            Step::AddLearner { replica, node } => {
                now.membership.members.insert(replica, node);
                now.matched.insert(replica, now.last_index);
            }
            Step::ChangeVoters(voters) => {
                now.membership.members.retain(|replica, _| voters.contains(replica));
                now.membership.voters = vec![voters];
            }
            Step::RemoveLearners(gone) => now.membership.members.retain(|replica, _| !gone.contains(replica)),
            Step::HandOver(to) => {
                now.matched.insert(now.own, now.last_index);
                now.own = to;
            }
            _ => return (steps, now),
        }
        assert!(steps.len() < 20, "{steps:?}");
    }
}

#[test]
fn a_copy_is_replaced_learner_first() {
    let (steps, _) = walk(&wanted(&[1, 2, 4]), group(1, &[1, 2, 3], &[]));
    let add = Step::AddLearner { replica: replica(4), node: node(4) };
    assert_eq!(steps, [add, Step::ChangeVoters(set(&[1, 2, 4])), Step::Done]);
}

#[test]
fn a_leader_that_is_to_go_hands_over_first() {
    let (steps, now) = walk(&wanted(&[2, 3, 4]), group(1, &[1, 2, 3], &[]));
    let add = Step::AddLearner { replica: replica(4), node: node(4) };
    assert_eq!(steps, [add, Step::HandOver(replica(2)), Step::ChangeVoters(set(&[2, 3, 4])), Step::Done]);
    assert_eq!(now.own, replica(2));
    // With nobody to hand over to, the new copy votes beside the old one first.
    let (steps, _) = walk(&wanted(&[2]), group(1, &[1], &[]));
    let both = Step::ChangeVoters(set(&[1, 2]));
    let add = Step::AddLearner { replica: replica(2), node: node(2) };
    assert_eq!(steps, [add, both, Step::HandOver(replica(2)), Step::ChangeVoters(set(&[2])), Step::Done]);
}

#[test]
fn from_one_copy_to_three_without_two_between() {
    let (steps, _) = walk(&wanted(&[1, 2, 3]), group(1, &[1], &[]));
    assert_eq!(steps[2..], [Step::ChangeVoters(set(&[1, 2, 3])), Step::Done]);
}

#[test]
fn what_is_begun_is_finished_and_what_is_open_is_waited_for() {
    let mut now = group(1, &[1, 2, 3], &[4]);
    now.membership_is_committed = false;
    assert_eq!(step(&wanted(&[1, 2, 4]), &now), Step::WaitForCommit);
    now.membership_is_committed = true;
    now.membership.voters.push(set(&[1, 2, 4]));
    assert_eq!(step(&wanted(&[1, 2, 5]), &now), Step::ChangeVoters(set(&[1, 2, 4])));
    now.leads = false;
    assert_eq!(step(&wanted(&[1, 2, 5]), &now), Step::Follow);
}

#[test]
fn a_learner_votes_only_when_it_has_caught_up() {
    let mut now = group(1, &[1, 2, 3], &[4]);
    let desired = wanted(&[1, 2, 4]);
    now.matched.insert(replica(4), 89);
    assert_eq!(step(&desired, &now), Step::WaitForCopy { replica: replica(4), behind: 11 });
    now.matched.insert(replica(4), 90);
    assert_eq!(step(&desired, &now), Step::ChangeVoters(set(&[1, 2, 4])));
    now.matched.remove(&replica(4));
    assert!(matches!(step(&desired, &now), Step::WaitForCopy { behind: u64::MAX, .. }));
    // Fewer copies, one of which is far behind: the majority of what stays would be lost with it.
    let mut fewer = group(1, &[1, 2, 3], &[]);
    fewer.matched.insert(replica(2), 0);
    assert_eq!(step(&wanted(&[1, 2]), &fewer), Step::WaitForCopy { replica: replica(2), behind: 100 });
    assert_eq!(step(&wanted(&[1, 3]), &fewer), Step::ChangeVoters(set(&[1, 3])));
}

#[test]
fn nobody_wanted_goes_and_nonsense_is_refused() {
    let now = group(1, &[1, 2, 3], &[4, 5]);
    assert_eq!(step(&wanted(&[1, 2, 5]), &now), Step::RemoveLearners(set(&[4])));
    assert_eq!(step(&Desired::default(), &now), Step::Refuse);
    let mut moved = wanted(&[1, 2, 3]);
    moved.copies.insert(replica(2), node(9));
    assert_eq!(step(&moved, &now), Step::Refuse);
}

#[test]
fn the_wished_node_leads_where_it_can() {
    let mut now = group(1, &[1, 2, 3], &[]);
    let wish = |number| Desired { leader: Some(node(number)), ..wanted(&[1, 2, 3]) };
    assert_eq!(step(&wish(3), &now), Step::HandOver(replica(3)));
    assert_eq!(step(&wish(1), &now), Step::Done);
    assert_eq!(step(&wish(7), &now), Step::Done);
    // One that is behind is waited for, not forgotten.
    now.matched.insert(replica(3), 50);
    let behind = now.last_index - 50;
    assert_eq!(step(&wish(3), &now), Step::WaitForCopy { replica: replica(3), behind });
    now.matched.insert(replica(3), now.last_index);
    assert_eq!(step(&wish(3), &now), Step::HandOver(replica(3)));
}

fn route(epoch: u64, names: &[u8]) -> RouteView {
    let address = Address { uri: "http://node/".into(), inside_uri: None };
    let copy = |number: &u8| RouteCopy {
        node: node(*number),
        replica: Some(replica(*number)),
        state: CopyState::Voter,
        address: address.clone(),
    };
    RouteView {
        range: RangeId::from_bytes([1; 16]),
        table: TableId::from_bytes([2; 16]),
        hashes: HashRange::FULL,
        epoch,
        leader: node(names[0]),
        address: address.clone(),
        copies: names.iter().map(copy).collect(),
        split_from: None,
    }
}

#[test]
fn an_assignment_is_taken_back_when_the_route_says_so() {
    let ask = |desired: &[u8], route: Option<&RouteView>| {
        assignment_may_go(&wanted(desired), RangeId::from_bytes([1; 16]), replica(3), route)
    };
    assert!(ask(&[1, 2, 4], Some(&route(5, &[1, 2, 4]))));
    assert!(!ask(&[1, 2, 3], Some(&route(5, &[1, 2, 4]))), "it is wanted");
    assert!(!ask(&[1, 2, 4], Some(&route(5, &[1, 2, 3]))), "it is a member");
    assert!(!ask(&[1, 2, 4], Some(&route(0, &[1, 2, 4]))), "nobody has published");
    assert!(!ask(&[1, 2, 4], None) && !ask(&[], Some(&route(5, &[1, 2, 4]))));
}

#[test]
fn a_copy_goes_when_two_readings_and_its_own_log_agree() {
    let place = LogPlace { term: 2, index: 7 };
    let later = epoch_of(2, 8);
    let own = |membership| OwnCopy { replica: replica(3), range: RangeId::from_bytes([1; 16]), membership };
    let member = own(Some((place, Membership { voters: vec![], members: members(&[1, 2, 3]) })));
    let reading = |is_assigned, route: RouteView| Reading { is_assigned, route: Some(route) };
    let gone = reading(false, route(later, &[1, 2, 4]));
    assert_eq!(removal(&member, None, &gone), Removal::ReadAgain);
    assert_eq!(removal(&member, Some(&gone), &gone), Removal::Remove);
    assert_eq!(removal(&member, Some(&reading(true, route(later, &[1, 2, 4]))), &gone), Removal::ReadAgain);
    assert_eq!(removal(&member, Some(&reading(false, route(later + 1, &[1, 2, 4]))), &gone), Removal::ReadAgain);
    let earlier = reading(false, route(epoch_of(2, 6), &[1, 2, 4]));
    assert_eq!(removal(&member, Some(&earlier), &earlier), Removal::Keep, "its log has a later membership");
    assert_eq!(removal(&own(None), Some(&earlier), &earlier), Removal::Remove, "it never was a member");
    let mut other = gone.clone();
    other.route.as_mut().unwrap().range = RangeId::from_bytes([8; 16]);
    let no_route = Reading { is_assigned: false, route: None };
    let named = reading(false, route(later, &[1, 2, 3]));
    for keep in [other, no_route, named, reading(true, route(later, &[1, 2, 4])), reading(false, route(0, &[1]))] {
        assert_eq!(removal(&member, Some(&gone), &keep), Removal::Keep);
    }
}

#[test]
fn what_was_begun_and_is_not_whole_is_lost() {
    let found = Found {
        last: Some(LogPlace { term: 1, index: 9 }),
        was_begun: true,
        was_assigned_to_another_folder: false,
        acknowledged: Some(9),
        is_founding: false,
    };
    assert_eq!(standing(&found), Standing::Continue);
    assert_eq!(standing(&Found { acknowledged: Some(10), ..found }), Standing::Lost);
    assert_eq!(standing(&Found { last: None, acknowledged: None, ..found }), Standing::Lost);
    assert_eq!(standing(&Found { was_begun: false, ..found }), Standing::Lost);
    assert_eq!(standing(&Found { was_assigned_to_another_folder: true, ..found }), Standing::Lost);
    let fresh = Found { last: None, was_begun: false, acknowledged: None, ..found };
    assert_eq!(standing(&fresh), Standing::StartJoining);
    assert_eq!(standing(&Found { is_founding: true, ..fresh }), Standing::StartFounding);
    let wiped = Found { was_assigned_to_another_folder: true, is_founding: true, ..fresh };
    assert_eq!(standing(&wiped), Standing::Lost);
    assert_eq!(standing(&Found { acknowledged: Some(1), ..fresh }), Standing::Lost);
}

proptest! {
    /// Without faults every wish is reached, whoever leads.
    #[test]
    fn every_wish_is_reached(
        voters in proptest::collection::btree_set(1u8..7, 1..5),
        learners in proptest::collection::btree_set(1u8..7, 0..3),
        desired in proptest::collection::btree_set(1u8..7, 1..5),
        own in any::<proptest::sample::Index>(),
        wish in proptest::option::of(1u8..7),
    ) {
        let voters: Vec<u8> = voters.into_iter().collect();
        let learners: Vec<u8> = learners.into_iter().filter(|number| !voters.contains(number)).collect();
        let now = group(*own.get(&voters), &voters, &learners);
        let mut desired = wanted(&desired.into_iter().collect::<Vec<_>>());
        desired.leader = wish.map(node);
        let (steps, end) = walk(&desired, now);
        prop_assert_eq!(steps.last(), Some(&Step::Done), "{:?}", steps);
        prop_assert_eq!(&end.membership.members, &desired.copies);
        let leader = end.membership.members[&end.own];
        prop_assert!(desired.leader.is_none_or(|wish| wish == leader || !desired.copies.values().any(|node| *node == wish)));
    }

    /// Nobody votes who has not caught up, and every exchange begins with the leader in the new set.
    #[test]
    fn nobody_votes_too_early(
        voters in proptest::collection::btree_set(1u8..6, 1..4),
        desired in proptest::collection::btree_set(1u8..6, 1..4),
        matched in proptest::collection::vec(80u64..101, 6),
        own in any::<proptest::sample::Index>(),
    ) {
        let voters: Vec<u8> = voters.into_iter().collect();
        let learners: Vec<u8> = desired.iter().copied().filter(|number| !voters.contains(number)).collect();
        let mut now = group(*own.get(&voters), &voters, &learners);
        now.matched.iter_mut().zip(&matched).for_each(|((_, known), matched)| *known = *matched);
        if let Step::ChangeVoters(set) = step(&wanted(&desired.into_iter().collect::<Vec<_>>()), &now) {
            prop_assert!(set.contains(&now.own));
            for replica in set.iter().filter(|replica| !now.membership.is_voter(**replica)) {
                prop_assert!(now.behind(*replica) <= 10);
            }
            let ready = set.iter().filter(|replica| now.behind(**replica) <= 10).count();
            prop_assert!(2 * ready > set.len());
        }
    }
}
