//! JSON text to document, in one pass of a pull parser straight into the builder's buffer.
//!
//! Numbers are taken as the bytes they are written with, so they stay exact. Objects that have a reserved
//! name ([`json`](crate::domain::json)) first are looked ahead into, since only an object's *only* name is
//! special; other objects never are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::builder::{BuildError, Builder};
use super::owned::Document;
use crate::domain::json::{OnlyName, Special, only_name};
use crate::domain::limits::NESTING_LEVELS_MAX;
use crate::domain::refusal::Refusal;

/// What stopped the parser.
enum Stop {
    Json(JiterError),
    Build(BuildError),
    /// A `$binary` or set that is none.
    Special(Special),
    NotAnObject,
}

impl From<JiterError> for Stop {
    fn from(error: JiterError) -> Self {
        Stop::Json(error)
    }
}

impl From<BuildError> for Stop {
    fn from(error: BuildError) -> Self {
        Stop::Build(error)
    }
}

pub(super) fn from_json(text: &[u8]) -> Result<Document, Refusal> {
    let mut jiter = Jiter::new(text);
    // Some numbers and many small maps grow; most documents shrink.
    let mut builder = Builder::with_capacity(text.len() + 64);
    let read = root(&mut jiter, &mut builder);
    read.and_then(|()| Ok(builder.finish()?)).map_err(|stop| refusal(&jiter, &stop))
}

fn root(jiter: &mut Jiter<'_>, builder: &mut Builder) -> Result<(), Stop> {
    if jiter.peek()? != Peek::Object {
        return Err(Stop::NotAnObject);
    }
    let mut more = match jiter.known_object()? {
        None => false,
        Some(name) => {
            builder.name(name)?;
            true
        }
    };
    while more {
        value(jiter, builder)?;
        more = next_name(jiter, builder)?;
    }
    Ok(jiter.finish()?)
}

fn next_name(jiter: &mut Jiter<'_>, builder: &mut Builder) -> Result<bool, Stop> {
    match jiter.next_key()? {
        None => Ok(false),
        Some(name) => {
            builder.name(name)?;
            Ok(true)
        }
    }
}

fn value(jiter: &mut Jiter<'_>, builder: &mut Builder) -> Result<(), Stop> {
    let peek = jiter.peek()?;
    known_value(jiter, builder, peek)
}

fn known_value(jiter: &mut Jiter<'_>, builder: &mut Builder, peek: Peek) -> Result<(), Stop> {
    match peek {
        Peek::String => builder.string(jiter.known_str()?)?,
        Peek::Object => object(jiter, builder)?,
        Peek::Array => {
            builder.open_list()?;
            let mut next = jiter.known_array()?;
            while let Some(peek) = next {
                known_value(jiter, builder, peek)?;
                next = jiter.array_step()?;
            }
            builder.close_list()?;
        }
        Peek::True | Peek::False => builder.boolean(jiter.known_bool(peek)?)?,
        Peek::Null => {
            jiter.known_null()?;
            builder.null()?;
        }
        _ => builder.number(jiter.known_number_bytes(peek)?)?,
    }
    Ok(())
}

/// An object below the root.
fn object(jiter: &mut Jiter<'_>, builder: &mut Builder) -> Result<(), Stop> {
    let name = match jiter.known_object()? {
        None => {
            builder.open_map()?;
            return Ok(builder.close_map()?);
        }
        Some(name) => name,
    };
    if name.starts_with('$') && only_name(name) != OnlyName::Plain {
        let name = name.to_owned();
        if is_only(jiter)? {
            return match only_name(&name) {
                OnlyName::Special(kind) => special(jiter, builder, kind),
                OnlyName::Escaped(name) => entries(jiter, builder, name),
                OnlyName::Plain => entries(jiter, builder, &name),
            };
        }
        return entries(jiter, builder, &name);
    }
    builder.open_map()?;
    builder.name(name)?;
    rest_of_entries(jiter, builder)
}

