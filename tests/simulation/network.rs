//! The simulated network: parcels on their way between places, each with a time at which it arrives, or never. Everything here
//! happens at whole ticks of the world, in one order that follows from the dice.
//!
//! Whoever waits for the answer to a lost parcel learns at once, as when a connection breaks, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dstore::coordination::{Result as CoordinatorResult, WatchBatch};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::{Ask, Reply};
use crate::coordinator_client::Watcher;
use crate::dice::Dice;
use crate::question::{Answer, Matter, Question};
use crate::trace::Now;

/// The first proxy; nodes have the numbers below.
pub const PROXIES: usize = 100;
/// The place of all clients.
pub const CLIENTS: usize = 1000;
/// The coordinator.
pub const COORDINATOR: usize = 1001;
/// Control.
pub const CONTROL: usize = 1002;

/// How late a late write comes, in milliseconds: when its request id is just forgotten, or will be soon.
const LATE_MIN: u64 = 50_000;
const LATE_MAX: u64 = 80_000;

/// What is on its way.
pub enum Load {
    /// Somebody asks a proxy, or a node.
    Question(Question, oneshot::Sender<Answer>),
    /// And is answered.
    Answer(Answer, oneshot::Sender<Answer>),
    /// Messages of groups. Whoever sent them is told that they have come.
    Frame(Bytes, Option<oneshot::Sender<bool>>),
    /// They have come, or nobody was there.
    Received(bool, oneshot::Sender<bool>),
    /// Somebody asks the coordinator.
    Ask(Ask, oneshot::Sender<CoordinatorResult<Reply>>),
    /// And is answered.
    Reply(CoordinatorResult<Reply>, oneshot::Sender<CoordinatorResult<Reply>>),
    /// Somebody wants to be told of changes.
    Watch(Watcher),
    /// And is told. One that is lost breaks the connection that all of them come by, which the flag says.
    Changes(CoordinatorResult<WatchBatch>, mpsc::Sender<CoordinatorResult<WatchBatch>>, Arc<AtomicBool>),
}

/// Something on its way.
pub struct Parcel {
    /// From where.
    pub from: usize,
    /// To where.
    pub to: usize,
    /// What.
    pub load: Load,
}

/// How the network treats what is sent.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Parcels lost, of a hundred.
    pub lost: u64,
    /// Frames that come twice, of a hundred.
    pub doubled: u64,
    /// The shortest way, in milliseconds.
    pub shortest: u64,
    /// The longest way, in milliseconds.
    pub longest: u64,
}

impl Weather {
    /// As in one data centre.
    pub const FAIR: Weather = Weather { lost: 0, doubled: 0, shortest: 1, longest: 8 };
}

struct State {
    dice: Dice,
    sent: u64,
    on_the_way: BTreeMap<(u64, u64), Parcel>,
    /// Ways that nothing gets through.
    cut: BTreeSet<(usize, usize)>,
    weather: Weather,
    /// Writes that a node gets when their proxy has long given them up, of a hundred.
    late: u64,
    /// What is lost without anybody being told.
    lost: Vec<Load>,
    /// When the last of what must come in order, from the coordinator, comes to each place.
    in_order: BTreeMap<usize, u64>,
}

/// See the module's essay; clones are the same network.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    now: Now,
}

impl Network {
    /// A network in which all is well.
    pub fn new(dice: Dice, now: Now) -> Network {
        let state = State {
            dice,
            sent: 0,
            on_the_way: BTreeMap::new(),
            cut: BTreeSet::new(),
            weather: Weather::FAIR,
            late: 0,
            lost: Vec::new(),
            in_order: BTreeMap::new(),
        };
        Network { state: Arc::new(Mutex::new(state)), now }
    }

    /// From now on it is so.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// From now on so many of a hundred writes come to their node a minute late, as after a long pause.
    pub fn set_late(&self, percent: u64) {
        self.state.lock().late = percent;
    }

    /// When the last parcel that is on its way arrives.
    pub fn last_arrival(&self) -> Option<u64> {
        self.state.lock().on_the_way.keys().next_back().map(|(at, _)| *at)
    }

    /// Nothing gets from one place to the other any more.
    pub fn cut(&self, from: usize, to: usize) {
        self.state.lock().cut.insert((from, to));
    }

    /// All ways are open again.
    pub fn mend(&self) {
        self.state.lock().cut.clear();
    }

    /// Sends something.
    pub fn send(&self, from: usize, to: usize, load: Load) {
        let mut state = self.state.lock();
        let weather = state.weather;
        if state.dice.chance(weather.lost) {
            return state.lose(load);
        }
        if let Load::Frame(frame, _) = &load
            && state.dice.chance(weather.doubled)
        {
            let again = Load::Frame(frame.clone(), None);
            state.put(self.now.get(), Parcel { from, to, load: again });
        }
        state.put(self.now.get(), Parcel { from, to, load });
    }

    /// What arrives now, in order. What was on its way when its way was cut is lost.
    pub fn arriving(&self) -> Vec<Parcel> {
        let mut state = self.state.lock();
        let later = state.on_the_way.split_off(&(self.now.get() + 1, 0));
        let mut arrived = Vec::new();
        for parcel in std::mem::replace(&mut state.on_the_way, later).into_values() {
            let is_cut = state.cut.contains(&(parcel.from, parcel.to));
            let is_broken = matches!(&parcel.load, Load::Changes(_, _, broken) if broken.load(Ordering::Relaxed));
            match is_cut || is_broken {
                true => state.lose(parcel.load),
                false => arrived.push(parcel),
            }
        }
        arrived
    }
}

impl State {
    fn put(&mut self, now: u64, parcel: Parcel) {
        let mut at = now + self.dice.between(self.weather.shortest, self.weather.longest);
        let is_write = |question: &Question| question.range.is_some() && matches!(question.matter, Matter::Write(..));
        if matches!(&parcel.load, Load::Question(question, _) if is_write(question)) && self.dice.chance(self.late) {
            at = now + self.dice.between(LATE_MIN, LATE_MAX);
        }
        if let Load::Changes(..) = &parcel.load {
            // One connection brings them.
            let last = self.in_order.entry(parcel.to).or_default();
            at = at.max(*last);
            *last = at;
        }
        self.sent += 1;
        self.on_the_way.insert((at, self.sent), parcel);
    }

    fn lose(&mut self, load: Load) {
        if let Load::Changes(_, _, broken) = &load {
            broken.store(true, Ordering::Relaxed);
        }
        let is_told = matches!(load, Load::Changes(..) | Load::Watch(_)) || self.dice.chance(50);
        if !is_told {
            self.lost.push(load);
        }
    }
}
