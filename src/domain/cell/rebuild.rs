//! Cells to document, one after the other in the order of their paths.
//!
//! Only the maps and lists that the last path lies in are open. The next path shares the beginning of some of them;
//! the others are closed, new ones are opened, and the leaf is written. A map or list that was closed is never opened
//! again, because its paths stand together; were they not, the builder would find its name twice.

use super::path::{read_index, read_name};
use super::types::{Cell, CellType};
use crate::domain::document::{BuildError, Builder, Document, DocumentError};
use crate::domain::json::Special;

/// A map or list that is open.
struct Open {
    /// How much of the last path is its own.
    path_bytes: usize,
    is_list: bool,
    /// How many values a list has.
    count: usize,
}

/// Puts cells together into a document, one after the other in the order of their paths. After an error it is
/// of no more use.
#[derive(Default)]
pub struct Assembler {
    builder: Builder,
    /// What is open below the root.
    open: Vec<Open>,
    last: String,
}

impl Assembler {
    /// Adds the next cell.
    ///
    /// # Errors
    /// Where its path or data make no sense, or do not go with what came before.
    pub fn add(&mut self, path: &str, cell_type: CellType, data: &[u8]) -> Result<(), DocumentError> {
        let shared = path.bytes().zip(self.last.bytes()).take_while(|(new, last)| new == last).count();
        while let Some(open) = self.open.last() {
            let separator = if open.is_list { b'[' } else { b'.' };
            if open.path_bytes <= shared && path.as_bytes().get(open.path_bytes) == Some(&separator) {
                break;
            }
            self.close()?;
        }
        let mut at = match self.open.last() {
            Some(open) => open.path_bytes,
            None => self.enter_root(path)?,
        };
        while at < path.len() {
            at = self.step(path, at)?;
        }
        self.leaf(cell_type, data)?;
        path.clone_into(&mut self.last);
        Ok(())
    }

    /// The document.
    ///
    /// # Errors
    /// Where it would not be one: names that come twice.
    pub fn finish(mut self) -> Result<Document, DocumentError> {
        while !self.open.is_empty() {
            self.close()?;
        }
        Ok(self.builder.finish()?)
    }

    /// Names an attribute; how much of the path that took.
    fn enter_root(&mut self, path: &str) -> Result<usize, DocumentError> {
        let (name, length) = read_name(path)?;
        self.builder.name(&name)?;
        self.open_next(path, length)?;
        Ok(length)
    }

    /// Goes one step down from the map or list that ends at `at`; where the step ends.
    fn step(&mut self, path: &str, at: usize) -> Result<usize, DocumentError> {
        let parent = self.open.last_mut().ok_or(DocumentError::Path)?;
        let end = if parent.is_list {
            let (index, length) = read_index(&path[at..])?;
            if index != parent.count {
                return Err(DocumentError::Path);
            }
            parent.count += 1;
            at + length
        } else {
            let (name, length) = read_name(&path[at + 1..])?;
            self.builder.name(&name)?;
            at + 1 + length
        };
        self.open_next(path, end)?;
        Ok(end)
    }

    /// Opens the map or list that the path goes on into, if it goes on.
    fn open_next(&mut self, path: &str, end: usize) -> Result<(), DocumentError> {
        let is_list = match path.as_bytes().get(end) {
            None => return Ok(()),
            Some(b'[') => true,
            Some(b'.') => false,
            Some(_) => return Err(DocumentError::Path),
        };
        if is_list {
            self.builder.open_list()?
        } else {
            self.builder.open_map()?
        }
        self.open.push(Open { path_bytes: end, is_list, count: 0 });
        Ok(())
    }

    fn close(&mut self) -> Result<(), BuildError> {
        match self.open.pop() {
            Some(open) if open.is_list => self.builder.close_list(),
            Some(_) => self.builder.close_map(),
            None => Ok(()),
        }
    }

    fn leaf(&mut self, cell_type: CellType, data: &[u8]) -> Result<(), DocumentError> {
        let builder = &mut self.builder;
        match cell_type {
            CellType::Null => builder.null()?,
            CellType::False => builder.boolean(false)?,
            CellType::True => builder.boolean(true)?,
            CellType::Number => builder.number(data)?,
            CellType::String => builder.string(std::str::from_utf8(data).map_err(|_| DocumentError::Text)?)?,
            CellType::Binary => builder.binary(data)?,
            CellType::EmptyMap => {
                builder.open_map()?;
                builder.close_map()?;
            }
            CellType::EmptyList => {
                builder.open_list()?;
                builder.close_list()?;
            }
            CellType::StringSet => builder.encoded_set(Special::StringSet, data)??,
            CellType::NumberSet => builder.encoded_set(Special::NumberSet, data)??,
            CellType::BinarySet => builder.encoded_set(Special::BinarySet, data)??,
        }
        Ok(())
    }
}

/// The document that these cells make, which come in the order of their paths.
///
/// # Errors
/// As [`Assembler::add`].
pub fn from_cells<'a, P: AsRef<str>>(
    cells: impl IntoIterator<Item = (P, Cell<'a>)>,
) -> Result<Document, DocumentError> {
    let mut assembler = Assembler::default();
    for (path, cell) in cells {
        assembler.add(path.as_ref(), cell.cell_type, cell.data.as_bytes())?;
    }
    assembler.finish()
}

#[cfg(test)]
mod tests;
