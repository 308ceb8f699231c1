//! A node says how many bytes it stores of tenants that have a limit of it, under `stored/{own}`; see the module above.
//!
//! It counts the ranges that it leads. The key hangs on the lease of its sign of life, so what a node stored that is gone counts no
//! more when others have come to lead it: a range counts at a new leader only from its third look on, ten seconds after
//! it was first seen to lead, when the old one's key has been renewed or has gone. A process that has just started counts all that
//! it leads at once.
//!
//! What has changed is told when it is a hundredth of what is between the tenant and its limit: often near it, seldom far
//! from it. Where no tenant has a limit, nothing is counted, kept or told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::book::{LimitBook, LimitedTenant};
use crate::coordination::values::{StoredBytes, to_json};
use crate::coordination::{Coordinator, Error, LeaseId, layout};
use crate::domain::byte_size;
use crate::domain::ids::{NodeId, RangeId, TenantId};
use crate::domain::tenant_limits::LimitMode;
use crate::services::engine::Engine;
use crate::services::engine::notices::Notices;
use crate::services::group::ports::GroupOperations;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// From which look on a range counts that another node may have led before.
const LOOKS_MIN: u32 = 3;

/// A range that is led here: its tenant, and bytes of its items.
type Led = (RangeId, TenantId, u64);

/// See the module's essay.
pub struct StoredBytesTeller {
    node: NodeId,
    engine: Arc<Engine>,
    groups: Arc<dyn GroupOperations>,
    book: Arc<LimitBook>,
    notices: Arc<Notices>,
    coordinator: Arc<dyn Coordinator>,
    lease: Arc<Mutex<Option<LeaseId>>>,
    looks: Looks,
    told: Option<(LeaseId, BTreeMap<TenantId, u64>)>,
    crossings: Crossings,
}

impl StoredBytesTeller {
    /// Tells for this node, as long as `lease` runs.
    pub fn new(
        node: NodeId,
        engine: Arc<Engine>,
        groups: Arc<dyn GroupOperations>,
        book: Arc<LimitBook>,
        notices: Arc<Notices>,
        coordinator: Arc<dyn Coordinator>,
        lease: Arc<Mutex<Option<LeaseId>>>,
    ) -> Self {
        let (looks, crossings) = (Looks::default(), Crossings::default());
        Self { node, engine, groups, book, notices, coordinator, lease, looks, told: None, crossings }
    }

    /// Looks now and then, for as long as the node runs.
    pub async fn follow(mut self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "what is stored of limited tenants could not be told; the next look tells it");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let mut tenants = (*self.book.all()).clone();
        tenants.retain(|_, limited| limited.limits.storage_bytes.is_some());
        self.crossings.look(self.node, &tenants, &self.notices);
        if tenants.is_empty() {
            self.looks = Looks::default();
            if self.told.is_some() {
                self.coordinator.delete(&layout::stored(self.node)).await?;
                self.told = None;
            }
            return Ok(());
        }
        let led = self.led(&tenants).await;
        let stored = self.looks.settled(led);
        let lease = *self.lease.lock();
        let Some(lease) = lease else { return Ok(()) };
        if self.told.as_ref().is_some_and(|(under, told)| *under == lease && !is_news(told, &stored, &tenants)) {
            return Ok(());
        }
        let value = to_json(&StoredBytes { tenants: stored.clone() });
        self.coordinator.put(&layout::stored(self.node), value, Some(lease)).await?;
        self.told = Some((lease, stored));
        Ok(())
    }

    /// The ranges of these tenants that are led here. One that cannot be read counts when it can be.
    async fn led(&self, tenants: &HashMap<TenantId, Arc<LimitedTenant>>) -> Vec<Led> {
        let mut replicas = self.engine.replicas();
        replicas.retain(|replica| tenants.contains_key(&replica.name.tenant));
        let groups = Arc::clone(&self.groups);
        let count = move || {
            let leads = |range| groups.status(range).is_some_and(|status| status.is_leader);
            let led = replicas.iter().filter(|replica| !replica.is_grouped() || leads(replica.name.range));
            let count =
                led.filter_map(|replica| Some((replica.name.range, replica.name.tenant, replica.stored().ok()?.bytes)));
            count.collect()
        };
        self.engine.workers().run(count).await.unwrap_or_default()
    }
}

/// For how many looks each range has been led here. Leadership that goes and comes back between two looks is not
/// seen to have gone; such a range may count twice until the next look.
#[derive(Debug, Default)]
pub(super) struct Looks(Option<HashMap<RangeId, u32>>);

impl Looks {
    /// Bytes by tenant, of the ranges that are led here for long enough.
    pub(super) fn settled(&mut self, led: Vec<Led>) -> BTreeMap<TenantId, u64> {
        let before = self.0.take();
        let mut looks = HashMap::with_capacity(led.len());
        let mut stored: BTreeMap<TenantId, u64> = BTreeMap::new();
        for (range, tenant, bytes) in led {
            let seen = before.as_ref().map_or(LOOKS_MIN, |before| before.get(&range).map_or(1, |seen| seen + 1));
            looks.insert(range, seen.min(LOOKS_MIN));
            if seen >= LOOKS_MIN {
                let sum = stored.entry(tenant).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
        self.0 = Some(looks);
        stored
    }
}

/// Whether any tenant's bytes have changed by a hundredth of what is between it and its limit.
pub(super) fn is_news(
    told: &BTreeMap<TenantId, u64>,
    stored: &BTreeMap<TenantId, u64>,
    tenants: &HashMap<TenantId, Arc<LimitedTenant>>,
) -> bool {
    let either: BTreeSet<&TenantId> = told.keys().chain(stored.keys()).collect();
    either.into_iter().any(|tenant| {
        let (before, now) = (told.get(tenant).copied(), stored.get(tenant).copied());
        let room =
            tenants.get(tenant).and_then(|limited| Some(limited.limits.storage_bytes?.abs_diff(limited.stored_bytes)));
        before.is_none() != now.is_none() || before.unwrap_or(0).abs_diff(now.unwrap_or(0)) > room.unwrap_or(0) / 100
    })
}

/// Tenants that were said to store too much, until they have stored a twentieth less than they may.
#[derive(Debug, Default)]
pub(super) struct Crossings(BTreeSet<TenantId>);

impl Crossings {
    /// Writes a notice for each tenant that has come to its limit, where this node is the one that says so.
    pub(super) fn look(&mut self, own: NodeId, tenants: &HashMap<TenantId, Arc<LimitedTenant>>, notices: &Notices) {
        self.0.retain(|tenant| {
            let limited = tenants.get(tenant);
            limited.is_some_and(|limited| {
                let limit = limited.limits.storage_bytes.unwrap_or(u64::MAX);
                limited.stored_bytes > limit - limit / 20
            })
        });
        for (id, limited) in tenants.iter().filter(|(_, limited)| limited.teller == Some(own)) {
            let Some(limit) = limited.is_full() else { continue };
            if self.0.insert(*id) {
                notices.write(full(limited, limit));
            }
        }
    }
}

/// The same words each time, so that it stays one notice.
fn full(limited: &LimitedTenant, limit: u64) -> String {
    let (name, what) = (
        &limited.name,
        match limited.limits.mode {
            LimitMode::Soft => "the limit is soft, so nothing is refused",
            LimitMode::Hard => "writes are answered 507, but for deletes",
        },
    );
    format!(
        "the tenant {name} stores as much as it may, {}: {what}. Raise the limit with `dstore control tenant set {name} --storage-limit SIZE`",
        byte_size::show(limit)
    )
}
