//! JSON text to document and back.
//!
//! Text is read once, by a pull parser that gives numbers as they are written, straight into the
//! document's bytes. What goes in comes out: the same JSON value, with numbers equal as decimals.
//! Refused are: anything but an object, names that come twice, numbers of more than 38 digits or out
//! of range, more than 32 levels, lone surrogates, and whatever is no JSON; the message names line
//! and column.
//!
//! Sets and binaries, which plain JSON does not have, are objects of one name:
//! `{"$binary":"<base64>"}`, `{"$string_set":[…]}`, `{"$number_set":[…]}`, `{"$binary_set":[…]}`.
//! An ordinary object that looks like one of these is written with one `$` more, and read back with
//! one less. The item itself is never such an object: its names are taken as they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiter::{Jiter, JiterError, Peek};

use super::{
    Document, LEVELS_MAX, Node, SetItems, TAG_BINARY, TAG_BINARY_SET, TAG_FALSE, TAG_LIST, TAG_MAP, TAG_NULL,
    TAG_NUMBER, TAG_NUMBER_SET, TAG_STRING, TAG_STRING_SET, TAG_TRUE, begin, end, put_bytes, put_scalar, view,
};
use crate::domain::number::canonical;
use crate::domain::refusal::Refusal;

impl Document {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// `BadInput` that says what is wrong, and where.
    pub fn from_json(text: &[u8]) -> Result<Document, Refusal> {
        let mut reader = Reader { json: Jiter::new(text), out: Vec::with_capacity(text.len() + text.len() / 4 + 16) };
        match reader.peek()? {
            Peek::Object => reader.object(1, true)?,
            _ => return Err(reader.refuse("an item is a JSON object, such as {\"name\":\"value\"}")),
        }
        if let Err(error) = reader.json.finish() {
            return Err(reader.explain(&error));
        }
        Ok(Document::trusted(reader.out))
    }

    /// Appends the document as JSON text.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.reserve(self.as_bytes().len());
        write_entries(out, self.root(), true);
    }

    /// The document as JSON text.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

struct Reader<'a> {
    json: Jiter<'a>,
    out: Vec<u8>,
}

