//! One simulated proxy: the real routing over the simulated coordinator and network. It has nothing on a disk; killed, it starts
//! anew knowing nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dstore::coordination::Writer;
use dstore::domain::ids::{NodeId, ProxyId, ReceiptId};
use dstore::domain::key::PackedKey;
use dstore::domain::table::TableDefinition;
use dstore::domain::{Random, Refusal, RefusalKind};
use dstore::replication::operation::Operation;
use dstore::services::items::{Nodes, RangeRoute, RoutedItems, Routes};
use dstore::services::ports::{
    Consistency, Items, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::services::routing::{RoutingOptions, RoutingTable};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::clock::NodeClock;
use crate::coordinator_client::CoordinatorClient;
use crate::dice::{Dice, SharedDice};
use crate::network::{CLIENTS, Load, Network, PROXIES, Parcel};
use crate::node::{node_place, paused_runtime, wait_in};
use crate::question::{Answer, Matter, Question, ask_proxy};
use crate::trace::Now;

/// How long a node's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module's essay.
pub struct Proxy {
    place: usize,
    dice: Dice,
    network: Network,
    clock: Arc<NodeClock>,
    table: Arc<TableDefinition>,
    life: Option<Life>,
}

struct Life {
    items: Arc<dyn Items>,
    runtime: Runtime,
    _routing: Arc<RoutingTable>,
}

impl Proxy {
    /// The proxy of this number, on which nothing runs yet.
    pub fn new(number: usize, dice: Dice, network: Network, now: Now, table: Arc<TableDefinition>) -> Proxy {
        let clock = Arc::new(NodeClock::new(now));
        Proxy { place: PROXIES + number, dice, network, clock, table, life: None }
    }

    /// Starts it, where it does not run.
    pub fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        let runtime = paused_runtime().unwrap_or_else(|error| panic!("no runtime: {error}"));
        let random: Arc<dyn Random> = Arc::new(SharedDice(Mutex::new(self.dice.fork())));
        let inside = runtime.enter();
        let id = ProxyId::from_bytes([self.place as u8; 16]);
        let coordinator = CoordinatorClient::across(self.network.clone(), self.place, Writer::Proxy(id));
        let clock = || Arc::clone(&self.clock) as _;
        let routing =
            RoutingTable::start(Arc::new(coordinator), RoutingOptions::default(), clock(), Arc::clone(&random));
        let routing = Arc::new(routing);
        let nodes = Arc::new(Ways { network: self.network.clone(), place: self.place });
        let routes = Arc::clone(&routing) as Arc<dyn Routes>;
        let items = RoutedItems::new(routes, nodes).with_request_ids(clock(), random);
        drop(inside);
        self.life = Some(Life { items: Arc::new(items), runtime, _routing: routing });
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.life = None;
    }

    /// Lets this much time pass on it, in milliseconds.
    pub fn run(&self, milliseconds: u64) {
        if let Some(life) = &self.life {
            wait_in(&life.runtime, milliseconds);
        }
    }

    /// Something arrived.
    pub fn take(&self, parcel: Parcel) {
        match (parcel.load, &self.life) {
            (Load::Question(question, told), Some(life)) => {
                let (network, place, table) = (self.network.clone(), self.place, Arc::clone(&self.table));
                let items = Arc::clone(&life.items);
                life.runtime.spawn(async move {
                    let answer = ask_proxy(items, table, question.matter).await;
                    network.send(place, CLIENTS, Load::Answer(answer, told));
                });
            }
            (Load::Question(_, told), None) => {
                self.network.send(self.place, parcel.from, Load::Answer(Answer::Nobody, told));
            }
            (Load::Answer(answer, told), _) => drop(told.send(answer)),
            (Load::Reply(reply, told), _) => drop(told.send(reply)),
            (Load::Changes(batch, sender, _), _) => drop(sender.try_send(batch)),
            _ => {}
        }
    }
}

/// The ways to nodes.
struct Ways {
    network: Network,
    place: usize,
}

impl Nodes for Ways {
    fn reach(&self, route: &RangeRoute) -> Result<Arc<dyn RangeService>, Refusal> {
        Ok(Arc::new(RemoteNode { network: self.network.clone(), place: self.place, node: route.leader.node }))
    }
}

/// A node as a proxy asks it.
struct RemoteNode {
    network: Network,
    place: usize,
    node: NodeId,
}

impl RemoteNode {
    /// None where no answer came, and the question may have.
    async fn ask(&self, address: RangeAddress, matter: Matter) -> Option<Answer> {
        let Some(place) = node_place(self.node) else { return Some(Answer::Nobody) };
        let (told, answered) = oneshot::channel();
        let question = Question { range: Some(address), matter };
        self.network.send(self.place, place, Load::Question(question, told));
        tokio::time::timeout(PATIENCE, answered).await.ok()?.ok()
    }
}

fn unreached() -> Refusal {
    Refusal { unreached: true, ..Refusal::unavailable("the node cannot be reached", 1) }
}

#[async_trait]
impl RangeService for RemoteNode {
    async fn read(
        &self,
        address: RangeAddress,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        match self.ask(address, Matter::Read(key, consistency)).await {
            Some(Answer::Read(answer)) => answer,
            _ => Err(unreached()),
        }
    }

    async fn write(&self, address: RangeAddress, operation: Operation, early: bool) -> Result<WriteAnswer, Refusal> {
        match self.ask(address, Matter::Write(operation, early)).await {
            Some(Answer::Write(answer)) => answer,
            Some(_) => Err(unreached()),
            None => Err(Refusal::new(RefusalKind::OutcomeUnknown, "the node gave no answer")),
        }
    }

    async fn list(&self, _address: RangeAddress, _request: ListRequest) -> Result<Page, Refusal> {
        Err(Refusal::internal("no simulated client lists"))
    }

    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        match self.ask(address, Matter::Receipt(receipt)).await {
            Some(Answer::Receipt(answer)) => answer,
            _ => Err(unreached()),
        }
    }

    async fn stored(&self, _address: RangeAddress, _hash: u32, _part: StoredPart) -> Result<Stored, Refusal> {
        Err(Refusal::internal("no simulated client asks how much there is"))
    }
}
