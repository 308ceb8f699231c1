//! Routing: key → hash → range → node. A node that does not hold what it is asked for says so, and
//! the route is looked up once more before anyone is told; a client never sees a wrong answer from
//! an old route, only a slower one.

use std::sync::Arc;

use async_trait::async_trait;

use super::address::NodeAddress;
use crate::domain::Refusal;
use crate::domain::hash::HashRange;
use crate::domain::ids::{RangeId, ReceiptId};
use crate::domain::key::PackedKey;
use crate::domain::limits::PAGE_BYTES_MAX;
use crate::domain::refusal::RefusalKind;
use crate::domain::table::TableDefinition;
use crate::replication::operation::Operation;
use crate::services::ports::{Consistency, Items, ListRequest, Page, ReceiptState, StoredItem, WriteAnswer};
use crate::services::ranges::{RangeAddress, RangeService};

/// Where a range is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRoute {
    /// The range.
    pub range: RangeId,
    /// The hashes it holds.
    pub hashes: HashRange,
    /// The node that leads it, and where that is reached.
    pub leader: Arc<NodeAddress>,
    /// The epoch of the route.
    pub epoch: u64,
}

/// The routing table, as routing needs it.
pub trait Routes: Send + Sync + 'static {
    /// The range of the table that holds this hash, from memory.
    fn route(&self, table: &TableDefinition, hash: u32) -> Option<RangeRoute>;
}

/// Ways to nodes.
pub trait Nodes: Send + Sync + 'static {
    /// The way to the node that leads this range.
    ///
    /// # Errors
    /// `WrongNode` with a location where this process does not pass requests on.
    fn reach(&self, route: &RangeRoute) -> Result<Arc<dyn RangeService>, Refusal>;
}

/// See the module's essay.
pub struct RoutedItems {
    routes: Arc<dyn Routes>,
    nodes: Arc<dyn Nodes>,
}

impl RoutedItems {
    /// Items reached by these routes.
    pub fn new(routes: Arc<dyn Routes>, nodes: Arc<dyn Nodes>) -> Self {
        Self { routes, nodes }
    }

    fn find(
        &self,
        table: &TableDefinition,
        hash: u32,
    ) -> Result<(RangeRoute, RangeAddress, Arc<dyn RangeService>), Refusal> {
        let route = self.routes.route(table, hash).ok_or_else(|| {
            Refusal::unavailable(
                format!("no node is known yet for this part of the table {}; try again in a moment", table.name),
                1,
            )
        })?;
        let address = RangeAddress { table: table.id, range: route.range };
        let node = self.nodes.reach(&route)?;
        Ok((route, address, node))
    }

    /// The part of the request that lies in the range it begins in, and that range.
    async fn list_in_one(
        &self,
        table: &TableDefinition,
        rest: &ListRequest,
        limit: usize,
    ) -> Result<(RangeRoute, Page), Refusal> {
        let hash = if rest.descending { last_hash(rest.end.as_ref()) } else { rest.start.hash() };
        let (used, address, node) = self.find(table, hash)?;
        match node.list(address, clip(rest, used.hashes, limit)).await {
            Err(refusal) if self.has_moved(table, hash, &used, &refusal) => {
                let (route, address, node) = self.find(table, hash)?;
                let page = node.list(address, clip(rest, route.hashes, limit)).await.map_err(settled)?;
                Ok((route, page))
            }
            other => Ok((used, other.map_err(settled)?)),
        }
    }

    /// Whether the route has changed since it was used, so that asking again makes sense.
    fn has_moved(&self, table: &TableDefinition, hash: u32, used: &RangeRoute, refusal: &Refusal) -> bool {
        refusal.kind == RefusalKind::WrongNode
            && refusal.location.is_none()
            && self.routes.route(table, hash).is_some_and(|route| route != *used)
    }
}

/// A node that says "not here" and a routing table that says "there": placement is under way.
fn settled(refusal: Refusal) -> Refusal {
    if refusal.kind == RefusalKind::WrongNode && refusal.location.is_none() {
        return Refusal::unavailable("this part of the table is being moved; try again in a moment", 1);
    }
    refusal
}

