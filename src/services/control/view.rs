//! Tenants and tables in memory, because every request asks for one. Two watches keep it true; what
//! this instance commits itself it puts in at once, so that whoever made a table finds it.
//!
//! The two ways may cross: the watch can still bring something older than what was just committed.
//! Every entry remembers the revision it is of, and nothing older is taken. A deletion committed here
//! stays as an empty entry until the watch has told it too; then it goes.
//!
//! A watch that breaks may begin anew with a listing. An entry missing from the listing goes only if it
//! is not newer than the listing, and a coordinator that cannot be read changes nothing: an old view
//! is better than none.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::coordination::values::from_json;
use crate::coordination::{
    Coordinator, EventKind, Listing, Operation, Reflected, Reflector, ReflectorOptions, Revision, layout,
};
use crate::domain::table::{TableDefinition, Tenant};
use crate::domain::{Refusal, TableName, TenantName};

use super::history::refusal;

struct Slot<T> {
    revision: Revision,
    value: Option<Arc<T>>,
}

#[derive(Default)]
struct State {
    tenants: HashMap<TenantName, Slot<Tenant>>,
    tables: HashMap<TenantName, HashMap<TableName, Slot<TableDefinition>>>,
}

/// See the module's text.
pub(super) struct View {
    state: Arc<RwLock<State>>,
    tasks: Vec<JoinHandle<()>>,
}

impl View {
    /// Reads everything, and follows it from there until dropped.
    pub(super) async fn follow(coordinator: Arc<dyn Coordinator>) -> Result<Self, Refusal> {
        let state = Arc::new(RwLock::new(State::default()));
        let mut tasks = Vec::new();
        let mut first = Vec::new();
        for prefix in [layout::CONTROL_TENANTS, layout::CONTROL_TABLES] {
            let (sender, ready) = oneshot::channel();
            let reflector = Reflector::start(coordinator.clone(), prefix, ReflectorOptions::default());
            tasks.push(tokio::spawn(follow_prefix(Arc::downgrade(&state), reflector, prefix, sender)));
            first.push(ready);
        }
        let view = Self { state, tasks };
        for ready in first {
            ready.await.map_err(|_| Refusal::internal("the watch on tables ended before it began"))??;
        }
        Ok(view)
    }

    pub(super) fn tenant(&self, tenant: &TenantName) -> Option<Arc<Tenant>> {
        self.state.read().tenants.get(tenant)?.value.clone()
    }

    pub(super) fn table(&self, tenant: &TenantName, table: &TableName) -> Option<Arc<TableDefinition>> {
        self.state.read().tables.get(tenant)?.get(table)?.value.clone()
    }

