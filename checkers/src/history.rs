//! The words in which a test writes down what it asked of one key and what it was answered.
//!
//! Times are nanoseconds of one monotonic clock that all clients share. Documents are flat maps of whole numbers: enough
//! to tell replacing from merging, and quick to compare. Every write should hold a number that no other write has, or the
//! judges cannot tell writes apart and let more pass than they need to.

use std::collections::BTreeMap;
use std::fmt;

/// The time of an answer that never came.
pub const NEVER: u64 = u64::MAX;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Document(pub BTreeMap<String, u64>);

/// What a merge changes: numbers are set, names without one are removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Patch(pub BTreeMap<String, Option<u64>>);

impl Document {
    /// A document of these fields.
    pub fn of(fields: &[(&str, u64)]) -> Document {
        Document(fields.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect())
    }

    /// What becomes of it by a merge.
    pub fn merged(&self, patch: &Patch) -> Document {
        let mut fields = self.0.clone();
        for (name, number) in &patch.0 {
            match number {
                Some(number) => fields.insert(name.clone(), *number),
                None => fields.remove(name),
            };
        }
        Document(fields)
    }
}

/// An item with its version, as the ETag says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Versions of a key grow and never come back, not even after a deletion.
    pub version: u64,
    /// The document.
    pub document: Document,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A read that sees every acknowledged write.
    Read,
    /// Creates or replaces.
    Put(Document),
    /// Changes an item that is there.
    Merge(Patch),
    /// Deletes an item that is there.
    Delete,
}

/// On what condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// None.
    Always,
    /// Only where the item has this version.
    IfVersion(u64),
    /// Only where there is no item.
    IfAbsent,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a read: the item, or that there is none.
    Item(Option<Stored>),
    /// To a put where no item was, with the new version.
    Created(u64),
    /// To a put or merge where an item was, with the new version.
    Updated(u64),
    /// To a deletion.
    Deleted,
    /// To a merge or deletion where no item was.
    NotFound,
    /// The condition did not hold.
    PreconditionFailed,
    /// Nobody knows: it may have happened, at most once. Where the operation has a time of answer, it happened before that
    /// or never will; else at any later time.
    Unknown,
    /// It certainly did not happen, and never will.
    NotDone,
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who asked, for people.
    pub client: u64,
    /// What was asked.
    pub action: Action,
    /// On what condition.
    pub condition: Condition,
    /// When it was first asked.
    pub asked: u64,
    /// When it was answered for good; [`NEVER`] where it was not.
    pub answered: u64,
    /// What was answered.
    pub answer: Answer,
}

impl Operation {
    /// True where it ended before the other was asked.
    pub fn is_before(&self, other: &Operation) -> bool {
        self.answered < other.asked
    }

    /// True for what may change the item.
    pub fn is_write(&self) -> bool {
        self.action != Action::Read
    }

    /// The version that it was acknowledged with.
    pub fn acknowledged_version(&self) -> Option<u64> {
        match self.answer {
            Answer::Created(version) | Answer::Updated(version) => Some(version),
            _ => None,
        }
    }

    /// True for an unanswered write.
    pub(crate) fn is_optional(&self) -> bool {
        self.answer == Answer::Unknown
    }
}

impl fmt::Display for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<String> = self.0.iter().map(|(name, number)| format!("{name}:{number}")).collect();
        write!(formatter, "{{{}}}", fields.join(" "))
    }
}

impl fmt::Display for Patch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(name, number): (&String, &Option<u64>)| match number {
            Some(number) => format!("{name}:{number}"),
            None => format!("-{name}"),
        };
        let fields: Vec<String> = self.0.iter().map(one).collect();
        write!(formatter, "{{{}}}", fields.join(" "))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: u64| match time {
            NEVER => "never".to_owned(),
            time => format!("{:.6}", time as f64 / 1e9),
        };
        write!(formatter, "client {} {}..{} ", self.client, seconds(self.asked), seconds(self.answered))?;
        match &self.action {
            Action::Read => write!(formatter, "read")?,
            Action::Put(document) => write!(formatter, "put {document}")?,
            Action::Merge(patch) => write!(formatter, "merge {patch}")?,
            Action::Delete => write!(formatter, "delete")?,
        }
        match self.condition {
            Condition::Always => {}
            Condition::IfVersion(version) => write!(formatter, " if v{version}")?,
            Condition::IfAbsent => write!(formatter, " if absent")?,
        }
        match &self.answer {
            Answer::Item(None) => write!(formatter, " -> no item"),
            Answer::Item(Some(item)) => write!(formatter, " -> {} v{}", item.document, item.version),
            Answer::Created(version) => write!(formatter, " -> created v{version}"),
            Answer::Updated(version) => write!(formatter, " -> updated v{version}"),
            Answer::Deleted => write!(formatter, " -> deleted"),
            Answer::NotFound => write!(formatter, " -> not found"),
            Answer::PreconditionFailed => write!(formatter, " -> condition failed"),
            Answer::Unknown => write!(formatter, " -> outcome unknown"),
            Answer::NotDone => write!(formatter, " -> not done"),
        }
    }
}
