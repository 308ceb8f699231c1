//! Replacement: a range with the copies 1, 2 and 3 on the nodes of these numbers, and control that wants 4 in the place
//! of 3, or changes its mind, or replaces a copy that was lost with its data folder. Leaders may know an old plan.
//! Every step of a leader, of control and of a node is the one that the code says ([`next_step`], [`assignment_may_go`],
//! [`removal`], [`standing`], [`publication`]).

use std::collections::{BTreeMap, BTreeSet};

use dstore::domain::ids::ReplicaId;
use dstore::replication::membership::Membership;
use dstore::replication::publish::{Publication, RouteView, publication};
use dstore::replication::replacement::{
    Desired, Found, GroupNow, OwnCopy, Reading, Removal, Standing, Step, assignment_may_go, next_step, removal,
    standing,
};
use stateright::{Model, Property};

use crate::names::{RANGE, addresses, first_route, members, node, replica, view};
use crate::raft::{Command, Copy, Raft};

/// Nodes there are. The copy that replaces copy `n` when its data is lost has the number `NODES + n`.
const NODES: u8 = 4;

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A node decides by one look at the plan and at its log, and acts on it later.
    RemoveOnOneReading,
    /// A node does not look into the copy's own log.
    RemoveWithoutOwnLog,
    /// A copy whose data is gone starts again under its id.
    ReuseReplicaId,
    /// A leader publishes members that are not committed.
    PublishUncommitted,
}

/// The bounds of the world, and what is done wrong in it.
#[derive(Debug, Clone)]
pub struct Replacing {
    /// Terms.
    pub terms_max: u64,
    /// Entries in a log.
    pub entries_max: usize,
    /// Changes of the plan.
    pub wishes_max: usize,
    /// Writes of items.
    pub writes_max: u8,
    /// Data folders that are lost.
    pub wipes_max: u8,
    /// Answers of followers that are lost, and restarts.
    pub faults_max: u8,
    /// What is done wrong.
    pub mistake: Option<Mistake>,
}

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    raft: Raft,
    /// Every plan there was, the present one last.
    plans: Vec<Desired>,
    /// Which of them each node knows.
    known: BTreeMap<u8, usize>,
    assigned: BTreeSet<ReplicaId>,
    route: RouteView,
    /// The first look at the plan of those who want to remove a copy, and what its log said then.
    looks: BTreeMap<ReplicaId, (Reading, OwnCopy)>,
    removed: BTreeSet<ReplicaId>,
    lost: BTreeSet<ReplicaId>,
    writes: u8,
    wipes: u8,
    faults: u8,
    lost_voted: bool,
    went_back: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A copy is elected by these.
    Elect(u8, BTreeSet<ReplicaId>),
    /// A leader brings its log to another; the answer may be lost.
    Replicate(u8, ReplicaId, bool),
    /// A leader takes a write.
    Write(u8),
    /// A leader's node reads the present plan.
    Learn(u8),
    /// A leader takes its next step.
    Step(u8),
    /// A leader publishes.
    Publish(u8),
    /// Control wants these copies.
    Wish(Vec<u8>),
    /// Control takes an assignment back.
    TakeBack(u8),
    /// A node looks at the plan because a copy might go.
    Look(u8),
    /// It looks once more and decides.
    Decide(u8),
    /// A node's data folder is lost.
    Wipe(u8),
    /// A node's process starts again.
    Restart(u8),
}

fn node_of(copy: u8) -> u8 {
    if copy > NODES { copy - NODES } else { copy }
}

fn all_copies() -> impl Iterator<Item = u8> {
    1..=2 * NODES
}

fn plan(copies: &[u8]) -> Desired {
    Desired { copies: copies.iter().map(|copy| (replica(*copy), node(node_of(*copy)))).collect(), leader: None }
}

