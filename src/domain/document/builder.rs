//! Writes a document from its parts, in one buffer and one pass.
//!
//! Lengths of maps and lists are patched in when they are closed. Names may come in any order: a map whose
//! names came in ascending order (most do, when they come from documents and cells) is done when it is
//! closed; else its entries are sorted then, through a scratch buffer. The item size is counted on the way.
//!
//! What the next author must keep: everything the format promises is enforced here, so that what
//! [`Builder::finish`] returns would pass `Document::from_bytes`; a property test holds the two together.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::check::{DocumentError, check_leaf};
use super::encoding::{
    BINARY, BINARY_SET, FALSE, FORMAT_VERSION, HEADER_BYTES, LIST, MAP, NULL, NUMBER, NUMBER_SET, Reader, STRING,
    STRING_SET, TRUE, write_bytes,
};
use super::owned::Document;
use super::view::Node;
use crate::domain::item_size::{CONSTANT_BYTES, CONTAINER_BYTES, ELEMENT_BYTES, number_bytes};
use crate::domain::json::Special;
use crate::domain::limits::{ATTRIBUTE_NAME_BYTES_MAX, NESTING_LEVELS_MAX};
use crate::domain::number::{Number, NumberError, write_canonical};
use crate::domain::refusal::Refusal;

/// Elements a list can have: paths of cells give an index six digits. Far above what 400 KB can hold.
const LIST_ELEMENTS_MAX: u32 = 1_000_000;

/// Why parts make no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two attributes of one map with one name.
    #[error("a name stands twice in one object")]
    DuplicateName,
    /// A name that is too long.
    #[error("an attribute name has at most {ATTRIBUTE_NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// More than 32 levels of maps and lists, the item itself included.
    #[error("maps and lists nest at most {NESTING_LEVELS_MAX} levels deep, the item itself included")]
    TooDeep,
    /// More elements than a list can have.
    #[error("a list has at most {LIST_ELEMENTS_MAX} elements")]
    ListTooLong,
    /// More bytes than a document can have.
    #[error("the document is larger than 4 GiB")]
    TooLarge,
    /// A set without elements.
    #[error("a set has at least one element")]
    EmptySet,
    /// A set with an element twice.
    #[error("an element stands twice in one set")]
    DuplicateElement,
    /// A number that cannot be stored.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// Parts in an order that makes no sense: a bug of the caller.
    #[error("a value was built outside of a map or list, or a map or list was not closed")]
    Unbalanced,
}

impl From<BuildError> for Refusal {
    fn from(error: BuildError) -> Refusal {
        Refusal::bad_input(error.to_string())
    }
}

#[derive(Clone, Copy)]
struct Frame {
    is_list: bool,
    /// Whether names came in ascending order so far.
    sorted: bool,
    /// Where the entries or values start.
    body: u32,
    /// Map: where its entries start in `entries`. List: how many values it has.
    first_or_count: u32,
}

/// Builds a [`Document`]: the root map is open from the start.
pub struct Builder {
    buffer: Vec<u8>,
    /// The innermost map or list that is open.
    frame: Frame,
    /// Those around it, outermost first. Most documents have none, and nothing is allocated for these.
    outer: Vec<Frame>,
    /// Where the entries of the open maps start, innermost last. For most documents nothing is allocated for these, either.
    entries: SmallVec<[u32; 16]>,
    scratch: Vec<u8>,
    item_size: usize,
    /// A name was given and its value has not come yet.
    named: bool,
}

