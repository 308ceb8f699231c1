//! `dstore bench`: the YCSB core workloads against a running server, over REST or the DynamoDB
//! protocol.
//!
//! One thread drives all connections, each with one request under way (a closed loop, as in YCSB), because server and
//! client mostly share a machine here: what the client burns, the server lacks. For the same reason the measure
//! to compare is operations per CPU-second of the *server* (`--server-pid`), which does not depend on the client;
//! throughput and latency are printed beside it.
//!
//! | file | what it does |
//! |---|---|
//! | [`workload`] | mixes A to F, and which record the next operation concerns |
//! | [`item`] | items of ten fields whose values change at each write |
//! | [`client`] | HTTP/1.1 over one connection that stays open |
//! | [`rest`] | operations as requests of REST |
//! | [`dynamodb`] | operations as requests of the DynamoDB protocol, signed |
//! | [`runner`] | drives the connections and takes the times |
//! | [`server_cpu`] | CPU time of the server's processes |
//! | [`report`] | percentiles, as a table and as JSON |
//!
//! Differences from YCSB, each for a reason: a scan walks on from where the connection's last scan ended (a table
//! without a sort key is listed in the order of hashes); latencies are recorded per kind of operation as in YCSB,
//! but the closed loop's coordinated omission is not corrected: read p99 as what a client with one request at a
//! time sees.
//!
//! Rejected: an HTTP library. Its client costs more CPU per request than a good server, which would
//! be measured as the server's latency on the same machine.

pub mod client;
pub mod dynamodb;
pub mod item;
pub mod report;
pub mod rest;
pub mod runner;
pub mod server_cpu;
pub mod workload;

use super::OutputFormat;
use super::dynamodb::credentials::{Credentials, region};
use clap::{Args, ValueEnum};
use dynamodb::DynamoSession;
use indicatif::{ProgressBar, ProgressStyle};
use report::Report;
use rest::{RestSession, Server};
use runner::{BenchError, Extent, Plan, Session};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use workload::{Distribution, Workload};

/// What is spoken to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Protocol {
    /// dStore's own, with a bearer token
    #[default]
    Rest,
    /// That of DynamoDB, signed with an access key; of any server that speaks it
    Dynamodb,
}

/// Flags of `dstore bench`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where the server is; plain HTTP
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// What is spoken to it
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,
    /// File with a bearer token; without it, the variable DSTORE_TOKEN is used
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With --protocol dynamodb: file with the access key, of `access-key create --out` or the credentials.json of a
    /// dstore dev; without it, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are used
    #[arg(long, value_name = "FILE")]
    pub access_key_file: Option<PathBuf>,
    /// Tenant; an access key has its own
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Table; created where it is missing
    #[arg(long, default_value = "ycsb")]
    pub table: String,
    /// YCSB's mixes a to f; get and put are all reads and all replacements
    #[arg(long, value_enum, default_value = "a")]
    pub workload: Workload,
    /// Items to load first, and to choose from
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// Operations to measure
    #[arg(long, default_value_t = 100_000)]
    pub operations: u64,
    /// Seconds to measure, instead of a number of operations
    #[arg(long, conflicts_with = "operations")]
    pub seconds: Option<u64>,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// Which records are chosen how often; each workload has its own where none is given
    #[arg(long, value_enum)]
    pub distribution: Option<Distribution>,
    /// Seconds to run before measuring
    #[arg(long, default_value_t = 2)]
    pub warm_up: u64,
    /// Do not load items first: they are there from an earlier run
    #[arg(long)]
    pub no_load: bool,
    /// Process whose CPU time is counted, with its children
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Seed of all choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A table for people or one line of JSON
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// Runs the benchmark; false where it could not be done or an operation failed.
pub fn run(options: &Options) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&error);
            return false;
        }
    };
    match runtime.block_on(tokio::task::LocalSet::new().run_until(bench(options))) {
        Ok(report) => {
            match options.output {
                OutputFormat::Human => print!("{}", report.table()),
                OutputFormat::Json => println!("{}", report.json()),
            }
            report.failures == 0
        }
        Err(error) => {
            super::complain(&error);
            false
        }
    }
}

async fn bench(options: &Options) -> Result<Report, BenchError> {
    let count = usize::from(options.connections);
    match options.protocol {
        Protocol::Rest => {
            let server = Server::new(&options.url, &token(options)?, &options.tenant, &options.table)?;
            server.create_table().await?;
            let servers: Rc<[Server]> = Rc::new([server]);
            let mut sessions = Vec::with_capacity(count);
            for _ in 0..count {
                sessions.push(RestSession::open(Rc::clone(&servers)).await?);
            }
            measure(options, sessions).await
        }
        Protocol::Dynamodb => {
            let credentials = Credentials::find(options.access_key_file.as_deref()).map_err(BenchError::AccessKey)?;
            let server = dynamodb::Server::new(&options.url, credentials, region(None), &options.table)?;
            server.create_table().await?;
            let server = Rc::new(server);
            let mut sessions = Vec::with_capacity(count);
            for _ in 0..count {
                sessions.push(DynamoSession::open(Rc::clone(&server)).await?);
            }
            measure(options, sessions).await
        }
    }
}

/// Loads, warms up, measures.
async fn measure<S: Session>(options: &Options, mut sessions: Vec<S>) -> Result<Report, BenchError> {
    let mut plan = Plan {
        workload: Workload::Load,
        distribution: options.distribution.unwrap_or(options.workload.distribution()),
        records: options.records,
        extent: Extent::Operations(options.records),
        seed: options.seed,
        server_pid: options.server_pid,
    };
    if !options.no_load {
        (_, sessions) = runner::drive(sessions, &plan, &bar("load", plan.extent)).await?;
    }
    plan.workload = options.workload;
    if options.warm_up > 0 {
        plan.extent = Extent::Time(Duration::from_secs(options.warm_up));
        plan.seed = options.seed.wrapping_add(1);
        (_, sessions) = runner::drive(sessions, &plan, &bar("warm up", plan.extent)).await?;
    }
    plan.extent = match options.seconds {
        Some(seconds) => Extent::Time(Duration::from_secs(seconds)),
        None => Extent::Operations(options.operations),
    };
    plan.seed = options.seed.wrapping_add(2);
    let (report, _) = runner::drive(sessions, &plan, &bar("measure", plan.extent)).await?;
    Ok(report)
}

fn token(options: &Options) -> Result<String, BenchError> {
    if let Some(path) = &options.token_file {
        let text = std::fs::read_to_string(path);
        return text
            .map(|text| text.trim().to_owned())
            .map_err(|source| BenchError::TokenFile { path: path.clone(), source });
    }
    std::env::var("DSTORE_TOKEN").map_err(|_| BenchError::NoToken)
}

/// A progress bar on stderr; invisible where that is no terminal.
fn bar(name: &'static str, extent: Extent) -> ProgressBar {
    let (bar, template) = match extent {
        Extent::Operations(count) => {
            (ProgressBar::new(count), "{prefix:>8} {wide_bar} {human_pos}/{human_len} {per_sec} eta {eta}")
        }
        Extent::Time(_) => {
            (ProgressBar::no_length(), "{prefix:>8} {spinner} {human_pos} operations, {per_sec}, {elapsed}")
        }
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_prefix(name)
}
