//! Hands records to sinks, each at its own pace: a loop for each sink, which reads after the sink's position, hands over, and
//! moves the position when the sink holds what it was given. So every record reaches every sink at least once and in order, whatever
//! stops in between; that nothing counts twice is the sink's part, by the record's id.
//!
//! ```text
//! read after what was read ─▶ pending ─▶ take ─▶ set_position ─▶ …
//!                                          └─ Later: the same again, after 1 s, 2 s, 4 s … 60 s
//! ```
//!
//! A sink that wants large pieces says how long a smaller one may wait; what is pending lies in memory, and in the source. Records
//! of kinds that a sink does not want are passed over, and its position moves with them.
//!
//! One record that a sink will never take must not stop all that come after it: a refused batch is offered in halves until the refused
//! record stands alone, which is then set aside: counted, and told by sequence and id in the log, where its contents do not belong. The
//! source still has it.
//!
//! Sinks share nothing but the source, so one that hangs, fails or panics is nobody else's matter. A hand-over that takes longer than
//! two minutes is given up and tried again; so is one that panicked, from the sink's position on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::records::RecordSource;
use crate::domain::usage::record::Record;
use crate::domain::{Clock, Random, Timestamp};
use crate::sinks::rows::RecordKind;
use crate::sinks::{Sink, SinkError};

const PAGE: usize = 1000;
const TAKE_MAX: Duration = Duration::from_secs(120);
const BACK_OFF_MAX_MS: u64 = 60_000;

/// How a sink is, for metrics and health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkReport {
    /// It has everything up to this sequence.
    pub position: u64,
    /// Records it took since this process started.
    pub sent: u64,
    /// Records it would not take, since then.
    pub set_aside: u64,
    /// How often it did not take what it was given, since then.
    pub errors: u64,
    /// What went wrong last; none once it has everything again.
    pub last_error: Option<String>,
    /// Since when it lacks something because of errors; none where it lacks nothing.
    pub behind_since: Option<Timestamp>,
}

/// The state of one sink, shared with whoever tells of it.
pub struct SinkState {
    name: String,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    report: Mutex<SinkReport>,
}

impl SinkState {
    /// The state of the sink of this name, before anything happened.
    pub fn new(name: &str, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), clock, random, report: Mutex::default() })
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is now.
    pub fn report(&self) -> SinkReport {
        self.report.lock().clone()
    }

    fn failed(&self, problem: &str) {
        let mut report = self.report.lock();
        report.errors += 1;
        report.last_error = Some(problem.to_owned());
        report.behind_since.get_or_insert_with(|| self.clock.now());
    }

    fn has_everything(&self) {
        let mut report = self.report.lock();
        (report.last_error, report.behind_since) = (None, None);
    }

    /// Half to all of a time that doubles with each failure, so that many do not come back at once.
    fn back_off(&self, failures: u32) -> Duration {
        let longest = (1000 << failures.min(6)).min(BACK_OFF_MAX_MS);
        let mut dice = [0; 8];
        self.random.fill(&mut dice);
        Duration::from_millis(longest / 2 + u64::from_le_bytes(dice) % (longest / 2 + 1))
    }
}

/// Hands records to this sink for ever; whoever drops it ends it, at any point.
pub async fn run_sink(source: Arc<dyn RecordSource>, sink: Box<dyn Sink>, state: Arc<SinkState>) {
    let mut exporter = Exporter { source, sink, state, read_to: None, pending: Vec::new(), since: Instant::now() };
    let mut failures = 0;
    loop {
        // What a panic leaves half done is what a killed process would: the position says from where on it is done again.
        let round = AssertUnwindSafe(exporter.round()).catch_unwind().await;
        let problem = match round {
            Ok(Ok(())) => {
                failures = 0;
                continue;
            }
            Ok(Err(problem)) => problem,
            Err(_) => {
                exporter.begin_anew();
                "it panicked, which is a mistake in dStore; the log says where".to_owned()
            }
        };
        exporter.state.failed(&problem);
        tracing::warn!(sink = exporter.sink.name(), problem, "a sink does not take records; they are kept for it");
        tokio::time::sleep(exporter.state.back_off(failures)).await;
        failures += 1;
    }
}

