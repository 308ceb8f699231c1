//! Frames over real sockets and real certificates: who gets through, and who does not.

use std::net::SocketAddr;

use parking_lot::Mutex;
use uuid::Uuid;

use super::*;
use crate::api::server::{Listener, RunningServer, ServerOptions, start};
use crate::domain::Timestamp;
use crate::transport::dialing::NodeDialer;
use crate::transport::frame_client::{FrameClient, FrameOptions, PeerAddresses};
use crate::transport::frames;
use crate::transport::links::{Carrier, Lane, LinkOptions, Links};
use crate::transport::pki::{Authority, PeerIdentity, certificate_request};
use crate::transport::tls::{ClientCertificates, Identity, server_config};

const PLANE: PlaneId = PlaneId(Uuid::from_bytes([7; 16]));

struct Cluster {
    authority_pem: String,
    authority: Authority,
    now: Timestamp,
}

impl Cluster {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "rustls checks certificates against the system's clock")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = Timestamp(since.as_micros() as u64);
        let (authority_pem, key_pem) = Authority::create(PLANE, now).unwrap();
        let authority = Authority::open(&authority_pem, &key_pem).unwrap();
        Self { authority_pem, authority, now }
    }

    fn identity(&self, plane: PlaneId, role: Role, id: u8) -> Arc<Identity> {
        let (key, request) = certificate_request().unwrap();
        let peer = PeerIdentity { plane, role, id: Uuid::from_bytes([id; 16]) };
        let certificate = self.authority.sign(&request, peer, [id; 16], self.now).unwrap();
        Identity::new(&certificate, &key, &self.authority_pem).unwrap()
    }

    /// Serves as the node of this number.
    fn serve(&self, number: u8, inbox: Option<Arc<Kept>>) -> RunningServer {
        let identity = self.identity(PLANE, Role::Node, number);
        let tls = server_config(identity, &self.authority_pem, ClientCertificates::Required).unwrap();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Some(tls)).unwrap();
        let options = ServerOptions { workers: 1, ..ServerOptions::default() };
        start(vec![listener], &options, move || {
            let inbox = inbox.clone().map(|inbox| inbox as Arc<dyn Inbox>);
            move |request, payload| Box::pin(take(inbox.clone(), PLANE, request, payload))
        })
        .unwrap()
    }

    /// What carries for this identity, to whoever it takes to be node 2.
    fn client(&self, identity: Arc<Identity>, server: &RunningServer) -> Arc<FrameClient> {
        let dialer = NodeDialer::new(PLANE, identity, &self.authority_pem);
        let uri = format!("https://{}/", server.addresses()[0]);
        Arc::new(FrameClient::new(dialer, Arc::new(Addresses(Mutex::new(uri))), FrameOptions::default()))
    }
}

/// Where node 2 is. Of others nothing is known.
struct Addresses(Mutex<String>);

impl PeerAddresses for Addresses {
    fn inside_uri(&self, node: NodeId) -> Option<String> {
        (node == self::node(2)).then(|| self.0.lock().clone())
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<(NodeId, Bytes)>>);

impl Inbox for Kept {
    fn deliver(&self, from: NodeId, frame: Bytes) {
        self.0.lock().push((from, frame));
    }
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to that: {what}");
}

#[tokio::test]
async fn messages_arrive_in_the_name_of_the_certificate() {
    let cluster = Cluster::new();
    let kept = Arc::new(Kept::default());
    let server = cluster.serve(2, Some(kept.clone()));
    let client = cluster.client(cluster.identity(PLANE, Role::Node, 1), &server);
    let links = Links::new(client.clone(), tokio::runtime::Handle::current(), LinkOptions::default());
    let large = Bytes::from(vec![9; 3 * frames::FRAME_BYTES]);
    links.send(node(2), large.clone(), Lane::Bulk).unwrap();
    for number in 0..100u8 {
        links.send(node(2), Bytes::from(vec![number]), Lane::Small).unwrap();
    }
    wait_until("everything was sent", || links.busy_count() == 0).await;
    let (small, bulk) = (links.counts(Lane::Small), links.counts(Lane::Bulk));
    assert_eq!((small.messages, small.frames_failed, bulk.messages, bulk.frames_failed), (100, 0, 1, 0));
    assert!(small.frames <= 2, "{small:?}");
    let arrived = kept.0.lock().clone();
    assert!(arrived.iter().all(|(from, _)| *from == node(1)));
    let messages: Vec<Bytes> = arrived.iter().flat_map(|(_, frame)| frames::decode(frame).unwrap()).collect();
    assert!(messages.iter().filter(|message| message.len() == 1).map(|message| message[0]).eq(0..100));
    assert!(messages.contains(&large));
    assert_eq!(client.client_count(), 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn only_the_node_that_is_meant_gets_a_frame_and_only_nodes_send_any() {
    let cluster = Cluster::new();
    let kept = Arc::new(Kept::default());
    let frame = frames::encode(&[Bytes::from_static(b"x")]);
    // Node 3 listens where node 2 was.
    let other = cluster.serve(3, Some(kept.clone()));
    let client = cluster.client(cluster.identity(PLANE, Role::Node, 1), &other);
    assert!(client.carry(node(2), frame.clone()).await.is_err());
    assert!(client.carry(node(4), frame.clone()).await.unwrap_err().reason.contains("not known"));
    let server = cluster.serve(2, Some(kept.clone()));
    for (plane, role) in
        [(PLANE, Role::Proxy), (PLANE, Role::Control), (PlaneId(Uuid::from_bytes([9; 16])), Role::Node)]
    {
        let client = cluster.client(cluster.identity(plane, role, 1), &server);
        assert!(client.carry(node(2), frame.clone()).await.unwrap_err().reason.contains("403"), "{role}");
    }
    let stranger = Cluster::new();
    let intruder = cluster.client(stranger.identity(PLANE, Role::Node, 1), &server);
    assert!(intruder.carry(node(2), frame.clone()).await.is_err());
    assert_eq!(kept.0.lock().len(), 0);
    let client = cluster.client(cluster.identity(PLANE, Role::Node, 1), &server);
    client.carry(node(2), frame.clone()).await.unwrap();
    assert_eq!(*kept.0.lock(), [(node(1), frame)]);
    for server in [server, other] {
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_moves_is_found_and_one_that_is_too_large_or_too_early_is_told() {
    let cluster = Cluster::new();
    let kept = Arc::new(Kept::default());
    let (first, second) = (cluster.serve(2, None), cluster.serve(2, Some(kept.clone())));
    let uri = |server: &RunningServer| format!("https://{}/", server.addresses()[0]);
    let addresses = Arc::new(Addresses(Mutex::new(uri(&first))));
    let dialer = NodeDialer::new(PLANE, cluster.identity(PLANE, Role::Node, 1), &cluster.authority_pem);
    let client = FrameClient::new(dialer, addresses.clone(), FrameOptions::default());
    let frame = frames::encode(&[Bytes::from_static(b"x")]);
    assert!(client.carry(node(2), frame.clone()).await.unwrap_err().reason.contains("503"));
    *addresses.0.lock() = uri(&second);
    client.carry(node(2), frame).await.unwrap();
    assert_eq!((client.client_count(), kept.0.lock().len()), (1, 1));
    let too_large = Bytes::from(vec![1; FRAME_BYTES_MAX + 1]);
    assert!(client.carry(node(2), too_large).await.is_err());
    assert_eq!(kept.0.lock().len(), 1);
    for server in [first, second] {
        server.stop().await.unwrap();
    }
}
