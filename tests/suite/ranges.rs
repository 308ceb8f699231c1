//! The operations of a range, asked of an engine by a call, and by a proxy over mutual TLS: one
//! contract for both, and what a node and its callers refuse each other.

mod contract;
mod indexed;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dstore::api::inside::{NodeInside, node_surface};
use dstore::api::server::{Listener, RunningServer, ServerOptions, start};
use dstore::coordination::testing::HeldPort;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{NodeId, PlaneId, RangeId, ReceiptId, Role, TableId};
use dstore::domain::key::PackedKey;
use dstore::domain::observed::tag::TagNumbers;
use dstore::domain::usage::{UsagePull, UsagePulled};
use dstore::domain::{Refusal, RefusalKind};
use dstore::replication::operation::Operation;
use dstore::roles::ambient;
use dstore::services::items::{NodeAddress, Nodes, RangeRoute, RemoteNodes, RemoteOptions};
use dstore::services::observing::{Logged, Observing};
use dstore::services::ports::{
    Consistency, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use dstore::services::range_reports::{OwnRanges, RangeReport};
use dstore::services::ranges::wire::{self, Question};
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::services::usage::UsageSource;
use dstore::transport::pki::{Authority, PeerIdentity, certificate_request};
use dstore::transport::tls::{ClientCertificates, Identity, client_config_of, server_config};

use super::engine::{create, document, open, packed, put, small};
use contract::{contract, read};

const DEADLINE: Duration = Duration::from_secs(120);
/// What the engine of the other tests is.
pub const PLANE: PlaneId = PlaneId(uuid::Uuid::from_bytes([7; 16]));
pub const NODE: NodeId = NodeId(uuid::Uuid::from_bytes([8; 16]));

/// An authority and what it signs.
pub struct Cluster {
    pub authority_pem: String,
    authority: Authority,
}

/// A node that says nothing of itself.
struct Silent;

#[async_trait::async_trait]
impl OwnRanges for Silent {
    async fn of_table(&self, _: TableId) -> Result<Vec<RangeReport>, Refusal> {
        Ok(Vec::new())
    }
}

/// A node of which nobody asks what it counted.
struct Uncounted;

#[async_trait::async_trait]
impl UsageSource for Uncounted {
    async fn pull(&self, _: uuid::Uuid, _: UsagePull) -> Result<UsagePulled, Refusal> {
        Err(Refusal::internal("nobody asks for it here"))
    }
}

impl Cluster {
    pub fn new() -> Self {
        let (authority_pem, key_pem) = Authority::create(PLANE, ambient::clock().now()).unwrap();
        let authority = Authority::open(&authority_pem, &key_pem).unwrap();
        Self { authority_pem, authority }
    }

    pub fn identity(&self, plane: PlaneId, role: Role, id: u8) -> Arc<Identity> {
        let (key, request) = certificate_request().unwrap();
        let peer = PeerIdentity { plane, role, id: uuid::Uuid::from_bytes([id; 16]) };
        let certificate = self.authority.sign(&request, peer, [id; 16], ambient::clock().now()).unwrap();
        Identity::new(&certificate, &key, &self.authority_pem).unwrap()
    }

    /// Serves as the node whose id has these bytes.
    fn serve(&self, node: u8, service: Arc<dyn RangeService>) -> RunningServer {
        self.serve_reporting(node, service, Arc::new(Silent))
    }

    /// Serves as that node, which says this of itself.
    pub fn serve_reporting(&self, node: u8, service: Arc<dyn RangeService>, own: Arc<dyn OwnRanges>) -> RunningServer {
        let identity = self.identity(PLANE, Role::Node, node);
        let tls = server_config(identity, &self.authority_pem, ClientCertificates::Required).unwrap();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Some(tls)).unwrap();
        // One test asks a range that never answers, and does not wait for it to stop.
        let stop_timeout = Duration::from_secs(1);
        let options = ServerOptions { workers: 1, stop_timeout, ..ServerOptions::default() };
        let numbers = TagNumbers::new(&*ambient::random());
        let observing = Arc::new(Observing { logged: Logged::None, slow: None, tracing: None, numbers });
        let inside = NodeInside { service, own, inbox: None, usage: Arc::new(Uncounted), observing };
        start(vec![listener], &options, move || node_surface(inside.clone(), PLANE)).unwrap()
    }

    /// How a proxy with this identity reaches nodes.
    fn nodes(&self, identity: Arc<Identity>, options: RemoteOptions) -> RemoteNodes {
        RemoteNodes::new(PLANE, identity, &self.authority_pem, ambient::clock(), options)
    }

    fn proxy(&self) -> RemoteNodes {
        self.nodes(self.identity(PLANE, Role::Proxy, 3), RemoteOptions::default())
    }
}

