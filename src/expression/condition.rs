//! Conditions: what an item must be like. ConditionExpression, FilterExpression and, before it is narrowed down,
//! KeyConditionExpression.

use super::binding::Binding;
use super::condition_syntax::{self, Clause};
use super::error::ExpressionError;
use super::path::Path;
use super::role::Role;
use super::substitutions::Substitutions;
use super::value::{AttributeType, Value};

/// How two operands compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// All of them; the place of each is its number in encoded bytes.
    pub const ALL: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    /// How it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operand {
    /// What lies there in the item.
    Path(Path),
    /// A value of the request.
    Value(Value),
    /// The size of what lies there in the item.
    Size(Path),
}

/// What an item must be like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// All of them; true where there are none.
    And(Vec<Condition>),
    /// One of them; false where there are none.
    Or(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// `a = b` and so on.
    Compare(Operand, Comparison, Operand),
    /// The first is neither below the second nor above the third.
    Between(Operand, Operand, Operand),
    /// The first equals one of the others.
    In(Operand, Vec<Operand>),
    /// `attribute_exists`
    Exists(Path),
    /// `attribute_not_exists`
    NotExists(Path),
    /// `attribute_type`
    Type(Operand, AttributeType),
    /// `begins_with`
    BeginsWith(Operand, Operand),
    /// `contains`
    Contains(Operand, Operand),
}

/// The structure of a text, before anything stands for its placeholders. Does not depend on the request's
/// substitutions, so it can be kept by (role, text).
#[derive(Debug, Clone)]
pub struct ConditionTemplate {
    role: Role,
    clause: Clause,
}

impl ConditionTemplate {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with the text whatever its placeholders stand for.
    pub fn parse(role: Role, text: &str) -> Result<ConditionTemplate, ExpressionError> {
        Ok(ConditionTemplate { role, clause: condition_syntax::read(role, text)? })
    }

    /// The condition of one request.
    ///
    /// # Errors
    /// Placeholders that nothing stands for, and values of types that do not go with their operators.
    pub fn bind(&self, substitutions: &mut Substitutions<'_>) -> Result<Condition, ExpressionError> {
        let condition = Binding { role: self.role, substitutions }.clause(&self.clause)?;
        if condition.within_limits() { Ok(condition) } else { Err(ExpressionError::too_large(self.role)) }
    }
}

/// Template and binding in one.
///
/// # Errors
/// Those of [`ConditionTemplate::parse`] and [`ConditionTemplate::bind`].
pub fn parse(role: Role, text: &str, substitutions: &mut Substitutions<'_>) -> Result<Condition, ExpressionError> {
    ConditionTemplate::parse(role, text)?.bind(substitutions)
}

impl Operand {
    /// The path in it.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Operand::Path(path) | Operand::Size(path) => Some(path),
            Operand::Value(_) => None,
        }
    }
}

impl Condition {
    /// All paths, in the order of the text.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths = Vec::new();
        self.collect_paths(&mut paths);
        paths
    }

    fn collect_paths<'c>(&'c self, paths: &mut Vec<&'c Path>) {
        match self {
            Condition::And(conditions) | Condition::Or(conditions) => {
                conditions.iter().for_each(|condition| condition.collect_paths(paths));
            }
            Condition::Not(condition) => condition.collect_paths(paths),
            Condition::Exists(path) | Condition::NotExists(path) => paths.push(path),
            Condition::Type(operand, _) => paths.extend(operand.path()),
            Condition::Compare(left, _, right)
            | Condition::BeginsWith(left, right)
            | Condition::Contains(left, right) => paths.extend([left, right].into_iter().filter_map(Operand::path)),
            Condition::Between(value, low, high) => {
                paths.extend([value, low, high].into_iter().filter_map(Operand::path));
            }
            Condition::In(value, list) => paths.extend([value].into_iter().chain(list).filter_map(Operand::path)),
        }
    }
}
