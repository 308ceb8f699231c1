//! Which encrypted files this process has open, and with which keys.
//!
//! SQLite opens files by name and has no place for a key; a URI parameter would show it in error
//! messages. So [`super::open`] puts the key here, under the file's canonical path, before it asks SQLite to
//! open; the shim finds it by that path, and the log's by asking SQLite for the database beside it.
//! All connections to a file share one [`FileState`].
//!
//! **Why the header's descriptor is kept.** POSIX record locks belong to the process, and closing *any*
//! descriptor of a file drops all of them (see fcntl(2)). Reading the header of a file that is being served
//! through a descriptor of our own, and closing that, would silently let another process in. So a
//! state holds one descriptor as long as any connection lives, key rotation uses it, and the
//! last one is closed only after SQLite's, under the lock of the file's shard. The log is never locked, yet
//! its descriptor is kept too: a failed write-back is reported to descriptors that were open when it happened.
//!
//! What the next author must keep: never open a served file by other means; release a [`FileRef`] only
//! while not holding a shard. The map is in 64 shards, so that thousands of files do not meet at one lock.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::error::{Damage, DamageKind, VfsError};
use crate::crypto::{Aead, Key256, NonceSource};
use crate::domain::ids::FileId;

/// Damages kept per shard until somebody takes them; more would be the same disk dying.
const DAMAGES_MAX: usize = 256;

/// The one registry of this process.
pub(super) static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry {
    shards: std::array::from_fn(|_| Mutex::default()),
    registering: Mutex::new(()),
    nonces: OnceLock::new(),
    totals: CounterCells::default(),
});

/// What was done to one file, or to all of them, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Pages encrypted: of the database and in frames of its log.
    pub pages_sealed: u64,
    /// Pages decrypted, or found damaged.
    pub pages_opened: u64,
    /// Times the database file was synced.
    pub database_syncs: u64,
    /// Times the log was synced.
    pub log_syncs: u64,
    /// Pages that connections found in their caches; told of the process only.
    pub cache_hits: u64,
    /// Pages that were not there.
    pub cache_misses: u64,
}

#[derive(Default)]
pub(super) struct CounterCells {
    pub(super) pages_sealed: AtomicU64,
    pub(super) pages_opened: AtomicU64,
    pub(super) database_syncs: AtomicU64,
    pub(super) log_syncs: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    pub(super) cache_misses: AtomicU64,
}

impl CounterCells {
    pub(super) fn read(&self) -> Counters {
        Counters {
            pages_sealed: self.pages_sealed.load(Ordering::Relaxed),
            pages_opened: self.pages_opened.load(Ordering::Relaxed),
            database_syncs: self.database_syncs.load(Ordering::Relaxed),
            log_syncs: self.log_syncs.load(Ordering::Relaxed),
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
            cache_misses: self.cache_misses.load(Ordering::Relaxed),
        }
    }
}

/// One open file, shared by all connections to it.
pub(super) struct FileState {
    /// Canonical path.
    pub(super) path: PathBuf,
    pub(super) file: FileId,
    pub(super) aead: Aead,
    key: Key256,
    /// Kept for the header block; see the module's essay.
    pub(super) header: File,
    /// Kept for syncing; set when SQLite first opens the log.
    pub(super) log: OnceLock<File>,
    /// Whether SQLite is recovering the log: then a frame that does not open ends it.
    pub(super) recovering: AtomicBool,
    pub(super) counters: CounterCells,
    /// The next sync of the log is to fail; for tests.
    pub(super) fail_next_sync: AtomicBool,
}

impl FileState {
    /// Adds one to a counter of this file and of the process.
    pub(super) fn count(&self, counter: impl Fn(&CounterCells) -> &AtomicU64) {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
        counter(&REGISTRY.totals).fetch_add(1, Ordering::Relaxed);
    }

    /// Notes damage for [`super::take_damage`]. The first is kept, as the nearest to the cause; a cut
    /// log, which may be harmless, gives way.
    pub(super) fn note(&self, page: u64, kind: DamageKind) {
        let damage = Damage { file: self.path.clone(), page, kind };
        if kind == DamageKind::LogCut {
            tracing::info!(%damage, "noted while recovering a write-ahead log");
        } else {
            tracing::error!(%damage, "an encrypted file is damaged");
        }
        let mut shard = REGISTRY.shard(&self.path);
        let kept = shard.damages.get(&self.path).is_some_and(|earlier| earlier.kind != DamageKind::LogCut);
        if !kept && (shard.damages.len() < DAMAGES_MAX || shard.damages.contains_key(&self.path)) {
            shard.damages.insert(self.path.clone(), damage);
        }
    }
}

