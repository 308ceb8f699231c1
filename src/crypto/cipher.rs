//! AES-256-GCM-SIV (RFC 8452) and the nonces it takes: the one cipher with which everything that
//! rests on a disk is sealed, be it a page, a log record, a wrapped key or a single secret.
//!
//! **Why this cipher.** Nonces are random, 96 bits long. With plain GCM one repeated nonce gives
//! away the authentication key; here it only tells that two messages with the same nonce were
//! equal. RFC 8452 section 9 allows far more messages of a page's size under one key than a file ever
//! sees, and every file and log segment has a key of its own.
//!
//! **Why a buffer of nonces.** Twelve bytes from the system's random source cost 364 ns, a sixth of
//! sealing a page. [`NonceSource`] asks for 4 KiB at a time. A counter was rejected: it would have
//! to survive crashes, copies and restored backups of the file.
//!
//! What the next author must keep: a buffer that does not open is wiped before the error returns,
//! so that nobody can use bytes that were not authenticated; [`Aead`] has no `Debug`; nonces leave
//! the buffer once and are wiped behind.

use std::sync::Arc;

use dstore_cipher::Cipher;
pub use dstore_cipher::{NONCE_LENGTH, TAG_LENGTH};
use parking_lot::Mutex;
use zeroize::{Zeroize, Zeroizing};

use super::Key256;
use crate::domain::Random;

/// What was opened is not what was sealed: another key, other associated data, or changed bytes.
/// The cipher cannot tell these apart; whoever opens knows what it was and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the authentication tag does not match")]
pub struct TagMismatch;

/// AES-256-GCM-SIV with its key schedule expanded. Cheap to share, wiped when dropped.
pub struct Aead(Cipher);

impl Aead {
    /// Expands the key.
    pub fn new(key: &Key256) -> Self {
        Self(Cipher::new(key.expose()))
    }

    /// Encrypts `buffer` where it lies and returns the tag over it and `aad`.
    ///
    /// # Panics
    /// Past 2^36 bytes (RFC 8452 section 6), which no caller comes near: every format has a limit
    /// of some megabytes.
    pub fn seal_in_place(&self, nonce: &[u8; NONCE_LENGTH], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_LENGTH] {
        self.0.seal(nonce, aad, buffer)
    }

    /// Decrypts `buffer` where it lies if `tag` fits it and `aad`; otherwise zeroes it.
    pub fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), TagMismatch> {
        self.0.open(nonce, aad, buffer, tag).map_err(|_| TagMismatch)
    }
}

/// Nonces that one [`Random`] is asked for in one go: 4,092 bytes.
const NONCES_PER_FILL: usize = 341;

/// Gives fresh random nonces, drawn from a buffer. Shared between threads; a lock costs a
/// hundredth of what is then sealed.
pub struct NonceSource {
    random: Arc<dyn Random>,
    buffer: Mutex<NonceBuffer>,
}

struct NonceBuffer {
    bytes: Zeroizing<Vec<u8>>,
    /// Bytes already handed out; equal to the length when the buffer is used up.
    used: usize,
}

impl NonceSource {
    /// A source that has drawn nothing yet.
    pub fn new(random: Arc<dyn Random>) -> Self {
        let length = NONCES_PER_FILL * NONCE_LENGTH;
        Self { random, buffer: Mutex::new(NonceBuffer { bytes: Zeroizing::new(vec![0; length]), used: length }) }
    }

    /// A nonce that was never handed out before.
    pub fn next(&self) -> [u8; NONCE_LENGTH] {
        let mut guard = self.buffer.lock();
        let buffer = &mut *guard;
        if buffer.used == buffer.bytes.len() {
            self.random.fill(&mut buffer.bytes);
            buffer.used = 0;
        }
        let mut nonce = [0; NONCE_LENGTH];
        let drawn = &mut buffer.bytes[buffer.used..buffer.used + NONCE_LENGTH];
        nonce.copy_from_slice(drawn);
        drawn.zeroize();
        buffer.used += NONCE_LENGTH;
        nonce
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// The system's random source, counted.
    #[derive(Default)]
    pub(crate) struct SystemRandom {
        pub(crate) fills: AtomicUsize,
    }

    impl Random for SystemRandom {
        fn fill(&self, buffer: &mut [u8]) {
            self.fills.fetch_add(1, Ordering::Relaxed);
            getrandom::fill(buffer).expect("the system has a random source");
        }
    }

    pub(crate) fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn key(bytes: &[u8]) -> Key256 {
        Key256::new(bytes.try_into().unwrap())
    }

    /// RFC 8452 appendix C.2 (all 24) and C.3 (counter wrap), in a language-neutral file.
    #[test]
    fn vectors_of_rfc_8452() {
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/vectors/aes_256_gcm_siv.json")).unwrap();
        assert_eq!(vectors.len(), 26);
        for vector in vectors {
            let field = |name: &str| unhex(vector[name].as_str().unwrap());
            let aead = Aead::new(&key(&field("key")));
            let nonce: [u8; 12] = field("nonce").try_into().unwrap();
            let mut buffer = field("plaintext");
            let tag = aead.seal_in_place(&nonce, &field("aad"), &mut buffer);
            let sealed = [&buffer[..], &tag[..]].concat();
            assert_eq!(sealed, field("ciphertext"), "{vector}");
            aead.open_in_place(&nonce, &field("aad"), &mut buffer, &tag).unwrap();
            assert_eq!(buffer, field("plaintext"));
        }
    }

    #[test]
    fn a_million_nonces_never_repeat_and_cost_few_calls() {
        let random = Arc::new(SystemRandom::default());
        let source = NonceSource::new(random.clone());
        let mut seen = HashSet::with_capacity(1_000_000);
        for _ in 0..1_000_000 {
            assert!(seen.insert(source.next()), "a nonce came twice");
        }
        assert_eq!(random.fills.load(Ordering::Relaxed), 1_000_000usize.div_ceil(NONCES_PER_FILL));
    }

    #[test]
    fn threads_never_share_a_nonce() {
        let source = NonceSource::new(Arc::new(SystemRandom::default()));
        let drawn: Vec<[u8; 12]> = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..5_000).map(|_| source.next()).collect::<Vec<_>>())).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 20_000);
    }

    proptest! {
        #[test]
        fn any_change_is_noticed_and_wiped(
            plain in prop::collection::vec(any::<u8>(), 1..300),
            aad in prop::collection::vec(any::<u8>(), 0..40),
            nonce: [u8; 12],
            position: prop::sample::Index,
            flip in 1u8..,
        ) {
            let aead = Aead::new(&key(&[7; 32]));
            let mut sealed = plain.clone();
            let tag = aead.seal_in_place(&nonce, &aad, &mut sealed);
            let mut changed = sealed.clone();
            changed[position.index(plain.len())] ^= flip;
            prop_assert_eq!(aead.open_in_place(&nonce, &aad, &mut changed, &tag), Err(TagMismatch));
            prop_assert!(changed.iter().all(|byte| *byte == 0));
            prop_assert_eq!(aead.open_in_place(&nonce, &[&aad[..], b"x"].concat(), &mut sealed.clone(), &tag), Err(TagMismatch));
            aead.open_in_place(&nonce, &aad, &mut sealed, &tag).unwrap();
            prop_assert_eq!(sealed, plain);
        }
    }
}
