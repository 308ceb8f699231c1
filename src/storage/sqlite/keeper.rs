//! Which replica files a node has, and which of them are open.
//!
//! Every replica has a [`SqliteRangeStore`]; opening one costs nothing until it is used. The keeper
//! hands each out wrapped in a [`Tracked`] store, which notes every use; past `open_files_max` one of those
//! not used for long is closed ([`super::open_files`]). A closed one opens again by itself. So ten thousand
//! replicas need the memory of their records and the descriptors of the few that are busy.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::Random;
use crate::domain::document::Document;
use crate::domain::ids::{FileId, NodeId, PlaneId, PrincipalId, ReceiptId, RequestId, TenantId};
use crate::domain::key::PackedKey;
use crate::domain::local_index::LocalIndex;
use crate::domain::version::ItemVersion;
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::storage::store::{
    Batch, BatchChanges, Chunk, IndexChunk, KeyInterval, RangeStore, ReplicaName, RewrapStep, Scrubbed, StoreError,
    StoreKeeper, StoreSnapshot, StoreState, StoredSize,
};
use crate::storage::vfs;

use super::cells::vfs_failure;
use super::open_files::{OpenFiles, OpenPlace};
use super::range_store::{FileOptions, KeySource, SpareConnections, SqliteRangeStore};
use super::rewrap::{files_of_tenant, is_set_aside, rewrap_file, versions_of};

/// How files are kept.
#[derive(Debug, Clone, Copy)]
pub struct KeeperOptions {
    /// Replica files open at once, at most. Each costs up to eight descriptors, spare connections included.
    pub open_files_max: usize,
    /// How each is opened.
    pub file: FileOptions,
}

/// See the module's essay.
pub struct SqliteKeeper {
    folder: PathBuf,
    plane: PlaneId,
    node: NodeId,
    keys: Arc<dyn FileKeys>,
    random: Arc<dyn Random>,
    options: KeeperOptions,
    open: Arc<OpenFiles>,
    spare: SpareConnections,
}

impl SqliteKeeper {
    /// A keeper of the files of one node at one control plane, under `folder`.
    pub fn new(
        folder: PathBuf,
        plane: PlaneId,
        node: NodeId,
        keys: Arc<dyn FileKeys>,
        random: Arc<dyn Random>,
        options: KeeperOptions,
    ) -> Self {
        let open = Arc::new(OpenFiles::new(options.open_files_max));
        let spare = SpareConnections::new(options.open_files_max);
        Self { folder, plane, node, keys, random, options, open, spare }
    }

    /// Where a replica's file lies.
    pub fn path(&self, name: ReplicaName) -> PathBuf {
        let folder =
            self.folder.join(self.plane.to_string()).join(name.tenant.to_string()).join(name.table.to_string());
        folder.join(format!("{}.db", name.replica))
    }

    /// How many stores are open.
    pub fn open_count(&self) -> usize {
        self.open.count()
    }

    /// Which are open, in order.
    #[cfg(test)]
    pub(super) fn open_files(&self) -> Vec<crate::domain::ids::ReplicaId> {
        self.open.all()
    }

    fn identity(&self, name: ReplicaName) -> vfs::FileIdentity {
        vfs::FileIdentity {
            file: FileId(name.replica.0),
            plane: self.plane,
            node: self.node,
            tenant: Some(name.tenant),
            table: Some(name.table),
        }
    }

    fn tracked(&self, name: ReplicaName) -> Arc<Tracked> {
        let path = self.path(name);
        let keys = Arc::clone(&self.keys);
        let source: KeySource = {
            let path = path.clone();
            Arc::new(move || unlock(&path, FileId(name.replica.0), KeyOwner::Tenant(name.tenant), &*keys))
        };
        let store = Arc::new(SqliteRangeStore::new(path, source, self.options.file, self.spare.clone()));
        Arc::new(Tracked { place: OpenPlace::new(name.replica, store), open: Arc::clone(&self.open) })
    }
}