    /// Puts in what this instance has just committed.
    pub(super) fn committed(&self, operations: &[Operation], revision: Revision) {
        let mut state = self.state.write();
        for operation in operations {
            match operation {
                Operation::Put { key, value, .. } => state.put(key, revision, value),
                Operation::Delete { key } => state.remove(key, revision, false),
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl State {
    fn put(&mut self, key: &str, revision: Revision, value: &[u8]) {
        if let Some((tenant, table)) = layout::parse_control_table(key) {
            match from_json::<TableDefinition>(value) {
                Ok(definition) => set(self.tables.entry(tenant).or_default(), table, revision, Some(definition)),
                Err(problem) => tracing::error!(key, %problem, "a table's record cannot be read; it is left as it was"),
            }
        } else if let Some(tenant) = layout::parse_control_tenant(key) {
            match from_json::<Tenant>(value) {
                Ok(definition) => set(&mut self.tenants, tenant, revision, Some(definition)),
                Err(problem) => {
                    tracing::error!(key, %problem, "a tenant's record cannot be read; it is left as it was")
                }
            }
        }
    }

    /// `told`: the watch says so, and nothing older can come any more.
    fn remove(&mut self, key: &str, revision: Revision, told: bool) {
        if let Some((tenant, table)) = layout::parse_control_table(key) {
            let Some(tables) = self.tables.get_mut(&tenant) else { return };
            clear(tables, table, revision, told);
            if tables.is_empty() {
                self.tables.remove(&tenant);
            }
        } else if let Some(tenant) = layout::parse_control_tenant(key) {
            clear(&mut self.tenants, tenant, revision, told);
        }
    }

    fn forget(&mut self, prefix: &str) {
        if prefix == layout::CONTROL_TENANTS {
            self.tenants.clear();
        } else {
            self.tables.clear();
        }
    }

    fn replace(&mut self, prefix: &str, listing: &Listing) {
        for entry in &listing.entries {
            self.put(&entry.key, entry.mod_revision, &entry.value);
        }
        let listed: std::collections::HashSet<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        let kept = |key: &str, revision: Revision| revision > listing.revision || listed.contains(key);
        if prefix == layout::CONTROL_TENANTS {
            self.tenants.retain(|name, slot| kept(&layout::control_tenant(name), slot.revision));
        } else {
            for (tenant, tables) in &mut self.tables {
                tables.retain(|name, slot| kept(&layout::control_table(tenant, name), slot.revision));
            }
            self.tables.retain(|_, tables| !tables.is_empty());
        }
    }
}

fn set<K: Eq + Hash, T>(slots: &mut HashMap<K, Slot<T>>, name: K, revision: Revision, value: Option<T>) {
    let slot = slots.entry(name).or_insert(Slot { revision: 0, value: None });
    if slot.revision < revision {
        *slot = Slot { revision, value: value.map(Arc::new) };
    }
}

fn clear<K: Eq + Hash, T>(slots: &mut HashMap<K, Slot<T>>, name: K, revision: Revision, told: bool) {
    if told {
        if slots.get(&name).is_some_and(|slot| slot.revision <= revision) {
            slots.remove(&name);
        }
    } else {
        set(slots, name, revision, None);
    }
}

/// Follows one prefix until the view is gone. The first snapshot answers `ready`.
async fn follow_prefix(
    state: Weak<RwLock<State>>,
    mut reflector: Reflector,
    prefix: &'static str,
    ready: oneshot::Sender<Result<(), Refusal>>,
) {
    let mut ready = Some(ready);
    let mut told: Revision = 0;
    while let Some(news) = reflector.next().await {
        let Some(state) = state.upgrade() else { return };
        match news {
            Reflected::Snapshot(listing) => {
                let mut state = state.write();
                if listing.revision < told {
                    // The store went back in time: it was restored from a backup, and what it says counts.
                    state.forget(prefix);
                }
                state.replace(prefix, &listing);
                told = listing.revision;
                ready.take().map(|ready| ready.send(Ok(())));
            }
            Reflected::Changes(batch) => {
                let mut state = state.write();
                for event in &batch.events {
                    match &event.kind {
                        EventKind::Put(entry) => state.put(&entry.key, event.revision, &entry.value),
                        EventKind::Delete { key } => state.remove(key, event.revision, true),
                    }
                }
                told = told.max(batch.revision);
            }
            Reflected::Lost(problem) => {
                ready.take().map(|ready| ready.send(Err(refusal(problem))));
            }
            Reflected::Resumed(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::KeyValue;
    use crate::coordination::values::to_json;
    use crate::domain::Timestamp;
    use crate::domain::ids::TenantId;
    use crate::domain::tenant_limits::TenantLimits;

    fn acme() -> TenantName {
        TenantName::new("acme").unwrap()
    }

    fn named(number: u8, name: &str) -> Tenant {
        let (id, name) = (TenantId::from_bytes([number; 16]), TenantName::new(name).unwrap());
        Tenant { id, name, created_at: Timestamp(0), limits: TenantLimits::default() }
    }

    fn tenant(number: u8) -> bytes::Bytes {
        to_json(&named(number, "acme"))
    }

    fn seen(state: &State) -> Option<TenantId> {
        state.tenants.get(&acme()).and_then(|slot| slot.value.as_ref()).map(|tenant| tenant.id)
    }

    #[test]
    fn nothing_older_replaces_what_was_committed_here() {
        let mut state = State::default();
        state.put("control/tenant/acme", 7, &tenant(7));
        state.put("control/tenant/acme", 5, &tenant(5));
        state.remove("control/tenant/acme", 6, true);
        assert_eq!(seen(&state), Some(TenantId::from_bytes([7; 16])));
    }

    #[test]
    fn a_deletion_committed_here_holds_until_the_watch_has_told_it() {
        let mut state = State::default();
        state.put("control/tenant/acme", 3, &tenant(3));
        state.remove("control/tenant/acme", 9, false);
        state.put("control/tenant/acme", 4, &tenant(4));
        assert_eq!(seen(&state), None);
        state.remove("control/tenant/acme", 9, true);
        assert!(state.tenants.is_empty());
    }

    #[test]
    fn a_listing_removes_what_it_lacks_unless_that_is_newer() {
        let mut state = State::default();
        state.put("control/tenant/acme", 3, &tenant(3));
        state.put("control/tenant/late", 12, &to_json(&named(1, "late")));
        let kept = KeyValue {
            key: "control/tenant/kept".into(),
            value: to_json(&named(2, "kept")),
            mod_revision: 8,
            create_revision: 8,
            version: 1,
            lease: None,
        };
        state.replace(layout::CONTROL_TENANTS, &Listing { entries: vec![kept], revision: 10 });
        let mut names: Vec<String> = state.tenants.keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["kept", "late"]);
    }

    #[test]
    fn a_record_that_cannot_be_read_changes_nothing() {
        let mut state = State::default();
        state.put("control/tenant/acme", 3, &tenant(3));
        state.put("control/tenant/acme", 4, b"not json");
        assert_eq!(seen(&state), Some(TenantId::from_bytes([3; 16])));
    }
}