fn entries(jiter: &mut Jiter<'_>, builder: &mut Builder, first: &str) -> Result<(), Stop> {
    builder.open_map()?;
    builder.name(first)?;
    rest_of_entries(jiter, builder)
}

fn rest_of_entries(jiter: &mut Jiter<'_>, builder: &mut Builder) -> Result<(), Stop> {
    value(jiter, builder)?;
    while next_name(jiter, builder)? {
        value(jiter, builder)?;
    }
    Ok(builder.close_map()?)
}

/// Whether the object ends after the value that comes next. Looks ahead with a copy of the parser, whose
/// own limit on nesting keeps the look short of the stack.
fn is_only(jiter: &Jiter<'_>) -> Result<bool, Stop> {
    let mut ahead = jiter.clone();
    ahead.next_skip()?;
    Ok(ahead.next_key_bytes()?.is_none())
}

/// The value of a type that JSON does not have, up to the end of its object.
fn special(jiter: &mut Jiter<'_>, builder: &mut Builder, kind: Special) -> Result<(), Stop> {
    let mut elements: Vec<Vec<u8>> = Vec::new();
    let expected = if kind == Special::Binary { Peek::String } else { Peek::Array };
    if jiter.peek()? != expected {
        return Err(Stop::Special(kind));
    }
    if kind == Special::Binary {
        elements.push(decode_base64(jiter.known_str()?, kind)?);
    } else {
        let mut next = jiter.known_array()?;
        while let Some(peek) = next {
            elements.push(match (kind, peek) {
                (Special::StringSet, Peek::String) => jiter.known_str()?.as_bytes().to_vec(),
                (Special::BinarySet, Peek::String) => decode_base64(jiter.known_str()?, kind)?,
                (Special::NumberSet, peek) if peek.is_num() => jiter.known_number_bytes(peek)?.to_vec(),
                _ => return Err(Stop::Special(kind)),
            });
            next = jiter.array_step()?;
        }
    }
    jiter.next_key()?;
    Ok(builder.special(kind, &elements)?)
}

fn decode_base64(text: &str, kind: Special) -> Result<Vec<u8>, Stop> {
    STANDARD.decode(text).map_err(|_| Stop::Special(kind))
}

fn refusal(jiter: &Jiter<'_>, stop: &Stop) -> Refusal {
    let (message, index) = match stop {
        Stop::Json(error) => (json_message(&error.error_type), error.index),
        Stop::Build(error) => (error.to_string(), jiter.current_index()),
        Stop::Special(kind) => (special_message(*kind).to_owned(), jiter.current_index()),
        Stop::NotAnObject => ("an item must be a JSON object".to_owned(), jiter.current_index()),
    };
    let position = jiter.error_position(index);
    Refusal::bad_input(format!("{message}; at line {}, column {}", position.line, position.column))
}

fn json_message(error: &JiterErrorType) -> String {
    match error {
        JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange) => {
            "a number has at most 38 significant digits".to_owned()
        }
        JiterErrorType::JsonError(JsonErrorType::RecursionLimitExceeded) => {
            format!("maps and lists nest at most {NESTING_LEVELS_MAX} levels deep, the item itself included")
        }
        other => format!("the text is not JSON: {other}"),
    }
}

fn special_message(kind: Special) -> &'static str {
    match kind {
        Special::Binary => {
            "an object with the one name `$binary` is binary and must hold base64 with padding; write `$$binary` for the plain name"
        }
        Special::StringSet => {
            "an object with the one name `$string_set` is a set and must hold a list of strings; write `$$string_set` for the plain name"
        }
        Special::NumberSet => {
            "an object with the one name `$number_set` is a set and must hold a list of numbers; write `$$number_set` for the plain name"
        }
        Special::BinarySet => {
            "an object with the one name `$binary_set` is a set and must hold a list of base64 with padding; write `$$binary_set` for the plain name"
        }
    }
}
