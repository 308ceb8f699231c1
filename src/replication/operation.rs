//! What a write asks for: the operation that travels in a log entry and is evaluated when it is
//! applied, the same on each replica.

use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;

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
    /// The request's id, where there is one.
    pub request: Option<RequestIdentity>,
    /// The receipt under which the outcome can be asked for, where the answer did not wait for it.
    pub receipt: Option<ReceiptId>,
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
    /// The merged item would be larger, deeper or otherwise more than an item may be.
    Invalid(String),
    /// The request id was used before with another request.
    RequestIdReused,
    /// The write was applied before under the proxy's request id, and how that ended is not known any more.
    RequestIdExpired,
    /// The proxy's request id was made too long before this time, the latest in the range's log, or too long after it: nobody knows
    /// whether the write happened before; this time it did not.
    RequestIdOutside(Timestamp),
}
