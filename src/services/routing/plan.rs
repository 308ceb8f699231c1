//! How a snapshot becomes the next: pure functions from a snapshot and what the coordinator told to a
//! snapshot. What is not obeyed is decided here and nowhere else; see the module above.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::ranges::{RangeRoute, TableRoutes};
use super::snapshot::{ByTable, RoutingSnapshot, change, put, remove};
use crate::coordination::layout::{self, RouteKey};
use crate::coordination::values::{Route, from_json};
use crate::coordination::{EventKind, KeyValue, Listing, WatchBatch};
use crate::domain::ids::NodeId;
use crate::domain::table::{TableDefinition, Tenant};
use crate::domain::{TableName, TenantName};
use crate::services::items::{NodeAddress, RangeReplica};

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Routes,
    Tables,
    Tenants,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Routes, Kind::Tables, Kind::Tenants];

    pub(super) fn prefix(self) -> &'static str {
        match self {
            Kind::Routes => layout::ROUTES,
            Kind::Tables => layout::CONTROL_TABLES,
            Kind::Tenants => layout::CONTROL_TENANTS,
        }
    }
}

/// Why a listing was not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distrust {
    /// It was empty, and there was something before.
    Empty,
    /// It is of an earlier revision than what was seen before.
    Older,
}

/// A snapshot in the making, and the addresses that its ranges share.
#[derive(Default)]
pub(super) struct Plan {
    snapshot: RoutingSnapshot,
    addresses: HashMap<NodeId, Arc<NodeAddress>>,
}

impl Plan {
    /// Goes on from what was known before.
    pub(super) fn from_snapshot(snapshot: RoutingSnapshot) -> Self {
        Self { snapshot, addresses: HashMap::new() }
    }

    /// What requests see.
    pub(super) fn snapshot(&self) -> RoutingSnapshot {
        self.snapshot.clone()
    }

    fn revision(&mut self, kind: Kind) -> &mut i64 {
        match kind {
            Kind::Routes => &mut self.snapshot.revisions.routes,
            Kind::Tables => &mut self.snapshot.revisions.tables,
            Kind::Tenants => &mut self.snapshot.revisions.tenants,
        }
    }

    fn is_empty(&self, kind: Kind) -> bool {
        match kind {
            Kind::Routes => self.snapshot.routes.is_empty(),
            Kind::Tables => self.snapshot.tables.is_empty(),
            Kind::Tenants => self.snapshot.tenants.is_empty(),
        }
    }

    /// Takes a whole listing in place of what was known, unless that is not to be believed.
    pub(super) fn replace(&mut self, kind: Kind, listing: &Listing) -> Option<Distrust> {
        if listing.entries.is_empty() && !self.is_empty(kind) {
            return Some(Distrust::Empty);
        }
        let known = self.revision(kind);
        if listing.revision < *known {
            listing.entries.iter().for_each(|entry| self.add_unknown(kind, entry));
            return Some(Distrust::Older);
        }
        *known = listing.revision;
        match kind {
            Kind::Routes => self.replace_routes(listing),
            Kind::Tables => self.replace_tables(listing),
            Kind::Tenants => self.replace_tenants(listing),
        }
        None
    }

    /// The range of this table that serves this hash, as it stands.
    pub(super) fn route(&self, definition: &TableDefinition, hash: u32) -> Option<RangeRoute> {
        self.snapshot.route(definition, hash).cloned()
    }

    /// Takes changes in their order. Whether there were any.
    pub(super) fn change(&mut self, kind: Kind, batch: &WatchBatch) -> bool {
        for event in &batch.events {
            match &event.kind {
                EventKind::Put(entry) => self.put(kind, entry),
                EventKind::Delete { key } => self.delete(kind, key),
            }
        }
        let known = self.revision(kind);
        *known = (*known).max(batch.revision);
        !batch.events.is_empty()
    }

    fn put(&mut self, kind: Kind, entry: &KeyValue) {
        match kind {
            Kind::Routes => {
                if let Some((key, route)) = self.read_route(entry) {
                    self.put_route(&key, route);
                }
            }
            Kind::Tables => {
                if let Some((tenant, table, definition)) = read_table(entry) {
                    put(&mut self.snapshot.tables, &tenant, &table, Arc::new(definition));
                }
            }
            Kind::Tenants => {
                if let Some((name, tenant)) = read_tenant(entry) {
                    self.snapshot.tenants.insert(name, Arc::new(tenant));
                }
            }
        }
    }

