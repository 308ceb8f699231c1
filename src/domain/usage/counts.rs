//! What is counted of requests, and by what it is kept apart.

use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::latency::LatencyHistogram;
use crate::domain::ids::{PrincipalId, TableId, TenantId};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$line:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$line])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word for it, in records, labels and tables.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.word())
            }
        }
    };
}

words! {
    /// What was asked for.
    UsageOperation {
        /// Reading one item.
        GetItem = "get-item",
        /// Replacing or making one.
        PutItem = "put-item",
        /// Changing a part of one.
        UpdateItem = "update-item",
        /// Deleting one.
        DeleteItem = "delete-item",
        /// Reading a page of a table.
        ListItems = "list-items",
        /// Asking what became of a write that was answered early.
        GetReceipt = "get-receipt",
        /// Anything on tables and tenants.
        Administer = "administer",
        /// Reading the items of one ID, in the protocol of DynamoDB.
        Query = "query",
        /// Reading a page of a table, in that protocol.
        Scan = "scan",
        /// Reading several items at once.
        BatchGetItem = "batch-get-item",
        /// Writing several at once.
        BatchWriteItem = "batch-write-item",
    }
}

words! {
    /// How it ended.
    UsageResult {
        /// As asked.
        Ok = "ok",
        /// There is no such item, table or tenant.
        NotFound = "not-found",
        /// A condition did not hold, or it conflicts with what is there.
        Conflict = "conflict",
        /// The request was wrong, or its sender may not.
        Refused = "refused",
        /// Over a limit of the tenant.
        Throttled = "throttled",
        /// The cluster could not.
        Failed = "failed",
    }
}

/// By what counts are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsageKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The table, where the request names one that is there.
    pub table: Option<TableId>,
    /// Who asked.
    pub principal: Option<PrincipalId>,
    /// What for.
    pub operation: UsageOperation,
    /// How it ended.
    pub result: UsageResult,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageCounts {
    /// Requests.
    pub requests: u64,
    /// Bytes of items that were read, as their size is defined for limits.
    pub read_bytes: u64,
    /// Bytes of items that were written.
    pub written_bytes: u64,
    /// Read capacity in half units: an eventual read of up to 4 KiB takes one, a strong one two.
    pub read_half_units: u64,
    /// Write capacity in units: one for each KiB of the larger of the item before and after, begun ones counted.
    pub write_units: u64,
    /// How long they took, from the head of the request to the answer.
    pub latency: LatencyHistogram,
}

impl UsageCounts {
    /// One more request, which took so many microseconds.
    pub fn add(&mut self, cost: &Cost, micros: u64) {
        self.requests += 1;
        self.read_bytes += cost.read_bytes;
        self.written_bytes += cost.written_bytes;
        self.read_half_units += cost.read_half_units;
        self.write_units += cost.write_units;
        self.latency.add(micros);
    }

    /// All of another one, too.
    pub fn merge(&mut self, other: &Self) {
        let add = |own: &mut u64, more: u64| *own = own.saturating_add(more);
        add(&mut self.requests, other.requests);
        add(&mut self.read_bytes, other.read_bytes);
        add(&mut self.written_bytes, other.written_bytes);
        add(&mut self.read_half_units, other.read_half_units);
        add(&mut self.write_units, other.write_units);
        self.latency.merge(&other.latency);
    }
}
