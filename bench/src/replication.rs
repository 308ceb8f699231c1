//! What three copies cost beside one: the same closed loop of durable writes through a proxy, into a table with one copy of
//! each range and into one with three, on the same three nodes. Beside throughput and latency it counts, at the nodes
//! themselves, how often their logs were synced, and how many frames, messages and bytes went between them.
//!
//! A write with three copies is appended and synced three times, evaluated three times and brought to files three times, on three
//! nodes that share this machine: three times the CPU of one copy is what cannot be had for less.

use crate::Options;
use crate::cluster::Cluster;
use crate::measure::{self, Extent, bar, complete, plan};
use crate::peers::Failure;
use dstore::cli::bench::rest::RestSession;
use dstore::cli::bench::runner::drive;
use dstore::cli::bench::workload::Workload;
use std::time::Duration;

/// Clients that write at the same time.
pub const WRITERS: [usize; 4] = [1, 16, 64, 256];
/// Copies of each range that are compared.
pub const FACTORS: [usize; 2] = [1, 3];

/// One measurement.
pub struct Load {
    /// Copies of each range.
    pub factor: usize,
    /// Clients.
    pub writers: usize,
    /// Writes a second.
    pub per_second: f64,
    /// Their times, microseconds.
    pub p50: u64,
    /// The same.
    pub p99: u64,
    /// CPU of all nodes for each write, microseconds.
    pub nodes_cpu_us: f64,
    /// CPU of the proxy for each write, microseconds.
    pub proxy_cpu_us: f64,
    /// Syncs of commit logs for each write and copy.
    pub syncs: f64,
    /// Frames between nodes for each write.
    pub frames: f64,
    /// Messages in them for each write.
    pub messages: f64,
    /// Bytes of them for each write.
    pub bytes: f64,
}

/// What is read before and after.
struct Counters {
    nodes_cpu: f64,
    proxy_cpu: f64,
    syncs: f64,
    frames: f64,
    messages: f64,
    bytes: f64,
}

impl Counters {
    async fn read(cluster: &Cluster) -> Result<Counters, Failure> {
        let mut nodes_cpu = 0.0;
        for node in cluster.nodes() {
            nodes_cpu += node.cpu_seconds()?;
        }
        Ok(Counters {
            nodes_cpu,
            proxy_cpu: cluster.proxy().cpu_seconds()?,
            syncs: cluster.sum("dstore_node_log_syncs_total").await?,
            frames: cluster.sum("dstore_link_frames_total").await?,
            messages: cluster.sum("dstore_link_messages_total").await?,
            bytes: cluster.sum("dstore_link_bytes_total").await?,
        })
    }
}

/// Measures all.
pub async fn measure(options: &Options) -> Result<Vec<Load>, Failure> {
    let cluster = Cluster::start(options, "replication", 3).await?;
    for factor in FACTORS {
        cluster.table(&name(factor), options.replication_ranges, factor).await?;
        let sessions = cluster.sessions(&name(factor), options.connections).await?;
        drop(measure::load(options.records, sessions).await?);
    }
    let mut loads = Vec::new();
    for writers in options.writers.iter().copied() {
        // One after the other, so that what disturbs meets both.
        for factor in FACTORS {
            loads.push(load(options, &cluster, factor, writers).await?);
        }
    }
    Ok(loads)
}

fn name(factor: usize) -> String {
    format!("copies-{factor}")
}

async fn load(options: &Options, cluster: &Cluster, factor: usize, writers: usize) -> Result<Load, Failure> {
    eprintln!("bench: {writers} writers, {factor} copies");
    let sessions = cluster.sessions(&name(factor), writers).await?;
    let (_, sessions) = run(options, sessions, options.warm_up).await?;
    let before = Counters::read(cluster).await?;
    let (report, _) = run(options, sessions, options.seconds).await?;
    let after = Counters::read(cluster).await?;
    eprint!("{}", report.table());
    let writes = report.operations.max(1) as f64;
    let each = |before: f64, after: f64| (after - before) / writes;
    let kind = report.kinds.first();
    Ok(Load {
        factor,
        writers,
        per_second: report.operations_per_second,
        p50: kind.map_or(0, |kind| kind.p50),
        p99: kind.map_or(0, |kind| kind.p99),
        nodes_cpu_us: 1e6 * each(before.nodes_cpu, after.nodes_cpu),
        proxy_cpu_us: 1e6 * each(before.proxy_cpu, after.proxy_cpu),
        syncs: each(before.syncs, after.syncs) / factor as f64,
        frames: each(before.frames, after.frames),
        messages: each(before.messages, after.messages),
        bytes: each(before.bytes, after.bytes),
    })
}

async fn run(
    options: &Options,
    sessions: Vec<RestSession>,
    seconds: u64,
) -> Result<(dstore::cli::bench::report::Report, Vec<RestSession>), Failure> {
    let plan = plan(Workload::Put, options.records, Extent::Time(Duration::from_secs(seconds)), None);
    let (report, sessions) = drive(sessions, &plan, &bar("measure", None)).await?;
    complete(&report)?;
    Ok((report, sessions))
}
