//! A split while proxies ask again: a range whose two keys come to lie in different children, and writes whose answers are
//! lost, whose messages come late or twice, before and behind the split. Two copies of the range apply its log at their
//! own pace, and start again; leaders' clocks differ. Real are the window of request ids ([`Window`]) and the split
//! ([`check`], [`Split`]).
//!
//! The logs are committed logs: which of them a leader may append to, and that copies agree on them, is the other models' matter.

use std::collections::{BTreeMap, BTreeSet};

use dstore::domain::Timestamp;
use dstore::domain::ids::{RangeId, RequestId};
use dstore::domain::version::ItemVersion;
use dstore::replication::machine_state::LogPlace;
use dstore::replication::operation::Outcome;
use dstore::replication::request_id::{self, Verdict, WINDOW_SECONDS, Window};
use dstore::replication::split::{ChildReplicas, Split, check};
use stateright::{Model, Property};

use crate::names::{HASHES, RANGE, members, replica};

/// Seconds from one moment of this world to the next: two are longer than the window, one is shorter.
const TICK_SECONDS: u64 = 40;
const SPLIT_AT: u32 = 50;
/// Hashes of the keys of the writes, by their number.
const KEYS: [u32; 3] = [60, 10, 60];

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The children start with empty windows.
    ForgetWindowInSplit,
    /// A copy that starts again begins with an empty window.
    ForgetWindowAtRestart,
    /// The range applies writes that stand behind the split in its log.
    ApplyBehindSplit,
    /// An id that is too old to be known is applied.
    ApplyUnknown,
}

/// The bounds of the world, and what is done wrong in it.
#[derive(Debug, Clone)]
pub struct Splitting {
    /// Writes of clients, up to 3.
    pub writes: usize,
    /// Moments.
    pub moments_max: u8,
    /// Entries in one log.
    pub entries_max: usize,
    /// Times that a copy starts again.
    pub restarts_max: u8,
    /// Messages that come twice, answers that are lost, leaders whose clock is behind.
    pub faults_max: u8,
    /// What is done wrong.
    pub mistake: Option<Mistake>,
}

/// The range and its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// The range that is split.
    Parent,
    /// The lower child.
    Lower,
    /// The upper child.
    Upper,
}

/// What stands in a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Entry {
    /// A write, the moment of its id and the leader's moment.
    Write {
        write: u8,
        made: u8,
        time: u8,
    },
    Split(Split),
}

/// One copy's state of one range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Machine {
    /// Where its log begins.
    start: LogPlace,
    applied: usize,
    /// The writes that each key got, in order.
    items: BTreeMap<u32, Vec<u8>>,
    window: Window,
    /// The window as it was written down, and how many entries it had seen.
    kept: (usize, Window),
    split: Option<(LogPlace, Split)>,
}

impl Machine {
    fn new(start: LogPlace, items: BTreeMap<u32, Vec<u8>>, window: Window) -> Self {
        Self { start, applied: 0, items, kept: (0, window.clone()), window, split: None }
    }
}

/// What a proxy knows of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Not sent.
    New,
    /// Sent at this moment under an id of that moment, to this range.
    Waiting(u8, Which),
    /// Told to have been done.
    Done,
    /// Told that it is not known how it ended.
    Unknown,
}

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    now: u8,
    logs: BTreeMap<Which, Vec<Entry>>,
    copies: [BTreeMap<Which, Machine>; 2],
    /// Writes on their way: to whom, which, and the moment of its id.
    in_flight: BTreeSet<(Which, u8, u8)>,
    asked: Vec<Asked>,
    restarts: u8,
    faults: u8,
    was_too_late: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A proxy sends a write, for the first time or again.
    Send(u8),
    /// A message arrives at a leader, whose clock may be behind; it may come again.
    Append((Which, u8, u8), bool, bool),
    /// A message arrives at a leader that has applied the split.
    Moved((Which, u8, u8)),
    /// The split is put into the log.
    Split,
    /// A copy applies its next entry; the proxy hears the answer or does not.
    Apply(usize, Which, bool),
    /// A copy writes its window down, because the log is to be cut off there.
    Keep(usize, Which),
    /// A copy's process starts again.
    Restart(usize),
}

