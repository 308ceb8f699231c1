//! What runs on a simulated node, put together as the node's role puts it together: groups over the simulated network, the ranges
//! that are served, and what follows control's plan, publishes routes, changes groups, and says that the node is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dstore::coordination::{Coordinator, Writer};
use dstore::crypto::Key256;
use dstore::domain::ids::{NodeId, PlaneId, TenantId};
use dstore::domain::{Random, Refusal};
use dstore::roles::presence::Presence;
use dstore::services::assignments::incarnation::Incarnation;
use dstore::services::assignments::{AssignmentParts, Assignments, GroupInstances, HandedPart, HandedParts, KeyParts};
use dstore::services::engine::Engine;
use dstore::services::engine::keys::NodeKeys;
use dstore::services::engine::notices::Notices;
use dstore::services::group::host::{Groups, GroupsParts};
use dstore::services::group::incoming::Incoming;
use dstore::services::group::network::{GroupNetworks, NetworkOptions};
use dstore::services::group::ports::GroupOperations;
use dstore::services::node_directory::{DirectoryCopy, NodeDirectory};
use dstore::services::publishing::rounds::{HeldRanges, PublishingRounds};
use dstore::services::publishing::{PublishedAddress, RoutePublisher};
use dstore::services::ranges::RangeService;
use dstore::services::reconfiguring::{Reconfiguring, Surroundings};
use dstore::services::replicated::ReplicatedRanges;
use dstore::services::rolled_back::{OwnBoots, follow_objections};
use dstore::services::splitting::Splitting;
use dstore::storage::node_database::NodeDatabase;
use dstore::transport::links::{Carrier, CarryError, Inbox, LinkOptions, Links};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::cluster::details;
use crate::coordinator_client::CoordinatorClient;
use crate::network::{Load, Network};
use crate::node::{key, node_id, node_place};

/// How long the receipt of a frame is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a node's sign of life is good, in seconds.
const ALIVE_SECONDS: u32 = 3;

/// The key parts that control hands out.
pub fn handed_key() -> Key256 {
    key(4)
}

/// What the machine gives to what runs on it.
pub struct Machine<'a> {
    /// Its place.
    pub place: usize,
    /// The control plane it belongs to.
    pub plane: PlaneId,
    /// Of its data folder.
    pub incarnation: uuid::Uuid,
    /// Where the copy of the node directory lies.
    pub folder: &'a Path,
    /// The network.
    pub network: &'a Network,
    /// The node's database.
    pub database: Arc<dyn NodeDatabase>,
    /// Its keys.
    pub keys: Arc<NodeKeys>,
    /// Its dice.
    pub random: Arc<dyn Random>,
    /// Its notices.
    pub notices: Arc<Notices>,
    /// The boot numbers of its folder.
    pub boots: Arc<OwnBoots>,
}

/// See the module's essay.
pub struct Running {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The groups.
    pub groups: Arc<Groups>,
    /// The ranges as they are served.
    pub ranges: Arc<dyn RangeService>,
    /// Takes frames.
    pub inbox: Arc<dyn Inbox>,
    _presence: Presence,
}

impl Running {
    /// Puts it together and starts it, in the runtime it is called in.
    pub fn start(machine: Machine<'_>, engine: Arc<Engine>) -> Running {
        let node = node_id(machine.place);
        let client = CoordinatorClient::across(machine.network.clone(), machine.place, Writer::Node(node));
        let coordinator: Arc<dyn Coordinator> = Arc::new(client);
        let (groups, inbox) = start_groups(&machine, &engine, node);
        let ranges = Arc::new(ReplicatedRanges::new(Arc::clone(&engine), Arc::clone(&groups)));
        let path = machine.folder.join("nodes.copy");
        let copy = DirectoryCopy { path, plane: machine.plane, keys: Arc::clone(&machine.keys) as _ };
        let directory = Arc::new(NodeDirectory::open(Arc::clone(&coordinator), copy, Arc::clone(&machine.random)));
        let presence = follow(&machine, &coordinator, &engine, &groups, &directory);
        drop(tokio::spawn(look_after(Arc::clone(&engine))));
        Running { engine, groups, ranges, inbox, _presence: presence }
    }
}

fn start_groups(machine: &Machine<'_>, engine: &Arc<Engine>, node: NodeId) -> (Arc<Groups>, Arc<dyn Inbox>) {
    let carrier = Arc::new(Frames { network: machine.network.clone(), place: machine.place });
    let links = Arc::new(Links::new(carrier, Handle::current(), LinkOptions::default()));
    let networks = GroupNetworks::new(links, &*machine.random, NetworkOptions::default());
    let parts = GroupsParts {
        node,
        engine: Arc::clone(engine),
        networks: Arc::clone(&networks),
        random: Arc::clone(&machine.random),
    };
    let groups = Groups::new(parts).unwrap_or_else(|error| panic!("no groups: {error}"));
    groups.set_boots(Arc::clone(&machine.boots));
    let inbox: Arc<dyn Inbox> = Arc::new(Incoming::new(networks, Arc::clone(&groups) as _));
    groups.start();
    (groups, inbox)
}

