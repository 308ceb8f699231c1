//! The operations of one range, addressed by ids alone: what a proxy asks of a node, in one process
//! by a call, across processes over the inside listener. Names are resolved before this point and
//! never after it; a range or table id that does not fit is refused as `WrongNode`, never answered.
//!
//! [`wire`] is the same as bytes: questions and answers, for the server in `api` and the client in
//! [`super::items`].

pub mod wire;

use async_trait::async_trait;

use crate::domain::Refusal;
use crate::domain::ids::{RangeId, ReceiptId, TableId};
use crate::domain::key::PackedKey;
use crate::replication::operation::Operation;

use super::ports::{Consistency, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer};

/// Which range is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RangeAddress {
    /// The table's id: a table made anew under the same name has another.
    pub table: TableId,
    /// The range.
    pub range: RangeId,
}

/// Reads and writes within one range.
#[async_trait]
pub trait RangeService: Send + Sync + 'static {
    /// Reads one item.
    async fn read(
        &self,
        address: RangeAddress,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal>;
    /// Writes one item.
    async fn write(
        &self,
        address: RangeAddress,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal>;
    /// Reads one page of the range.
    async fn list(&self, address: RangeAddress, request: ListRequest) -> Result<Page, Refusal>;
    /// What became of a write answered early.
    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal>;
    /// How much of this part the range holds, of whose hashes this is one: where it was split, who has that hash is told.
    async fn stored(&self, address: RangeAddress, hash: u32, part: StoredPart) -> Result<Stored, Refusal>;
}
