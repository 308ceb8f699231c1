//! A component's own keys on its own disk (`control.key`, `node.key`, `proxy.key`), and the key parts that it was
//! allowed to keep: in clear, or sealed under a passphrase.
//!
//! | file begins with | what it is |
//! |---|---|
//! | 64 hexadecimal digits | a key in clear, mode 0600; a line break may follow |
//! | `dStoreCK` | a key sealed under a passphrase ([`recovery`], the plaintext are its 32 bytes) |
//! | `dStoreKP` | key parts, always sealed ([`recovery`], [`kept_parts`]) |
//!
//! With a passphrase, whatever is found in clear is sealed where it lies: the sealed file is written and synced beside, and
//! takes the place of the clear one by renaming, so that a crash leaves the one or the other, never none. Then the
//! clear one's bytes are overwritten. That is the best a program can do and no promise: a copying file system, a
//! flash disk or a backup may still have them. Who wants more gives the passphrase at the first start.
//!
//! Without a passphrase nothing is ever unsealed: a sealed file is then an error that says what to give.
//!
//! # One derivation for a process
//! Argon2id takes a good tenth of a second, and a process may have several of these files. A [`Passphrase`] keeps
//! what it derived; the first file read (or the first dice) decides the salt, and files sealed later use the same. So
//! a start costs one derivation, unless files from several machines were put together.
//!
//! Rejected: sealing kept parts under the component's own key. The point of parts is that no one thing opens everything.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::private_files;
use crate::config;
use crate::crypto::Key256;
use crate::crypto::kept_parts::{self, KeptPart, KeptPartsError};
use crate::crypto::recovery::{self, Derivation, PassphraseKey, SealedFileError, SealedKind};
use crate::domain::Random;

const HOW_TO_GIVE_ONE: &str = "--passphrase-file FILE (of dstore control: --keys-passphrase-file FILE), the setting \
     keys.passphrase_file, or DSTORE__KEYS__PASSPHRASE in the environment";

/// Why a key was not had; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read a key.
    #[error("{} can be read by other users of this machine (mode {mode:o}): run chmod 600 on it", path.display())]
    OpenToOthers {
        /// Which.
        path: PathBuf,
        /// The file's mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} does not hold a key of 64 hexadecimal digits: restore it from a copy", .0.display())]
    NoKey(PathBuf),
    /// It is sealed, and no passphrase was given.
    #[error("{} is sealed under a passphrase, and none was given: use {HOW_TO_GIVE_ONE}", .0.display())]
    PassphraseMissing(PathBuf),
    /// It does not open.
    #[error("{} does not open: {source}. Give the passphrase that it was sealed under ({HOW_TO_GIVE_ONE}), or \
             restore the file from a copy", path.display())]
    Sealed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: SealedFileError,
    },
    /// What was sealed in it is not understood.
    #[error("{}: {source}", path.display())]
    Parts {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeptPartsError,
    },
    /// The passphrase cannot be used.
    #[error("{origin}: {source}; choose a longer one")]
    Passphrase {
        /// Where it came from.
        origin: String,
        /// Why.
        source: SealedFileError,
    },
}

