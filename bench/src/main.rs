//! `make bench`: dStore beside PostgreSQL, Redis, etcd and a bare HTTP handler, on the same machine, in the same run,
//! by the same closed-loop driver as `dstore bench`; writes docs/benchmarks.md.
//!
//! A package of its own, so that clients of the peers never become dependencies of dStore. Each peer is started on
//! loopback with a fresh folder below `target/bench-data` (one file system for all), measured alone while the others
//! are stopped, and stopped. What is compared is operations per CPU-second of the server's processes: on a shared
//! machine throughput would also measure the client, and the peers' clients differ.
//!
//! | peer | GET | PUT | durable by |
//! |---|---|---|---|
//! | dStore (`dev`) | REST, bearer token, encrypted | REST PUT of a whole item | fdatasync of the commit log |
//! | PostgreSQL | prepared `SELECT` of a jsonb | prepared upsert of a jsonb | `fsync=on`, `synchronous_commit=on` |
//! | Redis | `GET` | `SET` | `appendfsync always` |
//! | etcd | linearizable range | `put` | its default |
//! | bare | actix-web answers 1 KiB from memory | none | not at all |
//!
//! The part `dynamodb` does the same through DynamoDB's protocol, beside other servers that speak it ([`peers::dynamodb`]), and
//! speaks it and REST in turn to one dStore ([`protocols`]).
//!
//! See docs/decisions/bench-method.md for what was rejected.

mod against;
mod cluster;
mod group;
mod growth;
mod measure;
mod page;
mod peers;
mod protocols;
mod replication;
mod report;
mod sleep;
mod watch;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures dStore and its peers in one run
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// The dstore binary to measure
    #[arg(long, default_value = "target/release/dstore")]
    dstore: PathBuf,
    /// Seconds each measurement takes
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds to run before each
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// Items in the table
    #[arg(long, default_value_t = 10_000)]
    records: u64,
    /// Connections
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Only these parts, separated by commas: dstore, postgres, redis, etcd, bare, dynamodb, tenants, growth, files, group, replication,
    /// sleep, unavailability, against
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The server dynoxide, a peer in `dynamodb`
    #[arg(long, default_value = "target/peers-rust/bin/dynoxide", value_name = "BINARY")]
    dynoxide: PathBuf,
    /// The server moto, another one
    #[arg(long, default_value = "target/peers/bin/moto_server", value_name = "PROGRAM")]
    moto: PathBuf,
    /// Pairs of measurements in `dynamodb`, by REST and by DynamoDB's protocol; 0 leaves them out
    #[arg(long, default_value_t = 5)]
    protocol_pairs: usize,
    /// Items of the large table in `growth`; 0 leaves it out
    #[arg(long, default_value_t = 5_000_000)]
    growth_records: u64,
    /// Tables (one replica file each) in `files`; 0 leaves it out
    #[arg(long, default_value_t = 10_000)]
    files: u64,
    /// Clients that write at the same time in `replication`
    #[arg(long, value_delimiter = ',', default_values_t = replication::WRITERS)]
    writers: Vec<usize>,
    /// Ranges of each table in `replication`
    #[arg(long, default_value_t = 12)]
    replication_ranges: usize,
    /// Ranges in `sleep`; 0 leaves it out
    #[arg(long, default_value_t = 10_000)]
    sleeping_ranges: usize,
    /// Seconds that nothing happens while they are looked at
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// Nodes killed in `unavailability`; 0 leaves it out
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// Another dstore binary, whose CPU per operation is compared in alternating pairs; without it the part `against` is left out
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// Pairs of measurements in `against`
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Where the report is written
    #[arg(long, default_value = "docs/benchmarks.md")]
    out: PathBuf,
    /// Folder for the peers' data
    #[arg(long, default_value = "target/bench-data")]
    data: PathBuf,
    /// Serve the bare handler instead of measuring (used by this program itself)
    #[arg(long, hide = true)]
    serve_bare: bool,
}

impl Options {
    /// True where this part was asked for, or nothing in particular.
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.serve_bare {
        return peers::bare::serve();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let measured = runtime.block_on(tokio::task::LocalSet::new().run_until(measure::everything(&options)));
    drop(runtime);
    match measured.and_then(|results| with_group(&options, results)) {
        Ok(results) => {
            let parts = report::parts(&options, &results);
            parts.iter().for_each(|(_, text)| println!("{text}"));
            let kept = std::fs::read_to_string(&options.out).unwrap_or_default();
            if let Err(error) = std::fs::write(&options.out, page::merged(&kept, &parts)) {
                eprintln!("bench: {}: {error}", options.out.display());
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Adds what runs in this process, in a runtime of its own.
fn with_group(options: &Options, mut results: measure::Results) -> Result<measure::Results, peers::Failure> {
    if options.wants("group") {
        results.group = Some(group::measure(options)?);
    }
    Ok(results)
}