/// Starts what follows the plan, publishes, and changes groups; and the sign of life.
fn follow(
    machine: &Machine<'_>,
    coordinator: &Arc<dyn Coordinator>,
    engine: &Arc<Engine>,
    groups: &Arc<Groups>,
    directory: &Arc<NodeDirectory>,
) -> Presence {
    let node = node_id(machine.place);
    let mut said = details(machine.place);
    said.incarnation = Some(machine.incarnation);
    let address = PublishedAddress { uri: said.uri.clone(), inside_uri: said.inside_uri.clone() };
    let publisher = RoutePublisher::new(node, address, Arc::clone(coordinator), Arc::clone(directory));
    let publisher = Arc::new(publisher);
    let assignments = Assignments::new(AssignmentParts {
        node,
        coordinator: Arc::clone(coordinator),
        engine: Arc::clone(engine),
        keys: Arc::clone(&machine.keys),
        database: Arc::clone(&machine.database),
        parts: Arc::new(Handed),
        random: Arc::clone(&machine.random),
        publisher: Arc::clone(&publisher),
        directory: Arc::clone(directory),
        notices: Arc::clone(&machine.notices),
        groups: Arc::clone(groups) as Arc<dyn GroupInstances>,
    });
    let operations = || Arc::clone(groups) as Arc<dyn GroupOperations>;
    let held = Arc::clone(engine) as Arc<dyn HeldRanges>;
    let rounds = PublishingRounds::new(publisher, operations(), held, directory, Arc::clone(&machine.notices));
    let surroundings = Arc::clone(groups) as Arc<dyn Surroundings>;
    let changes = Reconfiguring::new(operations(), surroundings, assignments.given());
    drop(tokio::spawn(rounds.follow()));
    drop(tokio::spawn(changes.follow()));
    let splitting =
        Splitting::new(Arc::clone(coordinator), operations(), Arc::clone(groups) as _, Arc::clone(groups) as _);
    drop(tokio::spawn(splitting.follow()));
    let settled = watch::Sender::new(false);
    let presence = Presence::begin(
        node,
        said.clone(),
        Arc::clone(&machine.boots),
        ALIVE_SECONDS,
        Arc::clone(coordinator),
        settled.subscribe(),
        Arc::new(|| None),
    );
    let settling = Incarnation {
        node,
        own: machine.incarnation,
        details: said,
        coordinator: Arc::clone(coordinator),
        boots: Arc::clone(&machine.boots),
    };
    drop(tokio::spawn(follow_objections(Arc::clone(engine), Arc::clone(groups))));
    let (engine, groups, notices) = (Arc::clone(engine), Arc::clone(groups), Arc::clone(&machine.notices));
    drop(tokio::spawn(async move {
        settling.settle_with(&engine, &groups, &notices).await;
        settled.send_replace(true);
        assignments.follow().await;
    }));
    presence
}

/// Looks after disk and log once a second, as the role does.
async fn look_after(engine: Arc<Engine>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        engine.look_after();
    }
}

/// Brings frames across the simulated network.
struct Frames {
    network: Network,
    place: usize,
}

#[async_trait]
impl Carrier for Frames {
    async fn carry(&self, to: NodeId, frame: Bytes) -> Result<(), CarryError> {
        let failed = |reason: &str| CarryError { node: to, reason: reason.to_owned() };
        let place = node_place(to).ok_or_else(|| failed("there is no such node"))?;
        let (told, received) = oneshot::channel();
        self.network.send(self.place, place, Load::Frame(frame, Some(told)));
        match tokio::time::timeout(PATIENCE, received).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(failed("nobody is there")),
            Ok(Err(_)) | Err(_) => Err(failed("no answer came")),
        }
    }
}

/// Control's parts of keys, handed out at once.
struct Handed;

#[async_trait]
impl KeyParts for Handed {
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal> {
        Ok(vec![HandedPart { version: 1, part: key(2) }])
    }

    async fn tenant_part(&self, _tenant: TenantId) -> Result<Vec<HandedPart>, Refusal> {
        Ok(vec![HandedPart { version: 1, part: handed_key() }])
    }

    async fn all(&self) -> Result<HandedParts, Refusal> {
        Ok(HandedParts { node: self.node_part().await?, tenants: Vec::new() })
    }

    async fn in_use(&self, _tenant: Option<TenantId>, _version_min: u32) -> Result<(), Refusal> {
        Ok(())
    }
}
