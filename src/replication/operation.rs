//! What a write asks for: the operation that travels in a log entry and is evaluated when it is
//! applied, the same on each replica.

use crate::domain::Timestamp;
use crate::domain::document::{Document, Node};
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;
use crate::expression::{Condition, Update};

/// What shall happen to the item.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The item becomes this document, whatever it was.
    Put(Document),
    /// The document is merged into the item that is there (JSON merge patch, RFC 7396); refused as
    /// not found where there is none.
    Merge(Document),
    /// The item goes; refused as not found where there is none.
    Delete,
    /// The item is changed by an expression, and made where there is none.
    Update(Box<Update>),
    /// The item goes, where there is one; no refusal where there is none.
    Remove,
}

/// What a write asks beside its change that only the item as it stands can tell: whether it may happen, and what is to be
/// told of the item before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditional {
    /// What must hold.
    pub condition: Option<Condition>,
    /// The item's key as attributes: expressions see them beside those that are stored.
    pub keys: Document,
    /// What is to be told of the item.
    pub images: Images,
    /// Bytes of the key, names and values: they are a part of the item's size.
    pub key_bytes: u32,
}

/// What the outcome of a write is to tell of the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Images {
    /// The item as it was.
    pub before: bool,
    /// The item as it is then.
    pub after: bool,
    /// The item as it is, where the condition did not hold.
    pub before_on_failure: bool,
    /// Of the item before or after an update only the attributes that the update names. What is remembered for a repeat is
    /// small then: a counter, and not the item that it stands in.
    pub touched_only: bool,
}

/// One of If-Match and If-None-Match (RFC 9110 §13.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagCondition {
    /// `*`: any version at all.
    Any,
    /// One of these versions.
    Versions(Vec<ItemVersion>),
}

/// What must hold for the write to happen; else it is refused as `PreconditionFailed`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preconditions {
    /// The item must be there in one of these versions.
    pub if_match: Option<TagCondition>,
    /// The item must not be there in any of these versions.
    pub if_none_match: Option<TagCondition>,
}

/// A request id that the client sent, and what was asked under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// Who asked: two principals may use the same Idempotency-Key without meeting.
    pub principal: PrincipalId,
    /// The Idempotency-Key, digested (the first 16 bytes of its SHA-256).
    pub request_id: RequestId,
    /// SHA-256 over method, path and body: the same id with another digest is refused.
    pub digest: [u8; 32],
}

/// By what a repeat of a write is known as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestIdentity {
    /// The client sent an id.
    Client(ClientRequest),
    /// The proxy made one, because it asks again where an answer does not come ([`super::request_id`]).
    Proxy(RequestId),
}

/// One write of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The item's key.
    pub key: PackedKey,
    /// What shall happen.
    pub change: Change,
    /// What must hold.
    pub preconditions: Preconditions,
    /// What else must hold, and what is to be told of the item; none costs nothing.
    pub conditional: Option<Box<Conditional>>,
    /// The request's id, where there is one.
    pub request: Option<RequestIdentity>,
    /// The receipt under which the outcome can be asked for, where the answer did not wait for it.
    pub receipt: Option<ReceiptId>,
}

impl Operation {
    /// Whether the item may take more room after it: all writes but those that take the item or only attributes of it away.
    pub fn may_grow(&self) -> bool {
        match &self.change {
            Change::Put(_) => true,
            Change::Merge(patch) => patch.entries().any(|(_, node)| node != Node::Null),
            // Where there is no item, every update makes one.
            Change::Update(_) => true,
            Change::Delete | Change::Remove => false,
        }
    }

    /// Whether the item goes.
    pub fn frees_space(&self) -> bool {
        matches!(self.change, Change::Delete | Change::Remove)
    }

    /// Bytes of the item, or of the part of one, that it brings, with the key; none where the item goes or is changed by an
    /// expression, of which the outcome tells.
    pub fn sent_bytes(&self) -> u64 {
        let size = match &self.change {
            Change::Put(document) | Change::Merge(document) => self.key_bytes() + document.item_size(),
            Change::Delete | Change::Update(_) | Change::Remove => 0,
        };
        size as u64
    }

    /// Bytes of the key, as they count for the size of the item.
    pub fn key_bytes(&self) -> usize {
        self.conditional.as_ref().map_or(self.key.len(), |conditional| conditional.key_bytes as usize)
    }
}

