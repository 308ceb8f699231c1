//! The scrub: damage is looked for before anybody asks for what is damaged, and what is found is replaced.
//!
//! Two things can be wrong with a copy of a range. Its **file** may not be what was written to it: that shows in the tags of
//! its pages, whoever reads them ([`pages`]). Or its **state** may not be that of the other copies, though every page
//! opens: a fault of memory or of this program. That shows only where copies are compared ([`comparing`]). Both happen
//! in the background, over and over in a period of some days, slowly enough that nobody feels it ([`pace`]).
//!
//! ```text
//! all files, one after the other ── a page does not open, for sure ──┐
//!         │ read to its end                                          ├─> the copy is given up ([`leaving`])
//!         └─> its range's copies are compared ── one differs ────────┘     if the others are good
//! ```
//!
//! A copy that is given up is reported like one whose file is gone, and control has a new one made from the good ones,
//! under a new id. Before that, it is made sure in the coordinator, in one transaction, that the other copies are a majority and
//! none of them was given up in the same moment. A range that has no such others is left as it is, and people
//! are told: what can be read of it is served, for a page that does not open is an error and never a wrong answer.
//!
//! The node's own files, its commit log and its database, have no other copies ([`own_files`]). What is damaged in the log is
//! needed no more once the ranges' files have all of it; of the database people are told.
//!
//! How far the reading is, is written down in the node's database, so that a node that is started again goes on where it
//! was, and the files at the end of the list get their turn.

mod comparing;
mod leaving;
mod own_files;
pub mod pace;
mod pages;
mod records;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::coordination::Coordinator;
use crate::domain::ids::NodeId;
use crate::storage::node_database::NodeDatabase;

use super::engine::Engine;
use super::group::host::Groups;

use comparing::{Comparing, Digesting};
use leaving::Leaving;
use own_files::OwnFiles;
use pace::Pace;
use pages::PageScrub;
use records::Records;

/// Bytes that are read a second at most, for each of the two kinds of reading.
const BYTES_PER_SECOND_MAX: u64 = 32 << 20;
/// Ranges that may wait to be compared: when it is full, the next period compares them.
const RANGES_MAX: usize = 1024;

/// What the scrub of a node stands on.
pub struct ScrubParts {
    /// The node.
    pub node: NodeId,
    /// Its engine.
    pub engine: Arc<Engine>,
    /// Its groups.
    pub groups: Arc<Groups>,
    /// Its database.
    pub database: Arc<dyn NodeDatabase>,
    /// Where copies are given up.
    pub coordinator: Arc<dyn Coordinator>,
    /// In which all pages are verified and all copies compared once.
    pub period: Duration,
}

/// What was done since the node started.
#[derive(Debug, Default)]
pub struct ScrubCounters {
    /// Pages that were verified.
    pub pages: AtomicU64,
    /// Pages that are damaged.
    pub damaged_pages: AtomicU64,
    /// Bytes of closed segments of the commit log that were verified.
    pub segment_bytes: AtomicU64,
    /// Closed segments of the commit log that are damaged, each once.
    pub damaged_segments: AtomicU64,
    /// Those of them that the log still has.
    pub damaged_segments_left: AtomicU64,
    /// Comparisons of ranges that were led from here, to their end.
    pub compared: AtomicU64,
    /// Copies that differed in such a comparison.
    pub differing: AtomicU64,
    /// Copies of this node that were given up.
    pub given_up: AtomicU64,
    /// When all files had last been read, in seconds since 1970; 0 where they were not yet.
    pub completed_at: AtomicU64,
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Starts it; it ends when what is returned is aborted.
pub fn start(parts: ScrubParts) -> (Arc<ScrubCounters>, Vec<JoinHandle<()>>) {
    let ScrubParts { node, engine, groups, database, coordinator, period } = parts;
    let counters = Arc::new(ScrubCounters::default());
    let pace = Pace { period, bytes_per_second_max: BYTES_PER_SECOND_MAX };
    let own = OwnFiles::new(Arc::clone(&engine), Arc::clone(&database), counters.clone());
    let records = Arc::new(Records::new(database, engine.workers().clone()));
    let leaving = Arc::new(Leaving::new(node, Arc::clone(&engine), Arc::clone(&groups), coordinator, counters.clone()));
    let (to_compare, waiting) = mpsc::channel(RANGES_MAX);
    let pages =
        PageScrub::new(engine.clone(), records.clone(), leaving.clone(), to_compare, own, pace, counters.clone());
    let digesting = Digesting::new(engine.clone(), groups.clone(), records.clone(), leaving.clone(), pace);
    let comparing = Comparing::new(engine, groups, records, leaving, pace, counters.clone());
    let tasks =
        vec![tokio::spawn(pages.follow()), tokio::spawn(digesting.follow()), tokio::spawn(comparing.follow(waiting))];
    (counters, tasks)
}
