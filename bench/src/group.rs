//! A group of one: what a consensus library costs where there is nobody to agree with.
//!
//! A range with one replica commits a record when it is durable. This measures whether that short-cut is worth having
//! beside openraft, in the same process, on the same commit log (real files, one fdatasync a group, sealed records of
//! 1 KiB): writers propose in a closed loop and wait until their entry has been applied. Applying is a counter in both, so
//! that what differs is the way from a proposal to the log and from the log to the answer.
//!
//! | way | from the proposal to the log | from the log to the answer |
//! |---|---|---|
//! | short-cut | next index under a lock, one append | the log's group is handed to one thread that applies |
//! | openraft | `client_write` → core task → `RaftLogStorage::append` | `LogFlushed` → core task → state machine task |
//!
//! The log store here keeps entries in memory too, as any log store on a shared log would have to: replication reads
//! them. It is no log store to build on: truncation and purge only touch that memory.

use crate::Options;
use crate::peers::{Failure, fresh_folder};
use bytes::Bytes;
use dstore::cli::bench::server_cpu;
use dstore::crypto::Key256;
use dstore::domain::ids::{LogKeyId, RangeId, TenantId};
use dstore::roles::ambient;
use dstore::storage::log::{
    Append, CommitLog, Committed, GroupSink, KeyOwner, LogKeyError, LogKeys, LogOptions, Outcome, Record, RecordKind,
    SystemDisk, WrappedLogKey,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod raft;
mod short_cut;

/// Bytes of an entry.
const PAYLOAD_BYTES: usize = 1024;

/// What one way of committing costs.
pub struct Cost {
    /// Entries that were applied and answered.
    pub entries: u64,
    /// CPU of this process for each, in microseconds.
    pub cpu_us: f64,
    /// Entries to one sync of the log.
    pub entries_per_sync: f64,
}

/// Both ways.
pub struct GroupOfOne {
    /// Committed when durable.
    pub short_cut: Cost,
    /// Through openraft.
    pub raft: Cost,
}

/// A way of committing entries.
trait Group: Clone + Send + Sync + 'static {
    /// Proposes an entry and waits until it has been applied.
    fn propose(&self, payload: Bytes) -> impl Future<Output = Result<(), String>> + Send;
    /// Groups that the log has synced so far.
    fn syncs(&self) -> u64;
}

/// Measures both, in a runtime of its own with as many threads as the machine has cores.
pub fn measure(options: &Options) -> Result<GroupOfOne, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Alternating, so that a disturbance meets both.
    let mut runs: (Vec<Cost>, Vec<Cost>) = Default::default();
    for round in 0..3 {
        let folder = fresh_folder(&options.data, &format!("group-short-cut-{round}"))?;
        runs.0.push(runtime.block_on(run(options, short_cut::ShortCut::open(&folder)?))?);
        let folder = fresh_folder(&options.data, &format!("group-raft-{round}"))?;
        let group = runtime.block_on(raft::Raft::open(&folder))?;
        runs.1.push(runtime.block_on(run(options, group))?);
    }
    Ok(GroupOfOne { short_cut: median(runs.0), raft: median(runs.1) })
}

fn median(mut runs: Vec<Cost>) -> Cost {
    runs.sort_by(|left, right| left.cpu_us.total_cmp(&right.cpu_us));
    runs.swap_remove(runs.len() / 2)
}

async fn run<G: Group>(options: &Options, group: G) -> Result<Cost, Failure> {
    eprintln!("bench: a group of one, {}", std::any::type_name::<G>());
    let pid = std::process::id();
    let used = || server_cpu::seconds(pid).ok_or("no CPU time of this process");
    writers(&group, options.connections, Duration::from_secs(options.warm_up)).await?;
    let (cpu_before, syncs_before) = (used()?, group.syncs());
    let entries = writers(&group, options.connections, Duration::from_secs(options.seconds)).await?;
    let (cpu, syncs) = (used()? - cpu_before, group.syncs() - syncs_before);
    let each = entries.max(1) as f64;
    Ok(Cost { entries, cpu_us: cpu * 1e6 / each, entries_per_sync: each / syncs.max(1) as f64 })
}

/// Proposes from so many tasks for so long; how many entries were answered.
async fn writers<G: Group>(group: &G, count: usize, time: Duration) -> Result<u64, Failure> {
    let end = Instant::now() + time;
    let entries = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (group, entries) = (group.clone(), Arc::clone(&entries));
        tasks.spawn(async move {
            let payload = Bytes::from(vec![0x5a; PAYLOAD_BYTES]);
            while Instant::now() < end {
                group.propose(payload.clone()).await?;
                entries.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(entries.load(Ordering::Relaxed))
}

/// A key that never rests anywhere: the log's files are thrown away after the run.
struct Unwrapped;

impl LogKeys for Unwrapped {
    fn wrap(&self, _owner: KeyOwner, _key_id: LogKeyId, key: &Key256) -> Result<WrappedLogKey, LogKeyError> {
        Ok(WrappedLogKey { version: 1, bytes: key.expose().to_vec() })
    }

    fn unwrap(&self, _owner: KeyOwner, _id: LogKeyId, wrapped: &WrappedLogKey) -> Result<Key256, LogKeyError> {
        wrapped.bytes.as_slice().try_into().map(Key256::new).map_err(|_| LogKeyError::Wrong)
    }
}

fn open_log<C: Send + 'static>(folder: &Path, sink: Arc<dyn GroupSink<C>>) -> Result<CommitLog<C>, Failure> {
    // Nothing is flushed here, so that everything stays live: room for a whole run.
    let options = LogOptions { budget_bytes: 1 << 40, ..LogOptions::default() };
    let (keys, disk) = (Arc::new(Unwrapped), Arc::new(SystemDisk));
    let (log, _) = CommitLog::open(&folder.join("log"), options, keys, disk, ambient::random(), sink, &mut |_| {})?;
    Ok(log)
}

fn record(index: u64, payload: Bytes) -> Record {
    let owner = KeyOwner::Tenant(TenantId::from_bytes([1; 16]));
    Record { range: RangeId::from_bytes([2; 16]), owner, kind: RecordKind::Entry, term: 1, index, payload }
}