impl Reader<'_> {
    fn peek(&mut self) -> Result<Peek, Refusal> {
        self.json.peek().map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &JiterError) -> Refusal {
        let position = self.json.error_position(error.index);
        Refusal::bad_input(format!(
            "the body is not valid JSON: {} at line {}, column {}",
            error.error_type, position.line, position.column
        ))
    }

    fn refuse(&self, message: impl std::fmt::Display) -> Refusal {
        let position = self.json.current_position();
        Refusal::bad_input(format!("{message} (line {}, column {})", position.line, position.column))
    }

    fn value(&mut self, peek: Peek, level: usize) -> Result<(), Refusal> {
        match peek {
            Peek::Object => self.object(level, false),
            Peek::Array => self.list(level),
            Peek::String => self.string(),
            Peek::True | Peek::False => {
                let value = self.json.known_bool(peek);
                let value = value.map_err(|error| self.explain(&error))?;
                self.out.push(if value { TAG_TRUE } else { TAG_FALSE });
                Ok(())
            }
            Peek::Null => {
                let null = self.json.known_null();
                null.map_err(|error| self.explain(&error))?;
                self.out.push(TAG_NULL);
                Ok(())
            }
            other => self.number(other),
        }
    }

    fn string(&mut self) -> Result<(), Refusal> {
        let result = match self.json.known_str() {
            Ok(text) => {
                put_scalar(&mut self.out, TAG_STRING, text.as_bytes());
                Ok(())
            }
            Err(error) => Err(error),
        };
        result.map_err(|error| self.explain(&error))
    }

    fn number(&mut self, peek: Peek) -> Result<(), Refusal> {
        let result = match self.json.known_number_bytes(peek) {
            Ok(bytes) => canonical(std::str::from_utf8(bytes).unwrap_or_default())
                .map(|text| put_scalar(&mut self.out, TAG_NUMBER, text.as_bytes())),
            Err(error) => return Err(self.explain(&error)),
        };
        result.map_err(|refusal| self.refuse(refusal))
    }

    fn list(&mut self, level: usize) -> Result<(), Refusal> {
        self.check_level(level)?;
        let open = begin(&mut self.out, TAG_LIST);
        let mut count = 0;
        let mut next = self.json.known_array();
        loop {
            match next {
                Err(error) => return Err(self.explain(&error)),
                Ok(None) => break,
                Ok(Some(peek)) => self.value(peek, level + 1)?,
            }
            count += 1;
            next = self.json.array_step();
        }
        end(&mut self.out, &open, count);
        Ok(())
    }

    fn check_level(&self, level: usize) -> Result<(), Refusal> {
        if level > LEVELS_MAX {
            Err(self.refuse(format_args!("the item nests deeper than {LEVELS_MAX} levels: store less deep data")))
        } else {
            Ok(())
        }
    }

    fn object(&mut self, level: usize, is_item: bool) -> Result<(), Refusal> {
        self.check_level(level)?;
        let start = self.out.len();
        let open = begin(&mut self.out, TAG_MAP);
        let mut names: Vec<(usize, usize)> = Vec::new();
        let mut first = true;
        loop {
            let name = if first { self.json.known_object() } else { self.json.next_key() };
            first = false;
            match name {
                Ok(Some(name)) => {
                    names.push((self.out.len() + 4, name.len()));
                    put_bytes(&mut self.out, name.as_bytes());
                }
                Ok(None) => break,
                Err(error) => return Err(self.explain(&error)),
            }
            let peek = self.peek()?;
            self.value(peek, level + 1)?;
        }
        self.check_names(&names)?;
        end(&mut self.out, &open, names.len());
        if let [(at, length)] = names.as_slice()
            && !is_item
            && self.out[*at..].first() == Some(&b'$')
        {
            self.special(start, *at, *length)?;
        }
        Ok(())
    }

    fn check_names(&self, names: &[(usize, usize)]) -> Result<(), Refusal> {
        let mut slices: Vec<&[u8]> = names.iter().map(|(at, length)| &self.out[*at..at + length]).collect();
        if view::has_no_duplicates(&mut slices) {
            Ok(())
        } else {
            Err(self.refuse("the same name comes twice in one object"))
        }
    }

    /// An object of one name that begins with `$`: a set, a binary, or an escaped name.
    fn special(&mut self, start: usize, name_at: usize, name_length: usize) -> Result<(), Refusal> {
        let name = String::from_utf8_lossy(&self.out[name_at..name_at + name_length]).into_owned();
        let Some(bare) = unescaped(&name) else { return Ok(()) };
        let value = self.out.split_off(name_at + name_length);
        self.out.truncate(start);
        let (node, _) = view::node(&value);
        if name.starts_with("$$") {
            let open = begin(&mut self.out, TAG_MAP);
            put_bytes(&mut self.out, &name.as_bytes()[1..]);
            self.out.extend_from_slice(&value);
            end(&mut self.out, &open, 1);
            return Ok(());
        }
        let written = match (bare, node) {
            ("binary", Node::String(text)) => {
                STANDARD.decode(text).ok().map(|bytes| put_scalar(&mut self.out, TAG_BINARY, &bytes))
            }
            ("string_set", Node::List(nodes)) => put_set(
                &mut self.out,
                TAG_STRING_SET,
                nodes.map(|node| if let Node::String(text) = node { Some(text.as_bytes().to_vec()) } else { None }),
            ),
            ("number_set", Node::List(nodes)) => put_set(
                &mut self.out,
                TAG_NUMBER_SET,
                nodes.map(|node| if let Node::Number(text) = node { Some(text.as_bytes().to_vec()) } else { None }),
            ),
            ("binary_set", Node::List(nodes)) => put_set(
                &mut self.out,
                TAG_BINARY_SET,
                nodes.map(|node| if let Node::String(text) = node { STANDARD.decode(text).ok() } else { None }),
            ),
            _ => None,
        };
        written.ok_or_else(|| {
            self.refuse(format_args!(
                "an object of the one name {name:?} stands for a set or binary and this one does not: write ${name} if you mean an ordinary object"
            ))
        })
    }
}

const SPECIAL: [&str; 4] = ["binary", "string_set", "number_set", "binary_set"];

