//! The header block on disk: made with the file, read before it is opened, and changed when a part
//! of its key-encryption key is rotated. Also while the file is served: everything goes through the descriptor that
//! the registry keeps for open files, see there why.
//!
//! A rotation takes two calls, in between which old and new key both open the file: [`RewrapPhase::AddNew`] writes
//! and syncs the second slot, [`RewrapPhase::DropOld`] empties the first once nothing needs it.
//! Either may be repeated after a crash. No page is rewritten: the data key stays.
//!
//! A new file is made whole: header block and a sealed page 1 are written under another name, synced and
//! renamed. SQLite never sees an empty file, so it never starts the rollback journal that it would
//! need for its first page, and the reserved bytes are set before any page is.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::VfsError;
use super::header::{BLOCK_LENGTH, FORMAT_VERSION, FileIdentity, Header, HeaderError, SLOT_OFFSETS, Slot};
use super::initial::initial_page;
use super::registry::REGISTRY;
use crate::crypto::page::{PAGE_LENGTH, PageKind, PagePlace, seal_page};
use crate::crypto::{Aead, Key256, envelope};
use crate::domain::Random;

/// A file with its header block and first page.
const FILE_LENGTH_MIN: u64 = (BLOCK_LENGTH + PAGE_LENGTH) as u64;

/// The two steps of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewrapPhase {
    /// Wrap the data key under the new key too.
    AddNew,
    /// Forget what is wrapped under any other key.
    DropOld,
}

/// Makes an empty database file at `path`, whole or not at all, and gives its data key, wrapped in the file under
/// version `key_version` of `kek`. Refuses a path that is taken.
pub fn create_file(
    path: &Path,
    identity: &FileIdentity,
    key_version: u32,
    kek: &Key256,
    random: &dyn Random,
) -> Result<Key256, VfsError> {
    if path.exists() {
        return Err(VfsError::Exists { path: path.to_owned() });
    }
    let data_key = Key256::random(random);
    let wrapped = envelope::wrap(kek, &data_key, &identity.wrap_context(key_version), nonce(random));
    let slot = Slot::Key { version: key_version, wrapped };
    let mut image = Header { identity: *identity, slots: [slot, Slot::Empty] }.encode().to_vec();
    let mut page = initial_page(path)?;
    let place = PagePlace { kind: PageKind::Database, file: identity.file, position: 1 };
    seal_page(&Aead::new(&data_key), &place, nonce(random), &mut page).map_err(|_| VfsError::HeaderDamaged {
        path: path.to_owned(),
        what: "SQLite laid out page 1 in another way",
    })?;
    image.extend_from_slice(&page);
    write_whole(path, &image)?;
    Ok(data_key)
}

/// Whose file lies at `path`. Needs no key; believe it only once [`unlock`] succeeded.
pub fn read_identity(path: &Path) -> Result<FileIdentity, VfsError> {
    with_header(path, false, |_, header| Ok(header.identity))
}

/// Versions of the key-encryption keys under which the file's key is wrapped.
pub fn key_versions(path: &Path) -> Result<Vec<u32>, VfsError> {
    with_header(path, false, |_, header| {
        Ok(header
            .slots
            .iter()
            .filter_map(|slot| if let Slot::Key { version, .. } = slot { Some(*version) } else { None })
            .collect())
    })
}

/// Unwraps the file's data key. A wrong key is found here, by the tag of the wrapped key.
pub fn unlock(path: &Path, kek: &Key256) -> Result<Key256, VfsError> {
    with_header(path, false, |path, header| unlock_header(path, header, kek))
}

/// One step of a rotation of the key-encryption key to version `new_version`; the file may be open.
pub fn rewrap(
    path: &Path,
    old_kek: &Key256,
    new_kek: &Key256,
    new_version: u32,
    phase: RewrapPhase,
    random: &dyn Random,
) -> Result<(), VfsError> {
    with_header_file(path, true, |path, file, header| {
        let context = header.identity.wrap_context(new_version);
        let is_new = |slot: &Slot| match slot {
            Slot::Key { version, wrapped } => {
                *version == new_version && envelope::unwrap(new_kek, wrapped, &context).is_ok()
            }
            Slot::Empty | Slot::Damaged => false,
        };
        let new_at = header.slots.iter().position(is_new);
        match phase {
            RewrapPhase::AddNew if new_at.is_some() => Ok(()),
            RewrapPhase::AddNew => {
                let data_key = unlock_header(path, header, old_kek)?;
                let free = header.slots.iter().position(|slot| !matches!(slot, Slot::Key { .. }));
                let free = free.ok_or_else(|| VfsError::RotationPending { path: path.to_owned() })?;
                let wrapped = envelope::wrap(new_kek, &data_key, &context, nonce(random));
                write_slot(path, file, free, &Slot::Key { version: new_version, wrapped })
            }
            RewrapPhase::DropOld => {
                let kept = new_at.ok_or_else(|| VfsError::WrongKey { path: path.to_owned() })?;
                write_slot(path, file, 1 - kept, &Slot::Empty)
            }
        }
    })
}

