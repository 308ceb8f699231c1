//! Items between the JSON of the DynamoDB protocol and documents. Every value there is an object with one name,
//! which is its type:
//!
//! | name | JSON behind it | in a document |
//! |---|---|---|
//! | `S` | a string | string |
//! | `N` | a number as a string, in any spelling | number, canonical |
//! | `B` | a string in base64 with padding | binary |
//! | `BOOL` | `true`, `false` | boolean |
//! | `NULL` | `true` | null |
//! | `M` | names and values | map |
//! | `L` | values | list |
//! | `SS`, `NS`, `BS` | strings, numbers as strings, base64 | sets |
//!
//! Reading is one pass of a pull parser straight into the document's buffer. A name with `null` behind it counts as not
//! given, and names that are no type are skipped, as AWS does both. Two families of mistakes are told apart: JSON that
//! cannot be such a value at all (a number behind `S`), which AWS finds before anything else, and a value that may
//! not be stored (an empty set). The pass stops at the first of either; where that is one of the second family, and only
//! then, the text is walked once more for one of the first, so that both come in AWS's order and good requests
//! pay for neither.
//!
//! Key attributes are no part of a stored document; [`read_split`] parts them from the others while it reads, and
//! [`write_item`] puts both together again, in order of their names.
//!
//! What the next author must keep: nothing here calls itself deeper than the builder has levels, or [`SHAPE_LEVELS_MAX`]
//! where nothing is built; texts from requests stand in messages only where AWS puts them there.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiter::{Jiter, JiterError, Peek};

use super::failure::Failure;
use crate::domain::document::{BuildError, Builder, Document};
use crate::domain::number::{Number, NumberError};

mod shape;
#[cfg(test)]
mod tests;
mod write;

pub use shape::{SHAPE_LEVELS_MAX, Shape, check_shape};
pub use write::{write_item, write_value};

/// What is wrong with the JSON of an item or a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is no JSON.
    Syntax,
    /// It is JSON, and no such value can be written like that.
    Serialization(Cow<'static, str>),
    /// It is a value, and may not be stored.
    Validation(Cow<'static, str>),
}

impl Problem {
    pub(super) fn serialization(text: impl Into<Cow<'static, str>>) -> Self {
        Problem::Serialization(text.into())
    }

    pub(super) fn validation(text: impl Into<Cow<'static, str>>) -> Self {
        Problem::Validation(text.into())
    }

    /// The same, where it may not be stored with this around its text.
    pub(super) fn within(self, before: &str, after: &str) -> Self {
        match self {
            Problem::Validation(text) => Problem::validation(format!("{before}{text}{after}")),
            other => other,
        }
    }
}

impl From<JiterError> for Problem {
    fn from(_: JiterError) -> Self {
        Problem::Syntax
    }
}

impl From<BuildError> for Problem {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::TooDeep => Problem::validation("Nesting Levels have exceeded supported limits"),
            BuildError::DuplicateName => Problem::serialization("Duplicate field in a map"),
            BuildError::NameTooLong => Problem::validation(
                "One or more parameter values were invalid: Attribute name is too large, must be less than 65536 bytes",
            ),
            BuildError::TooLarge | BuildError::ListTooLong => Problem::validation(ITEM_TOO_LARGE),
            BuildError::Number(error) => number_problem(error, b""),
            BuildError::EmptySet | BuildError::DuplicateElement | BuildError::Unbalanced => {
                Problem::validation("One or more parameter values were invalid")
            }
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        match problem {
            Problem::Syntax => Failure::not_json(),
            Problem::Serialization(text) => Failure::serialization(text),
            Problem::Validation(text) => Failure::validation(text),
        }
    }
}

pub use crate::replication::apply::ITEM_TOO_LARGE;
/// What AWS says of a value without a type.
pub const EMPTY_VALUE: &str = "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes";
/// What AWS says of a value with several.
pub const SEVERAL_TYPES: &str =
    "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes";

