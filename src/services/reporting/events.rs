//! Notices and what admins did, as records: asked of control now and then, each once.
//!
//! Each has a name of its own, its key in the coordinator, and the record's id is a digest of it: what is told again is there already.
//! Asked is for what is younger than the youngest that is known, less [`OVERLAP`], since the clocks of those who write differ;
//! how far that is stands in the store, in the transaction that added it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Reporting;
use super::intake::id_of_name;
use crate::domain::usage::record::{EventRecord, Record, RecordBody};
use crate::domain::{Refusal, Timestamp};
use crate::storage::reporting::EVENTS_KNOWN_UNTIL;

/// How often control is asked.
const PAUSE: Duration = Duration::from_secs(30);
/// By how much clocks may differ, in seconds.
const OVERLAP: u64 = 300;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A component or control wants a person to know something.
    Notice,
    /// An admin did something.
    AdminEvent,
}

/// Something that happened in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// Its name; no other event has it.
    pub name: String,
    /// Which of the two it is.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// What kind of thing, as one word.
    pub what: String,
    /// Whom it concerns.
    pub subject: String,
    /// In a sentence.
    pub message: String,
}

impl ClusterEvent {
    fn record(self) -> Record {
        let event = EventRecord { what: self.what, subject: self.subject, message: self.message };
        let body = match self.kind {
            EventKind::Notice => RecordBody::Notice(event),
            EventKind::AdminEvent => RecordBody::AdminEvent(event),
        };
        Record { sequence: 0, id: id_of_name(&self.name), at_ms: self.at.0 / 1000, body }
    }
}

/// Who tells what happened.
#[async_trait]
pub trait EventFeed: Send + Sync + 'static {
    /// What happened after this, as far as it is kept.
    async fn events_since(&self, since: Timestamp) -> Result<Vec<ClusterEvent>, Refusal>;
}

impl Reporting {
    /// Asks once.
    pub(super) async fn gather_events(&self, feed: &dyn EventFeed) -> Result<(), Refusal> {
        let known = self.on_store(|store| store.remembered(EVENTS_KNOWN_UNTIL)).await?;
        let known = Timestamp(known.and_then(|text| text.parse().ok()).unwrap_or(0));
        let events = feed.events_since(Timestamp(known.0.saturating_sub(OVERLAP * 1_000_000))).await?;
        let Some(youngest) = events.iter().map(|event| event.at).max() else { return Ok(()) };
        let records: Vec<Record> = events.into_iter().map(ClusterEvent::record).collect();
        let (until, at_ms) = (youngest.max(known).0.to_string(), self.now_ms());
        let newest = self.on_store(move |store| store.add_events(&records, &until, at_ms)).await?;
        self.newest.send_replace(newest);
        Ok(())
    }

    /// Asks now and then until dropped.
    pub async fn follow_events(&self, feed: Arc<dyn EventFeed>) {
        loop {
            if let Err(refusal) = self.gather_events(&*feed).await {
                tracing::debug!(%refusal, "notices and admin events were not told");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
