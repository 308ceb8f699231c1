//! What sinks get.
//!
//! A record's id follows from what it is about and nothing else ([`RecordId`]), so the same record has the same id however often it is
//! made and sent. Records of what components counted never change. Those of roll-ups do, where a component was away and its counts came late:
//! then the same id is sent again with larger sums and a higher revision, and replaces the one before.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::domain::usage::{Component, Counts, NodeUsage, RangeUsage, UsageKey};

/// The name of a record: a UUID of version 8 (RFC 9562) over a digest of what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(pub Uuid);

impl RecordId {
    /// The id of a record of this kind about what these parts say together.
    pub fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.finalize()[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportRecord {
    /// Its name.
    pub id: RecordId,
    /// Grows where a record is sent anew with other content; 1 at first.
    pub revision: u64,
    /// The beginning of the time it is about; of a notice or an event, when it happened.
    pub from: Timestamp,
    /// The end of it.
    pub to: Timestamp,
    /// What it says.
    #[serde(flatten)]
    pub content: Content,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// Requests of one key.
    Usage(UsageContent),
    /// A copy of a range, as it was at the end of the time.
    Range {
        /// Whose node it is on.
        component: Component,
        /// How it was.
        #[serde(flatten)]
        range: RangeUsage,
    },
    /// A node as a whole, at the end of the time.
    Node {
        /// Which.
        component: Component,
        /// How it was.
        #[serde(flatten)]
        node: NodeUsage,
    },
    /// A notice: something a person should know. Exported where asked for.
    Notice(EventContent),
    /// A change that somebody made through the admin API. Exported where asked for.
    AdminEvent(EventContent),
}

impl Content {
    /// The kind's name in records, tables and settings.
    pub fn kind(&self) -> &'static str {
        match self {
            Content::Usage(_) => "usage",
            Content::Range { .. } => "range",
            Content::Node { .. } => "node",
            Content::Notice(_) => "notice",
            Content::AdminEvent(_) => "admin_event",
        }
    }
}

/// Requests of one key in one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageContent {
    /// The length of the interval in seconds: 10 as counted, 60 and 3600 rolled up.
    pub resolution_seconds: u32,
    /// Who counted; none in roll-ups, which are over all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
    /// The component's start, see [`crate::domain::usage::BatchId`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<u64>,
    /// Whose, and which.
    #[serde(flatten)]
    pub key: UsageKey,
    /// How many, and what they took.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A notice, or an event of the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventContent {
    /// What it is about, as `dstore control` shows it.
    pub subject: String,
    /// What happened, for people. Holds no keys and no values of items.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_all_parts_and_from_where_they_end() {
        let id = RecordId::of("usage", &[b"ab", b"c"]);
        assert_eq!(id, RecordId::of("usage", &[b"ab", b"c"]));
        assert_ne!(id, RecordId::of("usage", &[b"a", b"bc"]));
        assert_ne!(id, RecordId::of("node", &[b"ab", b"c"]));
        assert_eq!(id.0.get_version_num(), 8);
    }
}