/// Unwraps a file's key by whichever version of its owner's key wrapped it.
pub(super) fn unlock(
    path: &Path,
    file: FileId,
    owner: KeyOwner,
    keys: &dyn FileKeys,
) -> Result<(FileId, crate::crypto::Key256), StoreError> {
    let mut last = StoreError::Key(format!("{}: no key slot is filled", path.display()));
    for version in vfs::key_versions(path).map_err(|error| vfs_failure(&error))? {
        match keys.of_version(owner, version) {
            Ok(key) => match vfs::unlock(path, &key) {
                Ok(data_key) => return Ok((file, data_key)),
                Err(error) => last = vfs_failure(&error),
            },
            Err(error) => last = StoreError::Key(format!("{}: {error}", path.display())),
        }
    }
    Err(last)
}

impl StoreKeeper for SqliteKeeper {
    fn create(&self, name: ReplicaName, indexes: &[LocalIndex]) -> Result<Arc<dyn RangeStore>, StoreError> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            super::make_folders(&self.folder, folder)?;
        }
        let newest =
            self.keys.newest(KeyOwner::Tenant(name.tenant)).map_err(|error| StoreError::Key(error.to_string()))?;
        vfs::create_file(&path, &self.identity(name), newest.version, &newest.key, &*self.random)
            .map_err(|error| vfs_failure(&error))?;
        let store = self.tracked(name);
        store.used().define_indexes(indexes)?;
        store.state()?;
        Ok(store)
    }

    fn open(&self, name: ReplicaName) -> Result<Arc<dyn RangeStore>, StoreError> {
        Ok(self.tracked(name))
    }

    fn remove(&self, name: ReplicaName) -> Result<(), StoreError> {
        self.open.forget(name.replica);
        let path = self.path(name);
        for suffix in ["-wal", "-journal", ".new", ""] {
            super::remove_if_there(&with_suffix(&path, suffix))?;
        }
        for number in (1..).take_while(|number| with_suffix(&path, &format!(".damaged-{number}")).exists()) {
            super::remove_if_there(&with_suffix(&path, &format!(".damaged-{number}-wal")))?;
            super::remove_if_there(&with_suffix(&path, &format!(".damaged-{number}")))?;
        }
        // The folders of the table and of the tenant go with their last file; one that is not empty stays.
        let folders = path.ancestors().skip(1).take(2);
        let emptied = folders.take_while(|folder| std::fs::remove_dir(folder).is_ok()).count();
        tracing::debug!(path = %path.display(), emptied, "a replica's files were removed");
        Ok(())
    }

    fn set_aside(&self, name: ReplicaName) -> Result<String, StoreError> {
        self.open.forget(name.replica);
        let path = self.path(name);
        let taken = |number: &u32| with_suffix(&path, &format!(".damaged-{number}")).exists();
        let number = (1..).find(|number| !taken(number)).unwrap_or(1);
        for suffix in ["-wal", ""] {
            let from = with_suffix(&path, suffix);
            if from.exists() {
                let to = with_suffix(&path, &format!(".damaged-{number}{suffix}"));
                std::fs::rename(&from, &to)
                    .map_err(|error| StoreError::Failed(format!("{}: {error}", from.display())))?;
            }
        }
        Ok(with_suffix(&path, &format!(".damaged-{number}")).display().to_string())
    }

    fn rewrap(&self, tenant: TenantId, step: RewrapStep) -> Result<usize, StoreError> {
        self.each_file(tenant, |path| rewrap_file(path, KeyOwner::Tenant(tenant), step, &*self.keys, &*self.random))
    }

    fn key_versions(&self, tenant: TenantId) -> Result<BTreeSet<u32>, StoreError> {
        let mut versions = BTreeSet::new();
        self.each_file(tenant, |path| {
            versions.append(&mut versions_of(path)?);
            Ok(())
        })?;
        Ok(versions)
    }
}

