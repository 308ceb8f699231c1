//! One interval of one component, as it is kept on its disk and sent to whoever collects.
//!
//! It is JSON, one object: what is sent is little, read seldom, and grows fields with time. A reader passes over fields that it does not
//! know; a field that is not there is nothing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::counts::{Counts, Latencies};
use super::key::{Named, UsageKey};
use crate::domain::Timestamp;
use crate::domain::ids::{RangeId, ReplicaId, Role};

/// Who counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Component {
    /// What it is.
    pub role: Role,
    /// Its id at the control plane.
    pub id: Uuid,
}

/// The name of a batch. No two batches have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchId {
    /// Who counted.
    pub component: Component,
    /// The component's start: random, another one each time.
    pub boot: u64,
    /// The interval within it, from 1 on.
    pub interval: u64,
}

/// What was counted in one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageBatch {
    /// Its name.
    pub id: BatchId,
    /// When the interval began and ended, by the component's clock.
    pub from: Timestamp,
    /// See `from`.
    pub to: Timestamp,
    /// Whether the boot ended with it as planned: where a later boot follows one without such an end, up to the last second of that
    /// one is missing.
    #[serde(default)]
    pub is_last: bool,
    /// Requests of clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<UsageRow>,
    /// Copies of ranges whose numbers have changed, as they are at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeUsage>,
    /// The node as a whole, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeUsage>,
}

/// Requests of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Whose, and which.
    #[serde(flatten)]
    pub key: UsageKey,
    /// How many, and what they took.
    #[serde(flatten)]
    pub counts: Counts,
}

/// One copy of a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeUsage {
    /// The range.
    pub range: RangeId,
    /// The copy.
    pub replica: ReplicaId,
    /// Whose it is.
    pub tenant: Named,
    /// Of which table.
    pub table: Named,
    /// Whether it leads: sums over a table take leaders alone.
    pub leads: bool,
    /// Items.
    pub items: u64,
    /// Bytes of its file.
    pub stored_bytes: u64,
    /// Bytes of its log that are kept.
    #[serde(default)]
    pub log_bytes: u64,
    /// Entries that it has not applied.
    #[serde(default)]
    pub lag_entries: u64,
    /// It is not here any more: it is to be left out of sums.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_gone: bool,
}

/// A node as a whole. Counters count from the start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeUsage {
    /// Its disk.
    pub disk: DiskUsage,
    /// Pages that were found in a cache, and that were not.
    pub page_hits: u64,
    /// See `page_hits`.
    pub page_misses: u64,
    /// For how long the oldest write waits that has not reached its file, microseconds.
    pub queue_age_micros: u64,
    /// Writes that were refused because memory, log or disk were full.
    pub rejections: u64,
    /// How long syncs of the commit log took.
    pub syncs: Latencies,
}

/// The file system of a node's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskUsage {
    /// Bytes in all.
    pub capacity_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
}

impl UsageBatch {
    /// As it is kept and sent.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What was encoded.
    ///
    /// # Errors
    /// Where it is no batch; the message names line and column, never what stands there.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// For the fuzzer: any bytes are a batch or none, and what is one is the same after a round.
#[doc(hidden)]
pub fn fuzz_usage_batch(bytes: &[u8]) {
    if let Ok(batch) = UsageBatch::decode(bytes) {
        assert_eq!(UsageBatch::decode(&batch.encode()).ok(), Some(batch));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Sample};
    use super::*;

    fn batch() -> UsageBatch {
        let mut counts = Counts::default();
        counts.note(&Sample { request_bytes: 10, micros: 300, write_units: 1, ..Sample::default() });
        let named = |number: u8, name: &str| Named::new(Uuid::from_bytes([number; 16]), name);
        let key = UsageKey {
            tenant: Some(named(1, "acme")),
            table: Some(named(2, "things")),
            principal: None,
            operation: "put_item".into(),
            outcome: Outcome::Success,
        };
        let component = Component { role: Role::Proxy, id: Uuid::from_bytes([3; 16]) };
        UsageBatch {
            id: BatchId { component, boot: 4, interval: 5 },
            from: Timestamp(1000),
            to: Timestamp(2000),
            is_last: false,
            usage: vec![UsageRow { key, counts }],
            ranges: Vec::new(),
            node: None,
        }
    }

    #[test]
    fn a_batch_is_the_same_after_a_round() {
        assert_eq!(UsageBatch::decode(&batch().encode()).unwrap(), batch());
        fuzz_usage_batch(&batch().encode());
        fuzz_usage_batch(b"{");
    }

    /// What is on disks and in other versions' hands: a changed line here is a changed format.
    #[test]
    fn the_encoding_is_pinned() {
        let expected = concat!(
            r#"{"id":{"component":{"role":"proxy","id":"03030303-0303-0303-0303-030303030303"},"boot":4,"interval":5},"#,
            r#""from":1000,"to":2000,"is_last":false,"usage":[{"tenant":{"id":"01010101-0101-0101-0101-010101010101","name":"acme"},"#,
            r#""table":{"id":"02020202-0202-0202-0202-020202020202","name":"things"},"operation":"put_item","outcome":"success","#,
            r#""requests":1,"request_bytes":10,"response_bytes":0,"read_half_units":0,"write_units":1,"#,
            r#""latencies":{"buckets":[0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"sum_micros":300}}]}"#,
        );
        assert_eq!(String::from_utf8(batch().encode()).unwrap(), expected);
        let newer = expected.replacen(r#""from""#, r#""later_field":7,"from""#, 1);
        assert_eq!(UsageBatch::decode(newer.as_bytes()).unwrap(), batch(), "fields that are not known are passed over");
    }
}
