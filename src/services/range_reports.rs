//! What a node says of the ranges that it holds of a table: the description in its own database, and how many items
//! there are. Control asks it for `range list`, by a call in one process, over the node's inside listener across
//! processes.
//!
//! The database's own QUANTITY is brought up to date when a file is made durable, so after a kill it is old. A report
//! takes the number from the replica in memory instead, which counts every applied entry, those replayed from the
//! commit log included.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::ids::{NodeId, RangeId, ReplicaId, TableId};
use crate::domain::{Refusal, TableName, TenantName};
use crate::storage::node_database::{NodeDatabase, TableRange};

use super::engine::Engine;
use super::group::ports::{GroupOperations, GroupStatus};

/// One range, as the node that holds it describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeReport {
    /// The range.
    pub range: RangeId,
    /// The tenant's name in the table's RID.
    pub rid_tenant: TenantName,
    /// The table's name in its RID.
    pub rid_table: TableName,
    /// The first hash.
    pub hash_start: u32,
    /// The last hash.
    pub hash_end: u32,
    /// Items, about.
    pub quantity: u64,
    /// The tenant's UUID at this node; none while the node has no key of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Grows with each change of the table's definition.
    pub table_version: u64,
    /// How the range's group stands, as this node knows it; none where the copy here is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupReport>,
}

/// A copy in its range's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The copy.
    pub replica: ReplicaId,
    /// What it is there.
    pub role: GroupRole,
    /// The term it is in.
    pub term: u64,
    /// The last entry in its log.
    pub last_index: u64,
    /// The last entry that it knows to be on a majority.
    pub committed: u64,
    /// The last entry that it has applied.
    pub applied: u64,
}

/// What a copy is in its range's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupRole {
    /// It leads.
    Leader,
    /// It votes.
    Voter,
    /// It is being filled, or was let go.
    Learner,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl From<GroupStatus> for GroupReport {
    fn from(status: GroupStatus) -> Self {
        let role = match (status.is_leader, status.membership.is_voter(status.replica)) {
            (true, _) => GroupRole::Leader,
            (false, true) => GroupRole::Voter,
            (false, false) => GroupRole::Learner,
        };
        Self {
            replica: status.replica,
            role,
            term: status.term,
            last_index: status.last_index,
            committed: status.committed,
            applied: status.applied,
        }
    }
}

/// Asks nodes what they hold.
#[async_trait]
pub trait RangeReports: Send + Sync + 'static {
    /// What this node says of its ranges of a table.
    ///
    /// # Errors
    /// `Unavailable` where the node does not answer.
    async fn of_table(&self, node: NodeId, table: TableId) -> Result<Vec<RangeReport>, Refusal>;
}

/// What this node itself holds.
#[async_trait]
pub trait OwnRanges: Send + Sync + 'static {
    /// The node's ranges of a table that serve, in order of hashes.
    ///
    /// # Errors
    /// `Unavailable` where the node's files cannot be read.
    async fn of_table(&self, table: TableId) -> Result<Vec<RangeReport>, Refusal>;
}

/// What one node says: its database and its engine.
#[derive(Clone)]
pub struct NodeReporter {
    engine: Arc<Engine>,
    database: Arc<dyn NodeDatabase>,
    groups: Option<Arc<dyn GroupOperations>>,
}

impl NodeReporter {
    /// The node with this engine over this database.
    pub fn new(engine: Arc<Engine>, database: Arc<dyn NodeDatabase>) -> Self {
        Self { engine, database, groups: None }
    }

    /// The same, which also tells how the groups of its ranges stand.
    pub fn with_groups(self, groups: Arc<dyn GroupOperations>) -> Self {
        Self { groups: Some(groups), ..self }
    }

