//! Where things lie: from the offsets that SQLite believes in to those on disk. Pure.
//!
//! The database file is shifted by the header block; pages keep their size:
//!
//! | SQLite's offset | offset on disk | bytes | what |
//! |---|---|---|---|
//! | – | 0 | 4096 | header block |
//! | 4096 (n − 1) | 4096 n | 4096 | page n, sealed |
//!
//! The write-ahead log grows by 28 bytes (nonce and tag) for its header and for each frame's:
//!
//! | SQLite's offset | bytes | offset on disk | bytes | what |
//! |---|---|---|---|---|
//! | 0 | 32 | 0 | 60 | header of the log, sealed |
//! | 32 + 4120 i | 24 | 60 + 4148 i | 52 | header of frame i, sealed |
//! | 56 + 4120 i | 4096 | 112 + 4148 i | 4096 | page in frame i, sealed |
//!
//! SQLite reads in any way it likes: eight bytes of a frame header, a frame with its header in one
//! go. So a read is cut into [`Piece`]s, each of which lies in one sealed record that is opened as a
//! whole. It writes whole records only, as long as the file claims to be safe against torn
//! overwriting (else it would split writes at sector boundaries), and anything else is refused.

use crate::crypto::page::{HEADER_OVERHEAD, PAGE_LENGTH, PageKind};

/// Length of the log's header as SQLite knows it.
pub const LOG_HEADER_LENGTH: usize = 32;
/// Length of a frame's header as SQLite knows it.
pub const FRAME_HEADER_LENGTH: usize = 24;
/// Length of the longest sealed header.
pub const SEALED_HEADER_LENGTH_MAX: usize = LOG_HEADER_LENGTH + HEADER_OVERHEAD;

const PAGE: u64 = PAGE_LENGTH as u64;
const LOG_HEADER: u64 = LOG_HEADER_LENGTH as u64;
const LOG_HEADER_SEALED: u64 = LOG_HEADER + HEADER_OVERHEAD as u64;
const FRAME_HEADER: u64 = FRAME_HEADER_LENGTH as u64;
const FRAME_HEADER_SEALED: u64 = FRAME_HEADER + HEADER_OVERHEAD as u64;
const FRAME: u64 = FRAME_HEADER + PAGE;
const FRAME_SEALED: u64 = FRAME_HEADER_SEALED + PAGE;

/// Which of the two files of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The database itself.
    Database,
    /// Its write-ahead log.
    Log,
}

/// The part of a read or write that lies in one sealed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// What the record is.
    pub kind: PageKind,
    /// Page number from 1, frame number from 0, or 0 for the log's header.
    pub position: u64,
    /// Where the record begins on disk.
    pub disk_offset: u64,
    /// The record's length as SQLite knows it.
    pub plain_length: usize,
    /// Bytes of the record before this piece.
    pub skip: usize,
    /// Bytes of the record in this piece.
    pub take: usize,
}

impl Piece {
    /// Whether it is its whole record.
    pub fn is_whole(&self) -> bool {
        self.skip == 0 && self.take == self.plain_length
    }
}

impl FileKind {
    /// The piece at `offset` that holds at most `length` bytes.
    pub fn piece(self, offset: u64, length: usize) -> Piece {
        let (kind, position, begin, disk_offset, plain_length) = match self {
            FileKind::Database => {
                let index = offset / PAGE;
                (PageKind::Database, index + 1, index * PAGE, (index + 1) * PAGE, PAGE_LENGTH)
            }
            FileKind::Log if offset < LOG_HEADER => (PageKind::LogHeader, 0, 0, 0, LOG_HEADER_LENGTH),
            FileKind::Log => {
                let frame = (offset - LOG_HEADER) / FRAME;
                let begin = LOG_HEADER + frame * FRAME;
                let disk = LOG_HEADER_SEALED + frame * FRAME_SEALED;
                if offset < begin + FRAME_HEADER {
                    (PageKind::FrameHeader, frame, begin, disk, FRAME_HEADER_LENGTH)
                } else {
                    (PageKind::FramePage, frame, begin + FRAME_HEADER, disk + FRAME_HEADER_SEALED, PAGE_LENGTH)
                }
            }
        };
        let skip = (offset - begin) as usize;
        Piece { kind, position, disk_offset, plain_length, skip, take: length.min(plain_length - skip) }
    }

