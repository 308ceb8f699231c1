//! The node's own files: the closed segments of its commit log, and its database. They are read behind the replicas' files in
//! each round.
//!
//! A start reads both as a whole, and a node that finds damage in them does not start. So it is looked for while the node
//! runs, and has in memory what it takes to do without what is damaged.
//!
//! | what is damaged | what happens |
//! |---|---|
//! | a segment of the log | memory goes to files, so that the log drops it; a notice: do not stop the node before |
//! | the database | a notice: nothing stands in for it, and the node is to be drained while it serves |
//!
//! A segment stays where a range has an entry in it that is not applied yet, or its last vote in the very batch that is
//! damaged. Such ranges leave the node when it is drained, and the segment with the last of them. Until then it is asked for
//! over and over: an entry may be applied late, a vote be followed by another, and nothing else would look again.
//!
//! A round reads the segments that are closed when it comes to them. Later ones were just written; they have their turn in the
//! next round, if they are there still. So a node that writes much does not read its log as fast as it writes it. What was
//! written lately is mostly given by the system's cache: that it is on the disk, too, shows in a later round. How far this
//! reading is, is written down nowhere, since a start begins with all of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::crypto::page::PAGE_LENGTH;
use crate::services::engine::Engine;
use crate::storage::log::{LogError, Verified};
use crate::storage::node_database::NodeDatabase;
use crate::storage::store::StoreError;

use super::pages::PAGES;
use super::{ScrubCounters, count};

/// Bytes of a segment that are read at once, about.
const SEGMENT_PIECE_BYTES: u64 = 1 << 20;
/// The pause before pages are judged again of which nothing could be said.
const JUDGE_PAUSE: Duration = Duration::from_millis(500);
/// How often they are judged before they are left to the next round.
const JUDGE_TRIES: usize = 10;

/// See the module's essay.
pub(super) struct OwnFiles {
    engine: Arc<Engine>,
    database: Arc<dyn NodeDatabase>,
    counters: Arc<ScrubCounters>,
    /// Whether this round has come to the log.
    log_begun: bool,
    /// The segment to go on with, and where in it.
    segment: u64,
    offset: u64,
    /// Segments from this one on are left to the next round.
    segments_end: u64,
    /// Damaged segments that are there still, of which people were told.
    told: BTreeSet<u64>,
    /// The page of the database to go on with, 0 for the header block; none where it was read to its end.
    page: Option<u64>,
    /// Its pages that this round found damaged.
    damaged: Vec<u64>,
}

impl OwnFiles {
    /// Of no round yet: there is nothing to be read.
    pub(super) fn new(engine: Arc<Engine>, database: Arc<dyn NodeDatabase>, counters: Arc<ScrubCounters>) -> Self {
        Self {
            engine,
            database,
            counters,
            log_begun: true,
            segment: 0,
            offset: 0,
            segments_end: 0,
            told: BTreeSet::new(),
            page: None,
            damaged: Vec::new(),
        }
    }

    /// All of them are to be read.
    pub(super) fn begin_round(&mut self) {
        (self.log_begun, self.offset, self.page) = (false, 0, Some(0));
        self.damaged.clear();
    }

    /// Whether this round has read all of them.
    pub(super) fn is_read(&self) -> bool {
        self.log_begun && self.segment >= self.segments_end && self.page.is_none()
    }