/// How a write ended. A refusal is final and remembered like any other outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The item was created; this is its version.
    Created(ItemVersion),
    /// The item was there and was changed; this is its new version.
    Updated(ItemVersion),
    /// The item was there and is gone.
    Deleted,
    /// There is no item to merge into or delete.
    NotFound,
    /// If-Match or If-None-Match did not hold.
    PreconditionFailed,
    /// The changed item would be larger, deeper or otherwise more than an item may be, or an expression makes no sense for
    /// the item as it stands: this says why, in words for the client.
    Invalid(String),
    /// The request id was used before with another request.
    RequestIdReused,
    /// The write was applied before under its request id, and how that ended is not known any more.
    RequestIdExpired,
    /// The proxy's request id was made too long before this time, the latest in the range's log, or too long after it: nobody knows
    /// whether the write happened before; this time it did not.
    RequestIdOutside(Timestamp),
    /// The condition did not hold.
    ConditionFailed(Box<ConditionFailed>),
    /// A write with a [`Conditional`], an [`Change::Update`] or a [`Change::Remove`] was done.
    Changed(Box<Changed>),
}

/// What is told of the item where a condition did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConditionFailed {
    /// The item as it is, where that was asked for and there is one.
    pub before: Option<Document>,
    /// Its size, key included; 0 where there is none.
    pub before_bytes: u32,
}

/// What is told of an item that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Changed {
    /// The item's new version; none where there is no item now.
    pub version: Option<ItemVersion>,
    /// Whether there was one before.
    pub existed: bool,
    /// The item as it was, where that was asked for and there was one.
    pub before: Option<Document>,
    /// The item as it is now, where that was asked for and there is one.
    pub after: Option<Document>,
    /// Its size before, key included; 0 where there was none.
    pub before_bytes: u32,
    /// Its size now, key included; 0 where there is none.
    pub after_bytes: u32,
}

impl Outcome {
    /// Whether the item is another by it.
    pub fn has_changed(&self) -> bool {
        match self {
            Outcome::Created(_) | Outcome::Updated(_) | Outcome::Deleted => true,
            Outcome::Changed(changed) => changed.version.is_some() || changed.existed,
            _ => false,
        }
    }

    /// Whether there is an item by it where there was none.
    pub fn has_created(&self) -> bool {
        match self {
            Outcome::Created(_) => true,
            Outcome::Changed(changed) => changed.version.is_some() && !changed.existed,
            _ => false,
        }
    }

    /// The size of the item before or after the write, whichever is the larger; none where the outcome does not tell.
    pub fn item_bytes(&self) -> Option<u64> {
        match self {
            Outcome::ConditionFailed(failed) => Some(u64::from(failed.before_bytes)),
            Outcome::Changed(changed) => Some(u64::from(changed.before_bytes.max(changed.after_bytes))),
            _ => None,
        }
    }

    /// Bytes of what it tells in a length of its own: the images and words in it.
    pub fn told_bytes(&self) -> usize {
        let bytes = |image: &Option<Document>| image.as_ref().map_or(0, |document| document.as_bytes().len());
        match self {
            Outcome::ConditionFailed(failed) => bytes(&failed.before),
            Outcome::Changed(changed) => bytes(&changed.before) + bytes(&changed.after),
            Outcome::Invalid(message) => message.len(),
            _ => 0,
        }
    }

    /// The same, as it can be kept long: its images in memory of their own.
    pub fn apart(mut self) -> Outcome {
        self.each_image(|image| *image = image.as_ref().map(Document::apart));
        self
    }

    /// The same without images.
    pub fn without_images(mut self) -> Outcome {
        self.each_image(|image| *image = None);
        self
    }

    fn each_image(&mut self, change: impl Fn(&mut Option<Document>)) {
        match self {
            Outcome::ConditionFailed(failed) => change(&mut failed.before),
            Outcome::Changed(changed) => {
                change(&mut changed.before);
                change(&mut changed.after);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deletes_and_removals_of_attributes_take_no_room() {
        let json = |text: &str| Document::from_json(text.as_bytes()).unwrap();
        for (change, may_grow) in [
            (Change::Put(json("{}")), true),
            (Change::Delete, false),
            (Change::Remove, false),
            (Change::Merge(json(r#"{"a":null,"b":null}"#)), false),
            (Change::Merge(json("{}")), false),
            (Change::Update(Box::default()), true),
            (Change::Merge(json(r#"{"a":null,"b":1}"#)), true),
            (Change::Merge(json(r#"{"a":{"b":null}}"#)), true),
        ] {
            let operation = Operation {
                key: PackedKey::hash_floor(7),
                change,
                preconditions: Preconditions::default(),
                conditional: None,
                request: None,
                receipt: None,
            };
            assert_eq!(operation.may_grow(), may_grow, "{:?}", operation.change);
        }
    }
}
