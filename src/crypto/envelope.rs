//! Envelopes: data keys wrapped under key-encryption keys, and single secrets sealed the same way.
//!
//! A wrapped key, 60 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 12 | nonce |
//! | 12 | 32 | data key, encrypted |
//! | 44 | 16 | tag |
//!
//! Its associated data, 102 bytes, is never stored: whoever unwraps knows it, and a wrapped key that was
//! moved to another file, table, tenant, node or plane does not open.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 17 | `dstore/wrapped/v1` |
//! | 17 | 16 | UUID of the control plane |
//! | 33 | 16 | UUID of the node (or proxy, reporter, control) |
//! | 49 | 1 | bit 0: there is a tenant; bit 1: there is a table |
//! | 50 | 16 | UUID of the tenant, or zeroes |
//! | 66 | 16 | UUID of the table, or zeroes |
//! | 82 | 16 | UUID of the file, log or log key |
//! | 98 | 4 | version of the key-encryption key, big-endian |
//!
//! A sealed secret is nonce (12), ciphertext, tag (16); its associated data is `dstore/secret/v1`, a
//! zero byte, and the caller's label, which says what and whose the secret is.
//!
//! Rotating a part of the key-encryption key means wrapping the same data key again with the next
//! version: sixty bytes, not a file. AES key wrap (RFC 3394) was rejected: it binds no context.

use zeroize::Zeroizing;

use super::Key256;
use super::cipher::{Aead, NONCE_LENGTH, TAG_LENGTH};
use crate::domain::ids::{PlaneId, TableId, TenantId};

/// Length of a wrapped key in bytes.
pub const WRAPPED_KEY_LENGTH: usize = NONCE_LENGTH + 32 + TAG_LENGTH;
const WRAP_LABEL: &[u8; 17] = b"dstore/wrapped/v1";
const CONTEXT_LENGTH: usize = 102;
const SECRET_LABEL: &[u8] = b"dstore/secret/v1\0";

/// Where a wrapped key belongs; bound to it as associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WrapContext {
    /// The control plane.
    pub plane: PlaneId,
    /// The component that holds the data: a node, a proxy, a reporter, a control instance.
    pub node: uuid::Uuid,
    /// Whose data it is, unless it is the component's own.
    pub tenant: Option<TenantId>,
    /// The table, where a file belongs to one.
    pub table: Option<TableId>,
    /// The file, log or log key.
    pub file: uuid::Uuid,
    /// Version of the key-encryption key.
    pub version: u32,
}

impl WrapContext {
    /// The associated data, laid out as in the module's table.
    fn associated_data(&self) -> [u8; CONTEXT_LENGTH] {
        let mut bytes = [0; CONTEXT_LENGTH];
        bytes[..17].copy_from_slice(WRAP_LABEL);
        bytes[17..33].copy_from_slice(self.plane.as_bytes());
        bytes[33..49].copy_from_slice(self.node.as_bytes());
        bytes[49] = u8::from(self.tenant.is_some()) | u8::from(self.table.is_some()) << 1;
        if let Some(tenant) = self.tenant {
            bytes[50..66].copy_from_slice(tenant.as_bytes());
        }
        if let Some(table) = self.table {
            bytes[66..82].copy_from_slice(table.as_bytes());
        }
        bytes[82..98].copy_from_slice(self.file.as_bytes());
        bytes[98..102].copy_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

/// A data key under a key-encryption key: nonce, ciphertext, tag. Safe to store and to print.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey(pub [u8; WRAPPED_KEY_LENGTH]);

impl std::fmt::Debug for WrappedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("WrappedKey(…)")
    }
}

/// Why an envelope did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Another key, another context, or changed bytes.
    #[error("the envelope does not open: wrong key, wrong place or changed bytes")]
    WrongKey,
    /// Shorter than nonce and tag.
    #[error("the envelope is too short")]
    TooShort,
}

/// Wraps `data_key` under `kek`. `nonce` must be fresh.
pub fn wrap(kek: &Key256, data_key: &Key256, context: &WrapContext, nonce: [u8; NONCE_LENGTH]) -> WrappedKey {
    let mut secret = Zeroizing::new(*data_key.expose());
    let tag = Aead::new(kek).seal_in_place(&nonce, &context.associated_data(), &mut *secret);
    let mut bytes = [0; WRAPPED_KEY_LENGTH];
    bytes[..12].copy_from_slice(&nonce);
    bytes[12..44].copy_from_slice(&*secret);
    bytes[44..].copy_from_slice(&tag);
    WrappedKey(bytes)
}

/// Unwraps a data key; fails if the key-encryption key or any part of the context is another.
pub fn unwrap(kek: &Key256, wrapped: &WrappedKey, context: &WrapContext) -> Result<Key256, EnvelopeError> {
    let (nonce, tag) = (array(&wrapped.0[..12]), array(&wrapped.0[44..]));
    let mut secret = Zeroizing::new(array::<32>(&wrapped.0[12..44]));
    Aead::new(kek)
        .open_in_place(&nonce, &context.associated_data(), &mut *secret, &tag)
        .map_err(|_| EnvelopeError::WrongKey)?;
    Ok(Key256::new(*secret))
}

