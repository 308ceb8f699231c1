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
//! damaged. Such ranges leave the node when it is drained, and the segment with the last of them.
//!
//! A round reads the segments that were closed when it began. Later ones were just written; they have their turn in the next
//! round, if they are there still. So a node that writes much does not read its log as fast as it writes it. How far this
//! reading is, is written down nowhere, since a start begins with all of it.

use std::collections::BTreeSet;
use std::sync::Arc;
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
    /// The segment to go on with, and where in it.
    segment: u64,
    offset: u64,
    /// Segments from this one on are left to the next round.
    segments_end: u64,
    /// Segments that people were told of.
    told: BTreeSet<u64>,
    /// The page of the database to go on with; none where it was read to its end.
    page: Option<u64>,
    /// Its pages that this round found damaged.
    damaged: Vec<u64>,
}

impl OwnFiles {
    /// Of no round yet: there is nothing to be read.
    pub(super) fn new(engine: Arc<Engine>, database: Arc<dyn NodeDatabase>, counters: Arc<ScrubCounters>) -> Self {
        let (segment, offset, segments_end, told) = (0, 0, 0, BTreeSet::new());
        Self { engine, database, counters, segment, offset, segments_end, told, page: None, damaged: Vec::new() }
    }

    /// All of them are to be read.
    pub(super) fn begin_round(&mut self) {
        let closed = self.engine.log().closed_segments();
        (self.segment, self.offset, self.segments_end) = (closed.start, 0, closed.end);
        self.page = Some(1);
        self.damaged.clear();
    }

    /// Whether this round has read all of them.
    pub(super) fn is_read(&self) -> bool {
        self.segment >= self.segments_end && self.page.is_none()
    }

    /// Bytes that were read in this round, and bytes that are left, of what is there now.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let log = self.engine.log();
        let (stats, oldest) = (log.counters(), log.closed_segments().start);
        let segment_bytes = stats.bytes_total / stats.segments.max(1);
        let done = self.segment.saturating_sub(oldest) * segment_bytes + self.offset;
        let all = self.segments_end.saturating_sub(oldest) * segment_bytes;
        let database = self.database.file_bytes();
        let database_done = self.page.map_or(database, |page| (page * PAGE_LENGTH as u64).min(database));
        (done + database_done, all.saturating_sub(done) + database - database_done)
    }

    /// Reads a piece; how many bytes that were.
    pub(super) async fn read(&mut self) -> u64 {
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
                self.damaged_segment(&error);
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

    fn damaged_segment(&mut self, error: &LogError) {
        // Also where that was asked before: the next try may get further.
        self.engine.flusher().ask_for_durability();
        if !self.told.insert(self.segment) {
            return;
        }
        count(&self.counters.damaged_segments, 1);
        let path = self.engine.log().segment_path(self.segment);
        self.engine.notices().write(format!(
            "the segment {} of the commit log is damaged: {error}. Nothing is lost as long as the node runs: what the log has is being written to files, and then the segment is dropped. Do not stop the node before that file is gone, for it does not start while the file is there. If it stays, drain the node (dstore control node drain) and replace its disk",
            path.display()
        ));
    }

    async fn read_database(&mut self, first: u64) -> u64 {
        let database = Arc::clone(&self.database);
        let found = match self.engine.workers().run(move || database.scrub(first, PAGES)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.page = None;
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