fn id(write: u8, made: u8) -> RequestId {
    request_id::make(moment(made), [write; 8])
}

fn moment(number: u8) -> Timestamp {
    Timestamp(0).plus_seconds(1000 + TICK_SECONDS * u64::from(number))
}

fn the_split() -> Split {
    let child = |number: u8| ChildReplicas { lower: replica(10 + number), upper: replica(20 + number) };
    let range = |number: u128| RangeId(uuid::Uuid::from_u128(number));
    let members = (1..=2).map(|number| (replica(number), child(number))).collect();
    Split { at: SPLIT_AT, lower: range(11), upper: range(12), members }
}

impl Splitting {
    /// Applies an entry; the answer to the proxy, where it has one.
    fn apply(
        &self,
        copy: usize,
        which: Which,
        machines: &mut BTreeMap<Which, Machine>,
        entry: &Entry,
    ) -> Option<Answer> {
        let machine = machines.get_mut(&which)?;
        machine.applied += 1;
        let place = LogPlace { term: 1, index: machine.start.index + machine.applied as u64 };
        match entry {
            Entry::Split(split) => {
                let membership = members(&[1, 2]);
                let before = machine.split.as_ref().map(|(_, split)| split);
                check(split, RANGE, HASHES, &membership, before).ok()?;
                machine.split = Some((place, split.clone()));
                let children = split.children(replica(copy as u8 + 1), HASHES, &membership, place)?;
                let windows = match self.mistake {
                    Some(Mistake::ForgetWindowInSplit) => [Window::default(), Window::default()],
                    _ => machine.window.split(split.at),
                };
                let items = machine.items.clone();
                for ((which, start), window) in [Which::Lower, Which::Upper].into_iter().zip(&children).zip(windows) {
                    let own = items.iter().filter(|(key, _)| start.hashes.contains(**key));
                    let own = own.map(|(key, writes)| (*key, writes.clone())).collect();
                    machines.insert(which, Machine::new(start.machine.applied, own, window));
                }
                None
            }
            Entry::Write { write, made, time } => {
                let behind = machine.split.as_ref().filter(|(at, split)| split.refuses(*at, place.index));
                if let (Some((_, split)), true) = (behind, self.mistake != Some(Mistake::ApplyBehindSplit)) {
                    return Some(Answer::Moved(child_of(split, *write)));
                }
                Some(self.write(machine, *write, *made, *time))
            }
        }
    }

    /// Evaluates a write that no split is in the way of.
    fn write(&self, machine: &mut Machine, write: u8, made: u8, time: u8) -> Answer {
        let key = KEYS[usize::from(write)];
        machine.window.advance(moment(time));
        match machine.window.judge(id(write, made)) {
            Verdict::Repeat(Some(_)) => Answer::Done,
            Verdict::Repeat(None) => Answer::Unknown,
            Verdict::Unknown if self.mistake != Some(Mistake::ApplyUnknown) => Answer::Unknown,
            Verdict::Unknown | Verdict::Fresh => {
                let version = ItemVersion(machine.start.index + machine.applied as u64);
                machine.items.entry(key).or_default().push(write);
                machine.window.remember(id(write, made), key, Outcome::Updated(version));
                Answer::Done
            }
        }
    }
}

/// What a proxy is told.
enum Answer {
    Done,
    Unknown,
    Moved(Which),
}

fn child_of(split: &Split, write: u8) -> Which {
    if split.child_of(KEYS[usize::from(write)]) == split.lower { Which::Lower } else { Which::Upper }
}

impl State {
    /// How often a copy has applied a write, in the range that has the key now.
    fn times_applied(&self, copy: usize, write: u8) -> usize {
        let key = KEYS[usize::from(write)];
        let child = if key < SPLIT_AT { Which::Lower } else { Which::Upper };
        let machine = self.copies[copy].get(&child).or_else(|| self.copies[copy].get(&Which::Parent));
        let writes = machine.and_then(|machine| machine.items.get(&key));
        writes.map_or(0, |writes| writes.iter().filter(|other| **other == write).count())
    }

