//! The copy of a snapshot on disk, from which a proxy or node routes when it starts and the coordinator is
//! away. How the file is sealed stands in [`sealed_copy`]; its body, all numbers little-endian, every list
//! preceded by its count in four bytes, every text by its length in four:
//!
//! | what | bytes |
//! |---|---|
//! | when it was saved, in microseconds since 1970 | 8 |
//! | revisions of routes, tables, tenants | 3 × 8 |
//! | tenants: JSON as in `control/tenant/…` | list of texts |
//! | tables: JSON as in `control/table/…` | list of texts |
//! | addresses: node, URI, inside URI (empty: the same) | list of 16 + text + text |
//! | tables with routes: tenant, table, ranges | list of text, text, list |
//! | – a range: low, high, range, table, epoch, leader, replicas | 4, 4, 16, 16, 8, 4, list |
//! | – – a replica: address, state (0 unknown, 1 voter, 2 learner) | 4, 1 |
//!
//! Leader and replicas are places in the list of addresses: a million ranges take some 70 MB, not the
//! 700 MB of their JSON.

use std::collections::HashMap;
use std::sync::Arc;

use super::ranges::{RangeRoute, TableRoutes};
use super::snapshot::{Revisions, RoutingSnapshot, put};
use crate::coordination::values::{ReplicaState, from_json, to_json};
use crate::domain::ids::{NodeId, RangeId, TableId};
use crate::domain::table::{TableDefinition, Tenant};
use crate::domain::{TableName, TenantName, Timestamp};
use crate::services::items::{NodeAddress, RangeReplica};
use crate::services::sealed_copy::{self, CopyKind, DiskCopyError, DiskCopyOptions};

type Result<T> = std::result::Result<T, DiskCopyError>;

/// Reads and opens the copy: the snapshot, and when it was saved.
pub(super) fn load(options: &DiskCopyOptions) -> Result<(RoutingSnapshot, Timestamp)> {
    decode(&sealed_copy::load(CopyKind::Routing, options)?)
}

/// Seals and writes the copy in place of the one before. `nonce` must be fresh.
pub(super) fn save(
    options: &DiskCopyOptions,
    nonce: [u8; 12],
    snapshot: &RoutingSnapshot,
    now: Timestamp,
) -> Result<()> {
    sealed_copy::save(CopyKind::Routing, options, nonce, &encode(snapshot, now))
}

/// The list of addresses in the making, and the place of each.
#[derive(Default)]
struct Addresses<'a> {
    places: HashMap<&'a NodeAddress, u32>,
    list: Vec<&'a NodeAddress>,
}

impl<'a> Addresses<'a> {
    fn place(&mut self, address: &'a NodeAddress) -> u32 {
        *self.places.entry(address).or_insert_with(|| {
            self.list.push(address);
            (self.list.len() - 1) as u32
        })
    }
}

fn encode(snapshot: &RoutingSnapshot, now: Timestamp) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(now.0.to_le_bytes());
    let Revisions { routes, tables, tenants } = snapshot.revisions;
    [routes, tables, tenants].iter().for_each(|revision| body.extend(revision.to_le_bytes()));
    put_count(&mut body, snapshot.tenants.len());
    snapshot.tenants.values().for_each(|tenant| put_bytes(&mut body, &to_json(&**tenant)));
    let definitions = || snapshot.tables.values().flat_map(|tables| tables.values());
    put_count(&mut body, definitions().count());
    definitions().for_each(|definition| put_bytes(&mut body, &to_json(&**definition)));

    // The ranges are written apart, because the addresses they name come before them.
    let mut addresses = Addresses::default();
    let mut routed = Vec::new();
    put_count(&mut routed, snapshot.routes.values().map(|tables| tables.len()).sum());
    for (tenant, tables) in &snapshot.routes {
        for (table, routes) in tables.iter() {
            put_bytes(&mut routed, tenant.as_str().as_bytes());
            put_bytes(&mut routed, table.as_str().as_bytes());
            put_count(&mut routed, routes.len());
            routes.iter().for_each(|route| put_route(&mut routed, route, &mut addresses));
        }
    }
    put_count(&mut body, addresses.list.len());
    for address in &addresses.list {
        body.extend(address.node.as_bytes());
        put_bytes(&mut body, address.uri.as_bytes());
        put_bytes(&mut body, address.inside_uri.as_deref().unwrap_or_default().as_bytes());
    }
    body.extend(routed);
    body
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    body.extend((count as u32).to_le_bytes());
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    put_count(body, bytes.len());
    body.extend(bytes);
}

fn put_route<'a>(body: &mut Vec<u8>, route: &'a RangeRoute, addresses: &mut Addresses<'a>) {
    body.extend(route.low.to_le_bytes());
    body.extend(route.high.to_le_bytes());
    body.extend(route.range.as_bytes());
    body.extend(route.table.as_bytes());
    body.extend(route.epoch.to_le_bytes());
    body.extend(addresses.place(&route.leader).to_le_bytes());
    put_count(body, route.replicas.len());
    for replica in route.replicas.iter() {
        body.extend(addresses.place(&replica.address).to_le_bytes());
        body.push(match replica.state {
            ReplicaState::Unknown => 0,
            ReplicaState::Voter => 1,
            ReplicaState::Learner => 2,
        });
    }
}

/// Takes the body apart from the front. Everything it reads may be wrong.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DiskCopyError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DiskCopyError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn counted(&mut self) -> Result<&'a [u8]> {
        let count = self.u32()?;
        self.bytes(count as usize)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.counted()?).map_err(|_| DiskCopyError::Damaged("a text is not UTF-8"))
    }

    /// A list. Its memory grows with what is read, not with what the count claims.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| item(self)).collect()
    }
}

