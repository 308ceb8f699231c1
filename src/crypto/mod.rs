//! Floor 1: ciphers, key derivation and the formats of what is sealed. Pure: nonces and random
//! keys are handed in.
//!
//! | module | what |
//! |---|---|
//! | [`secret`] | 256-bit keys that wipe themselves |
//! | [`cipher`] | AES-256-GCM-SIV, and where nonces come from |
//! | [`hierarchy`] | parts of several components → key-encryption key |
//! | [`envelope`] | data keys wrapped under key-encryption keys, single secrets sealed |
//! | [`page`] | one page of a SQLite file, sealed |
//! | [`token`] | bearer tokens as JWE |
//! | [`cursor`] | where a listing goes on, sealed |
//! | [`recovery`] | files sealed under a passphrase |
//! | [`kept_parts`] | key parts that a machine keeps in such a file |

pub mod cipher;
pub mod cursor;
pub mod envelope;
pub mod hierarchy;
pub mod kept_parts;
pub mod page;
pub mod recovery;
pub mod secret;
pub mod token;

pub use cipher::{Aead, NonceSource};
pub use secret::Key256;