/// The passphrase of this machine, and the keys that were derived from it.
pub struct Passphrase {
    text: Zeroizing<Vec<u8>>,
    derived: Mutex<Vec<Arc<PassphraseKey>>>,
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// The passphrase that the settings give, if any. The last line break of a file does not count.
    ///
    /// # Errors
    /// Where the file cannot be read, or the passphrase is too short.
    pub fn from_settings(settings: &config::Keys) -> Result<Option<Self>, KeyFileError> {
        if let Some(secret) = &settings.passphrase {
            return Self::new(secret.expose(), "DSTORE__KEYS__PASSPHRASE").map(Some);
        }
        let Some(path) = &settings.passphrase_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|source| KeyFileError::File { path: path.clone(), source })?;
        let text = Zeroizing::new(text);
        Self::new(text.trim_end_matches(['\n', '\r']), &path.display().to_string()).map(Some)
    }

    /// This passphrase; `origin` says where it came from.
    ///
    /// # Errors
    /// Where it is too short.
    pub fn new(text: &str, origin: &str) -> Result<Self, KeyFileError> {
        if text.len() < recovery::PASSPHRASE_BYTES_MIN {
            let source = SealedFileError::PassphraseTooShort;
            return Err(KeyFileError::Passphrase { origin: origin.to_owned(), source });
        }
        Ok(Self { text: Zeroizing::new(text.as_bytes().to_vec()), derived: Mutex::default() })
    }

    /// The key for this derivation; derived once.
    fn key(&self, derivation: Derivation) -> Result<Arc<PassphraseKey>, SealedFileError> {
        let mut derived = self.derived.lock();
        if let Some(known) = derived.iter().find(|known| known.derivation() == derivation) {
            return Ok(Arc::clone(known));
        }
        let key = Arc::new(PassphraseKey::derive(&self.text, derivation)?);
        derived.push(Arc::clone(&key));
        Ok(key)
    }

    fn seal(&self, kind: SealedKind, plaintext: &[u8], random: &dyn Random) -> Result<Vec<u8>, SealedFileError> {
        let first = self.derived.lock().first().cloned();
        let key = match first {
            Some(key) => key,
            None => self.key(Derivation::draw(random))?,
        };
        let mut nonce = [0; crate::crypto::cipher::NONCE_LENGTH];
        random.fill(&mut nonce);
        Ok(key.seal(kind, plaintext, &nonce))
    }

    fn open(&self, kind: SealedKind, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedFileError> {
        self.key(Derivation::of(kind, file)?)?.open(kind, file)
    }
}

/// Reads a component's own key, or makes it where there is none. One in clear is sealed if there is a passphrase.
///
/// # Errors
/// See [`KeyFileError`].
pub fn read_or_make_key(
    path: &Path,
    passphrase: Option<&Passphrase>,
    random: &dyn Random,
) -> Result<Key256, KeyFileError> {
    match read_key(path, passphrase, random) {
        Err(KeyFileError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let key = Key256::random(random);
            create_key(path, &key, passphrase, random)?;
            Ok(key)
        }
        read => read,
    }
}

/// Reads a component's own key. One in clear is sealed if there is a passphrase.
///
/// # Errors
/// See [`KeyFileError`]; `File` with `NotFound` where there is none.
pub fn read_key(path: &Path, passphrase: Option<&Passphrase>, random: &dyn Random) -> Result<Key256, KeyFileError> {
    let failed = |source| KeyFileError::File { path: path.to_owned(), source };
    let content = Zeroizing::new(std::fs::read(path).map_err(failed)?);
    if SealedKind::ComponentKey.is_of(&content) {
        let passphrase = passphrase.ok_or_else(|| KeyFileError::PassphraseMissing(path.to_owned()))?;
        let sealed = |source| KeyFileError::Sealed { path: path.to_owned(), source };
        let opened = passphrase.open(SealedKind::ComponentKey, &content).map_err(sealed)?;
        let bytes = opened.as_slice().try_into().map_err(|_| KeyFileError::NoKey(path.to_owned()))?;
        return Ok(Key256::new(bytes));
    }
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyFileError::OpenToOthers { path: path.to_owned(), mode: mode & 0o777 });
    }
    let key = parse_key(&content).ok_or_else(|| KeyFileError::NoKey(path.to_owned()))?;
    if let Some(passphrase) = passphrase {
        let clear = std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
        private_files::replace(path, &file_of(path, &key, Some(passphrase), random)?).map_err(failed)?;
        overwrite(&clear, content.len()).map_err(failed)?;
        tracing::info!(file = %path.display(), "the key was in clear and is sealed under the passphrase now");
    }
    Ok(key)
}

/// Writes a component's own key to a file that must not be there yet.
///
/// # Errors
/// `File` with `AlreadyExists`, and those of writing.
pub fn create_key(
    path: &Path,
    key: &Key256,
    passphrase: Option<&Passphrase>,
    random: &dyn Random,
) -> Result<(), KeyFileError> {
    let file = file_of(path, key, passphrase, random)?;
    private_files::create(path, &file, 0o600).map_err(|source| KeyFileError::File { path: path.to_owned(), source })
}

/// Reads a key in clear that a person made with a tool of their own; its mode is theirs.
///
/// # Errors
/// `File` and `NoKey`.
pub fn read_clear_key(path: &Path) -> Result<Key256, KeyFileError> {
    let content = std::fs::read(path).map_err(|source| KeyFileError::File { path: path.to_owned(), source })?;
    parse_key(&Zeroizing::new(content)).ok_or_else(|| KeyFileError::NoKey(path.to_owned()))
}

