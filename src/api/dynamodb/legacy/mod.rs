//! The parameters that expressions replaced, which old clients and object mappers still send: Expected, AttributeUpdates,
//! KeyConditions, QueryFilter, ScanFilter, ConditionalOperator and AttributesToGet. Each becomes the tree that the expression of
//! the same meaning becomes, so nothing behind this module knows that they exist.
//!
//! | parameter | becomes | file |
//! |---|---|---|
//! | Expected, QueryFilter, ScanFilter | a condition, joined by ConditionalOperator | `conditions`, operators in `operators` |
//! | AttributeUpdates | an update | `updates` |
//! | KeyConditions | a condition on keys | `key_conditions` |
//! | AttributesToGet | a projection | here |
//!
//! Their attributes are names, never paths: a dot in one is a dot.
//!
//! The JSON of these parameters has a shape of its own (an operator, a list of values) around attribute values. The shape is read
//! with serde and borrows the values as they stand; those are read like all others ([`attribute_value`](super::attribute_value)).
//!
//! Rejected: making text of them and parsing that (names may hold anything, errors would speak of expressions that
//! nobody sent).

mod conditions;
mod key_conditions;
mod operators;
mod updates;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::attribute_value;
use super::failure::Failure;
use super::request;
use crate::domain::document::Document;
use crate::expression::{ItemView, Path, Projection, Value};

pub use conditions::{Parameter, condition};
pub use key_conditions::key_condition;
pub use updates::update;

/// Begins the texts about values that do not go together.
const INVALID: &str = "One or more parameter values were invalid: ";

/// The failure with this text behind [`INVALID`].
fn invalid(text: impl std::fmt::Display) -> Failure {
    Failure::validation(format!("{INVALID}{text}"))
}

/// The JSON of one such parameter, at most: what it becomes travels in a log entry. The largest item, each character of it
/// written as an escape, is smaller.
const PARAMETER_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The map from attribute to `T` that this JSON is, in order of the attributes.
fn map<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Result<BTreeMap<String, T>, Failure> {
    if json.get().len() > PARAMETER_BYTES_MAX {
        return Err(too_much());
    }
    request::parse_part(json)
}

/// A tree with more parts than a log entry may have. Expressions are far smaller by the length of their text.
fn too_much() -> Failure {
    invalid("there are more conditions or updates than one request may have")
}

/// One attribute value of such a parameter.
fn value(json: &RawValue) -> Result<Value, Failure> {
    // A value stands alone under the empty name.
    let document = attribute_value::read_value(json.get().as_bytes(), "")?;
    Value::from_document(document).ok_or_else(|| Failure::internal("a value that was read is not there"))
}

/// The attribute of this name.
fn path(attribute: &str) -> Path {
    Path::attribute(attribute)
}

/// The projection on these attributes.
///
/// # Errors
/// ValidationException where a name stands twice.
pub fn projection(attributes: &[String]) -> Result<Projection, Failure> {
    let mut sorted: Vec<&str> = attributes.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(invalid(format_args!("Duplicate value in attribute name: {}", pair[0])));
    }
    Ok(Projection { paths: attributes.iter().map(|attribute| path(attribute)).collect() })
}

/// What AWS says of an item that an update does not fit, where the update came as AttributeUpdates: the texts of
/// expressions speak of operands that such a request does not have.
pub fn evaluation_text(text: &str) -> &str {
    match text {
        "An operand in the update expression has an incorrect data type" => "Type mismatch for attribute to update",
        other => other,
    }
}

/// Reads any bytes as each of these parameters; what is an update can be applied to nothing.
#[doc(hidden)]
pub fn fuzz_legacy(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<&RawValue>(data) else { return };
    for parameter in [Parameter::Expected, Parameter::QueryFilter, Parameter::ScanFilter] {
        for operator in [None, Some("OR")] {
            let _ = condition(parameter, Some(json), operator);
        }
    }
    let _ = key_condition(json);
    if let Ok(update) = update(json) {
        let _ = update.apply(&ItemView { item: None, keys: &Document::empty() });
    }
}
