//! Hashes of IDs, and intervals of them. The hash is Murmur3 x86 32-bit with seed 0 over the
//! canonical bytes of the ID; vectors in `tests/vectors/murmur3.json` pin it for other languages.

/// The hash of an ID's canonical bytes.
pub fn hash_of(canonical: &[u8]) -> u32 {
    // Reading from a slice cannot fail.
    murmur3::murmur3_32(&mut std::io::Cursor::new(canonical), 0).unwrap_or_default()
}

/// An interval of hashes, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct HashRange {
    /// The first hash.
    pub low: u32,
    /// The last hash.
    pub high: u32,
}

impl HashRange {
    /// All hashes.
    pub const FULL: HashRange = HashRange { low: 0, high: u32::MAX };

    /// Whether the hash lies in the interval.
    pub fn contains(&self, hash: u32) -> bool {
        (self.low..=self.high).contains(&hash)
    }
}
