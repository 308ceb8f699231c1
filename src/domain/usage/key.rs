//! Whose requests are counted together.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A tenant, a table or a principal: the id, which is never used again, and the name it had when it was counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Named {
    /// The id.
    pub id: Uuid,
    /// The name at that time. Principals go by their name, too.
    pub name: Box<str>,
}

impl Named {
    /// This id under this name.
    pub fn new(id: Uuid, name: impl Into<Box<str>>) -> Self {
        Self { id, name: name.into() }
    }
}

/// How a request ended, as far as usage is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what was asked; also "there is no such item" and "not modified".
    Success,
    /// A condition of the request did not hold.
    ConditionFailed,
    /// It was refused because the tenant has used up what it may use.
    Throttled,
    /// The request was wrong, or not allowed.
    ClientError,
    /// It could not be served.
    ServerError,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] =
        [Outcome::Success, Outcome::ConditionFailed, Outcome::Throttled, Outcome::ClientError, Outcome::ServerError];

    /// Its name in records, metrics and tables.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::ConditionFailed => "condition_failed",
            Outcome::Throttled => "throttled",
            Outcome::ClientError => "client_error",
            Outcome::ServerError => "server_error",
        }
    }
}

/// Whose requests are counted together: all that have this in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsageKey {
    /// The tenant; none where the request named none that its caller may know of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Named>,
    /// The table, where the request was for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Named>,
    /// Who asked; none where no credential was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Named>,
    /// What was asked, in the words of the protocol's operations in snake case: `put_item`.
    pub operation: Box<str>,
    /// How it ended.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_outcomes_are_those_of_their_records() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }
}
