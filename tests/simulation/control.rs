//! Simulated control: the real control plane over the simulated coordinator. It places while it runs, and carries out what an
//! administrator asks of it. Killed, it has nothing but what the coordinator has.

use std::sync::Arc;
use std::time::Duration;

use dstore::coordination::{Coordinator, Writer};
use dstore::domain::Random;
use dstore::domain::ids::NodeId;
use dstore::domain::table::{TableChange, TableDefinition};
use dstore::services::control::{ControlOptions, ControlPlane};
use dstore::services::ports::{Caller, Catalog};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::clock::NodeClock;
use crate::cluster::{Founded, control_key};
use crate::coordinator_client::CoordinatorClient;
use crate::dice::{Dice, SharedDice};
use crate::network::{CONTROL, Load, Network, Parcel};
use crate::node::{node_id, paused_runtime, wait_in};
use crate::trace::Trace;

/// After how many seconds of silence a node's copies are made anew: soon, since a run takes seconds.
const LOST_AFTER_SECONDS: u64 = 4;

/// What an administrator asks for.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    /// Another leader of some range.
    Lead(usize),
    /// A copy of some range from one place to another.
    Move(usize, usize),
    /// So many copies of each range.
    Copies(u8),
    /// Two ranges in place of some range.
    Split,
    /// No leaderships at a place.
    HandOver(usize),
    /// No copies at a place.
    Drain(usize),
}

/// See the module's essay.
pub struct Control {
    dice: Dice,
    network: Network,
    trace: Trace,
    clock: Arc<NodeClock>,
    root: Caller,
    table: Arc<TableDefinition>,
    life: Option<Life>,
}

struct Life {
    /// Known when the coordinator has answered.
    plane: Arc<Mutex<Option<Arc<ControlPlane>>>>,
    runtime: Runtime,
}

impl Control {
    /// Control, which does not run yet.
    pub fn new(dice: Dice, network: Network, trace: Trace, founded: &Founded) -> Control {
        let clock = Arc::new(NodeClock::new(trace.now.clone()));
        let (root, table) = (founded.root.clone(), Arc::clone(&founded.table));
        Control { dice, network, trace, clock, root, table, life: None }
    }

    /// Starts it, where it does not run.
    pub fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        let runtime = paused_runtime().unwrap_or_else(|error| panic!("no runtime: {error}"));
        let random: Arc<dyn Random> = Arc::new(SharedDice(Mutex::new(self.dice.fork())));
        let coordinator: Arc<dyn Coordinator> =
            Arc::new(CoordinatorClient::across(self.network.clone(), CONTROL, Writer::Control));
        let (plane, clock) = (Arc::new(Mutex::new(None)), Arc::clone(&self.clock));
        let known = Arc::clone(&plane);
        runtime.spawn(async move {
            let plane = wait_for_plane(coordinator, clock, random).await;
            *known.lock() = Some(Arc::clone(&plane));
            let leads = watch::Sender::new(true);
            plane.place_while_leading(leads.subscribe()).await;
        });
        self.life = Some(Life { plane, runtime });
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
        match parcel.load {
            Load::Reply(reply, told) => drop(told.send(reply)),
            Load::Changes(batch, sender, _) => drop(sender.try_send(batch)),
            _ => {}
        }
    }

    /// An administrator asks for something; whether it is refused is no matter.
    pub fn ask(&mut self, wish: Wish) {
        let choice = self.dice.number() as usize;
        let Some(life) = &self.life else { return };
        let Some(plane) = life.plane.lock().clone() else { return };
        let (root, table, trace) = (self.root.clone(), Arc::clone(&self.table), self.trace.clone());
        life.runtime.spawn(async move {
            let outcome = carry_out(&plane, &root, &table, wish, choice).await;
            trace.note(format_args!("{wish:?}: {outcome:?}"));
        });
    }
}

/// Opens the control plane as soon as the coordinator answers.
async fn wait_for_plane(
    coordinator: Arc<dyn Coordinator>,
    clock: Arc<NodeClock>,
    random: Arc<dyn Random>,
) -> Arc<ControlPlane> {
    loop {
        let options = ControlOptions {
            table_ready_wait_ms: 0,
            node_lost_after_seconds: LOST_AFTER_SECONDS,
            ..ControlOptions::default()
        };
        let (key, clock) = (control_key(), Arc::clone(&clock) as _);
        match ControlPlane::open(Arc::clone(&coordinator), &key, options, clock, Arc::clone(&random)).await {
            Ok(plane) => return plane,
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn carry_out(
    plane: &ControlPlane,
    root: &Caller,
    table: &TableDefinition,
    wish: Wish,
    choice: usize,
) -> Result<(), dstore::domain::Refusal> {
    let (tenant, name) = (&table.tenant, &table.name);
    let some_range = || async {
        let ranges = plane.range_list(tenant, name).await?;
        let count = ranges.len().max(1);
        let range = ranges.into_iter().nth(choice % count);
        range.map(|range| range.range).ok_or_else(|| dstore::domain::Refusal::not_found("no range"))
    };
    let node = |place: usize| -> NodeId { node_id(place) };
    match wish {
        Wish::Lead(place) => plane.range_lead(root, tenant, name, some_range().await?, node(place)).await,
        Wish::Move(from, to) => plane.range_move(root, tenant, name, some_range().await?, node(from), node(to)).await,
        Wish::Copies(factor) => {
            let change = TableChange { replication_factor: Some(factor), ..TableChange::default() };
            plane.change_table(root, tenant, name, change).await.map(drop)
        }
        Wish::Split => plane.range_split(root, tenant, name, some_range().await?, None).await.map(drop),
        Wish::HandOver(place) => plane.node_hand_over(root, node(place)).await,
        Wish::Drain(place) => plane.node_drain(root, node(place)).await,
    }
}
