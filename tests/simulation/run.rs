//! One run: a cluster is made, clients work while faults strike, all is healed, and then everything that was seen is judged.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use dstore::domain::mutation::{self, Mutation};
use dstore_checkers::{Answer, Operation, Stored, check_end, check_key, check_shown, check_versions};
use parking_lot::Mutex;

use crate::clients::{Client, Key, Shared};
use crate::cluster::{self, Size};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::randomness::on_a_thread_of_its_own;
use crate::rest;
use crate::world::{TICK, World};

/// How long everything may take to settle after all is well, in simulated milliseconds.
const SETTLE: u64 = 60_000;

/// How a run went.
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// All that happened, as a number.
    pub digest: u64,
    /// How many events that were.
    pub events: u64,
    /// Operations whose answer is known.
    pub answered: usize,
    /// Operations whose outcome was never known.
    pub unknown: usize,
    /// Reads that may lag and showed an item.
    pub lagging: usize,
    /// What is wrong; empty where all is well.
    pub wrong: Vec<String>,
}

impl Report {
    /// In a few lines.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "seed {}: {} operations answered, {} unknown, {} lagging reads, {} events, history {:016x}\n",
            self.seed, self.answered, self.unknown, self.lagging, self.events, self.digest
        );
        for wrong in &self.wrong {
            let _ = writeln!(text, "{wrong}");
        }
        if !self.wrong.is_empty() {
            let _ = writeln!(text, "to see it again: make sim SEED={}", self.seed);
        }
        text
    }
}

/// Runs a seed, on a thread of its own.
///
/// # Errors
/// What a panic said, where the product panics.
pub fn run(seed: u64, mistake: Option<Mutation>) -> std::thread::Result<Report> {
    on_a_thread_of_its_own(seed, || {
        mutation::switch(mistake);
        run_here(seed)
    })
}

fn run_here(seed: u64) -> Report {
    let mut dice = Dice::new(seed);
    let size = size(&mut dice);
    let founded = cluster::found(size);
    let mut world = World::new(&mut dice, size.nodes, &founded).unwrap_or_else(|error| panic!("no runtime: {error}"));
    world.heal();
    let shared = Arc::new(Shared::new(world.network.clone(), world.trace.clone(), dice.between(2, 9) as u8));
    let mut faults = Faults::new(dice.fork(), size.copies);
    world.trace.note(format_args!("seed {seed}: {size:?}, with {:?}", faults.allowed()));
    let lasts = dice.between(6_000, 16_000);
    let working: Vec<_> = (1..=dice.between(2, 4))
        .map(|number| {
            let client = Client::new(number, dice.fork(), Arc::clone(&shared));
            world.clients.spawn(client.work(lasts))
        })
        .collect();
    while world.now.get() < lasts {
        world.tick(Some(&mut faults));
    }
    world.heal();
    let mut wrong = Vec::new();
    if !until(&mut world, |_| working.iter().all(|client| client.is_finished())) {
        wrong.push(format!("clients are not answered {SETTLE} ms after all is well"));
    }
    world.wait_for_what_is_late();
    let last = last_reads(&mut world, &shared, dice.fork());
    if last.is_none() {
        wrong.push(format!("not every key can be read {SETTLE} ms after all is well"));
    }
    if !until(&mut world, |world| rest::differences(world).is_empty()) {
        wrong.extend(rest::differences(&world));
    }
    let [seen, lagging] = [&shared.seen, &shared.lagging].map(|kept| std::mem::take(&mut *kept.lock()));
    wrong.extend(std::mem::take(&mut *shared.wrong.lock()));
    wrong.extend(judge(&seen, last.as_ref()));
    wrong.extend(judge_lagging(&seen, &lagging));
    if !wrong.is_empty() {
        world.coordinator.describe().iter().for_each(|route| world.trace.note(format_args!("{route}")));
    }
    let (digest, events) = world.trace.digest();
    let all = || seen.values().flatten();
    let unknown = all().filter(|operation| operation.answer == Answer::Unknown).count();
    let lagging = lagging.values().flatten().filter(|read| read.answer != Answer::Item(None)).count();
    Report { seed, digest, events, answered: all().count() - unknown, unknown, lagging, wrong }
}

/// The size of a seed's cluster: mostly three copies.
fn size(dice: &mut Dice) -> Size {
    let copies = *dice.choose(&[3, 3, 3, 3, 1, 5]);
    let nodes = dice.between(u64::from(copies).max(3), 5) as usize;
    Size { nodes, ranges: dice.between(1, 2) as u16, copies }
}

/// Lets time go on until this is so; `false`: it never was.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) -> bool {
    let deadline = world.now.get() + SETTLE;
    while !is_so(world) {
        if world.now.get() >= deadline {
            return false;
        }
        world.tick(None);
    }
    // What is on its way comes in.
    (0..200 / TICK).for_each(|_| world.tick(None));
    true
}

/// What every key holds at the end; none where one could not be read.
fn last_reads(world: &mut World, shared: &Arc<Shared>, dice: Dice) -> Option<BTreeMap<Key, Option<Stored>>> {
    let found = Arc::new(Mutex::new(BTreeMap::new()));
    let keys: Vec<Key> = (1..=shared.keys).collect();
    let reading = {
        let (found, mut client, keys) = (Arc::clone(&found), Client::new(0, dice, Arc::clone(shared)), keys.clone());
        world.clients.spawn(async move {
            for key in keys {
                let item = loop {
                    if let Some(item) = client.read(key).await {
                        break item;
                    }
                };
                found.lock().insert(key, item);
            }
        })
    };
    let read = until(world, |_| reading.is_finished());
    let found = std::mem::take(&mut *found.lock());
    (read && found.len() == keys.len()).then_some(found)
}

fn judge(seen: &BTreeMap<Key, Vec<Operation>>, last: Option<&BTreeMap<Key, Option<Stored>>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, operations) in seen {
        if let Err(violation) = check_key(operations) {
            wrong.push(format!("key {key:?} is not linearizable: {violation}"));
        }
        if let Err(violation) = check_versions(operations) {
            wrong.push(format!("key {key:?}: {violation}"));
        }
        if let Some(last) = last.and_then(|last| last.get(key))
            && let Err(violation) = check_end(operations, last.as_ref())
        {
            wrong.push(format!("key {key:?}: {violation}"));
        }
    }
    wrong
}

/// Reads that may lag show nothing that was not written, and each version as everybody else saw it: an entry that was shown
/// before it was sure, and gave way to another one, had the other's version.
fn judge_lagging(seen: &BTreeMap<Key, Vec<Operation>>, lagging: &BTreeMap<Key, Vec<Operation>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, reads) in lagging {
        let operations = seen.get(key).cloned().unwrap_or_default();
        let shown = check_shown(&operations, reads);
        let versions = check_versions(&[operations, reads.clone()].concat());
        let found = [shown, versions].into_iter().filter_map(Result::err);
        wrong.extend(found.map(|violation| format!("key {key:?}, with reads that may lag: {violation}")));
    }
    wrong
}
