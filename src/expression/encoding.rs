//! Conditions and updates as bytes, for log entries.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | rest | the condition, or the update |
//!
//! Numbers are big-endian. A count is 2 bytes. A text is its length in 2 bytes and its UTF-8 bytes. A value is its
//! length in 4 bytes and a [document](crate::domain::document) with one attribute, whose name is empty; or, where the
//! same value stood before, the length 0 and in 2 bytes which of the values before it is (0 for the first). So a large
//! value that stands in many places is written once.
//!
//! | what | bytes |
//! |---|---|
//! | path | text of the attribute; 1: number of steps; each step: 0 and a text, or 1 and the index in 4 bytes |
//! | operand | 1 and a path, 2 and a value, 3 and the path whose size is meant |
//! | condition | 1 and, 2 or: count, conditions; 3 not: condition; 4 compare: operand, 1 comparison, operand; 5 between: three operands; 6 in: operand, count, operands; 7 exists, 8 exists not: path; 9 type: operand, 1 type; 10 begins with, 11 contains: two operands |
//! | operand of SET | 1 and a path, 2 and a value, 3 if_not_exists: path, operand; 4 list_append: two operands |
//! | value of SET | 1 and an operand, 2 plus, 3 minus: two operands |
//! | update | count, sets (path, value of SET); count, removes (path); count, adds (path, value); count, deletes (path, value) |
//!
//! Comparisons and types are their place in [`Comparison::ALL`] and [`AttributeType::ALL`]: new ones go to the end.
//!
//! Bytes come from other processes, so decoding bounds depth and number of parts before it allocates. What was bound
//! from text is always within these limits; trees that are built without text are asked first (`within_limits`). Trees
//! beyond the limits are written as a format that nobody reads, never as half a tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::condition::{Comparison, Condition, Operand};
use super::limits::{CONDITION_LEVELS_MAX, FUNCTION_LEVELS_MAX, PATH_ELEMENTS_MAX, TREE_BYTES_MAX, TREE_PARTS_MAX};
use super::path::{Path, Step};
use super::update::{SetOperand, SetValue, Update};
use super::value::{AttributeType, Value};
use crate::domain::document::Document;

const FORMAT_VERSION: u8 = 1;
/// Stands where a tree beyond the limits was to be written.
const FORMAT_NONE: u8 = 0;

/// Why bytes are no condition and no update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// Made by a later release.
    #[error("the expression has format {0}, which this release does not know")]
    Format(u8),
    /// Cut short, too long, or not what it says.
    #[error("the expression's bytes do not add up")]
    Structure,
    /// More parts or levels than an expression has.
    #[error("the expression is larger or deeper than expressions are")]
    Limit,
    /// A value that is none.
    #[error("the expression holds a value that is none")]
    Value,
}

impl Condition {
    /// Appends the bytes; their end must be known to who decodes them.
    pub fn encode(&self, buffer: &mut BytesMut) {
        if !self.within_limits() {
            return buffer.put_u8(FORMAT_NONE);
        }
        buffer.put_u8(FORMAT_VERSION);
        Writer::new(buffer).condition(self);
    }

    /// The condition in these bytes, all of them; values are slices of them.
    ///
    /// # Errors
    /// Where they are not what [`Condition::encode`] writes, or beyond the limits.
    pub fn decode(bytes: &Bytes) -> Result<Condition, EncodingError> {
        let mut reader = Reader::new(bytes)?;
        let condition = reader.condition(1)?;
        reader.end()?;
        if condition.within_limits() { Ok(condition) } else { Err(EncodingError::Limit) }
    }
}

impl Update {
    /// Appends the bytes; their end must be known to who decodes them.
    pub fn encode(&self, buffer: &mut BytesMut) {
        if !self.within_limits() {
            return buffer.put_u8(FORMAT_NONE);
        }
        buffer.put_u8(FORMAT_VERSION);
        Writer::new(buffer).update(self);
    }

