//! The part of a group's log that is in memory: everything that is not surely in the replica's file, and a tail behind
//! that for followers that lag. The commit log on disk is not read back by index, so an entry that is not here any more
//! is only in the file, and a follower that needs it is sent a snapshot.
//!
//! One object stands for a replica as long as the node runs, also while its group sleeps. A group that wakes up gets a
//! handle to it ([`super::log::GroupLog`]); with each new handle the one before stops working, so that two instances
//! can never write to one log.
//!
//! # How an entry gets to disk
//!
//! It is put in here, readable at once, and handed to the commit log, which syncs it with whatever else is written at that
//! time and then tells [`KeptLog::settled`]. Where the commit log refuses an entry after all (a full disk), those that
//! were handed over behind it may already stand on disk, with a gap before them; none of them is counted. All
//! from the refused one on are handed over again, as a new attempt: on disk an entry replaces the one at its index and
//! all after it, so the gap is gone before anything behind it is acknowledged. Until then nobody is told that
//! anything failed: a full disk is waited out.
//!
//! # What the next author must keep
//!
//! * A callback is called for an index when that entry and all before it are synced, never before.
//! * What is handed to the commit log is handed over while the state is locked: so it has the log's order.
//! * An error is for good: the group stops, and is made anew from disk.

use std::collections::VecDeque;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::ids::{RangeId, ReplicaId, TenantId};
use crate::replication::machine_state::LogPlace;
use crate::replication::membership::Membership;
use crate::services::engine::companion::Companion;
use crate::storage::log::{Append, AppendRefused, CommitLog, KeyOwner, Outcome, Record, RecordKind};

use super::convert::{log_id, membership_of, payload_bytes, place_of};
use super::rebuild::Rebuilt;
use super::types::{Entry, LogId, Types, Vote};

pub use super::rebuild::ReplayedGroup;

/// Entries kept behind what is in the file, at most.
pub const TAIL_ENTRIES: usize = 4096;
/// Bytes of entries kept behind what is in the file, at most.
pub const TAIL_BYTES: usize = 1 << 20;
/// What an entry costs beside its bytes.
const ENTRY_BYTES: usize = 96;

/// See the module's essay.
pub struct KeptLog {
    range: RangeId,
    tenant: TenantId,
    state: Mutex<State>,
    refused: Notify,
    progress: Notify,
}

struct Kept {
    entry: Entry,
    bytes: usize,
}

#[derive(Default)]
struct State {
    generation: u64,
    failure: Option<String>,
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: VecDeque<Kept>,
    bytes: usize,
    /// See [`Companion::Group`].
    attempt: u64,
    /// The last entry known to be synced.
    synced: Option<u64>,
    /// Entries from here on are not handed to the commit log.
    unsent_from: Option<u64>,
    /// They were refused: they are handed over again in a while, and not before.
    is_held: bool,
    /// Who waits for entries to be synced, by the last of them, ascending.
    waiting: VecDeque<(u64, IOFlushed<Types>)>,
    /// Entries from here on stand in the commit log and are void: a truncation is to be written before anything else.
    void_from: Option<u64>,
}

impl KeptLog {
    /// The log of a range, as it was found on disk.
    pub fn new(range: RangeId, tenant: TenantId, found: Rebuilt) -> Arc<Self> {
        let mut state = State {
            vote: found.vote,
            purged: found.purged.map(log_id),
            void_from: found.void_from,
            ..State::default()
        };
        found.entries.into_iter().for_each(|entry| state.push(entry));
        state.synced = state.last().map(|last| last.index);
        Arc::new(Self { range, tenant, state: Mutex::new(state), refused: Notify::new(), progress: Notify::new() })
    }

