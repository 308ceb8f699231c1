//! The world: all nodes, proxies, control and the coordinator, the network between them, the clients, and time, which goes on in
//! ticks. In each tick what is due happens in a fixed order: faults end and strike, parcels arrive, and then each part
//! runs for as long as the tick is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dstore::coordination::values::{Route, from_json};
use dstore::coordination::{Error, EventKind, KeyValue, layout};
use tokio::runtime::Runtime;

use crate::cluster::Founded;
use crate::control::Control;
use crate::coordinator::Store;
use crate::coordinator_client::Watcher;
use crate::dice::Dice;
use crate::faults::{End, Faults};
use crate::network::{CLIENTS, CONTROL, COORDINATOR, Load, Network, PROXIES, Parcel, Weather};
use crate::node::{Node, paused_runtime, wait_in};
use crate::proxy::Proxy;
use crate::trace::{Now, Trace};

/// How long a tick is, in milliseconds: the shortest time that anything takes from one place to another.
pub const TICK: u64 = 10;
/// A tick while nothing is looked at closely.
const LONG_TICK: u64 = 50;
/// Proxies of a world.
pub const PROXY_COUNT: usize = 2;

/// See the module's essay.
pub struct World {
    /// The simulated time.
    pub now: Now,
    /// All that happens.
    pub trace: Trace,
    /// The network.
    pub network: Network,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The proxies.
    pub proxies: Vec<Proxy>,
    /// Control.
    pub control: Control,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// Where clients run.
    pub clients: Runtime,
    ends: BTreeMap<(u64, u64), End>,
    ends_noted: u64,
}

/// The coordinator as a machine.
pub struct Coordinator {
    store: Store,
    watchers: Vec<Watcher>,
    is_down: bool,
}

impl World {
    /// A world of so many nodes, on none of which anything runs yet.
    ///
    /// # Errors
    /// Where the system gives no runtime.
    pub fn new(dice: &mut Dice, nodes: usize, founded: &Founded) -> std::io::Result<World> {
        let now = Now::default();
        let trace = Trace::new(now.clone());
        let network = Network::new(dice.fork(), now.clone());
        let node = |place| Node::new(place, dice.fork(), network.clone(), trace.clone(), founded);
        let nodes = (0..nodes).map(node).collect();
        let table = || Arc::clone(&founded.table);
        let proxies = (0..PROXY_COUNT)
            .map(|number| Proxy::new(number, dice.fork(), network.clone(), now.clone(), table()))
            .collect();
        let control = Control::new(dice.fork(), network.clone(), trace.clone(), founded);
        let coordinator = Coordinator { store: founded.store.clone(), watchers: Vec::new(), is_down: false };
        let (clients, ends) = (paused_runtime()?, BTreeMap::new());
        Ok(World { now, trace, network, nodes, proxies, control, coordinator, clients, ends, ends_noted: 0 })
    }

    /// Something ends at this time.
    pub fn later(&mut self, at: u64, end: End) {
        self.ends_noted += 1;
        self.ends.insert((at, self.ends_noted), end);
    }

    /// One tick.
    pub fn tick(&mut self, faults: Option<&mut Faults>) {
        self.pass(TICK, faults);
    }

    /// Lets time pass in long ticks until all that is on its way has come.
    pub fn wait_for_what_is_late(&mut self) {
        let last = self.network.last_arrival().unwrap_or(0);
        while self.now.get() < last {
            self.pass(LONG_TICK, None);
        }
    }

    fn pass(&mut self, milliseconds: u64, faults: Option<&mut Faults>) {
        self.now.set(self.now.get() + milliseconds);
        let later = self.ends.split_off(&(self.now.get() + 1, 0));
        for end in std::mem::replace(&mut self.ends, later).into_values() {
            self.end(end);
        }
        if let Some(faults) = faults {
            faults.strike(self);
        }
        self.coordinator.pass(milliseconds, self.now.get());
        for parcel in self.network.arriving() {
            self.trace.bytes(&[parcel.from as u8, parcel.to as u8, kind(&parcel.load)]);
            self.bring(parcel);
        }
        self.coordinator.tell(&self.network);
        for node in &mut self.nodes {
            node.run(milliseconds);
        }
        self.proxies.iter().for_each(|proxy| proxy.run(milliseconds));
        self.control.run(milliseconds);
        wait_in(&self.clients, milliseconds);
    }

    fn bring(&mut self, parcel: Parcel) {
        match parcel.to {
            COORDINATOR => self.coordinator.take(parcel, &self.network, self.now.get()),
            CONTROL => self.control.take(parcel),
            CLIENTS => {
                if let Load::Answer(answer, told) = parcel.load {
                    let _ = told.send(answer);
                }
            }
            to if to < self.nodes.len() => self.nodes[to].take(parcel),
            to => {
                if let Some(proxy) = to.checked_sub(PROXIES).and_then(|number| self.proxies.get(number)) {
                    proxy.take(parcel);
                }
            }
        }
    }