    /// The update in these bytes, all of them; values are slices of them.
    ///
    /// # Errors
    /// Where they are not what [`Update::encode`] writes, or beyond the limits.
    pub fn decode(bytes: &Bytes) -> Result<Update, EncodingError> {
        let mut reader = Reader::new(bytes)?;
        let mut update = Update::default();
        for _ in 0..reader.u16()? {
            update.sets.push((reader.path()?, reader.set_value()?));
        }
        for _ in 0..reader.u16()? {
            update.removes.push(reader.path()?);
        }
        for _ in 0..reader.u16()? {
            update.adds.push((reader.path()?, reader.value()?));
        }
        for _ in 0..reader.u16()? {
            update.deletes.push((reader.path()?, reader.value()?));
        }
        reader.end()?;
        if update.within_limits() { Ok(update) } else { Err(EncodingError::Limit) }
    }
}

/// Which memory a value lies in. Copies of a value share it.
pub(super) fn memory(value: &Value) -> (usize, usize) {
    let bytes = value.document().as_bytes();
    (bytes.as_ptr() as usize, bytes.len())
}

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).unwrap_or(usize::from(u8::MAX)) as u8
}

/// Writes a tree within the limits, so that counts and lengths fit their fields.
struct Writer<'b> {
    buffer: &'b mut BytesMut,
    /// The values that were written, and the how manieth each was.
    values: BTreeMap<(usize, usize), u16>,
}

impl<'b> Writer<'b> {
    fn new(buffer: &'b mut BytesMut) -> Writer<'b> {
        Writer { buffer, values: BTreeMap::new() }
    }

    fn count(&mut self, count: usize) {
        self.buffer.put_u16(count as u16);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.buffer.put_slice(text.as_bytes());
    }

    fn path(&mut self, path: &Path) {
        self.text(&path.attribute);
        self.buffer.put_u8(path.steps.len() as u8);
        for step in &path.steps {
            match step {
                Step::Attribute(name) => {
                    self.buffer.put_u8(0);
                    self.text(name);
                }
                Step::Index(index) => {
                    self.buffer.put_u8(1);
                    self.buffer.put_u32(*index);
                }
            }
        }
    }

    fn kind_and_path(&mut self, kind: u8, path: &Path) {
        self.buffer.put_u8(kind);
        self.path(path);
    }

    fn value(&mut self, value: &Value) {
        if let Some(before) = self.values.get(&memory(value)) {
            self.buffer.put_u32(0);
            return self.buffer.put_u16(*before);
        }
        self.values.insert(memory(value), self.values.len() as u16);
        let bytes = value.document().as_bytes();
        self.buffer.put_u32(bytes.len() as u32);
        self.buffer.put_slice(bytes);
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Path(path) => self.kind_and_path(1, path),
            Operand::Value(value) => {
                self.buffer.put_u8(2);
                self.value(value);
            }
            Operand::Size(path) => self.kind_and_path(3, path),
        }
    }

    fn operands(&mut self, kind: u8, operands: &[&Operand]) {
        self.buffer.put_u8(kind);
        operands.iter().for_each(|operand| self.operand(operand));
    }

    fn condition(&mut self, condition: &Condition) {
        match condition {
            Condition::And(conditions) | Condition::Or(conditions) => {
                self.buffer.put_u8(if matches!(condition, Condition::And(_)) { 1 } else { 2 });
                self.count(conditions.len());
                conditions.iter().for_each(|condition| self.condition(condition));
            }
            Condition::Not(condition) => {
                self.buffer.put_u8(3);
                self.condition(condition);
            }
            Condition::Compare(left, comparison, right) => {
                self.operands(4, &[left]);
                self.buffer.put_u8(place(&Comparison::ALL, comparison));
                self.operand(right);
            }
            Condition::Between(value, low, high) => self.operands(5, &[value, low, high]),
            Condition::In(value, list) => {
                self.operands(6, &[value]);
                self.count(list.len());
                list.iter().for_each(|operand| self.operand(operand));
            }
            Condition::Exists(path) => self.kind_and_path(7, path),
            Condition::NotExists(path) => self.kind_and_path(8, path),
            Condition::Type(operand, kind) => {
                self.operands(9, &[operand]);
                self.buffer.put_u8(place(&AttributeType::ALL, kind));
            }
            Condition::BeginsWith(left, right) => self.operands(10, &[left, right]),
            Condition::Contains(left, right) => self.operands(11, &[left, right]),
        }
    }

