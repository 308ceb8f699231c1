//! How long clients go without a node: a cluster with many ranges, clients that write to some of its keys one after the other,
//! and a node that leads all ranges is killed, again and again. For each key that it led the gap is measured between the last
//! write before the kill and the first after it. Then nodes are stopped as planned, which must fail no request. At last the range
//! with the lowest hashes is split, again and again, each time being half as large as before, while nobody goes.
//!
//! The other nodes are told to hand their leaderships over, so that it is always the first one that leads. Most ranges sleep, as most do in
//! a cluster of many: when the node goes, all are woken and find other leaders, and the keys that are measured stand in line with them.
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
mod splits;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::Parser;
use reqwest::Method;

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
    /// Splits, one after the other
    #[arg(long, default_value_t = 0)]
    splits: usize,
    /// Items of a KiB that are there before the first split
    #[arg(long, default_value_t = 0)]
    items: usize,
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The binary that is measured.
fn program() -> PathBuf {
    PROGRAM.get().cloned().unwrap_or_default()
}

// Commands are waited for in the first thread, while the clients go on in the other.
#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let options = Options::parse();
    let _ = PROGRAM.set(options.dstore.clone());
    let Options { nodes, replication_factor, ranges, .. } = options;
    let Some(mut cluster) = Cluster::start(Shape { nodes, replication_factor, ranges }).await else { return };
    let probes = Probes::start(&cluster, options.keys);
    probes.until_all_wrote().await;
    until_complete(&cluster).await;

    let idle = undisturbed(&probes).await;
    let killed = measure(&mut cluster, &probes, Going::Killed, options.kills).await;
    let before = probes.unserved();
    let stopped = measure(&mut cluster, &probes, Going::Stopped, options.stops).await;
    let failed = probes.unserved() - before;

    let [least, median, most] = killed.led();
    println!("| {ranges} ranges, {nodes} nodes, factor {replication_factor} | n | p50 | p90 | p99 | max |");
    println!("|---|--:|--:|--:|--:|--:|");
    println!("{}", line("nobody killed, a key", idle));
    println!("{}", line("killed, a key that it led", killed.gaps));
    println!("{}", line("killed, the worst key of each kill", killed.worst));
    println!("{}", line("stopped as planned, a key that it led", stopped.gaps));
    for split in splits::measure(&cluster, &probes, options.splits, options.items).await {
        println!("{split}");
    }
    println!("\nThe nodes that were killed led {median} ranges (median; {least} to {most}).");
    println!("In {} planned stops {failed} requests failed.", options.stops);
    probes.stop().await;
}

/// What was measured while nodes went.
#[derive(Default)]
struct Measured {
    /// The gap of each key that they led.
    gaps: Vec<Duration>,
    /// The longest of each time.
    worst: Vec<Duration>,
    /// How many ranges they led, in order.
    led: Vec<u64>,
}

impl Measured {
    fn add(&mut self, found: Vec<Duration>, led: u64) {
        self.worst.extend(found.iter().max().copied());
        self.gaps.extend(found);
        self.led.insert(self.led.partition_point(|other| *other < led), led);
    }

    /// How many ranges they led: at least, the median, and at most.
    fn led(&self) -> [u64; 3] {
        [0, self.led.len() / 2, self.led.len().saturating_sub(1)]
            .map(|place| self.led.get(place).copied().unwrap_or_default())
    }
}

/// How the node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    Killed,
    Stopped,
}

/// Has the node go so often, and come back each time.
async fn measure(cluster: &mut Cluster, probes: &Probes, going: Going, count: usize) -> Measured {
    let mut measured = Measured::default();
    for number in 0..count {
        let ranges = until_it_leads(cluster).await;
        let url = cluster.member(VICTIM).url();
        let led = probes.led_by(cluster, &url).await;
        let found = gaps(cluster, probes, going, &led).await;
        let worst = found.iter().max();
        eprintln!("{going:?} {number}: {VICTIM} led {ranges} ranges and {} keys, worst gap {worst:?}", led.len());
        measured.add(found, ranges);
        come_back(cluster, probes).await;
    }
    measured
}

/// The gap of each key that the node led, while it goes.
async fn gaps(cluster: &mut Cluster, probes: &Probes, going: Going, led: &[usize]) -> Vec<Duration> {
    let from = probes.now();
    if going == Going::Killed {
        cluster.member(VICTIM).kill();
        return probes.until_gaps_end(led, from).await;
    }
    // It hands over while it still answers, so a gap may begin and end at any time until it has ended.
    let code = cluster.member(VICTIM).running().wait_for_stop().await;
    assert_eq!(code, Some(0), "it ends as planned");
    cluster.member(VICTIM).process = None;
    probes.until_gaps_end(led, probes.now()).await;
    led.iter().map(|key| probes.longest_gap(*key, from)).collect()
}

/// The longest gap of each key while nothing happens.
async fn undisturbed(probes: &Probes) -> Vec<Duration> {
    let from = probes.now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    (0..probes.count()).map(|key| probes.longest_gap(key, from)).collect()
}

/// The node that goes.
const VICTIM: &str = "node-0";
/// How long it may take until all leaderships are back.
const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until the node leads every range, and nothing is awake but what is used; how many it leads.
async fn until_it_leads(cluster: &Cluster) -> u64 {
    for node in &cluster.nodes[1..] {
        // Holds for a quarter of an hour.
        cluster.admin(&["node", "hand-over", &node.host.name, "--no-wait"]);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leads = metric(cluster, "dstore_node_groups_leading").await as usize;
        let awake = metric(cluster, "dstore_node_groups{state=\"awake\"}").await as usize;
        if leads >= cluster.shape.ranges && awake <= cluster.shape.ranges / 5 {
            return leads as u64;
        }
        assert!(Instant::now() < deadline, "{VICTIM} leads {leads} ranges, and {awake} are awake");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A number that the node tells; lines of the same name are added up.
async fn metric(cluster: &Cluster, name: &str) -> f64 {
    let url = format!("http://{}:9090/metrics", cluster.nodes[0].host.address);
    let (_, body) = cluster.send(Method::GET, &url, None).await;
    let text = body.as_str().unwrap_or_default().to_owned();
    let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn come_back(cluster: &mut Cluster, probes: &Probes) {
    cluster.begin(VICTIM);
    cluster.until_ready(&[VICTIM]).await;
    until_complete(cluster).await;
    let keys: Vec<usize> = (0..probes.count()).collect();
    probes.until_gaps_end(&keys, probes.now()).await;
}

/// Waits until every copy is there and up to date, so that the next node may go. Leaderships still come back to where they are wished.
async fn until_complete(cluster: &Cluster) {
    for node in &cluster.nodes {
        cluster.until_metric(node, "dstore_node_groups_under_replicated", |value| value == 0.0).await;
    }
}

fn line(name: &str, mut gaps: Vec<Duration>) -> String {
    gaps.sort_unstable();
    let at = |part: f64| match gaps.len() {
        0 => "–".to_owned(),
        count => format!("{} ms", gaps[((count - 1) as f64 * part).round() as usize].as_millis()),
    };
    format!("| {name} | {} | {} | {} | {} | {} |", gaps.len(), at(0.5), at(0.9), at(0.99), at(1.0))
}