/// What AWS says of a number that cannot be stored.
pub fn number_problem(error: NumberError, text: &[u8]) -> Problem {
    match error {
        NumberError::Digits => Problem::validation("Attempting to store more than 38 significant digits in a Number"),
        NumberError::Overflow => Problem::validation(
            "Number overflow. Attempting to store a number with magnitude larger than supported range",
        ),
        NumberError::Underflow => Problem::validation(
            "Number underflow. Attempting to store a number with magnitude smaller than supported range",
        ),
        NumberError::Syntax | NumberError::Encoding if text.is_empty() => {
            Problem::validation("The parameter cannot be converted to a numeric value")
        }
        NumberError::Syntax | NumberError::Encoding => Problem::validation(format!(
            "The parameter cannot be converted to a numeric value: {}",
            String::from_utf8_lossy(text)
        )),
    }
}

/// A type, as the protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    S,
    N,
    B,
    Bool,
    Null,
    M,
    L,
    Ss,
    Ns,
    Bs,
}

impl Tag {
    pub(super) fn of(name: &str) -> Option<Tag> {
        Some(match name {
            "S" => Tag::S,
            "N" => Tag::N,
            "B" => Tag::B,
            "BOOL" => Tag::Bool,
            "NULL" => Tag::Null,
            "M" => Tag::M,
            "L" => Tag::L,
            "SS" => Tag::Ss,
            "NS" => Tag::Ns,
            "BS" => Tag::Bs,
            _ => return None,
        })
    }
}

/// Reads an item, or any other map of names and values such as a `Key`.
///
/// # Errors
/// [`Problem`], in AWS's order.
pub fn read_item(json: &[u8]) -> Result<Document, Problem> {
    let mut reading = Reading::new(json);
    let mut builder = Builder::with_capacity(json.len());
    let read = reading.item(&mut builder);
    ordered(json, read, shape::check_item)?;
    Ok(builder.finish()?)
}

/// An item, its key attributes apart from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The attributes that were to be parted, as far as they were given.
    pub keys: Document,
    /// All others.
    pub rest: Document,
}

impl Split {
    /// The item size of both together, which is that of the item.
    pub fn item_size(&self) -> usize {
        self.keys.item_size() + self.rest.item_size()
    }
}

/// Reads an item, and parts the attributes of these names from the others.
///
/// # Errors
/// As [`read_item`].
pub fn read_split(json: &[u8], key_names: &[&str]) -> Result<Split, Problem> {
    // Base64 and the types' names shrink; numbers with exponents grow, and the builder with them.
    let mut reading = Reading::new(json);
    let mut rest = Builder::with_capacity(json.len());
    let mut keys = Builder::new();
    let read = reading.split(&mut keys, &mut rest, key_names);
    ordered(json, read, shape::check_item)?;
    Ok(Split { keys: keys.finish()?, rest: rest.finish()? })
}

/// Reads one value: a document with the one attribute `name`.
///
/// # Errors
/// As [`read_item`].
pub fn read_value(json: &[u8], name: &str) -> Result<Document, Problem> {
    let mut reading = Reading::new(json);
    let mut builder = Builder::with_capacity(json.len());
    builder.name(name)?;
    let read = reading.value(&mut builder).and_then(|()| reading.end());
    ordered(json, read, shape::check_value)?;
    Ok(builder.finish()?)
}

/// Reads a map of placeholders, as `ExpressionAttributeValues` is. `name_of` gives the attribute that a placeholder becomes.
///
/// # Errors
/// As [`read_item`]; the texts tell the placeholder.
pub fn read_placeholders(json: &[u8], name_of: fn(&str) -> Result<&str, Problem>) -> Result<Document, Problem> {
    let mut reading = Reading::new(json);
    let mut builder = Builder::with_capacity(json.len());
    let read = reading.placeholders(&mut builder, name_of);
    ordered(json, read, shape::check_item)?;
    Ok(builder.finish()?)
}

/// What went wrong, in AWS's order: where it is a value that may not be stored, one that cannot be one goes before it.
fn ordered(
    json: &[u8],
    read: Result<(), Problem>,
    check_shape: fn(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    if let Err(Problem::Validation(_)) = read {
        check_shape(json)?;
    }
    read
}

/// A pass over JSON.
struct Reading<'j> {
    jiter: Jiter<'j>,
    /// Elements of the set that is being read, one after the other, and where each ends.
    elements: Vec<u8>,
    ends: Vec<usize>,
}

impl<'j> Reading<'j> {
    fn new(json: &'j [u8]) -> Self {
        Self { jiter: Jiter::new(json), elements: Vec::new(), ends: Vec::new() }
    }

