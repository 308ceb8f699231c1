//! What must not grow: cost with the number of tenants, with the size of a table, and with the number of files.

use crate::Options;
use crate::measure::{Phase, load, phase};
use crate::peers::{Failure, dstore::Dstore};
use dstore::cli::bench::workload::Workload;

/// How many tenants are compared with one.
pub const TENANTS: usize = 100;
/// The small table that a large one is compared with.
pub const SMALL_RECORDS: u64 = 10_000;

/// PUT over one table, and over a table in each of [`TENANTS`].
pub struct Tenants {
    /// One table.
    pub one: Phase,
    /// Many.
    pub many: Phase,
}

/// GET and PUT at two sizes of a table.
pub struct Growth {
    /// Items in the large one.
    pub records: u64,
    /// GET and PUT of [`SMALL_RECORDS`].
    pub small: (Phase, Phase),
    /// GET and PUT of all.
    pub large: (Phase, Phase),
}

/// One process with many replica files.
pub struct Files {
    /// How many tables, each a file.
    pub tables: u64,
    /// Memory in use before, MiB.
    pub memory_before_mib: u64,
    /// Memory in use after all were written and read, MiB.
    pub memory_after_mib: u64,
    /// Files open at the end.
    pub open_files: usize,
    /// Threads at the end.
    pub threads: usize,
}

/// Compares tenants.
pub async fn tenants(options: &Options) -> Result<Tenants, Failure> {
    let one = writes_over(options, "one-tenant", 1).await?;
    let many = writes_over(options, "many-tenants", TENANTS).await?;
    Ok(Tenants { one, many })
}

async fn writes_over(options: &Options, name: &str, tenants: usize) -> Result<Phase, Failure> {
    eprintln!("bench: writes over {tenants} tenants");
    let server = Dstore::start(options, name, &[]).await?;
    let tables = server.tables(tenants, 1).await?;
    let sessions = load(options.records, server.sessions(&tables, options.connections).await?).await?;
    Ok(phase(options, Workload::Put, options.records, sessions, server.running.pid).await?.0)
}

/// Compares sizes.
pub async fn growth(options: &Options) -> Result<Growth, Failure> {
    let small = reads_and_writes(options, "small", SMALL_RECORDS).await?;
    let large = reads_and_writes(options, "large", options.growth_records).await?;
    Ok(Growth { records: options.growth_records, small, large })
}

async fn reads_and_writes(options: &Options, name: &str, records: u64) -> Result<(Phase, Phase), Failure> {
    eprintln!("bench: a table of {records} items");
    // Without the item cache and with little memory for writes: a small table would live in memory altogether, and
    // nothing be learnt about files.
    let server = Dstore::start(options, name, &["memory.item_cache_mib=0", "memory.tables_mib=8"]).await?;
    let tables = server.tables(1, 1).await?;
    let sessions = load(records, server.sessions(&tables, options.connections).await?).await?;
    let (get, sessions) = phase(options, Workload::Get, records, sessions, server.running.pid).await?;
    let (put, _) = phase(options, Workload::Put, records, sessions, server.running.pid).await?;
    Ok((get, put))
}

/// Writes and reads items in many tables and looks at the process.
pub async fn files(options: &Options) -> Result<Files, Failure> {
    eprintln!("bench: {} replica files", options.files);
    let server = Dstore::start(options, "files", &[]).await?;
    let pid = server.running.pid;
    let memory_before_mib = memory_mib(pid)?;
    let tables = server.tables(1, usize::try_from(options.files)?).await?;
    // Records are spread over tables by number, so that so many records write to every table.
    let sessions = load(options.files, server.sessions(&tables, options.connections).await?).await?;
    phase(options, Workload::Get, options.files, sessions, pid).await?;
    Ok(Files {
        tables: options.files,
        memory_before_mib,
        memory_after_mib: memory_mib(pid)?,
        open_files: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: std::fs::read_dir(format!("/proc/{pid}/task"))?.count(),
    })
}

fn memory_mib(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: u64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
    Ok(kibibytes / 1024)
}