/// A route to `node`, whose inside listener is at `address`.
fn route(node: NodeId, address: SocketAddr) -> RangeRoute {
    let inside_uri = Some(format!("https://{address}/"));
    RangeRoute {
        range: RangeId::from_bytes([1; 16]),
        hashes: HashRange::FULL,
        leader: Arc::new(NodeAddress::new(node, "https://clients-only.invalid/".to_owned(), inside_uri)),
        epoch: 1,
        replicas: Arc::new([]),
    }
}

fn reach(nodes: &RemoteNodes, server: &RunningServer) -> Arc<dyn RangeService> {
    nodes.reach(&route(NODE, server.addresses()[0])).unwrap()
}

#[tokio::test]
async fn an_engine_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    contract(&*node.engine, address).await;
    node.engine.stop();
}

#[tokio::test]
async fn an_engine_across_mutual_tls_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let cluster = Cluster::new();
    let server = cluster.serve(8, node.engine.clone());
    let proxy = cluster.proxy();
    contract(&*reach(&proxy, &server), address).await;
    assert_eq!(proxy.client_count(), 1);
    // Another node may ask as well.
    let other = cluster.nodes(cluster.identity(PLANE, Role::Node, 9), RemoteOptions::default());
    let item = reach(&other, &server).read(address, packed("read"), Consistency::Eventual).await.unwrap();
    assert_eq!(item.unwrap().document, document(r#"{"x":2}"#));
    server.stop().await.unwrap();
    node.engine.stop();
}

/// A range that does one thing, whatever it is asked.
enum Stub {
    Refuses(Refusal),
    /// Never answers.
    Waits,
}

impl Stub {
    async fn answer<T>(&self) -> Result<T, Refusal> {
        match self {
            Stub::Refuses(refusal) => Err(refusal.clone()),
            Stub::Waits => std::future::pending().await,
        }
    }
}

#[async_trait::async_trait]
impl RangeService for Stub {
    async fn read(&self, _: RangeAddress, _: PackedKey, _: Consistency) -> Result<Option<StoredItem>, Refusal> {
        self.answer().await
    }

    async fn write(&self, _: RangeAddress, _: Operation, _: bool) -> Result<WriteAnswer, Refusal> {
        self.answer().await
    }

    async fn list(&self, _: RangeAddress, _: ListRequest) -> Result<Page, Refusal> {
        self.answer().await
    }

    async fn receipt(&self, _: RangeAddress, _: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        self.answer().await
    }

    async fn stored(&self, _: RangeAddress, _: u32, _: StoredPart) -> Result<Stored, Refusal> {
        self.answer().await
    }
}

const ANYWHERE: RangeAddress =
    RangeAddress { table: TableId(uuid::Uuid::from_bytes([1; 16])), range: RangeId(uuid::Uuid::from_bytes([1; 16])) };

/// What a read and a write are refused with.
async fn refused(range: &dyn RangeService) -> (Refusal, Refusal) {
    let read = range.read(ANYWHERE, packed("a"), Consistency::Strong);
    let write = range.write(ANYWHERE, put("a", "{}"), false);
    let both = async { (read.await.unwrap_err(), write.await.unwrap_err()) };
    tokio::time::timeout(DEADLINE, both).await.expect("an answer in time")
}

#[tokio::test]
async fn refusals_arrive_whole() {
    let cluster = Cluster::new();
    let proxy = cluster.proxy();
    for kind in wire::KINDS {
        let refusal = Refusal {
            location: Some("https://node-2:8080/ä".to_owned()),
            leader: Some(NODE),
            retry_after_seconds: Some(17),
            ..Refusal::new(*kind, "for \"reasons\"\nof its own: ü")
        };
        let server = cluster.serve(8, Arc::new(Stub::Refuses(refusal.clone())));
        let (read, write) = refused(&*reach(&proxy, &server)).await;
        match kind {
            // That is about the proxy, and no business of its client.
            RefusalKind::Denied | RefusalKind::Unauthenticated => assert_eq!(read.kind, RefusalKind::Unavailable),
            _ => assert_eq!(read, refusal),
        }
        assert_eq!(read, write);
        server.stop().await.unwrap();
    }
}

/// What the server says to a question under this identity, as bytes that are no refusal of the client's own.
async fn raw(cluster: &Cluster, server: &RunningServer, identity: Arc<Identity>, body: Vec<u8>) -> (u16, Refusal) {
    let peer = PeerIdentity { plane: PLANE, role: Role::Node, id: NODE.0 };
    let tls = client_config_of(identity, &cluster.authority_pem, peer).unwrap();
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(DEADLINE).build().unwrap();
    let url = format!("https://{}{}", server.addresses()[0], wire::RANGE_PATH);
    let answer = client.post(url).body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, wire::decode_answer(&answer.bytes().await.unwrap()).unwrap().unwrap_err())
}

