//! Reporting: what proxies and nodes counted is gathered, kept, answered and handed on.
//!
//! ```text
//! proxies, nodes ──batches──▶ puller ──▶ intake ──records, roll-ups──▶ store ──▶ sinks
//! control ──notices, admin events──▶ events ──────records──────────────▶   └──▶ dstore control usage
//! ```
//!
//! | file | what |
//! |---|---|
//! | `intake.rs` | from batches to records, a pure function |
//! | `puller.rs` | asks every component for its batches |
//! | `remote.rs` | components as they are reached across the network |
//! | `events.rs` | notices and admin events as records |
//! | `records.rs` | [`RecordSource`]: what sinks read, implemented here over the store |
//! | `exporter.rs` | hands records to sinks, each at its own pace |
//! | `usage.rs` | [`UsageReports`]: what was used, answered from the roll-ups |
//! | `upkeep.rs` | what is too old is let go |
//!
//! Nothing here is on the way of a request: a reporter that is slow, full or gone is noticed by nobody but those who ask for usage.
//! Components keep what they counted on their own disks until it was taken.
//!
//! # A place for more
//! The change stream of a table, where there will be one, is another [`RecordSource`]: it says what comes after a position, in an order that stays,
//! and keeps positions durably; every sink works on it unchanged, at least once and in that order. The order of an item's changes is that
//! of its range's log.

pub mod events;
pub mod exporter;
pub mod intake;
pub mod puller;
pub mod records;
pub mod remote;
pub mod upkeep;
pub mod usage;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::usage::record::Record;
use crate::domain::{Clock, Refusal, RefusalKind};
use crate::storage::reporting::{ReportingStore, TakenIn};
use crate::storage::store::StoreError;
use crate::storage::workers::blocking;

pub use records::RecordSource;
pub use usage::UsageReports;

/// A reporter's store, asked from tasks.
pub struct Reporting {
    store: Arc<dyn ReportingStore>,
    clock: Arc<dyn Clock>,
    newest: watch::Sender<u64>,
}

impl Reporting {
    /// Over this store, for these sinks: records are kept until each of them has them.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn over(
        store: Arc<dyn ReportingStore>,
        clock: Arc<dyn Clock>,
        sinks: &[String],
    ) -> Result<Arc<Self>, StoreError> {
        store.sinks_are(sinks)?;
        let (newest, _) = watch::channel(store.newest()?);
        Ok(Arc::new(Self { store, clock, newest }))
    }

    /// The newest record's sequence.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().0 / 1000
    }

    /// Does something with the store, off the threads that serve.
    async fn on_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ReportingStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = Arc::clone(&self.store);
        let done = blocking(move || work(&*store)).await;
        done.map_err(|_| Refusal::internal("the store ended unexpectedly"))?.map_err(|error| match error {
            StoreError::Full => Refusal::unavailable("the disk of the reporter is full", 60),
            StoreError::Damaged(text) => Refusal::new(RefusalKind::Damaged, format!("the reporter's store: {text}")),
            other => Refusal::internal(format!("the reporter's store: {other}")),
        })
    }

    async fn take_in(&self, taken: TakenIn) -> Result<(), Refusal> {
        let newest = self.on_store(move |store| store.take_in(&taken)).await?;
        self.newest.send_replace(newest);
        Ok(())
    }
}

#[async_trait]
impl RecordSource for Reporting {
    async fn records_after(&self, sequence: u64, limit: usize) -> Result<Vec<Record>, Refusal> {
        self.on_store(move |store| store.records_after(sequence, limit)).await
    }

    async fn position(&self, sink: &str) -> Result<u64, Refusal> {
        let sink = sink.to_owned();
        self.on_store(move |store| store.sink_position(&sink)).await
    }

    async fn set_position(&self, sink: &str, sequence: u64) -> Result<(), Refusal> {
        let sink = sink.to_owned();
        self.on_store(move |store| store.set_sink_position(&sink, sequence)).await
    }

    async fn until_more(&self, sequence: u64) {
        let mut newest = self.newest.subscribe();
        loop {
            // What was there after it may have been let go since.
            let is_past = *newest.borrow_and_update() > sequence;
            if is_past && self.records_after(sequence, 1).await.is_ok_and(|records| !records.is_empty()) {
                return;
            }
            // It ends with this, never before.
            let _ = newest.changed().await;
        }
    }
}

#[cfg(test)]
mod tests;
