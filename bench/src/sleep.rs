//! What ranges cost that nobody uses: three nodes with many ranges of three copies each, all asleep.
//!
//! Memory and CPU are those of the nodes' processes. Memory is what the second half of the ranges added to that of the first: files that are
//! open, with their caches, are bounded in number, and count once. Then a first write
//! goes to one sleeping range after the other. At last a node is killed: the ranges that it led find other leaders by
//! themselves, and all go back to sleep without it.

use crate::Options;
use crate::cluster::{Cluster, wait};
use crate::peers::Failure;
use std::time::{Duration, Instant};

/// Ranges of one table, at most.
const RANGES_MAX: usize = 1000;
/// First writes to sleeping ranges.
const FIRST_WRITES: usize = 200;
/// Nodes are quiet that use less than this part of a core in a window of this length; they are waited for, and measured then as they are.
const QUIET: f64 = 0.01;
const QUIET_WINDOW: Duration = Duration::from_secs(5);
const QUIET_PATIENCE: Duration = Duration::from_secs(120);

/// What came out.
pub struct Sleeping {
    /// Ranges.
    pub ranges: usize,
    /// How long until all were made and asleep, seconds.
    pub made_seconds: f64,
    /// CPU of each node without ranges, percent of a core.
    pub cpu_before: f64,
    /// The same with all of them asleep.
    pub cpu_asleep: f64,
    /// Groups that the nodes' regular looks looked at in that time.
    pub looked_at: f64,
    /// Memory that a range takes on a node, KiB.
    pub memory_kib: f64,
    /// First writes: the median, milliseconds.
    pub first_p50: f64,
    /// 99 of 100.
    pub first_p99: f64,
    /// The longest.
    pub first_max: f64,
    /// Seconds until all ranges sleep again after a node was killed.
    pub asleep_again_seconds: f64,
    /// CPU of each node that is left, when all sleep, percent of a core.
    pub cpu_after_kill: f64,
    /// Groups looked at in that time.
    pub looked_at_after_kill: f64,
}

/// Measures it.
pub async fn measure(options: &Options) -> Result<Sleeping, Failure> {
    let mut cluster = Cluster::start(options, "sleep", 3).await?;
    let (cpu_before, _) = idle(options, &cluster).await?;
    let began = Instant::now();
    let mut tables = Vec::new();
    let half = options.sleeping_ranges / 2;
    make(&cluster, &mut tables, half).await?;
    until_asleep(&cluster, half).await?;
    let memory_half = memory(&cluster)?;
    make(&cluster, &mut tables, options.sleeping_ranges - half).await?;
    until_asleep(&cluster, options.sleeping_ranges).await?;
    let made_seconds = began.elapsed().as_secs_f64();
    let (cpu_asleep, looked_at) = idle(options, &cluster).await?;
    let memory_kib =
        memory(&cluster)?.saturating_sub(memory_half) as f64 / (options.sleeping_ranges - half).max(1) as f64;
    let mut times = Vec::new();
    for number in 0..FIRST_WRITES {
        let table = &tables[number % tables.len()];
        times.push(cluster.put(table, &format!("first-{number}")).await?.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    until_asleep(&cluster, options.sleeping_ranges).await?;
    let killed = Instant::now();
    cluster.node(0).kill();
    // Its silence is to be noticed first.
    wait("somebody wakes", async || Ok(state(&cluster, "awake").await? > 0.0)).await?;
    until_asleep(&cluster, options.sleeping_ranges).await?;
    let asleep_again_seconds = killed.elapsed().as_secs_f64();
    let (cpu_after_kill, looked_at_after_kill) = idle(options, &cluster).await?;
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    Ok(Sleeping {
        ranges: options.sleeping_ranges,
        made_seconds,
        cpu_before,
        cpu_asleep,
        looked_at,
        memory_kib,
        first_p50: at(0.5),
        first_p99: at(0.99),
        first_max: at(1.0),
        asleep_again_seconds,
        cpu_after_kill,
        looked_at_after_kill,
    })
}

/// Makes so many ranges more, in tables that are added to those there are.
async fn make(cluster: &Cluster, tables: &mut Vec<String>, ranges: usize) -> Result<(), Failure> {
    let mut left = ranges;
    while left > 0 {
        let (table, ranges) = (format!("table-{}", tables.len()), left.min(RANGES_MAX));
        cluster.table(&table, ranges, 3).await?;
        left -= ranges;
        tables.push(table);
        eprintln!("bench: a table of {ranges} ranges was made");
    }
    Ok(())
}

async fn state(cluster: &Cluster, state: &str) -> Result<f64, Failure> {
    cluster.sum(&format!("dstore_node_groups{{state=\"{state}\"}}")).await
}

/// Waits until every node has so many groups, and all sleep.
async fn until_asleep(cluster: &Cluster, ranges: usize) -> Result<(), Failure> {
    let nodes = cluster.nodes().iter().filter(|node| node.pid().is_ok()).count();
    let mut told = Instant::now();
    wait("all groups sleep", async || {
        let (awake, asleep) = (state(cluster, "awake").await?, state(cluster, "asleep").await?);
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("bench: {awake} groups awake, {asleep} asleep, on {nodes} nodes");
        }
        Ok(awake == 0.0 && asleep == (nodes * ranges) as f64)
    })
    .await
}

/// Memory of a node, KiB, on average.
fn memory(cluster: &Cluster) -> Result<u64, Failure> {
    let mut sum = 0;
    for node in cluster.nodes() {
        sum += node.memory_kib()?;
    }
    Ok(sum / cluster.nodes().len() as u64)
}

/// CPU of a node that lives while nothing happens, percent of a core, on average; and the groups that all of them looked at.
async fn idle(options: &Options, cluster: &Cluster) -> Result<(f64, f64), Failure> {
    let nodes: Vec<_> = cluster.nodes().iter().filter(|node| node.pid().is_ok()).collect();
    let used = || nodes.iter().map(|node| node.cpu_seconds()).sum::<Result<f64, Failure>>();
    let looked = async || cluster.sum("dstore_node_groups_looked_at_total").await;
    // What was done before still has to reach the files: that is not the price of sleep.
    let (mut last, deadline) = (used()?, Instant::now() + QUIET_PATIENCE);
    wait("nodes have finished what they did", async || {
        tokio::time::sleep(QUIET_WINDOW).await;
        let (before, now) = (last, used()?);
        last = now;
        let is_quiet = now - before < QUIET * QUIET_WINDOW.as_secs_f64() * nodes.len() as f64;
        // What goes on for longer than that is part of the price.
        Ok(is_quiet || Instant::now() > deadline)
    })
    .await?;
    let looked_before = looked().await?;
    let (before, began) = (used()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(options.idle_seconds)).await;
    let (cpu, seconds) = (used()? - before, began.elapsed().as_secs_f64());
    Ok((100.0 * cpu / seconds / nodes.len().max(1) as f64, looked().await? - looked_before))
}