#[tokio::test]
async fn only_proxies_and_nodes_of_the_own_plane_are_served() {
    let cluster = Cluster::new();
    let server = cluster.serve(8, Arc::new(Stub::Refuses(Refusal::internal("it was asked"))));
    let question = || Question::Read { key: packed("a"), consistency: Consistency::Strong }.encode(ANYWHERE).to_vec();
    let ask = async |plane, role| {
        let (status, refusal) = raw(&cluster, &server, cluster.identity(plane, role, 3), question()).await;
        (status, refusal.kind)
    };
    assert_eq!(ask(PLANE, Role::Proxy).await, (500, RefusalKind::Internal));
    assert_eq!(ask(PLANE, Role::Node).await, (500, RefusalKind::Internal));
    assert_eq!(ask(PLANE, Role::Reporting).await, (403, RefusalKind::Denied));
    assert_eq!(ask(PLANE, Role::Control).await, (403, RefusalKind::Denied));
    let other_plane = PlaneId::from_bytes([6; 16]);
    assert_eq!(ask(other_plane, Role::Proxy).await, (403, RefusalKind::Denied));

    // As a proxy sees it: the node does not serve it, and nobody is told why but the log.
    let denied = cluster.nodes(cluster.identity(other_plane, Role::Proxy, 3), RemoteOptions::default());
    let (read, write) = refused(&*reach(&denied, &server)).await;
    assert_eq!((read.kind, write.kind), (RefusalKind::Unavailable, RefusalKind::Unavailable));

    // A proxy of another cluster does not even get through the handshake.
    let foreign = Cluster::new().identity(PLANE, Role::Proxy, 3);
    let (read, _) = refused(&*reach(&cluster.nodes(foreign, RemoteOptions::default()), &server)).await;
    assert_eq!(read.kind, RefusalKind::Unavailable);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_no_question_is_refused_and_the_next_one_answered() {
    let cluster = Cluster::new();
    let server = cluster.serve(8, Arc::new(Stub::Refuses(Refusal::internal("it was asked"))));
    let ask = async |body| raw(&cluster, &server, cluster.identity(PLANE, Role::Proxy, 3), body).await;
    let (status, refusal) = ask(b"nonsense".to_vec()).await;
    assert_eq!((status, refusal.kind), (400, RefusalKind::BadInput));
    let (status, refusal) = ask(vec![0; wire::QUESTION_BYTES_MAX + 1]).await;
    assert_eq!((status, refusal.kind), (413, RefusalKind::TooLarge));
    let question = Question::Receipt(ReceiptId::from_bytes([1; 16])).encode(ANYWHERE).to_vec();
    assert_eq!(ask(question).await.1.kind, RefusalKind::Internal);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_node_with_another_id_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let cluster = Cluster::new();
    // Node 9 listens where node 8 used to, over data that would answer.
    let server = cluster.serve(9, node.engine.clone());
    let proxy = cluster.proxy();
    let range = reach(&proxy, &server);
    let refusal = range.write(address, put("a", r#"{"x":1}"#), false).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.retry_after_seconds), (RefusalKind::Unavailable, Some(1)));
    let refusal = range.read(address, packed("a"), Consistency::Strong).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(read(&*node.engine, address, "a").await, None, "nothing was written");
    server.stop().await.unwrap();
    node.engine.stop();
}

#[tokio::test]
async fn no_answer_means_what_may_have_happened() {
    let cluster = Cluster::new();
    // Nobody listens, and nobody else is given the port.
    let held = HeldPort::take().unwrap();
    let free = held.address();
    let (read, write) = refused(&*cluster.proxy().reach(&route(NODE, free)).unwrap()).await;
    assert_eq!((read.kind, write.kind), (RefusalKind::Unavailable, RefusalKind::Unavailable));
    assert!(read.retry_after_seconds.is_some() && write.retry_after_seconds.is_some());

    let server = cluster.serve(8, Arc::new(Stub::Waits));
    let short = Duration::from_millis(200);
    let options = RemoteOptions { read_timeout: short, write_timeout: short, ..RemoteOptions::default() };
    let impatient = cluster.nodes(cluster.identity(PLANE, Role::Proxy, 3), options);
    let (read, write) = refused(&*reach(&impatient, &server)).await;
    assert_eq!((read.kind, write.kind), (RefusalKind::Unavailable, RefusalKind::OutcomeUnknown));

    // An address that is none, or would be asked in clear.
    for uri in ["http://127.0.0.1:1/", "nonsense", ""] {
        let leader = Arc::new(NodeAddress::new(NODE, uri.to_owned(), None));
        let route = RangeRoute { leader, ..route(NODE, free) };
        let refusal = match impatient.reach(&route) {
            Ok(range) => refused(&*range).await.0,
            Err(refusal) => refusal,
        };
        assert_eq!(refusal.kind, RefusalKind::Unavailable, "{uri}");
    }
    server.stop().await.unwrap();
}

/// Connections belong to the runtime of a thread; one that ends leaves nothing that another would wait for.
#[tokio::test]
async fn threads_that_end_take_only_their_own_connections_with_them() {
    let cluster = Cluster::new();
    let server = cluster.serve(8, Arc::new(Stub::Refuses(Refusal::internal("it was asked"))));
    for threads in [1, 3] {
        let options = RemoteOptions { threads, ..RemoteOptions::default() };
        let proxy = cluster.nodes(cluster.identity(PLANE, Role::Proxy, 3), options);
        let range = reach(&proxy, &server);
        for _ in 0..4 {
            let range = range.clone();
            let one = || {
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let (read, write) = runtime.block_on(refused(&*range));
                    assert_eq!((read.kind, write.kind), (RefusalKind::Internal, RefusalKind::Internal));
                })
                .join()
            };
            tokio::task::spawn_blocking(one).await.unwrap().expect("the thread was answered");
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn clients_of_many_nodes_are_bounded() {
    let cluster = Cluster::new();
    let options = RemoteOptions { clients_max: 3, ..RemoteOptions::default() };
    let proxy = cluster.nodes(cluster.identity(PLANE, Role::Proxy, 3), options);
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for node in 1..=9 {
        proxy.reach(&route(NodeId::from_bytes([node; 16]), address)).unwrap();
        proxy.reach(&route(NodeId::from_bytes([node; 16]), address)).unwrap();
    }
    assert_eq!(proxy.client_count(), 3);
    let options = RemoteOptions { client_unused_seconds: 0, ..RemoteOptions::default() };
    let forgetful = cluster.nodes(cluster.identity(PLANE, Role::Proxy, 3), options);
    for node in 1..=9 {
        forgetful.reach(&route(NodeId::from_bytes([node; 16]), address)).unwrap();
    }
    assert_eq!(forgetful.client_count(), 1);
}
