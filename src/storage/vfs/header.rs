//! The header block: the first 4,096 bytes of every encrypted database file. It is not encrypted;
//! it says whose file this is and carries the file's data key, wrapped.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `dStoreDB` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | page size, 4096 |
//! | 16 | 16 | UUID of the control plane |
//! | 32 | 16 | UUID of the node |
//! | 48 | 16 | UUID of the tenant, or zeroes |
//! | 64 | 16 | UUID of the table, or zeroes |
//! | 80 | 16 | UUID of the file |
//! | 96 | 1 | bit 0: there is a tenant; bit 1: there is a table |
//! | 97 | 411 | zero |
//! | 508 | 4 | CRC-32C of bytes 0 to 507 |
//! | 512 | 512 | zero |
//! | 1024 | 512 | key slot 0 |
//! | 1536 | 512 | zero |
//! | 2048 | 512 | key slot 1 |
//! | 2560 | 1536 | zero |
//!
//! A key slot is all zero (empty), or:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `KEY1` |
//! | 4 | 4 | version of the key-encryption key |
//! | 8 | 60 | wrapped data key |
//! | 68 | 440 | zero |
//! | 508 | 4 | CRC-32C of bytes 0 to 507 |
//!
//! Integers are little-endian. Each part has sectors of its own, so that writing a slot can tear only that slot:
//! during a rotation the new slot is written and synced before the old one is emptied. Unused
//! bytes must be zero and are checked: there is no byte of the block that could change unnoticed.
//! The identity needs no tag of its own: it is the associated data of the wrapped key.

use crate::crypto::envelope::{WRAPPED_KEY_LENGTH, WrapContext, WrappedKey};
use crate::domain::ids::{FileId, NodeId, PlaneId, TableId, TenantId};

/// Length of the header block in bytes.
pub const BLOCK_LENGTH: usize = 4096;
/// The only format there is so far.
pub const FORMAT_VERSION: u32 = 1;
/// Where the key slots begin.
pub const SLOT_OFFSETS: [usize; 2] = [1024, 2048];
/// Length of a slot, and of the identity, in bytes.
pub const SLOT_LENGTH: usize = 512;

const MAGIC: &[u8; 8] = b"dStoreDB";
const SLOT_MAGIC: &[u8; 4] = b"KEY1";
const CHECKSUM_OFFSET: usize = SLOT_LENGTH - 4;

/// Whose file it is. Bound to its wrapped key, so that none of it can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The control plane.
    pub plane: PlaneId,
    /// The node that wrote it.
    pub node: NodeId,
    /// The tenant, unless it is the node's own.
    pub tenant: Option<TenantId>,
    /// The table, where it belongs to one.
    pub table: Option<TableId>,
    /// The file.
    pub file: FileId,
}

impl FileIdentity {
    /// The associated data of the file's key, wrapped under version `version`.
    pub fn wrap_context(&self, version: u32) -> WrapContext {
        WrapContext {
            plane: self.plane,
            node: self.node.0,
            tenant: self.tenant,
            table: self.table,
            file: self.file.0,
            version,
        }
    }
}

/// One of the two places for the wrapped data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Nothing there.
    Empty,
    /// A wrapped key.
    Key {
        /// Version of the key-encryption key.
        version: u32,
        /// The data key, wrapped under it.
        wrapped: WrappedKey,
    },
    /// Neither: torn while written, or damaged.
    Damaged,
}

impl Slot {
    /// The slot's 512 bytes; a damaged slot is written as an empty one.
    pub fn encode(&self) -> [u8; SLOT_LENGTH] {
        let mut bytes = [0; SLOT_LENGTH];
        if let Slot::Key { version, wrapped } = self {
            bytes[..4].copy_from_slice(SLOT_MAGIC);
            bytes[4..8].copy_from_slice(&version.to_le_bytes());
            bytes[8..8 + WRAPPED_KEY_LENGTH].copy_from_slice(&wrapped.0);
            put_checksum(&mut bytes);
        }
        bytes
    }