struct Exporter {
    source: Arc<dyn RecordSource>,
    sink: Box<dyn Sink>,
    state: Arc<SinkState>,
    /// Everything up to here was taken, passed over or is pending; none before the first look.
    read_to: Option<u64>,
    pending: Vec<Record>,
    /// When the first of them was read.
    since: Instant,
}

impl Exporter {
    /// Hands over what there is, or waits for more.
    async fn round(&mut self) -> Result<(), String> {
        let read_to = self.read().await?;
        let (records_max, patience) = (self.sink.terms().records_max, self.sink.terms().patience);
        let is_full = self.pending.len() >= records_max;
        if self.pending.is_empty() {
            if read_to > self.position() {
                self.move_to(read_to).await?;
            }
            self.state.has_everything();
            self.source.until_more(read_to).await;
        } else if is_full || self.since.elapsed() >= patience {
            self.hand_over(read_to).await?;
        } else {
            self.state.has_everything();
            tokio::select! {
                () = self.source.until_more(read_to) => {}
                () = tokio::time::sleep_until(self.since + patience) => {}
            }
        }
        Ok(())
    }

    /// Reads until there is as much as the sink takes at once, or no more; up to where.
    async fn read(&mut self) -> Result<u64, String> {
        let mut read_to = match self.read_to {
            Some(read_to) => read_to,
            None => {
                let position = self.source.position(self.sink.name()).await.map_err(|refusal| refusal.message)?;
                self.state.report.lock().position = position;
                position
            }
        };
        self.read_to = Some(read_to);
        let terms = self.sink.terms();
        while self.pending.len() < terms.records_max {
            let limit = PAGE.min(terms.records_max - self.pending.len());
            let page = self.source.records_after(read_to, limit).await.map_err(|refusal| refusal.message)?;
            let Some(last) = page.last() else { break };
            read_to = last.sequence;
            self.read_to = Some(read_to);
            if self.pending.is_empty() {
                self.since = Instant::now();
            }
            self.pending.extend(page.into_iter().filter(|record| terms.kinds.contains(&RecordKind::of(record))));
        }
        Ok(read_to)
    }

    /// Hands over all that is pending.
    async fn hand_over(&mut self, read_to: u64) -> Result<(), String> {
        let mut piece = self.pending.len();
        while !self.pending.is_empty() {
            piece = piece.min(self.pending.len());
            let took = tokio::time::timeout(TAKE_MAX, self.sink.take(&self.pending[..piece])).await;
            let is_alone = piece == 1;
            match took {
                Ok(Ok(())) => {
                    self.done_with(piece, read_to).await?;
                    self.state.report.lock().sent += piece as u64;
                    piece *= 2;
                }
                Ok(Err(SinkError::Unacceptable(problem))) if is_alone => {
                    let (sequence, id) = (self.pending[0].sequence, self.pending[0].id);
                    self.done_with(1, read_to).await?;
                    self.state.report.lock().set_aside += 1;
                    let sink = self.sink.name();
                    tracing::error!(sink, sequence, %id, problem, "a sink will not take a record; it is set aside");
                }
                Ok(Err(SinkError::Unacceptable(_))) => piece /= 2,
                Ok(Err(SinkError::Later(problem))) => return Err(problem),
                Err(_) => return Err(format!("it did not answer within {} s", TAKE_MAX.as_secs())),
            }
        }
        Ok(())
    }

    /// The first so many of what is pending need not be handed over again.
    async fn done_with(&mut self, count: usize, read_to: u64) -> Result<(), String> {
        let is_all = count == self.pending.len();
        // Behind the last of them only what is passed over was read.
        let position = if is_all { read_to } else { self.pending[count - 1].sequence };
        self.move_to(position).await?;
        self.pending.drain(..count);
        Ok(())
    }

    /// What comes next is read from where the sink's position stands.
    fn begin_anew(&mut self) {
        self.read_to = None;
        self.pending.clear();
    }

    fn position(&self) -> u64 {
        self.state.report.lock().position
    }

    async fn move_to(&mut self, position: u64) -> Result<(), String> {
        if let Err(refusal) = self.source.set_position(self.sink.name(), position).await {
            // It may have moved all the same, and never goes back: what is next is read from where it stands.
            self.begin_anew();
            return Err(refusal.message);
        }
        self.state.report.lock().position = position;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
