//! Reading an interval until the answer is full: items are looked at in order, and those that the filter lets through are written
//! as they come.
//!
//! The service gives pages of its own, which end where it suits it (a thousand items, the end of a range). They are put together
//! until the interval ends, Limit items were looked at, or their sizes reach a mebibyte. An answer ends *after* the item that
//! reaches it, so every answer gets on. Sizes are item sizes with the key attributes, before the filter; those of an index are
//! the sizes of what it shows, and what is fetched from the table for it has a mebibyte of its own. The service counts whole items,
//! so of an index that shows little it may take several pages to come to a mebibyte; an answer also ends when the items behind
//! it come to [`WHOLE_BYTES_MAX`], so that no request reads for long.

use std::sync::Arc;

use super::index::{Fetch, Source};
use super::parameters::Checked;
use crate::api::dynamodb::attribute_value::write_item;
use crate::api::dynamodb::call::Call;
use crate::api::dynamodb::capacity::{self, Consumed, item_bytes};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::table_lookup::key_document;
use crate::domain::document::Document;
use crate::domain::key::PackedKey;
use crate::domain::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};
use crate::domain::table::TableDefinition;
use crate::domain::usage::Cost;
use crate::expression::ItemView;
use crate::services::ports::{Consistency, ListRequest, StoredItem};

/// Sizes of the items that an answer looks at: it ends with the item that reaches it.
const ANSWER_BYTES_MAX: u64 = PAGE_BYTES_MAX as u64;
/// The same for whole items, of which an index may show little.
const WHOLE_BYTES_MAX: u64 = 16 * ANSWER_BYTES_MAX;

/// Where is read.
pub(super) struct Interval {
    /// The first place that may appear.
    pub(super) start: PackedKey,
    /// The first that may no longer appear; none: to the end.
    pub(super) end: Option<PackedKey>,
    /// From the end towards the start.
    pub(super) descending: bool,
}

impl Interval {
    /// Leaves only what comes after this place.
    pub(super) fn go_on_after(&mut self, place: PackedKey) {
        if self.descending {
            self.end = Some(place);
        } else {
            self.start = place.successor();
        }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| self.start >= *end)
    }
}

/// What is read, and what of it is wanted.
pub(super) struct Wanted<'a> {
    /// The table or the index.
    pub(super) source: &'a Source<'a>,
    /// What the request says.
    pub(super) checked: &'a Checked,
    /// Which items have to be fetched for it.
    pub(super) fetch: Fetch,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// The items as JSON, with commas between them.
    pub(super) items: Vec<u8>,
    /// How many the filter let through.
    pub(super) count: usize,
    /// How many were looked at.
    pub(super) scanned: usize,
    /// The size of those: of what the index shows of them, where one is read.
    bytes: u64,
    /// The size of those as a whole.
    whole_bytes: u64,
    /// What it cost to fetch items of an index from the table.
    fetched: Cost,
    /// The attributes that name the place of the last one, where the end of the interval was not seen.
    pub(super) last: Option<Document>,
}

/// Reads until the answer is full or the interval ends.
///
/// # Errors
/// Those of the service, and of a filter that cannot be evaluated.
pub(super) async fn read(
    call: &Call<'_>,
    table: &Arc<TableDefinition>,
    mut interval: Interval,
    wanted: &Wanted<'_>,
) -> Result<Found, Failure> {
    let (source, limit) = (wanted.source, wanted.checked.limit);
    let mut found = Found::default();
    while !interval.is_empty() {
        let left = limit.map_or(PAGE_ITEMS_MAX, |limit| limit.saturating_sub(found.scanned));
        let request = ListRequest {
            start: interval.start.clone(),
            end: interval.end.clone(),
            limit: left.clamp(1, PAGE_ITEMS_MAX),
            descending: interval.descending,
            consistency: wanted.checked.consistency,
            bytes_max: u32::try_from(ANSWER_BYTES_MAX.saturating_sub(found.bytes).max(1)).ok(),
            index: source.position(),
        };
        let page = call.state.items.list(table, request).await?;
        for (key, item) in &page.items {
            let keys = key_document(key, source.table())?;
            found.look_at(item, &keys, wanted)?;
            if limit == Some(found.scanned) || found.is_full() {
                found.last = Some(source.naming(keys, &item.document)?);
                return Ok(found);
            }
        }
        match page.last {
            None => break,
            Some(last) => {
                // Nothing was there but what has expired: the answer ends, so that a request looks at no more than its
                // bounds. A bound between places is none that can be told.
                if page.items.is_empty()
                    && let Some(named) = source.naming_place(&last)
                {
                    found.last = Some(named);
                    return Ok(found);
                }
                interval.go_on_after(last);
            }
        }
    }
    Ok(found)
}

impl Found {
    fn is_full(&self) -> bool {
        let is_full = self.bytes >= ANSWER_BYTES_MAX || self.fetched.read_bytes >= ANSWER_BYTES_MAX;
        is_full || self.whole_bytes >= WHOLE_BYTES_MAX
    }

    fn look_at(&mut self, item: &StoredItem, keys: &Document, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let Wanted { source, checked, fetch } = wanted;
        let shown = source.shown(&item.document);
        self.scanned += 1;
        let whole_bytes = item_bytes(keys, &item.document);
        self.whole_bytes += whole_bytes;
        self.bytes += item_bytes(keys, &shown);
        // What the index does not show is looked at only where the item is fetched: else nothing names it.
        let view = ItemView { item: Some(&item.document), keys };
        let is_wanted = match &checked.expressions.filter {
            None => true,
            Some(filter) => filter.holds(&view).map_err(|error| Failure::validation(error.to_string()))?,
        };
        if *fetch == Fetch::All || (*fetch == Fetch::Found && is_wanted) {
            self.fetch(whole_bytes, checked.consistency);
        }
        if !is_wanted {
            return Ok(());
        }
        self.count += 1;
        if checked.counts_only {
            return Ok(());
        }
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        match &checked.expressions.projection {
            Some(projection) => write_item(&projection.project(&view.document()), None, &mut self.items),
            None if checked.all_attributes => write_item(&item.document, Some(keys), &mut self.items),
            None => write_item(&shown, Some(keys), &mut self.items),
        }
        Ok(())
    }

    /// Counts an item of so many bytes that is fetched from the table: units are begun for each.
    fn fetch(&mut self, bytes: u64, consistency: Consistency) {
        let cost = capacity::read_cost(bytes, consistency);
        self.fetched.read_bytes += cost.read_bytes;
        self.fetched.read_half_units += cost.read_half_units;
    }

    /// What it cost, all together, and of whom it consumed what.
    pub(super) fn cost(&self, source: &Source<'_>, consistency: Consistency) -> (Cost, Consumed) {
        let read = capacity::read_cost(self.bytes, consistency);
        let consumed = match source.index_name() {
            None => Consumed::of_table(capacity::half_units(&read)),
            Some(name) => Consumed {
                table: capacity::half_units(&self.fetched),
                indexes: vec![(name.to_owned(), capacity::half_units(&read))],
            },
        };
        let sum = Cost {
            read_bytes: read.read_bytes + self.fetched.read_bytes,
            read_half_units: read.read_half_units + self.fetched.read_half_units,
            ..read
        };
        (sum, consumed)
    }
}
