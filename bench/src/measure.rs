//! Runs the parts one after another. Each peer: load, warm up and measure GET, warm up and measure PUT.

use crate::Options;
use crate::against::{self, Against};
use crate::group::GroupOfOne;
use crate::growth::{self, Files, Growth, Tenants};
use crate::peers::{Failure, bare, dstore::Dstore, etcd, postgres, redis};
use crate::protocols::{self, Protocols};
use crate::replication::{self, Load};
use crate::sleep::{self, Sleeping};
use crate::watch::driven;
use dstore::cli::bench::report::Report;
pub use dstore::cli::bench::runner::Extent;
use dstore::cli::bench::runner::{Plan, Session};
use dstore::cli::bench::workload::{Distribution, Workload};
use indicatif::ProgressBar;
use std::time::Duration;

/// One measured phase: the report, and how often the disk was told to flush its cache meanwhile.
pub struct Phase {
    /// Operations, times, CPU.
    pub report: Report,
    /// Flushes of all disks of this machine, from `/proc/diskstats`.
    pub flushes: u64,
}

/// GET and PUT of one peer.
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// Point reads.
    pub get: Phase,
    /// Durable replacements; the bare handler has none.
    pub put: Option<Phase>,
}

/// Everything that was measured.
#[derive(Default)]
pub struct Results {
    /// The peers, dStore first.
    pub peers: Vec<Peer>,
    /// Servers of DynamoDB's protocol, and that protocol beside REST.
    pub dynamodb: Option<Protocols>,
    /// 100 tenants against one.
    pub tenants: Option<Tenants>,
    /// A small against a large table.
    pub growth: Option<Growth>,
    /// Many replica files.
    pub files: Option<Files>,
    /// A consensus library with nobody to agree with.
    pub group: Option<GroupOfOne>,
    /// One copy beside three.
    pub replication: Option<Vec<Load>>,
    /// Ranges that nobody uses.
    pub sleeping: Option<Sleeping>,
    /// What clients notice when a node is killed, as the program for that wrote it.
    pub unavailability: Option<String>,
    /// Another binary of dStore.
    pub against: Option<Against>,
}

impl Results {
    /// The peer of this name.
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name == name)
    }
}

/// Runs all parts that are wanted.
pub async fn everything(options: &Options) -> Result<Results, Failure> {
    std::fs::create_dir_all(&options.data)?;
    let mut results = Results::default();
    if options.wants("dstore") {
        let server = Dstore::start(options, "dstore", &[]).await?;
        let tables = server.tables(1, 1).await?;
        let sessions = server.sessions(&tables, options.connections).await?;
        results.peers.push(peer("dStore", options, sessions, server.running.pid, true).await?);
    }
    if options.wants("postgres") {
        let (running, address) = postgres::start(options).await?;
        let sessions = open(options.connections, async || postgres::PostgresSession::open(&address).await).await?;
        results.peers.push(peer("PostgreSQL", options, sessions, running.pid, true).await?);
    }
    if options.wants("redis") {
        let (running, port) = redis::start(options).await?;
        let sessions = open(options.connections, async || redis::RedisSession::open(port).await).await?;
        results.peers.push(peer("Redis", options, sessions, running.pid, true).await?);
    }
    if options.wants("etcd") {
        let (running, url) = etcd::start(options).await?;
        let sessions = open(options.connections, async || etcd::EtcdSession::open(&url).await).await?;
        results.peers.push(peer("etcd", options, sessions, running.pid, true).await?);
    }
    if options.wants("bare") {
        let (running, address) = bare::start(options).await?;
        let sessions = open(options.connections, async || bare::BareSession::open(&address).await).await?;
        results.peers.push(peer("bare", options, sessions, running.pid, false).await?);
    }
    if options.wants("dynamodb") {
        results.dynamodb = Some(protocols::measure(options).await?);
    }
    if options.wants("tenants") {
        results.tenants = Some(growth::tenants(options).await?);
    }
    if options.wants("growth") && options.growth_records > 0 {
        results.growth = Some(growth::growth(options).await?);
    }
    if options.wants("files") && options.files > 0 {
        results.files = Some(growth::files(options).await?);
    }
    if options.wants("replication") {
        results.replication = Some(replication::measure(options).await?);
    }
    if options.wants("sleep") && options.sleeping_ranges > 0 {
        results.sleeping = Some(sleep::measure(options).await?);
    }
    if options.wants("unavailability") && options.kills > 0 {
        results.unavailability = unavailability(options)?;
    }
    if let Some(other) = options.against.as_deref().filter(|_| options.wants("against")) {
        results.against = Some(against::measure(options, other).await?);
    }
    Ok(results)
}

