//! What a request gives for the placeholders of its expressions: ExpressionAttributeNames and
//! ExpressionAttributeValues.
//!
//! One [`Substitutions`] serves all expressions of a request, and notes which placeholders were used: those that no
//! expression used are an error once all are bound ([`Substitutions::finish`]). What was used is kept, so that a name
//! or a value that stands in many places is one in memory and, where values are concerned, one in a log entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::ExpressionError;
use super::lexer::is_word;
use super::limits::{PLACEHOLDER_BYTES_MAX, SUBSTITUTIONS_BYTES_MAX};
use super::role::Role;
use super::value::Value;
use crate::domain::document::Document;

const NAMES: &str = "ExpressionAttributeNames";
const VALUES: &str = "ExpressionAttributeValues";

/// What stands for `#name` and `:value`.
pub struct Substitutions<'a> {
    names: Option<&'a BTreeMap<String, String>>,
    values: Option<Document>,
    /// Placeholders with their sign, and what stands for them.
    used_names: BTreeMap<Arc<str>, Arc<str>>,
    used_values: BTreeMap<Arc<str>, Value>,
}

impl<'a> Substitutions<'a> {
    /// The names and values of one request. Attributes of `values` are the placeholders without their colon.
    ///
    /// # Errors
    /// Where one of the two is given but empty, a placeholder of a name is none, or there is too much of all.
    pub fn new(
        names: Option<&'a BTreeMap<String, String>>,
        values: Option<Document>,
    ) -> Result<Substitutions<'a>, ExpressionError> {
        if let Some(names) = names {
            check_names(names)?;
        }
        if let Some(values) = &values {
            if values.is_empty() {
                return Err(ExpressionError::new(format!("{VALUES} must not be empty")));
            }
            if values.item_size() > SUBSTITUTIONS_BYTES_MAX {
                return Err(ExpressionError::new(format!("{VALUES} exceeds max size")));
            }
        }
        Ok(Substitutions { names, values, used_names: BTreeMap::new(), used_values: BTreeMap::new() })
    }

    /// Without names and values.
    pub fn none() -> Substitutions<'static> {
        Substitutions { names: None, values: None, used_names: BTreeMap::new(), used_values: BTreeMap::new() }
    }

    /// The name for a placeholder.
    pub(super) fn name(&mut self, role: Role, placeholder: &Arc<str>) -> Result<Arc<str>, ExpressionError> {
        if let Some(name) = self.used_names.get(placeholder) {
            return Ok(Arc::clone(name));
        }
        let Some(name) = self.names.and_then(|names| names.get(&**placeholder)) else {
            let what = "An expression attribute name used in the document path is not defined; attribute name";
            return Err(ExpressionError::invalid(role, format_args!("{what}: {placeholder}")));
        };
        let name: Arc<str> = name.as_str().into();
        self.used_names.insert(Arc::clone(placeholder), Arc::clone(&name));
        Ok(name)
    }

    /// The value for a placeholder.
    pub(super) fn value(&mut self, role: Role, placeholder: &Arc<str>) -> Result<Value, ExpressionError> {
        if let Some(value) = self.used_values.get(placeholder) {
            return Ok(value.clone());
        }
        let bare = placeholder.strip_prefix(':').unwrap_or(placeholder);
        let node = self.values.as_ref().and_then(|values| values.get(bare));
        // A value of a document stands as deep as before, so it can always be copied.
        let Some(value) = node.and_then(|node| Value::new(node).ok()) else {
            let what = "An expression attribute value used in expression is not defined; attribute value";
            return Err(ExpressionError::invalid(role, format_args!("{what}: {placeholder}")));
        };
        self.used_values.insert(Arc::clone(placeholder), value.clone());
        Ok(value)
    }

    /// Says what no expression used. Asked once all expressions of the request are bound.
    ///
    /// # Errors
    /// Names first, then values.
    pub fn finish(&self) -> Result<(), ExpressionError> {
        let names = self.names.into_iter().flat_map(BTreeMap::keys).map(String::as_str);
        unused(NAMES, names.filter(|name| !self.used_names.contains_key(*name)).map(str::to_owned))?;
        let values = self.values.iter().flat_map(|values| values.entries()).map(|(name, _)| format!(":{name}"));
        unused(VALUES, values.filter(|value| !self.used_values.contains_key(value.as_str())))
    }
}

fn unused(parameter: &str, keys: impl Iterator<Item = String>) -> Result<(), ExpressionError> {
    let keys: Vec<String> = keys.collect();
    if keys.is_empty() {
        return Ok(());
    }
    let keys = keys.join(", ");
    Err(ExpressionError::new(format!("Value provided in {parameter} unused in expressions: keys: {{{keys}}}")))
}

fn check_names(names: &BTreeMap<String, String>) -> Result<(), ExpressionError> {
    if names.is_empty() {
        return Err(ExpressionError::new(format!("{NAMES} must not be empty")));
    }
    if names.iter().map(|(placeholder, name)| placeholder.len() + name.len()).sum::<usize>() > SUBSTITUTIONS_BYTES_MAX {
        return Err(ExpressionError::new(format!("{NAMES} exceeds max size")));
    }
    for (placeholder, name) in names {
        check_placeholder(NAMES, placeholder, '#')?;
        if name.is_empty() {
            let what = "contains invalid value: Empty attribute name for key";
            return Err(ExpressionError::new(format!("{NAMES} {what} {placeholder}")));
        }
    }
    Ok(())
}

fn check_placeholder<'k>(parameter: &str, key: &'k str, sign: char) -> Result<&'k str, ExpressionError> {
    if key.len() > PLACEHOLDER_BYTES_MAX {
        let what = "The expression attribute map contains a key that is too long; size of key";
        return Err(ExpressionError::new(format!("{parameter} contains invalid key: {what}: {}", key.len())));
    }
    match key.strip_prefix(sign) {
        Some(bare) if !bare.is_empty() && bare.as_bytes().iter().all(is_word) => Ok(bare),
        _ => Err(ExpressionError::new(format!("{parameter} contains invalid key: Syntax error; key: \"{key}\""))),
    }
}

/// The placeholder of a value without its colon, for whoever reads the values of a request.
///
/// # Errors
/// Where it is no placeholder of a value.
pub fn value_placeholder(key: &str) -> Result<&str, ExpressionError> {
    check_placeholder(VALUES, key, ':')
}
