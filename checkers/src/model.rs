//! The store as it should be, for one key and one operation at a time: given an item as it stands and an operation with its
//! answer, either what the item is afterwards, or nothing: the answer does not fit.
//!
//! Versions are given by the store and are not foretold; what is required of them is that they grow. The version that an unanswered
//! write was given is not known until a read shows it. It is above every version known before, so no condition that names a known one can
//! hold for it.

use crate::history::{Action, Answer, Condition, Document, Operation, Stored};

/// The item as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    item: Option<Item>,
    /// The highest version that is known to have been given.
    highest: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Item {
    /// Not known after an unanswered write.
    version: Option<u64>,
    document: Document,
}

/// What the store could decide about an operation; both only where the item's version is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Decision {
    applies: bool,
    precondition_fails: bool,
    not_found: bool,
}

impl State {
    /// The state after the operation; none where its answer does not fit. An operation without an answer fits where it
    /// changes something.
    pub(crate) fn after(&self, operation: &Operation) -> Option<State> {
        if operation.action == Action::Read {
            let Answer::Item(seen) = &operation.answer else { return None };
            return self.seen(seen.as_ref());
        }
        let decision = self.decide(operation);
        match operation.answer {
            Answer::NotFound => decision.not_found.then(|| self.clone()),
            Answer::PreconditionFailed => decision.precondition_fails.then(|| self.clone()),
            Answer::Unknown if decision.applies => Some(self.changed(operation, None)),
            Answer::Deleted if decision.applies && operation.action == Action::Delete => {
                Some(self.changed(operation, None))
            }
            Answer::Created(version) if decision.applies && self.item.is_none() => {
                (version > self.highest).then(|| self.changed(operation, Some(version)))
            }
            Answer::Updated(version) if decision.applies && self.item.is_some() => {
                (version > self.highest).then(|| self.changed(operation, Some(version)))
            }
            _ => None,
        }
    }

    /// The highest version that is known to have been given.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The item's version and document, where the version is known.
    pub(crate) fn versioned(&self) -> Option<(u64, &Document)> {
        let item = self.item.as_ref()?;
        Some((item.version?, &item.document))
    }

    fn seen(&self, seen: Option<&Stored>) -> Option<State> {
        match (&self.item, seen) {
            (None, None) => Some(self.clone()),
            (Some(item), Some(stored)) if item.document == stored.document => match item.version {
                Some(version) => (version == stored.version).then(|| self.clone()),
                None => (stored.version > self.highest).then(|| State {
                    item: Some(Item { version: Some(stored.version), document: item.document.clone() }),
                    highest: stored.version,
                }),
            },
            _ => None,
        }
    }

    fn decide(&self, operation: &Operation) -> Decision {
        let Some(item) = &self.item else {
            return match (&operation.action, operation.condition) {
                (_, Condition::IfVersion(_)) => Decision { precondition_fails: true, ..Decision::default() },
                (Action::Put(_), _) => Decision { applies: true, ..Decision::default() },
                _ => Decision { not_found: true, ..Decision::default() },
            };
        };
        let (applies, precondition_fails) = match (operation.condition, item.version) {
            (Condition::Always, _) => (true, false),
            (Condition::IfAbsent, _) => (false, true),
            (Condition::IfVersion(wanted), Some(version)) => (wanted == version, wanted != version),
            (Condition::IfVersion(wanted), None) => (wanted > self.highest, true),
        };
        Decision { applies, precondition_fails, not_found: false }
    }

    /// The state after a write that takes effect.
    fn changed(&self, operation: &Operation, version: Option<u64>) -> State {
        let document = match &operation.action {
            Action::Put(document) => Some(document.clone()),
            Action::Merge(patch) => self.item.as_ref().map(|item| item.document.merged(patch)),
            Action::Delete | Action::Read => None,
        };
        // A condition that held tells which version the item had.
        let known = match operation.condition {
            Condition::IfVersion(wanted) => self.highest.max(wanted),
            _ => self.highest,
        };
        State {
            item: document.map(|document| Item { version, document }),
            highest: version.unwrap_or(known).max(known),
        }
    }

    /// The item, for people.
    pub(crate) fn describe(&self) -> String {
        match &self.item {
            None => format!("absent (versions up to v{} were given)", self.highest),
            Some(Item { version: Some(version), document }) => format!("{document} v{version}"),
            Some(Item { version: None, document }) => {
                format!("{document}, of a version above v{} that nobody was told", self.highest)
            }
        }
    }
}
