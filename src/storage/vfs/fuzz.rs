//! Entry points for the fuzz targets: any bytes may come, nothing may panic.

use super::header::{BLOCK_LENGTH, Header};
use super::pages::FileKind;
use crate::crypto::page::{self, PAGE_LENGTH, PageKind, PagePlace};
use crate::crypto::{Aead, Key256};
use crate::domain::ids::FileId;

/// Opens `data` as a page, and its beginning as a sealed header.
pub fn fuzz_open_page(data: &[u8]) {
    let aead = Aead::new(&Key256::new([7; 32]));
    let place = PagePlace { kind: PageKind::Database, file: FileId(uuid::Uuid::nil()), position: 1 };
    let mut page = [0; PAGE_LENGTH];
    let length = data.len().min(PAGE_LENGTH);
    page[..length].copy_from_slice(&data[..length]);
    assert!(page::open_page(&aead, &place, &mut page).is_err(), "a tag was forged");
    assert!(page::open_header(&aead, &place, &mut data.to_vec()).is_err(), "a tag was forged");
}

/// Decodes `data` as a header block, once as it is and once with the magic and the checksum of the identity put right, so
/// that more than the checksum is met. What decodes is the same after encoding.
pub fn fuzz_file_header(data: &[u8]) {
    let mut block = [0; BLOCK_LENGTH];
    let length = data.len().min(BLOCK_LENGTH);
    block[..length].copy_from_slice(&data[..length]);
    let mut repaired = block;
    repaired[..8].copy_from_slice(b"dStoreDB");
    let checksum = crc32c::crc32c(&repaired[..508]);
    repaired[508..512].copy_from_slice(&checksum.to_le_bytes());
    for block in [block, repaired] {
        if let Ok(header) = Header::decode(&block) {
            let again = Header::decode(&header.encode()).expect("what was decoded can be encoded");
            assert_eq!(again.identity, header.identity);
        }
    }
}

/// Maps a read at any offset, in pieces, as the shim does.
pub fn fuzz_pieces(data: &[u8]) {
    let Some((front, rest)) = data.split_first_chunk::<8>() else { return };
    let offset = u64::from_le_bytes(*front) >> 16;
    for kind in [FileKind::Database, FileKind::Log] {
        let piece = kind.piece(offset, rest.len());
        assert!(piece.skip + piece.take <= piece.plain_length);
        let size = kind.plain_size(offset);
        assert!(kind.disk_size(size).is_some());
    }
}
