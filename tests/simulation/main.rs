//! A whole cluster in simulated time, on a simulated network and simulated disks, running the real code: each run follows from a
//! seed, and can be repeated from it.
//!
//! Each node has a runtime of its own, on this one thread, whose time goes on only when the world ([`world`]) lets it: tick by tick,
//! node after node. Between ticks the network ([`network`]) brings what was sent, and faults ([`faults`]) strike. Clients
//! ([`clients`]) write down what they were answered, and the checkers judge it when all is healed ([`run`]).
//!
//! So nothing depends on how fast the machine is, or on which thread comes first. What is left of chance outside the seed would show
//! itself in the test that runs a seed twice and compares all that happened ([`trace`]).
//!
//! | environment | |
//! |---|---|
//! | `DSTORE_SEEDS` | how many seeds to run; 1,000 where nothing is said |
//! | `DSTORE_SEED` | run this one alone |
//! | `DSTORE_TRACE` | show each event |
//!
//! Rejected: one runtime for all nodes (a node that is killed leaves tasks behind that somebody else spawned, and none can be
//! paused), and threads that hand on a baton (slow).

mod clients;
mod clock;
mod cluster;
mod database;
mod dice;
mod disk_pace;
mod faults;
mod network;
mod node;
mod question;
mod run;
mod trace;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use dstore::domain::mutation::{self, Mutation};
use run::{Report, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs these seeds on as many threads as the machine has cores; the reports of those that failed.
fn run_all(first: u64, count: u64) -> (Vec<Report>, usize) {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut failed = Vec::new();
    let mut answered = 0;
    std::thread::scope(|scope| {
        let work = || {
            let mut reports = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    return reports;
                }
                reports.push(run(seed));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for report in workers.into_iter().flat_map(|worker| worker.join().expect("a run panicked")) {
            answered += report.answered;
            if !report.wrong.is_empty() {
                failed.push(report);
            }
        }
    });
    (failed, answered)
}

#[test]
fn every_seed_holds() {
    if let Some(seed) = number("DSTORE_SEED") {
        let report = run(seed);
        println!("{}", report.describe());
        assert!(report.wrong.is_empty(), "seed {seed}");
        return;
    }
    let count = number("DSTORE_SEEDS").unwrap_or(1000);
    let (failed, answered) = run_all(1, count);
    for report in failed.iter().take(5) {
        println!("{}", report.describe());
    }
    println!("{count} seeds, {answered} operations answered");
    assert!(failed.is_empty(), "{} of {count} seeds fail", failed.len());
    assert!(answered as u64 > count * 50, "clients were hardly ever answered");
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    if number("DSTORE_SEED").is_some() {
        return;
    }
    for seed in 1..=5 {
        let [first, second] = [run(seed), run(seed)];
        assert_eq!((first.digest, first.events), (second.digest, second.events), "seed {seed}");
        assert_eq!(told_by_another_process(seed), format!("{:016x}", first.digest), "seed {seed} in another process");
        assert_ne!(first.digest, run(seed + 1000).digest);
    }
}

/// The digest of this seed's run in another process.
fn told_by_another_process(seed: u64) -> String {
    let program = std::env::current_exe().expect("this program's path");
    let output = std::process::Command::new(program)
        .args(["every_seed_holds", "--exact", "--nocapture"])
        .env("DSTORE_SEED", seed.to_string())
        .output()
        .expect("this program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let digest = text.split("history ").nth(1).and_then(|rest| rest.split_whitespace().next());
    digest.unwrap_or_else(|| panic!("no digest in {text}")).to_owned()
}

/// The first seed of these that shows the mistake, and what is wrong there. A panic, as of an assertion in the product, shows
/// it, too.
fn caught(mistake: Mutation, seeds: u64) -> Option<(u64, String)> {
    mutation::switch(Some(mistake));
    let shown = (1..=seeds).find_map(|seed| {
        let wrong = match std::panic::catch_unwind(|| run(seed)) {
            Ok(report) => report.wrong.into_iter().next(),
            Err(_) => Some("it panics".to_owned()),
        };
        wrong.map(|wrong| (seed, wrong))
    });
    mutation::switch(None);
    shown
}

#[test]
fn every_deliberate_mistake_is_caught() {
    if number("DSTORE_SEED").is_some() {
        return;
    }
    let mut missed = Vec::new();
    for mistake in mutation::ALL {
        match caught(*mistake, number("DSTORE_SEEDS").unwrap_or(1000)) {
            Some((seed, wrong)) => println!("{mistake:?} is caught by seed {seed}: {wrong}"),
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "no seed catches {missed:?}");
}