    fn end(&mut self) -> Result<(), Problem> {
        Ok(self.jiter.finish()?)
    }

    fn item(&mut self, builder: &mut Builder) -> Result<(), Problem> {
        let peek = self.jiter.peek()?;
        shape::expect_map(peek)?;
        let mut next = self.jiter.known_object()?;
        while let Some(name) = next {
            check_name(name)?;
            builder.name(name)?;
            self.value(builder)?;
            next = self.jiter.next_key()?;
        }
        self.end()
    }

    fn split(&mut self, keys: &mut Builder, rest: &mut Builder, key_names: &[&str]) -> Result<(), Problem> {
        let peek = self.jiter.peek()?;
        shape::expect_map(peek)?;
        let mut is_key = match self.jiter.known_object()? {
            None => return self.end(),
            Some(name) => begin(name, keys, rest, key_names)?,
        };
        loop {
            self.value(if is_key { &mut *keys } else { &mut *rest })?;
            is_key = match self.jiter.next_key()? {
                None => return self.end(),
                Some(name) => begin(name, keys, rest, key_names)?,
            };
        }
    }

    fn placeholders(
        &mut self,
        builder: &mut Builder,
        name_of: fn(&str) -> Result<&str, Problem>,
    ) -> Result<(), Problem> {
        let peek = self.jiter.peek()?;
        shape::expect_map(peek)?;
        let mut placeholder = self.jiter.known_object()?.map(str::to_owned);
        while let Some(name) = placeholder {
            builder.name(name_of(&name)?)?;
            self.value(builder).map_err(|problem| {
                problem.within("ExpressionAttributeValues contains invalid value: ", &format!(" for key {name}"))
            })?;
            placeholder = self.jiter.next_key()?.map(str::to_owned);
        }
        self.end()
    }

    /// Reads one value with its type.
    fn value(&mut self, builder: &mut Builder) -> Result<(), Problem> {
        let peek = self.jiter.peek()?;
        shape::expect_value(peek)?;
        let mut name = self.jiter.known_object()?.map(Tag::of);
        let mut is_typed = false;
        while let Some(tag) = name {
            let peek = self.jiter.peek()?;
            match tag {
                None => self.jiter.known_skip(peek)?,
                Some(_) if peek == Peek::Null => self.jiter.known_null()?,
                Some(_) if is_typed => return Err(Problem::validation(SEVERAL_TYPES)),
                Some(tag) => {
                    is_typed = true;
                    self.typed(tag, peek, builder)?;
                }
            }
            name = self.jiter.next_key()?.map(Tag::of);
        }
        if is_typed { Ok(()) } else { Err(Problem::validation(EMPTY_VALUE)) }
    }

    fn typed(&mut self, tag: Tag, peek: Peek, builder: &mut Builder) -> Result<(), Problem> {
        shape::expect(tag, peek)?;
        match tag {
            Tag::S => builder.string(self.jiter.known_str()?)?,
            Tag::N => {
                let text = self.jiter.known_str()?.as_bytes();
                builder.number(text).map_err(|error| of_number(error, text))?;
            }
            Tag::B => {
                self.elements.clear();
                shape::decode_base64(self.jiter.known_str()?, &mut self.elements)?;
                builder.binary(&self.elements)?;
            }
            Tag::Bool => builder.boolean(self.jiter.known_bool(peek)?)?,
            Tag::Null => {
                if !self.jiter.known_bool(peek)? {
                    return Err(Problem::validation(
                        "One or more parameter values were invalid: Null attribute value types must have the value of true",
                    ));
                }
                builder.null()?;
            }
            Tag::M => self.map(builder)?,
            Tag::L => self.list(builder)?,
            Tag::Ss | Tag::Ns | Tag::Bs => self.set(tag, builder)?,
        }
        Ok(())
    }

    fn map(&mut self, builder: &mut Builder) -> Result<(), Problem> {
        builder.open_map()?;
        let mut more = match self.jiter.known_object()? {
            None => false,
            Some(name) => {
                builder.name(name)?;
                true
            }
        };
        while more {
            self.value(builder)?;
            more = match self.jiter.next_key()? {
                None => false,
                Some(name) => {
                    builder.name(name)?;
                    true
                }
            };
        }
        Ok(builder.close_map()?)
    }

