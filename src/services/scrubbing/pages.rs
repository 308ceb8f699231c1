//! All pages of all files, over and over: one piece of one file at a time, on a thread for what blocks, as the pace allows.
//!
//! A round reads every file once. The one that was not read for the longest time comes first, so that after a restart
//! the reading goes on where it was, and a file is never the last one for ever. A file that comes in the middle of a round is
//! read in it, too.
//!
//! Behind them, in the same round, come the files that are no replica's ([`super::own_files`]).
//!
//! A page that does not open may be one that is just being written: the engine says whether it is damaged
//! ([`crate::services::engine::PagesJudged`]). Of a copy that has others the first damaged page is enough; of one that is
//! alone all are counted, so that people know how bad it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::crypto::page::PAGE_LENGTH;
use crate::domain::Timestamp;
use crate::domain::ids::{RangeId, ReplicaId};
use crate::services::engine::{Engine, FileToScrub, PagesJudged};
use crate::storage::node_database::ScrubRecord;
use crate::storage::store::{Scrubbed, StoreError};

use super::leaving::Leaving;
use super::own_files::OwnFiles;
use super::pace::Pace;
use super::records::Records;
use super::{ScrubCounters, count};

/// Pages that are read at once: 1 MiB.
pub(super) const PAGES: u64 = 256;
/// How far a file is, is written down after so many pages.
const PAGES_WRITTEN_DOWN: u64 = 64 * PAGES;
/// After so long it is looked again which files there are.
const LIST_PAUSE: Duration = Duration::from_secs(60);
/// The pause before pages are judged again of which nothing could be said.
const JUDGE_PAUSE: Duration = Duration::from_millis(500);
/// How often they are judged before others get their turn.
const JUDGE_TRIES: usize = 10;

/// What becomes of a file after some of its pages did not open.
enum Verdict {
    /// It is read on.
    GoOn,
    /// It is not: it was told what is wrong with it.
    Stop,
    /// It cannot be told yet what they are.
    Unknown,
}

/// See the module's essay.
pub(super) struct PageScrub {
    engine: Arc<Engine>,
    records: Arc<Records>,
    leaving: Arc<Leaving>,
    to_compare: mpsc::Sender<RangeId>,
    pace: Pace,
    counters: Arc<ScrubCounters>,
    began: Timestamp,
    is_complete: bool,
    /// Not read to their end in this round, for a reason that was told.
    skipped: BTreeSet<ReplicaId>,
    left: Vec<FileToScrub>,
    /// Read when none of the others is left.
    own: OwnFiles,
    done_bytes: u64,
    left_bytes: u64,
    listed_at: Option<Instant>,
    /// The damaged pages of the present file, of a copy that is alone.
    damaged: Vec<u64>,
}

impl PageScrub {
    pub(super) fn new(
        engine: Arc<Engine>,
        records: Arc<Records>,
        leaving: Arc<Leaving>,
        to_compare: mpsc::Sender<RangeId>,
        own: OwnFiles,
        pace: Pace,
        counters: Arc<ScrubCounters>,
    ) -> Self {
        Self {
            engine,
            records,
            leaving,
            to_compare,
            pace,
            counters,
            began: Timestamp(0),
            is_complete: false,
            skipped: BTreeSet::new(),
            left: Vec::new(),
            own,
            done_bytes: 0,
            left_bytes: 0,
            listed_at: None,
            damaged: Vec::new(),
        }
    }

