//! What only control keeps in the coordinator, as JSON under `control/…`. Tenants and tables are
//! public to nodes and proxies and stand there exactly as [`Tenant`] and [`TableDefinition`].
//!
//! | key | record |
//! |---|---|
//! | `control/cluster` | [`ClusterRecord`] |
//! | `control/tenant/{tenant}` | `domain::table::Tenant` |
//! | `control/table/{tenant}/{table}` | `domain::table::TableDefinition` |
//! | `control/table-deleted/{table uuid}` | [`DeletedTableRecord`] |
//! | `control/node\|proxy\|reporter/{uuid}` | [`MemberRecord`] |
//! | `control/join-token/{digest}` | [`JoinTokenRecord`] |
//! | `control/principal/{uuid}` | [`PrincipalRecord`] |
//! | `control/access-key/{id}` | [`AccessKeyRecord`] |
//! | `control/session/{uuid}` | [`SessionRecord`] |
//! | `control/key/{kind}[/{uuid}]` | [`SealedKeyRecord`] |
//! | `control/history/{resource}/{number}` | [`HistoryRecord`]; number 0 is [`HistoryHead`] |
//! | `control/event/{timestamp}` | [`AdminEventRecord`] |
//! | `control/job/{uuid}` | [`IntentRecord`] |
//!
//! `tests/golden.rs` pins the JSON of each.
//!
//! Secrets stand here only sealed or digested. Readers skip names they do not know; a name never
//! changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::coordination::values::AssignedReplica;
use crate::domain::ids::{NodeId, PlaneId, PrincipalId, RangeId, ReplicaId, Role, SessionId, TenantId};
use crate::domain::table::TableDefinition;
use crate::domain::{TableName, TenantName, Timestamp};
use crate::services::ports::Capability;

/// The version of these records that this program writes.
pub const RECORDS_FORMAT: u32 = 1;

/// The cluster itself. Public: it holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The control plane.
    pub plane: PlaneId,
    /// See [`RECORDS_FORMAT`].
    pub format: u32,
    /// When `init` ran.
    pub created_at: Timestamp,
    /// The certificate of the inside's certificate authority, PEM.
    pub authority_pem: String,
}

/// A dropped table and where its ranges were, so that it can be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTableRecord {
    /// The table as it was.
    pub table: TableDefinition,
    /// When it was dropped.
    pub deleted_at: Timestamp,
    /// Who dropped it.
    pub deleted_by: String,
    /// Its ranges.
    pub ranges: Vec<DeletedRange>,
}

/// A range of a dropped table. Kept short: a table has up to a thousand, and a value in etcd about
/// a megabyte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRange {
    /// The range.
    pub range: RangeId,
    /// Its first hash.
    pub low: u32,
    /// Its last hash.
    pub high: u32,
    /// The epoch last published for it; a route brought back goes on from there.
    pub epoch: u64,
    /// The nodes that held a replica, the leader first, and the replicas.
    pub replicas: Vec<(NodeId, Option<ReplicaId>)>,
    /// Those of them that were being filled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<ReplicaId>,
    /// The copies that control wanted, where these were others; nodes that were to get one and are no members yet
    /// stand only here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<AssignedReplica>,
}

/// A node, proxy or reporter that joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its role.
    pub role: Role,
    /// Its id.
    pub id: Uuid,
    /// The name its operator gave it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it joined.
    pub joined_at: Timestamp,
    /// Until when its newest certificate holds.
    pub certificate_until: Timestamp,
    /// Of a node: what its operator wants of it. It stands here and not in the node's details, which the node writes
    /// anew at each start.
    #[serde(default, skip_serializing_if = "NodeWish::is_default")]
    pub wish: NodeWish,
    /// Of a node: until when it is given no leaderships, because it was asked to hand them over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand_over_until: Option<Timestamp>,
    /// Of a reporter: where control asks it, as it last said itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_url: Option<String>,
}

