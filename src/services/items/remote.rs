//! Nodes across the network: what a proxy asks, over mutual TLS, in the bytes of
//! [`crate::services::ranges::wire`].
//!
//! Each node has a client of its own, which reaches that very node and no other ([`crate::transport::dialing`]). A client
//! keeps its connections while they are used.
//!
//! A connection is driven by the runtime it was made in, and each thread that serves has a runtime of its own. So each
//! thread has its own connections to a node: one that is handed from thread to thread costs two wake-ups of
//! another thread for each request.
//!
//! What no answer means depends on the question:
//!
//! | | a read | a write |
//! |---|---|---|
//! | no connection could be made | `Unavailable` | `Unavailable`: nothing was written |
//! | anything after that | `Unavailable` | `OutcomeUnknown` |
//!
//! Connections are closed some time before the node would close them ([`RemoteOptions::idle_timeout`]), or a
//! write might meet the node's goodbye half-way and nobody would know whether it happened.
//!
//! Clients of nodes that are asked no more are dropped when one for another node is made, and so are the
//! ones used longest ago where there are too many. Whoever is using one keeps it until its answer is there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::header::HeaderName;
use reqwest::{Client, RequestBuilder, Url};
use rustls::ClientConfig;

use super::address::NodeAddress;
use super::routed::{Nodes, RangeRoute};
use crate::domain::ids::{NodeId, PlaneId, ReceiptId};
use crate::domain::key::PackedKey;
use crate::domain::{Clock, Refusal, RefusalKind, Timestamp};
use crate::replication::operation::Operation;
use crate::services::observing::{self, TAG_HEADER, TRACE_HEADER};
use crate::services::ports::{
    Consistency, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use crate::services::ranges::wire::{ANSWER_BYTES_MAX, Answer, Question, RANGE_PATH, decode_answer};
use crate::services::ranges::{RangeAddress, RangeService};
use crate::transport::dialing::{ConnectionOptions, NodeDialer, client_over};
use crate::transport::tls::Identity;

/// How nodes are asked.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// How long a connection may take to be made, the handshake included.
    pub connect_timeout: Duration,
    /// How long a read may take, its connection included.
    pub read_timeout: Duration,
    /// How long a write or a listing may take, its connection included.
    pub write_timeout: Duration,
    /// How long an unused connection is kept. Shorter than the node's own patience.
    pub idle_timeout: Duration,
    /// Unused connections from one thread to one node that are kept, at most.
    pub idle_connections_max: usize,
    /// Threads with connections of their own; where more ask, some share. As many as serve requests.
    pub threads: usize,
    /// Clients that are kept, at most: one for each node that is asked.
    pub clients_max: usize,
    /// How long a client that is not used is kept, in seconds, once another one is made.
    pub client_unused_seconds: u64,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            idle_connections_max: 512,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            clients_max: 1024,
            client_unused_seconds: 600,
        }
    }
}

const TAG: HeaderName = HeaderName::from_static(TAG_HEADER);
const TRACE: HeaderName = HeaderName::from_static(TRACE_HEADER);

/// See the module's essay.
pub struct RemoteNodes {
    dialer: NodeDialer,
    options: RemoteOptions,
    clock: Arc<dyn Clock>,
    known: ArcSwap<HashMap<NodeId, Arc<RemoteNode>>>,
    /// Held while `known` is replaced.
    changing: Mutex<()>,
}

impl RemoteNodes {
    /// Nodes of this control plane, asked with this identity.
    pub fn new(
        plane: PlaneId,
        identity: Arc<Identity>,
        authority_pem: &str,
        clock: Arc<dyn Clock>,
        options: RemoteOptions,
    ) -> Self {
        let dialer = NodeDialer::new(plane, identity, authority_pem);
        let known = ArcSwap::from_pointee(HashMap::new());
        Self { dialer, options, clock, known, changing: Mutex::new(()) }
    }

    /// How many clients there are.
    pub fn client_count(&self) -> usize {
        self.known.load().len()
    }

