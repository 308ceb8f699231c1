//! The engine as a [`RangeService`]: what proxies ask, and what the node itself serves.

use std::sync::Arc;

use arc_swap::Guard;
use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::Refusal;
use crate::domain::ids::{ReceiptId, TenantId};
use crate::domain::key::PackedKey;
use crate::domain::limits::ITEM_BYTES_MAX;
use crate::domain::observed::Stage;
use crate::domain::refusal::RefusalKind;
use crate::replication::entry;
use crate::replication::operation::{Change, Operation};
use crate::services::observing;
use crate::services::ports::{
    Consistency, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use crate::services::ranges::{RangeAddress, RangeService};
use crate::storage::log::KeyOwner;
use crate::storage::log::{Append, AppendRefused, Record, RecordKind};
use crate::storage::store::StoreError;

use super::admission::{Place, StorageGate};
use super::apply_stage::{Answered, Proposal, Reply};
use super::companion::Companion;
use super::opening::Engine;
use super::replica::{Peek, Replica};
use super::scan;
use super::splitting::receipt_hash;

/// How long a write waits for memory or the log to have room before it is refused.
const ROOM_WAIT: std::time::Duration = std::time::Duration::from_secs(15);

#[async_trait]
impl RangeService for Engine {
    async fn read(
        &self,
        address: RangeAddress,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        let replica = self.lone_replica(address, Some(key.hash()))?;
        if consistency == Consistency::Strong && !replica.is_caught_up() {
            replica.caught_up().await;
            check_health(&replica)?;
        }
        self.read_applied(replica, key).await
    }

    async fn write(
        &self,
        address: RangeAddress,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        let replica = self.lone_replica(address, Some(operation.key.hash()))?;
        let frees_space = operation.frees_space();
        check_size(&operation)?;
        self.admit_tenant(replica.name.tenant, &operation)?;
        let _place = self.admission().admit(frees_space)?;
        let deadline = Instant::now() + ROOM_WAIT;
        if self.flusher().is_over_hard_budget() && !frees_space {
            self.wait_for_memory(deadline).await?;
        }
        observing::lap(Stage::Admit);
        let answer = loop {
            match self.propose(&replica, operation.clone(), respond_async, frees_space) {
                Ok(answer) => break answer,
                Err(AppendRefused::Busy) => self.wait_for_log(deadline).await?,
                Err(AppendRefused::OverBudget) => self.wait_for_flush(deadline).await?,
                Err(_) if replica.is_pausing() => return Err(becoming_a_group()),
                Err(refused) => return Err(refusal_of(refused)),
            }
        };
        let (answer, durable) = answer.await.map_err(|_| {
            Refusal::new(
                RefusalKind::OutcomeUnknown,
                "the node stopped while the write was under way: ask again under the same Idempotency-Key",
            )
        })?;
        observing::lap_until(Stage::Commit, Some(durable));
        observing::lap(Stage::Apply);
        answer
    }

    async fn list(&self, address: RangeAddress, request: ListRequest) -> Result<Page, Refusal> {
        let replica = self.lone_replica(address, None)?;
        if request.consistency == Consistency::Strong && !replica.is_caught_up() {
            replica.caught_up().await;
            check_health(&replica)?;
        }
        self.list_applied(replica, request).await
    }

    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        let replica = self.lone_replica(address, None)?;
        self.receipt_applied(replica, receipt).await
    }

    async fn stored(&self, address: RangeAddress, hash: u32, part: StoredPart) -> Result<Stored, Refusal> {
        let replica = self.lone_replica(address, Some(hash))?;
        if !replica.is_caught_up() {
            replica.caught_up().await;
            check_health(&replica)?;
        }
        self.stored_applied(replica, hash, part).await
    }
}

/// What a group's replica is asked for, once its group has said that it may answer.
impl Engine {
    /// The replica of a range, alone or a member of a group.
    ///
    /// # Errors
    /// `WrongNode` where it is not here or does not hold this hash; `Damaged` where it is out of service.
    pub fn replica_at(&self, address: RangeAddress, hash: Option<u32>) -> Result<Arc<Replica>, Refusal> {
        self.replica(address, hash)
    }

    /// An item as this replica has applied it.
    ///
    /// # Errors
    /// Where the file cannot be read; `WrongNode` with the child where the range was split. So for the next two.
    pub async fn read_applied(&self, replica: Arc<Replica>, key: PackedKey) -> Result<Option<StoredItem>, Refusal> {
        replica.check_split(key.hash())?;
        let found = replica.peek(&key);
        observing::lap(Stage::Memory);
        match found {
            Peek::Known(item) => Ok(item),
            Peek::AskStore(flushes) => self.blocking(replica, move |replica| replica.read_store(&key, flushes)).await,
        }
    }

