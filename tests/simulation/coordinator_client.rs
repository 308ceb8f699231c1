//! A component's handle on the coordinator: each question and each answer is a parcel on the simulated network, and may be lost there.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use dstore::coordination::{
    Compare, Coordinator, Error, KeyValue, LeaseId, Operation, Page, Result, Revision, StoreHealth, TransactionResult,
    Watch, WatchBatch, Writer,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::{Ask, Reply, Store};
use crate::network::{COORDINATOR, Load, Network};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Batches that wait for a slow watcher, whose watch breaks when there are more.
const BATCHES_MAX: usize = 256;

/// How a handle reaches the store.
#[derive(Clone)]
enum Way {
    /// Across the network, from this place.
    Network(Network, usize),
    /// By a call, for what happens before the simulation begins.
    Direct(Arc<Mutex<Store>>),
}

/// See the module's essay.
pub struct CoordinatorClient {
    way: Way,
    writer: Writer,
}

/// A watch as the coordinator knows it.
#[derive(Debug)]
pub struct Watcher {
    /// Where it is.
    pub place: usize,
    /// What it is told of.
    pub prefix: String,
    /// The next revision to tell.
    pub next: Revision,
    /// Where what is told goes.
    pub sender: mpsc::Sender<Result<WatchBatch>>,
    /// Whether something of it was lost: then it has ended.
    pub broken: Arc<AtomicBool>,
}

impl CoordinatorClient {
    /// A handle at this place that may do what `writer` may.
    pub fn across(network: Network, place: usize, writer: Writer) -> Self {
        Self { way: Way::Network(network, place), writer }
    }

    /// A handle on a store in the same hands.
    pub fn direct(store: Arc<Mutex<Store>>) -> Self {
        Self { way: Way::Direct(store), writer: Writer::Control }
    }

    async fn ask(&self, ask: Ask) -> Result<Reply> {
        let changes = ask.changes();
        let (network, place) = match &self.way {
            Way::Direct(store) => return store.lock().answer(ask, 0),
            Way::Network(network, place) => (network, *place),
        };
        let (told, answered) = oneshot::channel();
        network.send(place, COORDINATOR, Load::Ask(ask, told));
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) if changes => Err(Error::OutcomeUnknown("no answer came".into())),
            Ok(Err(_)) | Err(_) => Err(Error::Unavailable("no answer came".into())),
        }
    }

    fn may_read(&self, key: &str) -> Result<()> {
        if self.writer.may_read(key) { Ok(()) } else { Err(Error::Denied(format!("reading {key}"))) }
    }

    fn may_write(&self, key: &str) -> Result<()> {
        if self.writer.may_write(key) { Ok(()) } else { Err(Error::Denied(format!("writing {key}"))) }
    }
}

/// An answer of another kind than was asked for: there is none.
fn unfitting(reply: Reply) -> Error {
    Error::BadRequest(format!("the coordinator answered {reply:?}"))
}

#[async_trait]
impl Coordinator for CoordinatorClient {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        self.may_read(key)?;
        match self.ask(Ask::Get(key.to_owned())).await? {
            Reply::Entry(entry) => Ok(entry),
            other => Err(unfitting(other)),
        }
    }

    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<Revision>,
        limit: usize,
    ) -> Result<Page> {
        self.may_read(prefix)?;
        match self.ask(Ask::List(prefix.to_owned(), after.map(str::to_owned), revision, limit)).await? {
            Reply::Page(page) => Ok(page),
            other => Err(unfitting(other)),
        }
    }

    async fn transact(&self, compares: Vec<Compare>, operations: Vec<Operation>) -> Result<TransactionResult> {
        compares.iter().try_for_each(|compare| self.may_read(&compare.key))?;
        operations.iter().try_for_each(|operation| self.may_write(operation.key()))?;
        match self.ask(Ask::Transact(compares, operations)).await? {
            Reply::Done(result) => Ok(result),
            other => Err(unfitting(other)),
        }
    }

    async fn lease_grant(&self, ttl_seconds: u32) -> Result<LeaseId> {
        match self.ask(Ask::Grant(ttl_seconds)).await? {
            Reply::Lease(lease) => Ok(lease),
            other => Err(unfitting(other)),
        }
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<u32> {
        match self.ask(Ask::KeepAlive(lease)).await? {
            Reply::Kept(seconds) => Ok(seconds),
            other => Err(unfitting(other)),
        }
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<()> {
        self.ask(Ask::Revoke(lease)).await.map(drop)
    }

    async fn watch(&self, prefix: &str, from_revision: Revision) -> Result<Watch> {
        self.may_read(prefix)?;
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        if let Way::Network(network, place) = &self.way {
            let (prefix, broken) = (prefix.to_owned(), Arc::default());
            let watcher = Watcher { place: *place, prefix, next: from_revision, sender, broken };
            network.send(*place, COORDINATOR, Load::Watch(watcher));
        } else {
            // Nothing changes but by the one who holds it; the watch stays silent.
            std::mem::forget(sender);
        }
        Ok(Watch::new(receiver))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.ask(Ask::Compact(revision)).await.map(drop)
    }

    async fn health(&self) -> Result<StoreHealth> {
        match self.ask(Ask::Health).await? {
            Reply::Health(health) => Ok(health),
            other => Err(unfitting(other)),
        }
    }
}
