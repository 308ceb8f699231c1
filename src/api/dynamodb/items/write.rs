//! One write of one item on its way to the range that has it, and what came of it. What it costs is noted here, the indexes of
//! its table included, whether or not the answer tells it.

use std::sync::Arc;

use super::indexed::Telling;
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::call::Call;
use crate::api::dynamodb::capacity::Consumed;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::ReturnConsumedCapacity;
use crate::api::dynamodb::table_lookup::ItemKey;
use crate::domain::document::Document;
use crate::domain::limits::ITEM_BYTES_MAX;
use crate::domain::local_index::{LocalIndex, bytes_with_entries};
use crate::domain::table::TableDefinition;
use crate::domain::{Refusal, RefusalKind};
use crate::expression::Condition;
use crate::replication::operation::{Change, Conditional, Images, Operation, Outcome, Preconditions};
use crate::services::ports::{Capability, WriteAnswer};

/// One write.
pub(super) struct Write {
    pub(super) key: ItemKey,
    pub(super) change: Change,
    pub(super) condition: Option<Condition>,
    /// What the client asks to be told of the item.
    pub(super) images: Images,
    /// Whether the answer tells what was consumed; the range must look at the item as it was for that.
    pub(super) capacity: ReturnConsumedCapacity,
}

/// What came of it.
pub(super) struct Written {
    /// The key attributes of the item.
    pub(super) keys: Document,
    /// The item as it was, where that was asked for and there was one; without its key.
    pub(super) before: Option<Document>,
    /// The item as it is now, where that was asked for and there is one; without its key.
    pub(super) after: Option<Document>,
    /// What it cost.
    pub(super) consumed: Consumed,
}

/// Why a write was not done.
pub(super) enum NotWritten {
    /// The service refused.
    Refused(Refusal),
    /// The condition did not hold.
    Failed(Failure),
    /// The item as it stands does not go with the change: this says why.
    Invalid(String),
}

impl From<NotWritten> for Failure {
    fn from(not_written: NotWritten) -> Failure {
        match not_written {
            NotWritten::Refused(refusal) => refusal.into(),
            NotWritten::Failed(failure) => failure,
            NotWritten::Invalid(text) => Failure::validation(text),
        }
    }
}

impl Write {
    /// A write without condition that tells nothing of the item.
    pub(super) fn plain(key: ItemKey, change: Change, capacity: ReturnConsumedCapacity) -> Self {
        Self { key, change, condition: None, images: Images::default(), capacity }
    }

    /// Whether the range must look at the item for it. It counts a plain put by its packed
    /// key, which has a few bytes more than the attributes of the key: an item close to the limit is sent with them.
    fn is_conditional(&self, indexes: &[LocalIndex]) -> bool {
        let bytes = |document: &Document| bytes_with_entries(indexes, self.key.packed.len(), document);
        let is_large = |document: &Document| bytes(document) > ITEM_BYTES_MAX;
        self.condition.is_some()
            || self.images != Images::default()
            || self.capacity != ReturnConsumedCapacity::None
            || match &self.change {
                Change::Update(_) => true,
                Change::Put(document) => is_large(document),
                Change::Merge(_) | Change::Delete | Change::Remove => false,
            }
    }

    /// Has it done, and notes what it cost.
    pub(super) async fn run(self, call: &Call<'_>, table: &Arc<TableDefinition>) -> Result<Written, NotWritten> {
        // Whoever may write and not read is not shown an item.
        if self.images != Images::default() {
            call.check(Capability::Read).map_err(NotWritten::Failed)?;
        }
        let key_bytes = self.key.attributes.item_size();
        let sent_bytes = match &self.change {
            Change::Put(document) => key_bytes + document.item_size(),
            _ => 0,
        };
        let indexes = &table.specification.local_indexes;
        let is_counted = self.capacity != ReturnConsumedCapacity::None;
        let telling = Telling::of(self.images, is_counted, &self.change, indexes);
        let is_conditional = self.is_conditional(indexes);
        let keys = self.key.attributes;
        let conditional = is_conditional.then(|| {
            Box::new(Conditional {
                condition: self.condition,
                keys: keys.clone(),
                images: telling.images(),
                key_bytes: u32::try_from(key_bytes).unwrap_or(u32::MAX),
            })
        });
        let operation = Operation {
            key: self.key.packed,
            change: self.change,
            preconditions: Preconditions::default(),
            conditional,
            request: None,
            receipt: None,
        };
        let answer = call.state.items.write(table, operation, false).await.map_err(NotWritten::Refused)?;
        let mut cost = answer.cost(sent_bytes as u64);
        let WriteAnswer::Applied(outcome) = answer else {
            call.note_cost(table, cost);
            let text = "a write was queued that nobody asked to be queued";
            return Err(NotWritten::Refused(Refusal::internal(text)));
        };
        let consumed = telling.consumed(&cost, &keys, &outcome);
        cost.write_units += (consumed.total() - consumed.table).div_ceil(2);
        call.note_cost(table, cost);
        ended(outcome, keys, consumed, &telling)
    }
}

/// What an outcome means to the client.
fn ended(outcome: Outcome, keys: Document, consumed: Consumed, telling: &Telling<'_>) -> Result<Written, NotWritten> {
    let written = |keys, before, after| Ok(Written { keys, before, after, consumed });
    match outcome {
        Outcome::Created(_) | Outcome::Updated(_) | Outcome::Deleted | Outcome::NotFound => written(keys, None, None),
        Outcome::Changed(changed) => {
            let (before, after) = telling.shown(changed.before, changed.after);
            written(keys, before, after)
        }
        Outcome::ConditionFailed(failed) => {
            let item = failed.before.map(|document| {
                let mut json = Vec::new();
                attribute_value::write_item(&document, Some(&keys), &mut json);
                json
            });
            Err(NotWritten::Failed(Failure::conditional_check_failed(item)))
        }
        Outcome::PreconditionFailed => Err(NotWritten::Failed(Failure::conditional_check_failed(None))),
        Outcome::Invalid(text) => Err(NotWritten::Invalid(text)),
        Outcome::RequestIdExpired | Outcome::RequestIdReused => {
            let text = "the write was under way for so long that nobody knows whether it happened; read the item";
            Err(NotWritten::Refused(Refusal::new(RefusalKind::OutcomeUnknown, text)))
        }
        Outcome::RequestIdOutside(_) => {
            let text = "the clocks of this cluster are more than a minute apart, and the write was not done; ask again";
            Err(NotWritten::Refused(Refusal::unavailable(text, 1)))
        }
    }
}
