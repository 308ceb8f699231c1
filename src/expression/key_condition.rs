//! Key conditions: which keys a query wants. A condition, narrowed down to comparisons of whole attributes with values.
//! Which attributes are keys the caller knows.

use std::sync::Arc;

use super::condition::{Comparison, Condition, ConditionTemplate, Operand};
use super::error::ExpressionError;
use super::path::Path;
use super::role::Role;
use super::substitutions::Substitutions;
use super::value::Value;

/// What one key attribute must be like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// `=`
    Equal(Value),
    /// `<`
    Less(Value),
    /// `<=`
    LessOrEqual(Value),
    /// `>`
    Greater(Value),
    /// `>=`
    GreaterOrEqual(Value),
    /// BETWEEN, both bounds included.
    Between(Value, Value),
    /// `begins_with`
    BeginsWith(Value),
}

/// Conditions on whole attributes, each on another one, in the order of the text. There may be more of them than keys:
/// the caller answers "Query key condition not supported", "Query condition missed key schema element: …" and the like.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyCondition {
    /// Attributes and what they must be like.
    pub attributes: Vec<(Arc<str>, KeyRange)>,
}

/// Debug tells the number of attributes only: names may tell what a tenant stores.
impl std::fmt::Debug for KeyCondition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeyCondition({} attributes)", self.attributes.len())
    }
}

/// The structure of a text, before anything stands for its placeholders.
#[derive(Debug, Clone)]
pub struct KeyConditionTemplate(ConditionTemplate);

impl KeyConditionTemplate {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with the text whatever its placeholders stand for.
    pub fn parse(text: &str) -> Result<KeyConditionTemplate, ExpressionError> {
        ConditionTemplate::parse(Role::KeyCondition, text).map(KeyConditionTemplate)
    }

    /// The key condition of one request.
    ///
    /// # Errors
    /// Those of a condition, and operators that key conditions do not have.
    pub fn bind(&self, substitutions: &mut Substitutions<'_>) -> Result<KeyCondition, ExpressionError> {
        narrow(&self.0.bind(substitutions)?)
    }
}

/// Template and binding in one.
///
/// # Errors
/// Those of [`KeyConditionTemplate::parse`] and [`KeyConditionTemplate::bind`].
pub fn parse(text: &str, substitutions: &mut Substitutions<'_>) -> Result<KeyCondition, ExpressionError> {
    KeyConditionTemplate::parse(text)?.bind(substitutions)
}

/// The key condition that a condition is.
///
/// # Errors
/// Where it is none, with AWS's text. These texts do not begin with "Invalid KeyConditionExpression: ".
fn narrow(condition: &Condition) -> Result<KeyCondition, ExpressionError> {
    let mut key_condition = KeyCondition { attributes: Vec::new() };
    collect(condition, &mut key_condition)?;
    Ok(key_condition)
}

fn collect(condition: &Condition, found: &mut KeyCondition) -> Result<(), ExpressionError> {
    if let Condition::And(conditions) = condition {
        return conditions.iter().try_for_each(|condition| collect(condition, found));
    }
    let (attribute, range) = one(condition)?;
    if found.attributes.iter().any(|(other, _)| *other == attribute) {
        let text = "KeyConditionExpressions must only contain one condition per key";
        return Err(ExpressionError::new(text));
    }
    found.attributes.push((attribute, range));
    Ok(())
}

/// One comparison: the attribute and what it must be like.
fn one(condition: &Condition) -> Result<(Arc<str>, KeyRange), ExpressionError> {
    match condition {
        Condition::Compare(_, Comparison::NotEqual, _) => Err(invalid_operator("<>")),
        Condition::Compare(left, comparison, right) => compare(left, *comparison, right),
        Condition::Between(value, low, high) => {
            let attribute = first_attribute("BETWEEN", &[value, low, high])?;
            match (low, high) {
                (Operand::Value(low), Operand::Value(high)) => {
                    Ok((attribute, KeyRange::Between(low.clone(), high.clone())))
                }
                _ => Err(several_attributes()),
            }
        }
        Condition::BeginsWith(value, beginning) => {
            let attribute = first_attribute("begins_with", &[value, beginning])?;
            match beginning {
                Operand::Value(beginning) => Ok((attribute, KeyRange::BeginsWith(beginning.clone()))),
                _ => Err(several_attributes()),
            }
        }
        Condition::And(_) => Err(invalid_operator("AND")),
        Condition::Or(_) => Err(invalid_operator("OR")),
        Condition::Not(_) => Err(invalid_operator("NOT")),
        Condition::In(..) => Err(invalid_operator("IN")),
        Condition::Exists(_) => Err(invalid_operator("attribute_exists")),
        Condition::NotExists(_) => Err(invalid_operator("attribute_not_exists")),
        Condition::Type(..) => Err(invalid_operator("attribute_type")),
        Condition::Contains(..) => Err(invalid_operator("contains")),
    }
}

/// A comparison, turned round where the value stands first.
fn compare(left: &Operand, comparison: Comparison, right: &Operand) -> Result<(Arc<str>, KeyRange), ExpressionError> {
    let attribute = the_attribute(&[left, right])?;
    let (value, comparison) = match (left, right) {
        (_, Operand::Value(value)) => (value, comparison),
        (Operand::Value(value), _) => (value, turned(comparison)),
        _ => return Err(several_attributes()),
    };
    let value = value.clone();
    let range = match comparison {
        Comparison::Less => KeyRange::Less(value),
        Comparison::LessOrEqual => KeyRange::LessOrEqual(value),
        Comparison::Greater => KeyRange::Greater(value),
        Comparison::GreaterOrEqual => KeyRange::GreaterOrEqual(value),
        Comparison::Equal | Comparison::NotEqual => KeyRange::Equal(value),
    };
    Ok((attribute, range))
}

fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

/// The attribute, which must be the first operand.
fn first_attribute(operator: &str, operands: &[&Operand]) -> Result<Arc<str>, ExpressionError> {
    if !matches!(operands.first(), Some(Operand::Path(_) | Operand::Size(_))) {
        let what = "operator must have the key attribute as its first operand";
        return Err(ExpressionError::new(format!("Invalid condition in KeyConditionExpression: {operator} {what}")));
    }
    the_attribute(operands)
}

/// The only attribute among these operands.
fn the_attribute(operands: &[&Operand]) -> Result<Arc<str>, ExpressionError> {
    let mut found: Option<&Path> = None;
    for operand in operands {
        match operand {
            Operand::Value(_) => {}
            Operand::Size(_) => {
                return Err(ExpressionError::new("KeyConditionExpressions cannot contain nested operations"));
            }
            Operand::Path(_) if found.is_some() => return Err(several_attributes()),
            Operand::Path(path) if path.is_nested() => {
                let text = "KeyConditionExpressions cannot have conditions on nested attributes";
                return Err(ExpressionError::new(text));
            }
            Operand::Path(path) => found = Some(path),
        }
    }
    match found {
        Some(path) => Ok(Arc::clone(&path.attribute)),
        None => {
            let text = "Invalid condition in KeyConditionExpression: No key attribute specified";
            Err(ExpressionError::new(text))
        }
    }
}

fn invalid_operator(operator: &str) -> ExpressionError {
    ExpressionError::new(format!("Invalid operator used in KeyConditionExpression: {operator}"))
}

fn several_attributes() -> ExpressionError {
    let text = "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition";
    ExpressionError::new(text)
}
