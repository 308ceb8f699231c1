//! Publishing: three copies of a range, of which any may lead or believe that it does, and one route that all of them
//! write. A leader reads the route, maybe an old one, decides ([`publication`]), and sends a compare-and-set, which may be lost, late,
//! done twice, or done without an answer. Control may drop the table and make another under its name.

use std::collections::BTreeSet;

use dstore::domain::ids::{RangeId, ReplicaId};
use dstore::replication::membership::Membership;
use dstore::replication::publish::{EPOCH_INDEX_BITS, Publication, RouteView, publication};
use stateright::{Model, Property};

use crate::names::{RANGE, addresses, first_route, members, node, replica, view};
use crate::raft::{Command, Raft};

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The coordinator writes whatever it is sent.
    WriteWithoutCompare,
    /// A leader takes its last membership for committed.
    PublishUncommitted,
}

/// The bounds of the world, and what is done wrong in it.
#[derive(Debug, Clone)]
pub struct Publishing {
    /// Elections.
    pub terms_max: u64,
    /// Entries in a log.
    pub entries_max: usize,
    /// Changes of members that are begun.
    pub changes_max: u8,
    /// Writes that are on their way to the coordinator at one time.
    pub in_flight_max: usize,
    /// Routes that are written in all.
    pub versions_max: usize,
    /// Old routes and lost answers of followers, in all.
    pub faults_max: u8,
    /// What is done wrong.
    pub mistake: Option<Mistake>,
}

/// A compare-and-set on its way: the version it expects and what it writes.
pub type Request = (usize, RouteView);

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    raft: Raft,
    /// Every route that stood under the key, the present one last.
    routes: Vec<RouteView>,
    /// What each copy's node has read: a version.
    read: [Option<usize>; 3],
    in_flight: BTreeSet<Request>,
    changes: u8,
    faults: u8,
    /// Whether a route ever had a smaller epoch than the one before it, or a later one of another range.
    went_back: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A copy is elected by these.
    Elect(ReplicaId, BTreeSet<ReplicaId>),
    /// A leader brings its log to another; the answer may be lost.
    Replicate(ReplicaId, ReplicaId, bool),
    /// A leader begins to take the learner 4 in, or to take it out.
    Change(ReplicaId),
    /// A node reads the route, in this version.
    Read(u8, usize),
    /// A node decides and sends its write; what it read is forgotten, whatever comes of it.
    Send(u8),
    /// The coordinator carries a write out; it may come again.
    Arrive(Request, bool),
    /// A write is lost.
    Lose(Request),
    /// Control drops the table and makes another under the same name.
    Replace,
}

/// The range that takes the key over.
const OTHER: RangeId = RangeId(uuid::Uuid::from_u128(77));

impl Publishing {
    fn with_learner(membership: &Membership) -> Membership {
        let mut next = membership.clone();
        if next.members.remove(&replica(4)).is_none() {
            next.members.insert(replica(4), node(4));
        }
        next
    }

    fn decide(&self, state: &State, number: u8) -> Option<Request> {
        let version = state.read[usize::from(number) - 1]?;
        let mut group = view(state.raft.copies.get(&replica(number))?, node(number))?;
        if self.mistake == Some(Mistake::PublishUncommitted) {
            group.committed = u64::MAX;
        }
        match publication(state.routes.get(version), &group, &addresses()) {
            Publication::Write(route) => Some((version, route)),
            Publication::Leave(_) => None,
        }
    }

    fn raft_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in 1..=3 {
            let own = replica(number);
            let Some(copy) = state.raft.copies.get(&own) else { continue };
            let has_room = copy.log.len() < self.entries_max;
            if has_room && copy.term < self.terms_max {
                let elections = state.raft.elections(own).into_iter();
                actions.extend(elections.map(|votes| Action::Elect(own, votes)));
            }
            for to in (1..=3).map(replica).filter(|to| state.raft.may_replicate(own, *to)) {
                actions.push(Action::Replicate(own, to, true));
                if state.faults < self.faults_max {
                    actions.push(Action::Replicate(own, to, false));
                }
            }
            let is_settled = copy.membership().is_some_and(|(place, _)| place.index <= copy.committed as u64);
            if copy.leads && is_settled && has_room && state.changes < self.changes_max {
                actions.push(Action::Change(own));
            }
        }
    }
}

