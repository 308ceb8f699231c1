//! What goes wrong: each seed allows some kinds of faults, throws when and where they strike, and when they end. Changes of
//! placement are among them, so that every fault meets every change in some seed.

use crate::control::Wish;
use crate::dice::Dice;
use crate::network::{CLIENTS, CONTROL, COORDINATOR, PROXIES, Weather};
use crate::world::World;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node is killed, and loses what was not synced.
    Kill,
    /// A node is asked to stop: it hands its leaderships over first, and writes everything to disk.
    Restart,
    /// A node stops running for a while, and goes on.
    Pause,
    /// Nothing gets from some places to others, in one direction or both.
    Partition,
    /// Parcels are late, lost, doubled, or out of order.
    Weather,
    /// Writes come to their node a minute late, long after their proxy has asked elsewhere.
    Late,
    /// A disk is slow, or stuck.
    SlowDisk,
    /// A sync fails.
    FailedSync,
    /// The disk of a log is full.
    FullDisk,
    /// A clock is set, or runs too fast or slow.
    Clock,
    /// A node that was killed comes back with an empty folder.
    Wipe,
    /// A node that was killed comes back with a bit of its log turned over.
    BitFlip,
    /// A node comes back with a folder as it was some time ago.
    PutBack,
    /// A proxy is killed.
    ProxyKill,
    /// Control is killed.
    ControlKill,
    /// The coordinator does not answer.
    CoordinatorGone,
    /// The coordinator forgets the past, and its watches break.
    Compaction,
    /// Copies and leaderships are moved, made and taken away.
    Placement,
}

/// All kinds.
pub const KINDS: [Kind; 18] = [
    Kind::Kill,
    Kind::Restart,
    Kind::Pause,
    Kind::Partition,
    Kind::Weather,
    Kind::Late,
    Kind::SlowDisk,
    Kind::FailedSync,
    Kind::FullDisk,
    Kind::Clock,
    Kind::Wipe,
    Kind::BitFlip,
    Kind::PutBack,
    Kind::ProxyKill,
    Kind::ControlKill,
    Kind::CoordinatorGone,
    Kind::Compaction,
    Kind::Placement,
];

/// The end of a fault.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// The node at this place starts again.
    Start(usize),
    /// It has had its time to hand over, and stops; it starts again that much later.
    Stop(usize, u64),
    /// One node comes back with an empty folder, another one is heard again that has missed a lot, and all others go for so
    /// long.
    WorstHour(usize, u64),
    /// A copy of the folder that was made before is put in its place.
    PutBack(usize),
    /// The proxy of this number starts again.
    StartProxy(usize),
    /// Control starts again.
    StartControl,
    /// The coordinator answers again.
    CoordinatorBack,
    /// The node goes on.
    Resume(usize),
    /// All ways are open.
    Mend,
    /// All is well with the network.
    FairWeather,
    /// Nothing comes late any more that is sent from now on.
    InTime,
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
    /// How many folders may still be damaged: with more of them than a minority of the copies, data is lost by right.
    damages: usize,
}

impl Faults {
    /// The faults of a seed, in a cluster of so many copies of each range.
    pub fn new(mut dice: Dice, copies: u8) -> Faults {
        let mut allowed: Vec<Kind> = KINDS.into_iter().filter(|_| dice.chance(35)).collect();
        if dice.chance(70) {
            // Its runs take a minute longer.
            allowed.retain(|kind| *kind != Kind::Late);
        }
        if allowed.is_empty() {
            allowed.push(*dice.choose(&KINDS));
        }
        if allowed.contains(&Kind::PutBack) {
            // Who could object must be heard: a folder that is put back while nobody knows better is not found out.
            let silencing = [Kind::CoordinatorGone, Kind::Partition, Kind::Weather, Kind::Pause];
            allowed.retain(|kind| !silencing.contains(kind));
        }
        let apart = dice.between(300, 3000);
        let next_at = dice.between(200, 2000);
        // One at a time would be right, too; but when the copies of one are made anew is not the faults' to know.
        let damages = usize::from(copies > 2);
        Faults { dice, allowed, next_at, apart, damages }
    }