    /// A page as this replica has applied it.
    ///
    /// # Errors
    /// Where the file cannot be read; `BadInput` where the table has no such index.
    pub async fn list_applied(&self, replica: Arc<Replica>, request: ListRequest) -> Result<Page, Refusal> {
        replica.check_split(request.first_hash())?;
        if let Some(position) = request.index {
            check_index(&replica, position)?;
        }
        self.blocking(replica, move |replica| scan::page(replica, &request)).await
    }

    /// How much this replica has applied and stores of this part.
    ///
    /// # Errors
    /// Where the file cannot be read; `WrongNode` with the child of this hash where the range was split; `BadInput` where the
    /// table has no such index.
    pub async fn stored_applied(&self, replica: Arc<Replica>, hash: u32, part: StoredPart) -> Result<Stored, Refusal> {
        replica.check_split(hash)?;
        let written = match part {
            StoredPart::Index(position) => {
                check_index(&replica, position)?;
                return self.blocking(replica, move |replica| replica.stored_in_index(position)).await;
            }
            StoredPart::Collection(prefix) => {
                return self.blocking(replica, move |replica| replica.stored_in_collection(&prefix)).await;
            }
            StoredPart::Table => match replica.stored_known() {
                Some(known) => known,
                None => self.blocking(replica, |replica| replica.stored()).await?,
            },
        };
        Ok(Stored { items: written.items, bytes: written.bytes })
    }

    /// What this replica knows of a receipt.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn receipt_applied(
        &self,
        replica: Arc<Replica>,
        receipt: ReceiptId,
    ) -> Result<Option<ReceiptState>, Refusal> {
        replica.check_split(receipt_hash(receipt))?;
        self.blocking(replica, move |replica| replica.receipt(receipt)).await
    }

    /// Takes a place for a write that is to be proposed to a group, and waits for memory to have room. The place is
    /// kept until the write is answered.
    ///
    /// # Errors
    /// `TooLarge` where the item is; `StorageFull` where the tenant may store no more; `Unavailable` where queue, memory or
    /// disk are full. Deletes pass a full tenant and a full disk.
    pub async fn admit_write(&self, tenant: TenantId, operation: &Operation) -> Result<Place<'_>, Refusal> {
        let frees_space = operation.frees_space();
        check_size(operation)?;
        self.admit_tenant(tenant, operation)?;
        let place = self.admission().admit(frees_space)?;
        if self.flusher().is_over_hard_budget() && !frees_space {
            self.wait_for_memory(Instant::now() + ROOM_WAIT).await?;
        }
        Ok(place)
    }

    /// Has this asked before a tenant's writes that may take room.
    pub fn ask_before_writes(&self, gate: StorageGate) {
        self.admission().ask_before_writes(gate);
    }

    fn admit_tenant(&self, tenant: TenantId, operation: &Operation) -> Result<(), Refusal> {
        if operation.may_grow() { self.admission().admit_tenant(tenant) } else { Ok(()) }
    }

    /// The replica of a range that has no other. A member of a group is asked through its group.
    fn lone_replica(&self, address: RangeAddress, hash: Option<u32>) -> Result<Arc<Replica>, Refusal> {
        let replica = self.replica(address, hash)?;
        if replica.is_grouped() { Err(becoming_a_group()) } else { Ok(replica) }
    }
}

fn becoming_a_group() -> Refusal {
    Refusal::unavailable("the range is about to get more replicas; try again in a moment", 1)
}

impl Engine {
    /// Gives the operation the range's next index and hands it to the log.
    fn propose(
        &self,
        replica: &Arc<Replica>,
        operation: Operation,
        when_durable: bool,
        urgent: bool,
    ) -> Result<oneshot::Receiver<Answered>, AppendRefused> {
        let (sender, receiver) = oneshot::channel();
        let time = self.clock().now();
        let payload = entry::encode(time, &operation);
        let receipt = operation.receipt;
        let sequenced = replica.sequence(receipt, |index| {
            let record = Record {
                range: replica.name.range,
                owner: KeyOwner::Tenant(replica.name.tenant),
                kind: RecordKind::Entry,
                term: 1,
                index,
                payload,
            };
            let proposal = Proposal {
                replica: Arc::clone(replica),
                index,
                time,
                operation,
                reply: Reply { sender, when_durable },
            };
            self.log()
                .append_one(Append { record, urgent, companion: Companion::Proposal(proposal) })
                .map_err(|refused| refused.reason)
        });
        sequenced.unwrap_or(Err(AppendRefused::Failed))?;
        Ok(receiver)
    }