    fn decode(bytes: &[u8; SLOT_LENGTH]) -> Slot {
        if is_zero(bytes) {
            return Slot::Empty;
        }
        if !checksum_fits(bytes)
            || bytes[..4] != *SLOT_MAGIC
            || !is_zero(&bytes[8 + WRAPPED_KEY_LENGTH..CHECKSUM_OFFSET])
        {
            return Slot::Damaged;
        }
        Slot::Key { version: u32::from_le_bytes(part(bytes, 4)), wrapped: WrappedKey(part(bytes, 8)) }
    }
}

/// A decoded header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose file it is.
    pub identity: FileIdentity,
    /// The two key slots.
    pub slots: [Slot; 2],
}

/// Why a block is not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin as ours do.
    #[error("not a dStore database file")]
    NotDstore,
    /// A later format.
    #[error("format version {0} is newer")]
    Newer(u32),
    /// A part of it is damaged.
    #[error("{0}")]
    Damaged(&'static str),
}

impl Header {
    /// The block's bytes.
    pub fn encode(&self) -> [u8; BLOCK_LENGTH] {
        let mut identity = [0; SLOT_LENGTH];
        identity[..8].copy_from_slice(MAGIC);
        identity[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        identity[12..16].copy_from_slice(&4096u32.to_le_bytes());
        identity[16..32].copy_from_slice(self.identity.plane.as_bytes());
        identity[32..48].copy_from_slice(self.identity.node.as_bytes());
        if let Some(tenant) = self.identity.tenant {
            identity[48..64].copy_from_slice(tenant.as_bytes());
            identity[96] |= 1;
        }
        if let Some(table) = self.identity.table {
            identity[64..80].copy_from_slice(table.as_bytes());
            identity[96] |= 2;
        }
        identity[80..96].copy_from_slice(self.identity.file.as_bytes());
        put_checksum(&mut identity);
        let mut block = [0; BLOCK_LENGTH];
        block[..SLOT_LENGTH].copy_from_slice(&identity);
        for (offset, slot) in SLOT_OFFSETS.into_iter().zip(&self.slots) {
            block[offset..offset + SLOT_LENGTH].copy_from_slice(&slot.encode());
        }
        block
    }

    /// Decodes a block, every byte of which is checked.
    pub fn decode(block: &[u8; BLOCK_LENGTH]) -> Result<Header, HeaderError> {
        if block[..8] != *MAGIC {
            return Err(HeaderError::NotDstore);
        }
        let identity: [u8; SLOT_LENGTH] = part(block, 0);
        if !checksum_fits(&identity) {
            return Err(HeaderError::Damaged("the checksum of the identity does not match"));
        }
        let version = u32::from_le_bytes(part(block, 8));
        if version > FORMAT_VERSION {
            return Err(HeaderError::Newer(version));
        }
        if version == 0 || u32::from_le_bytes(part(block, 12)) != 4096 || block[96] > 3 || !is_zero(&block[97..508]) {
            return Err(HeaderError::Damaged("the identity has impossible values"));
        }
        if ![512..1024, 1536..2048, 2560..4096].into_iter().all(|unused| is_zero(&block[unused])) {
            return Err(HeaderError::Damaged("unused bytes are not zero"));
        }
        let tenant = TenantId::from_bytes(part(block, 48));
        let table = TableId::from_bytes(part(block, 64));
        if (block[96] & 1 == 0 && !tenant.0.is_nil()) || (block[96] & 2 == 0 && !table.0.is_nil()) {
            return Err(HeaderError::Damaged("the identity has impossible values"));
        }
        Ok(Header {
            identity: FileIdentity {
                plane: PlaneId::from_bytes(part(block, 16)),
                node: NodeId::from_bytes(part(block, 32)),
                tenant: (block[96] & 1 != 0).then_some(tenant),
                table: (block[96] & 2 != 0).then_some(table),
                file: FileId::from_bytes(part(block, 80)),
            },
            slots: SLOT_OFFSETS.map(|offset| Slot::decode(&part(block, offset))),
        })
    }
}

fn put_checksum(bytes: &mut [u8; SLOT_LENGTH]) {
    let checksum = crc32c::crc32c(&bytes[..CHECKSUM_OFFSET]);
    bytes[CHECKSUM_OFFSET..].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum_fits(bytes: &[u8; SLOT_LENGTH]) -> bool {
    crc32c::crc32c(&bytes[..CHECKSUM_OFFSET]) == u32::from_le_bytes(part(bytes, CHECKSUM_OFFSET))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// `N` bytes from `offset`; every caller's offset is a constant of the format.
fn part<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the format's offsets lie within the block")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn slots() -> impl Strategy<Value = Slot> {
        let key = (any::<u32>(), prop::collection::vec(any::<u8>(), WRAPPED_KEY_LENGTH))
            .prop_map(|(version, bytes)| Slot::Key { version, wrapped: WrappedKey(part(&bytes, 0)) });
        prop_oneof![Just(Slot::Empty), key]
    }

    fn headers() -> impl Strategy<Value = Header> {
        let ids = (any::<u128>(), any::<u128>(), any::<Option<u128>>(), any::<Option<u128>>(), any::<u128>());
        (ids, slots(), slots()).prop_map(|((plane, node, tenant, table, file), first, second)| Header {
            identity: FileIdentity {
                plane: PlaneId(Uuid::from_u128(plane)),
                node: NodeId(Uuid::from_u128(node)),
                tenant: tenant.map(|id| TenantId(Uuid::from_u128(id))),
                table: table.map(|id| TableId(Uuid::from_u128(id))),
                file: FileId(Uuid::from_u128(file)),
            },
            slots: [first, second],
        })
    }

    proptest! {
        #[test]
        fn headers_come_back(header in headers()) {
            prop_assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), BLOCK_LENGTH), ours: bool) {
            let mut block: [u8; BLOCK_LENGTH] = part(&bytes, 0);
            if ours {
                block[..8].copy_from_slice(MAGIC);
            }
            prop_assert!(Header::decode(&block).is_err());
        }
    }

    #[test]
    fn no_byte_of_a_block_is_unchecked() {
        let identity = FileIdentity {
            plane: PlaneId(Uuid::from_u128(1)),
            node: NodeId(Uuid::from_u128(2)),
            tenant: Some(TenantId(Uuid::from_u128(3))),
            table: None,
            file: FileId(Uuid::from_u128(5)),
        };
        let key = Slot::Key { version: 1, wrapped: WrappedKey([9; WRAPPED_KEY_LENGTH]) };
        let header = Header { identity, slots: [key, Slot::Empty] };
        let block = header.encode();
        for position in 0..BLOCK_LENGTH {
            for flip in [1u8 << (position % 8), 0xFF] {
                let mut changed = block;
                changed[position] ^= flip;
                match Header::decode(&changed) {
                    Err(_) => assert!(!(1024..1536).contains(&position) && !(2048..2560).contains(&position)),
                    Ok(found) => {
                        let slot = usize::from(position >= 2048);
                        assert_eq!(found.slots[slot], Slot::Damaged, "byte {position}");
                        assert_eq!(found.slots[1 - slot], header.slots[1 - slot]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_newer_format_says_so() {
        let identity = FileIdentity {
            plane: PlaneId(Uuid::nil()),
            node: NodeId(Uuid::nil()),
            tenant: None,
            table: None,
            file: FileId(Uuid::nil()),
        };
        let mut block = Header { identity, slots: [Slot::Empty; 2] }.encode();
        block[8..12].copy_from_slice(&2u32.to_le_bytes());
        let mut first: [u8; SLOT_LENGTH] = part(&block, 0);
        put_checksum(&mut first);
        block[..SLOT_LENGTH].copy_from_slice(&first);
        assert_eq!(Header::decode(&block), Err(HeaderError::Newer(2)));
    }
}
