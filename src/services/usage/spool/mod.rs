//! Batches on disk until reporting has them: `usage/<number>.spool` in the component's folder, sealed ([`file`], [`key`]).
//!
//! Each start of the process writes files of its own, one after the other; a batch is appended and synced before it is
//! given to anybody. Reporters tell with each question up to which batch they have everything. A file goes when every
//! reporter that asked within a week has all of it, or when the files are larger together than they may be: then the
//! oldest goes, and its batches that somebody lacks are counted. The last file always stays, so that the next start finds how this
//! one ended.
//!
//! Of a reporter only that it asks is kept, in the head of each file: what it has it says again with each question. So after
//! a restart nothing goes before all that are known have asked.
//!
//! A batch whose write or sync failed is written again into a new file, with all that was counted meanwhile; what is left of
//! it in the file before is void, because the new file's head says that it begins with that very interval.
//!
//! What the next author must keep: nothing here is called while a request is answered.

pub mod file;
pub mod key;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Error, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::domain::usage::{EarlierStart, KeptUpTo, UsageBatch, UsagePull};

use file::{FRAMES_AT, Head, begin, open_frame, push_frame, scan};
use key::{KeyContext, KeyError, SpoolKey, sync_folder};

/// How long a reporter that asks no more is waited for, in milliseconds.
const REPORTER_MS: u64 = 7 * 24 * 3600 * 1000;
/// How old what is kept of a reporter's last question may be, in milliseconds.
const REPORTER_OLD_MS: u64 = 3600 * 1000;
/// Bytes of frames in one answer, about.
const PULL_BYTES: u64 = 4 << 20;
/// Batches in one answer, at most.
pub const BATCHES_MAX: u32 = 4096;

/// A file that is kept.
struct Kept {
    number: u64,
    boot: Uuid,
    first: u64,
    /// Where each batch stands.
    frames: Vec<Range<u64>>,
    bytes: u64,
}

/// A place among all batches: which file, and how many of its batches lie before it.
type Place = (usize, usize);

/// How a spool is, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolNumbers {
    /// Bytes of its files.
    pub bytes: u64,
    /// Batches in them.
    pub batches: u64,
    /// Batches that were thrown away before everyone had them.
    pub dropped: u64,
}

/// See the module's essay. Everything in here blocks on the disk.
pub struct Spool {
    folder: PathBuf,
    key: SpoolKey,
    boot: Uuid,
    bytes_max: u64,
    /// Oldest first.
    files: VecDeque<Kept>,
    /// The last of them, where it takes another batch.
    open: Option<File>,
    next_number: u64,
    next_interval: u64,
    earlier: Option<EarlierStart>,
    dropped: u64,
    /// Who asked, and when, as the last head says.
    reporters: BTreeMap<Uuid, u64>,
    /// What each has, of those that have asked since the start of the process.
    has: BTreeMap<Uuid, Option<KeptUpTo>>,
}

