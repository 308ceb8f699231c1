//! What tenants use, counted where clients are answered, and kept until reporting has it.
//!
//! | module | what |
//! |---|---|
//! | [`meter`] | counting while requests are served |
//! | [`counting`] | a batch a second, from what was counted, into the spool |
//! | [`spool`] | batches on disk |
//! | [`tenants`] | counters of the tenants that ask the most, for `/metrics` |
//!
//! Requests are never held up: they count into memory, and a disk that is slow, full or gone delays the spool alone. What a
//! batch is, and how it is named, stands in [`crate::domain::usage`].

pub mod counting;
mod keeper;
pub mod meter;
pub mod spool;
pub mod tenants;

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::Refusal;
use crate::domain::usage::{NodeGauge, RangeGauge, UsagePull, UsagePulled};

pub use counting::{Usage, UsageParts, UsageSettings};
pub use meter::{Meter, Served, Whose};

/// A component that counts, for reporting.
#[async_trait]
pub trait UsageSource: Send + Sync + 'static {
    /// Takes note of what this reporter holds, and gives it what comes next.
    ///
    /// # Errors
    /// `Unavailable` where the disk does not answer; ask again.
    async fn pull(&self, reporter: Uuid, pull: UsagePull) -> Result<UsagePulled, Refusal>;
}

/// How a node and its ranges are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// The node.
    pub node: NodeGauge,
    /// Those of the ranges led from it whose turn it is.
    pub ranges: Vec<RangeGauge>,
    /// The names of their tenants and tables.
    pub names: BTreeMap<Uuid, String>,
}

/// Tells how a node and its ranges are.
pub trait Gauges: Send + Sync + 'static {
    /// Looks. Blocks.
    fn look(&self) -> Looked;
}
