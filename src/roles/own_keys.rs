//! The versions of a node's own key, a file each beside the node's database.
//!
//! ```text
//! node.key        the first version
//! node.key.7      the seventh
//! ```
//!
//! Each is in clear or sealed under a passphrase ([`super::key_files`]). There is one file, and two while the key is
//! rotated. A new version is written whole and synced before
//! anything is wrapped under it; an old one is overwritten, removed, and the folder synced, when nothing names it any
//! more ([`crate::services::engine::rotation`]).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypto::Key256;
use crate::domain::Random;
use crate::services::engine::keys::PartVersions;
use crate::services::engine::rotation::OwnKeyFile;
use crate::storage::store::StoreError;

use super::key_files::{KeyFileError, Passphrase, create_key, read_key};

/// See the module's essay.
pub struct OwnKeys {
    folder: PathBuf,
    passphrase: Option<Arc<Passphrase>>,
    random: Arc<dyn Random>,
}

impl OwnKeys {
    /// The keys in `folder`, and their versions; the first one is made where there is none.
    ///
    /// # Errors
    /// Where a key cannot be read or written, can be read by others, or is sealed under another passphrase.
    pub fn open(
        folder: &Path,
        passphrase: Option<Arc<Passphrase>>,
        random: Arc<dyn Random>,
    ) -> Result<(Self, PartVersions), KeyFileError> {
        let keys = Self { folder: folder.to_owned(), passphrase, random };
        let mut versions = PartVersions::default();
        let there = keys.versions().map_err(|source| KeyFileError::File { path: folder.to_owned(), source })?;
        for version in there {
            versions.add(version, read_key(&keys.path(version), keys.passphrase.as_deref(), &*keys.random)?);
        }
        if versions.newest().is_none() {
            let key = Key256::random(&*keys.random);
            keys.create(1, &key)?;
            versions.add(1, key);
        }
        Ok((keys, versions))
    }

    fn create(&self, version: u32, key: &Key256) -> Result<(), KeyFileError> {
        create_key(&self.path(version), key, self.passphrase.as_deref(), &*self.random)
    }

    fn path(&self, version: u32) -> PathBuf {
        self.folder.join(if version == 1 { "node.key".to_owned() } else { format!("node.key.{version}") })
    }

    fn versions(&self) -> std::io::Result<Vec<u32>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let version = match name.to_str().and_then(|name| name.strip_prefix("node.key")) {
                Some("") => Some(1),
                Some(rest) => {
                    rest.strip_prefix('.').and_then(|number| number.parse().ok()).filter(|number| *number > 1)
                }
                None => None,
            };
            versions.extend(version);
        }
        Ok(versions)
    }

    fn destroy(&self, version: u32) -> std::io::Result<()> {
        let path = self.path(version);
        let length = std::fs::metadata(&path)?.len() as usize;
        let mut file = std::fs::File::options().write(true).open(&path)?;
        file.write_all(&vec![b'0'; length])?;
        file.sync_all()?;
        std::fs::remove_file(&path)
    }
}

impl OwnKeyFile for OwnKeys {
    fn keep(&self, versions: &[(u32, Key256)]) -> Result<(), StoreError> {
        let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", self.folder.display()));
        let there = self.versions().map_err(failed)?;
        for (version, key) in versions.iter().filter(|(version, _)| !there.contains(version)) {
            self.create(*version, key).map_err(|error| StoreError::Failed(error.to_string()))?;
        }
        for version in there.iter().filter(|version| !versions.iter().any(|(kept, _)| kept == *version)) {
            self.destroy(*version).map_err(failed)?;
        }
        std::fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::ambient;

    #[test]
    fn versions_are_kept_read_again_and_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, first) = OwnKeys::open(folder.path(), None, ambient::random()).unwrap();
        assert_eq!(first.all().len(), 1);
        let mut both = first.clone();
        both.add(2, Key256::new([9; 32]));
        keys.keep(&both.all()).unwrap();
        assert!(OwnKeys::open(folder.path(), None, ambient::random()).unwrap().1.all() == both.all());
        both.drop_below(2);
        keys.keep(&both.all()).unwrap();
        let (_, again) = OwnKeys::open(folder.path(), None, ambient::random()).unwrap();
        assert!(again.all() == both.all(), "the first one does not come back");
        assert!(!folder.path().join("node.key").exists());
    }

    /// A version that was not written whole has another name, and is none.
    #[test]
    fn what_is_no_version_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["node.key.new", "node.key.0", "node.keys", "node.db"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let (keys, _) = OwnKeys::open(folder.path(), None, ambient::random()).unwrap();
        assert_eq!(keys.versions().unwrap(), [1]);
    }
}
