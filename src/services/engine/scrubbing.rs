//! What the scrub needs of the engine: which files there are, a verdict about pages that did not open, taking replicas out of
//! service so that they stay out, and getting rid of damaged segments of the commit log.

use std::sync::Arc;

use crate::domain::ids::ReplicaId;
use crate::storage::log::LogError;
use crate::storage::store::{RangeStore, StoreError};

use super::opening::Engine;
use super::replica::Replica;

/// A replica's file that is to be read.
#[derive(Clone)]
pub struct FileToScrub {
    /// The replica.
    pub replica: Arc<Replica>,
    /// The file's number.
    pub file: u64,
    /// The file.
    pub store: Arc<dyn RangeStore>,
}

impl FileToScrub {
    fn of(replica: Arc<Replica>) -> Self {
        let file = replica.group_file().unwrap_or(0);
        let store = replica.file();
        Self { replica, file, store }
    }

    /// The replica's id.
    pub fn id(&self) -> ReplicaId {
        self.replica.name.replica
    }

    /// Whether the replica is in this file still.
    pub fn is_current(&self) -> bool {
        !self.replica.is_closed() && Arc::ptr_eq(&self.store, &self.replica.file())
    }
}

/// What is to be said of pages that did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PagesJudged {
    /// They open after all.
    Good,
    /// These do not.
    Damaged(Vec<u64>),
    /// That cannot be told now.
    Unknown,
}

impl Engine {
    /// The files of all replicas that are not known to be damaged, those of dropped tables too, in the order of their ids.
    pub fn files_to_scrub(&self) -> Vec<FileToScrub> {
        let retired: Vec<_> = self.retired.read().values().map(|retired| Arc::clone(&retired.replica)).collect();
        let all = self.replicas().into_iter().chain(retired).filter(|replica| replica.damage().is_none());
        let mut files: Vec<_> = all.map(FileToScrub::of).collect();
        files.sort_by_key(FileToScrub::id);
        files
    }

    /// Takes replicas out of service until they are removed, also after a restart. Blocks on disk.
    ///
    /// # Errors
    /// Where the node's database cannot be written: nothing has changed.
    pub fn distrust(&self, replicas: &[Arc<Replica>], reason: &str) -> Result<(), StoreError> {
        let ids: Vec<ReplicaId> = replicas.iter().map(|replica| replica.name.replica).collect();
        self.parts.database.distrust(&ids, reason)?;
        replicas.iter().for_each(|replica| replica.mark_damaged(reason.to_owned()));
        Ok(())
    }

    /// Whether these pages of a file are damaged. What is in the file's write-ahead log is made durable, recorded and brought
    /// back before, as whenever it is brought back. Blocks on disk.
    ///
    /// # Errors
    /// Where the file or the node's database cannot be written.
    pub fn judge_pages(&self, file: &FileToScrub, suspects: &[u64]) -> Result<PagesJudged, StoreError> {
        if !file.is_current() {
            return Ok(PagesJudged::Unknown);
        }
        let judged = self.flusher().record(&file.replica).and_then(|()| file.store.damaged_pages(suspects));
        Ok(match judged {
            Ok(None) => PagesJudged::Unknown,
            Ok(Some(pages)) if pages.is_empty() => PagesJudged::Good,
            Ok(Some(pages)) => PagesJudged::Damaged(pages),
            // SQLite met it on the way.
            Err(StoreError::Damaged(_)) if file.is_current() => PagesJudged::Damaged(suspects.to_vec()),
            Err(error) => {
                self.flusher().note_sync_failure(&file.replica, &error);
                return Err(error);
            }
        })
    }

    /// Has the log drop what it needs no more, where a segment of it is damaged: it is told anew what every file has, which
    /// may be more than it was told, and all that is in no file yet is asked to be brought there. What lives in segments up to
    /// `through` is copied, however much that is. Blocks on disk.
    pub fn press_log(&self, through: u64) {
        let log = {
            // Held, so that no range is removed and made anew in between: then its new entries would count as durable.
            let replicas = self.replicas.read();
            let log = Arc::clone(&self.log());
            let durable = replicas.values().map(|replica| (replica.name.range, replica.durable_index()));
            durable.filter(|(_, index)| *index > 0).for_each(|(range, index)| log.set_durable(range, index));
            log
        };
        match log.drop_segments_through(through) {
            // The node is stopping, or starts again from disk.
            Ok(_) | Err(LogError::Closed | LogError::Failed) => {}
            Err(error) => tracing::warn!(%error, "a damaged segment of the commit log cannot be dropped yet"),
        }
        self.flusher().note_backlogs(&self.replicas());
        self.flusher().ask_for_durability();
    }
}
