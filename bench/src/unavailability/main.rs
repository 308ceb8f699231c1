//! How long clients go without a node: a cluster with many ranges, clients that write to some of its keys one after the other,
//! and a node that leads many of the ranges is killed, again and again. For each key that it led the gap is measured between the last
//! write before the kill and the first after it. Then nodes are stopped as planned, which must fail no request.
//!
//! The cluster is that of the chaos tests, so it takes root. It prints Markdown for docs/benchmarks.md:
//!
//! ```sh
//! cargo build --profile quick --workspace
//! target/quick/dstore-bench-unavailability --dstore target/quick/dstore
//! ```
//!
//! A gap holds the time that an ordinary write takes and the pause between two writes; the line "nobody killed" tells how
//! much that is. Which node leads a key is asked of the nodes themselves.

#[path = "../../../tests/chaos/cluster.rs"]
#[allow(dead_code)] // The storms use the rest.
mod cluster;
#[path = "../../../tests/chaos/network.rs"]
#[allow(dead_code)]
mod network;
#[path = "../../../tests/chaos/process.rs"]
#[allow(dead_code)]
mod process;

mod probes;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Parser;

use cluster::{Cluster, Shape};
use probes::Probes;

/// Measures what clients notice when a node is killed or stopped
#[derive(Debug, Clone, Parser)]
struct Options {
    /// The dstore binary to measure
    #[arg(long, default_value = "target/quick/dstore")]
    dstore: PathBuf,
    /// Nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Copies of each range
    #[arg(long, default_value_t = 3)]
    replication_factor: usize,
    /// Ranges of the table
    #[arg(long, default_value_t = 1000)]
    ranges: usize,
    /// Keys that are written to all the time
    #[arg(long, default_value_t = 64)]
    keys: usize,
    /// Nodes killed, one after the other
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// Nodes stopped as planned, one after the other
    #[arg(long, default_value_t = 10)]
    stops: usize,
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The binary that is measured.
fn program() -> PathBuf {
    PROGRAM.get().cloned().unwrap_or_default()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let _ = PROGRAM.set(options.dstore.clone());
    let Options { nodes, replication_factor, ranges, .. } = options;
    let Some(mut cluster) = Cluster::start(Shape { nodes, replication_factor, ranges }).await else { return };
    let probes = Probes::start(&cluster, options.keys);
    probes.until_all_wrote().await;

    let idle = undisturbed(&probes).await;
    let mut gaps = Vec::new();
    let mut worst = Vec::new();
    for number in 0..options.kills {
        let (name, led) = most_leading(&cluster, &probes).await;
        let killed = probes.now();
        cluster.member(&name).kill();
        let found = probes.until_gaps_end(&led, killed).await;
        worst.extend(found.iter().max().copied());
        eprintln!(
            "kill {number}: {name} led {} of {} keys, worst gap {:?}",
            led.len(),
            options.keys,
            found.iter().max()
        );
        gaps.extend(found);
        come_back(&mut cluster, &name).await;
    }
    let before = probes.unserved();
    for number in 0..options.stops {
        let (name, led) = most_leading(&cluster, &probes).await;
        let code = cluster.member(&name).running().wait_for_stop().await;
        cluster.member(&name).process = None;
        eprintln!("stop {number}: {name} led {} keys and ended with {code:?}", led.len());
        come_back(&mut cluster, &name).await;
    }
    let failed = probes.unserved() - before;

    println!("| {ranges} ranges, {nodes} nodes, factor {replication_factor} | n | p50 | p90 | p99 | max |");
    println!("|---|---|---|---|---|---|");
    println!("{}", line("nobody killed, a key", idle));
    println!("{}", line("killed, a key that it led", gaps));
    println!("{}", line("killed, the worst key of each kill", worst));
    println!("\n{} planned stops: {failed} requests failed.", options.stops);
    probes.stop().await;
}

/// The longest gap of each key while nothing happens.
async fn undisturbed(probes: &Probes) -> Vec<Duration> {
    let from = probes.now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    (0..probes.count()).map(|key| probes.longest_gap(key, from)).collect()
}

/// The node that leads most of the keys, and those.
async fn most_leading(cluster: &Cluster, probes: &Probes) -> (String, Vec<usize>) {
    let mut most = (cluster.nodes[0].host.name.clone(), Vec::new());
    for node in &cluster.nodes {
        let led = probes.led_by(cluster, &node.url()).await;
        if led.len() > most.1.len() {
            most = (node.host.name.clone(), led);
        }
    }
    most
}

async fn come_back(cluster: &mut Cluster, name: &str) {
    cluster.begin(name);
    cluster.until_ready(&[name]).await;
    cluster.until_caught_up().await;
}

fn line(name: &str, mut gaps: Vec<Duration>) -> String {
    gaps.sort_unstable();
    let at = |part: f64| match gaps.len() {
        0 => "–".to_owned(),
        count => format!("{} ms", gaps[((count - 1) as f64 * part).round() as usize].as_millis()),
    };
    format!("| {name} | {} | {} | {} | {} | {} |", gaps.len(), at(0.5), at(0.9), at(0.99), at(1.0))
}