    fn update(&mut self, update: &Update) {
        self.count(update.sets.len());
        for (path, value) in &update.sets {
            self.path(path);
            self.set_value(value);
        }
        self.count(update.removes.len());
        update.removes.iter().for_each(|path| self.path(path));
        for changes in [&update.adds, &update.deletes] {
            self.count(changes.len());
            for (path, value) in changes {
                self.path(path);
                self.value(value);
            }
        }
    }

    fn set_value(&mut self, value: &SetValue) {
        let (kind, operands) = match value {
            SetValue::Operand(operand) => (1, vec![operand]),
            SetValue::Plus(left, right) => (2, vec![left, right]),
            SetValue::Minus(left, right) => (3, vec![left, right]),
        };
        self.buffer.put_u8(kind);
        operands.into_iter().for_each(|operand| self.set_operand(operand));
    }

    fn set_operand(&mut self, operand: &SetOperand) {
        match operand {
            SetOperand::Path(path) => self.kind_and_path(1, path),
            SetOperand::Value(value) => {
                self.buffer.put_u8(2);
                self.value(value);
            }
            SetOperand::IfNotExists(path, otherwise) => {
                self.kind_and_path(3, path);
                self.set_operand(otherwise);
            }
            SetOperand::ListAppend(first, second) => {
                self.buffer.put_u8(4);
                self.set_operand(first);
                self.set_operand(second);
            }
        }
    }
}

/// Reads from the front and counts parts.
struct Reader {
    rest: Bytes,
    parts: usize,
    values: Vec<Value>,
}

impl Reader {
    fn new(bytes: &Bytes) -> Result<Reader, EncodingError> {
        if bytes.len() > TREE_BYTES_MAX {
            return Err(EncodingError::Limit);
        }
        let mut reader = Reader { rest: bytes.clone(), parts: 0, values: Vec::new() };
        match reader.u8()? {
            FORMAT_VERSION => Ok(reader),
            other => Err(EncodingError::Format(other)),
        }
    }

    fn end(&self) -> Result<(), EncodingError> {
        if self.rest.is_empty() { Ok(()) } else { Err(EncodingError::Structure) }
    }

