//! Where an item lives: the hash of its ID, and intervals of hashes.
//!
//! The hash is Murmur3 x86 32-bit with seed 0 over the canonical bytes of the ID
//! ([`KeyValue::canonical_bytes`](super::key::KeyValue::canonical_bytes)): the UTF-8 bytes of a String, the
//! canonical decimal text of an Integer, the bytes of Bytes. Clients in any language can compute it, so
//! `tests/vectors/murmur3.json` pins it; changing anything here would strand every stored item.
//!
//! Intervals include both ends: the last one ends at 4,294,967,295, which an exclusive end in 32 bits could
//! not say.

/// The hash of an ID's canonical bytes.
pub fn hash_of(canonical: &[u8]) -> u32 {
    let mut bytes = canonical;
    murmur3::murmur3_32(&mut bytes, 0).expect("reading from memory does not fail")
}

/// The hashes from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct HashRange {
    /// The first hash.
    pub low: u32,
    /// The last hash. Not below `low`.
    pub high: u32,
}

impl HashRange {
    /// All hashes.
    pub const FULL: HashRange = HashRange { low: 0, high: u32::MAX };

    /// The hashes from `low` to `high`; none where `low` is above `high`.
    pub fn new(low: u32, high: u32) -> Option<Self> {
        (low <= high).then_some(Self { low, high })
    }

    /// Whether `hash` lies in it.
    pub fn contains(&self, hash: u32) -> bool {
        self.low <= hash && hash <= self.high
    }

    /// How many hashes it has: 1 to 2³²; 0 where `low` is above `high`.
    pub fn count(&self) -> u64 {
        (u64::from(self.high) + 1).saturating_sub(u64::from(self.low))
    }

    /// Cuts it into `parts` neighbours whose sizes differ by one at most. Fewer where it has fewer hashes;
    /// one where 0 are asked for.
    pub fn split(&self, parts: u32) -> Vec<HashRange> {
        let parts = u64::from(parts).clamp(1, self.count().max(1));
        let edge = |index: u64| u64::from(self.low) + self.count() * index / parts;
        (0..parts)
            .map(|index| HashRange { low: edge(index) as u32, high: (edge(index + 1).saturating_sub(1)) as u32 })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::{KeyType, KeyValue};
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Vector {
        #[serde(rename = "type")]
        key_type: KeyType,
        text: String,
        canonical_hex: String,
        hash: u32,
    }

    #[test]
    fn hashes_are_those_of_the_vectors() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/vectors/murmur3.json")).expect("the vectors are JSON");
        assert!(vectors.len() >= 12);
        for vector in vectors {
            let key = KeyValue::parse(vector.key_type, &vector.text, usize::MAX).expect("a key");
            let bytes = key.canonical_bytes();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, vector.canonical_hex, "{}", vector.text);
            assert_eq!(hash_of(&bytes), vector.hash, "{}", vector.text);
        }
    }

    /// Published values of MurmurHash3_x86_32, independent of the crate.
    #[test]
    fn the_hash_is_murmur3_of_32_bits() {
        assert_eq!(hash_of(b""), 0);
        assert_eq!(hash_of(b"test"), 0xba6b_d213);
        assert_eq!(hash_of(b"Hello, world!"), 0xc036_3e43);
        assert_eq!(hash_of(b"The quick brown fox jumps over the lazy dog"), 0x2e4f_f723);
    }

    proptest! {
        #[test]
        fn parts_cover_the_whole_without_overlap(low: u32, high: u32, parts in 0u32..2000, probe: u32) {
            let range = HashRange::new(low.min(high), low.max(high)).unwrap();
            let split = range.split(parts);
            prop_assert_eq!(split.len() as u64, u64::from(parts).clamp(1, range.count()));
            prop_assert_eq!(split[0].low, range.low);
            prop_assert_eq!(split[split.len() - 1].high, range.high);
            prop_assert!(split.windows(2).all(|pair| pair[0].high + 1 == pair[1].low));
            let sizes: Vec<u64> = split.iter().map(HashRange::count).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            let holders = split.iter().filter(|part| part.contains(probe)).count();
            prop_assert_eq!(holders, usize::from(range.contains(probe)));
        }
    }
}
