//! Starting again from disk, within the process, after a write or sync of the commit log, or a sync of a file, failed.
//!
//! A write or sync that failed is never tried again: what the disk has is not known any more, and after a failed
//! sync the kernel forgets that there was anything to write. So whatever was under way has been answered "outcome
//! unknown", what waited was refused, and now nothing in memory is believed: replicas are closed and dropped, the log is
//! opened from disk as at a start of the process (which syncs it before anything of it is shown), and replicas are made
//! anew from files and log. What was acknowledged was synced, so it comes back. A file whose sync failed loses its
//! write-ahead log before: the file itself was synced with the last checkpoint, and the commit log has all since then.
//!
//! Meanwhile, for a moment, the node answers that it is not available. Where the disk does not let itself be
//! opened either, that lasts, and it is tried again with each look after the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::domain::{Refusal, RefusalKind};

use super::log_opening::open_log;
use super::opening::{Engine, EngineError, Threads};

impl Engine {
    /// Whether it serves, or why not: for the role's readiness.
    ///
    /// # Errors
    /// `Unavailable` while it starts again from disk.
    pub fn readiness(&self) -> Result<(), Refusal> {
        if self.must_restart() { Err(restarting()) } else { Ok(()) }
    }

    /// Whether what is in memory is not to be believed any more.
    pub(super) fn must_restart(&self) -> bool {
        self.is_restarting() || self.log().counters().failed || self.flusher().has_sync_failed()
    }

    pub(super) fn is_restarting(&self) -> bool {
        self.restarting.load(Ordering::Acquire)
    }

    /// Why a range is not found.
    pub(super) fn not_here(&self) -> Refusal {
        if self.is_restarting() {
            return restarting();
        }
        Refusal::new(RefusalKind::WrongNode, "this node does not hold the key")
    }

    pub(super) fn restart(&self) {
        let mut threads = self.threads.lock();
        // None: the node is being stopped.
        let Some(threads) = threads.as_mut() else { return };
        self.restarting.store(true, Ordering::Release);
        match self.open_again(threads) {
            Ok(()) => {
                self.restarting.store(false, Ordering::Release);
                self.notices().write(
                    "the disk failed at a write or sync; the node started again from what the disk has, and nothing acknowledged is lost. Look at the disk",
                );
            }
            Err(error) => {
                let mut reason = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    reason = format!("{reason}: {cause}");
                    source = cause.source();
                }
                self.notices().write(format!(
                    "the disk failed, and the node cannot start again from it: {reason}. It serves nothing and tries again"
                ));
            }
        }
    }

    fn open_again(&self, threads: &mut Threads) -> Result<(), EngineError> {
        let _files_stay = self.changing_files.lock();
        // From here on nobody finds a replica, and who has found one cannot write through it any more.
        let mut old: Vec<_> = self.replicas.write().drain().map(|(_, replica)| replica).collect();
        old.extend(self.retired.write().drain().map(|(_, retired)| retired.replica));
        for replica in &old {
            replica.close();
        }
        if let Err(error) = self.log().close() {
            tracing::debug!(%error, "the failed log is closed");
        }
        threads.sink.stop();
        let _nothing_is_flushed = self.flusher().quiesce();
        for replica in &old {
            replica.store().discard_unsynced()?;
        }
        let records = self.parts.database.replicas()?;
        let (log, sink, replayed) = open_log(&self.parts, &self.options)?;
        sink.start(self.options.apply_lanes, self.flusher(), &self.options.log.workers)?;
        self.log.store(log);
        self.sink.store(Arc::clone(&sink));
        threads.sink = Arc::clone(&sink);
        self.note_change();
        self.bring_up(records, replayed)
    }
}

fn restarting() -> Refusal {
    Refusal::unavailable("this node's disk failed; it is starting again from what the disk has", 1)
}
