//! Routing: key → hash → range → node. A node that does not hold what it is asked for, or does not lead, says so; a
//! client never sees a wrong answer from an old route, only a slower one. Where a range has several copies, another one is
//! asked when the first cannot answer ([`super::attempts`]). One that was split says which child has the key, and that is
//! asked, at the same node first, before its route is published.
//!
//! Before anything is asked, the tenant's limits are (`tenant_limits`); what the request cost is charged when it is answered.
//!
//! A node that hangs is given up after [`READ_TIME_MAX`] or [`WRITE_TIME_MAX`] where there is another copy to ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::address::{NodeAddress, RangeReplica};
use super::attempts::{Attempts, Next, address_of, is_replicated, unknown, voters};
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReceiptId};
use crate::domain::key::PackedKey;
use crate::domain::limits::PAGE_BYTES_MAX;
use crate::domain::mutation::{Mutation, is_on};
use crate::domain::observed::Stage;
use crate::domain::refusal::RefusalKind;
use crate::domain::table::TableDefinition;
use crate::domain::usage::Cost;
use crate::domain::{Clock, Random, Refusal, Timestamp};
use crate::replication::operation::{Operation, Outcome, RequestIdentity};
use crate::replication::request_id;
use crate::services::observing;
use crate::services::ports::{
    Consistency, Items, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use crate::services::ranges::{RangeAddress, RangeService};
use crate::services::tenant_limits::{Admitted, TenantLimiter};
use crate::storage::store::item_bytes;

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
    /// Every copy, the leader's included; empty where only the leader is known.
    pub replicas: Arc<[RangeReplica]>,
}

/// The routing table, as routing needs it.
pub trait Routes: Send + Sync + 'static {
    /// The range of the table that holds this hash, from memory.
    fn route(&self, table: &TableDefinition, hash: u32) -> Option<RangeRoute>;

    /// Remembers who answered as the leader of the range of this hash, until its own publication arrives.
    fn learn(&self, _table: &TableDefinition, _hash: u32, _leader: &NodeAddress) {}
}

/// Ways to nodes.
pub trait Nodes: Send + Sync + 'static {
    /// The way to the node that leads this range.
    ///
    /// # Errors
    /// `WrongNode` with a location where this process does not pass requests on.
    fn reach(&self, route: &RangeRoute) -> Result<Arc<dyn RangeService>, Refusal>;

    /// The node that this process is, where it answers for its own copies only: it is asked first.
    fn own(&self) -> Option<NodeId> {
        None
    }
}

/// How long a copy is waited for when it is read, where there are others.
const READ_TIME_MAX: Duration = Duration::from_millis(2_500);
/// How long a write may take before it is tried elsewhere, where a repeat is known as one.
const WRITE_TIME_MAX: Duration = Duration::from_secs(4);

/// How many ids of its own a proxy makes for one write; the second is made at the time of the range's log.
const IDS_MAX: u32 = 3;

/// How many ranges are asked at the same time how much they hold.
const RANGES_AT_ONCE: usize = 32;

