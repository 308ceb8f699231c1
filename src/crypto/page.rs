//! One page of a SQLite file, and the small headers of its write-ahead log, sealed.
//!
//! A sealed page, 4,096 bytes. SQLite is told to reserve the last 32 bytes of every page and never
//! looks at them; there lie nonce and tag:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4064 | content, encrypted |
//! | 4064 | 12 | nonce |
//! | 4076 | 16 | tag |
//! | 4092 | 4 | zero, checked |
//!
//! A sealed header (of the log, or of one of its frames) carries its own nonce and tag in front:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 12 | nonce |
//! | 12 | 16 | tag |
//! | 28 | 32 or 24 | header of the log, or of a frame, encrypted |
//!
//! The associated data of both, 32 bytes, says what it is and where it lies; it is never stored:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 7 | `dStore1` |
//! | 7 | 1 | kind: 1 database page, 2 log header, 3 frame header, 4 page in a frame |
//! | 8 | 16 | UUID of the file |
//! | 24 | 8 | position, little-endian: page number from 1, or frame number from 0 |
//!
//! So a page cannot pass for another page, for a page in the log, or for one of another file. It can
//! be replaced by an older version of itself: that would take a tree of hashes over the file, and is noticed
//! where a whole file is older than the commit log says.
//!
//! The salts of the log are deliberately not bound: when a transaction spills out of the
//! cache, SQLite writes frame headers again later. Frame headers are sealed because they carry
//! SQLite's checksum over the page in clear, which tells whether a guess of the page is right.
//!
//! What the next author must keep: opened pages have zeroes in the reserved bytes (SQLite's own
//! checksums cover them), and pages that have anything else there are not sealed.

use super::cipher::{Aead, NONCE_LENGTH, TAG_LENGTH};
use crate::domain::ids::FileId;

/// Bytes in a page, sealed or not.
pub const PAGE_LENGTH: usize = 4096;
/// Bytes at the end of each page that SQLite leaves to us.
pub const RESERVED_LENGTH: usize = 32;
/// Bytes of content in a page.
pub const CONTENT_LENGTH: usize = PAGE_LENGTH - RESERVED_LENGTH;
/// What sealing adds to a header: nonce and tag.
pub const HEADER_OVERHEAD: usize = NONCE_LENGTH + TAG_LENGTH;

const TAG_OFFSET: usize = CONTENT_LENGTH + NONCE_LENGTH;
const PADDING_OFFSET: usize = TAG_OFFSET + TAG_LENGTH;

/// What is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageKind {
    /// A page of the database file; positions are page numbers, from 1.
    Database = 1,
    /// The header of the write-ahead log; its position is 0.
    LogHeader = 2,
    /// The header of a frame of the log; positions are frame numbers, from 0.
    FrameHeader = 3,
    /// The page in a frame; positions are frame numbers, from 0.
    FramePage = 4,
}

/// Where it lies; bound to the sealed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PagePlace {
    /// What it is.
    pub kind: PageKind,
    /// The database file, also for its log.
    pub file: FileId,
    /// Page or frame number.
    pub position: u64,
}

impl PagePlace {
    /// The associated data, laid out as in the module's table.
    fn associated_data(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..7].copy_from_slice(b"dStore1");
        bytes[7] = self.kind as u8;
        bytes[8..24].copy_from_slice(self.file.as_bytes());
        bytes[24..].copy_from_slice(&self.position.to_le_bytes());
        bytes
    }
}

/// Why a page was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Changed bytes, another place, another file or another key.
    #[error("the authentication tag does not match")]
    Tag,
    /// The reserved bytes hold something that was never put there.
    #[error("the reserved bytes of the page are not as they should be")]
    Reserved,
    /// Not as long as it should be.
    #[error("the length is wrong")]
    Length,
}

/// Encrypts a page where it lies; its last 32 bytes must be zero and receive nonce and tag.
pub fn seal_page(
    aead: &Aead,
    place: &PagePlace,
    nonce: [u8; NONCE_LENGTH],
    page: &mut [u8; PAGE_LENGTH],
) -> Result<(), PageError> {
    let (content, reserved) = page.split_at_mut(CONTENT_LENGTH);
    if reserved.iter().any(|byte| *byte != 0) {
        return Err(PageError::Reserved);
    }
    let tag = aead.seal_in_place(&nonce, &place.associated_data(), content);
    reserved[..NONCE_LENGTH].copy_from_slice(&nonce);
    reserved[NONCE_LENGTH..NONCE_LENGTH + TAG_LENGTH].copy_from_slice(&tag);
    Ok(())
}

/// Decrypts a page where it lies and zeroes its last 32 bytes. After an error the page is zero.
pub fn open_page(aead: &Aead, place: &PagePlace, page: &mut [u8; PAGE_LENGTH]) -> Result<(), PageError> {
    let mut nonce = [0; NONCE_LENGTH];
    let mut tag = [0; TAG_LENGTH];
    nonce.copy_from_slice(&page[CONTENT_LENGTH..TAG_OFFSET]);
    tag.copy_from_slice(&page[TAG_OFFSET..PADDING_OFFSET]);
    if page[PADDING_OFFSET..] != [0; PAGE_LENGTH - PADDING_OFFSET] {
        page.fill(0);
        return Err(PageError::Reserved);
    }
    let (content, reserved) = page.split_at_mut(CONTENT_LENGTH);
    reserved.fill(0);
    aead.open_in_place(&nonce, &place.associated_data(), content, &tag).map_err(|_| PageError::Tag)
}