/// Reads and decodes the header block of an open descriptor, and checks the file's length.
pub(super) fn read_header(path: &Path, file: &File) -> Result<Header, VfsError> {
    let found = file.metadata().map_err(io(path, "reading the length"))?.len();
    let mut block = [0; BLOCK_LENGTH];
    let there = BLOCK_LENGTH.min(found as usize);
    file.read_exact_at(&mut block[..there], 0).map_err(io(path, "reading the header block"))?;
    let looks_ours = Header::decode(&block) != Err(HeaderError::NotDstore) || there < 8;
    if found < FILE_LENGTH_MIN && looks_ours {
        return Err(VfsError::Truncated { path: path.to_owned(), expected: FILE_LENGTH_MIN, found });
    }
    Header::decode(&block).map_err(|error| match error {
        HeaderError::NotDstore => VfsError::NotDstore { path: path.to_owned() },
        HeaderError::Newer(found) => VfsError::NewerFormat { path: path.to_owned(), found, known: FORMAT_VERSION },
        HeaderError::Damaged(what) => VfsError::HeaderDamaged { path: path.to_owned(), what },
    })
}

/// The canonical form of a path, by which the registry knows files.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, VfsError> {
    path.canonicalize().map_err(io(path, "finding the file"))
}

/// Turns an operating system's error into ours.
pub(super) fn io<'path>(path: &'path Path, action: &'static str) -> impl Fn(std::io::Error) -> VfsError + 'path {
    move |source| VfsError::Io { path: path.to_owned(), action, source }
}

fn unlock_header(path: &Path, header: &Header, kek: &Key256) -> Result<Key256, VfsError> {
    let mut is_any_intact = false;
    for slot in &header.slots {
        if let Slot::Key { version, wrapped } = slot {
            is_any_intact = true;
            if let Ok(key) = envelope::unwrap(kek, wrapped, &header.identity.wrap_context(*version)) {
                return Ok(key);
            }
        }
    }
    if is_any_intact {
        Err(VfsError::WrongKey { path: path.to_owned() })
    } else {
        Err(VfsError::HeaderDamaged { path: path.to_owned(), what: "no key slot is intact" })
    }
}

fn with_header<R>(
    path: &Path,
    for_writing: bool,
    action: impl FnOnce(&Path, &Header) -> Result<R, VfsError>,
) -> Result<R, VfsError> {
    with_header_file(path, for_writing, |path, _, header| action(path, header))
}

/// Runs `action` on the header of a file, open or not, while nobody can open or close it.
fn with_header_file<R>(
    path: &Path,
    for_writing: bool,
    action: impl FnOnce(&Path, &File, &Header) -> Result<R, VfsError>,
) -> Result<R, VfsError> {
    let path = canonical(path)?;
    let shard = REGISTRY.shard(&path);
    if let Some(state) = shard.live(&path) {
        return action(&path, &state.header, &read_header(&path, &state.header)?);
    }
    let file = File::options().read(true).write(for_writing).open(&path).map_err(io(&path, "opening"))?;
    action(&path, &file, &read_header(&path, &file)?)
}

fn write_slot(path: &Path, file: &File, index: usize, slot: &Slot) -> Result<(), VfsError> {
    file.write_all_at(&slot.encode(), SLOT_OFFSETS[index] as u64).map_err(io(path, "writing a key slot"))?;
    file.sync_all().map_err(io(path, "syncing a key slot"))
}

/// Writes a file under another name, syncs it, gives it its name, and syncs the folder.
fn write_whole(path: &Path, image: &[u8]) -> Result<(), VfsError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let temporary = PathBuf::from(temporary);
    for leftover in [&temporary, Path::new(&log)] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(path, "removing leftovers")(error));
            }
            _ => {}
        }
    }
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io(path, "creating"))?;
    file.write_all(image).map_err(io(path, "writing"))?;
    file.sync_all().map_err(io(path, "syncing"))?;
    fs::rename(&temporary, path).map_err(io(path, "naming"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(path, "syncing the folder"))
}

fn nonce(random: &dyn Random) -> [u8; 12] {
    let mut nonce = [0; 12];
    random.fill(&mut nonce);
    nonce
}