/// A share in an open file. Dropping it locks the file's shard, so that descriptors are never
/// closed while somebody else opens the file.
pub(super) struct FileRef(Option<Arc<FileState>>);

impl FileRef {
    pub(super) fn share(&self) -> FileRef {
        FileRef(self.0.clone())
    }

    /// Gives up the share right after `action`, both under the lock of the shard.
    pub(super) fn release_after<R>(mut self, action: impl FnOnce() -> R) -> R {
        release(self.0.take(), action)
    }
}

fn release<R>(state: Option<Arc<FileState>>, action: impl FnOnce() -> R) -> R {
    let Some(state) = state else { return action() };
    let path = state.path.clone();
    let mut shard = REGISTRY.shard(&path);
    let result = action();
    drop(state);
    shard.forget_if_closed(&path);
    result
}

impl std::ops::Deref for FileRef {
    type Target = FileState;
    fn deref(&self) -> &FileState {
        self.0.as_deref().expect("only given up when consumed")
    }
}

impl Drop for FileRef {
    fn drop(&mut self) {
        release(self.0.take(), || ());
    }
}

#[derive(Default)]
pub(super) struct Shard {
    open: HashMap<PathBuf, Weak<FileState>>,
    damages: HashMap<PathBuf, Damage>,
}

impl Shard {
    /// The state of an open file. The caller holds the shard until it has dropped it.
    pub(super) fn live(&self, path: &Path) -> Option<Arc<FileState>> {
        self.open.get(path).and_then(Weak::upgrade)
    }

    fn forget_if_closed(&mut self, path: &Path) {
        if self.open.get(path).is_some_and(|state| state.strong_count() == 0) {
            self.open.remove(path);
        }
    }
}

pub(super) struct Registry {
    shards: [Mutex<Shard>; 64],
    registering: Mutex<()>,
    nonces: OnceLock<NonceSource>,
    totals: CounterCells,
}

impl Registry {
    pub(super) fn shard(&self, path: &Path) -> MutexGuard<'_, Shard> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(path);
        self.shards[(hash % self.shards.len() as u64) as usize].lock()
    }

    /// The first time, keeps the source of nonces and runs `register`; whoever comes meanwhile waits.
    pub(super) fn register_once(
        &self,
        nonces: NonceSource,
        register: impl FnOnce() -> Result<(), VfsError>,
    ) -> Result<(), VfsError> {
        let _registering = self.registering.lock();
        if self.nonces.get().is_none() {
            register()?;
            self.nonces.get_or_init(|| nonces);
        }
        Ok(())
    }

    pub(super) fn is_registered(&self) -> bool {
        self.nonces.get().is_some()
    }

    /// A fresh nonce; only called for open files, which there are none of before registration.
    pub(super) fn nonce(&self) -> [u8; 12] {
        self.nonces.get().expect("files are open only after registration").next()
    }

    pub(super) fn totals(&self) -> Counters {
        self.totals.read()
    }

    /// The counters of the process.
    pub(super) fn cells(&self) -> &CounterCells {
        &self.totals
    }

    /// A share in a file that is open already.
    pub(super) fn find(&self, path: &Path) -> Option<FileRef> {
        let shard = self.shard(path);
        shard.live(path).map(|state| FileRef(Some(state)))
    }

    /// A share in a file; `connect` opens and checks it if nobody has it open yet.
    pub(super) fn acquire(
        &self,
        path: &Path,
        expected: FileId,
        key: &Key256,
        connect: impl FnOnce() -> Result<File, VfsError>,
    ) -> Result<FileRef, VfsError> {
        let mut shard = self.shard(path);
        if let Some(state) = shard.live(path) {
            if state.file != expected {
                return Err(VfsError::Swapped { path: path.to_owned(), expected, found: state.file });
            }
            if state.key != *key {
                return Err(VfsError::WrongKey { path: path.to_owned() });
            }
            return Ok(FileRef(Some(state)));
        }
        let state = Arc::new(FileState {
            path: path.to_owned(),
            file: expected,
            aead: Aead::new(key),
            key: key.clone(),
            header: connect()?,
            log: OnceLock::new(),
            recovering: AtomicBool::new(false),
            counters: CounterCells::default(),
            fail_next_sync: AtomicBool::new(false),
        });
        shard.open.insert(path.to_owned(), Arc::downgrade(&state));
        Ok(FileRef(Some(state)))
    }

    /// Takes the damage noted for a file, if `wanted`.
    pub(super) fn take_damage(&self, path: &Path, wanted: impl Fn(DamageKind) -> bool) -> Option<Damage> {
        let mut shard = self.shard(path);
        if wanted(shard.damages.get(path)?.kind) { shard.damages.remove(path) } else { None }
    }
}
