//! Limits of tenants in a process that clients ask: the book that it follows, the limiter that stands before its items, and
//! what its nodes have to do with it.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::node_parts::RunningNode;
use crate::api::health::Health;
use crate::coordination::{Coordinator, Writer};
use crate::domain::Clock;
use crate::services::engine::notices::Notices;
use crate::services::group::ports::GroupOperations;
use crate::services::routing::RoutingTable;
use crate::services::tenant_limits::{Door, LimitBook, StoredBytesTeller, TenantLimiter};

/// See the module's text. Dropping it ends what it has started.
pub struct Limiting {
    /// Stands before items.
    pub limiter: Arc<TenantLimiter>,
    book: Arc<LimitBook>,
    tasks: Vec<JoinHandle<()>>,
}

impl Limiting {
    /// Follows the limits, and tells in `health` how often they were held.
    pub fn start(
        door: Door,
        routing: &Arc<RoutingTable>,
        coordinator: Arc<dyn Coordinator>,
        clock: Arc<dyn Clock>,
        notices: Arc<Notices>,
        health: &Health,
    ) -> Self {
        let book = Arc::new(LimitBook::default());
        let follow = Arc::clone(&book).follow(Arc::clone(routing), coordinator);
        let limiter = Arc::new(TenantLimiter::new(Arc::clone(&book), door, clock, notices));
        let (requests, storage) = (Arc::clone(&limiter), Arc::clone(&book));
        health.count(move |metrics| {
            let help = "Requests that were refused because their tenant is over its limit of this kind.";
            let mut count =
                |kind, refused: u64| metrics.counter("dstore_throttled_total", help, &[("kind", kind)], refused as f64);
            count("requests", requests.refused());
            count("storage", storage.refused());
        });
        Self { limiter, book, tasks: vec![tokio::spawn(follow)] }
    }

    /// The same for a process that is all there is, with its nodes, each of which writes through a handle of its own. The
    /// first of them says to people what there is to say of requests.
    pub fn alone(
        routing: &Arc<RoutingTable>,
        nodes: &[RunningNode],
        handle: impl Fn(Writer) -> Arc<dyn Coordinator>,
        clock: &Arc<dyn Clock>,
        health: &Health,
    ) -> Self {
        let notices = nodes.first().map(|node| Arc::clone(&node.notices)).unwrap_or_default();
        let mut limiting =
            Self::start(Door::Alone, routing, handle(Writer::Control), Arc::clone(clock), notices, health);
        nodes.iter().for_each(|node| limiting.at_node(node, handle(Writer::Node(node.node))));
        limiting
    }

    /// Has a node of this process refuse writes of tenants that may store no more, whoever asks it, and say what it stores.
    pub fn at_node(&mut self, node: &RunningNode, coordinator: Arc<dyn Coordinator>) {
        let book = Arc::clone(&self.book);
        node.engine.ask_before_writes(Arc::new(move |tenant| book.admit_write(tenant)));
        let teller = StoredBytesTeller::new(
            node.node,
            Arc::clone(&node.engine),
            Arc::clone(&node.groups.groups) as Arc<dyn GroupOperations>,
            Arc::clone(&self.book),
            Arc::clone(&node.notices),
            coordinator,
            node.lease(),
        );
        self.tasks.push(tokio::spawn(teller.follow()));
    }
}

impl Drop for Limiting {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
