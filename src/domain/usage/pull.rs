//! What reporting says to a component that counts, and what it gets: batches, in their order, until it has them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Component, UsageBatch};

/// Asks for batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsagePull {
    /// The last batch of this component that who asks holds for good; none, or one that is not known: from the oldest kept on.
    pub acknowledged: Option<KeptUpTo>,
    /// Batches to be given, at most.
    pub batches_max: u32,
}

/// The name of a batch among those of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptUpTo {
    /// The start of its process.
    pub boot: Uuid,
    /// Its number within that start.
    pub interval: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsagePulled {
    /// Who counted.
    pub component: Component,
    /// Those after the acknowledged one, oldest first.
    pub batches: Vec<UsageBatch>,
    /// Batches that were thrown away because their disk space was used up before everyone had them; ever more.
    pub dropped: u64,
}
