//! What services answer when they do not do as asked. A refusal says what was wrong and what to do
//! about it, in words fit for the person who asked; `api/error.rs` alone knows which HTTP status
//! and problem type each kind becomes. A bug panics; a refusal returns.

use super::hash::HashRange;
use super::ids::{NodeId, RangeId};

/// The families of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request makes no sense as it stands.
    BadInput,
    /// No valid credential came with it.
    Unauthenticated,
    /// The credential is valid but may not do this.
    Denied,
    /// No such thing, or not for this caller to know of.
    NotFound,
    /// A thing of this name is there already, with another definition.
    Conflict,
    /// If-Match or If-None-Match did not hold.
    PreconditionFailed,
    /// Larger than a limit allows.
    TooLarge,
    /// The body's media type is not understood.
    UnsupportedMediaType,
    /// This node does not hold the key; `location` names who does, where it is known.
    WrongNode,
    /// An Idempotency-Key came back with another request.
    RequestIdReused,
    /// The request took too long to arrive.
    TooSlow,
    /// Too many requests; try again after `retry_after_seconds`.
    Throttled,
    /// The tenant stores as much as it may: reads and deletes go on.
    StorageFull,
    /// Cannot be served now; try again after `retry_after_seconds`.
    Unavailable,
    /// The write may or may not have happened; ask again under the same Idempotency-Key.
    OutcomeUnknown,
    /// Stored data is damaged.
    Damaged,
    /// A fault of the server's own.
    Internal,
}

/// Who has a key of a range that was split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedTo {
    /// The range.
    pub range: RangeId,
    /// Its hashes.
    pub hashes: HashRange,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// The family.
    pub kind: RefusalKind,
    /// One or two sentences for the caller: what was wrong, and what to do.
    pub message: String,
    /// Where to go instead (`WrongNode`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The node to ask instead (`WrongNode`), for components, which know where each node is reached; a hint, which may be
    /// old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeId>,
    /// The range to ask instead, at the same node first (`WrongNode`): the one that was asked is split. Nothing was done.
    /// For components; in JSON it does not travel.
    #[serde(skip)]
    pub moved: Option<MovedTo>,
    /// The node was not reached, and nothing happened there: another copy of the range may be asked at once. Only for who
    /// asked; it does not travel.
    #[serde(skip)]
    pub unreached: bool,
    /// When to try again (`Throttled`, `Unavailable`), in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl Refusal {
    /// A refusal of this kind with this message.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            location: None,
            leader: None,
            moved: None,
            unreached: false,
            retry_after_seconds: None,
        }
    }

    /// The request makes no sense as it stands.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::BadInput, message)
    }

    /// No such thing, or not for this caller to know of.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::NotFound, message)
    }

    /// There already, and different.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Conflict, message)
    }

    /// Not at this node; `leader` is the one to ask, where it is known.
    pub fn wrong_node(message: impl Into<String>, leader: Option<NodeId>) -> Self {
        Self { leader, ..Self::new(RefusalKind::WrongNode, message) }
    }

    /// The range was split, and this part of it has the key.
    pub fn moved(to: MovedTo) -> Self {
        Self { moved: Some(to), ..Self::new(RefusalKind::WrongNode, "this part of the table was split") }
    }

    /// Not now; try again after so many seconds.
    pub fn unavailable(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self { retry_after_seconds: Some(retry_after_seconds), ..Self::new(RefusalKind::Unavailable, message) }
    }

    /// A fault of the server's own. The message must hold nothing secret.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Internal, message)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
