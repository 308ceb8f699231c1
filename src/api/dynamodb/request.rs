//! What requests have in common: their JSON parsed once into structs whose larger parts stay slices of the body, the types of
//! single members with the texts of AWS's deserializer, the checks that AWS's service model makes before any
//! operation looks at a parameter, and the words that several operations take.
//!
//! A struct of an operation lists its members as [`Text`], [`Flag`], [`Count`], [`Texts`], [`Names`] or [`Raw`]; each is none
//! where the member is missing or `null`, and members that are not listed are skipped, as AWS does. [`parse`] makes the
//! Failure of whatever is wrong. Then [`Constraints`] gathers what the model does not allow: AWS tells all of it at once.

use std::fmt::Display;

use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::attribute_value::{self, Problem};
use super::failure::Failure;
use crate::domain::document::Document;
use crate::expression;

mod members;
#[cfg(test)]
mod tests;

pub use members::{Count, Flag, Names, RawList, RawMap, Text, Texts};

/// A part of the body that is read later; none where it is missing or `null`.
pub type Raw<'a> = Option<&'a RawValue>;

/// Parses a body.
///
/// # Errors
/// SerializationException: without a text where the body is no JSON object or has a member twice, else with AWS's.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    // A struct could be read from a list, too, and an operation takes none.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Failure::not_json());
    }
    // All of it is checked to be text first, also what no operation looks at; then the parser need not.
    let text = std::str::from_utf8(body).map_err(|_| Failure::not_json())?;
    serde_json::from_str(text).map_err(|error| failure(&error))
}

/// Parses a part of a body, such as one request of a batch.
///
/// # Errors
/// As [`parse`].
pub fn parse_part<'a, T: Deserialize<'a>>(part: &'a RawValue) -> Result<T, Failure> {
    match part.get().as_bytes().first() {
        Some(b'{') => serde_json::from_str(part.get()).map_err(|error| failure(&error)),
        Some(b'[') => Err(Failure::serialization("Unrecognized collection type class")),
        _ => Err(Failure::serialization("Unexpected value type in payload")),
    }
}

/// Parses a part of a body that is a list.
///
/// # Errors
/// As [`parse`].
pub fn parse_list<'a>(part: &'a RawValue) -> Result<RawList<'a>, Failure> {
    serde_json::from_str(part.get()).map_err(|error| failure(&error))
}

fn failure(error: &serde_json::Error) -> Failure {
    if !error.is_data() {
        return Failure::not_json();
    }
    // The parser appends the place, which AWS does not tell.
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(place.as_str()).unwrap_or(&text) {
        // The parser's own words, which name our types and quote the body. What AWS says of the first is not known.
        own if own.starts_with("duplicate field") => Failure::not_json(),
        own if own.starts_with("invalid ") => Failure::serialization("Unexpected value type in payload"),
        words => Failure::serialization(words),
    }
}

/// What the service model allows in names of tables and indexes.
pub const NAME_RULE: &str = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
/// Their shortest and longest.
const NAME_CHARACTERS: (usize, usize) = (3, 255);

/// Whether a name keeps to [`NAME_RULE`].
pub fn is_spelled(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.is_empty() && name.bytes().all(is_letter)
}

/// What the service model does not allow, gathered: AWS tells up to ten of them at once.
#[derive(Debug, Default)]
pub struct Constraints(Vec<String>);

impl Constraints {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `value` at `place` (in the spelling of the model, such as `tableName`) breaks this rule: "Member must …".
    pub fn broken(&mut self, value: impl Display, place: &str, rule: &str) {
        self.0.push(format!("Value '{value}' at '{place}' failed to satisfy constraint: {rule}"));
    }

    /// A member that must be given is not.
    pub fn missing(&mut self, place: &str) {
        self.0.push(format!("Value null at '{place}' failed to satisfy constraint: Member must not be null"));
    }

    /// Notes a member that must be given, where it is not.
    pub fn required<T>(&mut self, place: &str, value: Option<&T>) {
        if value.is_none() {
            self.missing(place);
        }
    }

    /// One of the words that a member takes; none where it was not given, or is none of them (which is noted).
    pub fn word<T: Copy>(&mut self, place: &str, value: &Text<'_>, words: &[(&str, T)]) -> Option<T> {
        let given = value.get()?;
        let found = words.iter().find(|(word, _)| *word == given).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.broken(given, place, &format!("Member must satisfy enum value set: [{}]", all.join(", ")));
        }
        found
    }

    /// Notes a count below `least` or above `most`.
    pub fn within(&mut self, place: &str, value: Count, least: i64, most: i64) {
        match value.0 {
            Some(value) if value < least => {
                self.broken(value, place, &format!("Member must have value greater than or equal to {least}"));
            }
            Some(value) if value > most => {
                self.broken(value, place, &format!("Member must have value less than or equal to {most}"));
            }
            _ => {}
        }
    }

    /// Notes a string shorter than `least` or longer than `most` characters.
    pub fn length(&mut self, place: &str, value: &str, least: usize, most: usize) {
        let length = value.chars().count();
        if length < least {
            self.broken(value, place, &format!("Member must have length greater than or equal to {least}"));
        } else if length > most {
            self.broken(value, place, &format!("Member must have length less than or equal to {most}"));
        }
    }

    /// Notes a name of a table or an index with other letters than there may be, then one that is too short or too long.
    pub fn spelled(&mut self, place: &str, name: &str) {
        if !is_spelled(name) {
            self.broken(name, place, NAME_RULE);
        }
        self.length(place, name, NAME_CHARACTERS.0, NAME_CHARACTERS.1);
    }

    /// All that was noted, as one failure.
    ///
    /// # Errors
    /// ValidationException, where anything was.
    pub fn finish(self) -> Result<(), Failure> {
        let count = self.0.len();
        if count == 0 {
            return Ok(());
        }
        let noun = if count == 1 { "error" } else { "errors" };
        let texts = self.0[..count.min(10)].join("; ");
        Err(Failure::validation(format!("{count} validation {noun} detected: {texts}")))
    }
}

