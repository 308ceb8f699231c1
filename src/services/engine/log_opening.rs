//! Opening the commit log: what it has to say of each range, and who takes what it makes durable.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::domain::Refusal;
use crate::domain::ids::RangeId;
use crate::domain::refusal::RefusalKind;
use crate::replication::machine_state::LogPlace;
use crate::services::group::kept_log::ReplayedGroup;
use crate::storage::log::{CommitLog, Committed, GroupSink, LogEnd, LogError, Outcome, RecordKind, ReplayEvent};

use super::apply_stage::{ApplyStage, GroupBatch, Proposal};
use super::companion::Companion;
use super::flusher::Flusher;
use super::opening::{EngineOptions, EngineParts};
use crate::storage::workers::Workers;

/// Passes what the log has made durable to the apply stage.
#[derive(Default)]
pub(super) struct Sink {
    stage: RwLock<Option<ApplyStage>>,
}

impl Sink {
    /// Starts the apply stage; until then there must be nothing to apply.
    pub(super) fn start(&self, lanes: usize, flusher: &Arc<Flusher>, workers: &Workers) -> std::io::Result<()> {
        *self.stage.write() = Some(ApplyStage::start(lanes, flusher, workers)?);
        Ok(())
    }

    /// Lets the apply stage finish what it has, and ends it.
    pub(super) fn stop(&self) {
        let stage = self.stage.write().take();
        if let Some(stage) = stage {
            stage.stop();
        }
    }
}

impl Sink {
    /// Has entries of a group applied. Where the stage is ended, who waits sees that it is gone.
    pub(super) fn apply_group(&self, batch: GroupBatch) {
        if let Some(stage) = self.stage.read().as_ref() {
            stage.submit_group(batch);
        }
    }
}

impl GroupSink<Companion> for Sink {
    fn group_committed(&self, group: Vec<Committed<Companion>>) {
        let mut durable = Vec::with_capacity(group.len());
        let mut group = group.into_iter().peekable();
        while let Some(committed) = group.next() {
            // A log is told once of entries that follow each other: the last of them says it for all.
            if group.peek().is_some_and(|next| is_said_by(&committed, next)) {
                continue;
            }
            match committed.companion {
                Companion::Proposal(proposal) => match committed.outcome {
                    Outcome::Durable => durable.push(proposal),
                    outcome => refuse(proposal, outcome),
                },
                Companion::Group { log, attempt } => log.settled(committed.record.index, attempt, committed.outcome),
                Companion::Answer(answer) => answer(committed.outcome),
            }
        }
        if let Some(stage) = self.stage.read().as_ref()
            && !durable.is_empty()
        {
            stage.submit(durable);
        }
    }
}

/// Whether what became of the one follows from what became of the next: both are durable entries of one group's log.
fn is_said_by(committed: &Committed<Companion>, next: &Committed<Companion>) -> bool {
    let are_durable = committed.outcome == Outcome::Durable && next.outcome == Outcome::Durable;
    match (&committed.companion, &next.companion) {
        (Companion::Group { log, attempt }, Companion::Group { log: next_log, attempt: next_attempt }) => {
            are_durable && Arc::ptr_eq(log, next_log) && attempt == next_attempt
        }
        _ => false,
    }
}

fn refuse(proposal: Proposal, outcome: Outcome) {
    let refusal = match outcome {
        Outcome::Refused(reason) => Refusal::unavailable(format!("the write was not taken: {reason}"), 1),
        Outcome::Durable | Outcome::Unknown => Refusal::new(
            RefusalKind::OutcomeUnknown,
            "the disk failed while the write was under way: ask again under the same Idempotency-Key",
        ),
    };
    proposal.replica.settle();
    let _ = proposal.reply.sender.send((Err(refusal), std::time::Instant::now()));
}

/// What the log holds of each range.
#[derive(Default)]
pub(super) struct Replayed {
    /// Entries, and what only groups write.
    pub(super) ranges: HashMap<RangeId, ReplayedGroup>,
    /// The last record whose key is not to be had.
    pub(super) unreadable: HashMap<RangeId, u64>,
    /// Ranges that left this node.
    pub(super) removed: Vec<RangeId>,
}

impl Replayed {
    fn take(&mut self, event: ReplayEvent) {
        match event {
            ReplayEvent::Record(record) => {
                let range = self.ranges.entry(record.range).or_default();
                match record.kind {
                    RecordKind::Entry => {
                        range.entries.insert(record.index, (record.term, record.payload));
                    }
                    RecordKind::Vote => range.vote = Some((record.term, record.payload)),
                    RecordKind::Purge => range.purge = Some(LogPlace { term: record.term, index: record.index }),
                    RecordKind::Truncate | RecordKind::Committed | RecordKind::RangeRemoved => {}
                }
            }
            ReplayEvent::Unreadable { range, index, .. } => {
                let last = self.unreadable.entry(range).or_default();
                *last = index.max(*last);
            }
            ReplayEvent::RangeRemoved(range) => self.removed.push(range),
        }
    }
}

/// Opens the log, its sink not started yet, and tells in a notice what of it was dropped as torn.
///
/// # Errors
/// Where it is damaged, locked, or the disk fails.
pub(super) fn open_log(
    parts: &EngineParts,
    options: &EngineOptions,
) -> Result<(Arc<CommitLog<Companion>>, Arc<Sink>, Replayed), LogError> {
    let mut replayed = Replayed::default();
    let sink = Arc::new(Sink::default());
    let (log, summary) = CommitLog::open(
        &options.log_folder,
        options.log.clone(),
        Arc::clone(&parts.log_keys),
        Arc::clone(&parts.disk),
        Arc::clone(&parts.random),
        Arc::clone(&sink) as Arc<dyn GroupSink<Companion>>,
        &mut |event| replayed.take(event),
    )?;
    if let LogEnd::Torn { segment, offset, lost } = &summary.end {
        let indexes: Vec<String> =
            lost.iter().map(|(range, index)| format!("index {index} of range {range}")).collect();
        parts.notices.write(format!(
            "the commit log ended in a group that was not whole (segment {segment}, offset {offset}): it was dropped, from {}; nothing in it had been acknowledged",
            if indexes.is_empty() { "a place that cannot be read".to_owned() } else { indexes.join(", ") }
        ));
    }
    Ok((Arc::new(log), sink, replayed))
}
