//! From the keys of several components to the one key that wraps data keys.
//!
//! No single component can open a tenant's data. Each holds a random, independent part; only where
//! they meet, in the memory of a running node, are they combined:
//!
//! ```text
//! key-encryption key = HKDF-SHA-256(ikm = part 1 XOR part 2 XOR …, no salt, info = label)   32 bytes
//! ```
//!
//! | kind | parts, in any order | label |
//! |---|---|---|
//! | node database | node key, the node's key at the control plane | `dstore/kek/v1/node-database` |
//! | tenant | node key, the tenant's key at the node, the tenant's key at the control plane | `dstore/kek/v1/tenant` |
//! | proxy | proxy key, the proxy's key at the control plane | `dstore/kek/v1/proxy` |
//! | reporting | reporting key, its key at the control plane | `dstore/kek/v1/reporting` |
//! | control | control key | `dstore/kek/v1/control` |
//!
//! XOR of independent random parts is as strong as the strongest part that a thief lacks. What
//! would break it is refused: a part that is zero (never set), two parts that are equal (they
//! cancel each other), and a result of zero. HKDF (RFC 5869) with a label keeps kinds apart, so that the
//! same parts never give the same key for two purposes; without the combined value being used
//! directly, a part can be rotated by rewrapping a few bytes (see [`super::envelope`]).
//!
//! What the next author must keep: a new kind gets a new label and a known answer in the tests,
//! calculated by something other than this code; labels that were ever used do not change.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Key256;

/// Label of the key for a node's internal database.
pub const LABEL_NODE_DATABASE: &[u8] = b"dstore/kek/v1/node-database";
/// Label of the key for a tenant's files and log records at one node.
pub const LABEL_TENANT: &[u8] = b"dstore/kek/v1/tenant";
/// Label of the key for what a proxy keeps on disk.
pub const LABEL_PROXY: &[u8] = b"dstore/kek/v1/proxy";
/// Label of the key for a reporter's spool.
pub const LABEL_REPORTING: &[u8] = b"dstore/kek/v1/reporting";
/// Label of the key for the control plane's own secrets in the coordinator.
pub const LABEL_CONTROL: &[u8] = b"dstore/kek/v1/control";

/// The kinds of key-encryption keys: whose parts go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Node key, the node's key at the control plane.
    NodeDatabase,
    /// Node key, the tenant's key at the node, the tenant's key at the control plane.
    Tenant,
    /// Proxy key, the proxy's key at the control plane.
    Proxy,
    /// Reporting key, its key at the control plane.
    Reporting,
    /// The control key alone.
    Control,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [KeyKind; 5] =
        [KeyKind::NodeDatabase, KeyKind::Tenant, KeyKind::Proxy, KeyKind::Reporting, KeyKind::Control];

    /// The HKDF info of this kind.
    pub fn label(self) -> &'static [u8] {
        match self {
            KeyKind::NodeDatabase => LABEL_NODE_DATABASE,
            KeyKind::Tenant => LABEL_TENANT,
            KeyKind::Proxy => LABEL_PROXY,
            KeyKind::Reporting => LABEL_REPORTING,
            KeyKind::Control => LABEL_CONTROL,
        }
    }

    /// How many parts this kind is made of.
    pub fn part_count(self) -> usize {
        match self {
            KeyKind::Control => 1,
            KeyKind::NodeDatabase | KeyKind::Proxy | KeyKind::Reporting => 2,
            KeyKind::Tenant => 3,
        }
    }

    /// The key-encryption key of this kind. The order of parts does not matter.
    pub fn combine(self, parts: &[&Key256]) -> Result<Key256, HierarchyError> {
        if parts.len() != self.part_count() {
            return Err(HierarchyError::PartCount { expected: self.part_count(), found: parts.len() });
        }
        key_encryption_key(parts, self.label())
    }
}

/// Why parts were not combined. Positions count from 0; nothing here tells a part's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HierarchyError {
    /// There was nothing to combine.
    #[error("no key part was given")]
    NoParts,
    /// The kind wants another number of parts.
    #[error("{expected} key parts are needed, {found} were given")]
    PartCount {
        /// Parts of this kind.
        expected: usize,
        /// Parts given.
        found: usize,
    },
    /// A part is all zero bits, as if it had never been set.
    #[error("key part {0} is zero")]
    ZeroPart(usize),
    /// Two parts are equal and would cancel each other.
    #[error("key parts {0} and {1} are equal")]
    EqualParts(usize, usize),
    /// All parts together give zero.
    #[error("the key parts cancel each other")]
    ZeroResult,
}