    fn may_damage(&self) -> bool {
        [Kind::Wipe, Kind::BitFlip, Kind::PutBack].iter().any(|kind| self.allowed.contains(kind))
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
            Kind::Wipe | Kind::BitFlip | Kind::PutBack => self.damage(world, kind, place, until),
            Kind::Restart => {
                world.nodes[place].hand_over();
                let stops_at = now + self.dice.between(0, 1500);
                world.later(stops_at, End::Stop(place, until - now));
            }
            Kind::Pause if world.nodes[place].runs() => {
                world.nodes[place].pause();
                world.later(until, End::Resume(place));
            }
            Kind::Pause => {}
            Kind::Partition => self.partition(world, until),
            Kind::Weather => self.weather(world, until),
            Kind::Late => {
                world.network.set_late(self.dice.between(10, 60));
                world.later(until, End::InTime);
            }
            Kind::SlowDisk | Kind::FailedSync | Kind::FullDisk => self.disk(world, kind, place, until),
            Kind::Clock => {
                let ahead = self.dice.between(0, 240_000_000) as i64 - 120_000_000;
                world.nodes[place].clock.set(ahead, self.dice.between(0, 400) as i64 - 200);
                world.later(until, End::RightClock(place));
            }
            Kind::ProxyKill => {
                let number = place % world.proxies.len();
                world.proxies[number].kill();
                world.later(until, End::StartProxy(number));
            }
            Kind::ControlKill => {
                world.control.kill();
                world.later(until, End::StartControl);
            }
            Kind::CoordinatorGone => {
                world.coordinator.stop();
                world.later(until, End::CoordinatorBack);
            }
            Kind::Compaction => world.coordinator.forget_the_past(),
            Kind::Placement => self.placement(world, place),
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

    fn damage(&mut self, world: &mut World, kind: Kind, place: usize, until: u64) {
        if self.damages == 0 || !world.nodes[place].is_alive() {
            return;
        }
        self.damages -= 1;
        if kind == Kind::Wipe && self.dice.chance(50) {
            return self.worst_hour(world, place);
        }
        world.nodes[place].kill();
        match kind {
            Kind::BitFlip => world.nodes[place].flip_a_bit(),
            Kind::PutBack => {
                world.nodes[place].copy_folder();
                world.later(until + self.dice.between(500, 4000), End::PutBack(place));
            }
            _ => world.nodes[place].wipe(),
        }
        world.later(until, End::Start(place));
    }

    /// One node hears nothing for a while; then another one loses what it acknowledged meanwhile, and those that have it all
    /// are killed. Nothing may be decided without them, for those that are left know too little.
    fn worst_hour(&mut self, world: &mut World, place: usize) {
        let deaf = (place + 1) % world.nodes.len();
        for other in (0..world.nodes.len()).filter(|other| *other != deaf) {
            world.network.cut(deaf, other);
            world.network.cut(other, deaf);
        }
        let now = world.now.get();
        world.later(now + self.dice.between(500, 2000), End::WorstHour(place, self.dice.between(5000, 9000)));
    }

    fn weather(&mut self, world: &mut World, until: u64) {
        let weather = Weather {
            lost: self.dice.between(0, 30),
            doubled: self.dice.between(0, 30),
            shortest: 1,
            longest: *self.dice.choose(&[20, 100, 500]),
        };
        world.network.set_weather(weather);
        world.later(until, End::FairWeather);
    }

    fn disk(&mut self, world: &mut World, kind: Kind, place: usize, until: u64) {
        let node = &world.nodes[place];
        match kind {
            Kind::FailedSync => return node.fail_sync_after(self.dice.between(0, 5)),
            Kind::FullDisk => node.set_capacity(Some(self.dice.between(0, 256 << 10))),
            _ => {
                node.pace.set_longest(self.dice.between(20, 400));
                node.pace.set_stuck(self.dice.chance(30));
            }
        }
        world.later(until, End::GoodDisk(place));
    }

    fn placement(&mut self, world: &mut World, place: usize) {
        let other = self.dice.place(world.nodes.len());
        let wish = match self.dice.between(0, 10) {
            0..=2 => Wish::Lead(place),
            3..=5 => Wish::Move(place, other),
            // A single copy may not be lost, so where folders are damaged there is never only one.
            6 => Wish::Copies(*self.dice.choose(if self.may_damage() { &[3, 5] } else { &[1, 3, 5] })),
            7 => Wish::Split,
            8 => Wish::Drain(place),
            _ => Wish::HandOver(place),
        };
        world.control.ask(wish);
    }

    fn partition(&mut self, world: &mut World, until: u64) {
        let proxies = PROXIES..PROXIES + world.proxies.len();
        let places: Vec<usize> = (0..world.nodes.len()).chain(proxies).chain([CONTROL, COORDINATOR, CLIENTS]).collect();
        let side: Vec<bool> = places.iter().map(|_| self.dice.chance(50)).collect();
        // Often only between nodes: who asks them sees both sides then.
        let nodes_only = self.dice.chance(50);
        let (there, back) = *self.dice.choose(&[(true, true), (true, true), (true, false), (false, true)]);
        for (from, is_here) in places.iter().zip(&side) {
            for (to, is_there) in places.iter().zip(&side) {
                let is_between_nodes = *from < PROXIES && *to < PROXIES;
                if !is_here || *is_there || nodes_only && !is_between_nodes {
                    continue;
                }
                if there {
                    world.network.cut(*from, *to);
                }
                if back {
                    world.network.cut(*to, *from);
                }
            }
        }
        world.later(until, End::Mend);
    }
}
