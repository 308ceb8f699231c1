//! Receipts: writes that a leader answers when they are in its own log, leaders that are lost before a majority has the
//! entry, and clients that ask any copy what became of it. Real are [`answer`] and [`fate`].

use std::collections::{BTreeMap, BTreeSet};

use dstore::domain::ids::ReplicaId;
use dstore::domain::version::ItemVersion;
use dstore::replication::machine_state::LogPlace;
use dstore::replication::operation::Outcome;
use dstore::replication::receipt::{Answer, Fate, Knowledge, answer, fate};
use stateright::{Model, Property};

use crate::names::{members, replica};
use crate::raft::{Command, Copy, Raft, Slot};

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A copy that does not have the entry says lost, whoever it is.
    LostWhenNotHere,
    /// A leader says lost without asking whether it still leads.
    LostWithoutConfirmation,
    /// A new leader says lost before an entry of its own term is applied, without looking at what waits in its log.
    LostBeforeOwnTerm,
    /// A leader that finds an entry cut off puts it into its log again under the same receipt.
    ProposeAgain,
}

/// The bounds of the world, and what is done wrong in it.
#[derive(Debug, Clone)]
pub struct Receipts {
    /// Terms.
    pub terms_max: u64,
    /// Entries in a log.
    pub entries_max: usize,
    /// Writes with a receipt.
    pub writes_max: u8,
    /// Answers of followers that are lost, and restarts.
    pub faults_max: u8,
    /// What is done wrong.
    pub mistake: Option<Mistake>,
}

/// What clients were told of a receipt for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// It is done.
    Ended,
    /// It is lost.
    Lost,
}

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    raft: Raft,
    /// Where the entry of each receipt stood when the receipt was given, and who gave it.
    given: Vec<(LogPlace, ReplicaId)>,
    /// The first final answer of each.
    told: BTreeMap<u8, Told>,
    /// Receipts of which someone was told that they wait.
    queued: BTreeSet<u8>,
    /// How much each copy has applied; at most what it knows to be committed.
    applied: BTreeMap<ReplicaId, usize>,
    faults: u8,
    contradicted: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A copy is elected by these.
    Elect(ReplicaId, BTreeSet<ReplicaId>),
    /// A leader brings its log to another; the answer may be lost.
    Replicate(ReplicaId, ReplicaId, bool),
    /// A leader takes a write and gives a receipt.
    Give(ReplicaId),
    /// A copy applies what it knows to be committed.
    Apply(ReplicaId),
    /// A client asks a copy about a receipt.
    Ask(ReplicaId, u8),
    /// A copy's process starts again, from its file and log.
    Restart(ReplicaId),
    /// A leader proposes a write of its own again (a mistake).
    Propose(ReplicaId, u8),
}

impl Receipts {
    fn answer(&self, state: &State, asked: ReplicaId, receipt: u8) -> Option<Answer> {
        let copy = state.raft.copies.get(&asked)?;
        let applied = state.applied.get(&asked).copied().unwrap_or(0);
        let position = copy.position_of(receipt);
        let kept = position.filter(|at| *at < applied).map(|at| Outcome::Updated(ItemVersion(at as u64 + 1)));
        if self.mistake == Some(Mistake::LostWhenNotHere) && position.is_none() {
            return Some(Answer::Lost);
        }
        let is_own = |slot: &Slot| slot.term == copy.term;
        let (mut is_confirmed_leader, mut waits) =
            (state.raft.is_confirmed(asked), kept.is_none() && position.is_some());
        let mut has_applied_own_term = copy.log[..applied].iter().any(is_own) && applied == copy.committed;
        match self.mistake {
            Some(Mistake::LostWithoutConfirmation) => is_confirmed_leader = copy.leads,
            Some(Mistake::LostBeforeOwnTerm) => (waits, has_applied_own_term) = (false, true),
            _ => {}
        }
        let kept = kept.as_ref();
        Some(answer(&Knowledge { kept, waits_in_own_log: waits, is_confirmed_leader, has_applied_own_term }))
    }
}

/// The fate of a receipt's entry, as a copy sees it.
fn fate_at(copy: &Copy, place: LogPlace) -> Fate {
    let term_at = |index: u64| copy.log.get((index as usize).checked_sub(1)?).map(|slot| slot.term);
    let committed = copy.committed as u64;
    fate(place, LogPlace { term: term_at(committed).unwrap_or(0), index: committed }, term_at)
}

