//! A disk in memory that can lose power, fail a sync, and be full. For tests and simulations only.
//!
//! What was written and not synced is kept apart, 512 bytes at a time: a [`SimulatedDisk::crash`] keeps any subset
//! of these sectors, as chosen by the caller, each whole; and any leading part of the creations, renames and
//! removals since the folder's last sync. Files are kept when their names are. A sync that is told to fail does
//! what Linux does: it answers an error once and forgets that the sectors were to be written, while reads go on
//! showing them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    locked: bool,
    /// Offsets that the disk does not give.
    unreadable: Vec<Range<u64>>,
}

#[derive(Clone)]
enum Change {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Default)]
struct State {
    contents: HashMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    names_durable: BTreeMap<PathBuf, u64>,
    changes: Vec<Change>,
    numbers_used: u64,
    capacity_bytes: Option<u64>,
    syncs_until_failure: Option<u64>,
    syncs_are_held: bool,
    syncs_waiting: u64,
    is_dead: bool,
    changes_until_cut: Option<u64>,
    counters: SimulatedCounters,
}

/// What was asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulatedCounters {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Calls of `sync_data`.
    pub syncs: u64,
    /// Calls of `sync_folder`.
    pub folder_syncs: u64,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &Change) {
    match change {
        Change::Create(path, number) => {
            names.insert(path.clone(), *number);
        }
        Change::Rename(from, to) => {
            if let Some(number) = names.remove(from) {
                names.insert(to.clone(), number);
            }
        }
        Change::Remove(path) => {
            names.remove(path);
        }
    }
}