    /// A new handle's number; the handles before stop working.
    ///
    /// # Errors
    /// Where the log has failed.
    pub(super) fn take_over(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(io::Error::other(failure.clone()));
        }
        state.generation += 1;
        // Callbacks of an instance that is gone.
        state.waiting.clear();
        Ok(state.generation)
    }

    /// Nothing can be written any more; whoever waits is told.
    pub fn fail(&self, reason: &str) {
        let waiting = {
            let mut state = self.state.lock();
            state.failure.get_or_insert_with(|| reason.to_owned());
            std::mem::take(&mut state.waiting)
        };
        self.refused.notify_waiters();
        self.progress.notify_waiters();
        for (_, flushed) in waiting {
            flushed.io_completed(Err(io::Error::other(reason.to_owned())));
        }
    }

    /// Takes entries in, readable at once. They are to be handed over next ([`KeptLog::send`]).
    pub(super) fn take(
        &self,
        generation: u64,
        entries: impl IntoIterator<Item = Entry>,
        flushed: IOFlushed<Types>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check(generation)?;
        let mut last = None;
        for entry in entries {
            let index = entry.index();
            if state.last().is_some_and(|last| index <= last.index) || !state.is_next(index) {
                return Err(io::Error::other(format!("entry {index} does not follow the last one of the log")));
            }
            state.unsent_from.get_or_insert(index);
            last = Some(index);
            state.push(entry);
        }
        match last {
            Some(last) => state.waiting.push_back((last, flushed)),
            None => flushed.io_completed(Ok(())),
        }
        Ok(())
    }

    /// Hands over what is not handed over. Nothing is where the commit log says no.
    pub(super) fn send(self: &Arc<Self>, log: &CommitLog<Companion>, again: bool) -> Result<(), AppendRefused> {
        let mut state = self.state.lock();
        if state.failure.is_some() {
            return Err(AppendRefused::Closed);
        }
        if state.is_held && !again {
            return Ok(());
        }
        let Some(from) = state.unsent_from else { return Ok(()) };
        let attempt = state.attempt;
        // Indexes have no gaps: thousands of entries may stand before these, and are not looked at.
        let skipped = state.first().map_or(0, |first| from.saturating_sub(first)) as usize;
        let unsent = state.entries.iter().skip(skipped);
        let appends = unsent.map(|kept| Append {
            record: self.record(RecordKind::Entry, place_of(&kept.entry.log_id), payload_bytes(&kept.entry.payload)),
            urgent: true,
            companion: Companion::Group { log: Arc::clone(self), attempt },
        });
        log.append(appends.collect()).map_err(|refused| refused.reason)?;
        state.unsent_from = None;
        state.is_held = false;
        Ok(())
    }

    /// Bytes that are not handed over.
    pub(super) fn unsent_bytes(&self) -> usize {
        let state = self.state.lock();
        let Some(from) = state.unsent_from else { return 0 };
        state.entries.iter().rev().take_while(|kept| kept.entry.index() >= from).map(|kept| kept.bytes).sum()
    }

    /// What became of the entry at `index`, handed over with this attempt. Called from the commit log's thread.
    pub fn settled(&self, index: u64, attempt: u64, outcome: Outcome) {
        match outcome {
            Outcome::Durable => self.synced(index, attempt),
            Outcome::Refused(AppendRefused::DiskFull | AppendRefused::Busy | AppendRefused::OverBudget) => {
                let mut state = self.state.lock();
                if state.attempt == attempt && state.last().is_some_and(|last| index <= last.index) {
                    state.attempt += 1;
                    state.unsent_from = Some(index);
                    state.is_held = true;
                    drop(state);
                    self.refused.notify_one();
                }
            }
            Outcome::Refused(reason) => self.fail(&format!("the commit log refused an entry: {reason}")),
            Outcome::Unknown => self.fail("the commit log has failed"),
        }
    }

    fn synced(&self, index: u64, attempt: u64) {
        let mut done = Vec::new();
        {
            let mut state = self.state.lock();
            if state.attempt != attempt {
                return;
            }
            state.synced = state.synced.max(Some(index));
            while state.waiting.front().is_some_and(|(last, _)| *last <= index) {
                done.extend(state.waiting.pop_front());
            }
        }
        self.progress.notify_waiters();
        for (_, flushed) in done {
            flushed.io_completed(Ok(()));
        }
    }

    /// Waits until all entries are synced.
    ///
    /// # Errors
    /// Where the log has failed.
    pub(super) async fn all_synced(&self) -> io::Result<()> {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let state = self.state.lock();
                if let Some(failure) = &state.failure {
                    return Err(io::Error::other(failure.clone()));
                }
                if state.synced >= state.last().map(|last| last.index) {
                    return Ok(());
                }
            }
            progress.await;
        }
    }

    /// Waits until entries were refused or the log has failed; whether there is anything to hand over again.
    pub(super) async fn wait_for_refused(&self) -> bool {
        loop {
            let refused = self.refused.notified();
            tokio::pin!(refused);
            refused.as_mut().enable();
            {
                let state = self.state.lock();
                if state.failure.is_some() || state.is_held {
                    return state.failure.is_none();
                }
            }
            refused.await;
        }
    }

    /// Fails where the handle is not the newest one, or the log has failed.
    pub(super) fn check(&self, generation: u64) -> io::Result<()> {
        self.state.lock().check(generation)
    }

    /// A record of this range.
    pub(crate) fn record(&self, kind: RecordKind, place: LogPlace, payload: bytes::Bytes) -> Record {
        let owner = KeyOwner::Tenant(self.tenant);
        Record { range: self.range, owner, kind, term: place.term, index: place.index, payload }
    }

    /// The vote that is on disk.
    pub(super) fn vote(&self) -> Option<Vote> {
        self.state.lock().vote
    }

    /// Who leads in this term, where this replica has promised to follow.
    pub(crate) fn leader_of(&self, term: u64) -> Option<ReplicaId> {
        let vote = self.vote().filter(|vote| vote.committed && vote.leader_id.term == term)?;
        Some(vote.leader_id.voted_for)
    }

    /// A vote is on disk.
    pub(super) fn set_vote(&self, vote: Vote) {
        self.state.lock().vote = Some(vote);
    }

    /// The last entry purged, and the last one of the log.
    pub fn bounds(&self) -> (Option<LogId>, Option<LogId>) {
        let state = self.state.lock();
        (state.purged, state.last())
    }

    /// The index of the last entry; 0 where there is none.
    pub fn last_index(&self) -> u64 {
        self.state.lock().last().map_or(0, |last| last.index)
    }

    /// From where on entries on disk are void and not said to be.
    pub(super) fn void_from(&self) -> Option<u64> {
        self.state.lock().void_from
    }

    /// Entries from `index` on are void, on disk too.
    pub(super) fn truncate(&self, index: u64) {
        let mut state = self.state.lock();
        state.void_from = None;
        while state.entries.back().is_some_and(|kept| kept.entry.index() >= index) {
            state.pop_back();
        }
        state.waiting.retain(|(last, _)| *last < index);
        state.synced = state.synced.min(index.checked_sub(1));
        if state.unsent_from.is_some_and(|from| from >= index) {
            (state.unsent_from, state.is_held) = (None, false);
        }
    }

    /// Entries up to `upto` are in the replica's file; the log says so on disk.
    pub(super) fn purge(&self, upto: LogId) {
        self.state.lock().purge(upto);
    }

    /// Drops what is surely in the file, up to `index`, while the group sleeps: handles stop working. About `tail_bytes` of it
    /// stay, for a member that was away.
    pub fn rest(&self, index: u64, tail_bytes: usize) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.waiting.clear();
        let mut bytes = state.bytes;
        let droppable = state.entries.iter().take_while(|kept| {
            let is_over = bytes > tail_bytes;
            bytes -= kept.bytes;
            is_over && kept.entry.index() <= index
        });
        if let Some(upto) = droppable.last().map(|kept| kept.entry.log_id) {
            state.purge(upto);
        }
        state.entries.shrink_to_fit();
    }

    /// Up to which index entries may be purged where everything up to `durable` is surely in the file: so that
    /// no more than the tail is kept behind it. None where nothing is to be purged.
    pub fn purge_point(&self, durable: u64) -> Option<u64> {
        let state = self.state.lock();
        let (mut entries, mut bytes) = (state.entries.len(), state.bytes);
        let mut point = None;
        for kept in &state.entries {
            if (entries <= TAIL_ENTRIES && bytes <= TAIL_BYTES) || kept.entry.index() > durable {
                break;
            }
            (entries, bytes) = (entries - 1, bytes - kept.bytes);
            point = Some(kept.entry.index());
        }
        point
    }

    /// Entries of an interval of indexes, in order, at least one where there is one and about `bytes_max` bytes of them.
    pub fn entries(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> Vec<Entry> {
        let state = self.state.lock();
        let Some(first) = state.first() else { return Vec::new() };
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            let fits = bytes < bytes_max;
            bytes += kept.bytes;
            fits && range.contains(&kept.entry.index())
        };
        let skipped = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        state.entries.iter().skip(skipped).take_while(fits).map(|kept| kept.entry.clone()).collect()
    }

    /// The last membership among the entries kept, applied or not, and where it stands.
    pub fn last_membership(&self) -> Option<(LogPlace, Membership)> {
        let state = self.state.lock();
        state.entries.iter().rev().find_map(|kept| match &kept.entry.payload {
            openraft::EntryPayload::Membership(members) => Some((place_of(&kept.entry.log_id), membership_of(members))),
            _ => None,
        })
    }

    /// Bytes of entries kept, about.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