impl Model for Publishing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            raft: Raft::led(&members(&[1, 2, 3])),
            routes: vec![first_route(1)],
            read: [None; 3],
            in_flight: BTreeSet::new(),
            changes: 0,
            faults: 0,
            went_back: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.raft_actions(state, actions);
        let present = state.routes.len() - 1;
        for number in 1..=3 {
            let leads = state.raft.copies.get(&replica(number)).is_some_and(|copy| copy.leads);
            match state.read[usize::from(number) - 1] {
                None if leads => {
                    actions.push(Action::Read(number, present));
                    if present > 0 && state.faults < self.faults_max {
                        actions.push(Action::Read(number, present - 1));
                    }
                }
                Some(_) if state.in_flight.len() < self.in_flight_max => actions.push(Action::Send(number)),
                _ => {}
            }
        }
        for request in &state.in_flight {
            if state.routes.len() < self.versions_max {
                actions.push(Action::Arrive(request.clone(), false));
                if state.faults < self.faults_max {
                    actions.push(Action::Arrive(request.clone(), true));
                }
            }
            actions.push(Action::Lose(request.clone()));
        }
        if state.routes.len() < self.versions_max && state.routes[present].range == RANGE && present > 0 {
            actions.push(Action::Replace);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Elect(candidate, votes) => state.raft.elect(candidate, &votes),
            Action::Replicate(from, to, is_heard) => {
                state.faults += u8::from(!is_heard);
                state.raft.replicate(from, to, is_heard);
            }
            Action::Change(leader) => {
                let (_, membership) = state.raft.copies.get(&leader)?.membership()?;
                state.changes += 1;
                state.raft.append(leader, Command::Members(Self::with_learner(&membership)));
            }
            Action::Read(number, version) => {
                state.faults += u8::from(version + 1 < state.routes.len());
                state.read[usize::from(number) - 1] = Some(version);
            }
            Action::Send(number) => {
                let request = self.decide(&state, number);
                state.read[usize::from(number) - 1] = None;
                state.in_flight.extend(request);
            }
            Action::Arrive(request, comes_again) => {
                state.faults += u8::from(comes_again);
                if !comes_again {
                    state.in_flight.remove(&request);
                }
                let (version, route) = request;
                let is_unchanged = version + 1 == state.routes.len();
                if is_unchanged || self.mistake == Some(Mistake::WriteWithoutCompare) {
                    let before = state.routes.last()?;
                    state.went_back |= route.epoch < before.epoch || route.range != before.range;
                    state.routes.push(route);
                } else if comes_again {
                    return None;
                }
            }
            Action::Lose(request) => {
                state.in_flight.remove(&request);
            }
            Action::Replace => {
                state.routes.push(RouteView { range: OTHER, ..first_route(1) });
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a route never goes back, and never over another range", |_, state: &State| {
                !state.went_back
            }),
            Property::always("a route names what was committed", |_, state: &State| {
                state.routes.iter().all(is_true(state))
            }),
            Property::always("what is committed stays", |_, state: &State| !state.raft.is_broken),
            Property::sometimes("a second leader publishes", |_, state: &State| {
                state
                    .routes
                    .iter()
                    .filter(|route| route.epoch > 0)
                    .map(|route| route.leader)
                    .collect::<BTreeSet<_>>()
                    .len()
                    > 1
            }),
            Property::sometimes("a change of members is published", |_, state: &State| {
                state.routes.iter().any(|route| route.names(replica(4)))
            }),
            Property::sometimes("a late write meets another range", |_, state: &State| {
                state.routes.last().is_some_and(|route| route.range == OTHER) && !state.in_flight.is_empty()
            }),
        ]
    }
}

/// Whether a published route says what the group had committed at the place that its epoch names.
fn is_true(state: &State) -> impl Fn(&RouteView) -> bool + '_ {
    |route| {
        let index = (route.epoch & ((1 << EPOCH_INDEX_BITS) - 1)) as usize;
        let founding = members(&[1, 2, 3]);
        let named = match index.checked_sub(1).map(|at| state.raft.committed.get(at)) {
            None => Some(&founding),
            Some(slot) => slot.and_then(|slot| match &slot.command {
                Command::Members(members) => Some(members),
                Command::Blank | Command::Write(_) => None,
            }),
        };
        route.epoch == 0
            || named.is_some_and(|members| {
                let named = route.copies.iter().filter_map(|copy| Some((copy.replica?, copy.node)));
                named.eq(members.members.iter().map(|(replica, node)| (*replica, *node)))
            })
    }
}
