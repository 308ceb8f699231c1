//! The key of a spool: made with it, and kept beside the files, wrapped under the component's key. So when the component's key is
//! rotated 93 bytes are written anew, and no batch.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `dStUseKy` |
//! | 8 | 1 | version: 1 |
//! | 9 | 16 | the spool's UUID |
//! | 25 | 4 | version of the component's key, little-endian |
//! | 29 | 60 | the key, wrapped as [`crate::crypto::envelope`] says |
//! | 89 | 4 | CRC-32C of all before, little-endian |

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::crypto::Key256;
use crate::crypto::envelope::{WRAPPED_KEY_LENGTH, WrapContext, WrappedKey, unwrap, wrap};
use crate::domain::Random;
use crate::domain::ambient::random_uuid;
use crate::domain::ids::PlaneId;
use crate::storage::keys::{FileKeys, KeyOwner};

const MAGIC: &[u8; 9] = b"dStUseKy\x01";
const LENGTH: usize = 93;
const LABEL: &[u8] = b"usage";

/// Whose keys wrap the spool's.
#[derive(Clone)]
pub struct KeyContext {
    /// The control plane.
    pub plane: PlaneId,
    /// The component.
    pub component: Uuid,
    /// Its keys.
    pub keys: Arc<dyn FileKeys>,
    /// Dice.
    pub random: Arc<dyn Random>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written, or the component has no key now; that may pass.
    #[error("{0}")]
    Later(String),
    /// What is in the file will never be a key here.
    #[error("{0}")]
    Lost(&'static str),
}

impl From<std::io::Error> for KeyError {
    fn from(error: std::io::Error) -> Self {
        KeyError::Later(error.to_string())
    }
}

/// See the module's essay.
pub struct SpoolKey {
    path: PathBuf,
    context: KeyContext,
    spool: Uuid,
    key: Key256,
    /// The version of the component's key that wraps it.
    wrapped_by: Option<u32>,
}

impl SpoolKey {
    /// The key in this file, or a new one where there is none. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open_or_make(path: PathBuf, context: KeyContext) -> Result<Self, KeyError> {
        let file = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (spool, key) = (random_uuid(&*context.random), Key256::random(&*context.random));
                let mut made = Self { path, context, spool, key, wrapped_by: None };
                made.wrap_anew()?;
                return Ok(made);
            }
            file => file?,
        };
        let (content, checksum) = file.split_last_chunk::<4>().ok_or(KeyError::Lost("its key file is too short"))?;
        let is_whole = file.len() == LENGTH && crc32c::crc32c(content) == u32::from_le_bytes(*checksum);
        let body = content.strip_prefix(MAGIC).filter(|_| is_whole).ok_or(KeyError::Lost("its key file is damaged"))?;
        let (spool, rest) = body.split_first_chunk::<16>().ok_or(KeyError::Lost("its key file is damaged"))?;
        let (version, wrapped) = rest.split_first_chunk::<4>().ok_or(KeyError::Lost("its key file is damaged"))?;
        let wrapped: [u8; WRAPPED_KEY_LENGTH] =
            wrapped.try_into().map_err(|_| KeyError::Lost("its key file is damaged"))?;
        let (spool, version) = (Uuid::from_bytes(*spool), u32::from_le_bytes(*version));
        let another = KeyError::Lost("its key is under another key than this component has");
        // All versions that there are were handed out before a component starts.
        let Ok(own) = context.keys.of_version(KeyOwner::Node, version) else { return Err(another) };
        match unwrap(&own, &WrappedKey(wrapped), &wrap_context(&context, spool, version)) {
            Ok(key) => Ok(Self { path, context, spool, key, wrapped_by: Some(version) }),
            Err(_) => Err(another),
        }
    }

    /// Has the newest version of the component's key wrap it. Costs nothing where it does. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyError::Later`]; what is on the disk stays good.
    pub fn wrap_anew(&mut self) -> Result<(), KeyError> {
        let newest = self.context.keys.newest(KeyOwner::Node).map_err(|error| KeyError::Later(error.to_string()))?;
        if self.wrapped_by == Some(newest.version) {
            return Ok(());
        }
        let context = wrap_context(&self.context, self.spool, newest.version);
        let wrapped = wrap(&newest.key, &self.key, &context, self.nonce());
        let mut file = MAGIC.to_vec();
        file.extend(self.spool.as_bytes());
        file.extend(newest.version.to_le_bytes());
        file.extend(wrapped.0);
        file.extend(crc32c::crc32c(&file).to_le_bytes());
        replace(&self.path, &file)?;
        self.wrapped_by = Some(newest.version);
        Ok(())
    }

    /// What seals frames.
    pub fn data_key(&self) -> &Key256 {
        &self.key
    }

    /// Names the place of a frame.
    pub fn label(&self, number: u64, at: u64) -> Vec<u8> {
        [LABEL, self.spool.as_bytes(), &number.to_be_bytes(), &at.to_be_bytes()].concat()
    }

    /// A fresh nonce.
    pub fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        self.context.random.fill(&mut nonce);
        nonce
    }
}

fn wrap_context(context: &KeyContext, spool: Uuid, version: u32) -> WrapContext {
    WrapContext { plane: context.plane, node: context.component, tenant: None, table: None, file: spool, version }
}

/// Writes a file in place of the one before: beside, synced, renamed.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder(path)
}

/// Makes the names in the folder of this file durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
