//! Reading a file's pages beside SQLite, to find damage before anybody asks for what is damaged.
//!
//! A page is read as it stands on the disk and its tag is checked; nothing of it is kept. SQLite's locks are not taken, so
//! a checkpoint may be writing the very page at the same time. A page that does not open is therefore only *suspect*. It is
//! damaged if it does not open either while nobody writes and everything in the write-ahead log has been copied into the
//! file: then it is what the next reader would get. Whoever owns the connections brings that about
//! (`storage::sqlite::scrub`).
//!
//! The file is read through the descriptor that the registry keeps for it, for the reason that stands there.
//!
//! | what | is covered |
//! |---|---|
//! | pages of the database, free ones too | yes |
//! | pages of the write-ahead log | when a checkpoint copies them; what was copied is in the file and covered from then on |
//! | the page at 1 GiB | no: SQLite keeps that place for locks and never writes it |
//! | the header block | its identity and its wrapped key are checked when the file is opened, and where page 0 is asked for |

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::VfsError;
use super::header::Slot;
use super::keys::{canonical, io, read_header};
use super::registry::{FileState, REGISTRY};
use crate::crypto::Key256;
use crate::crypto::page::{PAGE_LENGTH, PageKind, PagePlace, open_page};
use crate::domain::ids::FileId;

/// The page that SQLite keeps for its locks (<https://sqlite.org/fileformat2.html#the_lock_byte_page>).
const LOCK_PAGE: u64 = (1 << 30) / PAGE_LENGTH as u64 + 1;

/// What a look at some pages of a file found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Pages that were read.
    pub pages: u64,
    /// Pages that did not open, or were not there.
    pub suspects: Vec<u64>,
    /// Where to go on; none where the file ends before.
    pub next: Option<u64>,
}

/// Reads up to `pages_max` pages from page `first` on, which counts from 1. Where it is 0, the header block is looked at before.
///
/// # Errors
/// What the operating system says; [`VfsError::Swapped`] where another file is there; what is wrong with the header block.
pub fn scrub(path: &Path, expected: FileId, key: &Key256, first: u64, pages_max: u64) -> Result<Scrubbed, VfsError> {
    let path = &canonical(path)?;
    let file = REGISTRY.acquire(path, expected, key, || {
        let file = std::fs::File::options().read(true).write(true).open(path).map_err(io(path, "opening"))?;
        let found = read_header(path, &file)?.identity.file;
        match found == expected {
            true => Ok(file),
            false => Err(VfsError::Swapped { path: path.to_owned(), expected, found }),
        }
    })?;
    if first == 0 {
        check_header(path, &file, expected)?;
    }
    let length = file.header.metadata().map_err(io(path, "looking at"))?.len();
    // The header block has the place of a page before the first.
    let last = (length / PAGE_LENGTH as u64).saturating_sub(1);
    let mut found = Scrubbed::default();
    let end = first.max(1).saturating_add(pages_max).min(last + 1);
    for number in first.max(1)..end {
        found.pages += 1;
        if !opens(&file, number) {
            found.suspects.push(number);
        }
    }
    found.next = (end <= last).then_some(end);
    Ok(found)
}

/// Whether the file would be opened again with its header block as it is now.
fn check_header(path: &Path, file: &FileState, expected: FileId) -> Result<(), VfsError> {
    let header = read_header(path, &file.header)?;
    let found = header.identity.file;
    if found != expected {
        return Err(VfsError::Swapped { path: path.to_owned(), expected, found });
    }
    if !header.slots.iter().any(|slot| matches!(slot, Slot::Key { .. })) {
        return Err(VfsError::HeaderDamaged { path: path.to_owned(), what: "no key slot is intact" });
    }
    Ok(())
}

/// Of these pages of an open file, those that belong to it and do not open; and those at its end that are not there, as
/// the first of them. To be asked while nobody writes and the write-ahead log has been copied into the file.
///
/// # Errors
/// What the operating system says; [`VfsError::NotOpen`].
pub fn damaged_pages(path: &Path, suspects: &[u64]) -> Result<Vec<u64>, VfsError> {
    let path = canonical(path)?;
    let file = REGISTRY.find(&path).ok_or_else(|| VfsError::NotOpen { path: path.clone() })?;
    let there = file.header.metadata().map_err(io(&path, "looking at"))?.len() / PAGE_LENGTH as u64;
    // What lies behind the pages that the first one counts is left over. Where that one does not open, all counts.
    let count = page_count(&file).unwrap_or(u64::MAX);
    let is_damaged = |number: &u64| *number <= count && !opens(&file, *number);
    let mut damaged: Vec<u64> = suspects.iter().copied().filter(is_damaged).collect();
    if count != u64::MAX && there <= count {
        damaged.push(there);
    }
    damaged.dedup();
    Ok(damaged)
}

/// Whether page `number` is there and opens.
fn opens(file: &FileState, number: u64) -> bool {
    number == LOCK_PAGE || read_page(file, number).is_some()
}

/// A page in clear; none where it does not open, is not there, or the disk does not give it.
fn read_page(file: &FileState, number: u64) -> Option<[u8; PAGE_LENGTH]> {
    let mut page = [0; PAGE_LENGTH];
    file.header.read_exact_at(&mut page, number * PAGE_LENGTH as u64).ok()?;
    file.count(|counters| &counters.pages_opened);
    let place = PagePlace { kind: PageKind::Database, file: file.file, position: number };
    open_page(&file.aead, &place, &mut page).is_ok().then_some(page)
}

/// How many pages the first one says that there are; none where it does not open.
fn page_count(file: &FileState) -> Option<u64> {
    let count = |page: [u8; PAGE_LENGTH]| u64::from(u32::from_be_bytes([page[28], page[29], page[30], page[31]]));
    read_page(file, 1).map(count)
}
