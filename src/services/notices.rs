//! Notices on their way into the coordinator, `notice/{own}/…`: what a node, or control, wants a person to know.
//!
//! The same words said again do not make another key: the old one is replaced by one of the new time with the sum of
//! the counts, so what repeats a thousand times a day stays one line. What was acknowledged in between, which removes
//! it, begins anew at 1. The writer reads what is there before it first writes, so counts go on over a restart; and
//! it keeps its own number of keys within [`NOTICES_MAX`], so that no component can fill the coordinator, whether
//! control cleans up or not.
//!
//! A count is "about": where the coordinator did not tell whether a notice was written, it is written again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::coordination::values::{Notice, from_json, to_json};
use crate::coordination::{Compare, Coordinator, Error, Operation, layout};
use crate::domain::Clock;
use crate::domain::ids::NodeId;

use super::engine::notices::Notices;

/// Notices of one component that are kept.
pub const NOTICES_MAX: usize = 1000;
/// The least time between two rounds of writing, and between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes the notices of one component.
pub struct NoticeWriter {
    owner: NodeId,
    coordinator: Arc<dyn Coordinator>,
    clock: Arc<dyn Clock>,
    counter: u32,
    /// What stands in the coordinator, as far as is known, by its words; none before it was read.
    written: Option<HashMap<String, Written>>,
}

struct Written {
    key: String,
    count: u64,
}

impl NoticeWriter {
    /// A writer for the component of this UUID: a node's, or the control plane's.
    pub fn new(owner: NodeId, coordinator: Arc<dyn Coordinator>, clock: Arc<dyn Clock>) -> Self {
        Self { owner, coordinator, clock, counter: 0, written: None }
    }

    /// Writes a notice that was said `repeats` times.
    ///
    /// # Errors
    /// Those of the coordinator; ask again later.
    pub async fn write(&mut self, details: &str, repeats: u64) -> Result<(), Error> {
        let outcome = self.try_write(details, repeats).await;
        if outcome.is_err() {
            // It may have happened, or something else may have: read anew before the next.
            self.written = None;
        }
        outcome
    }

    async fn try_write(&mut self, details: &str, repeats: u64) -> Result<(), Error> {
        if self.written.is_none() {
            self.written = Some(self.read().await?);
        }
        self.counter = (self.counter + 1) % 1_000_000;
        let key = layout::notice(self.owner, self.clock.now(), self.counter);
        let written = self.written.get_or_insert_default();
        if let Some(known) = written.remove(details) {
            let sum = known.count.saturating_add(repeats);
            let operations =
                vec![Operation::delete(&known.key), Operation::put(&key, to_json(&Notice::new(details, sum)))];
            if self.coordinator.transact(vec![Compare::present(&known.key)], operations).await?.succeeded {
                written.insert(details.to_owned(), Written { key, count: sum });
                return Ok(());
            }
        }
        let mut operations = vec![Operation::put(&key, to_json(&Notice::new(details, repeats)))];
        let oldest = written.iter().min_by(|(_, left), (_, right)| left.key.cmp(&right.key));
        if written.len() >= NOTICES_MAX
            && let Some((words, oldest)) = oldest
        {
            operations.push(Operation::delete(&oldest.key));
            let words = words.clone();
            self.coordinator.transact(Vec::new(), operations).await?;
            written.remove(&words);
        } else {
            self.coordinator.transact(Vec::new(), operations).await?;
        }
        written.insert(details.to_owned(), Written { key, count: repeats });
        Ok(())
    }

    async fn read(&self) -> Result<HashMap<String, Written>, Error> {
        let listing = self.coordinator.list(&layout::node_notices(self.owner)).await?;
        let mut written: HashMap<String, Written> = HashMap::new();
        for entry in listing.entries {
            let Ok(notice) = from_json::<Notice>(&entry.value) else { continue };
            // In order of time: the last of the same words is the one that goes on.
            written.insert(notice.details, Written { key: entry.key, count: notice.count });
        }
        Ok(written)
    }

    /// Writes what a node has to say, for as long as it runs; keeps it while the coordinator is away.
    pub async fn follow(mut self, notices: Arc<Notices>) {
        loop {
            notices.written().await;
            for pending in notices.take() {
                while let Err(error) = self.write(&pending.details, pending.repeats).await {
                    tracing::debug!(%error, "a notice could not be published yet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::Writer;
    use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
    use crate::domain::Timestamp;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp(1_800_000_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    struct Fixture {
        _folder: tempfile::TempDir,
        store: EmbeddedStore,
        clock: Arc<Ticking>,
    }

    const OWNER: NodeId = NodeId(uuid::Uuid::from_u128(1));

    impl Fixture {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(&folder.path().join("db"), EmbeddedOptions::default()).unwrap();
            Self { _folder: folder, store, clock: Arc::new(Ticking(AtomicU64::new(0))) }
        }

        /// As the node itself: with no more rights than it has.
        fn writer(&self) -> NoticeWriter {
            NoticeWriter::new(OWNER, Arc::new(self.store.handle(Writer::Node(OWNER))), self.clock.clone())
        }

        async fn there(&self) -> Vec<(String, u64)> {
            let control = self.store.handle(Writer::Control);
            let entries = control.list(&layout::node_notices(OWNER)).await.unwrap().entries;
            let read = |value: &[u8]| from_json::<Notice>(value).unwrap();
            entries.iter().map(|entry| read(&entry.value)).map(|notice| (notice.details, notice.count)).collect()
        }
    }

    #[tokio::test]
    async fn the_same_words_are_one_notice_with_a_count_also_over_a_restart() {
        let fixture = Fixture::start();
        let mut writer = fixture.writer();
        writer.write("full", 2).await.unwrap();
        writer.write("damaged", 1).await.unwrap();
        writer.write("full", 3).await.unwrap();
        assert_eq!(fixture.there().await, [("damaged".to_owned(), 1), ("full".to_owned(), 5)], "the newest last");
        let mut restarted = fixture.writer();
        restarted.write("full", 1).await.unwrap();
        assert_eq!(fixture.there().await, [("damaged".to_owned(), 1), ("full".to_owned(), 6)]);
    }

    #[tokio::test]
    async fn what_was_acknowledged_begins_anew() {
        let fixture = Fixture::start();
        let mut writer = fixture.writer();
        writer.write("full", 7).await.unwrap();
        let control = fixture.store.handle(Writer::Control);
        for entry in control.list(&layout::node_notices(OWNER)).await.unwrap().entries {
            control.delete(&entry.key).await.unwrap();
        }
        writer.write("full", 1).await.unwrap();
        assert_eq!(fixture.there().await, [("full".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn no_component_has_more_than_a_thousand() {
        let fixture = Fixture::start();
        let mut writer = fixture.writer();
        for number in 0..NOTICES_MAX + 3 {
            writer.write(&format!("range {number} is damaged"), 1).await.unwrap();
        }
        let there = fixture.there().await;
        assert_eq!((there.len(), there[0].0.as_str()), (NOTICES_MAX, "range 3 is damaged"), "the oldest give way");
    }

    #[tokio::test]
    async fn what_a_node_says_is_published_in_the_end() {
        let fixture = Fixture::start();
        let notices = Arc::new(Notices::default());
        let task = tokio::spawn(fixture.writer().follow(notices.clone()));
        notices.write("full");
        notices.write("full");
        tokio::time::timeout(Duration::from_secs(20), async {
            while fixture.there().await.iter().map(|(_, count)| count).sum::<u64>() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("both are published, as one notice or in two steps");
        assert_eq!(fixture.there().await, [("full".to_owned(), 2)]);
        task.abort();
    }
}
