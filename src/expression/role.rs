//! What an expression is for: it stands at the head of every error text.

/// The parameter in which an expression came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `ConditionExpression`
    Condition,
    /// `FilterExpression`
    Filter,
    /// `KeyConditionExpression`
    KeyCondition,
    /// `UpdateExpression`
    Update,
    /// `ProjectionExpression`
    Projection,
}

impl Role {
    /// The name of the parameter.
    pub fn name(self) -> &'static str {
        match self {
            Role::Condition => "ConditionExpression",
            Role::Filter => "FilterExpression",
            Role::KeyCondition => "KeyConditionExpression",
            Role::Update => "UpdateExpression",
            Role::Projection => "ProjectionExpression",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
