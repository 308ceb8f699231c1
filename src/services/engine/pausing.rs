//! Stopping a replica from giving out indexes: for good, when another object stands for it, or until what it gave out is
//! settled, when its range becomes a group.

use std::sync::atomic::Ordering;

use super::replica::{Replica, Sequencing};

impl Replica {
    /// Gives out no index any more: what is known of the range is read from disk anew.
    pub fn close(&self) {
        self.sequencer.lock().state = Sequencing::Closed;
        self.is_closed.store(true, Ordering::Release);
        self.side.close();
        self.applied_changed.notify_waiters();
        // What is being flushed now is waited for; nothing is after.
        drop(self.flushing.lock());
    }

    /// Gives out no index until [`Replica::resume`]; the last one that was given out.
    pub(super) fn pause(&self) -> u64 {
        let mut sequencer = self.sequencer.lock();
        if sequencer.state == Sequencing::Open {
            sequencer.state = Sequencing::Pausing;
        }
        sequencer.next_index - 1
    }

    /// Gives out indexes again.
    pub(super) fn resume(&self) {
        let mut sequencer = self.sequencer.lock();
        if sequencer.state == Sequencing::Pausing {
            sequencer.state = Sequencing::Open;
        }
    }

    /// Whether no index is given out because the range is becoming a group, or has become one.
    pub fn is_pausing(&self) -> bool {
        self.sequencer.lock().state == Sequencing::Pausing
    }

    /// Whether another object stands for the replica, or none: this one is not to be believed any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// An entry that was sequenced has been applied, or will never be.
    pub(super) fn settle(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.applied_changed.notify_waiters();
        }
    }

    /// Waits until everything that was sequenced is settled.
    pub(super) async fn settled(&self) {
        self.wait_until(|replica| replica.outstanding.load(Ordering::Acquire) == 0).await;
    }
}
