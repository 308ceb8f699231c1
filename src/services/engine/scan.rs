//! Reading a page of a range in key order: what is in memory and what is in the file, merged.
//!
//! The page is put together from steps. A step pins a slice of memory first and reads the file
//! after; memory entries that the file's transaction has already (at or below its applied index) are
//! ignored, so that a flush between the two shows no item twice and none in an older state. Each
//! step covers the keys up to the nearer end of the two slices, and the next one starts there. A
//! page is not a snapshot of the whole interval, but every item in it is one committed state.
//!
//! Pages in the order of a local index are put together from steps of another kind (`index_scan`).

use crate::domain::key::PackedKey;
use crate::domain::limits::PAGE_BYTES_MAX;
use crate::services::ports::{ListRequest, Page, StoredItem};
use crate::storage::store::{Chunk, KeyInterval, StoreError, item_bytes};

use super::index_scan;
use super::memory_table::MemoryItem;
use super::replica::Replica;

/// Memory entries looked at in one step, at the least.
const STEP_ITEMS_MIN: usize = 16;

/// Reads one page. Blocks.
///
/// # Errors
/// Where the file cannot be read, or the table has no such index.
pub fn page(replica: &Replica, request: &ListRequest) -> Result<Page, StoreError> {
    match request.index {
        None => in_steps(request, |rest, wanted| step(replica, rest, request.descending, wanted)),
        Some(position) => index_scan::page(replica, position, request),
    }
}

/// The page of this request, put together from steps; each is asked for what is left and for so many items.
pub(super) fn in_steps(
    request: &ListRequest,
    mut look: impl FnMut(&KeyInterval, usize) -> Result<Step, StoreError>,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let (mut bytes, mut sizes) = (0, 0);
    let sizes_max = request.bytes_max.map_or(usize::MAX, |bytes| bytes as usize);
    let mut rest = KeyInterval { start: request.start.clone(), end: request.end.clone() };
    while rest.end.as_ref().is_none_or(|end| rest.start < *end) {
        let wanted = request.limit - page.items.len();
        let step = look(&rest, wanted.max(STEP_ITEMS_MIN))?;
        for Placed { place, key, item } in step.items {
            bytes += key.len() + item.document.as_bytes().len();
            sizes += item_bytes(&key, &item.document);
            page.items.push((key, item));
            if page.items.len() == request.limit || bytes >= PAGE_BYTES_MAX || sizes >= sizes_max {
                page.last = Some(place);
                return Ok(page);
            }
        }
        let Some(covered) = step.covered else { break };
        if request.descending {
            rest.end = Some(covered);
        } else {
            rest.start = covered.successor();
        }
    }
    Ok(page)
}

/// A piece of a page.
pub(super) struct Step {
    /// The items in the order asked for.
    pub(super) items: Vec<Placed>,
    /// The last place that this step covers, or a bound behind all that it covers; none: it covers everything.
    pub(super) covered: Option<PackedKey>,
}

/// An item and its place in the order asked for: its key, or its entry in an index.
pub(super) struct Placed {
    /// Where it lies.
    pub(super) place: PackedKey,
    /// Its own key.
    pub(super) key: PackedKey,
    /// The item.
    pub(super) item: StoredItem,
}

fn step(replica: &Replica, rest: &KeyInterval, descending: bool, limit: usize) -> Result<Step, StoreError> {
    let (mut memory, memory_complete) = replica.memory_slice(&rest.start, rest.end.as_ref(), descending, limit);
    let mut covered = if memory_complete { None } else { memory.last().map(|(key, _)| key.clone()) };
    let interval = narrowed(rest, covered.as_ref(), descending);
    let chunk = replica.read_with(|store| store.scan(&interval, descending, limit, PAGE_BYTES_MAX))?;
    if !chunk.complete {
        covered = chunk.items.last().map(|(key, ..)| key.clone());
        if let Some(end) = &covered {
            memory.retain(|(key, _)| if descending { key >= end } else { key <= end });
        }
    }
    Ok(Step { items: merge(memory, chunk, descending), covered })
}

/// The part of the interval up to and including `covered`.
pub(super) fn narrowed(rest: &KeyInterval, covered: Option<&PackedKey>, descending: bool) -> KeyInterval {
    match covered {
        None => rest.clone(),
        Some(key) if descending => KeyInterval { start: key.clone(), end: rest.end.clone() },
        Some(key) => KeyInterval { start: rest.start.clone(), end: Some(key.successor()) },
    }
}

fn merge(memory: Vec<(PackedKey, MemoryItem)>, chunk: Chunk, descending: bool) -> Vec<Placed> {
    let mut merged = Vec::with_capacity(memory.len() + chunk.items.len());
    let mut memory = memory.into_iter().filter(|(_, item)| item.version.0 > chunk.applied_index).peekable();
    let before = |left: &PackedKey, right: &PackedKey| if descending { left > right } else { left < right };
    let mut push = |key: PackedKey, item: MemoryItem| {
        if let Some(document) = item.document {
            let item = StoredItem { document, version: item.version };
            merged.push(Placed { place: key.clone(), key, item });
        }
    };
    for (key, document, version) in chunk.items {
        while let Some((newer, item)) = memory.next_if(|(newer, _)| before(newer, &key)) {
            push(newer, item);
        }
        match memory.next_if(|(newer, _)| *newer == key) {
            Some((_, item)) => push(key, item),
            None => push(key, MemoryItem { version, document: Some(document) }),
        }
    }
    for (key, item) in memory {
        push(key, item);
    }
    merged
}
