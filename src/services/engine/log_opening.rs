//! Opening the commit log: what it has to say of each range, and who takes what it makes durable.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::domain::Refusal;
use crate::domain::ids::RangeId;
use crate::domain::refusal::RefusalKind;
use crate::storage::log::{CommitLog, Committed, GroupSink, LogEnd, LogError, Outcome, RecordKind, ReplayEvent};

use super::apply_stage::{ApplyStage, Proposal};
use super::flusher::Flusher;
use super::opening::{EngineOptions, EngineParts};

/// Passes what the log has made durable to the apply stage.
#[derive(Default)]
pub(super) struct Sink {
    stage: RwLock<Option<ApplyStage>>,
}

impl Sink {
    /// Starts the apply stage; until then there must be nothing to apply.
    pub(super) fn start(&self, lanes: usize, flusher: &Arc<Flusher>) -> std::io::Result<()> {
        *self.stage.write() = Some(ApplyStage::start(lanes, flusher)?);
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

impl GroupSink<Proposal> for Sink {
    fn group_committed(&self, group: Vec<Committed<Proposal>>) {
        let mut durable = Vec::with_capacity(group.len());
        for committed in group {
            match committed.outcome {
                Outcome::Durable => durable.push(committed.companion),
                Outcome::Refused(reason) => {
                    let refusal = Refusal::unavailable(format!("the write was not taken: {reason}"), 1);
                    let _ = committed.companion.reply.sender.send(Err(refusal));
                }
                Outcome::Unknown => {
                    let refusal = Refusal::new(
                        RefusalKind::OutcomeUnknown,
                        "the disk failed while the write was under way: ask again under the same Idempotency-Key",
                    );
                    let _ = committed.companion.reply.sender.send(Err(refusal));
                }
            }
        }
        if let Some(stage) = self.stage.read().as_ref()
            && !durable.is_empty()
        {
            stage.submit(durable);
        }
    }
}

/// What the log holds of each range.
#[derive(Default)]
pub(super) struct Replayed {
    /// The entries, by index.
    pub(super) entries: HashMap<RangeId, BTreeMap<u64, Bytes>>,
    /// The last entry whose key is not to be had.
    pub(super) unreadable: HashMap<RangeId, u64>,
    /// Ranges that left this node.
    pub(super) removed: Vec<RangeId>,
}

impl Replayed {
    fn take(&mut self, event: ReplayEvent) {
        match event {
            ReplayEvent::Record(record) if record.kind == RecordKind::Entry => {
                self.entries.entry(record.range).or_default().insert(record.index, record.payload);
            }
            ReplayEvent::Record(_) => {}
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
) -> Result<(Arc<CommitLog<Proposal>>, Arc<Sink>, Replayed), LogError> {
    let mut replayed = Replayed::default();
    let sink = Arc::new(Sink::default());
    let (log, summary) = CommitLog::open(
        &options.log_folder,
        options.log.clone(),
        Arc::clone(&parts.log_keys),
        Arc::clone(&parts.disk),
        Arc::clone(&parts.random),
        Arc::clone(&sink) as Arc<dyn GroupSink<Proposal>>,
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
