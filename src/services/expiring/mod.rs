//! Items that have expired are removed. Readers do not see them from the second they expire
//! ([`crate::services::items::LivingItems`]); this gives back their room.
//!
//! Each node looks through the ranges that it leads of tables that have a time to live, one after the other and no faster
//! than [`BYTES_PER_SECOND_MAX`], and deletes what has expired: by writes like any other, so that every copy does the
//! same, and each on the condition that the item is still in the version that was seen. An item that was written
//! in between lives on.
//!
//! There is one task for a node and nothing for a range. A range in which nothing was written since it was looked through,
//! and nothing has come to expire, is passed over; tables without a time to live are not looked at. A range
//! that sleeps is read without waking it, and woken where there is something to delete.
//!
//! What fails is tried again in the next round. It is counted, and told in the log where it is more than a leader that
//! has just gone: else a node that never removes anything looks like one that has nothing to remove.
//!
//! Rejected: an index of items by when they expire. Every write would pay for it, and what it saves is a slow reading of
//! files in the background, which scrubbing does anyway.

mod node_ranges;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::domain::hash::HashRange;
use crate::domain::ids::{RangeId, TableId};
use crate::domain::key::PackedKey;
use crate::domain::table::TableDefinition;
use crate::domain::table_options::is_past;
use crate::domain::version::ItemVersion;
use crate::domain::{Clock, Refusal, RefusalKind, Timestamp};
use crate::services::ports::{Consistency, ListRequest, Page};
use crate::services::ranges::RangeAddress;
use crate::services::routing::RoutingSnapshot;

pub use node_ranges::NodeRanges;

/// Bytes that are looked through a second, at most.
const BYTES_PER_SECOND_MAX: u64 = 4 << 20;
/// Items in one look.
const PAGE_ITEMS: usize = 500;
/// Deletes under way at once.
const DELETES_MAX: usize = 32;
/// After a start, before the first round, at most: until then leaders have settled.
const FIRST_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Tables whose items expire.
pub type ExpiringTables = HashMap<TableId, Arc<TableDefinition>>;

/// Tells which tables there are whose items expire.
pub type TableSource = Arc<dyn Fn() -> ExpiringTables + Send + Sync>;

/// The tables of this plan whose items expire.
pub fn tables_of(plan: &RoutingSnapshot) -> ExpiringTables {
    let tables = plan.tenants().flat_map(|tenant| plan.tables(&tenant.name));
    let expiring = tables.filter(|table| table.specification.time_to_live.is_some());
    expiring.map(|table| (table.id, Arc::clone(table))).collect()
}

/// A range that is led from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedRange {
    /// The range.
    pub address: RangeAddress,
    /// Its hashes.
    pub hashes: HashRange,
    /// Its last entry that was applied here.
    pub applied_index: u64,
}

/// The ranges that this node leads.
#[async_trait]
pub trait LedRanges: Send + Sync + 'static {
    /// Those of these tables.
    ///
    /// # Errors
    /// Where they cannot be told now.
    async fn led(&self, tables: &ExpiringTables) -> Result<Vec<LedRange>, Refusal>;

    /// A page of one, as it was applied here.
    async fn page(&self, range: RangeAddress, request: ListRequest) -> Result<Page, Refusal>;

    /// Deletes an item, if it is still in this version. Whether it was.
    async fn remove(&self, range: RangeAddress, key: PackedKey, version: ItemVersion) -> Result<bool, Refusal>;
}

/// What was done since the node started.
#[derive(Debug, Default)]
pub struct ExpiryCounters {
    /// Items that were removed.
    pub removed: AtomicU64,
    /// Ranges that were looked through to their end.
    pub ranges: AtomicU64,
    /// Rounds that could not begin.
    pub failed_rounds: AtomicU64,
    /// Times that a range was not looked through to its end.
    pub failed_ranges: AtomicU64,
    /// Removals that were refused or had no known outcome.
    pub failed_removals: AtomicU64,
}

/// What is known of a range since it was looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    attribute: String,
    applied_index: u64,
    /// When the next of its items expires, in seconds since 1970.
    next: Option<i64>,
}

impl Seen {
    /// Whether nothing can have expired in it.
    fn holds(&self, range: &LedRange, attribute: &str, now: Timestamp) -> bool {
        self.attribute == attribute
            && self.applied_index == range.applied_index
            && self.next.is_none_or(|at| !is_past(at, now))
    }
}

/// See the module's essay.
pub struct Expiring {
    ranges: Arc<dyn LedRanges>,
    tables: TableSource,
    clock: Arc<dyn Clock>,
    period: Duration,
    counters: Arc<ExpiryCounters>,
    seen: HashMap<RangeId, Seen>,
}

impl Expiring {
    /// Looks through these ranges, of these tables, once in a period.
    pub fn new(ranges: Arc<dyn LedRanges>, tables: TableSource, clock: Arc<dyn Clock>, period: Duration) -> Self {
        Self { ranges, tables, clock, period, counters: Arc::default(), seen: HashMap::new() }
    }

    /// What it does, counted.
    pub fn counters(&self) -> Arc<ExpiryCounters> {
        Arc::clone(&self.counters)
    }