fn decode(body: &[u8]) -> Result<(RoutingSnapshot, Timestamp)> {
    let mut reader = Reader(body);
    let saved_at = Timestamp(u64::from_le_bytes(reader.array()?));
    let mut revision = || reader.array().map(i64::from_le_bytes);
    let revisions = Revisions { routes: revision()?, tables: revision()?, tenants: revision()? };
    let mut snapshot = RoutingSnapshot { revisions, ..RoutingSnapshot::default() };
    for tenant in reader.list(|reader| Ok(from_json::<Tenant>(reader.counted()?)))? {
        let tenant = tenant.map_err(|_| DiskCopyError::Damaged("a tenant cannot be read"))?;
        snapshot.tenants.insert(tenant.name.clone(), Arc::new(tenant));
    }
    for definition in reader.list(|reader| Ok(from_json::<TableDefinition>(reader.counted()?)))? {
        let definition = definition.map_err(|_| DiskCopyError::Damaged("a table cannot be read"))?;
        let (tenant, table) = (definition.tenant.clone(), definition.name.clone());
        put(&mut snapshot.tables, &tenant, &table, Arc::new(definition));
    }
    let addresses = reader.list(|reader| {
        let node = NodeId::from_bytes(reader.array()?);
        let (uri, inside_uri) = (reader.text()?.to_owned(), reader.text()?.to_owned());
        Ok(Arc::new(NodeAddress::new(node, uri, Some(inside_uri))))
    })?;
    reader.list(|reader| {
        let name = |_| DiskCopyError::Damaged("a name cannot be one");
        let tenant = TenantName::new(reader.text()?).map_err(name)?;
        let table = TableName::new(reader.text()?).map_err(name)?;
        let routes: TableRoutes = reader.list(|reader| read_route(reader, &addresses))?.into_iter().collect();
        if !routes.is_empty() {
            put(&mut snapshot.routes, &tenant, &table, Arc::new(routes));
        }
        Ok(())
    })?;
    match reader.0.is_empty() {
        true => Ok((snapshot, saved_at)),
        false => Err(DiskCopyError::Damaged("something follows its end")),
    }
}

fn read_route(reader: &mut Reader<'_>, addresses: &[Arc<NodeAddress>]) -> Result<RangeRoute> {
    let address = |reader: &mut Reader<'_>| -> Result<Arc<NodeAddress>> {
        let place = reader.u32()? as usize;
        addresses.get(place).cloned().ok_or(DiskCopyError::Damaged("an address that is not listed"))
    };
    Ok(RangeRoute {
        low: reader.u32()?,
        high: reader.u32()?,
        range: RangeId::from_bytes(reader.array()?),
        table: TableId::from_bytes(reader.array()?),
        epoch: u64::from_le_bytes(reader.array()?),
        leader: address(reader)?,
        replicas: reader
            .list(|reader| {
                let address = address(reader)?;
                let state = match reader.array()? {
                    [1] => ReplicaState::Voter,
                    [2] => ReplicaState::Learner,
                    [0] => ReplicaState::Unknown,
                    _ => return Err(DiskCopyError::Damaged("a replica's state that there is not")),
                };
                Ok(RangeReplica { address, state })
            })?
            .into(),
    })
}

/// For the fuzzer: whatever decodes is written and read back as itself.
#[doc(hidden)]
pub fn fuzz_routing_copy(data: &[u8]) {
    if let Ok((snapshot, saved_at)) = decode(data) {
        let again = decode(&encode(&snapshot, saved_at)).expect("what was written can be read");
        assert!(again == (snapshot, saved_at));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ranges::tests::route;
    use super::super::tests::{definition, tenant};
    use super::*;

    fn snapshot(tables: u8, ranges: u32) -> RoutingSnapshot {
        let revisions = Revisions { routes: 3, tables: 2, tenants: i64::MAX };
        let mut snapshot = RoutingSnapshot { revisions, ..RoutingSnapshot::default() };
        for number in 0..tables {
            let definition = definition("acme", &format!("table-{number}"), number);
            let routes: TableRoutes = (0..ranges).map(|low| route(low * 10, low * 10 + 9, u64::from(low))).collect();
            if ranges > 0 {
                put(&mut snapshot.routes, &definition.tenant, &definition.name, Arc::new(routes));
            }
            let (tenant, table) = (definition.tenant.clone(), definition.name.clone());
            put(&mut snapshot.tables, &tenant, &table, Arc::new(definition));
        }
        let acme = tenant("acme");
        snapshot.tenants.insert(acme.name.clone(), Arc::new(acme));
        snapshot
    }

    #[test]
    fn a_copy_is_saved_and_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let options = crate::services::sealed_copy::tests::options(folder.path());
        save(&options, [1; 12], &snapshot(2, 5), Timestamp(42)).unwrap();
        assert_eq!(load(&options).unwrap(), (snapshot(2, 5), Timestamp(42)));
        sealed_copy::save(CopyKind::Routing, &options, [2; 12], b"no body").unwrap();
        assert!(matches!(load(&options), Err(DiskCopyError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tables in 0u8..5, ranges in 0u32..700, saved_at: u64) {
            let snapshot = snapshot(tables, ranges);
            let (read, at) = decode(&encode(&snapshot, Timestamp(saved_at))).unwrap();
            prop_assert_eq!(at, Timestamp(saved_at));
            prop_assert!(read == snapshot);
        }

        #[test]
        fn garbage_is_refused_or_stable(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz_routing_copy(&data);
        }

        #[test]
        fn damaged_bodies_are_refused_or_stable(at in 0usize..2_000, value: u8) {
            let mut body = encode(&snapshot(2, 3), Timestamp(1));
            let length = body.len();
            body[at % length] = value;
            fuzz_routing_copy(&body);
        }
    }
}