/// Seals any bytes under `kek`; `label` says what they are and must be given again to open them.
/// `nonce` must be fresh.
pub fn seal_secret(kek: &Key256, label: &[u8], secret: &[u8], nonce: [u8; NONCE_LENGTH]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(NONCE_LENGTH + secret.len() + TAG_LENGTH);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(secret);
    let tag = Aead::new(kek).seal_in_place(&nonce, &[SECRET_LABEL, label].concat(), &mut sealed[NONCE_LENGTH..]);
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens what [`seal_secret`] sealed with the same key and label. The result wipes itself.
pub fn open_secret(kek: &Key256, label: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    if sealed.len() < NONCE_LENGTH + TAG_LENGTH {
        return Err(EnvelopeError::TooShort);
    }
    let (body, tag) = sealed.split_at(sealed.len() - TAG_LENGTH);
    let mut secret = Zeroizing::new(body[NONCE_LENGTH..].to_vec());
    Aead::new(kek)
        .open_in_place(&array(&body[..NONCE_LENGTH]), &[SECRET_LABEL, label].concat(), &mut secret, &array(tag))
        .map_err(|_| EnvelopeError::WrongKey)?;
    Ok(secret)
}

/// The slice as an array; callers slice to the length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("sliced to this length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::cipher::tests::unhex;
    use super::*;

    fn context() -> WrapContext {
        WrapContext {
            plane: PlaneId(Uuid::from_bytes([1; 16])),
            node: Uuid::from_bytes([2; 16]),
            tenant: Some(TenantId(Uuid::from_bytes([3; 16]))),
            table: Some(TableId(Uuid::from_bytes([4; 16]))),
            file: Uuid::from_bytes([5; 16]),
            version: 6,
        }
    }

    fn kek() -> Key256 {
        Key256::new([0x11; 32])
    }

    #[test]
    fn unwraps_only_in_its_own_place() {
        let data_key = Key256::new([0x22; 32]);
        let wrapped = wrap(&kek(), &data_key, &context(), [9; 12]);
        assert_eq!(unwrap(&kek(), &wrapped, &context()).unwrap(), data_key);
        let elsewhere = Uuid::from_bytes([7; 16]);
        let places = [
            WrapContext { plane: PlaneId(elsewhere), ..context() },
            WrapContext { node: elsewhere, ..context() },
            WrapContext { tenant: Some(TenantId(elsewhere)), ..context() },
            WrapContext { tenant: None, ..context() },
            WrapContext { table: Some(TableId(elsewhere)), ..context() },
            WrapContext { table: None, ..context() },
            WrapContext { file: elsewhere, ..context() },
            WrapContext { version: 7, ..context() },
        ];
        for place in places {
            assert_eq!(unwrap(&kek(), &wrapped, &place), Err(EnvelopeError::WrongKey), "{place:?}");
        }
        assert_eq!(unwrap(&data_key, &wrapped, &context()), Err(EnvelopeError::WrongKey));
    }

    #[test]
    fn absent_is_not_zero() {
        let nil = WrapContext { tenant: Some(TenantId(Uuid::nil())), table: None, ..context() };
        let absent = WrapContext { tenant: None, table: None, ..context() };
        assert_ne!(nil.associated_data(), absent.associated_data());
    }

    /// Calculated with the Python package `cryptography` (OpenSSL), not with this code.
    #[test]
    fn known_answers() {
        let wrapped = wrap(&kek(), &Key256::new([0x22; 32]), &context(), [9; 12]);
        assert_eq!(
            wrapped.0[..],
            unhex(
                "090909090909090909090909a0debf6a08b20a398ee7d61a09e7b4b7195ac6dae219425ac55331e3e3fa4b9782800742e4c37487c5966d22a401c6cd"
            )[..]
        );
        assert_eq!(
            seal_secret(&kek(), b"token key", b"swordfish", [9; 12]),
            unhex("090909090909090909090909136df5394bc21808d7250679e387c12773b3b2525e08c95e18")
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let wrapped = wrap(&kek(), &Key256::new([0x22; 32]), &context(), [9; 12]);
        for bit in 0..WRAPPED_KEY_LENGTH * 8 {
            let mut changed = wrapped;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unwrap(&kek(), &changed, &context()), Err(EnvelopeError::WrongKey), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn secrets_come_back(secret: Vec<u8>, label: Vec<u8>, other: Vec<u8>, nonce: [u8; 12]) {
            let sealed = seal_secret(&kek(), &label, &secret, nonce);
            prop_assert_eq!(sealed.len(), secret.len() + 28);
            prop_assert_eq!(&**open_secret(&kek(), &label, &sealed).unwrap(), &secret[..]);
            if label != other {
                prop_assert_eq!(open_secret(&kek(), &other, &sealed), Err(EnvelopeError::WrongKey));
            }
        }

        #[test]
        fn garbage_never_opens(garbage: Vec<u8>) {
            prop_assert!(open_secret(&kek(), b"label", &garbage).is_err());
        }
    }
}