    fn read(&self, table: TableId) -> Result<Vec<RangeReport>, Refusal> {
        let failed = |error| Refusal::unavailable(format!("the node's files: {error}"), 5);
        let mut counted = BTreeMap::new();
        for replica in self.engine.replicas().into_iter().filter(|replica| replica.name.table == table) {
            // One whose file cannot be read still has a description, with the number that was last recorded.
            if let Ok(count) = replica.item_count() {
                counted.insert(replica.name.range, count);
            }
        }
        let report = |row: TableRange| RangeReport {
            quantity: counted.get(&row.range).copied().unwrap_or(row.quantity),
            range: row.range,
            rid_tenant: row.tenant,
            rid_table: row.table,
            hash_start: row.hashes.low,
            hash_end: row.hashes.high,
            uuid: row.tenant_uuid,
            table_version: row.table_version,
            group: self.groups.as_ref().and_then(|groups| groups.status(row.range)).map(GroupReport::from),
        };
        Ok(self.database.table_ranges(table).map_err(failed)?.into_iter().map(report).collect())
    }
}

#[async_trait]
impl OwnRanges for NodeReporter {
    async fn of_table(&self, table: TableId) -> Result<Vec<RangeReport>, Refusal> {
        let reporter = self.clone();
        tokio::task::spawn_blocking(move || reporter.read(table))
            .await
            .map_err(|_| Refusal::internal("a task on the node's files ended unexpectedly"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::machine_state::LogPlace;
    use crate::replication::membership::Membership;

    /// It travels between processes of different versions.
    #[test]
    fn the_json_is_pinned() {
        let report = RangeReport {
            range: RangeId::from_bytes([0x11; 16]),
            rid_tenant: TenantName::new("acme").unwrap(),
            rid_table: TableName::new("users").unwrap(),
            hash_start: 0,
            hash_end: u32::MAX,
            quantity: 7,
            uuid: Some(Uuid::from_bytes([0x22; 16])),
            table_version: 1,
            group: None,
        };
        let text = concat!(
            r#"{"range":"11111111-1111-1111-1111-111111111111","rid_tenant":"acme","rid_table":"users","#,
            r#""hash_start":0,"hash_end":4294967295,"quantity":7,"#,
            r#""uuid":"22222222-2222-2222-2222-222222222222","table_version":1}"#
        );
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
        assert_eq!(serde_json::from_str::<RangeReport>(text).unwrap(), report);
        let group = GroupReport {
            replica: ReplicaId::from_bytes([0x33; 16]),
            role: GroupRole::Leader,
            term: 2,
            last_index: 9,
            committed: 8,
            applied: 7,
        };
        let told = concat!(
            r#"{"replica":"33333333-3333-3333-3333-333333333333","role":"leader","#,
            r#""term":2,"last_index":9,"committed":8,"applied":7}"#
        );
        assert_eq!(serde_json::to_string(&group).unwrap(), told);
        assert_eq!(serde_json::from_str::<GroupReport>(told).unwrap(), group);
    }

    #[test]
    fn the_role_is_that_of_the_own_copy() {
        let replica = |number: u8| ReplicaId::from_bytes([number; 16]);
        let node = |number: u8| NodeId::from_bytes([number; 16]);
        let mut membership = Membership::founding([(replica(1), node(1)), (replica(2), node(2))]);
        membership.members.insert(replica(3), node(3));
        let status = |number: u8, is_leader: bool| GroupStatus {
            range: RangeId::from_bytes([9; 16]),
            replica: replica(number),
            term: 1,
            leader: Some(replica(1)),
            is_leader,
            is_awake: true,
            membership: membership.clone(),
            membership_at: LogPlace::default(),
            last_index: 3,
            committed: 2,
            applied: 1,
            matched: BTreeMap::new(),
        };
        let role = |number, is_leader| GroupReport::from(status(number, is_leader)).role;
        assert_eq!(
            [role(1, true), role(2, false), role(3, false)],
            [GroupRole::Leader, GroupRole::Voter, GroupRole::Learner]
        );
    }
}
