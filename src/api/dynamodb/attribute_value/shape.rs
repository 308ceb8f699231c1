//! Whether JSON can be a value at all, whatever it says: what stands behind each type, with the texts of AWS's
//! deserializer. The reader asks it for every value that it comes to. [`check_item`] and [`check_value`] walk a whole text for
//! nothing else, and [`check_shape`] what a request has around such texts; that is done only where something else was wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiter::{Jiter, Peek};

use super::{EMPTY_VALUE, Problem, Tag};

/// How deep the walk goes; what is deeper is refused for its depth anyway.
pub const SHAPE_LEVELS_MAX: usize = 64;

/// What stands in lists of requests, as AWS's texts name it.
const ATTRIBUTE_VALUE: &str = "com.amazonaws.dynamodb.v20120810.AttributeValue";
const STRUCTURE: &str = "Start of structure or map found where not expected";
const BASE64: &str = "only base-64-encoded strings are convertible to bytes";

/// A map of names and values can start like this.
pub(super) fn expect_map(peek: Peek) -> Result<(), Problem> {
    match peek {
        Peek::Object => Ok(()),
        Peek::Array => Err(Problem::serialization(
            "Unrecognized collection type java.util.Map<java.lang.String, com.amazonaws.dynamodb.v20120810.AttributeValue>",
        )),
        _ => Err(Problem::serialization("Unexpected field type")),
    }
}

/// A value with its type can start like this.
pub(super) fn expect_value(peek: Peek) -> Result<(), Problem> {
    match peek {
        Peek::Object => Ok(()),
        Peek::Null => Err(Problem::validation(EMPTY_VALUE)),
        Peek::Array => Err(Problem::serialization(
            "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.AttributeValue",
        )),
        _ => Err(Problem::serialization("Unexpected value type in payload")),
    }
}

/// What stands behind this type can start like this.
pub(super) fn expect(tag: Tag, peek: Peek) -> Result<(), Problem> {
    match tag {
        Tag::S | Tag::N => expect_string(peek),
        Tag::B => expect_binary(peek),
        Tag::Bool | Tag::Null => expect_boolean(peek),
        Tag::M => expect_map(peek),
        Tag::L => expect_list(peek, ATTRIBUTE_VALUE),
        Tag::Ss | Tag::Ns => expect_list(peek, "java.lang.String"),
        Tag::Bs => expect_list(peek, "java.nio.ByteBuffer"),
    }
}

/// An element of this set can start like this.
pub(super) fn expect_element(tag: Tag, peek: Peek) -> Result<(), Problem> {
    match (tag, peek) {
        (Tag::Bs, Peek::Null) => Err(Problem::validation(
            "One or more parameter values were invalid: Binary sets may not contain null values",
        )),
        (_, Peek::Null) => Err(Problem::validation(
            "One or more parameter values were invalid: An string set may not have a null string as a member",
        )),
        (Tag::Bs, peek) => expect_binary(peek),
        (_, peek) => expect_string(peek),
    }
}

fn expect_string(peek: Peek) -> Result<(), Problem> {
    Err(Problem::serialization(match peek {
        Peek::String => return Ok(()),
        Peek::True => "TRUE_VALUE cannot be converted to String",
        Peek::False => "FALSE_VALUE cannot be converted to String",
        Peek::Object => STRUCTURE,
        Peek::Array => "Unrecognized collection type class java.lang.String",
        _ => "NUMBER_VALUE cannot be converted to String",
    }))
}

fn expect_boolean(peek: Peek) -> Result<(), Problem> {
    Err(Problem::serialization(match peek {
        Peek::True | Peek::False => return Ok(()),
        Peek::String => "Unexpected token received from parser",
        Peek::Object => STRUCTURE,
        Peek::Array => "Unrecognized collection type class java.lang.Boolean",
        _ => "NUMBER_VALUE cannot be converted to Boolean",
    }))
}