    /// The size that SQLite is told of a file of `disk_size` bytes: whole pages or frames only.
    pub fn plain_size(self, disk_size: u64) -> u64 {
        match self {
            FileKind::Database => (disk_size / PAGE).saturating_sub(1) * PAGE,
            FileKind::Log if disk_size < LOG_HEADER_SEALED => 0,
            FileKind::Log => LOG_HEADER + (disk_size - LOG_HEADER_SEALED) / FRAME_SEALED * FRAME,
        }
    }

    /// The size on disk of a file that SQLite wants `plain_size` bytes long, if that ends between records.
    pub fn disk_size(self, plain_size: u64) -> Option<u64> {
        match self {
            FileKind::Database => plain_size.is_multiple_of(PAGE).then_some(plain_size + PAGE),
            FileKind::Log if plain_size == 0 => Some(0),
            FileKind::Log => {
                let frames = plain_size.checked_sub(LOG_HEADER)?;
                frames.is_multiple_of(FRAME).then_some(LOG_HEADER_SEALED + frames / FRAME * FRAME_SEALED)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(kind: FileKind, offset: u64, length: usize) -> Vec<Piece> {
        let (mut pieces, mut done) = (Vec::new(), 0);
        while done < length {
            let piece = kind.piece(offset + done as u64, length - done);
            done += piece.take;
            pieces.push(piece);
        }
        pieces
    }

    /// Length of a record on disk.
    fn sealed_length(piece: &Piece) -> u64 {
        let overhead = if piece.plain_length == PAGE_LENGTH { 0 } else { HEADER_OVERHEAD };
        (piece.plain_length + overhead) as u64
    }

    #[test]
    fn a_frame_is_its_header_and_its_page() {
        let found = pieces(FileKind::Log, 32 + 4120 * 3, 4120);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].kind, found[0].position, found[0].disk_offset), (PageKind::FrameHeader, 3, 60 + 4148 * 3));
        assert_eq!((found[1].kind, found[1].position, found[1].disk_offset), (PageKind::FramePage, 3, 112 + 4148 * 3));
        assert!(found.iter().all(Piece::is_whole));
    }

    #[test]
    fn parts_of_records_are_not_whole() {
        assert!(!FileKind::Log.piece(24, 8).is_whole());
        assert!(!FileKind::Log.piece(32 + 16, 8).is_whole());
        assert!(!FileKind::Database.piece(0, 100).is_whole());
        assert!(FileKind::Database.piece(4096, 4096).is_whole());
    }

    proptest! {
        /// Whatever is read, the pieces cover it without gap, and records follow each other on disk.
        #[test]
        fn pieces_cover_reads(log: bool, offset in 0u64..1 << 40, length in 1usize..20_000) {
            let kind = if log { FileKind::Log } else { FileKind::Database };
            let found = pieces(kind, offset, length);
            prop_assert_eq!(found.iter().map(|piece| piece.take).sum::<usize>(), length);
            for pair in found.windows(2) {
                prop_assert_eq!(pair[0].skip + pair[0].take, pair[0].plain_length);
                prop_assert_eq!(pair[1].skip, 0);
                prop_assert_eq!(pair[0].disk_offset + sealed_length(&pair[0]), pair[1].disk_offset);
            }
        }

        #[test]
        fn sizes_go_there_and_back(log: bool, records in 0u64..1 << 30, torn in 0u64..4096) {
            let kind = if log { FileKind::Log } else { FileKind::Database };
            let plain = if log { LOG_HEADER + records * FRAME } else { records * PAGE };
            let disk = kind.disk_size(plain).unwrap();
            prop_assert_eq!(kind.plain_size(disk), plain);
            prop_assert_eq!(kind.plain_size(disk + torn), plain);
            if torn != 0 {
                prop_assert_eq!(kind.disk_size(plain + torn), None);
            }
        }
    }
}
