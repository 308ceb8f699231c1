//! Counting while requests are served. Every thread that serves counts into a shard of its own, so nobody waits for
//! anybody: the lock of a shard is taken by others once a second, when an interval is closed, and that swaps two maps.
//! A kind of request that the shard has seen before costs no allocation; neither does the first of an interval, because maps
//! keep their room.
//!
//! Beside the counts by [`UsageKey`], which go into batches, there are counters of the whole process by operation and result
//! alone, for `/metrics`; they also have the requests that name no tenant that is there.
//!
//! Rejected: one map of atomics for all threads. It is read and written by all cores all the time, and what is
//! closed cannot be told from what is counted meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::domain::ids::PrincipalId;
use crate::domain::table::{TableDefinition, Tenant};
use crate::domain::usage::{Cost, LatencyHistogram, UsageCounts, UsageKey, UsageOperation, UsageResult};

/// Kinds of operations.
pub const OPERATIONS: usize = UsageOperation::ALL.len();
/// Kinds of results.
pub const RESULTS: usize = UsageResult::ALL.len();
/// A map that has grown beyond this is made smaller when little is in it.
const ROOM_KEPT: usize = 4096;

static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The shard of this thread, among as many as there are.
    static PLACE: usize = NEXT_PLACE.fetch_add(1, Ordering::Relaxed);
}

/// Whom a request is counted for.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// A tenant.
    Tenant(&'a Arc<Tenant>),
    /// A table of a tenant.
    Table(&'a Arc<TableDefinition>),
}

/// The same, kept until the names are asked for.
enum Named {
    Tenant(Arc<Tenant>),
    Table(Arc<TableDefinition>),
}

/// One request that was answered.
#[derive(Debug)]
pub struct Served<'a> {
    /// Whom it is counted for; none where it names no tenant that is there, or none that its sender may know of.
    pub whose: Option<Whose<'a>>,
    /// Who asked.
    pub principal: Option<PrincipalId>,
    /// What for.
    pub operation: UsageOperation,
    /// How it ended.
    pub result: UsageResult,
    /// What it cost.
    pub cost: Cost,
    /// How long it took, in microseconds.
    pub micros: u64,
}

type Counts = HashMap<UsageKey, (UsageCounts, Named)>;

/// Apart from its neighbours, so that no two cores share a line of their caches.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    counts: Counts,
    totals: Totals,
}

/// What was served since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests, by operation and result, in the order of their lists.
    pub requests: [[u64; RESULTS]; OPERATIONS],
    /// How long they took, by operation.
    pub latency: [LatencyHistogram; OPERATIONS],
}

/// See the module's essay.
pub struct Meter {
    shards: Box<[Shard]>,
}

impl Default for Meter {
    fn default() -> Self {
        // Threads take turns, and others than those that serve may have taken one, too.
        let shards = 2 * std::thread::available_parallelism().map_or(4, usize::from);
        Self { shards: (0..shards).map(|_| Shard::default()).collect() }
    }
}

impl Meter {
    /// Counts a request.
    pub fn count(&self, served: &Served<'_>) {
        let place = PLACE.with(|place| *place) % self.shards.len();
        let mut inner = self.shards[place].0.lock();
        let (operation, result) = (served.operation, served.result);
        inner.totals.requests[operation as usize][result as usize] += 1;
        inner.totals.latency[operation as usize].add(served.micros);
        let Some(whose) = served.whose else { return };
        let (tenant, table) = match whose {
            Whose::Tenant(tenant) => (tenant.id, None),
            Whose::Table(table) => (table.tenant_id, Some(table.id)),
        };
        let key = UsageKey { tenant, table, principal: served.principal, operation, result };
        let named = || match whose {
            Whose::Tenant(tenant) => Named::Tenant(Arc::clone(tenant)),
            Whose::Table(table) => Named::Table(Arc::clone(table)),
        };
        let (counts, _) = inner.counts.entry(key).or_insert_with(|| (UsageCounts::default(), named()));
        counts.add(&served.cost, served.micros);
    }

    /// Moves everything that was counted since the last call to `taken`.
    pub fn take(&self, taken: &mut Taken) {
        for shard in &self.shards {
            let mut counts = std::mem::take(&mut taken.spare);
            std::mem::swap(&mut shard.0.lock().counts, &mut counts);
            if counts.capacity() > ROOM_KEPT && counts.len() < counts.capacity() / 8 {
                counts.shrink_to(ROOM_KEPT);
            }
            for (key, (of_shard, named)) in counts.drain() {
                taken.counts.entry(key).or_default().merge(&of_shard);
                taken.name(&named);
            }
            taken.spare = counts;
        }
    }