    /// Goes round for as long as the node runs.
    pub async fn follow(mut self) {
        tokio::time::sleep(self.period.min(FIRST_PAUSE_MAX)).await;
        loop {
            self.round().await;
            tokio::time::sleep(self.period).await;
        }
    }

    /// Looks through all ranges once.
    async fn round(&mut self) {
        let tables = (self.tables)();
        let mut before = std::mem::take(&mut self.seen);
        if tables.is_empty() {
            return;
        }
        let led = match self.ranges.led(&tables).await {
            Ok(led) => led,
            Err(refusal) => {
                tracing::warn!(%refusal, "the ranges led here are not known; expired items stay until the next round");
                self.counters.failed_rounds.fetch_add(1, Ordering::Relaxed);
                // What is known of ranges is as good in the next round.
                self.seen = before;
                return;
            }
        };
        for range in led {
            let Some(table) = tables.get(&range.address.table) else { continue };
            let Some(attribute) = table.specification.time_to_live.as_deref() else { continue };
            let known = before.remove(&range.address.range);
            let known = known.filter(|seen| seen.holds(&range, attribute, self.clock.now()));
            let seen = match known {
                Some(seen) => Ok(seen),
                None => self.look_through(&range, table, attribute).await,
            };
            match seen {
                Ok(seen) => drop(self.seen.insert(range.address.range, seen)),
                Err(refusal) => {
                    self.counters.failed_ranges.fetch_add(1, Ordering::Relaxed);
                    told(&range, &refusal);
                }
            }
        }
    }

    /// Reads a range to its end and removes what has expired. What is known of it then: its index is that from before, so
    /// that a range in which anything happened meanwhile is looked through once more.
    async fn look_through(&self, range: &LedRange, table: &TableDefinition, attribute: &str) -> Result<Seen, Refusal> {
        let (start, end) = PackedKey::hash_interval(&range.hashes);
        let mut request = ListRequest {
            index: None,
            start,
            end,
            limit: PAGE_ITEMS,
            descending: false,
            consistency: Consistency::Eventual,
            bytes_max: None,
        };
        let mut next: Option<i64> = None;
        loop {
            let page = self.ranges.page(range.address, request.clone()).await?;
            let now = self.clock.now();
            let bytes: usize = page.items.iter().map(|(key, item)| key.len() + item.document.as_bytes().len()).sum();
            let mut expired = Vec::new();
            for (key, item) in page.items {
                match table.specification.expires_at(&key, &item.document) {
                    Some(at) if is_past(at, now) => expired.push((key, item.version)),
                    // Those of long ago never expire.
                    Some(at) if i64::try_from(now.0 / 1_000_000).is_ok_and(|now| at >= now) => {
                        next = Some(next.map_or(at, |next| next.min(at)));
                    }
                    Some(_) | None => {}
                }
            }
            if !expired.is_empty() && !self.is_still(range.address, attribute) {
                return Err(Refusal::unavailable("the table's time to live was changed meanwhile", 1));
            }
            self.remove(range.address, expired).await?;
            tokio::time::sleep(rest(bytes as u64)).await;
            let Some(last) = page.last else { break };
            request.start = last.successor();
        }
        self.counters.ranges.fetch_add(1, Ordering::Relaxed);
        Ok(Seen { attribute: attribute.to_owned(), applied_index: range.applied_index, next })
    }

    /// Whether this is still the attribute of the range's table: a round takes long, and what an owner has put right must not go on.
    fn is_still(&self, range: RangeAddress, attribute: &str) -> bool {
        let tables = (self.tables)();
        let now = tables.get(&range.table).and_then(|table| table.specification.time_to_live.as_deref());
        now == Some(attribute)
    }

    async fn remove(&self, range: RangeAddress, expired: Vec<(PackedKey, ItemVersion)>) -> Result<(), Refusal> {
        for some in expired.chunks(DELETES_MAX) {
            let deletes = some.iter().map(|(key, version)| self.ranges.remove(range, key.clone(), *version));
            let mut refused = None;
            for removed in join_all(deletes).await {
                match removed {
                    Ok(removed) => {
                        self.counters.removed.fetch_add(u64::from(removed), Ordering::Relaxed);
                    }
                    Err(refusal) => {
                        self.counters.failed_removals.fetch_add(1, Ordering::Relaxed);
                        refused = Some(refusal);
                    }
                }
            }
            if let Some(refusal) = refused {
                return Err(refusal);
            }
        }
        Ok(())
    }
}

/// Says that a range was not looked through. That its leader has just gone, or is busy, is nothing to look at.
fn told(range: &LedRange, refusal: &Refusal) {
    let (range, later) = (range.address.range, "expired items are removed in the next round");
    match refusal.kind {
        RefusalKind::Unavailable | RefusalKind::WrongNode | RefusalKind::Throttled | RefusalKind::OutcomeUnknown => {
            tracing::debug!(%range, %refusal, "{later}");
        }
        _ => tracing::warn!(%range, %refusal, "{later}"),
    }
}

/// How long to pause after so many bytes.
fn rest(bytes: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND_MAX)
}