impl Replacing {
    fn step_of(state: &State, number: u8) -> Step {
        let own = replica(number);
        let Some((copy, (place, membership))) =
            state.raft.copies.get(&own).and_then(|copy| Some((copy, copy.membership()?)))
        else {
            return Step::Follow;
        };
        let now = GroupNow {
            own,
            leads: copy.leads,
            membership_is_committed: place.index <= copy.committed as u64,
            membership,
            last_index: copy.log.len() as u64,
            matched: copy.matched.iter().map(|(replica, matched)| (*replica, *matched as u64)).collect(),
        };
        let known = state.known.get(&node_of(number)).copied().unwrap_or(0);
        state.plans.get(known).map_or(Step::Follow, |plan| next_step(plan, &now, 0))
    }

    fn take_step(state: &mut State, number: u8) -> Option<()> {
        let own = replica(number);
        let (_, mut membership) = state.raft.copies.get(&own)?.membership()?;
        match Self::step_of(state, number) {
            Step::AddLearner { replica, node } => {
                membership.members.insert(replica, node);
            }
            Step::RemoveLearners(gone) => membership.members.retain(|replica, _| !gone.contains(replica)),
            Step::ChangeVoters(voters) if membership.voters.last() == Some(&voters) => {
                membership.members.retain(|replica, _| voters.contains(replica));
                membership.voters = vec![voters];
            }
            Step::ChangeVoters(voters) => membership.voters.push(voters),
            Step::HandOver(_) => {
                // The other one may be elected now, or nobody.
                state.raft.restart(own);
                return Some(());
            }
            Step::Follow | Step::Refuse | Step::WaitForCommit | Step::WaitForCopy { .. } | Step::Done => return None,
        }
        state.raft.append(own, Command::Members(membership));
        Some(())
    }

    fn publish(&self, state: &State, number: u8) -> Option<RouteView> {
        let mut group = view(state.raft.copies.get(&replica(number))?, node(node_of(number)))?;
        if self.mistake == Some(Mistake::PublishUncommitted) {
            group.committed = u64::MAX;
        }
        match publication(Some(&state.route), &group, &addresses()) {
            Publication::Write(route) => Some(route),
            Publication::Leave(_) => None,
        }
    }

    /// The plans that control may come to now: 4 for 3 and back, and another copy for one that is lost.
    fn wishes(&self, state: &State) -> Vec<Vec<u8>> {
        let Some(present) = state.plans.last() else { return Vec::new() };
        let wants = |copy: u8| present.copies.contains_key(&replica(copy));
        let numbers = || all_copies().filter(|copy| wants(*copy));
        let exchanged = |from: u8, to: u8| numbers().map(|copy| if copy == from { to } else { copy }).collect();
        let mut wishes = Vec::new();
        // An id that was taken back, or lost, is never given again.
        let is_fresh = |copy: u8| {
            let id = replica(copy);
            let was_wanted = state.plans.iter().any(|plan| plan.copies.contains_key(&id));
            !state.lost.contains(&id) && (state.assigned.contains(&id) || !was_wanted)
        };
        for (from, to) in [(3, 4), (4, 3)] {
            if wants(from) && !wants(to) && is_fresh(to) {
                wishes.push(exchanged(from, to));
            }
        }
        for copy in numbers().filter(|copy| state.lost.contains(&replica(*copy)) && *copy <= NODES) {
            wishes.push(exchanged(copy, copy + NODES));
        }
        wishes
    }

    fn own_copy(state: &State, number: u8) -> Option<OwnCopy> {
        let copy = state.raft.copies.get(&replica(number))?;
        Some(OwnCopy { replica: replica(number), range: RANGE, membership: copy.membership() })
    }

    fn decide(&self, state: &State, number: u8) -> Option<Removal> {
        let own = Self::own_copy(state, number)?;
        let (first, own_then) = state.looks.get(&replica(number))?;
        let last = reading(state, number);
        Some(match self.mistake {
            Some(Mistake::RemoveOnOneReading) => removal(own_then, Some(first), first),
            Some(Mistake::RemoveWithoutOwnLog) => removal(&OwnCopy { membership: None, ..own }, Some(first), &last),
            _ => removal(&own, Some(first), &last),
        })
    }

