//! Items that have expired are removed at the nodes that lead their ranges ([`crate::services::expiring`]): the task of
//! each node of this process, and what it tells of itself in numbers. Which tables there are whose items expire, the
//! routing table says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::member::{Followed, Ground};
use super::node_parts::RunningNode;
use crate::api::health::{Health, Metrics};
use crate::config::Config;
use crate::domain::Clock;
use crate::services::expiring::{Expiring, NodeRanges, TableSource, tables_of};
use crate::services::group::ports::GroupOperations;
use crate::services::routing::RoutingTable;

/// Starts it for the node of a process that is one.
pub fn at_node(node: &RunningNode, followed: &Followed, ground: &Ground, config: &Config) -> JoinHandle<()> {
    let period = Duration::from_secs(config.node.expiry_period);
    start(node, None, &followed.routing, period, &ground.clock, &ground.health)
}

/// Starts it for all nodes of a process that has several, or is all there is.
pub fn start_all(
    nodes: &[RunningNode],
    routing: &Arc<RoutingTable>,
    period: Duration,
    clock: &Arc<dyn Clock>,
    health: &Health,
) -> Vec<JoinHandle<()>> {
    let is_alone = nodes.len() == 1;
    let numbered = (1..).zip(nodes);
    numbered.map(|(number, node)| start(node, (!is_alone).then_some(number), routing, period, clock, health)).collect()
}

/// Starts it for a node. Where there are several in the process, each number carries which of them it is of. It ends when what
/// is returned is aborted.
fn start(
    node: &RunningNode,
    number: Option<u16>,
    routing: &Arc<RoutingTable>,
    period: Duration,
    clock: &Arc<dyn Clock>,
    health: &Health,
) -> JoinHandle<()> {
    let groups = Arc::clone(&node.groups.groups) as Arc<dyn GroupOperations>;
    let ranges = NodeRanges::new(Arc::clone(&node.engine), groups, Arc::clone(&node.groups.ranges));
    let routing = Arc::clone(routing);
    let tables: TableSource = Arc::new(move || tables_of(&routing.snapshot()));
    let expiring = Expiring::new(Arc::new(ranges), tables, Arc::clone(clock), period);
    let counters = expiring.counters();
    let count = move |metrics: &mut Metrics| {
        let help = "Items that were removed since they had expired.";
        metrics.counter("dstore_node_expired_items_total", help, &[], counters.removed.load(Ordering::Relaxed) as f64);
        let help = "Ranges that were looked through for items that have expired.";
        metrics.counter("dstore_node_expiry_ranges_total", help, &[], counters.ranges.load(Ordering::Relaxed) as f64);
        let help = "Rounds of expiry that did not begin, ranges not looked through to their end, removals refused.";
        let failed = [
            ("round", &counters.failed_rounds),
            ("range", &counters.failed_ranges),
            ("removal", &counters.failed_removals),
        ];
        for (what, count) in failed {
            let count = count.load(Ordering::Relaxed) as f64;
            metrics.counter("dstore_node_expiry_failures_total", help, &[("what", what)], count);
        }
    };
    match number {
        Some(number) => health.count_as("node", number.to_string(), count),
        None => health.count(count),
    }
    tokio::spawn(expiring.follow())
}
