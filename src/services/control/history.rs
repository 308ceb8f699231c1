//! Commits that carry their history, and the translation of the coordinator's errors.
//!
//! Every resource that the admin API can change (`tenant/acme`, `table/acme/users`, `node/{uuid}`…)
//! has numbered versions: who changed it, when, what it was and became. The record is written in the
//! transaction of the change itself, so there is no change without a record and no record without a
//! change. Number 0 holds the last number, and every commit compares on it: two changes of one
//! resource never get the same number, and each sees the other.
//!
//! Beside it goes a short record under the time it was made (`events.rs`), so that what was done can be followed over all resources.
//!
//! The newest [`HISTORY_MAX`] versions of a resource are kept. Records hold nothing secret.

use crate::coordination::values::{from_json, to_json};
use crate::coordination::{Compare, Error, Operation, layout};
use crate::domain::{Refusal, RefusalKind};

use super::plane::ControlPlane;
use super::records::{HistoryHead, HistoryRecord};

/// Versions of a resource that are kept.
pub const HISTORY_MAX: u32 = 1000;

/// How often a change begins anew where someone else was quicker.
pub(super) const ATTEMPTS_MAX: usize = 16;

/// One page of a resource's history, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The versions.
    pub versions: Vec<HistoryRecord>,
    /// Whether there are older ones.
    pub more: bool,
}

/// A change of one resource, ready to be committed.
pub(super) struct Change<'a> {
    /// `tenant/acme`, `table/acme/users`, …
    pub(super) resource: String,
    /// Who asked for it.
    pub(super) who: &'a str,
    /// What it was.
    pub(super) before: Option<serde_json::Value>,
    /// What it becomes.
    pub(super) after: Option<serde_json::Value>,
    /// What must still hold.
    pub(super) compares: Vec<Compare>,
    /// What is written.
    pub(super) operations: Vec<Operation>,
}

impl ControlPlane {
    /// Commits a change with its history record; false where a compare failed and the caller has to
    /// look again. After it, this instance's own view has the change.
    pub(super) async fn commit(&self, change: Change<'_>) -> Result<bool, Refusal> {
        let head_key = layout::control_history(&change.resource, 0);
        let head_entry = self.coordinator.get(&head_key).await.map_err(refusal)?;
        let head: HistoryHead = match &head_entry {
            Some(entry) => from_json(&entry.value).map_err(|_| super::sealed::unreadable(&head_key))?,
            None => HistoryHead::default(),
        };
        let number = head.last + 1;
        let record = HistoryRecord {
            number,
            who: change.who.to_owned(),
            at: self.now(),
            before: change.before,
            after: change.after,
        };
        let mut compares = change.compares;
        compares.push(Compare::unchanged(&head_key, head_entry.as_ref()));
        let what = match (&record.before, &record.after) {
            (None, _) => "created",
            (_, None) => "removed",
            _ => "changed",
        };
        let mut operations = change.operations;
        operations.push(self.admin_event(change.who, what, &change.resource));
        operations.push(Operation::put(&head_key, to_json(&HistoryHead { last: number })));
        operations.push(Operation::put(layout::control_history(&change.resource, number), to_json(&record)));
        if let Some(oldest) = number.checked_sub(HISTORY_MAX).filter(|oldest| *oldest > 0) {
            operations.push(Operation::delete(layout::control_history(&change.resource, oldest)));
        }
        let done = self.coordinator.transact(compares, operations.clone()).await.map_err(refusal)?;
        if done.succeeded {
            tracing::info!(resource = %change.resource, who = %change.who, number, "changed");
            self.view.committed(&operations, done.revision);
        }
        Ok(done.succeeded)
    }

    /// The history of a resource, newest first, below `before_number` where given.
    ///
    /// # Errors
    /// `NotFound` where the resource never was changed.
    pub async fn history(
        &self,
        resource: &str,
        before_number: Option<u32>,
        limit: usize,
    ) -> Result<HistoryPage, Refusal> {
        let listing = self.coordinator.list(&layout::control_history_of(resource)).await.map_err(refusal)?;
        let head_key = layout::control_history(resource, 0);
        if listing.entries.is_empty() {
            return Err(no_history(resource));
        }
        let mut versions: Vec<HistoryRecord> = Vec::new();
        for entry in listing.entries.iter().filter(|entry| entry.key != head_key) {
            versions.push(from_json(&entry.value).map_err(|_| super::sealed::unreadable(&entry.key))?);
        }
        versions.retain(|version| before_number.is_none_or(|before| version.number < before));
        versions.sort_by_key(|version| std::cmp::Reverse(version.number));
        let more = versions.len() > limit;
        versions.truncate(limit);
        Ok(HistoryPage { versions, more })
    }
}

/// The refusal for a resource that was never changed, or is not for the caller to know of.
pub fn no_history(resource: &str) -> Refusal {
    Refusal::not_found(format!("nothing is recorded of {resource:?}"))
}

/// What the coordinator's errors mean to whoever asked control.
pub(super) fn refusal(error: Error) -> Refusal {
    match error {
        Error::Unavailable(_) => {
            Refusal::unavailable(format!("the control plane cannot change anything now: {error}"), 2)
        }
        Error::NoSpace(_) => Refusal::unavailable(
            format!(
                "the control plane can only read now, it cannot change anything: {error}. {}",
                super::hygiene::HOW_TO_MAKE_ROOM
            ),
            60,
        ),
        Error::OutcomeUnknown(_) => Refusal::new(
            RefusalKind::OutcomeUnknown,
            "the coordinator did not tell whether the change was made; look, and ask again if it was not",
        ),
        Error::Denied(_) => Refusal::internal(format!("control's access to the coordinator is too narrow: {error}")),
        other => Refusal::internal(other.to_string()),
    }
}

/// Someone else changed the same thing again and again.
pub(super) fn contended() -> Refusal {
    Refusal::unavailable("others are changing the same thing; try again", 1)
}
