//! Cursors: where the next page of a listing starts, in a form that clients hand back and can
//! neither read nor change. AES-256-GCM-SIV (RFC 8452), base64url without padding.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 12 | nonce, random |
//! | n | ciphertext of the position: a packed key, or a name |
//! | 16 | tag |
//!
//! The associated data is the format byte and a digest of what was listed: tenant, table and
//! query. A cursor handed to another listing does not open, and neither does one of a table that was
//! deleted and made again, because tables have ids that never return.
//!
//! The key is derived from a token key (HKDF-SHA-256, a label of its own), which all proxies and
//! nodes of a cluster share already: a cursor given out by one is good at each. Rotating the token
//! key ends old cursors as it ends old tokens. GCM-SIV because a listing makes one cursor a page,
//! without limit, and repeating a nonce must cost nothing worse than equal bytes for equal input.
//!
//! Rejected: the plain key in base64, because cursors end in logs and bug reports, and keys are data;
//! cursors kept at the server, because a proxy holds no state.

use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use super::secret::Key256;

/// The nonce of AES-GCM-SIV, in bytes.
pub const NONCE_BYTES: usize = 12;
/// Cursors longer than this are not looked at, in bytes of text. A packed key is below 7 KB.
pub const CURSOR_BYTES_MAX: usize = 12 * 1024;
const FORMAT: u8 = 1;
const TAG_BYTES: usize = 16;
const LABEL: &[u8] = b"dstore cursor key 1";

/// The cursor was not given out for this listing, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this cursor was not given out for this listing; start again without a cursor")]
pub struct CursorError;

/// What a cursor is bound to: the digest of everything that chooses and orders what is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding([u8; 32]);

impl Binding {
    /// A binding to these fields. Each is preceded by its length, so that fields cannot run together.
    pub fn new(fields: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for field in fields {
            digest.update((field.len() as u64).to_be_bytes());
            digest.update(field);
        }
        Self(digest.finalize().into())
    }

    fn associated(&self) -> [u8; 33] {
        let mut associated = [FORMAT; 33];
        associated[1..].copy_from_slice(&self.0);
        associated
    }
}

/// Derives the key for cursors from a token key.
pub fn derive_key(token_key: &Key256) -> Key256 {
    let mut bytes = [0u8; 32];
    Hkdf::<Sha256>::new(None, token_key.expose())
        .expand(LABEL, &mut bytes)
        .expect("HKDF-SHA-256 gives up to 8160 bytes");
    Key256::new(bytes)
}

/// Seals `position` for the listing that `binding` stands for.
pub fn seal(key: &Key256, binding: &Binding, position: &[u8], nonce: [u8; NONCE_BYTES]) -> String {
    let sealed = Aes256GcmSiv::new(key.expose().into())
        .encrypt(&nonce.into(), Payload { msg: position, aad: &binding.associated() })
        .expect("AES-GCM-SIV seals anything shorter than 64 GiB");
    let mut bytes = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Opens a cursor under the first of `keys` that fits: the current one, then those before it.
///
/// # Errors
/// One error for everything: what was wrong with a changed cursor helps only who changed it.
pub fn open<'a>(
    keys: impl IntoIterator<Item = &'a Key256>,
    binding: &Binding,
    cursor: &str,
) -> Result<Vec<u8>, CursorError> {
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(CursorError);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| CursorError)?;
    let (format, rest) = bytes.split_first().ok_or(CursorError)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(CursorError)?;
    if *format != FORMAT || sealed.len() < TAG_BYTES {
        return Err(CursorError);
    }
    let associated = binding.associated();
    keys.into_iter()
        .find_map(|key| {
            let cipher = Aes256GcmSiv::new(key.expose().into());
            cipher.decrypt(&(*nonce).into(), Payload { msg: sealed, aad: &associated }).ok()
        })
        .ok_or(CursorError)
}

/// For the fuzzer: any text opens or is refused, never panics.
#[doc(hidden)]
pub fn fuzz_cursor_open(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = open([&Key256::new([7; 32])], &Binding::new(&[b"fuzz"]), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> Key256 {
        derive_key(&Key256::new([byte; 32]))
    }

    /// Pins label and derivation: proxies of two versions must understand each other's cursors.
    #[test]
    fn a_known_cursor_stays_the_same() {
        let cursor = seal(&key(1), &Binding::new(&[b"tenant", b"table"]), b"position", [2; 12]);
        assert_eq!(cursor, "AQICAgICAgICAgICAlfWCH1nlad0L5tR-ieREyy39t2UBy_0WA");
    }

    #[test]
    fn keys_before_the_current_one_still_open() {
        let binding = Binding::new(&[b"a"]);
        let cursor = seal(&key(1), &binding, b"x", [0; 12]);
        assert_eq!(open([&key(2), &key(1)], &binding, &cursor), Ok(b"x".to_vec()));
        assert_eq!(open([&key(2), &key(3)], &binding, &cursor), Err(CursorError));
        assert_eq!(open([], &binding, &cursor), Err(CursorError));
    }

    #[test]
    fn another_listing_does_not_open_it() {
        let cursor = seal(&key(1), &Binding::new(&[b"ab", b"c"]), b"x", [0; 12]);
        assert_eq!(open([&key(1)], &Binding::new(&[b"a", b"bc"]), &cursor), Err(CursorError));
        assert_eq!(open([&key(1)], &Binding::new(&[b"ab"]), &cursor), Err(CursorError));
    }

    #[test]
    fn the_cursor_key_is_not_the_token_key() {
        assert_ne!(key(1), Key256::new([1; 32]));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_equal(position: Vec<u8>, field: Vec<u8>, nonce: [u8; 12]) {
            let binding = Binding::new(&[&field]);
            let cursor = seal(&key(1), &binding, &position, nonce);
            prop_assert_eq!(open([&key(1)], &binding, &cursor), Ok(position));
        }

        #[test]
        fn a_changed_character_never_opens(place in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
            let binding = Binding::new(&[b"a"]);
            let cursor = seal(&key(1), &binding, b"some position", [9; 12]);
            let place = place.index(cursor.len());
            let mut changed = cursor.clone();
            changed.replace_range(place..place + 1, &with);
            prop_assume!(changed != cursor);
            prop_assert_eq!(open([&key(1)], &binding, &changed), Err(CursorError));
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            fuzz_cursor_open(&bytes);
        }
    }
}