    fn made(&self, write: u8) -> Option<u8> {
        match self.asked.get(usize::from(write)) {
            Some(Asked::Waiting(made, _)) => Some(*made),
            _ => None,
        }
    }

    fn has_applied_all(&self, copy: usize) -> bool {
        let length = |which: &Which| self.logs.get(which).map_or(0, Vec::len);
        self.copies[copy].iter().all(|(which, machine)| machine.applied == length(which))
    }
}

impl Model for Splitting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let machine = Machine::new(LogPlace::default(), BTreeMap::new(), Window::default());
        let copy: BTreeMap<Which, Machine> = [(Which::Parent, machine)].into();
        vec![State {
            now: 0,
            logs: [Which::Parent, Which::Lower, Which::Upper].map(|which| (which, Vec::new())).into(),
            copies: [copy.clone(), copy],
            in_flight: BTreeSet::new(),
            asked: vec![Asked::New; self.writes],
            restarts: 0,
            faults: 0,
            was_too_late: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.moments_max {
            actions.push(Action::Tick);
        }
        let may_fail = state.faults < self.faults_max;
        for (write, asked) in (0u8..).zip(&state.asked) {
            let may_send = match asked {
                Asked::New => true,
                Asked::Waiting(made, which) => {
                    let is_in_time = u64::from(state.now - made) * TICK_SECONDS <= WINDOW_SECONDS;
                    is_in_time && !state.in_flight.contains(&(*which, write, *made))
                }
                Asked::Done | Asked::Unknown => false,
            };
            if may_send {
                actions.push(Action::Send(write));
            }
        }
        for message in &state.in_flight {
            let copies = || state.copies.iter().filter_map(|copy| copy.get(&message.0));
            let has_room = state.logs.get(&message.0).is_some_and(|log| log.len() < self.entries_max);
            if has_room && copies().any(|machine| machine.split.is_none()) {
                actions.push(Action::Append(*message, false, false));
                if may_fail {
                    actions.push(Action::Append(*message, false, true));
                    if state.now > 0 {
                        actions.push(Action::Append(*message, true, false));
                    }
                }
            }
            if copies().any(|machine| machine.split.is_some()) {
                actions.push(Action::Moved(*message));
            }
        }
        let parent = state.logs.get(&Which::Parent);
        if parent.is_some_and(|log| {
            log.len() < self.entries_max && !log.iter().any(|entry| matches!(entry, Entry::Split(_)))
        }) {
            actions.push(Action::Split);
        }
        for (copy, machines) in state.copies.iter().enumerate() {
            for (which, machine) in machines {
                let next = state.logs.get(which).and_then(|log| log.get(machine.applied));
                if let Some(entry) = next {
                    actions.push(Action::Apply(copy, *which, true));
                    if may_fail
                        && matches!(entry, Entry::Write { write, made, .. } if state.made(*write) == Some(*made))
                    {
                        actions.push(Action::Apply(copy, *which, false));
                    }
                }
                if self.restarts_max > state.restarts && machine.kept.0 < machine.applied {
                    actions.push(Action::Keep(copy, *which));
                }
            }
            if state.restarts < self.restarts_max {
                actions.push(Action::Restart(copy));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::Send(write) => {
                let asked = state.asked.get_mut(usize::from(write))?;
                if *asked == Asked::New {
                    *asked = Asked::Waiting(state.now, Which::Parent);
                }
                if let Asked::Waiting(made, which) = *asked {
                    state.in_flight.insert((which, write, made));
                }
            }
            Action::Append(message, is_behind, comes_again) => {
                state.faults += u8::from(is_behind) + u8::from(comes_again);
                if !comes_again {
                    state.in_flight.remove(&message);
                }
                let (which, write, made) = message;
                let time = state.now - u8::from(is_behind);
                state.logs.get_mut(&which)?.push(Entry::Write { write, made, time });
            }
            Action::Moved(message) => {
                state.in_flight.remove(&message);
                let (_, write, made) = message;
                if state.made(write) == Some(made) {
                    state.asked[usize::from(write)] = Asked::Waiting(made, child_of(&the_split(), write));
                }
            }
            Action::Split => state.logs.get_mut(&Which::Parent)?.push(Entry::Split(the_split())),
            Action::Apply(copy, which, is_heard) => {
                let machine = state.copies[copy].get(&which)?;
                let entry = state.logs.get(&which)?.get(machine.applied)?.clone();
                self.apply_next(&mut state, copy, which, &entry, is_heard);
            }
            Action::Keep(copy, which) => {
                let machine = state.copies[copy].get_mut(&which)?;
                machine.kept = (machine.applied, Window::decode(&machine.window.encode())?);
            }
            Action::Restart(copy) => {
                state.restarts += 1;
                for (which, machine) in &mut state.copies[copy] {
                    let log = state.logs.get(which)?;
                    machine.window = self.rebuilt(machine, log);
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no write is applied twice", |model, state: &State| {
                (0..model.writes as u8).all(|write| (0..2).all(|copy| state.times_applied(copy, write) <= 1))
            }),
            Property::always("what is acknowledged is there", |model, state: &State| {
                let is_done = |write: &u8| state.asked[usize::from(*write)] == Asked::Done;
                let is_there = |write| {
                    let on = |copy: usize| state.has_applied_all(copy) && state.times_applied(copy, write) != 1;
                    !(0..2).any(on)
                };
                (0..model.writes as u8).filter(is_done).all(is_there)
            }),
            Property::always("copies at the same place are the same", |_, state: &State| {
                let [first, second] = &state.copies;
                first.iter().all(|(which, machine)| {
                    second.get(which).is_none_or(|other| other.applied != machine.applied || is_same(machine, other))
                })
            }),
            Property::sometimes("a write is asked for at the parent and answered by a child", |_, state: &State| {
                let in_child = |which: Which| state.logs.get(&which).is_some_and(|log| !log.is_empty());
                (in_child(Which::Lower) || in_child(Which::Upper)) && state.asked.contains(&Asked::Done)
            }),
            Property::sometimes("a write that comes too late is not applied", |_, state: &State| state.was_too_late),
            Property::sometimes("all is done", |_, state: &State| {
                state.asked.iter().all(|asked| *asked == Asked::Done)
                    && (0..2).all(|copy| state.has_applied_all(copy) && state.copies[copy].len() == 3)
            }),
        ]
    }
}

impl Splitting {
    fn apply_next(&self, state: &mut State, copy: usize, which: Which, entry: &Entry, is_heard: bool) {
        let answer = self.apply(copy, which, &mut state.copies[copy], entry);
        let (Some(answer), Entry::Write { write, made, .. }) = (answer, entry) else { return };
        state.was_too_late |= matches!(answer, Answer::Unknown);
        state.faults += u8::from(!is_heard);
        if is_heard && state.made(*write) == Some(*made) {
            state.asked[usize::from(*write)] = match answer {
                Answer::Done => Asked::Done,
                Answer::Unknown => Asked::Unknown,
                Answer::Moved(child) => Asked::Waiting(*made, child),
            };
        }
    }

    /// The window as a copy that starts again makes it: from what was written down and the log behind it.
    fn rebuilt(&self, machine: &Machine, log: &[Entry]) -> Window {
        if self.mistake == Some(Mistake::ForgetWindowAtRestart) {
            return Window::default();
        }
        let (seen, mut window) = machine.kept.clone();
        for (at, entry) in log.iter().enumerate().take(machine.applied).skip(seen) {
            let index = machine.start.index + at as u64 + 1;
            let is_behind = machine.split.as_ref().is_some_and(|(place, split)| split.refuses(*place, index));
            if let (Entry::Write { write, made, time }, false) = (entry, is_behind) {
                window.replay(moment(*time), Some((id(*write, *made), KEYS[usize::from(*write)])));
            }
        }
        window
    }
}

/// Whether two copies hold the same items and know the same ids.
fn is_same(one: &Machine, other: &Machine) -> bool {
    let kind = |window: &Window, write: u8, made: u8| match window.judge(id(write, made)) {
        Verdict::Repeat(_) => Verdict::Repeat(None),
        verdict => verdict,
    };
    let agrees = |write, made| kind(&one.window, write, made) == kind(&other.window, write, made);
    one.items == other.items && (0..3).all(|write| (0..4).all(|made| agrees(write, made)))
}