    async fn wait_for_log(&self, deadline: Instant) -> Result<(), Refusal> {
        let log = Guard::into_inner(self.log());
        tokio::time::timeout_at(deadline, log.room(ITEM_BYTES_MAX))
            .await
            .map_err(|_| Refusal::unavailable("the commit log cannot keep up; try again in a moment", 1))
    }

    /// Waits until memory is below its budget again.
    async fn wait_for_memory(&self, deadline: Instant) -> Result<(), Refusal> {
        loop {
            let progress = self.flusher().progress();
            tokio::pin!(progress);
            // Before the look: what is flushed between the two is not missed.
            progress.as_mut().enable();
            if !self.flusher().is_over_hard_budget() {
                return Ok(());
            }
            tokio::time::timeout_at(deadline, progress).await.map_err(|_| {
                Refusal::unavailable("memory is full of writes that are on their way to disk; try again in a moment", 1)
            })?;
        }
    }

    /// The log is full of what is not in files yet: has it flushed, and waits for a piece of that.
    async fn wait_for_flush(&self, deadline: Instant) -> Result<(), Refusal> {
        let progress = self.flusher().progress();
        tokio::pin!(progress);
        progress.as_mut().enable();
        self.flusher().ask_for_durability();
        tokio::time::timeout_at(deadline, progress)
            .await
            .map_err(|_| Refusal::unavailable("the commit log is full; try again in a moment", 1))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        replica: Arc<Replica>,
        work: impl FnOnce(&Replica) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let read = self.readers.run(move || {
            let result = work(&replica);
            (replica, result)
        });
        let (replica, result) = read.await?;
        observing::lap(Stage::File);
        result.map_err(|error| self.read_failed(&replica, &error))
    }

    fn read_failed(&self, replica: &Replica, error: &StoreError) -> Refusal {
        tracing::error!(range = %replica.name.range, replica = %replica.name.replica, %error, "a read failed");
        match error {
            StoreError::Damaged(detail) => {
                self.notices().write(format!("the file of replica {} is damaged: {detail}", replica.name.replica));
                Refusal::new(
                    RefusalKind::Damaged,
                    "the stored data for this key is damaged; the operator has been told",
                )
            }
            StoreError::Key(_) => Refusal::unavailable("the keys for this data are not available at present", 5),
            StoreError::Full | StoreError::SyncFailed(_) | StoreError::Failed(_) => {
                Refusal::unavailable("the data cannot be read at present", 1)
            }
        }
    }
}

fn check_health(replica: &Replica) -> Result<(), Refusal> {
    match replica.damage() {
        Some(reason) => Err(Refusal::new(RefusalKind::Damaged, reason)),
        None => Ok(()),
    }
}

/// Refuses what is asked of an index that the table does not have.
fn check_index(replica: &Replica, position: u8) -> Result<(), Refusal> {
    replica.index(position).map(|_| ()).map_err(|error| Refusal::bad_input(error.to_string()))
}

/// Refuses what no log may hold: an item that is too large, and expressions that nobody could read again.
fn check_size(operation: &Operation) -> Result<(), Refusal> {
    let condition = operation.conditional.as_ref().and_then(|conditional| conditional.condition.as_ref());
    if condition.is_some_and(|condition| !condition.within_limits()) {
        return Err(Refusal::bad_input("the condition is larger or deeper than conditions may be"));
    }
    match &operation.change {
        Change::Update(update) if !update.within_limits() => {
            Err(Refusal::bad_input("the update is larger or deeper than updates may be"))
        }
        Change::Put(document) if document.item_size() + operation.key_bytes() > ITEM_BYTES_MAX => Err(Refusal::new(
            RefusalKind::TooLarge,
            format!(
                "the item has {} bytes and may have {ITEM_BYTES_MAX}: store less in one item",
                document.item_size()
            ),
        )),
        _ => Ok(()),
    }
}

fn refusal_of(refused: AppendRefused) -> Refusal {
    match refused {
        AppendRefused::Busy | AppendRefused::OverBudget => {
            Refusal::unavailable("the commit log is full; try again in a moment", 1)
        }
        AppendRefused::DiskFull => {
            Refusal::unavailable("this node's disk is full: it serves reads and takes deletes, but no other writes", 10)
        }
        AppendRefused::TooLarge => {
            Refusal::new(RefusalKind::TooLarge, "the write is larger than a segment of the commit log")
        }
        AppendRefused::KeyUnavailable => Refusal::unavailable("the tenant's keys are not available at this node", 5),
        // Refused before it was written: surely not taken.
        AppendRefused::Failed => {
            Refusal::unavailable("this node's disk failed; it is starting again from what the disk has", 1)
        }
        AppendRefused::Closed => Refusal::unavailable("this node is stopping", 1),
    }
}
