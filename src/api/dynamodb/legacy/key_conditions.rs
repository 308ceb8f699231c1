//! KeyConditions: what the key attributes of the items that a query wants must be like.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::map;
use super::operators::{self, Operator};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::Text;
use crate::expression::{KeyCondition, KeyRange, Value};

/// What is said of one attribute.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said<'a> {
    #[serde(borrow)]
    comparison_operator: Text<'a>,
    #[serde(borrow)]
    attribute_value_list: Option<Vec<&'a RawValue>>,
}

/// The key condition that KeyConditions makes. Which attributes are keys the caller knows.
///
/// # Errors
/// ValidationException with AWS's texts, SerializationException.
pub fn key_condition(json: &RawValue) -> Result<KeyCondition, Failure> {
    let said: Vec<(String, Said<'_>)> = map(json)?.into_iter().collect();
    let operator = |(attribute, said): &(String, Said<'_>)| {
        Operator::read(said.comparison_operator.get(), "keyConditions", attribute)
    };
    let operators = said.iter().map(operator).collect::<Result<Vec<Operator>, Failure>>()?;
    let mut attributes = Vec::with_capacity(said.len());
    for ((attribute, said), operator) in said.iter().zip(operators) {
        let values = said.attribute_value_list.as_deref().unwrap_or_default();
        let values = operators::arguments(operator, values)?;
        attributes.push((Arc::from(attribute.as_str()), range(operator, values)?));
    }
    if !matches!(attributes.len(), 1 | 2) {
        return Err(Failure::validation("Conditions can be of length 1 or 2 only"));
    }
    Ok(KeyCondition { attributes })
}

/// The range of an operator whose values were checked.
fn range(operator: Operator, values: Vec<Value>) -> Result<KeyRange, Failure> {
    let mut values = values.into_iter();
    Ok(match (operator, values.next(), values.next()) {
        (Operator::Eq, Some(value), _) => KeyRange::Equal(value),
        (Operator::Lt, Some(value), _) => KeyRange::Less(value),
        (Operator::Le, Some(value), _) => KeyRange::LessOrEqual(value),
        (Operator::Gt, Some(value), _) => KeyRange::Greater(value),
        (Operator::Ge, Some(value), _) => KeyRange::GreaterOrEqual(value),
        (Operator::BeginsWith, Some(value), _) => KeyRange::BeginsWith(value),
        (Operator::Between, Some(low), Some(high)) => KeyRange::Between(low, high),
        _ => return Err(Failure::validation("Attempted conditional constraint is not an indexable operation")),
    })
}
