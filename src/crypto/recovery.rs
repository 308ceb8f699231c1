//! Bytes sealed under a passphrase: the recovery file of a control plane, a component's own key, and key parts that a
//! machine keeps for itself.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic: `dStoreRF` (recovery file), `dStoreCK` (component's own key) or `dStoreKP` (key parts) |
//! | 8 | 2 | format version, 1, big-endian as all numbers here |
//! | 10 | 2 | zero |
//! | 12 | 4 | argon2id: memory in KiB |
//! | 16 | 4 | argon2id: iterations |
//! | 20 | 4 | argon2id: lanes |
//! | 24 | 16 | salt |
//! | 40 | 12 | nonce |
//! | 52 | n | ciphertext |
//! | 52 + n | 16 | tag |
//!
//! The key is argon2id (RFC 9106, version 0x13) over the passphrase; the cipher AES-256-GCM-SIV, with
//! everything before the ciphertext as associated data. Costs stand in the file so that they can be raised
//! later; what is read is bounded, so that a forged file cannot ask for all of the memory. 64 MiB, 3 passes, 4 lanes is
//! the RFC's second recommended choice.
//!
//! That costs a good tenth of a second and is meant to. A process that has several files under one passphrase keeps
//! the [`PassphraseKey`] and seals all of them with it: one salt, a fresh nonce for each. The salt is there so that
//! two machines with the same passphrase have different keys, not two files of one machine.
//!
//! A wrong passphrase and a changed file are one error: nothing can tell them apart.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::Key256;
use super::cipher::{Aead, NONCE_LENGTH, TAG_LENGTH};

const FORMAT: u16 = 1;
const SALT_LENGTH: usize = 16;
const HEADER_LENGTH: usize = 52;
const MEMORY_KIB: u32 = 64 * 1024;
const ITERATIONS: u32 = 3;
const LANES: u32 = 4;
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const ITERATIONS_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// The shortest passphrase that is taken for sealing, in bytes.
pub const PASSPHRASE_BYTES_MIN: usize = 12;

/// What is sealed; another kind does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedKind {
    /// A control plane's recovery file.
    Recovery,
    /// A component's own key, 32 bytes.
    ComponentKey,
    /// Key parts kept by a machine for its own restart; see [`super::kept_parts`].
    KeyParts,
}

impl SealedKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            SealedKind::Recovery => b"dStoreRF",
            SealedKind::ComponentKey => b"dStoreCK",
            SealedKind::KeyParts => b"dStoreKP",
        }
    }

    /// Whether `file` begins as a sealed file of this kind does.
    pub fn is_of(self, file: &[u8]) -> bool {
        file.starts_with(self.magic())
    }
}

/// Fresh random bytes for one sealing.
pub struct Freshness {
    /// The salt.
    pub salt: [u8; SALT_LENGTH],
    /// The nonce.
    pub nonce: [u8; NONCE_LENGTH],
}

impl Freshness {
    /// Drawn from `random`.
    pub fn draw(random: &dyn crate::domain::Random) -> Self {
        let mut fresh = Self { salt: [0; SALT_LENGTH], nonce: [0; NONCE_LENGTH] };
        random.fill(&mut fresh.salt);
        random.fill(&mut fresh.nonce);
        fresh
    }
}

/// Why something was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedFileError {
    /// See [`PASSPHRASE_BYTES_MIN`].
    #[error("a passphrase has at least 12 bytes")]
    PassphraseTooShort,
    /// Not a file of this kind, or cut short.
    #[error("this is not a file of this kind, or it was cut short")]
    Foreign,
    /// Written by a newer program.
    #[error("this file was written by a newer dstore")]
    Newer,
    /// Asks for more memory or time than any file of ours.
    #[error("the costs in this file's header are out of bounds")]
    Costs,
    /// The passphrase is wrong, or the file was changed.
    #[error("the passphrase is wrong, or the file was changed")]
    NotOpened,
}

