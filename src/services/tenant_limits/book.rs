//! Tenants that have limits, as their records say and nodes tell; see the module above.
//!
//! The book is made anew when something has changed, at most ten times a second, and never changed: a request takes no lock.
//! Nodes that tell nothing store nothing: an empty listing is believed here, since then the limits are only not held.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::coordination::values::{StoredBytes, from_json};
use crate::coordination::{Coordinator, EventKind, KeyValue, Reflected, Reflector, ReflectorOptions, layout};
use crate::domain::ids::{NodeId, TenantId};
use crate::domain::tenant_limits::{LimitMode, TenantLimits};
use crate::domain::{Refusal, RefusalKind, TenantName, byte_size};
use crate::services::routing::{RoutingSnapshot, RoutingTable};

/// The least time between two books.
const PAUSE: Duration = Duration::from_millis(100);

/// A tenant that has limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitedTenant {
    /// Its name.
    pub name: TenantName,
    /// What it may use.
    pub limits: TenantLimits,
    /// Bytes that it stores, as nodes last told.
    pub stored_bytes: u64,
    /// The node that says so where it stores too much: the first of those that store something of it.
    pub teller: Option<NodeId>,
}

impl LimitedTenant {
    /// The limit of bytes, where it is reached.
    pub fn is_full(&self) -> Option<u64> {
        self.limits.storage_bytes.filter(|limit| self.stored_bytes >= *limit)
    }
}

type Tenants = HashMap<TenantId, Arc<LimitedTenant>>;

/// See the module's essay.
#[derive(Default)]
pub struct LimitBook {
    tenants: ArcSwap<Tenants>,
    refused: AtomicU64,
}

impl LimitBook {
    /// A tenant's limits; none where it has none.
    pub fn get(&self, tenant: TenantId) -> Option<Arc<LimitedTenant>> {
        self.tenants.load().get(&tenant).cloned()
    }

    /// All tenants that have limits.
    pub fn all(&self) -> Arc<Tenants> {
        self.tenants.load_full()
    }

    /// Whether a tenant may write what may take room.
    ///
    /// # Errors
    /// `StorageFull` where its limit is reached and hard.
    pub fn admit_write(&self, tenant: TenantId) -> Result<(), Refusal> {
        let tenants = self.tenants.load();
        let Some(limited) = tenants.get(&tenant).filter(|limited| limited.limits.mode == LimitMode::Hard) else {
            return Ok(());
        };
        let Some(limit) = limited.is_full() else { return Ok(()) };
        self.refused.fetch_add(1, Ordering::Relaxed);
        let name = &limited.name;
        Err(Refusal::new(
            RefusalKind::StorageFull,
            format!(
                "the tenant {name} stores {} and may store {}: delete items, or have the operator raise the limit with `dstore control tenant set {name} --storage-limit SIZE`. Reads and deletes go on",
                byte_size::show(limited.stored_bytes),
                byte_size::show(limit)
            ),
        ))
    }

    /// Writes refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Follows tenants and what nodes tell, for as long as the routing table does.
    pub async fn follow(self: Arc<Self>, routing: Arc<RoutingTable>, coordinator: Arc<dyn Coordinator>) {
        let mut reflector = Reflector::start(coordinator, layout::STORED, ReflectorOptions::default());
        let mut plan = routing.subscribe();
        let mut told = Told::default();
        loop {
            self.renew(&routing.snapshot(), &told);
            tokio::select! {
                news = reflector.next() => match news {
                    Some(news) => told.take(news),
                    None => return,
                },
                changed = plan.changed() => if changed.is_err() { return },
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes the book anew.
    pub(super) fn renew(&self, plan: &RoutingSnapshot, told: &Told) {
        let limited = plan.tenants().filter(|tenant| !tenant.limits.is_default());
        let tenants = limited.map(|tenant| {
            let by_node = told.0.iter().filter_map(|(node, told)| Some((*node, *told.tenants.get(&tenant.id)?)));
            let limited = LimitedTenant {
                name: tenant.name.clone(),
                limits: tenant.limits,
                stored_bytes: by_node.clone().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes)),
                teller: by_node.map(|(node, _)| node).next(),
            };
            (tenant.id, Arc::new(limited))
        });
        let tenants: Tenants = tenants.collect();
        if **self.tenants.load() != tenants {
            self.tenants.store(Arc::new(tenants));
        }
    }

    /// With these tenants in it.
    #[cfg(test)]
    pub(crate) fn of(tenants: impl IntoIterator<Item = (TenantId, LimitedTenant)>) -> Self {
        let book = Self::default();
        book.tenants.store(Arc::new(tenants.into_iter().map(|(id, limited)| (id, Arc::new(limited))).collect()));
        book
    }
}

/// What nodes tell, by node.
#[derive(Default)]
pub(super) struct Told(BTreeMap<NodeId, StoredBytes>);

impl Told {
    pub(super) fn take(&mut self, news: Reflected) {
        match news {
            Reflected::Snapshot(listing) => {
                self.0.clear();
                listing.entries.iter().for_each(|entry| self.put(entry));
            }
            Reflected::Changes(batch) => {
                for event in batch.events {
                    match event.kind {
                        EventKind::Put(entry) => self.put(&entry),
                        EventKind::Delete { key } => {
                            layout::parse_stored(&key).and_then(|node| self.0.remove(&node));
                        }
                    }
                }
            }
            Reflected::Lost(_) | Reflected::Resumed(_) => {}
        }
    }

    fn put(&mut self, entry: &KeyValue) {
        let Some(node) = layout::parse_stored(&entry.key) else { return };
        match from_json(&entry.value) {
            Ok(told) => drop(self.0.insert(node, told)),
            Err(error) => {
                tracing::error!(key = entry.key, %error, "what a node stores cannot be read; it stays as it was")
            }
        }
    }
}