    fn list(&mut self, builder: &mut Builder) -> Result<(), Problem> {
        builder.open_list()?;
        let mut next = self.jiter.known_array()?;
        while next.is_some() {
            self.value(builder)?;
            next = self.jiter.array_step()?;
        }
        Ok(builder.close_list()?)
    }

    fn set(&mut self, tag: Tag, builder: &mut Builder) -> Result<(), Problem> {
        self.elements.clear();
        self.ends.clear();
        let mut next = self.jiter.known_array()?;
        while let Some(peek) = next {
            shape::expect_element(tag, peek)?;
            let text = self.jiter.known_str()?;
            if tag == Tag::Bs {
                shape::decode_base64(text, &mut self.elements)?;
            } else {
                self.elements.extend_from_slice(text.as_bytes());
            }
            self.ends.push(self.elements.len());
            next = self.jiter.array_step()?;
        }
        let built = match tag {
            Tag::Ns => builder.number_set(self.slices()),
            Tag::Bs => builder.binary_set(self.slices()),
            // What the parser took for a string is UTF-8.
            _ => builder.string_set(self.slices().map(|text| std::str::from_utf8(text).unwrap_or_default())),
        };
        built.map_err(|error| self.set_problem(tag, error))
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(move |(start, end)| &self.elements[start..*end])
    }

    fn set_problem(&self, tag: Tag, error: BuildError) -> Problem {
        let invalid = |text: &str| Problem::validation(format!("One or more parameter values were invalid: {text}"));
        match (error, tag) {
            (BuildError::EmptySet, Tag::Ss) => invalid("An string set  may not be empty"),
            (BuildError::EmptySet, Tag::Ns) => invalid("An number set  may not be empty"),
            (BuildError::EmptySet, _) => invalid("Binary sets should not be empty"),
            (BuildError::DuplicateElement, Tag::Ns) => Problem::validation("Input collection contains duplicates"),
            (BuildError::DuplicateElement, Tag::Bs) => {
                let all: Vec<String> = self.slices().map(|bytes| STANDARD.encode(bytes)).collect();
                invalid(&format!("Input collection [{}]of type BS contains duplicates.", all.join(", ")))
            }
            (BuildError::DuplicateElement, _) => {
                let all: Vec<Cow<'_, str>> = self.slices().map(String::from_utf8_lossy).collect();
                invalid(&format!("Input collection [{}] contains duplicates.", all.join(", ")))
            }
            (BuildError::Number(error), _) => {
                let wrong = self.slices().find(|text| Number::parse_bytes(text).is_err());
                number_problem(error, wrong.unwrap_or_default())
            }
            (error, _) => error.into(),
        }
    }
}

/// Checks the name of an attribute; those within maps may be empty.
fn check_name(name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::validation(
            "One or more parameter values were invalid: An attribute name may not be empty",
        ));
    }
    Ok(())
}

/// Gives the name to the builder that the attribute belongs to; whether that is the one of keys.
fn begin(name: &str, keys: &mut Builder, rest: &mut Builder, key_names: &[&str]) -> Result<bool, Problem> {
    check_name(name)?;
    let is_key = key_names.contains(&name);
    if is_key {
        keys.name(name)?
    } else {
        rest.name(name)?
    }
    Ok(is_key)
}

fn of_number(error: BuildError, text: &[u8]) -> Problem {
    match error {
        BuildError::Number(error) => number_problem(error, text),
        other => other.into(),
    }
}

/// Reads any bytes as an item; what is read must be written and read again as the same.
#[doc(hidden)]
pub fn fuzz_attribute_values(data: &[u8]) {
    let Ok(document) = read_item(data) else { return };
    let mut json = Vec::new();
    write_item(&document, None, &mut json);
    assert!(read_item(&json).as_ref() == Ok(&document), "an item reads back from what was written of it");
    let split = read_split(&json, &["id", "sort"]).expect("an item that was read can be parted");
    assert_eq!(split.item_size(), document.item_size());
    let mut together = Vec::new();
    write_item(&split.rest, Some(&split.keys), &mut together);
    assert!(together == json, "the parts of an item are the item");
}