/// Keeps key parts for the next start, in place of those kept before.
///
/// # Errors
/// Those of writing.
pub fn keep_parts(
    path: &Path,
    parts: &[KeptPart],
    passphrase: &Passphrase,
    random: &dyn Random,
) -> Result<(), KeyFileError> {
    let sealed = passphrase.seal(SealedKind::KeyParts, &kept_parts::to_bytes(parts), random);
    let sealed = sealed.map_err(|source| KeyFileError::Sealed { path: path.to_owned(), source })?;
    private_files::replace(path, &sealed).map_err(|source| KeyFileError::File { path: path.to_owned(), source })
}

/// The key parts that were kept; `None` where none were.
///
/// # Errors
/// See [`KeyFileError`].
pub fn kept_parts(path: &Path, passphrase: Option<&Passphrase>) -> Result<Option<Vec<KeptPart>>, KeyFileError> {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyFileError::File { path: path.to_owned(), source }),
    };
    let passphrase = passphrase.ok_or_else(|| KeyFileError::PassphraseMissing(path.to_owned()))?;
    let opened = passphrase.open(SealedKind::KeyParts, &content);
    let opened = opened.map_err(|source| KeyFileError::Sealed { path: path.to_owned(), source })?;
    kept_parts::from_bytes(&opened).map(Some).map_err(|source| KeyFileError::Parts { path: path.to_owned(), source })
}

/// What the file of a key holds.
fn file_of(
    path: &Path,
    key: &Key256,
    passphrase: Option<&Passphrase>,
    random: &dyn Random,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let Some(passphrase) = passphrase else { return Ok(hex(key)) };
    let sealed = passphrase.seal(SealedKind::ComponentKey, key.expose(), random);
    sealed.map(Zeroizing::new).map_err(|source| KeyFileError::Sealed { path: path.to_owned(), source })
}

fn hex(key: &Key256) -> Zeroizing<Vec<u8>> {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let mut text = Zeroizing::new(Vec::with_capacity(65));
    text.extend(key.expose().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text.push(b'\n');
    text
}

fn parse_key(content: &[u8]) -> Option<Key256> {
    let digits = content.trim_ascii();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let half = |letter: u8| char::from(letter).to_digit(16);
        *byte = u8::try_from(half(pair[0])? * 16 + half(pair[1])?).ok()?;
    }
    Some(Key256::new(*bytes))
}