/// Runs the program that kills nodes; none where it cannot be run here, which it says itself.
fn unavailability(options: &Options) -> Result<Option<String>, Failure> {
    let program = std::env::current_exe()?.with_file_name("dstore-bench-unavailability");
    let mut command = std::process::Command::new(program);
    command.arg("--dstore").arg(&options.dstore).args(["--kills", &options.kills.to_string()]);
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err("nodes could not be killed and measured; what went wrong is told above".into());
    }
    Ok((!text.trim().is_empty()).then_some(text))
}

async fn open<S>(count: usize, mut one: impl AsyncFnMut() -> Result<S, Failure>) -> Result<Vec<S>, Failure> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(one().await?);
    }
    Ok(sessions)
}

/// Loads the items where the peer can be written to, then measures.
///
/// # Errors
/// Where an operation fails, or the server does not answer any more.
pub async fn peer<S: Session>(
    name: &'static str,
    options: &Options,
    sessions: Vec<S>,
    pid: u32,
    writes: bool,
) -> Result<Peer, Failure> {
    eprintln!("bench: {name}");
    let mut sessions = sessions;
    if writes {
        sessions = load(options.records, sessions).await?;
    }
    let (get, sessions) = phase(options, Workload::Get, options.records, sessions, pid).await?;
    let put = if writes { Some(phase(options, Workload::Put, options.records, sessions, pid).await?.0) } else { None };
    Ok(Peer { name, get, put })
}

/// Writes all records.
pub async fn load<S: Session>(records: u64, sessions: Vec<S>) -> Result<Vec<S>, Failure> {
    let plan = plan(Workload::Load, records, Extent::Operations(records), None);
    let (report, sessions) = driven(sessions, &plan, &bar("load", Some(records))).await?;
    complete(&report)?;
    Ok(sessions)
}

/// Warms up and measures.
pub async fn phase<S: Session>(
    options: &Options,
    workload: Workload,
    records: u64,
    sessions: Vec<S>,
    pid: u32,
) -> Result<(Phase, Vec<S>), Failure> {
    let warm_up = plan(workload, records, Extent::Time(Duration::from_secs(options.warm_up)), None);
    let (_, sessions) = driven(sessions, &warm_up, &bar("warm up", None)).await?;
    let measured = plan(workload, records, Extent::Time(Duration::from_secs(options.seconds)), Some(pid));
    let flushes_before = flushes();
    let (report, sessions) = driven(sessions, &measured, &bar("measure", None)).await?;
    let flushes = flushes().saturating_sub(flushes_before);
    complete(&report)?;
    eprint!("{}", report.table());
    Ok((Phase { report, flushes }, sessions))
}

/// A measurement with failures compares nothing.
pub fn complete(report: &Report) -> Result<(), Failure> {
    if report.failures == 0 {
        return Ok(());
    }
    Err(format!("{} operations failed: {:?}", report.failures, report.failures_by_text).into())
}

/// What is to be done.
pub fn plan(workload: Workload, records: u64, extent: Extent, server_pid: Option<u32>) -> Plan {
    let seed = u64::from(workload != Workload::Load) + u64::from(server_pid.is_some());
    Plan { workload, distribution: Distribution::Uniform, records, extent, seed, server_pid }
}

/// How it is shown.
pub fn bar(name: &'static str, count: Option<u64>) -> ProgressBar {
    let bar = count.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_prefix(name)
}

/// Completed flush requests of all disks: field 19 of each line (Documentation/admin-guide/iostats.rst); partitions do
/// not count them.
fn flushes() -> u64 {
    let text = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
    text.lines().filter_map(|line| line.split_whitespace().nth(18)?.parse::<u64>().ok()).sum()
}