impl Builder {
    /// A builder with room for a document of `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + bytes);
        buffer.extend_from_slice(&[FORMAT_VERSION, 0, 0, 0, 0]);
        let root = Frame { is_list: false, sorted: true, body: HEADER_BYTES as u32, first_or_count: 0 };
        Self {
            buffer,
            frame: root,
            outer: Vec::new(),
            entries: SmallVec::new(),
            scratch: Vec::new(),
            item_size: 0,
            named: false,
        }
    }

    /// The size by DynamoDB's formula of what was written so far.
    pub fn item_size(&self) -> usize {
        self.item_size
    }

    /// An empty builder.
    pub fn new() -> Self {
        Self::with_capacity(64)
    }

    /// Gives the name of the next value of the open map.
    ///
    /// # Errors
    /// Where the name is too long, or follows an equal one (equal names that are not neighbours are found
    /// when the map is closed).
    pub fn name(&mut self, name: &str) -> Result<(), BuildError> {
        let frame = &mut self.frame;
        if frame.is_list || self.named {
            return Err(BuildError::Unbalanced);
        }
        if name.len() > ATTRIBUTE_NAME_BYTES_MAX {
            return Err(BuildError::NameTooLong);
        }
        if frame.sorted && self.entries.len() > frame.first_or_count as usize {
            let last = self.entries[self.entries.len() - 1];
            match name_at(&self.buffer, last).cmp(name.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return Err(BuildError::DuplicateName),
                Ordering::Greater => frame.sorted = false,
            }
        }
        self.entries.push(u32::try_from(self.buffer.len()).map_err(|_| BuildError::TooLarge)?);
        write_bytes(&mut self.buffer, name.as_bytes());
        self.item_size += name.len();
        self.named = true;
        Ok(())
    }

    /// Accounts for a value that is about to be written.
    fn begin_value(&mut self) -> Result<(), BuildError> {
        let frame = &mut self.frame;
        if frame.is_list {
            if frame.first_or_count == LIST_ELEMENTS_MAX {
                return Err(BuildError::ListTooLong);
            }
            frame.first_or_count += 1;
        } else if !std::mem::take(&mut self.named) {
            return Err(BuildError::Unbalanced);
        }
        if !self.outer.is_empty() {
            self.item_size += ELEMENT_BYTES;
        }
        Ok(())
    }

    /// Writes a null.
    ///
    /// # Errors
    /// Where no value can stand here; so for all the others.
    pub fn null(&mut self) -> Result<(), BuildError> {
        self.constant(NULL)
    }

    /// Writes a boolean.
    ///
    /// # Errors
    /// As [`Builder::null`].
    pub fn boolean(&mut self, value: bool) -> Result<(), BuildError> {
        self.constant(if value { TRUE } else { FALSE })
    }

    fn constant(&mut self, kind: u8) -> Result<(), BuildError> {
        self.begin_value()?;
        self.buffer.push(kind);
        self.item_size += CONSTANT_BYTES;
        Ok(())
    }

    /// Writes the number that `text` spells, in any spelling that [`Number::parse`] reads.
    ///
    /// # Errors
    /// As [`Builder::null`], and where the number cannot be stored.
    pub fn number(&mut self, text: &[u8]) -> Result<(), BuildError> {
        self.begin_value()?;
        self.buffer.push(NUMBER);
        let length_at = self.buffer.len();
        self.buffer.push(0);
        write_canonical(text, &mut self.buffer)?;
        let length = self.buffer.len() - length_at - 1;
        self.item_size += number_bytes(&self.buffer[length_at + 1..]);
        if length < 0x80 {
            self.buffer[length_at] = length as u8;
        } else {
            // Two bytes of length, as LEB128 writes what is up to 16383: a canonical text is far below.
            self.buffer[length_at] = length as u8 | 0x80;
            self.buffer.insert(length_at + 1, (length >> 7) as u8);
        }
        Ok(())
    }

    /// Writes a string.
    ///
    /// # Errors
    /// As [`Builder::null`].
    pub fn string(&mut self, text: &str) -> Result<(), BuildError> {
        self.plain(STRING, text.as_bytes())
    }

    /// Writes binary.
    ///
    /// # Errors
    /// As [`Builder::null`].
    pub fn binary(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        self.plain(BINARY, bytes)
    }

    fn plain(&mut self, kind: u8, bytes: &[u8]) -> Result<(), BuildError> {
        self.begin_value()?;
        self.buffer.push(kind);
        write_bytes(&mut self.buffer, bytes);
        self.item_size += bytes.len();
        Ok(())
    }

    /// Writes a set of these elements: strings, numbers in any spelling, or bytes.
    ///
    /// # Errors
    /// As [`Builder::null`], and where there are no elements, an element stands twice, or a number cannot be stored.
    pub fn string_set<'a>(&mut self, elements: impl IntoIterator<Item = &'a str>) -> Result<(), BuildError> {
        let mut elements: Vec<&[u8]> = elements.into_iter().map(str::as_bytes).collect();
        elements.sort_unstable();
        self.set(STRING_SET, &elements)
    }

    /// Writes a set of numbers, in any spelling.
    ///
    /// # Errors
    /// As [`Builder::string_set`].
    pub fn number_set<'a>(&mut self, elements: impl IntoIterator<Item = &'a [u8]>) -> Result<(), BuildError> {
        let mut numbers =
            elements.into_iter().map(Number::parse_bytes).collect::<Result<Vec<Number>, NumberError>>()?;
        numbers.sort_unstable();
        let texts: Vec<String> = numbers.iter().map(Number::to_string).collect();
        let elements: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        self.set(NUMBER_SET, &elements)
    }

    /// Writes a set of bytes.
    ///
    /// # Errors
    /// As [`Builder::string_set`].
    pub fn binary_set<'a>(&mut self, elements: impl IntoIterator<Item = &'a [u8]>) -> Result<(), BuildError> {
        let mut elements: Vec<&[u8]> = elements.into_iter().collect();
        elements.sort_unstable();
        self.set(BINARY_SET, &elements)
    }

    fn set(&mut self, kind: u8, elements: &[&[u8]]) -> Result<(), BuildError> {
        if elements.is_empty() {
            return Err(BuildError::EmptySet);
        }
        if elements.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(BuildError::DuplicateElement);
        }
        self.begin_value()?;
        self.buffer.extend_from_slice(&[kind, 0, 0, 0, 0]);
        let body = self.buffer.len();
        for element in elements {
            write_bytes(&mut self.buffer, element);
            self.item_size += if kind == NUMBER_SET { number_bytes(element) } else { element.len() };
        }
        self.patch_length(body)
    }

    /// Opens a map; names and values follow, then [`Builder::close_map`].
    ///
    /// # Errors
    /// As [`Builder::null`], and where it is one level too deep.
    pub fn open_map(&mut self) -> Result<(), BuildError> {
        self.open(MAP)
    }

    /// Opens a list; values follow, then [`Builder::close_list`].
    ///
    /// # Errors
    /// As [`Builder::open_map`].
    pub fn open_list(&mut self) -> Result<(), BuildError> {
        self.open(LIST)
    }

    fn open(&mut self, kind: u8) -> Result<(), BuildError> {
        self.begin_value()?;
        if self.outer.len() + 1 == NESTING_LEVELS_MAX {
            return Err(BuildError::TooDeep);
        }
        self.buffer.extend_from_slice(&[kind, 0, 0, 0, 0]);
        let body = u32::try_from(self.buffer.len()).map_err(|_| BuildError::TooLarge)?;
        let is_list = kind == LIST;
        let first_or_count = if is_list { 0 } else { self.entries.len() as u32 };
        let inner = Frame { is_list, sorted: true, body, first_or_count };
        self.outer.push(std::mem::replace(&mut self.frame, inner));
        self.item_size += CONTAINER_BYTES;
        Ok(())
    }

    /// Closes the open map.
    ///
    /// # Errors
    /// Where no map is open, a name has no value, or two names are equal.
    pub fn close_map(&mut self) -> Result<(), BuildError> {
        if self.named || self.frame.is_list || self.outer.is_empty() {
            return Err(BuildError::Unbalanced);
        }
        self.order_entries()?;
        self.close()
    }

    /// Closes the open list.
    ///
    /// # Errors
    /// Where no list is open.
    pub fn close_list(&mut self) -> Result<(), BuildError> {
        if !self.frame.is_list {
            return Err(BuildError::Unbalanced);
        }
        self.close()
    }

    fn close(&mut self) -> Result<(), BuildError> {
        let around = self.outer.pop().ok_or(BuildError::Unbalanced)?;
        let closed = std::mem::replace(&mut self.frame, around);
        self.patch_length(closed.body as usize)
    }

    fn patch_length(&mut self, body: usize) -> Result<(), BuildError> {
        let length = u32::try_from(self.buffer.len() - body).map_err(|_| BuildError::TooLarge)?;
        self.buffer[body - 4..body].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Puts the entries of the innermost map in order and forgets them.
    fn order_entries(&mut self) -> Result<(), BuildError> {
        let frame = self.frame;
        let first = frame.first_or_count as usize;
        if !frame.sorted {
            let buffer = &self.buffer;
            let ends = self.entries[first + 1..].iter().copied().chain([buffer.len() as u32]);
            let mut entries: Vec<(u32, u32)> = self.entries[first..].iter().copied().zip(ends).collect();
            entries.sort_unstable_by_key(|(start, _)| name_at(buffer, *start));
            if entries.windows(2).any(|pair| name_at(buffer, pair[0].0) == name_at(buffer, pair[1].0)) {
                return Err(BuildError::DuplicateName);
            }
            self.scratch.clear();
            self.scratch.reserve(buffer.len() - frame.body as usize);
            for (start, end) in entries {
                self.scratch.extend_from_slice(&buffer[start as usize..end as usize]);
            }
            self.buffer[frame.body as usize..].copy_from_slice(&self.scratch);
        }
        self.entries.truncate(first);
        Ok(())
    }

    /// Copies a value of another document.
    ///
    /// # Errors
    /// As [`Builder::null`], and where it would be too deep here.
    pub fn node(&mut self, node: Node<'_>) -> Result<(), BuildError> {
        match node {
            Node::Null => self.null(),
            Node::Boolean(value) => self.boolean(value),
            Node::Number(text) => self.number(text.as_bytes()),
            Node::String(text) => self.string(text),
            Node::Binary(bytes) => self.binary(bytes),
            Node::StringSet(set) => self.copy_set(STRING_SET, set.rest()),
            Node::NumberSet(set) => self.copy_set(NUMBER_SET, set.rest()),
            Node::BinarySet(set) => self.copy_set(BINARY_SET, set.rest()),
            Node::List(list) => {
                self.open_list()?;
                for value in list {
                    self.node(value)?;
                }
                self.close_list()
            }
            Node::Map(map) => {
                self.open_map()?;
                for (name, value) in map {
                    self.name(name)?;
                    self.node(value)?;
                }
                self.close_map()
            }
        }
    }

    /// Copies a set of encoded elements that are in order.
    fn copy_set(&mut self, kind: u8, body: &[u8]) -> Result<(), BuildError> {
        let mut reader = Reader::new(body);
        let elements: Vec<&[u8]> = std::iter::from_fn(|| reader.bytes()).collect();
        self.set(kind, &elements)
    }

    /// Writes the set whose encoded elements are these, after checking them: they come from disk.
    ///
    /// # Errors
    /// As [`Builder::null`] outside; inside where they are no such set.
    pub(crate) fn encoded_set(
        &mut self,
        special: Special,
        body: &[u8],
    ) -> Result<Result<(), DocumentError>, BuildError> {
        let kind = match special {
            Special::StringSet => STRING_SET,
            Special::NumberSet => NUMBER_SET,
            Special::BinarySet | Special::Binary => BINARY_SET,
        };
        match check_leaf(kind, body) {
            Ok(()) => self.copy_set(kind, body).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Writes a value of a type that JSON does not have, from elements that are text; binary is decoded already.
    pub(super) fn special(&mut self, special: Special, elements: &[Vec<u8>]) -> Result<(), BuildError> {
        let slices = || elements.iter().map(Vec::as_slice);
        match special {
            Special::Binary => self.binary(slices().next().unwrap_or_default()),
            Special::NumberSet => self.number_set(slices()),
            Special::BinarySet => self.binary_set(slices()),
            Special::StringSet => {
                let mut sorted: Vec<&[u8]> = slices().collect();
                sorted.sort_unstable();
                self.set(STRING_SET, &sorted)
            }
        }
    }

    /// The document.
    ///
    /// # Errors
    /// Where a map or list is still open, or two names of the root are equal.
    pub fn finish(mut self) -> Result<Document, BuildError> {
        if !self.outer.is_empty() || self.named {
            return Err(BuildError::Unbalanced);
        }
        self.order_entries()?;
        let size = u32::try_from(self.item_size).map_err(|_| BuildError::TooLarge)?;
        self.buffer[1..HEADER_BYTES].copy_from_slice(&size.to_le_bytes());
        self.buffer.shrink_to_fit();
        Ok(Document::built(self.buffer.into()))
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of the entry that starts here.
fn name_at(buffer: &[u8], start: u32) -> &[u8] {
    Reader::new(&buffer[start as usize..]).bytes().unwrap_or_default()
}
