//! Projections: which parts of an item a client wants.

use super::binding::Binding;
use super::error::ExpressionError;
use super::lexer::Cursor;
use super::path::{Path, check_apart};
use super::role::Role;
use super::select::select;
use super::substitutions::Substitutions;
use super::template::PathTemplate;
use crate::domain::document::Document;

/// Parts of an item. No path is the beginning of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Projection {
    /// Where they lie.
    pub paths: Vec<Path>,
}

/// The structure of a text, before anything stands for its placeholders.
#[derive(Debug, Clone)]
pub struct ProjectionTemplate {
    paths: Vec<PathTemplate>,
}

impl ProjectionTemplate {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with the text whatever its placeholders stand for.
    pub fn parse(text: &str) -> Result<ProjectionTemplate, ExpressionError> {
        let mut cursor = Cursor::new(Role::Projection, text)?;
        let mut paths = vec![cursor.path()?];
        while cursor.take_mark(",") {
            paths.push(cursor.path()?);
        }
        cursor.expect_end()?;
        cursor.check_reserved()?;
        Ok(ProjectionTemplate { paths })
    }

    /// The projection of one request.
    ///
    /// # Errors
    /// Placeholders that nothing stands for, and paths that overlap.
    pub fn bind(&self, substitutions: &mut Substitutions<'_>) -> Result<Projection, ExpressionError> {
        let mut binding = Binding { role: Role::Projection, substitutions };
        let paths = self.paths.iter().map(|path| binding.path(path)).collect::<Result<Vec<Path>, _>>()?;
        check_apart(Role::Projection, &paths.iter().collect::<Vec<_>>())?;
        Ok(Projection { paths })
    }
}

/// Template and binding in one.
///
/// # Errors
/// Those of [`ProjectionTemplate::parse`] and [`ProjectionTemplate::bind`].
pub fn parse(text: &str, substitutions: &mut Substitutions<'_>) -> Result<Projection, ExpressionError> {
    ProjectionTemplate::parse(text)?.bind(substitutions)
}

impl Projection {
    /// The parts of this item (key attributes included, if they are wanted: hand in [`super::ItemView::document`]).
    /// Elements of lists move together; what is not there is left out.
    pub fn project(&self, document: &Document) -> Document {
        select(document, &self.paths)
    }
}

/// The parts of a document at these paths, for UPDATED_OLD and UPDATED_NEW.
pub fn changed_only<'p>(document: &Document, paths: impl IntoIterator<Item = &'p Path>) -> Document {
    select(document, paths)
}