/// What argon2id was given beside the passphrase. It stands in clear at the head of every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derivation {
    costs: [u32; 3],
    salt: [u8; SALT_LENGTH],
}

impl Derivation {
    /// Today's costs, and a fresh salt.
    pub fn draw(random: &dyn crate::domain::Random) -> Self {
        let mut salt = [0; SALT_LENGTH];
        random.fill(&mut salt);
        Self { costs: [MEMORY_KIB, ITERATIONS, LANES], salt }
    }

    /// How the key of this file was derived.
    ///
    /// # Errors
    /// `Foreign`, `Newer` and `Costs`.
    pub fn of(kind: SealedKind, file: &[u8]) -> Result<Self, SealedFileError> {
        if file.len() < HEADER_LENGTH + TAG_LENGTH || !kind.is_of(file) {
            return Err(SealedFileError::Foreign);
        }
        if file[8..10] != FORMAT.to_be_bytes() || file[10..12] != [0, 0] {
            return Err(SealedFileError::Newer);
        }
        let number = |at: usize| u32::from_be_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
        let costs = [number(12), number(16), number(20)];
        if costs[0] > MEMORY_KIB_MAX || costs[1] > ITERATIONS_MAX || costs[2] > LANES_MAX {
            return Err(SealedFileError::Costs);
        }
        let mut salt = [0; SALT_LENGTH];
        salt.copy_from_slice(&file[24..40]);
        Ok(Self { costs, salt })
    }
}

/// The key that a passphrase gives: expensive to derive, cheap to use.
pub struct PassphraseKey {
    derivation: Derivation,
    key: Key256,
}

impl PassphraseKey {
    /// Derives it.
    ///
    /// # Errors
    /// `Costs` where argon2 does not take them.
    pub fn derive(passphrase: &[u8], derivation: Derivation) -> Result<Self, SealedFileError> {
        let [memory, iterations, lanes] = derivation.costs;
        let params = Params::new(memory, iterations, lanes, Some(32)).map_err(|_| SealedFileError::Costs)?;
        let mut key = Zeroizing::new([0u8; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &derivation.salt, key.as_mut_slice())
            .map_err(|_| SealedFileError::Costs)?;
        Ok(Self { derivation, key: Key256::new(*key) })
    }

    /// How it was derived.
    pub fn derivation(&self) -> Derivation {
        self.derivation
    }

    /// Seals `plaintext`. A nonce is used once.
    pub fn seal(&self, kind: SealedKind, plaintext: &[u8], nonce: &[u8; NONCE_LENGTH]) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEADER_LENGTH + plaintext.len() + TAG_LENGTH);
        file.extend_from_slice(kind.magic());
        file.extend_from_slice(&FORMAT.to_be_bytes());
        file.extend_from_slice(&[0, 0]);
        for cost in self.derivation.costs {
            file.extend_from_slice(&cost.to_be_bytes());
        }
        file.extend_from_slice(&self.derivation.salt);
        file.extend_from_slice(nonce);
        let mut sealed = Zeroizing::new(plaintext.to_vec());
        let tag = Aead::new(&self.key).seal_in_place(nonce, &file, &mut sealed);
        file.extend_from_slice(&sealed);
        file.extend_from_slice(&tag);
        file
    }

    /// Opens a file whose [`Derivation`] this key was derived by.
    ///
    /// # Errors
    /// See [`SealedFileError`].
    pub fn open(&self, kind: SealedKind, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedFileError> {
        if Derivation::of(kind, file)? != self.derivation {
            return Err(SealedFileError::NotOpened);
        }
        let (header, rest) = file.split_at(HEADER_LENGTH);
        let (ciphertext, tag) = rest.split_at(rest.len() - TAG_LENGTH);
        let nonce: [u8; NONCE_LENGTH] = header[40..].try_into().map_err(|_| SealedFileError::Foreign)?;
        let tag: [u8; TAG_LENGTH] = tag.try_into().map_err(|_| SealedFileError::Foreign)?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let opened = Aead::new(&self.key).open_in_place(&nonce, header, &mut plaintext, &tag);
        opened.map_err(|_| SealedFileError::NotOpened)?;
        Ok(plaintext)
    }
}