/// What an operator wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeWish {
    /// It serves.
    #[default]
    Serve,
    /// It is emptied: its copies move to other nodes.
    Drain,
    /// It is given up: its copies are made anew on other nodes, without waiting for it.
    GiveUp,
}

impl NodeWish {
    fn is_default(&self) -> bool {
        *self == NodeWish::Serve
    }
}

/// An invitation not yet used, under the SHA-256 digest of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRecord {
    /// The only role that it lets in.
    pub role: Role,
    /// The name that the new member will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it stops to be good.
    pub expires_at: Timestamp,
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalRecord {
    /// Its id.
    pub id: PrincipalId,
    /// Its name, unique within the tenant (or the cluster, for root principals).
    pub name: String,
    /// The tenant it belongs to; none for a root principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<(TenantId, TenantName)>,
    /// What it may do within its tenant.
    pub capabilities: Vec<Capability>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked; its tokens and access keys are refused from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// An access key for SigV4; its secret is sealed, because the protocol needs it back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRecord {
    /// The public part.
    pub access_key_id: String,
    /// Whose it is.
    pub principal: PrincipalId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// The secret part, sealed under the control key, base64.
    pub sealed: String,
}

/// A session: tokens name it, and revoking it revokes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// What it is for, in its maker's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When its tokens stop to be good.
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// One of control's secrets, in one version or, while it is rotated, two.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKeyRecord {
    /// The versions that are kept, ascending; the last is the one to use for what is new.
    pub versions: Vec<SealedVersion>,
    /// The lowest version that each holder still uses, as it last reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub in_use: BTreeMap<Uuid, u32>,
}

/// One version of a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedVersion {
    /// Its number, from 1; never used again.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// The secret, sealed under the control key, base64.
    pub sealed: String,
}

/// One change of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// Its number, from 1.
    pub number: u32,
    /// Who changed it.
    pub who: String,
    /// When.
    pub at: Timestamp,
    /// What it was; none where it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// What it became; none where it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// Something that was done to a resource, by the time it was done. What it was and became stands in the resource's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminEventRecord {
    /// Who did it.
    pub who: String,
    /// `created`, `changed`, `removed` or `invited`.
    pub what: String,
    /// The resource.
    pub resource: String,
}

/// The number of a resource's last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HistoryHead {
    /// The number.
    pub last: u32,
}

/// Something that takes several transactions: written by the first and removed by the last, so that
/// whoever finds it later knows what to finish or to take back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum IntentRecord {
    /// Routes of a new table are being written; the table's record comes last. Taken back when old.
    CreateTable {
        /// The tenant.
        tenant: TenantName,
        /// The table.
        table: TableName,
        /// When it began.
        started_at: Timestamp,
    },
    /// The table's record is gone; its routes are being removed. Carried on.
    RemoveRoutes {
        /// The tenant.
        tenant: TenantName,
        /// The table.
        table: TableName,
        /// When it began.
        started_at: Timestamp,
    },
    /// A dropped table's routes are being written again; the table's record comes last. Taken back when old.
    UndeleteTable {
        /// The tenant.
        tenant: TenantName,
        /// The name it gets.
        table: TableName,
        /// When it began.
        started_at: Timestamp,
    },
    /// The tenant's record and keys are gone; what else was its is being removed. Carried on.
    RemoveTenant {
        /// The tenant.
        tenant: TenantName,
        /// Its id.
        tenant_id: TenantId,
        /// When it began.
        started_at: Timestamp,
    },
}

impl IntentRecord {
    /// When it began.
    pub fn started_at(&self) -> Timestamp {
        match self {
            IntentRecord::CreateTable { started_at, .. }
            | IntentRecord::RemoveRoutes { started_at, .. }
            | IntentRecord::UndeleteTable { started_at, .. }
            | IntentRecord::RemoveTenant { started_at, .. } => *started_at,
        }
    }
}
