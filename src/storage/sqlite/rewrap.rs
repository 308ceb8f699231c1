//! Wrapping the key of a file anew, when a part of its owner's key has a new version. The file may be
//! in use; no page is written.
//!
//! A file has two slots for its wrapped key. Where both are taken, as when one part is rotated before the
//! rotation of another has ended, the newest that opens is kept and the other one makes room.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::crypto::Key256;
use crate::domain::Random;
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::storage::store::{RewrapStep, StoreError};
use crate::storage::vfs::{self, RewrapPhase};

use super::cells::vfs_failure;

/// One step for one file.
///
/// # Errors
/// Where no slot opens, or the header cannot be written.
pub fn rewrap_file(
    path: &Path,
    owner: KeyOwner,
    step: RewrapStep,
    keys: &dyn FileKeys,
    random: &dyn Random,
) -> Result<(), StoreError> {
    let newest = keys.newest(owner).map_err(|error| StoreError::Key(error.to_string()))?;
    let versions = vfs::key_versions(path).map_err(|error| vfs_failure(&error))?;
    let write = |old: &Key256, new: &Key256, version, phase| {
        vfs::rewrap(path, old, new, version, phase, random).map_err(|error| vfs_failure(&error))
    };
    match step {
        RewrapStep::AddNew if versions.contains(&newest.version) => Ok(()),
        RewrapStep::AddNew => {
            let (version, key) = newest_that_opens(path, owner, &versions, keys)?;
            if versions.len() > 1 {
                write(&key, &key, version, RewrapPhase::DropOld)?;
            }
            write(&key, &newest.key, newest.version, RewrapPhase::AddNew)
        }
        RewrapStep::DropOld if versions == [newest.version] => Ok(()),
        RewrapStep::DropOld => write(&newest.key, &newest.key, newest.version, RewrapPhase::DropOld),
    }
}

fn newest_that_opens(
    path: &Path,
    owner: KeyOwner,
    versions: &[u32],
    keys: &dyn FileKeys,
) -> Result<(u32, Key256), StoreError> {
    let mut newest_first = versions.to_vec();
    newest_first.sort_unstable_by_key(|version| std::cmp::Reverse(*version));
    let opens = |version: &u32| {
        let key = keys.of_version(owner, *version).ok()?;
        vfs::unlock(path, &key).ok().map(|_| (*version, key))
    };
    newest_first
        .iter()
        .find_map(opens)
        .ok_or_else(|| StoreError::Key(format!("{}: no key that is here opens it", path.display())))
}

/// The files with wrapped keys two folders below: the replicas of all tables of a tenant, those set aside included.
///
/// # Errors
/// Where a folder cannot be read.
pub fn files_of_tenant(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for table in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let is_database = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_log = name.ends_with("-wal") || name.ends_with("-journal") || name.ends_with(".new");
            name.contains(".db") && !is_log
        };
        files.extend(entries(&table)?.into_iter().filter(is_database));
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", folder.display()));
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a file was set aside as damaged: its key may be beyond rewrapping, and nobody waits for it.
pub fn is_set_aside(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(".damaged-"))
}

/// The versions in a file's slots.
///
/// # Errors
/// Where its header cannot be read.
pub fn versions_of(path: &Path) -> Result<BTreeSet<u32>, StoreError> {
    Ok(vfs::key_versions(path).map_err(|error| vfs_failure(&error))?.into_iter().collect())
}
