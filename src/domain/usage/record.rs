//! What reporting keeps and exports: records that never change.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Component, NodeGauge, RangeGauge, UsageCounts, UsageKey};

/// The length of the interval of a record, in milliseconds: it begins at a multiple of this since 1970.
pub const RECORD_INTERVAL_MS: u64 = 10_000;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place among all records of this reporting, from 1; sinks keep how far they are by it.
    pub sequence: u64,
    /// Its name: the same for the same content, however often it is told, and nothing else has it.
    pub id: Uuid,
    /// The beginning of its interval, or when it happened, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it tells.
    pub body: RecordBody,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum RecordBody {
    /// What one component served of one kind within the interval.
    Usage(UsageRecord),
    /// How a range was, at the end of the interval.
    Range(RangeRecord),
    /// How a node was, at the end of the interval.
    Node(NodeRecord),
    /// A notice of control.
    Notice(EventRecord),
    /// Something that an admin did.
    AdminEvent(EventRecord),
}

/// What one component served of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Who counted.
    pub component: Component,
    /// The kind.
    pub key: UsageKey,
    /// The tenant's name, where it is known.
    pub tenant_name: Option<String>,
    /// The table's name, where it is known.
    pub table_name: Option<String>,
    /// What was counted.
    pub counts: UsageCounts,
}

/// How a range was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRecord {
    /// The node that led it.
    pub component: Component,
    /// How it was.
    pub gauge: RangeGauge,
    /// The tenant's name, where it is known.
    pub tenant_name: Option<String>,
    /// The table's name, where it is known.
    pub table_name: Option<String>,
}

/// How a node was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub component: Component,
    /// How it was.
    pub gauge: NodeGauge,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// What kind of thing, as one word.
    pub what: String,
    /// Whom it concerns.
    pub subject: String,
    /// In a sentence.
    pub message: String,
}
