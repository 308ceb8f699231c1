//! Floor 1: ciphers, key derivation and the formats of what is sealed. Pure: nonces and random
//! keys are handed in.

pub mod secret;

pub use secret::Key256;
