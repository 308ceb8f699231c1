//! A copy on disk of something that a component was told, sealed under the component's key: what it goes on
//! from when it starts and whoever told it is away.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | what it is a copy of: `dStRoute` (the routing table), `dStAcces` (who may come in), `dStNodes` (where other nodes are) |
//! | 8 | 1 | version: 1 |
//! | 9 | 12 | nonce |
//! | 21 | n | the body, encrypted (AES-256-GCM-SIV; associated data: label and control plane) |
//! | 21 + n | 16 | tag |
//! | 37 + n | 4 | CRC-32C of all before, little-endian |
//!
//! The checksum tells a damaged file from one under another key; nothing else rests on it. The file is
//! written beside, synced, and renamed over the old one, so there is always one whole copy or none. What
//! the body holds is defined where it is made.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::Key256;
use crate::crypto::envelope::{open_secret, seal_secret};
use crate::domain::ids::PlaneId;

const CHECKSUM_BYTES: usize = 4;
const VERSION: u8 = 1;

/// Where a copy on disk is and what seals it.
#[derive(Debug, Clone)]
pub struct DiskCopyOptions {
    /// The file; its folder must be there.
    pub path: PathBuf,
    /// The key it is sealed under.
    pub key: Key256,
    /// The control plane that what is in it came from.
    pub plane: PlaneId,
}

/// What it is a copy of; another kind does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// The routing table.
    Routing,
    /// Token keys, revoked sessions, principals and access keys.
    Access,
    /// Addresses of other nodes.
    Nodes,
}

impl CopyKind {
    fn magic(self) -> [u8; 9] {
        let mut magic = [VERSION; 9];
        magic[..8].copy_from_slice(match self {
            CopyKind::Routing => b"dStRoute",
            CopyKind::Access => b"dStAcces",
            CopyKind::Nodes => b"dStNodes",
        });
        magic
    }

    fn label(self, plane: PlaneId) -> Vec<u8> {
        let name: &[u8] = match self {
            CopyKind::Routing => b"routing-copy",
            CopyKind::Access => b"access-copy",
            CopyKind::Nodes => b"nodes-copy",
        };
        [name, plane.as_bytes()].concat()
    }
}

/// Why a copy could not be used or made.
#[derive(Debug, thiserror::Error)]
pub enum DiskCopyError {
    /// There is none.
    #[error("there is no copy on disk")]
    Missing,
    /// The file cannot be read or written.
    #[error("the copy on disk cannot be read or written: {0}")]
    File(#[from] std::io::Error),
    /// The file is not what was written.
    #[error("the copy on disk is damaged: {0}")]
    Damaged(&'static str),
    /// It is whole, but this key or control plane does not open it.
    #[error("the copy on disk is under another key")]
    WrongKey,
}

/// Reads and opens a copy.
///
/// # Errors
/// See [`DiskCopyError`].
pub fn load(kind: CopyKind, options: &DiskCopyOptions) -> Result<Zeroizing<Vec<u8>>, DiskCopyError> {
    let file = std::fs::read(&options.path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DiskCopyError::Missing,
        _ => DiskCopyError::File(error),
    })?;
    let (content, checksum) = file.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DiskCopyError::Damaged("too short"))?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return Err(DiskCopyError::Damaged("its checksum does not match"));
    }
    let sealed = content.strip_prefix(&kind.magic()).ok_or(DiskCopyError::Damaged("not a copy of this version"))?;
    open_secret(&options.key, &kind.label(options.plane), sealed).map_err(|_| DiskCopyError::WrongKey)
}

/// Seals and writes a copy in place of the one before. `nonce` must be fresh.
///
/// # Errors
/// `File`; the copy before stays then.
pub fn save(kind: CopyKind, options: &DiskCopyOptions, nonce: [u8; 12], body: &[u8]) -> Result<(), DiskCopyError> {
    let mut file = kind.magic().to_vec();
    file.extend(seal_secret(&options.key, &kind.label(options.plane), body, nonce));
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    let mut beside = options.path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // One left by a crash is in the way, and may have other rights.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut output = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    output.write_all(&file)?;
    output.sync_all()?;
    std::fs::rename(beside, &options.path)?;
    let folder = options.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(std::fs::File::open(folder)?.sync_all()?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A copy in this folder under a key of the test's.
    pub fn options(folder: &Path) -> DiskCopyOptions {
        let plane = PlaneId(uuid::Uuid::from_u128(7));
        DiskCopyOptions { path: folder.join("copy"), key: Key256::new([5; 32]), plane }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        save(CopyKind::Access, &options, [1; 12], b"who may come in").unwrap();
        assert_eq!(*load(CopyKind::Access, &options).unwrap(), b"who may come in");
        let whole = std::fs::read(&options.path).unwrap();
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1 << (index % 8);
            std::fs::write(&options.path, &changed).unwrap();
            assert!(matches!(load(CopyKind::Access, &options), Err(DiskCopyError::Damaged(_))), "byte {index}");
            std::fs::write(&options.path, &whole[..index]).unwrap();
            assert!(matches!(load(CopyKind::Access, &options), Err(DiskCopyError::Damaged(_))), "cut at {index}");
        }
    }

    #[test]
    fn it_is_sealed_private_and_replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let good = options(folder.path());
        assert!(matches!(load(CopyKind::Routing, &good), Err(DiskCopyError::Missing)));
        std::fs::write(folder.path().join("copy.new"), "left by a crash").unwrap();
        save(CopyKind::Routing, &good, [1; 12], b"first").unwrap();
        save(CopyKind::Routing, &good, [2; 12], b"second").unwrap();
        assert_eq!(*load(CopyKind::Routing, &good).unwrap(), b"second");
        assert_eq!(std::fs::metadata(&good.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let bytes = std::fs::read(&good.path).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"seco"), "nothing stands in it in clear");
        let other_key = DiskCopyOptions { key: Key256::new([6; 32]), ..good.clone() };
        assert!(matches!(load(CopyKind::Routing, &other_key), Err(DiskCopyError::WrongKey)));
        let other_plane = DiskCopyOptions { plane: PlaneId(uuid::Uuid::nil()), ..good.clone() };
        assert!(matches!(load(CopyKind::Routing, &other_plane), Err(DiskCopyError::WrongKey)));
        assert!(matches!(load(CopyKind::Access, &good), Err(DiskCopyError::Damaged(_))), "another kind");
    }
}