    /// Reads until dropped.
    pub(super) async fn follow(mut self) {
        loop {
            match self.records.load().await {
                Ok(Some(began)) => {
                    self.began = began;
                    self.own.begin_round();
                    break;
                }
                Ok(None) => {
                    self.begin_round().await;
                    break;
                }
                Err(error) => tracing::warn!(%error, "how far the scrub is cannot be read; it waits"),
            }
            tokio::time::sleep(LIST_PAUSE).await;
        }
        loop {
            let pause = self.tick().await;
            tokio::time::sleep(pause).await;
        }
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.engine.clock().now().0.saturating_sub(self.began.0))
    }

    async fn begin_round(&mut self) {
        self.began = self.engine.clock().now();
        self.records.begin_round(self.began).await;
        self.own.begin_round();
        self.skipped.clear();
        (self.is_complete, self.listed_at) = (false, None);
    }

    /// Does what is due; how long to pause.
    async fn tick(&mut self) -> Duration {
        if self.is_complete && self.elapsed() >= self.pace.period {
            self.begin_round().await;
        }
        let is_old = self.listed_at.is_none_or(|at| Instant::now() >= at + LIST_PAUSE.min(self.pace.period / 4));
        if is_old {
            self.list();
            self.own.look_again().await;
        }
        let file = self.left.last().cloned();
        if file.is_none() && self.own.is_read() {
            self.complete();
            return self.pace.look();
        }
        self.is_complete = false;
        if !self.pace.is_due(self.done_bytes, self.left_bytes, self.elapsed()) {
            return self.pace.look();
        }
        let bytes = match file {
            Some(file) => self.read(&file).await,
            None => self.read_own().await,
        };
        self.pace.rest(bytes).max(Duration::from_millis(1))
    }

    /// All files have been read, and all lists were looked at.
    fn complete(&mut self) {
        if !self.is_complete {
            self.is_complete = true;
            let seconds = self.engine.clock().now().0 / 1_000_000;
            self.counters.completed_at.store(seconds, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Looks which files are left, the one to be read first last.
    fn list(&mut self) {
        self.listed_at = Some(Instant::now());
        let files = self.engine.files_to_scrub();
        let there: BTreeSet<ReplicaId> = files.iter().map(FileToScrub::id).collect();
        self.records.retain(|replica| there.contains(&replica));
        (self.done_bytes, self.left_bytes) = self.own.bytes();
        self.left.clear();
        for file in files {
            let (record, bytes) = (self.records.of(file.id(), file.file), file.store.file_bytes());
            let is_done = record.verified_at.is_some_and(|at| at >= self.began) || self.skipped.contains(&file.id());
            let read = if is_done { bytes } else { (record.next_page * PAGE_LENGTH as u64).min(bytes) };
            self.done_bytes += read;
            self.left_bytes += bytes - read;
            if !is_done {
                self.left.push(file);
            }
        }
        let records = &self.records;
        let age = |file: &FileToScrub| {
            let record = records.of(file.id(), file.file);
            // One that was begun is read to its end first.
            (record.next_page == 1, record.verified_at)
        };
        self.left.sort_by_key(|file| std::cmp::Reverse((age(file), file.id())));
    }

    /// Reads a piece of a file; how many bytes that were.
    async fn read(&mut self, file: &FileToScrub) -> u64 {
        if !file.is_current() || file.replica.damage().is_some() {
            self.damaged.clear();
            self.listed_at = None;
            return 0;
        }
        let record = self.records.of(file.id(), file.file);
        let first = record.next_page;
        let store = Arc::clone(&file.store);
        let found = match self.engine.workers().run(move || store.scrub(first, PAGES)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.not_read(file, &error).await;
                return 0;
            }
            Err(_) => return 0,
        };
        count(&self.counters.pages, found.pages);
        // At its end it is also looked whether the file is as long as it says.
        if !found.suspects.is_empty() || found.next.is_none() {
            match self.judge(file, &found).await {
                Verdict::GoOn => {}
                Verdict::Unknown if found.suspects.is_empty() => {}
                Verdict::Unknown | Verdict::Stop => return found.pages * PAGE_LENGTH as u64,
            }
        }
        let bytes = found.pages * PAGE_LENGTH as u64;
        self.note_read(bytes);
        match found.next {
            Some(next) if next / PAGES_WRITTEN_DOWN == first / PAGES_WRITTEN_DOWN => {
                self.records.note(file.id(), file.file, |record| record.next_page = next);
            }
            Some(next) => self.records.change(file.id(), file.file, |record| record.next_page = next).await,
            None => self.end(file).await,
        }
        bytes
    }

    /// Reads a piece of one of the node's own files; how many bytes that were.
    async fn read_own(&mut self) -> u64 {
        let bytes = self.own.read().await;
        self.note_read(bytes);
        bytes
    }

    fn note_read(&mut self, bytes: u64) {
        (self.done_bytes, self.left_bytes) = (self.done_bytes + bytes, self.left_bytes.saturating_sub(bytes));
    }

    /// A file has been read to its end.
    async fn end(&mut self, file: &FileToScrub) {
        self.left.pop();
        let now = self.engine.clock().now();
        let damaged = std::mem::take(&mut self.damaged);
        if damaged.is_empty() {
            let verified = |record: &mut ScrubRecord| {
                (record.next_page, record.verified_at) = (1, Some(now));
            };
            self.records.change(file.id(), file.file, verified).await;
        } else {
            self.leaving.tell_alone(&file.replica, &damaged);
            self.skipped.insert(file.id());
            self.records.change(file.id(), file.file, |record| record.next_page = 1).await;
        }
        if file.replica.is_grouped() && self.to_compare.try_send(file.replica.name.range).is_err() {
            tracing::debug!(range = %file.replica.name.range, "too many ranges wait to be compared");
        }
    }

    /// What becomes of the file after a piece with these pages that did not open.
    async fn judge(&mut self, file: &FileToScrub, found: &Scrubbed) -> Verdict {
        for _ in 0..JUDGE_TRIES {
            let (engine, judged, suspects) = (Arc::clone(&self.engine), file.clone(), found.suspects.clone());
            match self.engine.workers().run(move || engine.judge_pages(&judged, &suspects)).await {
                Ok(Ok(PagesJudged::Good)) => return Verdict::GoOn,
                Ok(Ok(PagesJudged::Damaged(pages))) => return self.damaged(file, pages).await,
                Ok(Ok(PagesJudged::Unknown)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(replica = %file.id(), %error, "whether pages are damaged cannot be told now")
                }
                Err(_) => {}
            }
            if !file.is_current() {
                break;
            }
            tokio::time::sleep(JUDGE_PAUSE).await;
        }
        self.listed_at = None;
        Verdict::Unknown
    }

    async fn damaged(&mut self, file: &FileToScrub, pages: Vec<u64>) -> Verdict {
        count(&self.counters.damaged_pages, pages.len() as u64);
        if self.leaving.is_alone(&file.replica) {
            self.damaged.extend(pages);
            return Verdict::GoOn;
        }
        self.leaving.give_up(&file.replica, &leaving_reason(&pages)).await;
        self.skip(file).await;
        Verdict::Stop
    }

    /// A file that could not be read at all.
    async fn not_read(&mut self, file: &FileToScrub, error: &StoreError) {
        if matches!(error, StoreError::Damaged(_)) && file.is_current() {
            match self.leaving.is_alone(&file.replica) {
                true => self.leaving.tell_alone(&file.replica, &[0]),
                false => self.leaving.give_up(&file.replica, &format!("its file cannot be read: {error}")).await,
            }
        } else {
            tracing::warn!(replica = %file.id(), %error, "a file could not be read to find damage; the next round tries again");
        }
        self.skip(file).await;
    }

    /// The rest of the file is left to the next round.
    async fn skip(&mut self, file: &FileToScrub) {
        self.skipped.insert(file.id());
        self.damaged.clear();
        self.records.change(file.id(), file.file, |record| record.next_page = 1).await;
        self.listed_at = None;
    }
}

fn leaving_reason(pages: &[u64]) -> String {
    match pages {
        [page] => format!("page {page} of its file is damaged"),
        [first, ..] => format!("{} pages of its file are damaged, the first is page {first}", pages.len()),
        [] => "its file is damaged".to_owned(),
    }
}