fn overwrite(clear: &std::fs::File, length: usize) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(clear, &vec![0; length], 0)?;
    clear.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::ambient;

    const WORDS: &str = "correct horse battery staple";

    fn passphrase() -> Passphrase {
        Passphrase::new(WORDS, "test").unwrap()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_in_clear_stays_itself_and_closed_to_others() {
        let (folder, random) = (tempfile::tempdir().unwrap(), ambient::random());
        let path = folder.path().join("plane/node.key");
        let key = read_or_make_key(&path, None, &*random).unwrap();
        assert_eq!(read_or_make_key(&path, None, &*random).unwrap(), key);
        assert_eq!((mode(&path), std::fs::read(&path).unwrap().len()), (0o600, 65));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let text = read_key(&path, None, &*random).unwrap_err().to_string();
        assert!(text.contains("mode 640") && text.contains("chmod 600"), "{text}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(read_or_make_key(&path, None, &*random), Err(KeyFileError::NoKey(_))), "{bad}");
        }
    }

    #[test]
    fn a_key_in_clear_is_sealed_where_it_lies() {
        let (folder, random) = (tempfile::tempdir().unwrap(), ambient::random());
        let path = folder.path().join("control.key");
        let key = read_or_make_key(&path, None, &*random).unwrap();
        let digits = std::fs::read_to_string(&path).unwrap();
        // Another name for the same bytes on disk shows what became of them.
        let bytes_on_disk = folder.path().join("other-name");
        std::fs::hard_link(&path, &bytes_on_disk).unwrap();
        assert_eq!(read_or_make_key(&path, Some(&passphrase()), &*random).unwrap(), key);
        let sealed = std::fs::read(&path).unwrap();
        assert!(sealed.starts_with(b"dStoreCK") && mode(&path) == 0o600);
        assert!(!sealed.windows(32).any(|window| window == key.expose() || window == &digits.as_bytes()[..32]));
        assert_eq!(std::fs::read(&bytes_on_disk).unwrap(), vec![0; 65], "the clear copy is gone");
        assert_eq!(read_or_make_key(&path, Some(&passphrase()), &*random).unwrap(), key);
        assert_eq!(std::fs::read(&path).unwrap(), sealed, "it is sealed once");
    }

    #[test]
    fn a_sealed_key_wants_its_passphrase_and_is_never_made_anew() {
        let (folder, random) = (tempfile::tempdir().unwrap(), ambient::random());
        let path = folder.path().join("proxy.key");
        read_or_make_key(&path, Some(&passphrase()), &*random).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(before.starts_with(b"dStoreCK"));
        let text = read_or_make_key(&path, None, &*random).unwrap_err().to_string();
        assert!(text.contains("--passphrase-file") && text.contains("DSTORE__KEYS__PASSPHRASE"), "{text}");
        let other = Passphrase::new("incorrect horse battery", "test").unwrap();
        let text = read_or_make_key(&path, Some(&other), &*random).unwrap_err().to_string();
        assert!(text.contains("passphrase is wrong") && text.contains("proxy.key"), "{text}");
        let mut changed = before.clone();
        changed[60] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let refused = read_or_make_key(&path, Some(&passphrase()), &*random);
        assert!(matches!(refused, Err(KeyFileError::Sealed { source: SealedFileError::NotOpened, .. })));
        assert_eq!(std::fs::read(&path).unwrap(), changed);
        assert!(create_key(&path, &Key256::random(&*random), None, &*random).is_err(), "never over another");
    }

    #[test]
    fn one_derivation_serves_all_files_of_a_process() {
        let (folder, random) = (tempfile::tempdir().unwrap(), ambient::random());
        let paths: Vec<PathBuf> = (0..3).map(|number| folder.path().join(format!("node-{number}/node.key"))).collect();
        let first = passphrase();
        for path in &paths {
            read_or_make_key(path, Some(&first), &*random).unwrap();
        }
        let second = passphrase();
        for path in &paths {
            read_or_make_key(path, Some(&second), &*random).unwrap();
        }
        keep_parts(&folder.path().join("parts"), &[], &second, &*random).unwrap();
        assert_eq!((first.derived.lock().len(), second.derived.lock().len()), (1, 1));
        let files: std::collections::HashSet<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert_eq!(files.len(), 3, "each has a nonce of its own");
    }

    #[test]
    fn kept_parts_come_back_and_rest_sealed() {
        let (folder, random) = (tempfile::tempdir().unwrap(), ambient::random());
        let path = folder.path().join("parts");
        assert_eq!(kept_parts(&path, None).unwrap(), None);
        let part = |version| KeptPart {
            owner: crate::domain::ambient::random_uuid(&*random),
            version,
            part: Key256::random(&*random),
        };
        let parts = vec![part(1), part(2)];
        keep_parts(&path, &parts, &passphrase(), &*random).unwrap();
        assert_eq!(kept_parts(&path, Some(&passphrase())).unwrap(), Some(parts.clone()));
        let file = std::fs::read(&path).unwrap();
        assert!(!file.windows(32).any(|window| window == parts[0].part.expose()) && mode(&path) == 0o600);
        assert!(matches!(kept_parts(&path, None), Err(KeyFileError::PassphraseMissing(_))));
        let key = folder.path().join("node.key");
        read_or_make_key(&key, Some(&passphrase()), &*random).unwrap();
        assert!(kept_parts(&key, Some(&passphrase())).is_err(), "a key is no list of parts");
    }

    #[test]
    fn passphrases_come_from_settings_and_do_not_print() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        let settings = |file: Option<PathBuf>| config::Keys { passphrase_file: file, passphrase: None };
        assert!(Passphrase::from_settings(&settings(None)).unwrap().is_none());
        std::fs::write(&path, format!("{WORDS}\n")).unwrap();
        let read = Passphrase::from_settings(&settings(Some(path.clone()))).unwrap().unwrap();
        assert_eq!(read.text.as_slice(), WORDS.as_bytes());
        assert!(!format!("{read:?}").contains("horse"));
        std::fs::write(&path, "short\n").unwrap();
        let text = Passphrase::from_settings(&settings(Some(path))).unwrap_err().to_string();
        assert!(text.contains("at least 12 bytes"), "{text}");
    }
}
