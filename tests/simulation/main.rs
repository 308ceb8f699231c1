//! A whole cluster in simulated time, on a simulated network and simulated disks, running the real code: each run follows from a
//! seed, and can be repeated from it.
//!
//! Nodes, proxies and control have a runtime each, all on one thread, whose time goes on only when the world ([`world`]) lets it:
//! tick by tick, one after the other. Between ticks the network ([`network`]) brings what was sent, and faults ([`faults`])
//! strike. Clients ([`clients`]) write down what they were answered, and the checkers judge it when all is healed ([`run`]);
//! then, too, every copy that a route names must run, and the copies of each range must be equal ([`rest`]).
//!
//! What is real: the engine with its commit log, openraft and all that stands around it, assignments, publishing, changes of
//! groups, the routing of proxies, control and its placement. What is simulated: time, the network, the disk of the log, the
//! coordinator ([`coordinator`]). Tables are in memory: what SQLite does when files fail is tested on real files.
//!
//! So nothing depends on how fast the machine is, or on which thread comes first; random bytes come from the seed, whoever asks
//! for them ([`randomness`]). Some libraries count in variables of the whole process, so each seed has a process of its own
//! ([`processes`]). What is left of chance outside the seed would show itself in the test that runs seeds twice and compares all
//! that happened ([`trace`]).
//!
//! | environment | |
//! |---|---|
//! | `DSTORE_SEEDS` | how many seeds to run; 1,000 where nothing is said |
//! | `DSTORE_SEED` | run this one alone |
//! | `DSTORE_TRACE` | show each event |
//! | `DSTORE_LOG` | show what the product logs, as in `dstore=debug` |
//! | `DSTORE_MISTAKE` | with this deliberate mistake in the product |
//!
//! Rejected: one runtime for all nodes (a node that is killed leaves tasks behind that somebody else spawned, and none can be
//! paused), and threads that hand on a baton (slow).

mod clients;
mod clock;
mod cluster;
mod control;
mod coordinator;
mod coordinator_client;
mod database;
mod dice;
mod disk_pace;
mod faults;
mod network;
mod node;
mod node_life;
mod processes;
mod proxy;
mod question;
mod randomness;
mod rest;
mod run;
mod trace;
mod world;

use std::time::Instant;

use dstore::domain::mutation;
use processes::{Told, first_that_fails, run_all, tell};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_seed_holds() {
    if let Some(seed) = number("DSTORE_SEED") {
        return tell(seed);
    }
    let (count, began) = (number("DSTORE_SEEDS").unwrap_or(1000), Instant::now());
    let told = run_all(1..=count, None);
    let failed: Vec<&Told> = told.iter().filter(|told| !told.holds).collect();
    for told in failed.iter().take(5) {
        println!("{}", told.text);
    }
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let (answered, lagging) = (sum(|told| told.answered), sum(|told| told.lagging));
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} seeds in {seconds:.1} s, {answered} operations answered, {lagging} lagging reads");
    let seeds: Vec<u64> = failed.iter().map(|told| told.seed).collect();
    assert!(seeds.is_empty(), "{} of {count} seeds fail: {seeds:?}", seeds.len());
    assert!(answered > count * 50, "clients were hardly ever answered");
    assert!(lagging >= count, "hardly ever did a read that may lag show anything");
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    if number("DSTORE_SEED").is_some() {
        return;
    }
    let [first, again] = [(), ()].map(|()| run_all(1..=12, None));
    for (first, again) in first.iter().zip(&again) {
        assert!(first.history.is_some(), "{}", first.text);
        assert_eq!(first.history, again.history, "seed {}", first.seed);
    }
    let mut histories: Vec<_> = first.iter().map(|told| told.history.clone()).collect();
    histories.sort();
    histories.dedup();
    assert_eq!(histories.len(), first.len(), "another seed is another history");
}

#[test]
fn every_deliberate_mistake_is_caught() {
    if number("DSTORE_SEED").is_some() {
        return;
    }
    let mut missed = Vec::new();
    for mistake in mutation::ALL {
        match first_that_fails(number("DSTORE_SEEDS").unwrap_or(1000), *mistake) {
            Some(told) => println!("{mistake:?} is caught by seed {}: {}", told.seed, told.first_wrong()),
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "no seed catches {missed:?}");
}
