//! The simulated network: parcels on their way between places, each with a time at which it arrives, or never. Everything here
//! happens at whole ticks of the world, in one order that follows from the dice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::dice::Dice;
use crate::question::{Answer, Question};
use crate::trace::Now;

/// The place of all clients; nodes have the numbers below.
pub const CLIENTS: usize = 1000;

/// What is on its way.
pub enum Load {
    /// A client asks.
    Question(Question, oneshot::Sender<Answer>),
    /// A client is answered.
    Answer(Answer, oneshot::Sender<Answer>),
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
    /// The shortest way, in milliseconds.
    pub shortest: u64,
    /// The longest way, in milliseconds.
    pub longest: u64,
}

impl Weather {
    /// As in one data centre.
    pub const FAIR: Weather = Weather { lost: 0, shortest: 1, longest: 8 };
}

struct State {
    dice: Dice,
    sent: u64,
    on_the_way: BTreeMap<(u64, u64), Parcel>,
    /// Ways that nothing gets through.
    cut: BTreeSet<(usize, usize)>,
    weather: Weather,
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
        let state = State { dice, sent: 0, on_the_way: BTreeMap::new(), cut: BTreeSet::new(), weather: Weather::FAIR };
        Network { state: Arc::new(Mutex::new(state)), now }
    }

    /// From now on it is so.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
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
        if !state.dice.chance(weather.lost) {
            state.put(self.now.get(), Parcel { from, to, load });
        }
    }

    /// What arrives now, in order. What was on its way when its way was cut is lost.
    pub fn arriving(&self) -> Vec<Parcel> {
        let mut state = self.state.lock();
        let later = state.on_the_way.split_off(&(self.now.get() + 1, 0));
        let arrived = std::mem::replace(&mut state.on_the_way, later);
        arrived.into_values().filter(|parcel| !state.cut.contains(&(parcel.from, parcel.to))).collect()
    }
}

impl State {
    fn put(&mut self, now: u64, parcel: Parcel) {
        let at = now + self.dice.between(self.weather.shortest, self.weather.longest);
        self.sent += 1;
        self.on_the_way.insert((at, self.sent), parcel);
    }
}
