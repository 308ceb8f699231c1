//! Expected, QueryFilter and ScanFilter: conditions on attributes, all of which or one of which must hold.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::operators::{self, Operator};
use super::{invalid, map, path, too_much, value};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{Flag, Raw, Text};
use crate::expression::limits::OPERATORS_MAX;
use crate::expression::{Comparison, Condition, Operand};

/// The parameter that the conditions came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// Expected.
    Expected,
    /// QueryFilter.
    QueryFilter,
    /// ScanFilter.
    ScanFilter,
}

impl Parameter {
    /// Where it stands, in the texts about constraints.
    fn place(self) -> &'static str {
        match self {
            Parameter::Expected => "expected",
            Parameter::QueryFilter => "queryFilter",
            Parameter::ScanFilter => "scanFilter",
        }
    }
}

/// What is said of one attribute.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said<'a> {
    #[serde(borrow)]
    comparison_operator: Text<'a>,
    #[serde(borrow)]
    attribute_value_list: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    value: Raw<'a>,
    exists: Flag,
}

impl Said<'_> {
    /// What of it the parameter has: a filter has an operator and a list, be it an empty one.
    fn of(self, parameter: Parameter) -> Self {
        if parameter == Parameter::Expected {
            return self;
        }
        let attribute_value_list = Some(self.attribute_value_list.unwrap_or_default());
        Said { comparison_operator: self.comparison_operator, attribute_value_list, ..Said::default() }
    }
}

/// The condition that the parameter and ConditionalOperator make; none where there is nothing to hold.
///
/// # Errors
/// ValidationException with AWS's texts, SerializationException.
pub fn condition(
    parameter: Parameter,
    json: Option<&RawValue>,
    conditional_operator: Option<&str>,
) -> Result<Option<Condition>, Failure> {
    // Words that it does not take were refused with the other constraints.
    let any = conditional_operator == Some("OR");
    let said: Vec<(String, Said<'_>)> = match json {
        None => Vec::new(),
        Some(json) => {
            let said = map::<Said<'_>>(json)?.into_iter();
            said.map(|(attribute, said)| (attribute, said.of(parameter))).collect()
        }
    };
    if said.len() > OPERATORS_MAX {
        return Err(too_much());
    }
    let operators = operators_of(parameter, &said)?;
    if conditional_operator.is_some() {
        match (json, said.len()) {
            (None, _) => {
                return Err(Failure::validation("ConditionalOperator cannot be used without Filter or Expected"));
            }
            (Some(_), 0 | 1) => {
                return Err(Failure::validation(
                    "ConditionalOperator can only be used when Filter or Expected has two or more elements",
                ));
            }
            _ => {}
        }
    }
    let mut conditions = Vec::with_capacity(said.len());
    for ((attribute, said), operator) in said.into_iter().zip(operators) {
        conditions.push(match operator {
            Some(operator) => compared(&attribute, &said, operator)?,
            None => expected(&attribute, &said)?,
        });
    }
    let condition = match (conditions.len(), any) {
        (0 | 1, _) => conditions.pop(),
        (_, false) => Some(Condition::And(conditions)),
        (_, true) => Some(Condition::Or(conditions)),
    };
    match &condition {
        Some(condition) if !condition.within_limits() => Err(too_much()),
        _ => Ok(condition),
    }
}

/// The operators by attribute: a name that is no operator is found before anything else.
fn operators_of(parameter: Parameter, said: &[(String, Said<'_>)]) -> Result<Vec<Option<Operator>>, Failure> {
    let operator = |(attribute, said): &(String, Said<'_>)| match said.comparison_operator.get() {
        None if parameter == Parameter::Expected => Ok(None),
        name => Operator::read(name, parameter.place(), attribute).map(Some),
    };
    said.iter().map(operator).collect()
}

/// With an operator.
fn compared(attribute: &str, said: &Said<'_>, operator: Operator) -> Result<Condition, Failure> {
    if said.exists.0.is_some() {
        return Err(invalid(format_args!(
            "Exists and ComparisonOperator cannot be used together for Attribute: {attribute}"
        )));
    }
    let single;
    let values: &[&RawValue] = match (said.value, &said.attribute_value_list) {
        (Some(_), Some(_)) => {
            return Err(invalid(format_args!(
                "Value and AttributeValueList cannot be used together for Attribute: {attribute}"
            )));
        }
        (Some(value), None) => {
            single = [value];
            &single
        }
        (None, Some(list)) => list,
        (None, None) if operator.is_about_presence() => &[],
        (None, None) => {
            return Err(invalid(format_args!(
                "Value or AttributeValueList must be used with ComparisonOperator: {} for Attribute: {attribute}",
                operator.name()
            )));
        }
    };
    Ok(operators::condition(path(attribute), operator, operators::arguments(operator, values)?))
}

/// Without one: a value that must be there, or that nothing may be.
fn expected(attribute: &str, said: &Said<'_>) -> Result<Condition, Failure> {
    if said.attribute_value_list.is_some() {
        return Err(invalid(format_args!(
            "AttributeValueList can only be used with a ComparisonOperator for Attribute: {attribute}"
        )));
    }
    match (said.exists.0, said.value) {
        (Some(false), None) => Ok(Condition::NotExists(path(attribute))),
        (Some(false), Some(_)) => {
            Err(invalid(format_args!("Value cannot be used when Exists is set to false for Attribute: {attribute}")))
        }
        (exists, None) => {
            let exists = if exists.is_some() { "true" } else { "null" };
            Err(invalid(format_args!("Value must be provided when Exists is {exists} for Attribute: {attribute}")))
        }
        (_, Some(json)) => {
            let value = Operand::Value(value(json)?);
            Ok(Condition::Compare(Operand::Path(path(attribute)), Comparison::Equal, value))
        }
    }
}
