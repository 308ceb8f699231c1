//! A node's ranges as they are served: one with a group through its group, one without by the engine alone.
//!
//! A range with one replica has no group until a change of its members is asked for; then it has one for good. Which it
//! is, the replica says, at each request anew: it may change between two.
//!
//! Admission and sizes are the engine's for both, and come before anything is proposed: what has a place in a group's log is
//! never refused for want of room.
//!
//! A range that was split answers everything with the child that has the hash: before anything is asked of its group, and again
//! where the data is read, for it may be split in between.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::ids::ReceiptId;
use crate::domain::key::PackedKey;
use crate::domain::observed::Stage;
use crate::domain::{Refusal, RefusalKind};
use crate::replication::entry;
use crate::replication::operation::Operation;
use crate::services::engine::{Engine, receipt_hash};
use crate::services::group::awake::Purpose;
use crate::services::group::host::Groups;
use crate::services::observing;
use crate::services::ports::{
    Consistency, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use crate::services::ranges::wire::QUESTION_BYTES_MAX;
use crate::services::ranges::{RangeAddress, RangeService};

/// See the module's essay.
pub struct ReplicatedRanges {
    engine: Arc<Engine>,
    groups: Arc<Groups>,
}

impl ReplicatedRanges {
    /// The ranges of this engine, of which `groups` are those that have one.
    pub fn new(engine: Arc<Engine>, groups: Arc<Groups>) -> Self {
        Self { engine, groups }
    }
}

#[async_trait]
impl RangeService for ReplicatedRanges {
    async fn read(
        &self,
        address: RangeAddress,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        let replica = self.engine.replica_at(address, Some(key.hash()))?;
        if !replica.is_grouped() {
            return self.engine.read(address, key, consistency).await;
        }
        replica.check_split(key.hash())?;
        if consistency == Consistency::Eventual {
            self.groups.eventually(&replica).await?;
            observing::lap(Stage::Lead);
            return self.engine.read_applied(replica, key).await;
        }
        let read = |replica| {
            observing::lap(Stage::Lead);
            self.engine.read_applied(replica, key.clone())
        };
        self.groups.strongly(address.range, read).await
    }

    async fn write(
        &self,
        address: RangeAddress,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        let replica = self.engine.replica_at(address, Some(operation.key.hash()))?;
        if !replica.is_grouped() {
            return self.engine.write(address, operation, respond_async).await;
        }
        let hash = operation.key.hash();
        replica.check_split(hash)?;
        let group = self.groups.leading(address.range, Purpose::Request).await?;
        observing::lap(Stage::Lead);
        let _place = self.engine.admit_write(replica.name.tenant, &operation).await?;
        observing::lap(Stage::Admit);
        let payload = entry::encode(self.engine.clock().now(), &operation);
        if payload.len() > QUESTION_BYTES_MAX {
            // What a proxy sends is never larger. A message between nodes could not hold it, and the group would stand still.
            return Err(Refusal::new(RefusalKind::TooLarge, "the write is larger than a write may be"));
        }
        self.groups.write(group, hash, payload, operation.receipt, respond_async).await
    }

    async fn list(&self, address: RangeAddress, request: ListRequest) -> Result<Page, Refusal> {
        let replica = self.engine.replica_at(address, None)?;
        if !replica.is_grouped() {
            return self.engine.list(address, request).await;
        }
        replica.check_split(request.first_hash())?;
        if request.consistency == Consistency::Eventual {
            self.groups.eventually(&replica).await?;
            return self.engine.list_applied(replica, request).await;
        }
        self.groups.strongly(address.range, |replica| self.engine.list_applied(replica, request.clone())).await
    }

    /// What became of a write. Only the leader knows: it was confirmed after the question came and has applied an entry of its
    /// own term, so all of its predecessors that is not applied will never be; and what it answered itself is in its log. A
    /// receipt that it does not know is of a write that was lost, or was forgotten after its time.
    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        let replica = self.engine.replica_at(address, None)?;
        if !replica.is_grouped() {
            return self.engine.receipt(address, receipt).await;
        }
        replica.check_split(receipt_hash(receipt))?;
        let state = self.groups.strongly(address.range, |replica| async move {
            if self.groups.is_queued(address.range, receipt) {
                return Ok(Some(ReceiptState::Queued));
            }
            let known = self.engine.receipt_applied(replica, receipt).await?;
            Ok(Some(known.unwrap_or(ReceiptState::Lost)))
        });
        state.await
    }

    async fn stored(&self, address: RangeAddress, hash: u32, part: StoredPart) -> Result<Stored, Refusal> {
        let replica = self.engine.replica_at(address, Some(hash))?;
        if !replica.is_grouped() {
            return self.engine.stored(address, hash, part).await;
        }
        replica.check_split(hash)?;
        self.groups.strongly(address.range, |replica| self.engine.stored_applied(replica, hash, part.clone())).await
    }
}