/// The special word in a name of one or more `$` and that word.
fn unescaped(name: &str) -> Option<&str> {
    let bare = name.trim_start_matches('$');
    (name.len() > bare.len() && SPECIAL.contains(&bare)).then_some(bare)
}

/// Writes a set that is not empty and whose members are different.
fn put_set(out: &mut Vec<u8>, tag: u8, members: impl Iterator<Item = Option<Vec<u8>>>) -> Option<()> {
    let members: Vec<Vec<u8>> = members.collect::<Option<_>>()?;
    let mut slices: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
    if members.is_empty() || !view::has_no_duplicates(&mut slices) {
        return None;
    }
    let open = begin(out, tag);
    members.iter().for_each(|member| put_bytes(out, member));
    end(out, &open, members.len());
    Some(())
}

/// Writes a node in the document's form.
pub(crate) fn put_node(out: &mut Vec<u8>, node: Node<'_>) {
    match node {
        Node::Null => out.push(TAG_NULL),
        Node::Boolean(value) => out.push(if value { TAG_TRUE } else { TAG_FALSE }),
        Node::Number(text) => put_scalar(out, TAG_NUMBER, text.as_bytes()),
        Node::String(text) => put_scalar(out, TAG_STRING, text.as_bytes()),
        Node::Binary(bytes) => put_scalar(out, TAG_BINARY, bytes),
        Node::Map(entries) => {
            let open = begin(out, TAG_MAP);
            let count = entries.len();
            for (name, node) in entries {
                put_bytes(out, name.as_bytes());
                put_node(out, node);
            }
            end(out, &open, count);
        }
        Node::List(nodes) => {
            let open = begin(out, TAG_LIST);
            let count = nodes.len();
            nodes.for_each(|node| put_node(out, node));
            end(out, &open, count);
        }
        Node::StringSet(items) => put_items(out, TAG_STRING_SET, items),
        Node::NumberSet(items) => put_items(out, TAG_NUMBER_SET, items),
        Node::BinarySet(items) => put_items(out, TAG_BINARY_SET, items),
    }
}

fn put_items(out: &mut Vec<u8>, tag: u8, items: SetItems<'_>) {
    let open = begin(out, tag);
    let count = items.len();
    items.for_each(|item| put_bytes(out, item));
    end(out, &open, count);
}

fn write_entries(out: &mut Vec<u8>, node: Node<'_>, is_item: bool) {
    let Node::Map(entries) = node else { return };
    let escape = !is_item && entries.len() == 1;
    out.push(b'{');
    for (position, (name, node)) in entries.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        if escape && unescaped(name).is_some() {
            write_string(out, &format!("${name}"));
        } else {
            write_string(out, name);
        }
        out.push(b':');
        write_node(out, node);
    }
    out.push(b'}');
}

fn write_node(out: &mut Vec<u8>, node: Node<'_>) {
    match node {
        Node::Null => out.extend_from_slice(b"null"),
        Node::Boolean(true) => out.extend_from_slice(b"true"),
        Node::Boolean(false) => out.extend_from_slice(b"false"),
        Node::Number(text) => out.extend_from_slice(text.as_bytes()),
        Node::String(text) => write_string(out, text),
        Node::Binary(bytes) => {
            out.extend_from_slice(b"{\"$binary\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.extend_from_slice(b"\"}");
        }
        Node::Map(_) => write_entries(out, node, false),
        Node::List(nodes) => {
            out.push(b'[');
            for (position, node) in nodes.enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_node(out, node);
            }
            out.push(b']');
        }
        Node::StringSet(items) => write_set(out, "string_set", items, |out, item| {
            write_string(out, std::str::from_utf8(item).unwrap_or_default())
        }),
        Node::NumberSet(items) => write_set(out, "number_set", items, |out, item| out.extend_from_slice(item)),
        Node::BinarySet(items) => {
            write_set(out, "binary_set", items, |out, item| write_string(out, &STANDARD.encode(item)))
        }
    }
}

fn write_set(out: &mut Vec<u8>, word: &str, items: SetItems<'_>, write: impl Fn(&mut Vec<u8>, &[u8])) {
    out.extend_from_slice(format!("{{\"${word}\":[").as_bytes());
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.extend_from_slice(b"]}");
}

/// Writes a JSON string: runs without anything to escape are copied whole.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (position, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..position]);
        copied = position + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}