/// XOR of all `parts`, then HKDF-SHA-256 (RFC 5869, no salt) with `label` as info.
pub fn key_encryption_key(parts: &[&Key256], label: &[u8]) -> Result<Key256, HierarchyError> {
    if parts.is_empty() {
        return Err(HierarchyError::NoParts);
    }
    for (position, part) in parts.iter().enumerate() {
        if part.is_zero() {
            return Err(HierarchyError::ZeroPart(position));
        }
        if let Some(other) = parts[..position].iter().position(|earlier| earlier == part) {
            return Err(HierarchyError::EqualParts(other, position));
        }
    }
    let mut combined = Zeroizing::new([0u8; 32]);
    for part in parts {
        combined.iter_mut().zip(part.expose()).for_each(|(sum, byte)| *sum ^= byte);
    }
    if Key256::new(*combined).is_zero() {
        return Err(HierarchyError::ZeroResult);
    }
    let mut derived = Zeroizing::new([0u8; 32]);
    Hkdf::<Sha256>::new(None, &*combined).expand(label, &mut *derived).expect("32 bytes are within HKDF's 8,160");
    Ok(Key256::new(*derived))
}

#[cfg(test)]
mod tests {
    use super::super::cipher::tests::unhex;
    use super::*;

    /// Byte i of part k is (37 i + 11 k + 1) mod 256.
    fn part(number: usize) -> Key256 {
        Key256::new(std::array::from_fn(|index| (index * 37 + number * 11 + 1) as u8))
    }

    /// Answers calculated with Python's `hmac` and `hashlib`, not with this code.
    #[test]
    fn known_answers_for_every_kind() {
        let parts = [part(0), part(1), part(2)];
        for (kind, answer) in [
            (KeyKind::NodeDatabase, "b421755c9d610e1702a63e1dd666ba3552782c441f3931117666060280fbc435"),
            (KeyKind::Tenant, "ed19afaee1f35c1b2c765df2e1e1482caa93aa5f3a1d84cae42bbf0eeacbeea0"),
            (KeyKind::Proxy, "b9b4a4733a300400d9be069a741cc34526cf5183143974cce075740ed3e09174"),
            (KeyKind::Reporting, "6fcceb112800bd5a33861aaea381cbe13e2ba6ac6ef3563de9bffb3f8f7b01b5"),
            (KeyKind::Control, "b953c177a8c4b9560f57444ff6ccd1799975d361e4f6aa92e1fb063a21e12663"),
        ] {
            let mut chosen: Vec<&Key256> = parts[..kind.part_count()].iter().collect();
            assert_eq!(kind.combine(&chosen).unwrap().expose()[..], unhex(answer)[..], "{kind:?}");
            chosen.reverse();
            assert_eq!(kind.combine(&chosen).unwrap().expose()[..], unhex(answer)[..], "{kind:?}, reversed");
        }
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::BTreeSet<_> = KeyKind::ALL.iter().map(|kind| kind.label()).collect();
        assert_eq!(labels.len(), KeyKind::ALL.len());
    }

    #[test]
    fn weak_parts_are_refused() {
        let (one, two, zero) = (part(1), part(2), Key256::new([0; 32]));
        let mut both = *one.expose();
        both.iter_mut().zip(two.expose()).for_each(|(sum, byte)| *sum ^= byte);
        let cancelling = Key256::new(both);
        assert_eq!(key_encryption_key(&[], b"label"), Err(HierarchyError::NoParts));
        assert_eq!(key_encryption_key(&[&one, &zero], b"label"), Err(HierarchyError::ZeroPart(1)));
        assert_eq!(key_encryption_key(&[&one, &two, &one.clone()], b"label"), Err(HierarchyError::EqualParts(0, 2)));
        assert_eq!(key_encryption_key(&[&one, &two, &cancelling], b"label"), Err(HierarchyError::ZeroResult));
        assert_eq!(KeyKind::Tenant.combine(&[&one, &two]), Err(HierarchyError::PartCount { expected: 3, found: 2 }));
        assert_eq!(KeyKind::Control.combine(&[&one, &two]), Err(HierarchyError::PartCount { expected: 1, found: 2 }));
    }

    #[test]
    fn one_part_less_is_another_key() {
        let (one, two, three) = (part(1), part(2), part(3));
        let whole = key_encryption_key(&[&one, &two, &three], LABEL_TENANT).unwrap();
        for fewer in [[&one, &two], [&two, &three], [&one, &three]] {
            assert_ne!(key_encryption_key(&fewer, LABEL_TENANT).unwrap(), whole);
        }
    }
}
