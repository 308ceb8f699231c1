//! Notices: what a person should know about a node, written down before it becomes an outage.
//! They are kept in memory here, bounded and with repeats counted, and a task of the role publishes
//! them through the coordinator.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Notices kept at most until they are published.
const PENDING_MAX: usize = 1000;

/// A notice that has not been published yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingNotice {
    /// What happened, and what to do.
    pub details: String,
    /// How many times it was written since the last publication.
    pub repeats: u64,
}

/// See the module's essay.
#[derive(Debug, Default)]
pub struct Notices {
    pending: Mutex<VecDeque<PendingNotice>>,
    written: Notify,
}

impl Notices {
    /// Writes a notice down. It must hold neither keys nor values of items.
    pub fn write(&self, details: impl Into<String>) {
        let details = details.into();
        tracing::warn!(notice = %details);
        let mut pending = self.pending.lock();
        if let Some(known) = pending.iter_mut().find(|known| known.details == details) {
            known.repeats += 1;
            return;
        }
        if pending.len() == PENDING_MAX {
            pending.pop_front();
        }
        pending.push_back(PendingNotice { details, repeats: 1 });
        drop(pending);
        self.written.notify_waiters();
        self.written.notify_one();
    }

    /// Takes all notices that have not been published.
    pub fn take(&self) -> Vec<PendingNotice> {
        self.pending.lock().drain(..).collect()
    }

    /// Waits until a notice has been written.
    pub async fn written(&self) {
        if self.pending.lock().is_empty() {
            self.written.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_the_oldest_give_way() {
        let notices = Notices::default();
        notices.write("a");
        notices.write("a");
        assert_eq!(notices.take(), [PendingNotice { details: "a".into(), repeats: 2 }]);
        for number in 0..PENDING_MAX + 5 {
            notices.write(format!("{number}"));
        }
        let kept = notices.take();
        assert_eq!((kept.len(), kept[0].details.as_str()), (PENDING_MAX, "5"));
    }
}