fn expect_binary(peek: Peek) -> Result<(), Problem> {
    Err(Problem::serialization(match peek {
        Peek::String => return Ok(()),
        Peek::Object => STRUCTURE,
        Peek::Array => "Unrecognized collection type class java.nio.ByteBuffer",
        _ => BASE64,
    }))
}

fn expect_list(peek: Peek, element: &str) -> Result<(), Problem> {
    match peek {
        Peek::Array => Ok(()),
        Peek::Object => Err(Problem::serialization(STRUCTURE)),
        Peek::String | Peek::True | Peek::False => Err(Problem::serialization("Unexpected field type")),
        _ => Err(Problem::serialization(format!("NUMBER_VALUE cannot be converted to java.util.List<{element}>"))),
    }
}

/// A structure, or a map of others, can start like this.
fn expect_structure(peek: Peek) -> Result<(), Problem> {
    match peek {
        Peek::Object => Ok(()),
        Peek::Array => Err(Problem::serialization("Unrecognized collection type class")),
        _ => Err(Problem::serialization("Unexpected value type in payload")),
    }
}

/// Appends what this base64 stands for.
pub(super) fn decode_base64(text: &str, bytes: &mut Vec<u8>) -> Result<(), Problem> {
    STANDARD.decode_vec(text, bytes).map_err(|_| {
        if text.len().is_multiple_of(4) {
            Problem::serialization(BASE64)
        } else {
            let length = text.len();
            Problem::serialization(format!(
                "Base64 encoded length is expected a multiple of 4 bytes but found: {length}"
            ))
        }
    })
}

/// Walks a map of names and values for what can be none.
pub(super) fn check_item(json: &[u8]) -> Result<(), Problem> {
    let mut jiter = Jiter::new(json);
    let peek = jiter.peek()?;
    only_shape(entries(&mut jiter, peek, 0))
}

/// Walks one value for what can be none.
pub(super) fn check_value(json: &[u8]) -> Result<(), Problem> {
    let mut jiter = Jiter::new(json);
    let peek = jiter.peek()?;
    only_shape(value(&mut jiter, peek, 0))
}

/// What a part of a request is made of that has attribute values in it.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// One value with its type.
    Value,
    /// A map of names and values, as an item is one.
    Item,
    /// A list of such parts.
    List(&'static Shape),
    /// A map of names and such parts.
    Map(&'static Shape),
    /// A structure with these members, which may be missing or `null`. Others are skipped.
    Structure(&'static [(&'static str, Shape)]),
}

/// Walks a part of a request for what can be none. That it is JSON must be known already.
///
/// # Errors
/// [`Problem::Serialization`], and [`Problem::Syntax`] for a string that is no text.
pub fn check_shape(json: &[u8], shape: Shape) -> Result<(), Problem> {
    let mut jiter = Jiter::new(json);
    let peek = jiter.peek()?;
    only_shape(part(&mut jiter, peek, shape))
}

/// What the walk ends with, where it does not go through.
enum Stop {
    Problem(Problem),
    TooDeep,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Problem(problem)
    }
}

impl From<jiter::JiterError> for Stop {
    fn from(error: jiter::JiterError) -> Self {
        Stop::Problem(error.into())
    }
}

/// Mistakes of the other family are not what the walk looks for.
fn only_shape(walked: Result<(), Stop>) -> Result<(), Problem> {
    match walked {
        Err(Stop::Problem(problem @ (Problem::Syntax | Problem::Serialization(_)))) => Err(problem),
        Ok(()) | Err(Stop::Problem(Problem::Validation(_)) | Stop::TooDeep) => Ok(()),
    }
}

