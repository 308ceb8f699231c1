//! Writes to tables with local secondary indexes: what must hold of the item, what the range is to tell for it, and what the
//! indexes consume.
//!
//! A put brings the whole item, so whether every index can hold it is known before it is sent. Of an update only the range knows,
//! and refuses it there. Both say the same.
//!
//! What an index consumes follows from the item before and after. Where the answer is to tell it, the range is asked for the item
//! before the write, and after it for an update, whether or not the client wants to see them; an answer shows what the client
//! asked for and no more. Where it asked only for what an update touches, the range tells the whole item, and the answer is cut
//! down here. Tables without indexes pay nothing for any of this.
//!
//! Where nobody asks what was consumed, nothing more is asked of the range than for any table: images are remembered
//! with the request, for which there is little room. Usage then counts a put as new in each of the indexes that hold it, and
//! no units of indexes for other changes.

use crate::api::dynamodb::attribute_value::ITEM_TOO_LARGE;
use crate::api::dynamodb::capacity::{self, Consumed};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::index_units;
use crate::domain::document::Document;
use crate::domain::limits::ITEM_BYTES_MAX;
use crate::domain::local_index::{LocalIndex, bytes_with_entries};
use crate::domain::table::TableSpecification;
use crate::domain::usage::Cost;
use crate::expression::{Path, changed_only};
use crate::replication::operation::{Change, Images, Outcome};

/// Checks that every index of its table can hold the item of a put, or leave it out, and that it is not too large with what the
/// indexes show of it.
pub(super) fn check_put(table: &TableSpecification, keys: &Document, document: &Document) -> Result<(), Failure> {
    let indexes = &table.local_indexes;
    for index in indexes {
        index.check(document).map_err(|why| Failure::validation(index.refusal(&why, false)))?;
    }
    if !indexes.is_empty() && bytes_with_entries(indexes, keys.item_size(), document) > ITEM_BYTES_MAX {
        return Err(Failure::validation(ITEM_TOO_LARGE));
    }
    Ok(())
}

/// What is told of the item that a write changes: by the range, and to the client.
pub(super) struct Telling<'t> {
    indexes: &'t [LocalIndex],
    /// Whether the answer tells what was consumed.
    is_counted: bool,
    /// What the client asked for.
    asked: Images,
    /// What the range is asked for.
    images: Images,
    /// The paths that an answer is cut down to; none: the range tells no more than was asked for.
    touched: Option<Vec<Path>>,
    /// What the item becomes, where the write itself says so.
    put: Option<Document>,
}

impl<'t> Telling<'t> {
    /// Of a write of which the client asked for these images, and maybe for what it consumed.
    pub(super) fn of(asked: Images, is_counted: bool, change: &Change, indexes: &'t [LocalIndex]) -> Self {
        let plain = Self { indexes, is_counted, asked, images: asked, touched: None, put: None };
        if indexes.is_empty() {
            return plain;
        }
        let put = if let Change::Put(document) = change { Some(document.clone()) } else { None };
        if !is_counted {
            return Self { put, ..plain };
        }
        let images = Images { before: true, touched_only: false, ..asked };
        match change {
            Change::Put(_) => Self { images, put, ..plain },
            Change::Delete | Change::Remove => Self { images, ..plain },
            Change::Merge(_) => Self { images: Images { after: true, ..images }, ..plain },
            Change::Update(update) => {
                let touched = asked.touched_only.then(|| update.paths().into_iter().cloned().collect());
                Self { images: Images { after: true, ..images }, touched, ..plain }
            }
        }
    }

    /// What the range is to tell.
    pub(super) fn images(&self) -> Images {
        self.images
    }

    /// What was consumed by a write that cost the table this and ended so. A write that was not done costs its table alone.
    pub(super) fn consumed(&self, cost: &Cost, keys: &Document, outcome: &Outcome) -> Consumed {
        let mut consumed = Consumed::of_table(capacity::half_units(cost));
        let (before, after) = match outcome {
            Outcome::Changed(changed) if self.is_counted => (changed.before.as_ref(), changed.after.as_ref()),
            Outcome::Changed(_) | Outcome::Created(_) | Outcome::Updated(_) => (None, None),
            _ => return consumed,
        };
        let after = after.or(self.put.as_ref());
        for index in self.indexes {
            let half_units = index_units::write_half_units(index, keys, before, after);
            if half_units > 0 {
                consumed.indexes.push((index.name.clone(), half_units));
            }
        }
        consumed
    }

    /// What the client asked for of what the range told: of the item before, and after.
    pub(super) fn shown(
        &self,
        before: Option<Document>,
        after: Option<Document>,
    ) -> (Option<Document>, Option<Document>) {
        let cut = |image: Document| match &self.touched {
            Some(touched) => changed_only(&image, touched),
            None => image,
        };
        (before.filter(|_| self.asked.before).map(cut), after.filter(|_| self.asked.after).map(cut))
    }
}
