//! The services as traits: what `api` calls, and what stands behind it differs by role. At a node
//! [`Items`] is the storage engine; at a proxy it routes to nodes; [`Catalog`] is control itself, or
//! a client of it. The same handlers serve all of them.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, TenantId};
use crate::domain::key::PackedKey;
use crate::domain::table::{TableChange, TableDefinition, TableSpecification, Tenant};
use crate::domain::usage::Cost;
use crate::domain::version::ItemVersion;
use crate::domain::{Refusal, TableName, TenantName};
use crate::replication::operation::{Operation, Outcome};

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Strong,
    /// May lag a little; any replica can answer.
    Eventual,
}

/// An item as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredItem {
    /// The item.
    pub document: Document,
    /// Its version, which ETags show.
    pub version: ItemVersion,
}

/// A part of a table in the order of packed keys, or of the entries of one of its local indexes, asked for a page at a
/// time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// The position of the local index whose order is meant; none: that of the keys. With an index, `start`, `end` and
    /// [`Page::last`] are entries of it, or bounds between entries.
    pub index: Option<u8>,
    /// The first key that may appear (inclusive).
    pub start: PackedKey,
    /// The first key that may no longer appear (exclusive); none: to the end of the table.
    pub end: Option<PackedKey>,
    /// Items at most, 1 to `PAGE_ITEMS_MAX`.
    pub limit: usize,
    /// From the end towards the start.
    pub descending: bool,
    /// How fresh.
    pub consistency: Consistency,
    /// Where a page ends early: with the item by which the sizes of its items, keys included, reach so many bytes. None: a page is
    /// bounded by what it takes on its way alone.
    pub bytes_max: Option<u32>,
}

impl ListRequest {
    /// The hash in which it begins: entries of an index begin with the hash of their item, as keys do.
    pub fn first_hash(&self) -> u32 {
        match (&self.end, self.descending) {
            (_, false) => self.start.hash(),
            (None, true) => u32::MAX,
            // An end that is nothing but a hash excludes all of that hash.
            (Some(end), true) if end.len() <= 4 => end.hash().saturating_sub(1),
            (Some(end), true) => end.hash(),
        }
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The items under their own keys, in the order asked for.
    pub items: Vec<(PackedKey, StoredItem)>,
    /// The last key looked at, where there may be more: the next page starts after it. It may also be a bound
    /// between keys ([`PackedKey::hash_floor`]), where everything on this side of it was looked at. Of a page of an index
    /// it is the last entry looked at, or such a bound.
    pub last: Option<PackedKey>,
}

/// The answer to a write that was not refused out of hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteAnswer {
    /// It was applied (or refused) as the outcome tells.
    Applied(Outcome),
    /// It is durable and will be applied; the operation's receipt tells how it ended.
    Queued,
}

impl WriteAnswer {
    /// What the write cost, of which so many bytes were sent ([`Operation::sent_bytes`]): units for the larger of the item before
    /// and after where the outcome tells these, and else for what was sent; also where it was refused. What is durable and not
    /// yet applied counts as if it will be.
    pub fn cost(&self, sent_bytes: u64) -> Cost {
        match self {
            WriteAnswer::Applied(outcome) => {
                let bytes = outcome.item_bytes().map_or(sent_bytes, |bytes| bytes.max(sent_bytes));
                Cost::write(bytes, outcome.has_changed())
            }
            WriteAnswer::Queued => Cost::write(sent_bytes, true),
        }
    }
}

/// What of a table is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPart {
    /// All of it.
    Table,
    /// What the local index at this position shows: its items are its entries, and each has the size of what is projected.
    Index(u8),
    /// The items with one ID, named by [`PackedKey::id_prefix`]. An estimate while writes of them are on their way to files:
    /// an item that was written since the last flush counts beside its older state in the file, and one that was deleted
    /// since then still counts.
    Collection(PackedKey),
}

/// What a table, or a part of one, holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Items.
    pub items: u64,
    /// Their bytes, keys included, as their size is defined for limits. Near the truth while writes are on their way to
    /// files, and exact when they are there.
    pub bytes: u64,
}

