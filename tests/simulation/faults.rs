//! What goes wrong: each seed allows some kinds of faults, throws when and where they strike, and when they end.

use crate::dice::Dice;
use crate::network::{CLIENTS, Weather};
use crate::world::World;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node is killed, and loses what was not synced.
    Kill,
    /// A node stops running for a while, and goes on.
    Pause,
    /// Nothing gets from some nodes to others, in one direction or both.
    Partition,
    /// Parcels are late, lost, or out of order.
    Weather,
    /// A disk is slow, or stuck.
    SlowDisk,
    /// A sync fails.
    FailedSync,
    /// A clock is set, or runs too fast or slow.
    Clock,
}

/// All kinds.
pub const KINDS: [Kind; 7] =
    [Kind::Kill, Kind::Pause, Kind::Partition, Kind::Weather, Kind::SlowDisk, Kind::FailedSync, Kind::Clock];

/// The end of a fault.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// The node at this place starts again.
    Start(usize),
    /// It goes on.
    Resume(usize),
    /// All ways are open.
    Mend,
    /// All is well with the network.
    FairWeather,
    /// Its disk is well.
    GoodDisk(usize),
    /// Its clock is right.
    RightClock(usize),
}

/// Throws what goes wrong.
pub struct Faults {
    dice: Dice,
    allowed: Vec<Kind>,
    next_at: u64,
    /// How far apart faults are at most, in milliseconds.
    apart: u64,
}

impl Faults {
    /// The faults of a seed.
    pub fn new(mut dice: Dice) -> Faults {
        let mut allowed: Vec<Kind> = KINDS.into_iter().filter(|_| dice.chance(45)).collect();
        if allowed.is_empty() {
            allowed.push(*dice.choose(&KINDS));
        }
        let apart = dice.between(300, 3000);
        let next_at = dice.between(200, 2000);
        Faults { dice, allowed, next_at, apart }
    }

    /// The kinds that this seed allows.
    pub fn allowed(&self) -> &[Kind] {
        &self.allowed
    }

    /// Strikes, where it is time.
    pub fn strike(&mut self, world: &mut World) {
        let now = world.now.get();
        if now < self.next_at {
            return;
        }
        self.next_at = now + self.dice.between(50, self.apart);
        let place = self.dice.place(world.nodes.len());
        let lasts = *self.dice.choose(&[100, 400, 1500, 4000]);
        let until = now + self.dice.between(20, lasts);
        let kind = *self.dice.choose(&self.allowed);
        world.trace.note(format_args!("fault {kind:?} at {place} until {until}"));
        match kind {
            Kind::Kill => self.kill(world, place, until),
            Kind::Pause if world.nodes[place].runs() => {
                world.nodes[place].pause();
                world.later(until, End::Resume(place));
            }
            Kind::Pause => {}
            Kind::Partition => self.partition(world, until),
            Kind::Weather => {
                let weather = Weather {
                    lost: self.dice.between(0, 30),
                    shortest: 1,
                    longest: *self.dice.choose(&[20, 100, 500]),
                };
                world.network.set_weather(weather);
                world.later(until, End::FairWeather);
            }
            Kind::SlowDisk => {
                let node = &world.nodes[place];
                node.pace.set_longest(self.dice.between(20, 400));
                node.pace.set_stuck(self.dice.chance(30));
                world.later(until, End::GoodDisk(place));
            }
            Kind::FailedSync => world.nodes[place].fail_sync_after(self.dice.between(0, 5)),
            Kind::Clock => {
                let ahead = self.dice.between(0, 120_000_000) as i64 - 60_000_000;
                world.nodes[place].clock.set(ahead, self.dice.between(0, 400) as i64 - 200);
                world.later(until, End::RightClock(place));
            }
        }
    }

    fn kill(&mut self, world: &mut World, place: usize, until: u64) {
        // Now and then all at once, as when the power of a room goes.
        let places: Vec<usize> = if self.dice.chance(10) { (0..world.nodes.len()).collect() } else { vec![place] };
        for place in places {
            if world.nodes[place].is_alive() {
                world.nodes[place].kill();
                world.later(until + self.dice.between(0, 200), End::Start(place));
            }
        }
    }

    fn partition(&mut self, world: &mut World, until: u64) {
        let count = world.nodes.len();
        let clients = self.dice.chance(30);
        let side: Vec<bool> = (0..count).map(|_| self.dice.chance(50)).collect();
        let (there, back) = *self.dice.choose(&[(true, true), (true, true), (true, false), (false, true)]);
        for from in 0..count {
            for to in (0..count).filter(|to| side[from] && !side[*to]) {
                if there {
                    world.network.cut(from, to);
                }
                if back {
                    world.network.cut(to, from);
                }
            }
            if clients && side[from] {
                world.network.cut(CLIENTS, from);
                world.network.cut(from, CLIENTS);
            }
        }
        world.later(until, End::Mend);
    }
}