impl SqliteKeeper {
    /// Calls `work` for each file of the tenant. A file that is gone meanwhile is passed over, and so is one set
    /// aside whose header is beyond reading.
    fn each_file(
        &self,
        tenant: TenantId,
        mut work: impl FnMut(&Path) -> Result<(), StoreError>,
    ) -> Result<usize, StoreError> {
        let files = files_of_tenant(&self.folder.join(self.plane.to_string()).join(tenant.to_string()))?;
        for path in &files {
            match work(path) {
                Err(error) if is_set_aside(path) => {
                    tracing::warn!(path = %path.display(), %error, "the key of a file set aside cannot be wrapped anew");
                }
                Err(_) if !path.exists() => {}
                done => done?,
            }
        }
        Ok(files.len())
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// A store that notes its uses.
struct Tracked {
    place: OpenPlace,
    open: Arc<OpenFiles>,
}

impl Tracked {
    fn used(&self) -> &SqliteRangeStore {
        self.open.note(&self.place);
        &self.place.store
    }

    fn unnoted(&self) -> &SqliteRangeStore {
        &self.place.store
    }
}

impl RangeStore for Tracked {
    fn state(&self) -> Result<StoreState, StoreError> {
        self.used().state()
    }
    fn get(&self, key: &PackedKey) -> Result<Option<(Document, ItemVersion)>, StoreError> {
        self.used().get(key)
    }
    fn version(&self, key: &PackedKey) -> Result<Option<ItemVersion>, StoreError> {
        self.used().version(key)
    }
    fn scan(
        &self,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Chunk, StoreError> {
        self.used().scan(interval, descending, items_max, bytes_max)
    }
    fn scan_index(
        &self,
        position: u8,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<IndexChunk, StoreError> {
        self.used().scan_index(position, interval, descending, items_max, bytes_max)
    }
    fn index_size(&self, position: u8) -> Result<StoredSize, StoreError> {
        self.used().index_size(position)
    }
    fn interval_size(&self, interval: &KeyInterval) -> Result<StoredSize, StoreError> {
        self.used().interval_size(interval)
    }
    fn request(&self, principal: PrincipalId, id: RequestId) -> Result<Option<Remembered>, StoreError> {
        self.used().request(principal, id)
    }
    fn receipt(&self, id: ReceiptId) -> Result<Option<Outcome>, StoreError> {
        self.used().receipt(id)
    }
    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, StoreError> {
        self.used().snapshot()
    }
    fn write(&self, batch: &Batch) -> Result<BatchChanges, StoreError> {
        self.used().write(batch)
    }
    fn make_durable(&self) -> Result<u64, StoreError> {
        self.used().make_durable()
    }
    fn checkpoint(&self) -> Result<(), StoreError> {
        self.used().checkpoint()
    }
    fn checkpoint_backlog_bytes(&self) -> u64 {
        self.unnoted().checkpoint_backlog_bytes()
    }
    fn expect_at_least(&self, index: u64) {
        self.unnoted().expect_at_least(index);
    }
    fn take_cut(&self) -> Option<String> {
        self.unnoted().take_cut()
    }
    fn discard_unsynced(&self) -> Result<(), StoreError> {
        self.open.forget(self.place.replica);
        self.unnoted().discard_unsynced()
    }
    fn release(&self) {
        self.open.forget(self.place.replica);
        self.unnoted().release();
    }
    fn verify(&self) -> Result<(), StoreError> {
        self.used().verify()
    }
    fn scrub(&self, first: u64, pages_max: u64) -> Result<Scrubbed, StoreError> {
        // No use that counts: files that others read stay open.
        self.unnoted().scrub(first, pages_max)
    }
    fn file_bytes(&self) -> u64 {
        self.unnoted().file_bytes()
    }
    fn damaged_pages(&self, suspects: &[u64]) -> Result<Option<Vec<u64>>, StoreError> {
        self.used().damaged_pages(suspects)
    }
}