    /// Bytes that were read in this round, and bytes that are left, of what is there now.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let log = self.engine.log();
        let (stats, closed) = (log.counters(), log.closed_segments());
        let segment_bytes = stats.bytes_total / stats.segments.max(1);
        let (next, end) = if self.log_begun { (self.segment, self.segments_end) } else { (closed.start, closed.end) };
        let done = next.saturating_sub(closed.start) * segment_bytes + self.offset;
        let all = end.saturating_sub(closed.start) * segment_bytes;
        let database = self.database.file_bytes();
        let database_done = self.page.map_or(database, |page| (page * PAGE_LENGTH as u64).min(database));
        (done + database_done, all.saturating_sub(done) + database - database_done)
    }

    /// Reads a piece; how many bytes that were.
    pub(super) async fn read(&mut self) -> u64 {
        if !std::mem::replace(&mut self.log_begun, true) {
            let closed = self.engine.log().closed_segments();
            (self.segment, self.offset, self.segments_end) = (closed.start, 0, closed.end);
        }
        if self.segment < self.segments_end {
            return self.read_segment().await;
        }
        match self.page {
            Some(first) => self.read_database(first).await,
            None => 0,
        }
    }

    async fn read_segment(&mut self) -> u64 {
        let (segment, offset) = (self.segment, self.offset);
        let log = Arc::clone(&self.engine.log());
        let verify = move || log.verify(segment, offset, SEGMENT_PIECE_BYTES);
        let found = match self.engine.workers().run(verify).await {
            Ok(Ok(found)) => found,
            Ok(Err(error @ LogError::Disk { .. })) => {
                tracing::warn!(segment, %error, "a segment of the commit log could not be read to find damage; the next round tries again");
                Verified::default()
            }
            Ok(Err(error)) => {
                self.damaged_segment(&error).await;
                Verified::default()
            }
            Err(_) => Verified::default(),
        };
        count(&self.counters.segment_bytes, found.bytes);
        match found.next {
            Some(next) => self.offset = next,
            None => (self.segment, self.offset) = (segment + 1, 0),
        }
        found.bytes
    }

    async fn damaged_segment(&mut self, error: &LogError) {
        if self.told.insert(self.segment) {
            count(&self.counters.damaged_segments, 1);
            self.count_told();
            let path = self.engine.log().segment_path(self.segment);
            self.engine.notices().write(format!(
                "the segment {} of the commit log is damaged: {error}. Nothing is lost as long as the node runs: what the log has is being written to files. {}",
                path.display(),
                advice(error)
            ));
        }
        // No others are copied for it as long as what they hold may be in files in a moment.
        self.press(0).await;
    }

    /// Where damaged segments are there still, tries again to get rid of them.
    pub(super) async fn look_again(&mut self) {
        let oldest = self.engine.log().closed_segments().start;
        // Numbers never come back.
        self.told = self.told.split_off(&oldest);
        self.count_told();
        if let Some(last) = self.told.last().copied() {
            self.press(last).await;
        }
    }

    fn count_told(&self) {
        self.counters.damaged_segments_left.store(self.told.len() as u64, Ordering::Relaxed);
    }

    async fn press(&self, through: u64) {
        let engine = Arc::clone(&self.engine);
        if self.engine.workers().run(move || engine.press_log(through)).await.is_err() {
            tracing::error!("the commit log could not be asked to drop what is damaged");
        }
    }

    async fn read_database(&mut self, first: u64) -> u64 {
        let database = Arc::clone(&self.database);
        let found = match self.engine.workers().run(move || database.scrub(first, PAGES)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                // The pages may be whole where the header block is not.
                self.page = (first == 0).then_some(1);
                self.not_read(&error);
                return 0;
            }
            Err(_) => {
                self.page = None;
                return 0;
            }
        };
        count(&self.counters.pages, found.pages);
        // At its end it is also looked whether the file is as long as it says.
        if !found.suspects.is_empty() || found.next.is_none() {
            self.judge(found.suspects).await;
        }
        self.page = found.next;
        if self.page.is_none() {
            match &self.damaged[..] {
                [] => {}
                [page] => self.tell_database(&format!("has a damaged page, page {page}")),
                [first, ..] => {
                    let pages = self.damaged.len();
                    self.tell_database(&format!("has {pages} damaged pages, the first is page {first}"));
                }
            }
        }
        found.pages * PAGE_LENGTH as u64
    }

    /// Notes those of these pages that are damaged.
    async fn judge(&mut self, suspects: Vec<u64>) {
        for _ in 0..JUDGE_TRIES {
            let (database, judged) = (Arc::clone(&self.database), suspects.clone());
            let pages = match self.engine.workers().run(move || database.damaged_pages(&judged)).await {
                Ok(Ok(pages)) => pages,
                Ok(Err(error @ StoreError::Damaged(_))) if suspects.is_empty() => return self.not_read(&error),
                // SQLite met it on the way.
                Ok(Err(StoreError::Damaged(_))) => Some(suspects.clone()),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "whether pages of the node's database are damaged cannot be told now");
                    None
                }
                Err(_) => None,
            };
            if let Some(pages) = pages {
                count(&self.counters.damaged_pages, pages.len() as u64);
                self.damaged.extend(pages);
                return;
            }
            tokio::time::sleep(JUDGE_PAUSE).await;
        }
    }

    /// The database could not be read at all.
    fn not_read(&self, error: &StoreError) {
        match error {
            StoreError::Damaged(_) => {
                count(&self.counters.damaged_pages, 1);
                self.tell_database(&format!("cannot be read: {error}"));
            }
            _ => {
                tracing::warn!(%error, "the node's database could not be read to find damage; the next round tries again");
            }
        }
    }

    fn tell_database(&self, what: &str) {
        self.engine.notices().write(format!(
            "the node's own database, node.db, {what}. The node serves on, and does not start again once it was stopped: drain it while it runs (dstore control node drain), and replace its disk"
        ));
    }
}

/// What is to be done about a segment, and what becomes of it.
fn advice(error: &LogError) -> &'static str {
    match error {
        LogError::SegmentMissing { .. } => {
            "The node does not start before the log needs the segment no more, which dstore_node_log_damaged_segments tells when it is 0. Drain the node now (dstore control node drain) while it runs, and find out who removed the file"
        }
        LogError::RecordForged { .. } | LogError::WrongKey { .. } => {
            "Drain the node now (dstore control node drain) while it runs, and replace its disk. The node does not start while the record is in the log, and it may be copied to another segment, so that it is there still when this file is gone"
        }
        _ => {
            "Then the segment is dropped. Do not stop the node before that file is gone, for it does not start while the file is there. If it stays, drain the node (dstore control node drain) and replace its disk"
        }
    }
}