/// ReturnValues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReturnValues {
    /// Nothing.
    #[default]
    None,
    /// The item as it was.
    AllOld,
    /// What was changed, as it was.
    UpdatedOld,
    /// The item as it is now.
    AllNew,
    /// What was changed, as it is now.
    UpdatedNew,
}

impl ReturnValues {
    /// Its words, in the order in which AWS tells them.
    pub const WORDS: &'static [(&'static str, ReturnValues)] = &[
        ("ALL_NEW", ReturnValues::AllNew),
        ("UPDATED_OLD", ReturnValues::UpdatedOld),
        ("ALL_OLD", ReturnValues::AllOld),
        ("NONE", ReturnValues::None),
        ("UPDATED_NEW", ReturnValues::UpdatedNew),
    ];
}

/// PutItem and DeleteItem change no part of an item, so they tell all of it or nothing.
///
/// # Errors
/// ValidationException for the other words.
pub fn only_old_or_none(returns: ReturnValues) -> Result<(), Failure> {
    match returns {
        ReturnValues::None | ReturnValues::AllOld => Ok(()),
        ReturnValues::AllNew | ReturnValues::UpdatedOld | ReturnValues::UpdatedNew => {
            Err(Failure::validation("ReturnValues can only be ALL_OLD or NONE"))
        }
    }
}

/// ReturnConsumedCapacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReturnConsumedCapacity {
    /// Nothing.
    #[default]
    None,
    /// The sum for each table.
    Total,
    /// And its parts: the table itself, and each index.
    Indexes,
}

impl ReturnConsumedCapacity {
    /// Its words, in the order in which AWS tells them.
    pub const WORDS: &'static [(&'static str, ReturnConsumedCapacity)] = &[
        ("INDEXES", ReturnConsumedCapacity::Indexes),
        ("TOTAL", ReturnConsumedCapacity::Total),
        ("NONE", ReturnConsumedCapacity::None),
    ];
}

/// The words of ReturnItemCollectionMetrics; whether they ask for sizes.
pub const ITEM_COLLECTION_METRICS: &[(&str, bool)] = &[("SIZE", true), ("NONE", false)];
/// The words of ReturnValuesOnConditionCheckFailure; whether they ask for the item.
pub const ON_CONDITION_FAILURE: &[(&str, bool)] = &[("ALL_OLD", true), ("NONE", false)];
/// The words of ConditionalOperator; whether one that holds is enough.
pub const CONDITIONAL_OPERATOR: &[(&str, bool)] = &[("OR", true), ("AND", false)];

/// A member that must be given: [`Constraints`] has noted it already where it is not.
///
/// # Errors
/// ValidationException.
pub fn given<T>(value: Option<T>, place: &str) -> Result<T, Failure> {
    value.ok_or_else(|| {
        let text = "failed to satisfy constraint: Member must not be null";
        Failure::validation(format!("1 validation error detected: Value null at '{place}' {text}"))
    })
}

/// The longest TableName as the service model has it: an ARN may stand there.
const TABLE_NAME_CHARACTERS_MAX: usize = 1024;

/// The TableName of an operation on items, after the checks of the service model; those of the name itself are made when it is
/// looked up ([`super::table_lookup`]).
pub fn check_table_name(constraints: &mut Constraints, name: &Text<'_>) {
    match name.get() {
        None => constraints.missing("tableName"),
        Some(name) => constraints.length("tableName", name, 1, TABLE_NAME_CHARACTERS_MAX),
    }
}

/// ExpressionAttributeValues as a document whose attributes are the placeholders without their colon.
///
/// # Errors
/// ValidationException and SerializationException with AWS's texts.
pub fn read_values(values: &RawValue) -> Result<Document, Failure> {
    let document = attribute_value::read_placeholders(values.get().as_bytes(), placeholder_name)?;
    if document.is_empty() {
        return Err(Failure::validation("ExpressionAttributeValues must not be empty"));
    }
    Ok(document)
}

/// The attribute that stands for a placeholder: `v` for `:v`.
fn placeholder_name(placeholder: &str) -> Result<&str, Problem> {
    expression::value_placeholder(placeholder).map_err(|error| Problem::validation(error.message))
}