impl Content {
    fn after_crash(&self, keep: &mut dyn FnMut() -> bool) -> Content {
        // The new length became durable with a sync, or did not.
        let length = if self.seen.len() != self.durable.len() && keep() { self.seen.len() } else { self.durable.len() };
        let mut bytes = self.durable.clone();
        bytes.resize(length, 0);
        for sector in &self.dirty {
            let end = ((sector + 1) * SECTOR_BYTES).min(length).min(self.seen.len());
            let range = (sector * SECTOR_BYTES).min(end)..end;
            if keep() {
                bytes[range.clone()].copy_from_slice(&self.seen[range]);
            }
        }
        let unreadable = self.unreadable.clone();
        Content { seen: bytes.clone(), durable: bytes, dirty: BTreeSet::new(), locked: false, unreadable }
    }
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Keeps syncs of files waiting from now on, or lets them go on.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().syncs_are_held = hold;
        self.0.changed.notify_all();
    }

    /// Waits until a sync is kept waiting; `false` after ten seconds.
    pub fn wait_for_held_sync(&self) -> bool {
        let patience = std::time::Duration::from_secs(10);
        let mut state = self.state();
        !self.0.changed.wait_while_for(&mut state, |state| state.syncs_waiting == 0, patience).timed_out()
    }

    /// An empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// The disk as it might be found if power had been cut now. `keep` is asked for each thing that was not synced.
    /// This disk stays as it is.
    pub fn crash(&self, keep: &mut dyn FnMut() -> bool) -> SimulatedDisk {
        let state = self.state();
        let mut names = state.names_durable.clone();
        for change in &state.changes {
            if !keep() {
                break;
            }
            apply(&mut names, change);
        }
        // In order of their names, so that equal choices give equal disks.
        let contents = names.values().map(|number| (*number, state.contents[number].after_crash(keep))).collect();
        SimulatedDisk(Arc::new(Inner {
            changed: Condvar::new(),
            state: Mutex::new(State {
                contents,
                names_durable: names.clone(),
                names,
                numbers_used: state.numbers_used,
                capacity_bytes: state.capacity_bytes,
                ..State::default()
            }),
        }))
    }

    /// From now on everything asked of the disk fails.
    pub fn cut_power(&self) {
        self.state().is_dead = true;
    }

    /// Power is cut in place of the write, sync, creation, renaming or removal that follows the next `changes` ones.
    pub fn cut_power_after(&self, changes: u64) {
        self.state().changes_until_cut = Some(changes);
    }

    /// Another disk that is as this one, everything synced.
    pub fn fork(&self) -> SimulatedDisk {
        self.crash(&mut || true)
    }

    /// The sync of a file after the next `syncs` ones fails, once.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state().syncs_until_failure = Some(syncs);
    }

    /// Files together may not be longer than this.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// What was asked so far.
    pub fn counters(&self) -> SimulatedCounters {
        self.state().counters
    }

    /// A file's bytes, as a reader sees them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|number| state.contents[number].seen.clone())
    }

    /// Puts other bytes in a file's place, synced.
    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let number = match state.names.get(path) {
            Some(number) => *number,
            None => state.create(path),
        };
        state.names_durable.insert(path.to_owned(), number);
        let content = state.contents.entry(number).or_default();
        content.durable.clone_from(&bytes);
        content.seen = bytes;
        content.dirty.clear();
    }

    /// From now on every read that touches these offsets of a file fails.
    pub fn fail_reads(&self, path: &Path, offsets: Range<u64>) {
        let mut state = self.state();
        if let Some(number) = state.names.get(path).copied() {
            state.contents.entry(number).or_default().unreadable.push(offsets);
        }
    }

    /// The paths of all files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.is_dead { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    /// For what changes the disk.
    fn check_change(&mut self) -> io::Result<()> {
        self.is_dead |= self.changes_until_cut == Some(0);
        self.changes_until_cut = self.changes_until_cut.map(|changes| changes.saturating_sub(1));
        self.check()
    }

    fn create(&mut self, path: &Path) -> u64 {
        self.numbers_used += 1;
        let number = self.numbers_used;
        self.contents.insert(number, Content::default());
        self.names.insert(path.to_owned(), number);
        self.changes.push(Change::Create(path.to_owned(), number));
        number
    }

    fn bytes_used(&self) -> u64 {
        self.names.values().map(|number| self.contents[number].seen.len() as u64).sum()
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for SimulatedDisk {
    fn make_folder(&self, _folder: &Path) -> io::Result<()> {
        self.state().check()
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.check()?;
        let number = match (state.names.get(path), create) {
            (Some(_), true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), false) => *number,
            (None, true) => {
                state.check_change()?;
                state.create(path)
            }
            (None, false) => return Err(not_found()),
        };
        Ok(Box::new(SimulatedFile { disk: self.clone(), number, holds_lock: Mutex::new(false) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_change()?;
        if !state.names.contains_key(from) {
            return Err(not_found());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_change()?;
        if !state.names.contains_key(path) {
            return Err(not_found());
        }
        state.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        state.check()?;
        Ok(state.names.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check_change()?;
        state.counters.folder_syncs += 1;
        state.names_durable = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        let state = self.state();
        state.check()?;
        Ok(state.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.bytes_used())))
    }

    fn total_bytes(&self, _folder: &Path) -> io::Result<u64> {
        let state = self.state();
        state.check()?;
        Ok(state.capacity_bytes.unwrap_or(u64::MAX))
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    number: u64,
    holds_lock: Mutex<bool>,
}

impl SimulatedFile {
    fn with<T>(&self, action: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut state = self.disk.state();
        state.check()?;
        Ok(action(state.contents.entry(self.number).or_default()))
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        self.with(|content| {
            if content.unreadable.iter().any(|bad| bad.start < end && offset < bad.end) {
                return Err(io::Error::other("the disk does not read there"));
            }
            let start = (offset as usize).min(content.seen.len());
            let length = buffer.len().min(content.seen.len() - start);
            buffer[..length].copy_from_slice(&content.seen[start..start + length]);
            Ok(length)
        })?
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.counters.writes += 1;
        state.check_change()?;
        drop(state);
        self.with(|content| {
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            if content.seen.len() < end {
                content.seen.resize(end, 0);
            }
            content.seen[start..end].copy_from_slice(bytes);
            if !bytes.is_empty() {
                content.dirty.extend(start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs_waiting += 1;
        self.disk.0.changed.notify_all();
        self.disk.0.changed.wait_while(&mut state, |state| state.syncs_are_held);
        state.syncs_waiting -= 1;
        state.check_change()?;
        state.counters.syncs += 1;
        let fails = state.syncs_until_failure == Some(0);
        state.syncs_until_failure = if fails { None } else { state.syncs_until_failure.map(|syncs| syncs - 1) };
        let content = state.contents.entry(self.number).or_default();
        let dirty = std::mem::take(&mut content.dirty);
        if fails {
            return Err(io::Error::other("the disk lost what was written"));
        }
        content.durable.resize(content.seen.len(), 0);
        for sector in dirty {
            let end = ((sector + 1) * SECTOR_BYTES).min(content.seen.len());
            let range = (sector * SECTOR_BYTES).min(end)..end;
            content.durable[range.clone()].copy_from_slice(&content.seen[range]);
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_change()?;
        let length = state.contents[&self.number].seen.len() as u64;
        let grows_by = bytes.saturating_sub(length);
        if state.capacity_bytes.is_some_and(|capacity| state.bytes_used() + grows_by > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = state.contents.entry(self.number).or_default();
        content.seen.resize(bytes.max(length) as usize, 0);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|content| content.seen.len() as u64)
    }

    fn lock(&self) -> io::Result<bool> {
        let taken = self.with(|content| !std::mem::replace(&mut content.locked, true))?;
        *self.holds_lock.lock() = taken;
        Ok(taken)
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if *self.holds_lock.lock()
            && let Some(content) = self.disk.state().contents.get_mut(&self.number)
        {
            content.locked = false;
        }
    }
}
