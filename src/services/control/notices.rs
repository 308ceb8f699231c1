//! Notices: what a node or control wants a person to know. They stand under `notice/{uuid}/…`, written
//! by the component they name; control lists them, counts repeats, and removes what was acknowledged,
//! is older than seven days, or is more than a thousand of one component.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::coordination::values::{Notice, from_json};
use crate::coordination::{Operation, batches, layout};
use crate::domain::ids::NodeId;
use crate::domain::{Refusal, Timestamp};

use crate::services::notices::NOTICES_MAX;

use super::history::refusal;
use super::plane::ControlPlane;

/// How long they are kept, in seconds.
pub const NOTICE_SECONDS: u64 = 7 * 24 * 3600;

/// A notice, with how often it was repeated.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NoticeEntry {
    /// Whose: a node's UUID, or the control plane's.
    pub component: Uuid,
    /// The newest of its kind: when, and which (the last part of its key).
    pub timestamp: String,
    /// How often the same was said.
    pub count: u64,
    /// What happened and what to do.
    pub details: String,
}

impl ControlPlane {
    /// Notices of all components or of one, newest first, equal ones counted together.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn notice_list(&self, component: Option<Uuid>) -> Result<Vec<NoticeEntry>, Refusal> {
        let prefix = component.map_or(layout::NOTICES.to_owned(), |id| layout::node_notices(NodeId(id)));
        let listing = self.coordinator.list(&prefix).await.map_err(refusal)?;
        let mut entries: BTreeMap<(Uuid, String), NoticeEntry> = BTreeMap::new();
        for entry in &listing.entries {
            let (Some((node, timestamp)), Ok(notice)) =
                (layout::parse_notice(&entry.key), from_json::<Notice>(&entry.value))
            else {
                tracing::warn!(key = %entry.key, "a notice that cannot be read");
                continue;
            };
            let seen = entries.entry((node.0, notice.details.clone())).or_insert_with(|| NoticeEntry {
                component: node.0,
                timestamp: String::new(),
                count: 0,
                details: notice.details.clone(),
            });
            seen.count += notice.count;
            // Keys are in order of time, so the last one seen is the newest.
            seen.timestamp = timestamp.to_owned();
        }
        let mut entries: Vec<NoticeEntry> = entries.into_values().collect();
        entries.sort_by(|left, right| right.timestamp.cmp(&left.timestamp));
        Ok(entries)
    }

    /// Acknowledges notices of a component up to a timestamp (all of them where none is given): they are
    /// removed. How many.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn notice_acknowledge(&self, component: Uuid, up_to: Option<&str>) -> Result<usize, Refusal> {
        let prefix = layout::node_notices(NodeId(component));
        let listing = self.coordinator.list(&prefix).await.map_err(refusal)?;
        let wanted = |key: &str| up_to.is_none_or(|up_to| &key[prefix.len()..] <= up_to);
        let operations: Vec<Operation> = listing
            .entries
            .iter()
            .filter(|entry| wanted(&entry.key))
            .map(|entry| Operation::delete(&entry.key))
            .collect();
        let count = operations.len();
        for piece in batches(operations) {
            self.coordinator.transact(Vec::new(), piece).await.map_err(refusal)?;
        }
        Ok(count)
    }

    /// Removes notices that are too old or too many. How many.
    pub(super) async fn notices_trim(&self) -> Result<usize, Refusal> {
        let listing = self.coordinator.list(layout::NOTICES).await.map_err(refusal)?;
        let oldest = layout::timestamp_text(Timestamp(self.now().0.saturating_sub(NOTICE_SECONDS * 1_000_000)), 0);
        let mut of_component: BTreeMap<NodeId, Vec<&str>> = BTreeMap::new();
        for entry in &listing.entries {
            if let Some((node, _)) = layout::parse_notice(&entry.key) {
                of_component.entry(node).or_default().push(&entry.key);
            }
        }
        let mut operations = Vec::new();
        for keys in of_component.values() {
            let too_many = keys.len().saturating_sub(NOTICES_MAX);
            for (index, key) in keys.iter().enumerate() {
                let old = layout::parse_notice(key).is_some_and(|(_, timestamp)| timestamp < oldest.as_str());
                if index < too_many || old {
                    operations.push(Operation::delete(*key));
                }
            }
        }
        let count = operations.len();
        for piece in batches(operations) {
            self.coordinator.transact(Vec::new(), piece).await.map_err(refusal)?;
        }
        Ok(count)
    }
}