    fn end(&mut self, end: End) {
        self.trace.note(format_args!("{end:?}"));
        match end {
            End::Start(place) => self.start(place),
            End::Stop(place, lasts) => {
                self.nodes[place].stop();
                self.later(self.now.get() + lasts, End::Start(place));
            }
            End::WorstHour(place, lasts) => self.worst_hour(place, lasts),
            End::PutBack(place) => {
                if self.nodes[place].is_alive() {
                    self.nodes[place].kill();
                }
                self.nodes[place].put_copy_back();
                self.start(place);
            }
            End::StartProxy(number) => self.proxies[number].start(),
            End::StartControl => self.control.start(),
            End::CoordinatorBack => self.coordinator.is_down = false,
            End::Resume(place) => self.nodes[place].resume(),
            End::Mend => self.network.mend(),
            End::InTime => self.network.set_late(0),
            End::FairWeather => self.network.set_weather(Weather::FAIR),
            End::GoodDisk(place) => {
                self.nodes[place].pace.set_longest(4);
                self.nodes[place].pace.set_stuck(false);
                self.nodes[place].set_capacity(None);
            }
            End::RightClock(place) => self.nodes[place].clock.set(0, 0),
        }
    }

    fn worst_hour(&mut self, place: usize, lasts: u64) {
        let (now, deaf) = (self.now.get(), (place + 1) % self.nodes.len());
        self.network.mend();
        for other in (0..self.nodes.len()).filter(|other| *other != deaf) {
            if self.nodes[other].is_alive() {
                self.nodes[other].kill();
            }
            if other == place {
                self.nodes[other].wipe();
            }
            self.later(if other == place { now } else { now + lasts }, End::Start(other));
        }
    }

    /// Starts what runs on the node at this place, where nothing does.
    pub fn start(&mut self, place: usize) {
        if !self.nodes[place].is_alive()
            && let Err(error) = self.nodes[place].start()
        {
            // A disk that does not let itself be opened is tried again, as a supervisor would; what is damaged for good a
            // person takes away.
            self.trace.note(format_args!("node {place} does not start: {error}"));
            if self.nodes[place].is_damaged() {
                self.nodes[place].wipe();
            }
            self.later(self.now.get() + 1000, End::Start(place));
        }
    }

    /// All is well from now on, and everything runs.
    pub fn heal(&mut self) {
        let pending = std::mem::take(&mut self.ends);
        pending.into_values().for_each(|end| self.end(end));
        self.end(End::Mend);
        self.end(End::FairWeather);
        self.end(End::InTime);
        self.end(End::CoordinatorBack);
        self.control.start();
        self.proxies.iter_mut().for_each(Proxy::start);
        for place in 0..self.nodes.len() {
            self.end(End::GoodDisk(place));
            self.end(End::RightClock(place));
            self.nodes[place].resume();
            self.start(place);
        }
    }
}

impl Coordinator {
    /// Nobody answers any more, and all watches are broken.
    pub fn stop(&mut self) {
        self.is_down = true;
        self.watchers.clear();
    }

    /// The past is forgotten, and all watches are broken.
    pub fn forget_the_past(&mut self) {
        self.store.forget_the_past();
        self.watchers.clear();
    }

    fn pass(&mut self, milliseconds: u64, now: u64) {
        if self.is_down {
            self.store.lengthen_leases(milliseconds);
        } else {
            self.store.expire(now);
        }
    }

    fn take(&mut self, parcel: Parcel, network: &Network, now: u64) {
        if self.is_down {
            return;
        }
        match parcel.load {
            Load::Ask(ask, told) => {
                let reply = self.store.answer(ask, now);
                network.send(COORDINATOR, parcel.from, Load::Reply(reply, told));
            }
            Load::Watch(watcher) => self.watchers.push(watcher),
            _ => {}
        }
    }

    /// Tells watchers what is new to them.
    fn tell(&mut self, network: &Network) {
        let (store, revision) = (&self.store, self.store.revision());
        self.watchers.retain_mut(|watcher| {
            if watcher.sender.is_closed() || watcher.broken.load(Ordering::Relaxed) {
                return false;
            }
            if watcher.next > revision {
                return true;
            }
            let batch = store.events(&watcher.prefix, watcher.next);
            let is_compacted = matches!(batch, Err(Error::Compacted { .. }));
            watcher.next = revision + 1;
            let load = Load::Changes(batch, watcher.sender.clone(), Arc::clone(&watcher.broken));
            network.send(COORDINATOR, watcher.place, load);
            !is_compacted
        });
    }

    /// The routes that stand there.
    pub fn routes(&self) -> Vec<Route> {
        let of_ranges = |entry: &&KeyValue| layout::RouteKey::parse(&entry.key).is_some();
        let entries = self.store.standing(layout::ROUTES).filter(of_ranges);
        entries.map(|entry| from_json(&entry.value).unwrap_or_else(|error| panic!("{}: {error}", entry.key))).collect()
    }

    /// The changes of routes that are remembered there, as text, for a person.
    pub fn describe(&self) -> Vec<String> {
        let events = self.store.events("tenant/", self.store.compacted() + 1);
        let events = events.map(|batch| batch.events).unwrap_or_default();
        let put = events.into_iter().map(|event| match event.kind {
            EventKind::Put(entry) => format!("{}: {}", entry.key, String::from_utf8_lossy(&entry.value)),
            EventKind::Delete { key } => format!("{key}: gone"),
        });
        put.collect()
    }
}

fn kind(load: &Load) -> u8 {
    match load {
        Load::Question(..) => 0,
        Load::Answer(..) => 1,
        Load::Frame(..) => 2,
        Load::Received(..) => 3,
        Load::Ask(..) => 4,
        Load::Reply(..) => 5,
        Load::Watch(_) => 6,
        Load::Changes(..) => 7,
    }
}
