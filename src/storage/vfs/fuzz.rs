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

/// Decodes `data` as a header block; what decodes must encode to the same bytes unless a slot is damaged.
pub fn fuzz_file_header(data: &[u8]) {
    let mut block = [0; BLOCK_LENGTH];
    let length = data.len().min(BLOCK_LENGTH);
    block[..length].copy_from_slice(&data[..length]);
    if let Ok(header) = Header::decode(&block) {
        assert_eq!(Header::decode(&header.encode()).map(|again| again.identity), Ok(header.identity));
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