    fn meet(&self, address: &NodeAddress, now: Timestamp) -> Result<Arc<RemoteNode>, Refusal> {
        let _changing = self.changing.lock();
        // Another request may have been first.
        if let Some(node) = self.known.load().get(&address.node).filter(|node| node.inside_uri == address.inside()) {
            return Ok(node.clone());
        }
        let node = Arc::new(self.open(address, now)?);
        let mut known: HashMap<NodeId, Arc<RemoteNode>> = HashMap::clone(&self.known.load());
        known.remove(&address.node);
        let used = |node: &RemoteNode| Timestamp(node.used_at.load(Ordering::Relaxed));
        known.retain(|_, node| now.seconds_since(used(node)) < self.options.client_unused_seconds);
        while known.len() >= self.options.clients_max.max(1) {
            let Some(oldest) = known.iter().min_by_key(|(_, node)| used(node)).map(|(id, _)| *id) else { break };
            known.remove(&oldest);
        }
        known.insert(address.node, node.clone());
        self.known.store(Arc::new(known));
        Ok(node)
    }

    fn open(&self, address: &NodeAddress, now: Timestamp) -> Result<RemoteNode, Refusal> {
        let unusable = |reason: String| {
            tracing::error!(node = %address.node, address = address.inside(), reason, "a node's address cannot be used");
            Refusal::unavailable("the address of the node that holds this key cannot be used", 5)
        };
        let url = format!("{}{RANGE_PATH}", address.inside().trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|problem| unusable(problem.to_string()))?;
        let tls = self.dialer.tls(address.node).map_err(|problem| unusable(problem.to_string()))?;
        Ok(RemoteNode {
            node: address.node,
            inside_uri: address.inside().to_owned(),
            url,
            tls,
            clients: (0..self.options.threads.max(1)).map(|_| OnceLock::new()).collect(),
            options: self.options.clone(),
            used_at: AtomicU64::new(now.0),
        })
    }
}

impl Nodes for RemoteNodes {
    fn reach(&self, route: &RangeRoute) -> Result<Arc<dyn RangeService>, Refusal> {
        let now = self.clock.now();
        let address = &route.leader;
        let known = self.known.load().get(&address.node).filter(|node| node.inside_uri == address.inside()).cloned();
        let node = match known {
            Some(node) => node,
            None => self.meet(address, now)?,
        };
        node.used_at.store(now.0, Ordering::Relaxed);
        Ok(node)
    }
}

/// One node across the network.
struct RemoteNode {
    node: NodeId,
    inside_uri: String,
    url: Url,
    tls: ClientConfig,
    /// One for each thread, made when it first asks.
    clients: Box<[OnceLock<Client>]>,
    options: RemoteOptions,
    used_at: AtomicU64,
}

