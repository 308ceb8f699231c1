//! The ranges of a simulated cluster: how they are founded. Each has one replica: a write is final when it is durable at its node.

use dstore::domain::hash::HashRange;
use dstore::domain::ids::RangeId;
use dstore::domain::key::KeyType;
use dstore::domain::table::{TableDefinition, TableSpecification};
use dstore::domain::{TableName, TenantName, Timestamp};
use dstore::storage::node_database::{ReplicaRecord, ReplicaState};
use dstore::storage::store::ReplicaName;

use crate::clients::Places;
use crate::node::{TABLE, TENANT, replica_id};
use crate::world::World;

/// Founds the ranges.
pub fn found(world: &mut World) -> Places {
    let mut places = Places::new();
    for place in 0..world.nodes.len() {
        let range = place as u8 + 1;
        let record = record(range, place);
        if let Some(engine) = world.nodes[place].engine().cloned() {
            let made = world.nodes[place].inside(async { engine.create_replica(&record) });
            if let Some(Err(error)) = made {
                panic!("no replica: {error}");
            }
        }
        places.insert(range, vec![place]);
    }
    places
}

fn record(range: u8, place: usize) -> ReplicaRecord {
    ReplicaRecord {
        name: ReplicaName {
            tenant: TENANT,
            table: TABLE,
            range: RangeId::from_bytes([range; 16]),
            replica: replica_id(range, place, 1),
        },
        hashes: HashRange::FULL,
        table: table(),
        epoch: 1,
        durable_index: 0,
        quantity: 0,
        group_file: None,
        state: ReplicaState::Serving,
    }
}

fn table() -> TableDefinition {
    TableDefinition {
        tenant_id: TENANT,
        tenant: TenantName::new("tenant").unwrap_or_else(|error| panic!("{error}")),
        id: TABLE,
        name: TableName::new("things").unwrap_or_else(|error| panic!("{error}")),
        specification: TableSpecification {
            id_type: KeyType::String,
            id_name: "id".into(),
            sort_type: None,
            sort_name: "sort".into(),
            replication_factor: None,
            initial_ranges: None,
        },
        created_at: Timestamp(0),
        version: 1,
    }
}