    fn part(&mut self) -> Result<(), EncodingError> {
        self.parts += 1;
        if self.parts > TREE_PARTS_MAX { Err(EncodingError::Limit) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8, EncodingError> {
        self.rest.try_get_u8().map_err(|_| EncodingError::Structure)
    }

    fn u16(&mut self) -> Result<u16, EncodingError> {
        self.rest.try_get_u16().map_err(|_| EncodingError::Structure)
    }

    fn u32(&mut self) -> Result<u32, EncodingError> {
        self.rest.try_get_u32().map_err(|_| EncodingError::Structure)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, EncodingError> {
        if length > self.rest.len() { Err(EncodingError::Structure) } else { Ok(self.rest.split_to(length)) }
    }

    fn text(&mut self) -> Result<Arc<str>, EncodingError> {
        let length = usize::from(self.u16()?);
        let bytes = self.take(length)?;
        std::str::from_utf8(&bytes).map(Arc::from).map_err(|_| EncodingError::Structure)
    }

    fn path(&mut self) -> Result<Path, EncodingError> {
        self.part()?;
        let attribute = self.text()?;
        let count = usize::from(self.u8()?);
        if count >= PATH_ELEMENTS_MAX {
            return Err(EncodingError::Limit);
        }
        let mut steps = Vec::with_capacity(count);
        for _ in 0..count {
            steps.push(match self.u8()? {
                0 => Step::Attribute(self.text()?),
                1 => Step::Index(self.u32()?),
                _ => return Err(EncodingError::Structure),
            });
        }
        Ok(Path { attribute, steps })
    }

    fn value(&mut self) -> Result<Value, EncodingError> {
        self.part()?;
        let length = self.u32()? as usize;
        if length == 0 {
            let before = usize::from(self.u16()?);
            return self.values.get(before).cloned().ok_or(EncodingError::Value);
        }
        let document = Document::from_bytes(self.take(length)?).map_err(|_| EncodingError::Value)?;
        let value = Value::from_document(document).ok_or(EncodingError::Value)?;
        self.values.push(value.clone());
        Ok(value)
    }

    fn operand(&mut self) -> Result<Operand, EncodingError> {
        match self.u8()? {
            1 => Ok(Operand::Path(self.path()?)),
            2 => Ok(Operand::Value(self.value()?)),
            3 => Ok(Operand::Size(self.path()?)),
            _ => Err(EncodingError::Structure),
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Result<T, EncodingError> {
        all.get(usize::from(self.u8()?)).copied().ok_or(EncodingError::Structure)
    }

    fn condition(&mut self, level: usize) -> Result<Condition, EncodingError> {
        self.part()?;
        if level > CONDITION_LEVELS_MAX {
            return Err(EncodingError::Limit);
        }
        match self.u8()? {
            1 => self.conditions(level).map(Condition::And),
            2 => self.conditions(level).map(Condition::Or),
            3 => Ok(Condition::Not(Box::new(self.condition(level + 1)?))),
            kind => self.comparison(kind),
        }
    }

    fn conditions(&mut self, level: usize) -> Result<Vec<Condition>, EncodingError> {
        let count = self.u16()?;
        let mut conditions = Vec::new();
        for _ in 0..count {
            conditions.push(self.condition(level + 1)?);
        }
        Ok(conditions)
    }

    /// A condition without conditions in it.
    fn comparison(&mut self, kind: u8) -> Result<Condition, EncodingError> {
        Ok(match kind {
            4 => Condition::Compare(self.operand()?, self.one_of(&Comparison::ALL)?, self.operand()?),
            5 => Condition::Between(self.operand()?, self.operand()?, self.operand()?),
            6 => {
                let value = self.operand()?;
                let mut list = Vec::new();
                for _ in 0..self.u16()? {
                    list.push(self.operand()?);
                }
                Condition::In(value, list)
            }
            7 => Condition::Exists(self.path()?),
            8 => Condition::NotExists(self.path()?),
            9 => Condition::Type(self.operand()?, self.one_of(&AttributeType::ALL)?),
            10 => Condition::BeginsWith(self.operand()?, self.operand()?),
            11 => Condition::Contains(self.operand()?, self.operand()?),
            _ => return Err(EncodingError::Structure),
        })
    }

    fn set_value(&mut self) -> Result<SetValue, EncodingError> {
        Ok(match self.u8()? {
            1 => SetValue::Operand(self.set_operand(1)?),
            2 => SetValue::Plus(self.set_operand(1)?, self.set_operand(1)?),
            3 => SetValue::Minus(self.set_operand(1)?, self.set_operand(1)?),
            _ => return Err(EncodingError::Structure),
        })
    }

    fn set_operand(&mut self, level: usize) -> Result<SetOperand, EncodingError> {
        if level > FUNCTION_LEVELS_MAX + 1 {
            return Err(EncodingError::Limit);
        }
        Ok(match self.u8()? {
            1 => SetOperand::Path(self.path()?),
            2 => SetOperand::Value(self.value()?),
            3 => SetOperand::IfNotExists(self.path()?, Box::new(self.set_operand(level + 1)?)),
            4 => {
                let first = Box::new(self.set_operand(level + 1)?);
                SetOperand::ListAppend(first, Box::new(self.set_operand(level + 1)?))
            }
            _ => return Err(EncodingError::Structure),
        })
    }
}
