//! The world: all nodes, the network between them, the clients, and time, which goes on in ticks. In each tick what is due
//! happens in a fixed order: faults end and strike, parcels arrive, and then each node and the clients run for as long as
//! the tick is.

use std::collections::BTreeMap;

use tokio::runtime::Runtime;

use crate::dice::Dice;
use crate::faults::{End, Faults};
use crate::network::{CLIENTS, Load, Network, Weather};
use crate::node::{Node, paused_runtime, wait_in};
use crate::trace::{Now, Trace};

/// How long a tick is, in milliseconds.
pub const TICK: u64 = 5;

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
    /// Where clients run.
    pub clients: Runtime,
    ends: BTreeMap<(u64, u64), End>,
    ends_noted: u64,
}

impl World {
    /// A world of so many nodes, on none of which anything runs yet.
    pub fn new(dice: &mut Dice, nodes: usize) -> std::io::Result<World> {
        let now = Now::default();
        let trace = Trace::new(now.clone());
        let network = Network::new(dice.fork(), now.clone());
        let nodes = (0..nodes).map(|place| Node::new(place, dice.fork(), network.clone(), trace.clone())).collect();
        let clients = paused_runtime()?;
        Ok(World { now, trace, network, nodes, clients, ends: BTreeMap::new(), ends_noted: 0 })
    }

    /// Something ends at this time.
    pub fn later(&mut self, at: u64, end: End) {
        self.ends_noted += 1;
        self.ends.insert((at, self.ends_noted), end);
    }

    /// One tick.
    pub fn tick(&mut self, faults: Option<&mut Faults>) {
        self.now.set(self.now.get() + TICK);
        let later = self.ends.split_off(&(self.now.get() + 1, 0));
        for end in std::mem::replace(&mut self.ends, later).into_values() {
            self.end(end);
        }
        if let Some(faults) = faults {
            faults.strike(self);
        }
        for parcel in self.network.arriving() {
            self.trace.bytes(&[parcel.from as u8, parcel.to as u8]);
            match (parcel.to, parcel.load) {
                (CLIENTS, Load::Answer(answer, told)) => {
                    let _ = told.send(answer);
                }
                (to, load) if to < self.nodes.len() => {
                    self.nodes[to].take(crate::network::Parcel { from: parcel.from, to, load });
                }
                _ => {}
            }
        }
        for node in &mut self.nodes {
            node.run(TICK);
        }
        wait_in(&self.clients, TICK);
    }

    fn end(&mut self, end: End) {
        self.trace.note(format_args!("{end:?}"));
        match end {
            End::Start(place) => self.start(place),
            End::Resume(place) => self.nodes[place].resume(),
            End::Mend => self.network.mend(),
            End::FairWeather => self.network.set_weather(Weather::FAIR),
            End::GoodDisk(place) => {
                self.nodes[place].pace.set_longest(4);
                self.nodes[place].pace.set_stuck(false);
            }
            End::RightClock(place) => self.nodes[place].clock.set(0, 0),
        }
    }

    /// Starts what runs on the node at this place, where nothing does.
    pub fn start(&mut self, place: usize) {
        if !self.nodes[place].is_alive()
            && let Err(error) = self.nodes[place].start()
        {
            // A disk that does not let itself be opened is tried again, as a supervisor would.
            self.trace.note(format_args!("node {place} does not start: {error}"));
            self.later(self.now.get() + 1000, End::Start(place));
        }
    }

    /// All is well from now on, and everything runs.
    pub fn heal(&mut self) {
        let pending = std::mem::take(&mut self.ends);
        pending.into_values().for_each(|end| self.end(end));
        self.end(End::Mend);
        self.end(End::FairWeather);
        for place in 0..self.nodes.len() {
            self.end(End::GoodDisk(place));
            self.end(End::RightClock(place));
            self.nodes[place].resume();
            self.start(place);
        }
    }
}
