//! AES-256-GCM-SIV (RFC 8452) behind functions without type parameters.
//!
//! The cipher's own crate is generic to the last round, so its code is made where it is used: in a
//! build without optimisation that is fifty times slower, and tests seal millions of pages. As a
//! package of its own this file is optimised in every profile while the rest of dStore compiles
//! fast. Everything else about sealing (nonces, labels, formats) is in `dstore::crypto`.

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use zeroize::Zeroize;

/// Length of a nonce in bytes.
pub const NONCE_LENGTH: usize = 12;
/// Length of an authentication tag in bytes.
pub const TAG_LENGTH: usize = 16;

/// What was opened is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch;

/// A key with its schedule expanded; wiped when dropped.
pub struct Cipher(Aes256GcmSiv);

impl Cipher {
    /// Expands the key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Aes256GcmSiv::new(key.into()))
    }

    /// Encrypts `buffer` where it lies and returns the tag over it and `associated`.
    ///
    /// # Panics
    /// Past 2^36 bytes (RFC 8452 section 6).
    pub fn seal(&self, nonce: &[u8; NONCE_LENGTH], associated: &[u8], buffer: &mut [u8]) -> [u8; TAG_LENGTH] {
        self.0
            .encrypt_inout_detached(&Nonce::from(*nonce), associated, buffer.into())
            .expect("a message of less than 64 GiB")
            .into()
    }

    /// Decrypts `buffer` where it lies if `tag` fits it and `associated`; otherwise zeroes it.
    ///
    /// # Errors
    /// Where the tag does not fit.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), Mismatch> {
        let opened =
            self.0.decrypt_inout_detached(&Nonce::from(*nonce), associated, (&mut *buffer).into(), &Tag::from(*tag));
        opened.map_err(|_| {
            buffer.zeroize();
            Mismatch
        })
    }
}