/// Threads are numbered in the order in which they first ask.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// What happens where no answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl RemoteNode {
    /// This thread's client.
    fn client(&self) -> Result<&Client, Refusal> {
        let place = &self.clients[thread_number() % self.clients.len()];
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let connections = ConnectionOptions {
            connect_timeout: self.options.connect_timeout,
            idle_timeout: self.options.idle_timeout,
            idle_connections_max: self.options.idle_connections_max,
        };
        let client = client_over(self.tls.clone(), &connections).map_err(|problem| {
            tracing::error!(node = %self.node, %problem, "no client for a node can be made");
            Refusal::unavailable("the node that holds this key cannot be asked at present", 1)
        })?;
        // Where another thread shares this place and was first, its client serves both.
        Ok(place.get_or_init(|| client))
    }

    /// Asks, with the tag of the client's request and its place in a trace, so that the node notes what it does under them.
    async fn ask(&self, question: Bytes, kind: Kind, timeout: Duration) -> Result<Answer, Refusal> {
        let mut request = self.client()?.post(self.url.clone()).timeout(timeout).body(question);
        let asking = observing::asking();
        if let Some(asking) = &asking {
            request = request.header(TAG, asking.tag.as_str());
            if let Some(trace) = &asking.trace {
                request = request.header(TRACE, &trace.header()[..]);
            }
        }
        let answer = self.answer(request, kind).await;
        if let Some(asking) = asking {
            asking.ended(self.node, answer.is_err());
        }
        answer
    }

    async fn answer(&self, request: RequestBuilder, kind: Kind) -> Result<Answer, Refusal> {
        let response = request.send().await.map_err(|problem| self.unanswered(&problem, kind))?;
        let status = response.status();
        // The answers of our own servers say how long they are; others are not worth reading.
        if response.content_length().is_none_or(|bytes| bytes > ANSWER_BYTES_MAX as u64) {
            return Err(self.not_understood(&format!("status {status} without a fitting length"), kind));
        }
        let bytes = response.bytes().await.map_err(|problem| self.unanswered(&problem, kind))?;
        match decode_answer(&bytes) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(refusal)) => Err(self.passed_on(refusal)),
            Err(problem) => Err(self.not_understood(&format!("status {status}: {problem}"), kind)),
        }
    }

    /// What the node refuses to us, not to the client whom we ask for, is no answer to that one.
    fn passed_on(&self, refusal: Refusal) -> Refusal {
        match refusal.kind {
            RefusalKind::Unauthenticated | RefusalKind::Denied => {
                tracing::error!(node = %self.node, %refusal, "the node refuses this process");
                Refusal::unavailable("the node that holds this key does not serve this proxy", 5)
            }
            _ => refusal,
        }
    }

    fn unanswered(&self, problem: &reqwest::Error, kind: Kind) -> Refusal {
        let mut cause: &dyn std::error::Error = problem;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        tracing::warn!(node = %self.node, address = self.inside_uri, %cause, ?kind, "a node gave no answer");
        match kind {
            Kind::Write if !problem.is_connect() => unknown(),
            _ => Refusal {
                unreached: true,
                ..Refusal::unavailable("the node that holds this key cannot be reached; try again in a moment", 1)
            },
        }
    }

    fn not_understood(&self, what: &str, kind: Kind) -> Refusal {
        tracing::error!(node = %self.node, address = self.inside_uri, what, "a node's answer is not understood");
        match kind {
            Kind::Write => unknown(),
            Kind::Read => Refusal::unavailable("the node that holds this key gave an answer of another release", 5),
        }
    }
}

fn unknown() -> Refusal {
    let message =
        "the node gave no answer to the write, which may have happened: ask again under the same Idempotency-Key";
    Refusal::new(RefusalKind::OutcomeUnknown, message)
}

#[async_trait]
impl RangeService for RemoteNode {
    async fn read(
        &self,
        address: RangeAddress,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        let question = Question::Read { key, consistency }.encode(address);
        match self.ask(question, Kind::Read, self.options.read_timeout).await? {
            Answer::Item(item) => Ok(item),
            _ => Err(self.not_understood("no answer to a read", Kind::Read)),
        }
    }

    async fn write(
        &self,
        address: RangeAddress,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        let question = Question::Write { operation, respond_async }.encode(address);
        match self.ask(question, Kind::Write, self.options.write_timeout).await? {
            Answer::Written(answer) => Ok(answer),
            _ => Err(self.not_understood("no answer to a write", Kind::Write)),
        }
    }

    async fn list(&self, address: RangeAddress, request: ListRequest) -> Result<Page, Refusal> {
        let question = Question::List(request).encode(address);
        match self.ask(question, Kind::Read, self.options.write_timeout).await? {
            Answer::Page(page) => Ok(page),
            _ => Err(self.not_understood("no answer to a listing", Kind::Read)),
        }
    }

    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        let question = Question::Receipt(receipt).encode(address);
        match self.ask(question, Kind::Read, self.options.read_timeout).await? {
            Answer::Receipt(state) => Ok(state),
            _ => Err(self.not_understood("no answer to a question for a receipt", Kind::Read)),
        }
    }

    async fn stored(&self, address: RangeAddress, hash: u32, part: StoredPart) -> Result<Stored, Refusal> {
        let question = Question::Stored { hash, part }.encode(address);
        match self.ask(question, Kind::Read, self.options.read_timeout).await? {
            Answer::Stored(stored) => Ok(stored),
            _ => Err(self.not_understood("no answer to the question how much there is", Kind::Read)),
        }
    }
}
