//! The ranges that a node leads, as the storage engine and its groups have them.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ExpiringTables, LedRange, LedRanges};
use crate::domain::Refusal;
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;
use crate::replication::operation::{Change, Operation, Outcome, Preconditions, TagCondition};
use crate::services::engine::Engine;
use crate::services::group::ports::GroupOperations;
use crate::services::ports::{ListRequest, Page, WriteAnswer};
use crate::services::ranges::{RangeAddress, RangeService};

/// See the module's text.
pub struct NodeRanges {
    engine: Arc<Engine>,
    groups: Arc<dyn GroupOperations>,
    service: Arc<dyn RangeService>,
}

impl NodeRanges {
    /// The ranges of this engine, led by these groups where they have one, written through `service`.
    pub fn new(engine: Arc<Engine>, groups: Arc<dyn GroupOperations>, service: Arc<dyn RangeService>) -> Self {
        Self { engine, groups, service }
    }
}

#[async_trait]
impl LedRanges for NodeRanges {
    async fn led(&self, tables: &ExpiringTables) -> Result<Vec<LedRange>, Refusal> {
        let mut replicas = self.engine.replicas();
        replicas.retain(|replica| tables.contains_key(&replica.name.table));
        let groups = Arc::clone(&self.groups);
        let find = move || {
            let leads = |range| groups.status(range).is_some_and(|status| status.is_leader);
            let led = replicas.iter().filter(|replica| !replica.is_grouped() || leads(replica.name.range));
            let range = led.map(|replica| LedRange {
                address: RangeAddress { table: replica.name.table, range: replica.name.range },
                hashes: replica.hashes,
                applied_index: replica.applied_index(),
            });
            range.collect::<Vec<_>>()
        };
        let led = self.engine.workers().run(find).await;
        led.map_err(|_| Refusal::internal("looking for the ranges that are led here ended unexpectedly"))
    }

    async fn page(&self, range: RangeAddress, request: ListRequest) -> Result<Page, Refusal> {
        let replica = self.engine.replica_at(range, None)?;
        self.engine.list_applied(replica, request).await
    }

    async fn remove(&self, range: RangeAddress, key: PackedKey, version: ItemVersion) -> Result<bool, Refusal> {
        let if_match = Some(TagCondition::Versions(vec![version]));
        let operation = Operation {
            key,
            change: Change::Delete,
            preconditions: Preconditions { if_match, if_none_match: None },
            conditional: None,
            request: None,
            receipt: None,
        };
        let answer = self.service.write(range, operation, false).await?;
        Ok(answer == WriteAnswer::Applied(Outcome::Deleted))
    }
}