/// As deep as the shape is, and then as deep as values go.
fn part(jiter: &mut Jiter<'_>, peek: Peek, shape: Shape) -> Result<(), Stop> {
    match shape {
        Shape::Text => {
            expect_string(peek)?;
            jiter.known_str()?;
        }
        Shape::Flag => {
            expect_boolean(peek)?;
            jiter.known_skip(peek)?;
        }
        Shape::Value => value(jiter, peek, 0)?,
        Shape::Item => entries(jiter, peek, 0)?,
        Shape::List(_) if peek == Peek::Null => jiter.known_null()?,
        Shape::List(element) => {
            expect_list(peek, ATTRIBUTE_VALUE)?;
            let mut next = jiter.known_array()?;
            while let Some(peek) = next {
                part(jiter, peek, *element)?;
                next = jiter.array_step()?;
            }
        }
        Shape::Map(entry) => {
            expect_structure(peek)?;
            let mut more = jiter.known_object()?.is_some();
            while more {
                let peek = jiter.peek()?;
                part(jiter, peek, *entry)?;
                more = jiter.next_key()?.is_some();
            }
        }
        Shape::Structure(members) => structure(jiter, peek, members)?,
    }
    Ok(())
}

fn structure(jiter: &mut Jiter<'_>, peek: Peek, members: &'static [(&'static str, Shape)]) -> Result<(), Stop> {
    expect_structure(peek)?;
    let find = |name: &str| members.iter().find(|(member, _)| *member == name).map(|(_, shape)| *shape);
    let mut member = jiter.known_object()?.map(find);
    while let Some(shape) = member {
        let peek = jiter.peek()?;
        match shape {
            Some(_) if peek == Peek::Null => jiter.known_null()?,
            Some(shape) => part(jiter, peek, shape)?,
            // It is JSON, and nobody looks at it: it can only be too deep to be passed over.
            None => jiter.known_skip(peek).map_err(|_| Stop::TooDeep)?,
        }
        member = jiter.next_key()?.map(find);
    }
    Ok(())
}

fn entries(jiter: &mut Jiter<'_>, peek: Peek, level: usize) -> Result<(), Stop> {
    expect_map(peek)?;
    let mut more = jiter.known_object()?.is_some();
    while more {
        let peek = jiter.peek()?;
        value(jiter, peek, level)?;
        more = jiter.next_key()?.is_some();
    }
    Ok(())
}

fn value(jiter: &mut Jiter<'_>, peek: Peek, level: usize) -> Result<(), Stop> {
    if level == SHAPE_LEVELS_MAX {
        return Err(Stop::TooDeep);
    }
    if peek == Peek::Null {
        return Ok(jiter.known_null()?);
    }
    expect_value(peek)?;
    let mut name = jiter.known_object()?.map(Tag::of);
    while let Some(tag) = name {
        let peek = jiter.peek()?;
        match tag {
            Some(tag) if peek != Peek::Null => {
                expect(tag, peek)?;
                typed(jiter, tag, peek, level)?;
            }
            _ => jiter.known_skip(peek)?,
        }
        name = jiter.next_key()?.map(Tag::of);
    }
    Ok(())
}

fn typed(jiter: &mut Jiter<'_>, tag: Tag, peek: Peek, level: usize) -> Result<(), Stop> {
    match tag {
        Tag::Bool | Tag::Null => jiter.known_skip(peek)?,
        // Not skipped: half a surrogate pair is no text.
        Tag::S | Tag::N => {
            jiter.known_str()?;
        }
        Tag::B => decode_base64(jiter.known_str()?, &mut Vec::new())?,
        Tag::M => entries(jiter, peek, level + 1)?,
        Tag::L => {
            let mut next = jiter.known_array()?;
            while let Some(peek) = next {
                value(jiter, peek, level + 1)?;
                next = jiter.array_step()?;
            }
        }
        Tag::Ss | Tag::Ns | Tag::Bs => {
            let mut next = jiter.known_array()?;
            while let Some(peek) = next {
                if peek == Peek::Null {
                    jiter.known_null()?;
                } else {
                    expect_element(tag, peek)?;
                    let text = jiter.known_str()?;
                    if tag == Tag::Bs {
                        decode_base64(text, &mut Vec::new())?;
                    }
                }
                next = jiter.array_step()?;
            }
        }
    }
    Ok(())
}