impl Stored {
    /// Both together.
    pub fn plus(self, other: Stored) -> Stored {
        let sum = |one: u64, other: u64| one.saturating_add(other);
        Stored { items: sum(self.items, other.items), bytes: sum(self.bytes, other.bytes) }
    }
}

/// What a receipt tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptState {
    /// Durable, not yet applied.
    Queued,
    /// Applied, with this outcome.
    Ended(Outcome),
    /// Lost before it was durable on a majority; it will never be applied.
    Lost,
}

/// Reads and writes of items.
#[async_trait]
pub trait Items: Send + Sync + 'static {
    /// Reads one item.
    async fn read(
        &self,
        table: &Arc<TableDefinition>,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal>;

    /// Writes one item. With `respond_async` it answers [`WriteAnswer::Queued`] when the write is
    /// durable (the operation then has a receipt id, whose first four bytes are the key's hash).
    async fn write(
        &self,
        table: &Arc<TableDefinition>,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal>;

    /// Reads one page.
    async fn list(&self, table: &Arc<TableDefinition>, request: ListRequest) -> Result<Page, Refusal>;

    /// What became of a write answered early; none where no such receipt is known.
    async fn receipt(&self, table: &Arc<TableDefinition>, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal>;

    /// How much the table holds, or this part of it: every range is asked that may have some of it.
    async fn stored(&self, table: &Arc<TableDefinition>, part: StoredPart) -> Result<Stored, Refusal>;
}

/// Whether a PUT made something or found it there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It is new.
    Created,
    /// The same definition was there already.
    Unchanged,
}

/// Tenants and tables.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// The table of this name, from memory: the hot path asks this for every request.
    fn table(&self, tenant: &TenantName, table: &TableName) -> Option<Arc<TableDefinition>>;
    /// The tenant of this name, from memory.
    fn tenant(&self, tenant: &TenantName) -> Option<Arc<Tenant>>;
    /// All tenants by name, after `after`, at most `limit`.
    async fn list_tenants(&self, after: Option<&str>, limit: usize) -> Result<Vec<Tenant>, Refusal>;
    /// All tables of a tenant by name, after `after`, at most `limit`.
    async fn list_tables(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TableDefinition>, Refusal>;
    /// Makes a tenant; returns when it can be used.
    async fn create_tenant(&self, caller: &Caller, tenant: &TenantName) -> Result<(Tenant, Creation), Refusal>;
    /// Removes a tenant; refused as a conflict where it has tables and `recursive` is not set. Its keys are destroyed at once.
    async fn delete_tenant(&self, caller: &Caller, tenant: &TenantName, recursive: bool) -> Result<(), Refusal>;
    /// Makes a table; returns when it can be used. A table of that name with another definition is a conflict.
    async fn create_table(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        specification: TableSpecification,
    ) -> Result<(TableDefinition, Creation), Refusal>;
    /// Changes a table while it serves; gives it as it is then.
    async fn change_table(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        change: TableChange,
    ) -> Result<TableDefinition, Refusal>;
    /// Removes a table; it can be brought back for seven days.
    async fn delete_table(&self, caller: &Caller, tenant: &TenantName, table: &TableName) -> Result<(), Refusal>;
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Read items.
    Read,
    /// Change items.
    Write,
    /// Make and remove tables; manage principals of the tenant.
    Admin,
}

/// Who is asking, after the credential has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal.
    pub principal: PrincipalId,
    /// Its name, for the history of changes.
    pub name: String,
    /// The tenant it belongs to; none for root, which may do everything everywhere.
    pub tenant: Option<(TenantId, TenantName)>,
    /// What it may do within its tenant.
    pub capabilities: Vec<Capability>,
}

impl Caller {
    /// Whether this is a principal of the whole cluster.
    pub fn is_root(&self) -> bool {
        self.tenant.is_none()
    }
}

/// Tells who is asking.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The caller of a token that was checked before and is still good, from memory: the hot path
    /// asks this first, because a future behind a trait costs an allocation.
    fn recall(&self, _token: &str) -> Option<Arc<Caller>> {
        None
    }

    /// Checks a bearer token and says whose it is. Refusals are `Unauthenticated`.
    async fn authenticate(&self, token: &str) -> Result<Arc<Caller>, Refusal>;
}
