//! Faults while clients work. The short storm is part of every test run; the long one draws its faults from a seed for as
//! long as it is asked to, and is `make chaos`.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::{Cluster, Shape};
use crate::faults::{Fault, draw, wait};
use crate::network::run;
use crate::placement::until_settled;
use crate::say;
use crate::verify::{findings, verify};
use crate::workload::{Running, STORM_TIMEOUT};

/// Clients at the same time.
const CLIENTS: u64 = 8;

fn seed() -> u64 {
    let given = std::env::var("DSTORE_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    // Another one each time, from where the standard library takes its own.
    given.unwrap_or_else(|| std::hash::RandomState::new().hash_one(0) % 1_000_000_000)
}

/// Everything that a small cluster has to survive, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_storm_loses_nothing_and_shows_nothing_wrong() {
    let _alone = crate::alone().await;
    let Some(mut cluster) = Cluster::start(Shape { nodes: 3, replication_factor: crate::FACTOR, ranges: 6 }).await
    else {
        return;
    };
    let seed = seed();
    say(&format!("a short storm, DSTORE_CHAOS_SEED={seed}"));
    let running = Running::start(&cluster, CLIENTS, seed, STORM_TIMEOUT);
    let node = |number: usize| format!("node-{number}");
    wait(2.0).await;
    for (fault, seconds) in [
        (Fault::Kill(node(0)), 2.0),
        (Fault::Pause(node(1)), 3.0),
        (Fault::Part(node(2)), 4.0),
        (Fault::Kill("etcd".to_owned()), 2.0),
        (Fault::Kill(node(1)), 1.0),
        (Fault::Unplug(node(0)), 3.0),
        (Fault::KillAllNodes, 0.5),
    ] {
        fault.wait_through(&mut cluster, seconds).await;
        wait(2.5).await;
    }
    let workload = running.stop().await;
    verify(&mut cluster, &workload, seed).await;
}

/// The judges would be of no use if they passed everything: the only copy of each range is set back to what it was some writes
/// ago, which no node can know of, and they find what is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_are_set_back_are_found_out() {
    let _alone = crate::alone().await;
    let Some(mut cluster) = Cluster::start(Shape { nodes: 1, replication_factor: 1, ranges: 2 }).await else { return };
    let running = Running::start(&cluster, CLIENTS, 1, STORM_TIMEOUT);
    running.until_operations(300).await;
    let (data, copy) = (cluster.path("node-0/data").display().to_string(), cluster.path("copy").display().to_string());
    cluster.nodes[0].kill();
    run("cp", &["-a", &data, &copy]).expect("it is copied");
    cluster.begin("node-0");
    cluster.until_ready(&["node-0"]).await;
    running.until_operations(500).await;
    cluster.nodes[0].kill();
    run("rm", &["-rf", &data]).expect("it is removed");
    run("cp", &["-a", &copy, &data]).expect("it is copied back");
    cluster.begin("node-0");
    cluster.until_ready(&["node-0"]).await;
    running.until_operations(400).await;
    let workload = running.stop().await;
    let found = findings(&mut cluster, &workload, 1).await;
    for what in ["an acknowledged write is lost", "no order of these operations explains", "was given to two writes"] {
        assert!(found.iter().any(|finding| finding.contains(what)), "{what}: {found:?}");
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// `make chaos`: DSTORE_CHAOS_SECONDS of it, half with three nodes and half with five, where copies have somewhere to move to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is asked to: make chaos"]
async fn a_long_storm() {
    let _alone = crate::alone().await;
    let seconds = number("DSTORE_CHAOS_SECONDS", 1800);
    let seed = seed();
    say(&format!("a long storm of {seconds} seconds, DSTORE_CHAOS_SEED={seed}"));
    for nodes in [3, 5] {
        if !storm(nodes, seed, Duration::from_secs(seconds / 2)).await {
            return;
        }
    }
}

async fn storm(nodes: usize, seed: u64, length: Duration) -> bool {
    let shape = Shape { nodes, replication_factor: crate::FACTOR, ranges: 8 };
    let Some(mut cluster) = Cluster::start(shape).await else { return false };
    let mut dice = StdRng::seed_from_u64(seed);
    let running = Running::start(&cluster, CLIENTS, seed, STORM_TIMEOUT);
    let began = Instant::now();
    while began.elapsed() < length {
        let (first, second) = (draw(&cluster, &mut dice), draw(&cluster, &mut dice));
        let seconds = dice.random_range(0.5..8.0);
        // Two at a time, now and then, where they befall two; another placement meets something else wherever it can.
        let both = first.victim().is_some() && second.victim().is_some() && first.victim() != second.victim();
        let is_placement = first.is_placement() || second.is_placement();
        let second = (both && (is_placement || dice.random_range(0..4) == 0)).then_some(second);
        say(&format!("{:7.1} {first:?} {second:?} for {seconds:.1} s", began.elapsed().as_secs_f64()));
        first.begin(&mut cluster).await;
        if let Some(second) = &second {
            second.begin(&mut cluster).await;
        }
        wait(seconds).await;
        first.end(&mut cluster);
        if let Some(second) = &second {
            second.end(&mut cluster);
        }
        wait(dice.random_range(0.2..4.0)).await;
    }
    let workload = running.stop().await;
    cluster.until_all_ready().await;
    until_settled(&cluster).await;
    verify(&mut cluster, &workload, seed).await;
    true
}