impl Model for Receipts {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            raft: Raft::led(&members(&[1, 2, 3])),
            given: Vec::new(),
            told: BTreeMap::new(),
            queued: BTreeSet::new(),
            applied: BTreeMap::new(),
            faults: 0,
            contradicted: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let receipts = 0..state.given.len() as u8;
        for own in (1..=3).map(replica) {
            let Some(copy) = state.raft.copies.get(&own) else { continue };
            let has_room = copy.log.len() < self.entries_max;
            if has_room && copy.term < self.terms_max {
                actions.extend(state.raft.elections(own).into_iter().map(|votes| Action::Elect(own, votes)));
            }
            for to in (1..=3).map(replica).filter(|to| state.raft.may_replicate(own, *to)) {
                actions.push(Action::Replicate(own, to, true));
                if state.faults < self.faults_max {
                    actions.push(Action::Replicate(own, to, false));
                }
            }
            if copy.leads && has_room && receipts.end < self.writes_max {
                actions.push(Action::Give(own));
            }
            if state.applied.get(&own).copied().unwrap_or(0) < copy.committed {
                actions.push(Action::Apply(own));
            }
            if copy.leads && state.faults < self.faults_max {
                actions.push(Action::Restart(own));
            }
            actions.extend(receipts.clone().map(|receipt| Action::Ask(own, receipt)));
            if self.mistake == Some(Mistake::ProposeAgain) && copy.leads && has_room {
                let is_cut_off = |receipt: &u8| {
                    let giver = state.given.get(usize::from(*receipt)).map(|(_, giver)| *giver);
                    giver == Some(own) && copy.position_of(*receipt).is_none()
                };
                actions.extend(receipts.clone().filter(is_cut_off).map(|receipt| Action::Propose(own, receipt)));
            }
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
            Action::Give(leader) => {
                state.raft.append(leader, Command::Write(state.given.len() as u8));
                state.given.push((state.raft.copies.get(&leader)?.last(), leader));
            }
            Action::Propose(leader, receipt) => state.raft.append(leader, Command::Write(receipt)),
            Action::Apply(own) => {
                state.applied.insert(own, state.raft.copies.get(&own)?.committed);
            }
            Action::Ask(asked, receipt) => {
                let told = match self.answer(&state, asked, receipt)? {
                    Answer::Ended(_) => Told::Ended,
                    Answer::Lost => Told::Lost,
                    Answer::Queued => {
                        state.queued.insert(receipt);
                        return Some(state);
                    }
                    Answer::AskLeader => return None,
                };
                let first = *state.told.entry(receipt).or_insert(told);
                state.contradicted |= first != told;
            }
            Action::Restart(own) => {
                state.faults += 1;
                state.raft.restart(own);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what is lost is never applied, and what is done is", |_, state: &State| {
                state.told.iter().all(|(receipt, told)| match told {
                    Told::Lost => !is_committed(state, *receipt),
                    Told::Ended => is_committed(state, *receipt),
                })
            }),
            Property::always("a final answer stays", |_, state: &State| !state.contradicted),
            Property::always("a fate is true wherever it is seen", |_, state: &State| {
                let sees = |receipt: u8, place: LogPlace, copy: &Copy| match fate_at(copy, place) {
                    Fate::Open => true,
                    Fate::Committed => is_committed(state, receipt),
                    Fate::Lost => !is_committed(state, receipt),
                };
                (0u8..)
                    .zip(&state.given)
                    .all(|(receipt, (place, _))| state.raft.copies.values().all(|copy| sees(receipt, *place, copy)))
            }),
            Property::always("what is committed stays", |_, state: &State| !state.raft.is_broken),
            Property::sometimes("a write waits and is done", |_, state: &State| {
                state.queued.iter().any(|receipt| state.told.get(receipt) == Some(&Told::Ended))
            }),
            Property::sometimes("a write waits and is lost", |_, state: &State| {
                state.queued.iter().any(|receipt| state.told.get(receipt) == Some(&Told::Lost))
            }),
            Property::sometimes("a write is lost although a copy still has it", |_, state: &State| {
                let has = |receipt: u8| state.raft.copies.values().any(|copy| copy.position_of(receipt).is_some());
                state.told.iter().any(|(receipt, told)| *told == Told::Lost && has(*receipt))
            }),
        ]
    }
}

/// Whether the write was ever committed.
fn is_committed(state: &State, receipt: u8) -> bool {
    state.raft.committed.iter().any(|slot| slot.command == Command::Write(receipt))
}
