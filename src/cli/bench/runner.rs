//! Drives connections: each takes the next operation as soon as its last was answered, until the extent is reached. All run
//! on one thread, so counters are plain cells and a time taken is not blurred by locks.

use super::item::Values;
use super::report::{Recorder, Report};
use super::server_cpu;
use super::workload::{Distribution, Generator, Kind, Operation, Records, Workload};
use crate::cli::dynamodb::credentials::NoCredentials;
use indicatif::ProgressBar;
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Why a benchmark could not be run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The URL is no `http://` one.
    #[error("{0:?} is not a URL that begins with http://; TLS is measured through a proxy that ends it")]
    Url(String),
    /// Tenant, table or token hold what cannot stand in a request.
    #[error("the tenant, the table or the token holds characters that cannot be part of one")]
    Characters,
    /// No token was given.
    #[error("no token: name a file by --token-file, or set DSTORE_TOKEN (dstore dev prints one)")]
    NoToken,
    /// The token's file could not be read.
    #[error("the token file {path} could not be read")]
    TokenFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No access key was given, or none that can be used.
    #[error("no access key to sign with")]
    AccessKey(#[source] NoCredentials),
    /// Nobody answers.
    #[error("{address} could not be reached")]
    Unreachable {
        /// Whom.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The table could not be created.
    #[error("the table could not be created: status {status}, {answer}")]
    Table {
        /// The status.
        status: u16,
        /// The beginning of the answer.
        answer: String,
    },
    /// The process whose CPU time is to be counted is not there.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// A connection's task broke.
    #[error("a connection's task broke off")]
    Task(#[source] tokio::task::JoinError),
}

/// One connection to whatever is measured.
pub trait Session: 'static {
    /// Carries out one operation; an error is counted by its text.
    fn perform(&mut self, operation: &Operation, values: &mut Values) -> impl Future<Output = Result<(), String>>;
}

/// How long to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Until so many operations were begun.
    Operations(u64),
    /// Until so much time has passed.
    Time(Duration),
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The mix.
    pub workload: Workload,
    /// Which records.
    pub distribution: Distribution,
    /// How many are there.
    pub records: u64,
    /// For how long.
    pub extent: Extent,
    /// Seed of all choices.
    pub seed: u64,
    /// Whose CPU time is counted.
    pub server_pid: Option<u32>,
}

struct Shared {
    begun: Cell<u64>,
    extent: Extent,
    started: Instant,
    records: Rc<Records>,
}

impl Shared {
    /// Takes the permission for one more operation.
    fn take(&self) -> bool {
        let more = match self.extent {
            Extent::Operations(count) => self.begun.get() < count,
            Extent::Time(time) => self.started.elapsed() < time,
        };
        self.begun.set(self.begun.get() + u64::from(more));
        more
    }
}

/// Runs the plan on all `sessions` and gives them back. Must be called inside a `LocalSet`.
///
/// # Errors
/// Where the server's process is not there; failures of single operations are counted in the report.
pub async fn drive<S: Session>(
    sessions: Vec<S>,
    plan: &Plan,
    bar: &ProgressBar,
) -> Result<(Report, Vec<S>), BenchError> {
    let cpu = |pid: u32| server_cpu::seconds(pid).ok_or(BenchError::NoProcess(pid));
    let there = if plan.workload == Workload::Load { 0 } else { plan.records };
    let cpu_before = plan.server_pid.map(cpu).transpose()?;
    let shared = Rc::new(Shared {
        begun: Cell::new(0),
        extent: plan.extent,
        started: Instant::now(),
        records: Records::new(there),
    });
    let connections = sessions.len();
    let tasks: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|(index, session)| {
            let seed = plan.seed.wrapping_mul(1_000_003).wrapping_add(index as u64);
            let generator = Generator::new(plan.workload, plan.distribution, Rc::clone(&shared.records), seed);
            tokio::task::spawn_local(one(session, generator, Values::new(seed), Rc::clone(&shared)))
        })
        .collect();
    let ticker = tokio::task::spawn_local(show(bar.clone(), Rc::clone(&shared)));
    let mut recorder = Recorder::default();
    let mut sessions = Vec::with_capacity(connections);
    for task in tasks {
        let (session, own) = task.await.map_err(BenchError::Task)?;
        recorder.merge(own);
        sessions.push(session);
    }
    let elapsed = shared.started.elapsed();
    let cpu_after = plan.server_pid.map(cpu).transpose()?;
    ticker.abort();
    bar.finish_and_clear();
    let cpu_seconds = cpu_before.zip(cpu_after).map(|(before, after)| after - before);
    Ok((recorder.report(plan, connections, elapsed, cpu_seconds), sessions))
}

async fn one<S: Session>(
    mut session: S,
    mut generator: Generator,
    mut values: Values,
    shared: Rc<Shared>,
) -> (S, Recorder) {
    let mut recorder = Recorder::default();
    while shared.take() {
        let operation = generator.draw();
        let began = Instant::now();
        let result = session.perform(&operation, &mut values).await;
        recorder.record(operation.kind, began.elapsed(), result);
        if operation.kind == Kind::Insert {
            shared.records.end(operation.record);
        }
    }
    (session, recorder)
}

async fn show(bar: ProgressBar, shared: Rc<Shared>) {
    let mut interval = tokio::time::interval(Duration::from_millis(200));
    loop {
        interval.tick().await;
        bar.set_position(shared.begun.get());
    }
}
