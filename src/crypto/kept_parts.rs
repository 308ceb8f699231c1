//! Key parts that a machine was handed by control and keeps for its own restart, as bytes: what a file of the kind
//! [`KeyParts`](super::recovery::SealedKind::KeyParts) holds once it was opened.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 4 | number of parts, big-endian as all numbers here |
//! | 5 + 52 n | 16 | the n-th part: UUID of its owner, a node, a proxy, a reporter or a tenant |
//! | 21 + 52 n | 4 | its version, from 1 |
//! | 25 + 52 n | 32 | the part |
//!
//! There is no checksum: the bytes only ever rest sealed, and the tag holds all of them. What is
//! deliberately absent is a form in clear: a part of control's in clear beside the machine's own key is a thief's whole key.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::Key256;

const FORMAT: u8 = 1;
const HEAD_LENGTH: usize = 5;
const PART_LENGTH: usize = 52;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPart {
    /// Whose key it belongs to: a node, a proxy, a reporter or a tenant.
    pub owner: Uuid,
    /// Its version, from 1.
    pub version: u32,
    /// The part.
    pub part: Key256,
}

/// The bytes are not what this program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeptPartsError {
    /// Written by a newer program.
    #[error("these key parts were kept by a newer dstore")]
    Newer,
    /// Not a list of key parts.
    #[error("this is not a list of key parts")]
    Malformed,
}

/// The bytes of these parts.
pub fn to_bytes(parts: &[KeptPart]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD_LENGTH + parts.len() * PART_LENGTH));
    bytes.push(FORMAT);
    bytes.extend_from_slice(&u32::try_from(parts.len()).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(part.owner.as_bytes());
        bytes.extend_from_slice(&part.version.to_be_bytes());
        bytes.extend_from_slice(part.part.expose());
    }
    bytes
}

/// The parts in these bytes.
///
/// # Errors
/// See [`KeptPartsError`].
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<KeptPart>, KeptPartsError> {
    let (&[format, a, b, c, d], rest) = bytes.split_first_chunk::<HEAD_LENGTH>().ok_or(KeptPartsError::Malformed)?;
    if format > FORMAT {
        return Err(KeptPartsError::Newer);
    }
    if format != FORMAT || (u32::from_be_bytes([a, b, c, d]) as usize).checked_mul(PART_LENGTH) != Some(rest.len()) {
        return Err(KeptPartsError::Malformed);
    }
    let part = |bytes: &[u8]| {
        let (owner, bytes) = bytes.split_first_chunk::<16>()?;
        let (version, part) = bytes.split_first_chunk::<4>()?;
        let part = Key256::new(part.try_into().ok()?);
        Some(KeptPart { owner: Uuid::from_bytes(*owner), version: u32::from_be_bytes(*version), part })
    };
    rest.chunks(PART_LENGTH).map(part).collect::<Option<Vec<_>>>().ok_or(KeptPartsError::Malformed)
}

/// For the fuzzer: any bytes are understood or refused, and what is understood is written as it was read.
#[doc(hidden)]
pub fn fuzz_kept_parts(bytes: &[u8]) {
    if let Ok(parts) = from_bytes(bytes) {
        assert_eq!(to_bytes(&parts).as_slice(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_parts_stay_the_same_bytes() {
        let part = KeptPart { owner: Uuid::from_bytes([1; 16]), version: 2, part: Key256::new([3; 32]) };
        let mut expected = vec![1, 0, 0, 0, 1];
        expected.extend([1; 16]);
        expected.extend([0, 0, 0, 2]);
        expected.extend([3; 32]);
        assert_eq!(to_bytes(std::slice::from_ref(&part)).as_slice(), expected);
        assert_eq!(from_bytes(&expected), Ok(vec![part]));
        for length in [0, 4, 5, 56] {
            assert_eq!(from_bytes(&expected[..length]), Err(KeptPartsError::Malformed), "{length}");
        }
        expected[0] = 2;
        assert_eq!(from_bytes(&expected), Err(KeptPartsError::Newer));
    }

    proptest! {
        #[test]
        fn parts_come_back(parts in proptest::collection::vec((any::<[u8; 16]>(), any::<u32>(), any::<[u8; 32]>()), 0..9)) {
            let kept = |(owner, version, part): ([u8; 16], u32, [u8; 32])| {
                KeptPart { owner: Uuid::from_bytes(owner), version, part: Key256::new(part) }
            };
            let parts: Vec<KeptPart> = parts.into_iter().map(kept).collect();
            prop_assert_eq!(from_bytes(&to_bytes(&parts)), Ok(parts));
        }

        #[test]
        fn any_bytes_are_understood_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_kept_parts(&bytes);
        }
    }
}