    fn wipe(&self, state: &mut State, number: u8) {
        state.wipes += 1;
        for copy in all_copies().filter(|copy| node_of(*copy) == number) {
            let id = replica(copy);
            state.looks.remove(&id);
            if state.raft.copies.remove(&id).is_none() {
                continue;
            }
            let found = Found {
                last: None,
                was_begun: false,
                was_assigned_to_another_folder: true,
                acknowledged: None,
                is_founding: state.route.epoch == 0 && copy <= 3,
            };
            let reused = Copy { founding: None, ..Copy::default() };
            match standing(&found) {
                Standing::Lost if self.mistake != Some(Mistake::ReuseReplicaId) => {}
                _ => drop(state.raft.copies.insert(id, reused)),
            }
            state.lost.insert(id);
        }
    }
}

fn reading(state: &State, number: u8) -> Reading {
    Reading { is_assigned: state.assigned.contains(&replica(number)), route: Some(state.route.clone()) }
}

impl Model for Replacing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            raft: Raft::led(&members(&[1, 2, 3])),
            plans: vec![plan(&[1, 2, 3])],
            known: BTreeMap::new(),
            assigned: (1..=3).map(replica).collect(),
            route: first_route(1),
            looks: BTreeMap::new(),
            removed: BTreeSet::new(),
            lost: BTreeSet::new(),
            writes: 0,
            wipes: 0,
            faults: 0,
            lost_voted: false,
            went_back: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in all_copies() {
            let own = replica(number);
            let Some(copy) = state.raft.copies.get(&own) else { continue };
            let has_room = copy.log.len() < self.entries_max;
            if has_room && copy.term < self.terms_max {
                actions.extend(state.raft.elections(own).into_iter().map(|votes| Action::Elect(number, votes)));
            }
            for to in all_copies().map(replica).filter(|to| state.raft.may_replicate(own, *to)) {
                actions.push(Action::Replicate(number, to, true));
                if state.faults < self.faults_max {
                    actions.push(Action::Replicate(number, to, false));
                }
            }
            if copy.leads {
                if has_room {
                    actions.push(Action::Step(number));
                    if state.writes < self.writes_max {
                        actions.push(Action::Write(number));
                    }
                }
                if state.known.get(&node_of(number)).copied().unwrap_or(0) + 1 < state.plans.len() {
                    actions.push(Action::Learn(number));
                }
                if self.publish(state, number).is_some() {
                    actions.push(Action::Publish(number));
                }
                if state.faults < self.faults_max {
                    actions.push(Action::Restart(number));
                }
            }
            if !state.assigned.contains(&own) {
                let seen = state.looks.get(&own).map(|(first, _)| first);
                if seen != Some(&reading(state, number)) {
                    actions.push(Action::Look(number));
                }
                if self.decide(state, number) == Some(Removal::Remove) {
                    actions.push(Action::Decide(number));
                }
            }
        }
        if state.plans.len() <= self.wishes_max {
            actions.extend(self.wishes(state).into_iter().map(Action::Wish));
        }
        let desired = state.plans.last();
        let may_go = |copy: &u8| {
            let id = replica(*copy);
            let is_over = || desired.is_some_and(|desired| assignment_may_go(desired, RANGE, id, Some(&state.route)));
            state.assigned.contains(&id) && is_over()
        };
        actions.extend(all_copies().filter(may_go).map(Action::TakeBack));
        if state.wipes < self.wipes_max {
            let has_copy = |number: &u8| {
                all_copies().any(|copy| node_of(copy) == *number && state.raft.copies.contains_key(&replica(copy)))
            };
            actions.extend((1..=NODES).filter(has_copy).map(Action::Wipe));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Elect(number, votes) => {
                state.lost_voted |= votes.iter().any(|vote| state.lost.contains(vote));
                state.raft.elect(replica(number), &votes);
            }
            Action::Replicate(number, to, is_heard) => {
                state.faults += u8::from(!is_heard);
                state.raft.replicate(replica(number), to, is_heard);
            }
            Action::Write(number) => {
                state.writes += 1;
                state.raft.append(replica(number), Command::Write(state.writes));
            }
            Action::Learn(number) => {
                state.known.insert(node_of(number), state.plans.len() - 1);
            }
            Action::Step(number) => Self::take_step(&mut state, number)?,
            Action::Publish(number) => {
                let route = self.publish(&state, number)?;
                state.went_back |= route.epoch < state.route.epoch;
                state.route = route;
            }
            Action::Wish(copies) => {
                let plan = plan(&copies);
                for copy in plan.copies.keys().filter(|copy| state.assigned.insert(**copy)) {
                    state.raft.copies.insert(*copy, Copy::default());
                }
                state.plans.push(plan);
            }
            Action::TakeBack(number) => {
                state.assigned.remove(&replica(number));
            }
            Action::Look(number) => {
                let own = Self::own_copy(&state, number)?;
                state.looks.insert(replica(number), (reading(&state, number), own));
            }
            Action::Decide(number) => {
                state.raft.copies.remove(&replica(number));
                state.looks.remove(&replica(number));
                state.removed.insert(replica(number));
            }
            Action::Wipe(number) => self.wipe(&mut state, number),
            Action::Restart(number) => {
                state.faults += 1;
                state.raft.restart(replica(number));
                state.looks.remove(&replica(number));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("what is acknowledged stays", |_, state: &State| !state.raft.is_broken),
            Property::always("a copy that counts is never removed", |_, state: &State| {
                let counts = |members: Membership| state.removed.iter().any(|copy| members.is_voter(*copy));
                !state.raft.committed_membership().is_some_and(counts)
            }),
            // While voters are exchanged a leader takes a majority of both sets: one that has all is enough.
            Property::always("a majority of voters have all that is acknowledged", |_, state: &State| {
                state.raft.committed_membership().is_some_and(|members| members.voters.iter().any(is_held(state)))
            }),
            Property::always("a copy whose data is lost never votes", |_, state: &State| !state.lost_voted),
            Property::always("a route never goes back", |_, state: &State| !state.went_back),
            Property::sometimes("a copy is exchanged, and the old one removed", |_, state: &State| {
                let exchanged = members(&[1, 2, 4]);
                state.removed.contains(&replica(3)) && state.raft.committed_membership() == Some(exchanged)
            }),
        ];
        if self.wipes_max > 0 {
            properties.push(Property::sometimes(
                "a copy comes back under another id when its data is lost",
                |_, state: &State| {
                    let is_replaced = |lost: u8, members: &Membership| {
                        state.lost.contains(&replica(lost))
                            && members.is_voter(replica(lost + NODES))
                            && !members.is_joint()
                    };
                    state
                        .raft
                        .committed_membership()
                        .is_some_and(|members| (1..=3).any(|lost| is_replaced(lost, &members)))
                },
            ));
        }
        if self.wishes_max > 1 {
            properties.push(Property::sometimes("control changes its mind in time", |_, state: &State| {
                state.plans.len() > 2 && state.removed.contains(&replica(4))
            }));
        }
        properties
    }
}

/// Whether a majority of a set of voters have every committed entry, those not counted whose data is lost.
fn is_held(state: &State) -> impl Fn(&BTreeSet<ReplicaId>) -> bool + '_ {
    |voters| {
        let has_all = |voter: &&ReplicaId| {
            let copy = state.raft.copies.get(voter);
            state.lost.contains(voter) || copy.is_some_and(|copy| copy.log.starts_with(&state.raft.committed))
        };
        2 * voters.iter().filter(has_all).count() > voters.len()
    }
}