/// Seals `plaintext` under a passphrase.
///
/// # Errors
/// `PassphraseTooShort`.
pub fn seal(
    kind: SealedKind,
    passphrase: &[u8],
    plaintext: &[u8],
    fresh: &Freshness,
) -> Result<Vec<u8>, SealedFileError> {
    if passphrase.len() < PASSPHRASE_BYTES_MIN {
        return Err(SealedFileError::PassphraseTooShort);
    }
    let derivation = Derivation { costs: [MEMORY_KIB, ITERATIONS, LANES], salt: fresh.salt };
    Ok(PassphraseKey::derive(passphrase, derivation)?.seal(kind, plaintext, &fresh.nonce))
}

/// Opens what [`seal`] sealed.
///
/// # Errors
/// See [`SealedFileError`].
pub fn open(kind: SealedKind, passphrase: &[u8], file: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedFileError> {
    PassphraseKey::derive(passphrase, Derivation::of(kind, file)?)?.open(kind, file)
}

/// For the fuzzer: the head of any file is understood or refused, and costs that are taken are bounded. The head
/// of what is understood is what would be written again.
#[doc(hidden)]
pub fn fuzz_sealed_file(bytes: &[u8]) {
    for kind in [SealedKind::Recovery, SealedKind::ComponentKey, SealedKind::KeyParts] {
        let Ok(derivation) = Derivation::of(kind, bytes) else { continue };
        assert!(derivation.costs[0] <= MEMORY_KIB_MAX);
        let key = PassphraseKey { derivation, key: Key256::new([7; 32]) };
        assert_eq!(key.open(kind, bytes).err(), Some(SealedFileError::NotOpened));
        let nonce = [3; NONCE_LENGTH];
        let again = key.seal(kind, bytes, &nonce);
        assert_eq!(again[..40], bytes[..40]);
        assert_eq!(key.open(kind, &again).as_ref().map(|opened| opened.as_slice()), Ok(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &[u8] = b"correct horse battery staple";

    fn sealed() -> Vec<u8> {
        let fresh = Freshness { salt: [1; SALT_LENGTH], nonce: [2; NONCE_LENGTH] };
        seal(SealedKind::Recovery, PASSPHRASE, b"all the keys", &fresh).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_the_passphrase_only() {
        let file = sealed();
        assert_eq!(open(SealedKind::Recovery, PASSPHRASE, &file).unwrap().as_slice(), b"all the keys");
        assert_eq!(open(SealedKind::Recovery, b"incorrect horse", &file), Err(SealedFileError::NotOpened));
        assert_eq!(open(SealedKind::KeyParts, PASSPHRASE, &file), Err(SealedFileError::Foreign));
        let fresh = Freshness { salt: [1; SALT_LENGTH], nonce: [2; NONCE_LENGTH] };
        let short = seal(SealedKind::Recovery, b"hunter2", b"", &fresh);
        assert_eq!(short, Err(SealedFileError::PassphraseTooShort));
    }

    #[test]
    fn every_byte_is_held_by_the_tag_or_refused() {
        let file = sealed();
        // Argon2 takes its time: one byte of each field, and costs that stay cheap.
        for at in [0, 9, 11, 24, 39, 40, 51, 52, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(open(SealedKind::Recovery, PASSPHRASE, &changed).is_err(), "byte {at}");
        }
        for length in [0, 8, 51, 67] {
            assert_eq!(open(SealedKind::Recovery, PASSPHRASE, &file[..length]), Err(SealedFileError::Foreign));
        }
    }

    #[test]
    fn a_forged_header_cannot_ask_for_all_of_the_memory() {
        for at in [12, 16, 20] {
            let mut forged = sealed();
            forged[at] = 0xff;
            assert_eq!(open(SealedKind::Recovery, PASSPHRASE, &forged), Err(SealedFileError::Costs));
        }
    }
}