    /// What was served since the start of the process.
    pub fn totals(&self) -> Totals {
        let mut all = Totals::default();
        for shard in &self.shards {
            let totals = shard.0.lock().totals;
            for operation in 0..OPERATIONS {
                all.latency[operation].merge(&totals.latency[operation]);
                for result in 0..RESULTS {
                    all.requests[operation][result] += totals.requests[operation][result];
                }
            }
        }
        all
    }
}

/// What was counted and is in no batch yet.
#[derive(Default)]
pub struct Taken {
    /// By kind.
    pub counts: BTreeMap<UsageKey, UsageCounts>,
    /// The names of the tenants and tables in it.
    pub names: BTreeMap<Uuid, String>,
    /// Keeps the room of a shard's map.
    spare: Counts,
}

impl Taken {
    fn name(&mut self, named: &Named) {
        let (tenant, name) = match named {
            Named::Tenant(tenant) => (tenant.id, &tenant.name),
            Named::Table(table) => (table.tenant_id, &table.tenant),
        };
        self.names.entry(tenant.0).or_insert_with(|| name.to_string());
        if let Named::Table(table) = named {
            self.names.entry(table.id.0).or_insert_with(|| table.name.to_string());
        }
    }

    /// Takes the room that this one keeps.
    pub fn exchange_room(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.spare, &mut other.spare);
    }

    /// All of another one, too.
    pub fn merge(&mut self, mut other: Self) {
        self.exchange_room(&mut other);
        for (key, counts) in other.counts {
            self.counts.entry(key).or_default().merge(&counts);
        }
        self.names.extend(other.names);
    }

    /// Forgets everything: it is in a batch.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.names.clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::ids::{TableId, TenantId};
    use crate::domain::key::KeyType;
    use crate::domain::table::TableSpecification;
    use crate::domain::table_options::OptionTimes;
    use crate::domain::{TableName, TenantName};

    /// A table of the tenant of this number.
    pub fn table(tenant: u8, table: u8) -> Arc<TableDefinition> {
        let specification = TableSpecification::new(KeyType::String);
        Arc::new(TableDefinition {
            tenant_id: TenantId::from_bytes([tenant; 16]),
            tenant: TenantName::new(&format!("tenant-{tenant}")).unwrap(),
            id: TableId::from_bytes([table | 0x80; 16]),
            name: TableName::new(&format!("table-{table}")).unwrap(),
            specification,
            created_at: Timestamp(0),
            version: 1,
            option_times: OptionTimes::default(),
        })
    }

    /// A read of one item that took 150 microseconds.
    pub fn read(table: Option<&Arc<TableDefinition>>) -> Served<'_> {
        Served {
            whose: table.map(Whose::Table),
            principal: Some(PrincipalId::from_bytes([7; 16])),
            operation: UsageOperation::GetItem,
            result: UsageResult::Ok,
            cost: Cost::read(100, true),
            micros: 150,
        }
    }

    #[test]
    fn what_all_threads_count_is_taken_once() {
        let meter = Meter::default();
        let tables = [table(1, 1), table(1, 2), table(2, 3)];
        let mut taken = Taken::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..300).for_each(|number: usize| meter.count(&read(Some(&tables[number % 3]))));
                    meter.count(&read(None));
                });
            }
            meter.take(&mut taken);
        });
        meter.take(&mut taken);
        assert_eq!(taken.counts.values().map(|counts| counts.requests).collect::<Vec<_>>(), [800, 800, 800]);
        let counts = taken.counts.values().next().unwrap();
        assert_eq!((counts.read_bytes, counts.read_half_units, counts.latency.count()), (80_000, 1_600, 800));
        let names: Vec<&str> = taken.names.values().map(String::as_str).collect();
        assert_eq!(names.len(), 5, "two tenants and three tables");
        assert!(names.contains(&"tenant-2") && names.contains(&"table-3"));
        let totals = meter.totals();
        assert_eq!(totals.requests[UsageOperation::GetItem as usize][UsageResult::Ok as usize], 2_408);
        assert_eq!(totals.latency[UsageOperation::GetItem as usize].sum_us, 2_408 * 150);
        taken.clear();
        meter.take(&mut taken);
        assert!(taken.counts.is_empty() && taken.names.is_empty());
        assert_eq!(meter.totals(), totals, "counters of the process stay");
    }

    #[test]
    fn kinds_are_kept_apart() {
        let meter = Meter::default();
        let (one, other) = (table(1, 1), table(1, 2));
        meter.count(&read(Some(&one)));
        meter.count(&read(Some(&other)));
        meter.count(&Served { principal: None, ..read(Some(&one)) });
        meter.count(&Served { operation: UsageOperation::ListItems, ..read(Some(&one)) });
        meter.count(&Served { result: UsageResult::Throttled, ..read(Some(&one)) });
        let mut taken = Taken::default();
        meter.take(&mut taken);
        assert_eq!(taken.counts.len(), 5);
        assert!(taken.counts.values().all(|counts| counts.requests == 1));
    }
}
