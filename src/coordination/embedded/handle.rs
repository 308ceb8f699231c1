//! The embedded store as a [`Coordinator`]: checks limits and rights, hands the work to the store's
//! thread, and waits for its answer without blocking the executor.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::store::Store;
use super::worker::{self, Job, Written};
use crate::coordination::coordinator::check_transaction;
use crate::coordination::{
    Compare, Coordinator, Error, KeyValue, LeaseId, Operation, Page, Result, Revision, StoreHealth, TransactionResult,
    Watch, WatchBatch, Writer,
};

/// How the embedded store behaves.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// How many past revisions are kept at least for watches to resume from; up to twice as many are.
    pub history_revisions: i64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { history_revisions: 10_000 }
    }
}

/// What all handles share.
pub(super) struct Shared {
    jobs: Mutex<std::sync::mpsc::Sender<Job>>,
    committed: watch::Receiver<Revision>,
}

impl Shared {
    fn send(&self, job: Job) -> Result<()> {
        self.jobs.lock().send(job).map_err(|_| stopped())
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.send(Job::Read(Box::new(move |store| drop(sender.send(read(store))))))?;
        receiver.await.map_err(|_| stopped())?
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        self.send(Job::Write(Box::new(move |store| {
            let result = write(store);
            let failed = match &result {
                Err(error @ (Error::Storage(_) | Error::NoSpace(_))) => Some(error.clone()),
                _ => None,
            };
            let answer = Box::new(move |committed: Result<()>| drop(sender.send(committed.and(result))));
            Written { answer, failed }
        })))?;
        receiver.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::Unavailable("the embedded coordinator has stopped".into())
}

/// The open file and its thread. Handles go on as long as this lives; dropping it closes the file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store's file, or makes it; the folder must be there.
    ///
    /// # Errors
    /// `Storage` where it cannot be opened, is another program's, or is open in another process.
    pub fn open(path: &Path, options: EmbeddedOptions) -> Result<Self> {
        let store = Store::open(path)?;
        let (jobs, receiver) = std::sync::mpsc::channel();
        let (sender, committed) = watch::channel(store.revision());
        let thread = std::thread::Builder::new()
            .name("coordinator".into())
            .spawn(move || worker::run(store, &receiver, &sender, options.history_revisions.max(1)))
            .map_err(|error| Error::Storage(error.to_string()))?;
        Ok(Self { shared: Arc::new(Shared { jobs: Mutex::new(jobs), committed }), thread: Some(thread) })
    }

    /// A handle that may do what `writer` may.
    pub fn handle(&self, writer: Writer) -> EmbeddedCoordinator {
        EmbeddedCoordinator { shared: self.shared.clone(), writer }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        let _ = self.shared.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One writer's handle on the embedded store.
#[derive(Clone)]
pub struct EmbeddedCoordinator {
    pub(super) shared: Arc<Shared>,
    writer: Writer,
}

/// Events a watch takes from the history at a time, and batches that wait for a slow watcher.
const WATCH_EVENTS: usize = 500;
const WATCH_BATCHES: usize = 8;

impl EmbeddedCoordinator {
    fn check_read(&self, key: &str) -> Result<()> {
        if self.writer.may_read(key) {
            return Ok(());
        }
        Err(Error::Denied(format!("{} may not read {key:?}", self.writer.name())))
    }

    fn check_write(&self, key: &str) -> Result<()> {
        if self.writer.may_write(key) {
            return Ok(());
        }
        Err(Error::Denied(format!("{} may not write {key:?}", self.writer.name())))
    }
}

#[async_trait]
impl Coordinator for EmbeddedCoordinator {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        self.check_read(key)?;
        let key = key.to_owned();
        self.shared.read(move |store| store.get(&key)).await
    }

    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<Revision>,
        limit: usize,
    ) -> Result<Page> {
        self.check_read(prefix)?;
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.shared.read(move |store| store.list_page(&prefix, after.as_deref(), revision, limit)).await
    }

    async fn transact(&self, compares: Vec<Compare>, operations: Vec<Operation>) -> Result<TransactionResult> {
        check_transaction(&compares, &operations)?;
        compares.iter().try_for_each(|compare| self.check_read(&compare.key))?;
        operations.iter().try_for_each(|operation| self.check_write(operation.key()))?;
        self.shared.write(move |store| store.transact(&compares, &operations)).await
    }

    async fn lease_grant(&self, ttl_seconds: u32) -> Result<LeaseId> {
        self.shared.write(move |store| store.lease_grant(ttl_seconds)).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<u32> {
        self.shared.read(move |store| store.lease_keep_alive(lease)).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<()> {
        let writer = self.writer;
        self.shared.write(move |store| store.lease_revoke(lease, &writer)).await
    }

    async fn watch(&self, prefix: &str, from_revision: Revision) -> Result<Watch> {
        self.check_read(prefix)?;
        let (sender, receiver) = mpsc::channel(WATCH_BATCHES);
        let (shared, prefix) = (self.shared.clone(), prefix.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                error = feed(&shared, &prefix, from_revision, &sender) => drop(sender.send(Err(error)).await),
            }
        });
        Ok(Watch::new(receiver))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        if self.writer != Writer::Control {
            return Err(Error::Denied(format!("{} may not compact", self.writer.name())));
        }
        self.shared.write(move |store| store.compact(revision)).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        if self.writer != Writer::Control {
            return Err(Error::Denied(format!("{} may not ask how the store is", self.writer.name())));
        }
        self.shared.read(|store| store.health()).await
    }
}

/// Asks for what is new whenever the revision has grown, until that fails.
async fn feed(
    shared: &Shared,
    prefix: &str,
    from_revision: Revision,
    sender: &mpsc::Sender<Result<WatchBatch>>,
) -> Error {
    let mut committed = shared.committed.clone();
    let mut next = from_revision;
    loop {
        let now = *committed.borrow_and_update();
        while next <= now {
            let prefix = prefix.to_owned();
            let batch = match shared.read(move |store| store.events(&prefix, next, WATCH_EVENTS)).await {
                Ok(batch) => batch,
                Err(error) => return error,
            };
            next = batch.revision + 1;
            if sender.send(Ok(batch)).await.is_err() {
                return stopped();
            }
        }
        if committed.changed().await.is_err() {
            return stopped();
        }
    }
}