    fn delete(&mut self, kind: Kind, key: &str) {
        match kind {
            Kind::Routes => {
                let Some(key) = RouteKey::parse(key) else { return };
                if self.snapshot.table_routes(&key.tenant, &key.table).is_some() {
                    let routes = change(&mut self.snapshot.routes, &key.tenant, &key.table);
                    routes.remove(key.low_hash);
                    if routes.is_empty() {
                        remove(&mut self.snapshot.routes, &key.tenant, &key.table);
                    }
                }
            }
            Kind::Tables => {
                if let Some((tenant, table)) = layout::parse_control_table(key) {
                    remove(&mut self.snapshot.tables, &tenant, &table);
                }
            }
            Kind::Tenants => {
                if let Some(tenant) = layout::parse_control_tenant(key) {
                    self.snapshot.tenants.remove(&tenant);
                }
            }
        }
    }

    /// From a listing that is older than what we know: only what we know nothing of.
    fn add_unknown(&mut self, kind: Kind, entry: &KeyValue) {
        let is_known = match kind {
            Kind::Routes => self.read_route(entry).is_none_or(|(key, route)| {
                let routes = self.snapshot.table_routes(&key.tenant, &key.table);
                let same = routes.and_then(|routes| routes.get_at(key.low_hash));
                let served = routes.is_some_and(|routes| routes.get(route.low).or(routes.get(route.high)).is_some());
                same.is_some_and(|same| same.range != route.range || same.epoch >= route.epoch)
                    || (same.is_none() && served)
            }),
            Kind::Tables => layout::parse_control_table(&entry.key)
                .is_none_or(|(tenant, table)| self.snapshot.table(&tenant, &table).is_some()),
            Kind::Tenants => {
                layout::parse_control_tenant(&entry.key).is_none_or(|tenant| self.snapshot.tenant(&tenant).is_some())
            }
        };
        if !is_known {
            self.put(kind, entry);
        }
    }

    /// Puts a route in, unless we know a later one of the same range. Whether it was taken.
    pub(super) fn put_route(&mut self, key: &RouteKey, route: RangeRoute) -> bool {
        let routes = self.snapshot.table_routes(&key.tenant, &key.table);
        let known = routes.and_then(|routes| routes.get_at(route.low));
        if known.is_some_and(|known| known.range == route.range && known.epoch > route.epoch) {
            tracing::warn!(?key, epoch = route.epoch, "an older route is not obeyed");
            return false;
        }
        change(&mut self.snapshot.routes, &key.tenant, &key.table).insert(route);
        true
    }

    fn replace_routes(&mut self, listing: &Listing) {
        let mut routes: ByTable<TableRoutes> = HashMap::new();
        let mut table: Vec<RangeRoute> = Vec::new();
        let mut last: Option<(TenantName, TableName)> = None;
        for entry in &listing.entries {
            let Some(key) = RouteKey::parse(&entry.key) else { continue };
            let name = (key.tenant.clone(), key.table.clone());
            if last.as_ref().is_some_and(|last| *last != name) {
                finish(&mut routes, last.take(), &mut table);
            }
            let known = self.snapshot.table_routes(&key.tenant, &key.table);
            let known = known.and_then(|routes| routes.get_at(key.low_hash)).cloned();
            match (self.read_route(entry), known) {
                // One that cannot be read, or is older, leaves what was there.
                (None, Some(known)) => table.push(known),
                (Some((_, new)), Some(known)) if known.range == new.range && known.epoch > new.epoch => {
                    table.push(known)
                }
                (Some((_, new)), _) => table.push(new),
                (None, None) => {}
            }
            last = Some(name);
        }
        finish(&mut routes, last, &mut table);
        self.snapshot.routes = routes;
        self.forget_addresses();
    }