impl State {
    fn check(&self, generation: u64) -> io::Result<()> {
        match &self.failure {
            Some(failure) => Err(io::Error::other(failure.clone())),
            None if self.generation != generation => {
                Err(io::Error::other("another instance of the group writes this log now"))
            }
            None => Ok(()),
        }
    }

    fn first(&self) -> Option<u64> {
        self.entries.front().map(|kept| kept.entry.index())
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|kept| kept.entry.log_id).or(self.purged)
    }

    /// Whether an entry at this index leaves no gap among those that are kept.
    fn is_next(&self, index: u64) -> bool {
        self.entries.back().is_none_or(|kept| kept.entry.index() + 1 == index)
    }

    fn push(&mut self, entry: Entry) {
        let bytes = ENTRY_BYTES + payload_length(&entry);
        self.bytes += bytes;
        self.entries.push_back(Kept { entry, bytes });
    }

    fn pop_back(&mut self) {
        if let Some(kept) = self.entries.pop_back() {
            self.bytes -= kept.bytes;
        }
    }

    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|kept| kept.entry.index() <= upto.index) {
            if let Some(kept) = self.entries.pop_front() {
                self.bytes -= kept.bytes;
            }
        }
        if self.purged.is_none_or(|purged| purged < upto) {
            self.purged = Some(upto);
        }
        // A snapshot stands for what it covers, also for what never got to disk.
        self.synced = self.synced.max(Some(upto.index));
        self.waiting.retain(|(last, _)| *last > upto.index);
        if self.unsent_from.is_some_and(|from| from <= upto.index) {
            self.unsent_from = self.entries.front().map(|kept| kept.entry.index());
            self.is_held &= self.unsent_from.is_some();
        }
    }
}

fn payload_length(entry: &Entry) -> usize {
    match &entry.payload {
        openraft::EntryPayload::Normal(operation) => operation.0.len(),
        openraft::EntryPayload::Blank => 0,
        openraft::EntryPayload::Membership(membership) => 64 * membership.nodes().count(),
    }
}