#[async_trait]
impl Items for RoutedItems {
    async fn read(
        &self,
        table: &Arc<TableDefinition>,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        let hash = key.hash();
        let (used, address, node) = self.find(table, hash)?;
        match node.read(address, key.clone(), consistency).await {
            Err(refusal) if self.has_moved(table, hash, &used, &refusal) => {
                let (_, address, node) = self.find(table, hash)?;
                node.read(address, key, consistency).await.map_err(settled)
            }
            other => other.map_err(settled),
        }
    }

    async fn write(
        &self,
        table: &Arc<TableDefinition>,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        let hash = operation.key.hash();
        let (used, address, node) = self.find(table, hash)?;
        match node.write(address, operation.clone(), respond_async).await {
            // A node that says "not here" has written nothing: asking another one cannot write twice.
            Err(refusal) if self.has_moved(table, hash, &used, &refusal) => {
                let (_, address, node) = self.find(table, hash)?;
                node.write(address, operation, respond_async).await.map_err(settled)
            }
            other => other.map_err(settled),
        }
    }

    async fn list(&self, table: &Arc<TableDefinition>, request: ListRequest) -> Result<Page, Refusal> {
        let mut page = Page::default();
        let mut bytes = 0;
        let mut rest = request;
        let limit = rest.limit;
        let mut is_first = true;
        loop {
            let (route, part) = match self.list_in_one(table, &rest, limit - page.items.len()).await {
                Err(refusal) if !is_first && is_elsewhere(&refusal) => {
                    page.last = Some(bound(&rest));
                    return Ok(page);
                }
                other => other?,
            };
            is_first = false;
            bytes += part.items.iter().map(|(key, item)| key.len() + item.document.as_bytes().len()).sum::<usize>();
            page.items.extend(part.items);
            if part.last.is_some() {
                page.last = part.last;
                return Ok(page);
            }
            let Some(next) = beyond(&rest, route.hashes) else { return Ok(page) };
            if page.items.len() >= limit || bytes >= PAGE_BYTES_MAX {
                // The range is exhausted and the page is full: the next page starts in the next range.
                page.last = page.items.last().map(|(key, _)| key.clone());
                return Ok(page);
            }
            rest = next;
        }
    }

    async fn receipt(&self, table: &Arc<TableDefinition>, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        let bytes = receipt.as_bytes();
        let hash = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (_, address, node) = self.find(table, hash)?;
        node.receipt(address, receipt).await.map_err(settled)
    }
}

/// Whether the refusal says who else to ask.
fn is_elsewhere(refusal: &Refusal) -> bool {
    refusal.kind == RefusalKind::WrongNode && refusal.location.is_some()
}

/// The bound up to which everything was looked at, where `rest` begins at that of a range. The next page begins in
/// the range behind it, and not once more in the one before: a client that is sent from node to node by cursors
/// would be sent back.
fn bound(rest: &ListRequest) -> PackedKey {
    match (&rest.end, rest.descending) {
        (Some(end), true) => end.clone(),
        _ => rest.start.clone(),
    }
}

/// The hash in which a descending listing begins.
fn last_hash(end: Option<&PackedKey>) -> u32 {
    match end {
        None => u32::MAX,
        // An end that is nothing but a hash excludes all of that hash.
        Some(end) if end.len() <= 4 => end.hash().saturating_sub(1),
        Some(end) => end.hash(),
    }
}

/// The part of the request that lies in these hashes.
fn clip(request: &ListRequest, hashes: HashRange, limit: usize) -> ListRequest {
    let floor = PackedKey::hash_floor(hashes.low);
    let ceiling = hashes.high.checked_add(1).map(PackedKey::hash_floor);
    let end = match (request.end.clone(), ceiling) {
        (Some(end), Some(ceiling)) => Some(end.min(ceiling)),
        (end, ceiling) => end.or(ceiling),
    };
    ListRequest { start: request.start.clone().max(floor), end, limit, ..request.clone() }
}

/// What is left of the request beyond these hashes; none where nothing is.
fn beyond(request: &ListRequest, hashes: HashRange) -> Option<ListRequest> {
    if request.descending {
        let floor = PackedKey::hash_floor(hashes.low);
        (hashes.low > 0 && floor > request.start).then(|| ListRequest { end: Some(floor), ..request.clone() })
    } else {
        let ceiling = PackedKey::hash_floor(hashes.high.checked_add(1)?);
        request.end.as_ref().is_none_or(|end| ceiling < *end).then(|| ListRequest { start: ceiling, ..request.clone() })
    }
}
