//! The contract of a node's own database, at one control plane: which replicas it has, how far each
//! is durable, and the node's parts of the tenants' keys. Every call answers after the disk has it.

use std::collections::BTreeSet;

use crate::crypto::Key256;
use crate::domain::Timestamp;
use crate::domain::hash::HashRange;
use crate::domain::ids::{RangeId, ReplicaId, TableId, TenantId};
use crate::domain::table::TableDefinition;
use crate::domain::{TableName, TenantName};
use crate::replication::split::SplitDone;

use super::store::{ReplicaName, RewrapStep, Scrubbed, StoreError};

/// How far a replica's file is known to be synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableMark {
    /// The replica.
    pub replica: ReplicaId,
    /// Its range.
    pub range: RangeId,
    /// The last index in the file that is surely on the disk.
    pub durable_index: u64,
    /// Items in the range, about.
    pub quantity: u64,
}

/// Whether a replica serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// It serves.
    Serving,
    /// Its table was deleted, at that time by this node's clock; the file is kept until the table can no
    /// longer be brought back.
    Dropped(Timestamp),
    /// Its file is damaged and was set aside.
    Damaged,
}

/// A replica as the node remembers it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaRecord {
    /// Its ids.
    pub name: ReplicaName,
    /// The hashes it holds.
    pub hashes: HashRange,
    /// The table.
    pub table: TableDefinition,
    /// The epoch of its configuration.
    pub epoch: u64,
    /// How far its file is known to be synced.
    pub durable_index: u64,
    /// Items, about.
    pub quantity: u64,
    /// Whether it serves.
    pub state: ReplicaState,
    /// None: the range has this replica alone and no group. Else it is a member of its range's group, and this is the
    /// number of the file it is in: each snapshot that is taken in comes in a new one.
    pub group_file: Option<u64>,
}

impl ReplicaRecord {
    /// The name that the replica's file goes by.
    pub fn file(&self) -> ReplicaName {
        self.name.file(self.group_file.unwrap_or(0))
    }
}

/// The node's part of a tenant's key.
#[derive(Debug, Clone)]
pub struct TenantKeyPart {
    /// The tenant.
    pub tenant: TenantId,
    /// Grows with each rotation of this part.
    pub version: u32,
    /// The tenant's UUID at this node.
    pub uuid: uuid::Uuid,
    /// The part itself.
    pub part: Key256,
}

/// How far the scrub of a replica's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubRecord {
    /// The replica.
    pub replica: ReplicaId,
    /// The number of the file that this is about.
    pub file: u64,
    /// The page to go on with, from 1.
    pub next_page: u64,
    /// When all of its pages were last found good.
    pub verified_at: Option<Timestamp>,
    /// When the replica's state was last digested, by its leader's clock.
    pub digested_at: Option<Timestamp>,
}

/// How far the scrub of a node's files is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubProgress {
    /// When the present round began.
    pub round_began: Option<Timestamp>,
    /// The files of which something is known.
    pub files: Vec<ScrubRecord>,
}

/// One range of a table, as the node's table description has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRange {
    /// The range.
    pub range: RangeId,
    /// RID_TENANT: the tenant's name.
    pub tenant: TenantName,
    /// RID_TABLE: the table's name.
    pub table: TableName,
    /// HASH_START and HASH_END.
    pub hashes: HashRange,
    /// QUANTITY: items, as of when the file was last made durable.
    pub quantity: u64,
    /// UUID: the tenant's, at this node; none where the node has no key of the tenant.
    pub tenant_uuid: Option<uuid::Uuid>,
    /// TABLE_VERSION: grows with each change of the table's definition.
    pub table_version: u64,
}

/// See the module's essay.
pub trait NodeDatabase: Send + Sync + 'static {
    /// All replicas.
    fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError>;
    /// The table description: the ranges of a table that serve, in order of hashes.
    fn table_ranges(&self, table: TableId) -> Result<Vec<TableRange>, StoreError>;
    /// Remembers a replica, or its new state.
    fn put_replica(&self, record: &ReplicaRecord) -> Result<(), StoreError>;
    /// Remembers that a replica has carried out a split, together with its own record and those of its copies of the
    /// children, where it made them: all or nothing.
    fn put_split(
        &self,
        parent: &ReplicaRecord,
        split: &SplitDone,
        children: &[ReplicaRecord],
    ) -> Result<(), StoreError>;
    /// The splits that replicas have carried out, by the parent's replica.
    fn splits(&self) -> Result<Vec<(ReplicaId, SplitDone)>, StoreError>;
    /// Forgets a replica, and that it was split.
    fn remove_replica(&self, replica: ReplicaId) -> Result<(), StoreError>;
    /// Records durable indexes, all in one transaction.
    fn record_durable(&self, marks: &[DurableMark]) -> Result<(), StoreError>;
    /// All parts of tenants' keys, older versions first.
    fn tenant_keys(&self) -> Result<Vec<TenantKeyPart>, StoreError>;
    /// Adds a part.
    fn add_tenant_key(&self, part: &TenantKeyPart) -> Result<(), StoreError>;
    /// One step of wrapping the database's own key anew, under the node's newest key; synced. May be repeated.
    fn rewrap(&self, step: RewrapStep) -> Result<(), StoreError>;
    /// Versions of the node's key that the database's own key is wrapped under.
    fn key_versions(&self) -> Result<BTreeSet<u32>, StoreError>;
    /// Destroys a tenant's parts: all versions, or those below `below_version`.
    fn remove_tenant_keys(&self, tenant: TenantId, below_version: Option<u32>) -> Result<(), StoreError>;
    /// Replicas that are not to be believed, and why; a database that keeps nothing about it knows of none.
    fn distrusted(&self) -> Result<Vec<(ReplicaId, String)>, StoreError> {
        Ok(Vec::new())
    }
    /// These replicas are not to be believed from here on, until they are removed: all in one transaction.
    fn distrust(&self, _replicas: &[ReplicaId], _reason: &str) -> Result<(), StoreError> {
        Ok(())
    }
    /// How far the scrub is. A database that keeps nothing about it begins anew with each start.
    fn scrub_progress(&self) -> Result<ScrubProgress, StoreError> {
        Ok(ScrubProgress::default())
    }
    /// A round of the scrub began.
    fn begin_scrub(&self, _at: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
    /// Remembers how far the scrub of a file is.
    fn put_scrub(&self, _record: &ScrubRecord) -> Result<(), StoreError> {
        Ok(())
    }
    /// Reads up to `pages_max` pages of the database's own file, from page `first` on, which counts from 1, while it is in
    /// use. Where it is 0, the header block is looked at before. One without a file has no pages.
    fn scrub(&self, _first: u64, _pages_max: u64) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::default())
    }
    /// How large that file is.
    fn file_bytes(&self) -> u64 {
        0
    }
    /// Of pages of it that did not open, those that are damaged beyond doubt; none where that cannot be told now.
    fn damaged_pages(&self, _suspects: &[u64]) -> Result<Option<Vec<u64>>, StoreError> {
        Ok(Some(Vec::new()))
    }
}
