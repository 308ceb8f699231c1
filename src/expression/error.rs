//! What can be wrong with an expression, before an item is looked at and after.
//!
//! Both kinds carry the text that a client sees in a ValidationException. Texts of the first kind quote the expression
//! and values of the request, so their `Debug` does not show them.

use super::role::Role;

/// Why a text, or what stands for its placeholders, is no expression.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// The text of the ValidationException.
    pub message: String,
}

impl ExpressionError {
    /// An error of the request that names no expression.
    pub fn new(message: impl Into<String>) -> ExpressionError {
        ExpressionError { message: message.into() }
    }

    /// `Invalid ConditionExpression: …`
    pub fn invalid(role: Role, what: impl std::fmt::Display) -> ExpressionError {
        ExpressionError { message: format!("Invalid {role}: {what}") }
    }

    /// The error of an expression that is no size for a log entry with what stands for its placeholders. AWS has no
    /// such limit.
    pub(super) fn too_large(role: Role) -> ExpressionError {
        ExpressionError::invalid(role, "The expression with its names and values is larger than 3 MB")
    }
}

/// Debug tells the length only: the text quotes the request.
impl std::fmt::Debug for ExpressionError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ExpressionError({} bytes)", self.message.len())
    }
}

/// Why an expression cannot be evaluated on an item. `to_string()` is the text of the ValidationException.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EvaluationError {
    /// An operand of SET names what is not there.
    #[error("The provided expression refers to an attribute that does not exist in the item")]
    MissingAttribute,
    /// A sum of what is no number, an element added to what is no set, and the like.
    #[error("An operand in the update expression has an incorrect data type")]
    IncorrectType,
    /// A path whose parent is not there or is neither a map nor a list.
    #[error("The document path provided in the update expression is invalid for update")]
    InvalidPath,
    /// A sum beyond 9.99…E+125.
    #[error("Number overflow. Attempting to store a number with magnitude larger than supported range")]
    Overflow,
    /// A sum nearer to zero than 1E-130.
    #[error("Number underflow. Attempting to store a number with magnitude smaller than supported range")]
    Underflow,
    /// A sum with more than 38 digits.
    #[error("Attempting to store more than 38 significant digits in a Number")]
    Digits,
    /// The changed item nests too deeply.
    #[error(
        "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"
    )]
    Depth,
    /// The changed item is larger than items can be, key attributes aside.
    #[error("Item size to update has exceeded the maximum allowed size")]
    Size,
}