/// Encrypts a header into `sealed`, which is [`HEADER_OVERHEAD`] bytes longer than `plain`.
pub fn seal_header(
    aead: &Aead,
    place: &PagePlace,
    nonce: [u8; NONCE_LENGTH],
    plain: &[u8],
    sealed: &mut [u8],
) -> Result<(), PageError> {
    if sealed.len() != plain.len() + HEADER_OVERHEAD {
        return Err(PageError::Length);
    }
    let (front, body) = sealed.split_at_mut(HEADER_OVERHEAD);
    body.copy_from_slice(plain);
    let tag = aead.seal_in_place(&nonce, &place.associated_data(), body);
    front[..NONCE_LENGTH].copy_from_slice(&nonce);
    front[NONCE_LENGTH..].copy_from_slice(&tag);
    Ok(())
}

/// Decrypts a header where it lies; the result is the slice behind nonce and tag.
pub fn open_header<'bytes>(
    aead: &Aead,
    place: &PagePlace,
    sealed: &'bytes mut [u8],
) -> Result<&'bytes [u8], PageError> {
    let (front, body) = sealed.split_at_mut_checked(HEADER_OVERHEAD).ok_or(PageError::Length)?;
    let mut nonce = [0; NONCE_LENGTH];
    let mut tag = [0; TAG_LENGTH];
    nonce.copy_from_slice(&front[..NONCE_LENGTH]);
    tag.copy_from_slice(&front[NONCE_LENGTH..]);
    aead.open_in_place(&nonce, &place.associated_data(), body, &tag).map_err(|_| PageError::Tag)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::Key256;
    use super::*;

    fn aead() -> Aead {
        Aead::new(&Key256::new([3; 32]))
    }

    fn place() -> PagePlace {
        PagePlace { kind: PageKind::Database, file: FileId(Uuid::from_bytes([8; 16])), position: 5 }
    }

    fn page_of(content: &[u8]) -> [u8; PAGE_LENGTH] {
        let mut page = [0; PAGE_LENGTH];
        page[..CONTENT_LENGTH].iter_mut().zip(content.iter().cycle()).for_each(|(byte, value)| *byte = *value);
        page
    }

    #[test]
    fn every_flipped_byte_of_a_page_is_noticed() {
        let mut sealed = page_of(b"some content");
        seal_page(&aead(), &place(), [1; 12], &mut sealed).unwrap();
        for position in 0..PAGE_LENGTH {
            for flip in [1u8 << (position % 8), 0xFF] {
                let mut changed = sealed;
                changed[position] ^= flip;
                assert!(open_page(&aead(), &place(), &mut changed).is_err(), "byte {position}");
                assert!(changed.iter().all(|byte| *byte == 0), "nothing that was not authenticated remains");
            }
        }
    }

    #[test]
    fn used_reserved_bytes_are_refused() {
        for position in CONTENT_LENGTH..PAGE_LENGTH {
            let mut page = page_of(b"x");
            page[position] = 1;
            assert_eq!(seal_page(&aead(), &place(), [1; 12], &mut page), Err(PageError::Reserved));
        }
    }

    proptest! {
        #[test]
        fn pages_come_back_with_zeroes_behind(content in prop::collection::vec(any::<u8>(), 1..500), nonce: [u8; 12]) {
            let plain = page_of(&content);
            let mut page = plain;
            seal_page(&aead(), &place(), nonce, &mut page).unwrap();
            prop_assert_ne!(&page[..CONTENT_LENGTH], &plain[..CONTENT_LENGTH]);
            open_page(&aead(), &place(), &mut page).unwrap();
            prop_assert_eq!(&page[..], &plain[..]);
        }

        #[test]
        fn pages_open_only_in_their_place(kind in 1u8..5, file: u128, position: u64) {
            let kind = [PageKind::Database, PageKind::LogHeader, PageKind::FrameHeader, PageKind::FramePage][kind as usize - 1];
            let other = PagePlace { kind, file: FileId(Uuid::from_u128(file)), position };
            let moved = [
                PagePlace { kind, ..place() },
                PagePlace { file: other.file, ..place() },
                PagePlace { position, ..place() },
                other,
            ];
            for elsewhere in moved {
                let mut page = page_of(b"content");
                seal_page(&aead(), &elsewhere, [2; 12], &mut page).unwrap();
                prop_assert_eq!(open_page(&aead(), &place(), &mut page).is_ok(), elsewhere == place());
            }
        }

        #[test]
        fn headers_come_back_and_changes_are_noticed(
            plain in prop::collection::vec(any::<u8>(), 1..40),
            at: prop::sample::Index,
            flip in 1u8..,
        ) {
            let mut sealed = vec![0; plain.len() + HEADER_OVERHEAD];
            seal_header(&aead(), &place(), [4; 12], &plain, &mut sealed).unwrap();
            let mut copy = sealed.clone();
            prop_assert_eq!(open_header(&aead(), &place(), &mut copy).unwrap(), &plain[..]);
            let position = at.index(sealed.len());
            sealed[position] ^= flip;
            prop_assert_eq!(open_header(&aead(), &place(), &mut sealed), Err(PageError::Tag));
        }

        #[test]
        fn garbage_is_an_error_not_a_panic(mut garbage in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(open_header(&aead(), &place(), &mut garbage).is_err());
        }
    }
}
