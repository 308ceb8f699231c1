//! 256-bit secrets that wipe themselves and cannot be printed. There is no `Debug` with bytes, no
//! `Display`, no serde: whoever writes a key somewhere calls [`Key256::expose`] and can be found by
//! searching for it.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A 256-bit secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key256([u8; 32]);

impl Key256 {
    /// Takes 32 bytes as a secret.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh random secret.
    pub fn random(random: &dyn crate::domain::Random) -> Self {
        let mut bytes = [0u8; 32];
        random.fill(&mut bytes);
        Self(bytes)
    }

    /// The bytes. Every call is a place where a secret could leak: keep them few.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether all bits are zero, as in a key that was never set.
    pub fn is_zero(&self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&[0u8; 32]).into()
    }
}

impl PartialEq for Key256 {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key256 {}

impl std::fmt::Debug for Key256 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key256(…)")
    }
}