    fn replace_tables(&mut self, listing: &Listing) {
        let mut tables: ByTable<TableDefinition> = HashMap::new();
        for entry in &listing.entries {
            let Some((tenant, table)) = layout::parse_control_table(&entry.key) else { continue };
            let definition = match read_table(entry) {
                Some((_, _, definition)) => Some(Arc::new(definition)),
                None => self.snapshot.table(&tenant, &table).cloned(),
            };
            if let Some(definition) = definition {
                put(&mut tables, &tenant, &table, definition);
            }
        }
        self.snapshot.tables = tables;
    }

    fn replace_tenants(&mut self, listing: &Listing) {
        let mut tenants = HashMap::new();
        for entry in &listing.entries {
            let Some(name) = layout::parse_control_tenant(&entry.key) else { continue };
            let tenant = match read_tenant(entry) {
                Some((_, tenant)) => Some(Arc::new(tenant)),
                None => self.snapshot.tenant(&name).cloned(),
            };
            if let Some(tenant) = tenant {
                tenants.insert(name, tenant);
            }
        }
        self.snapshot.tenants = tenants;
    }

    fn read_route(&mut self, entry: &KeyValue) -> Option<(RouteKey, RangeRoute)> {
        let key = RouteKey::parse(&entry.key)?;
        let route = match from_json::<Route>(&entry.value) {
            Ok(route) if route.high_hash >= key.low_hash => route,
            Ok(_) => {
                tracing::error!(key = entry.key, "a route ends before it begins; it is left as it was");
                return None;
            }
            Err(error) => {
                tracing::error!(key = entry.key, %error, "a route cannot be read; it is left as it was");
                return None;
            }
        };
        let replicas = route.replicas.into_iter();
        let replicas = replicas
            .map(|replica| {
                let address = NodeAddress::new(replica.node, replica.uri, replica.inside_uri);
                RangeReplica { address: self.address(address), state: replica.state }
            })
            .collect();
        let read = RangeRoute {
            low: key.low_hash,
            high: route.high_hash,
            range: route.range,
            table: route.table_uuid,
            epoch: route.epoch,
            leader: self.address(NodeAddress::new(route.node, route.uri, route.inside_uri)),
            replicas,
        };
        Some((key, read))
    }

    /// The shared address of a node.
    pub(super) fn address(&mut self, address: NodeAddress) -> Arc<NodeAddress> {
        match self.addresses.get(&address.node) {
            Some(shared) if **shared == address => shared.clone(),
            _ => {
                let address = Arc::new(address);
                self.addresses.insert(address.node, address.clone());
                address
            }
        }
    }

    /// Forgets addresses that no range names any more.
    fn forget_addresses(&mut self) {
        let routes = self.snapshot.routes.values().flat_map(|tables| tables.values()).flat_map(|routes| routes.iter());
        let mut named: HashSet<NodeId> = HashSet::new();
        for route in routes {
            named.insert(route.leader.node);
            named.extend(route.replicas.iter().map(|replica| replica.address.node));
        }
        self.addresses.retain(|node, _| named.contains(node));
    }
}

fn finish(routes: &mut ByTable<TableRoutes>, name: Option<(TenantName, TableName)>, table: &mut Vec<RangeRoute>) {
    if let Some((tenant, name)) = name
        && !table.is_empty()
    {
        put(routes, &tenant, &name, Arc::new(std::mem::take(table).into_iter().collect()));
    }
}

fn read_table(entry: &KeyValue) -> Option<(TenantName, TableName, TableDefinition)> {
    let (tenant, table) = layout::parse_control_table(&entry.key)?;
    match from_json::<TableDefinition>(&entry.value) {
        Ok(definition) if definition.tenant == tenant && definition.name == table => Some((tenant, table, definition)),
        Ok(_) => {
            tracing::error!(key = entry.key, "a table's record names another table; it is left as it was");
            None
        }
        Err(error) => {
            tracing::error!(key = entry.key, %error, "a table's record cannot be read; it is left as it was");
            None
        }
    }
}

fn read_tenant(entry: &KeyValue) -> Option<(TenantName, Tenant)> {
    let name = layout::parse_control_tenant(&entry.key)?;
    match from_json::<Tenant>(&entry.value) {
        Ok(tenant) => Some((name, tenant)),
        Err(error) => {
            tracing::error!(key = entry.key, %error, "a tenant's record cannot be read; it is left as it was");
            None
        }
    }
}