impl Spool {
    /// Opens the spool in this folder, or makes one, for the start `boot` of the process. Also says what a person should know.
    ///
    /// # Errors
    /// [`KeyError::Lost`] where what is there can never be read: set it aside.
    pub fn open(
        folder: PathBuf,
        context: KeyContext,
        boot: Uuid,
        bytes_max: u64,
    ) -> Result<(Self, Vec<String>), KeyError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut key = SpoolKey::open_or_make(folder.join("key"), context)?;
        key.wrap_anew()?;
        let mut spool = Self {
            folder,
            key,
            boot,
            bytes_max,
            files: VecDeque::new(),
            open: None,
            next_number: 1,
            next_interval: 1,
            earlier: None,
            dropped: 0,
            reporters: BTreeMap::new(),
            has: BTreeMap::new(),
        };
        let notices = spool.read_files()?;
        spool.earlier = spool.find_earlier();
        Ok((spool, notices))
    }

    fn read_files(&mut self) -> Result<Vec<String>, KeyError> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".spool")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let mut notices = Vec::new();
        let mut oldest = 0;
        for number in numbers.iter().copied() {
            self.next_number = self.next_number.max(number + 1);
            let path = path_of(&self.folder, number);
            match self.read_file(number, &std::fs::read(&path)?) {
                Some((head, kept)) => {
                    (oldest, self.dropped, self.reporters) = (head.oldest, head.dropped, head.reporters);
                    self.files.push_back(kept);
                }
                // One that was being made when the process ended has no batch that anybody knows of.
                None if numbers.last() == Some(&number) => std::fs::remove_file(&path)?,
                None => {
                    let aside = path.with_extension("damaged");
                    std::fs::rename(&path, &aside)?;
                    let aside = aside.display();
                    notices.push(format!(
                        "a file of usage counts was damaged and set aside as {aside}: look after the disk"
                    ));
                }
            }
        }
        while self.files.front().is_some_and(|kept| kept.number < oldest) {
            self.forget_first();
        }
        for position in 1..self.files.len() {
            let (boot, first) = (self.files[position].boot, self.files[position].first);
            let before = &mut self.files[position - 1];
            if before.boot != boot {
                continue;
            }
            before.frames.truncate(first.saturating_sub(before.first) as usize);
            let missing = first.saturating_sub(before.first + before.frames.len() as u64);
            if missing > 0 {
                let what = "batches of usage counts on this disk are damaged and left out: look after the disk";
                notices.push(format!("{missing} {what}"));
            }
        }
        Ok(notices)
    }

    fn read_file(&self, number: u64, bytes: &[u8]) -> Option<(Head, Kept)> {
        let found = scan(bytes).filter(|found| found.number == number)?;
        let (first, rest) = found.frames.split_first()?;
        let torn = bytes.len() - rest.last().unwrap_or(first).end;
        if torn > 0 {
            tracing::info!(file = number, torn, "bytes behind the last whole batch of usage counts are left out");
        }
        let head = open_frame(&self.key, number, first.start as u64, &bytes[first.clone()]).ok()?;
        let head: Head = serde_json::from_slice(&head).ok()?;
        let frames = rest.iter().map(|frame| frame.start as u64..frame.end as u64).collect();
        let kept = Kept { number, boot: head.boot, first: head.first, frames, bytes: bytes.len() as u64 };
        Some((head, kept))
    }

    fn find_earlier(&self) -> Option<EarlierStart> {
        let last = self.files.iter().rev().find_map(|kept| {
            let file = File::open(path_of(&self.folder, kept.number)).ok()?;
            kept.frames.iter().rev().find_map(|frame| self.read(&file, kept.number, frame).ok().flatten())
        })?;
        let UsageBatch { id, ended_ms, is_last, .. } = last;
        Some(EarlierStart { boot: id.boot, interval: id.interval, ended_ms, was_planned: is_last })
    }

    /// The batch in this frame; none where it is not what was written.
    fn read(&self, file: &File, number: u64, frame: &Range<u64>) -> Result<Option<UsageBatch>, Error> {
        let mut bytes = vec![0; (frame.end - frame.start) as usize];
        file.read_exact_at(&mut bytes, frame.start)?;
        let opened = open_frame(&self.key, number, frame.start, &bytes).ok();
        let batch = opened.and_then(|content| serde_json::from_slice(&content).ok());
        if batch.is_none() {
            tracing::error!(file = number, at = frame.start, "a batch of usage counts does not open; it is left out");
        }
        Ok(batch)
    }

    /// The interval that the next batch has.
    pub fn next_interval(&self) -> u64 {
        self.next_interval
    }

    /// How the start before this one ended.
    pub fn earlier(&self) -> Option<EarlierStart> {
        self.earlier
    }

    /// Has the newest version of the component's key open the spool.
    ///
    /// # Errors
    /// Where it cannot be written; the spool opens as before.
    pub fn wrap_anew(&mut self) -> Result<(), KeyError> {
        self.key.wrap_anew()
    }

    /// How it is.
    pub fn numbers(&self) -> SpoolNumbers {
        SpoolNumbers {
            bytes: self.files.iter().map(|kept| kept.bytes).sum(),
            batches: self.files.iter().map(|kept| kept.frames.len() as u64).sum(),
            dropped: self.dropped,
        }
    }

    /// Keeps a batch of interval [`Spool::next_interval`]; synced when it returns.
    ///
    /// # Errors
    /// Then it is not kept, and its interval is that of the next one.
    pub fn append(&mut self, batch: &UsageBatch) -> Result<(), Error> {
        let content = serde_json::to_vec(batch)?;
        let is_full = self.files.back().is_some_and(|kept| kept.bytes + content.len() as u64 > self.file_bytes_max());
        if self.open.is_none() || is_full {
            self.begin_file()?;
        }
        let (Some(file), Some(kept)) = (&mut self.open, self.files.back_mut()) else {
            return Err(Error::other("there is no file to write to"));
        };
        let (at, mut frame) = (kept.bytes, Vec::new());
        push_frame(&mut frame, &self.key, kept.number, at, self.key.nonce(), &content);
        if let Err(error) = file.write_all_at(&frame, at).and_then(|()| file.sync_data()) {
            // Whatever stands there now is not believed.
            self.open = None;
            return Err(error);
        }
        kept.bytes += frame.len() as u64;
        kept.frames.push(at..kept.bytes);
        self.next_interval += 1;
        Ok(())
    }

    fn file_bytes_max(&self) -> u64 {
        (self.bytes_max / 32).clamp(4 << 10, 2 << 20)
    }

    /// Begins a file for the next batch, and lets files go for which there is no room.
    fn begin_file(&mut self) -> Result<(), Error> {
        self.open = None;
        let number = self.next_number;
        // Never given again: a file that was not finished may have frames in it.
        self.next_number += 1;
        let mut bytes: u64 = self.files.iter().map(|kept| kept.bytes).sum::<u64>() + self.file_bytes_max();
        let (mut doomed, mut dropped) = (0, self.dropped);
        while bytes > self.bytes_max && doomed + 1 < self.files.len() {
            bytes -= self.files[doomed].bytes;
            dropped += self.lacking(doomed);
            doomed += 1;
        }
        let oldest = self.files.get(doomed).map_or(number, |kept| kept.number);
        let (boot, first, reporters) = (self.boot, self.next_interval, self.reporters.clone());
        let head = serde_json::to_vec(&Head { boot, first, oldest, dropped, reporters })?;
        let mut content = begin(number);
        push_frame(&mut content, &self.key, number, FRAMES_AT as u64, self.key.nonce(), &head);
        let path = path_of(&self.folder, number);
        let mut made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        made.write_all(&content).and_then(|()| made.sync_all()).and_then(|()| sync_folder(&path)).inspect_err(
            |_| {
                let _ = std::fs::remove_file(&path);
            },
        )?;
        self.dropped = dropped;
        (0..doomed).for_each(|_| self.forget_first());
        let bytes = content.len() as u64;
        self.files.push_back(Kept { number, boot, first, frames: Vec::new(), bytes });
        self.open = Some(made);
        Ok(())
    }

    fn forget_first(&mut self) {
        let Some(kept) = self.files.pop_front() else { return };
        if let Err(error) = std::fs::remove_file(path_of(&self.folder, kept.number)) {
            tracing::warn!(%error, file = kept.number, "a file of usage counts could not be removed; the next start does it");
        }
    }

    /// Gives the batches behind what this reporter has.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn pull(&mut self, reporter: Uuid, pull: &UsagePull, now_ms: u64) -> Result<Vec<UsageBatch>, Error> {
        self.note_reporter(reporter, pull.acknowledged, now_ms)?;
        self.release();
        let (from, skipped) = self.place_after(pull.acknowledged);
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let batches_max = pull.batches_max.clamp(1, BATCHES_MAX) as usize;
        for (position, kept) in self.files.iter().enumerate().skip(from) {
            let skipped = if position == from { skipped } else { 0 };
            let file = File::open(path_of(&self.folder, kept.number))?;
            for frame in &kept.frames[skipped..] {
                if batches.len() == batches_max || bytes > PULL_BYTES {
                    return Ok(batches);
                }
                batches.extend(self.read(&file, kept.number, frame)?);
                bytes += frame.end - frame.start;
            }
        }
        Ok(batches)
    }

    /// Notes who asks and what it has. That it asks is on the disk before it gets anything.
    fn note_reporter(&mut self, reporter: Uuid, has: Option<KeptUpTo>, now_ms: u64) -> Result<(), Error> {
        let is_news = self.reporters.get(&reporter).is_none_or(|at| at.abs_diff(now_ms) > REPORTER_OLD_MS);
        if is_news {
            let before = self.reporters.clone();
            self.reporters.retain(|_, at| now_ms.saturating_sub(*at) < REPORTER_MS);
            self.reporters.insert(reporter, now_ms);
            if let Err(error) = self.begin_file() {
                self.reporters = before;
                return Err(error);
            }
        }
        self.has.insert(reporter, has);
        Ok(())
    }

    /// How many batches lie up to the acknowledged one, as a place. One that is not known is older than all that are kept.
    fn place_after(&self, has: Option<KeptUpTo>) -> Place {
        let found = has.and_then(|has| {
            let within = |kept: &&Kept| {
                kept.boot == has.boot
                    && has.interval.checked_sub(kept.first).is_some_and(|k| k < kept.frames.len() as u64)
            };
            let position = self.files.iter().position(|kept| within(&kept))?;
            Some((position, (has.interval - self.files[position].first) as usize + 1))
        });
        found.unwrap_or((0, 0))
    }

    /// Up to which place everyone has everything. Nobody has anything where nobody asks.
    fn everyone_has(&self) -> Place {
        let places = self.reporters.keys().map(|reporter| match self.has.get(reporter) {
            Some(has) => self.place_after(*has),
            None => (0, 0),
        });
        places.min().unwrap_or((0, 0))
    }

    /// How many batches of a file somebody lacks.
    fn lacking(&self, position: usize) -> u64 {
        let (file, count) = self.everyone_has();
        let all = self.files[position].frames.len();
        match position.cmp(&file) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => (all - count) as u64,
            std::cmp::Ordering::Greater => all as u64,
        }
    }

    /// Lets files go that everyone has, but for the last with a batch and those behind it.
    fn release(&mut self) {
        while self.files.iter().skip(1).any(|kept| !kept.frames.is_empty()) && self.lacking(0) == 0 {
            self.forget_first();
        }
    }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.spool"))
}

#[cfg(test)]
pub(super) mod tests;