/// What is asked of a range.
enum Question<'a> {
    Read(&'a PackedKey, Consistency),
    Write(&'a Operation, bool),
    List(&'a ListRequest, usize),
    Receipt(ReceiptId),
    Stored(u32, &'a StoredPart),
}

/// What it answered.
enum Reply {
    Item(Option<StoredItem>),
    Written(WriteAnswer),
    Page(Page),
    Receipt(Option<ReceiptState>),
    Stored(Stored),
}

/// An answer, and what is known of how it came.
struct Answered {
    /// The route by which it was answered.
    route: RangeRoute,
    reply: Reply,
    /// Whether an attempt before may have done something.
    may_have_happened: bool,
}

impl Question<'_> {
    fn consistency(&self) -> Consistency {
        match self {
            Question::Read(_, consistency) => *consistency,
            Question::List(request, _) => request.consistency,
            Question::Write(..) | Question::Receipt(_) | Question::Stored(..) => Consistency::Strong,
        }
    }

    /// Whether asking twice is the same as asking once.
    fn can_repeat(&self) -> bool {
        match self {
            Question::Write(operation, _) => operation.request.is_some() || is_on(Mutation::RepeatUnknown),
            _ => true,
        }
    }

    async fn ask(
        &self,
        node: &dyn RangeService,
        table: &TableDefinition,
        route: &RangeRoute,
    ) -> Result<Reply, Refusal> {
        let address = RangeAddress { table: table.id, range: route.range };
        match self {
            Question::Read(key, consistency) => node.read(address, (*key).clone(), *consistency).await.map(Reply::Item),
            Question::Write(operation, respond_async) => {
                node.write(address, (*operation).clone(), *respond_async).await.map(Reply::Written)
            }
            Question::List(request, limit) => {
                node.list(address, clip(request, route.hashes, *limit)).await.map(Reply::Page)
            }
            Question::Receipt(receipt) => node.receipt(address, *receipt).await.map(Reply::Receipt),
            Question::Stored(hash, part) => node.stored(address, *hash, (*part).clone()).await.map(Reply::Stored),
        }
    }

    /// The same, for no longer than another copy is better asked.
    async fn ask_in_time(
        &self,
        node: &dyn RangeService,
        table: &TableDefinition,
        route: &RangeRoute,
    ) -> Result<Reply, Refusal> {
        let (time_max, kind) = match self {
            Question::Write(..) if !self.can_repeat() => return self.ask(node, table, route).await,
            Question::Write(..) => (WRITE_TIME_MAX, RefusalKind::OutcomeUnknown),
            _ => (READ_TIME_MAX, RefusalKind::Unavailable),
        };
        tokio::time::timeout(time_max, self.ask(node, table, route)).await.unwrap_or_else(|_| {
            let message = "the node that holds this key does not answer in time; try again in a moment";
            Err(Refusal { unreached: true, retry_after_seconds: Some(1), ..Refusal::new(kind, message) })
        })
    }
}

/// See the module's essay.
pub struct RoutedItems {
    routes: Arc<dyn Routes>,
    nodes: Arc<dyn Nodes>,
    /// Eventual reads go to one copy after the other.
    turn: AtomicUsize,
    /// Where ids of its own come from, by which the repeat of a write is known as one.
    ids: Option<(Arc<dyn Clock>, Arc<dyn Random>)>,
    limiter: Option<Arc<TenantLimiter>>,
}

impl RoutedItems {
    /// Items reached by these routes.
    pub fn new(routes: Arc<dyn Routes>, nodes: Arc<dyn Nodes>) -> Self {
        Self { routes, nodes, turn: AtomicUsize::new(0), ids: None, limiter: None }
    }

    /// The same, with ids for writes whose client sent none, so that they can be repeated.
    pub fn with_request_ids(self, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { ids: Some((clock, random)), ..self }
    }

    /// The same, which holds tenants to their limits.
    pub fn with_limits(self, limiter: Arc<TenantLimiter>) -> Self {
        Self { limiter: Some(limiter), ..self }
    }

    fn admit(&self, table: &TableDefinition, may_grow: bool) -> Result<Admitted, Refusal> {
        self.limiter.as_ref().map_or_else(|| Ok(Admitted::free()), |limiter| limiter.admit(table.tenant_id, may_grow))
    }

    /// An id for a write, made now, or at another time where the log of its range has come to that.
    fn request_id(&self, at: Option<Timestamp>) -> Option<RequestIdentity> {
        let (clock, random) = self.ids.as_ref().filter(|_| !is_on(Mutation::RepeatUnknown))?;
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        Some(RequestIdentity::Proxy(request_id::make(at.unwrap_or_else(|| clock.now()), bytes)))
    }

    fn find(&self, table: &TableDefinition, hash: u32) -> Result<RangeRoute, Refusal> {
        self.routes.route(table, hash).ok_or_else(|| {
            Refusal::unavailable(
                format!("no node is known yet for this part of the table {}; try again in a moment", table.name),
                1,
            )
        })
    }

    /// Asks the range of this hash, one copy after the other where that is of use.
    async fn ask(&self, table: &TableDefinition, hash: u32, question: &Question<'_>) -> Result<Answered, Refusal> {
        let mut route = self.find(table, hash)?;
        // The range that was split, and the route to its child, until that is published.
        let mut moved: Option<(RangeId, RangeRoute)> = None;
        let mut attempts = Attempts::new(question.can_repeat());
        if let Some(first) = self.first(&route, question.consistency()) {
            route.leader = first;
        }
        observing::lap(Stage::Prepare);
        loop {
            let answer = match self.nodes.reach(&route) {
                Ok(node) if is_replicated(&route) => question.ask_in_time(&*node, table, &route).await,
                Ok(node) => question.ask(&*node, table, &route).await,
                Err(refusal) => Err(refusal),
            };
            observing::lap(Stage::Node);
            let refusal = match answer {
                Ok(reply) => {
                    if attempts.were_many() && question.consistency() == Consistency::Strong {
                        self.routes.learn(table, hash, &route.leader);
                    }
                    return Ok(Answered { route, reply, may_have_happened: attempts.may_have_happened() });
                }
                Err(refusal) => refusal,
            };
            if let Some(to) = refusal.moved.filter(|to| to.hashes.contains(hash)) {
                let child = RangeRoute { range: to.range, hashes: to.hashes, epoch: 0, ..route.clone() };
                moved = Some((moved.map_or(route.range, |(parent, _)| parent), child));
            }
            let now = self.routes.route(table, hash).map(|now| match &moved {
                Some((parent, child)) if now.range == *parent => child.clone(),
                _ => now,
            });
            match attempts.after(&route, now.as_ref(), refusal) {
                Next::Tell(refusal) => return Err(settled(refusal)),
                Next::Ask(next, pause) => {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    let found = match now {
                        Some(now) => now,
                        None => self.find(table, hash)?,
                    };
                    route = RangeRoute { leader: next, ..found };
                }
            }
        }
    }

    /// Whom to ask first, where that is not the leader.
    fn first(&self, route: &RangeRoute, consistency: Consistency) -> Option<Arc<NodeAddress>> {
        if let Some(own) = self.nodes.own() {
            return address_of(route, own);
        }
        if consistency == Consistency::Strong || !is_replicated(route) {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % voters(route).count();
        voters(route).nth(turn).map(|copy| copy.address.clone())
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
        let admitted = self.admit(table, false)?;
        let Reply::Item(item) = self.ask(table, key.hash(), &Question::Read(&key, consistency)).await?.reply else {
            return Err(another_question());
        };
        admitted.charge(|| cost_of(item.iter().map(|item| (&key, item)), consistency));
        Ok(item)
    }

    async fn write(
        &self,
        table: &Arc<TableDefinition>,
        mut operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        let admitted = self.admit(table, operation.may_grow())?;
        let hash = operation.key.hash();
        let is_replicated = self.routes.route(table, hash).is_some_and(|route| is_replicated(&route));
        let has_own_id = operation.request.is_none() && is_replicated;
        if has_own_id {
            operation.request = self.request_id(None);
        }
        for _ in 0..IDS_MAX {
            let answered = self.ask(table, hash, &Question::Write(&operation, respond_async)).await?;
            match answered.reply {
                Reply::Written(WriteAnswer::Applied(Outcome::RequestIdOutside(latest))) if has_own_id => {
                    if answered.may_have_happened {
                        return Err(unknown());
                    }
                    operation.request = self.request_id(Some(latest));
                }
                Reply::Written(answer) => {
                    admitted.charge(|| answer.cost(operation.sent_bytes()));
                    return Ok(answer);
                }
                _ => return Err(another_question()),
            }
        }
        Err(Refusal::unavailable("the clocks of this cluster jump by minutes; try again in a moment", 1))
    }

    async fn list(&self, table: &Arc<TableDefinition>, request: ListRequest) -> Result<Page, Refusal> {
        let admitted = self.admit(table, false)?;
        let consistency = request.consistency;
        let page = self.page(table, request).await?;
        admitted.charge(|| cost_of(page.items.iter().map(|(key, item)| (key, item)), consistency));
        Ok(page)
    }

    async fn receipt(&self, table: &Arc<TableDefinition>, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        let _least_is_all = self.admit(table, false)?;
        let bytes = receipt.as_bytes();
        let hash = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match self.ask(table, hash, &Question::Receipt(receipt)).await?.reply {
            Reply::Receipt(state) => Ok(state),
            _ => Err(another_question()),
        }
    }

    /// Asked of all ranges that there are now, and of only one where the part has one hash. It is no request of the tenant's for
    /// items, and its limits say nothing.
    async fn stored(&self, table: &Arc<TableDefinition>, part: StoredPart) -> Result<Stored, Refusal> {
        let whole = match &part {
            StoredPart::Table | StoredPart::Index(_) => HashRange::FULL,
            StoredPart::Collection(prefix) => HashRange { low: prefix.hash(), high: prefix.hash() },
        };
        let (mut pieces, mut next) = (Vec::new(), Some(whole.low));
        while let Some(low) = next {
            let high = self.find(table, low)?.hashes.high.clamp(low, whole.high);
            pieces.push(HashRange { low, high });
            next = high.checked_add(1).filter(|next| *next <= whole.high);
        }
        let mut sum = Stored::default();
        for some in pieces.chunks(RANGES_AT_ONCE) {
            let asked: Vec<_> = some.iter().map(|hashes| self.stored_within(table, *hashes, &part)).collect();
            for stored in join_all(asked).await {
                sum = sum.plus(stored?);
            }
        }
        Ok(sum)
    }
}

impl RoutedItems {
    /// How much of this part there is with these hashes, which were within one range when that was looked up, and may be in more
    /// by now.
    async fn stored_within(
        &self,
        table: &TableDefinition,
        hashes: HashRange,
        part: &StoredPart,
    ) -> Result<Stored, Refusal> {
        let (mut sum, mut hash) = (Stored::default(), hashes.low);
        loop {
            let answered = self.ask(table, hash, &Question::Stored(hash, part)).await?;
            let Reply::Stored(stored) = answered.reply else { return Err(another_question()) };
            sum = sum.plus(stored);
            match answered.route.hashes.high.max(hash).checked_add(1).filter(|next| *next <= hashes.high) {
                Some(next) => hash = next,
                None => return Ok(sum),
            }
        }
    }

    /// A page, from as many ranges as it takes.
    async fn page(&self, table: &TableDefinition, request: ListRequest) -> Result<Page, Refusal> {
        let mut page = Page::default();
        let (mut bytes, mut sizes) = (0, 0);
        let bytes_max = request.bytes_max;
        let mut rest = request;
        let limit = rest.limit;
        let mut is_first = true;
        loop {
            let hash = rest.first_hash();
            let (route, part) = match self.ask(table, hash, &Question::List(&rest, limit - page.items.len())).await {
                Err(refusal) if !is_first && is_elsewhere(&refusal) => {
                    page.last = Some(bound(&rest));
                    return Ok(page);
                }
                Ok(Answered { route, reply: Reply::Page(part), .. }) => (route, part),
                Ok(_) => return Err(another_question()),
                Err(refusal) => return Err(refusal),
            };
            is_first = false;
            bytes += part.items.iter().map(|(key, item)| key.len() + item.document.as_bytes().len()).sum::<usize>();
            sizes += part.items.iter().map(|(key, item)| item_bytes(key, &item.document) as u64).sum::<u64>();
            page.items.extend(part.items);
            if part.last.is_some() {
                page.last = part.last;
                return Ok(page);
            }
            let Some(next) = beyond(&rest, route.hashes) else { return Ok(page) };
            let is_full = !page.items.is_empty() && bytes_max.is_some_and(|max| sizes >= u64::from(max));
            if page.items.len() >= limit || bytes >= PAGE_BYTES_MAX || is_full {
                // The range is exhausted and the page is full: the next page starts in the next range. What keys say of a
                // place in the table, they do not say of one in an index.
                page.last = match next.index {
                    None => page.items.last().map(|(key, _)| key.clone()),
                    Some(_) => Some(bound(&next)),
                };
                return Ok(page);
            }
            let left = bytes_max.map(|max| u64::from(max).saturating_sub(sizes) as u32);
            rest = ListRequest { bytes_max: left, ..next };
        }
    }
}

/// What reading these items cost.
fn cost_of<'a>(items: impl Iterator<Item = (&'a PackedKey, &'a StoredItem)>, consistency: Consistency) -> Cost {
    let bytes = items.map(|(key, item)| key.len() + item.document.item_size()).sum::<usize>();
    Cost::read(bytes as u64, consistency == Consistency::Strong)
}

fn another_question() -> Refusal {
    Refusal::internal("a node answered another question than it was asked")
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

/// The part of the request that lies in these hashes. Entries of an index begin with a hash as keys do, and are cut alike.
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
