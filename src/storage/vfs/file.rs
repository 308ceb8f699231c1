//! One open file, database or log: what reading, writing and sizing mean when everything on disk
//! is sealed. No C here; the shim calls in with slices and turns a [`Fault`] into SQLite's code.
//!
//! Three reads are forgiven, because SQLite asks before it can know better:
//!
//! * The first 100 bytes of page 1 are read when a database is opened, before its log. If a crash
//!   tore page 1 during a checkpoint, the good copy lies in the log. So that read gets a [synthetic header](synthetic_header)
//!   with the only settings a file of ours can have; page 1 is authenticated when it is really read.
//! * While SQLite recovers the log (it then holds the recovery lock), a frame that does not open
//!   reads as zeroes, which ends the log there as a torn tail would; the cut is noted as
//!   [`DamageKind::LogCut`]. An I/O error instead would make the file unusable after any crash.
//! * The same for the log's header, torn while the log was being restarted.
//!
//! At any other time the same frame is an error. A page behind the end of the file is an error too,
//! not zeroes: every page of a database was written once, by a checkpoint or at creation.

use std::os::raw::c_int;
use std::sync::atomic::Ordering;

use rusqlite::ffi;

use super::error::DamageKind;
use super::inner::{Extent, Inner};
use super::pages::{FileKind, Piece, SEALED_HEADER_LENGTH_MAX};
use super::registry::{FileRef, REGISTRY};
use crate::crypto::page::{self, HEADER_OVERHEAD, PAGE_LENGTH, PageKind, PagePlace, RESERVED_LENGTH};

/// What SQLite reads of a database before it opens the log.
const FIRST_READ_LENGTH: usize = 100;
/// How every page 1 begins.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something on disk is not as it was written.
    Damaged { page: u64, kind: DamageKind },
    /// The log ended before; SQLite knows what to do.
    Short,
    /// A page or a length that must not be written.
    Refused,
    /// SQLite's own VFS failed, with this code.
    Below(c_int),
}

impl Fault {
    /// The result code that SQLite gets; extended code 8202 is `SQLITE_IOERR_DATA`.
    pub(super) fn code(self) -> c_int {
        match self {
            Fault::Damaged { .. } => ffi::SQLITE_IOERR_DATA,
            Fault::Short => ffi::SQLITE_IOERR_SHORT_READ,
            Fault::Refused => ffi::SQLITE_IOERR_WRITE,
            Fault::Below(code) => code,
        }
    }
}

impl From<c_int> for Fault {
    fn from(code: c_int) -> Self {
        Fault::Below(code)
    }
}

/// One file that SQLite has open.
pub(super) struct OpenFile {
    pub(super) state: FileRef,
    pub(super) kind: FileKind,
}

impl OpenFile {
    /// Fills `buffer` from SQLite's `offset`, or zeroes what could not be read.
    pub(super) fn read(&self, inner: Inner, buffer: &mut [u8], offset: u64) -> Result<(), Fault> {
        let mut done = 0;
        while done < buffer.len() {
            let piece = self.kind.piece(offset + done as u64, buffer.len() - done);
            if let Err(fault) = self.read_piece(inner, &piece, &mut buffer[done..done + piece.take]) {
                buffer[done..].fill(0);
                return self.forgive(fault, buffer, offset);
            }
            done += piece.take;
        }
        Ok(())
    }

    /// Writes `buffer` to SQLite's `offset`: whole pages and headers only.
    pub(super) fn write(&self, inner: Inner, buffer: &[u8], offset: u64) -> Result<(), Fault> {
        let mut done = 0;
        while done < buffer.len() {
            let piece = self.kind.piece(offset + done as u64, buffer.len() - done);
            if !piece.is_whole() {
                return Err(Fault::Refused);
            }
            self.write_piece(inner, &piece, &buffer[done..done + piece.take])?;
            done += piece.take;
        }
        Ok(())
    }

    /// The size in SQLite's eyes.
    pub(super) fn size(&self, inner: Inner) -> Result<u64, Fault> {
        Ok(self.kind.plain_size(inner.size()?))
    }

    /// Cuts the file to SQLite's `size`, which ends between records.
    pub(super) fn truncate(&self, inner: Inner, size: u64) -> Result<(), Fault> {
        let size = self.kind.disk_size(size).ok_or(Fault::Refused)?;
        Ok(inner.truncate(size)?)
    }

    /// Syncs the file and counts it.
    pub(super) fn sync(&self, inner: Inner, flags: c_int) -> Result<(), Fault> {
        match self.kind {
            FileKind::Database => self.state.count(|counters| &counters.database_syncs),
            FileKind::Log => self.state.count(|counters| &counters.log_syncs),
        }
        Ok(inner.sync(flags)?)
    }

    fn place(&self, piece: &Piece) -> PagePlace {
        PagePlace { kind: piece.kind, file: self.state.file, position: piece.position }
    }

    fn damaged(&self, piece: &Piece) -> Fault {
        let kind = match self.kind {
            FileKind::Database => DamageKind::Page,
            FileKind::Log => DamageKind::Frame,
        };
        Fault::Damaged { page: piece.position, kind }
    }

    fn read_piece(&self, inner: Inner, piece: &Piece, target: &mut [u8]) -> Result<(), Fault> {
        if piece.plain_length != PAGE_LENGTH {
            return self.read_header(inner, piece, target);
        }
        if let (true, Ok(page)) = (piece.is_whole(), <&mut [u8; PAGE_LENGTH]>::try_from(&mut *target)) {
            return self.read_page(inner, piece, page);
        }
        let mut page = [0; PAGE_LENGTH];
        self.read_page(inner, piece, &mut page)?;
        target.copy_from_slice(&page[piece.skip..piece.skip + piece.take]);
        Ok(())
    }

    fn read_page(&self, inner: Inner, piece: &Piece, page: &mut [u8; PAGE_LENGTH]) -> Result<(), Fault> {
        if inner.read(page, piece.disk_offset)? == Extent::Short {
            return Err(match self.kind {
                FileKind::Database => Fault::Damaged { page: piece.position, kind: DamageKind::Missing },
                FileKind::Log => Fault::Short,
            });
        }
        self.state.count(|counters| &counters.pages_opened);
        page::open_page(&self.state.aead, &self.place(piece), page).map_err(|_| self.damaged(piece))?;
        if piece.kind == PageKind::Database && piece.position == 1 && !has_our_layout(page) {
            return Err(Fault::Damaged { page: 1, kind: DamageKind::ForeignPage });
        }
        Ok(())
    }

    fn read_header(&self, inner: Inner, piece: &Piece, target: &mut [u8]) -> Result<(), Fault> {
        let mut buffer = [0; SEALED_HEADER_LENGTH_MAX];
        let sealed = &mut buffer[..piece.plain_length + HEADER_OVERHEAD];
        if inner.read(sealed, piece.disk_offset)? == Extent::Short {
            return Err(Fault::Short);
        }
        let plain = page::open_header(&self.state.aead, &self.place(piece), sealed).map_err(|_| self.damaged(piece))?;
        target.copy_from_slice(&plain[piece.skip..piece.skip + piece.take]);
        Ok(())
    }

    fn write_piece(&self, inner: Inner, piece: &Piece, plain: &[u8]) -> Result<(), Fault> {
        let place = self.place(piece);
        if let Ok(page) = <&[u8; PAGE_LENGTH]>::try_from(plain) {
            let is_first = (piece.kind == PageKind::Database && piece.position == 1) || plain.starts_with(SQLITE_MAGIC);
            if is_first && !has_our_layout(page) {
                return Err(Fault::Refused);
            }
            let mut sealed = *page;
            page::seal_page(&self.state.aead, &place, REGISTRY.nonce(), &mut sealed).map_err(|_| Fault::Refused)?;
            self.state.count(|counters| &counters.pages_sealed);
            return Ok(inner.write(&sealed, piece.disk_offset)?);
        }
        let mut buffer = [0; SEALED_HEADER_LENGTH_MAX];
        let sealed = &mut buffer[..plain.len() + HEADER_OVERHEAD];
        page::seal_header(&self.state.aead, &place, REGISTRY.nonce(), plain, sealed).map_err(|_| Fault::Refused)?;
        Ok(inner.write(sealed, piece.disk_offset)?)
    }

    /// Decides about a read that failed; `buffer` is zero from the fault on.
    fn forgive(&self, fault: Fault, buffer: &mut [u8], offset: u64) -> Result<(), Fault> {
        let Fault::Damaged { page, kind } = fault else { return Err(fault) };
        let first = self.kind.piece(offset, buffer.len());
        if self.kind == FileKind::Database
            && kind == DamageKind::Page
            && offset == 0
            && buffer.len() == FIRST_READ_LENGTH
        {
            buffer.copy_from_slice(&synthetic_header());
            return Ok(());
        }
        if kind == DamageKind::Frame
            && self.state.recovering.load(Ordering::Acquire)
            && first.kind != PageKind::FramePage
            && first.skip == 0
        {
            buffer.fill(0);
            self.state.note(page, DamageKind::LogCut);
            return Ok(());
        }
        self.state.note(page, kind);
        Err(fault)
    }
}

/// Whether a page 1 has 4,096-byte pages with 32 reserved bytes.
fn has_our_layout(page: &[u8; PAGE_LENGTH]) -> bool {
    page.starts_with(SQLITE_MAGIC) && page[16..18] == [0x10, 0x00] && usize::from(page[20]) == RESERVED_LENGTH
}

/// The first 100 bytes of a page 1 with the settings of every file of ours: 4,096-byte pages, WAL, 32
/// reserved bytes, incremental vacuum (<https://sqlite.org/fileformat2.html#the_database_header>).
pub(super) fn synthetic_header() -> [u8; FIRST_READ_LENGTH] {
    let mut header = [0; FIRST_READ_LENGTH];
    header[..16].copy_from_slice(SQLITE_MAGIC);
    header[16..18].copy_from_slice(&[0x10, 0x00]);
    header[18..20].copy_from_slice(&[2, 2]);
    header[20] = RESERVED_LENGTH as u8;
    header[21..24].copy_from_slice(&[64, 32, 32]);
    header[55] = 1; // largest root page: nonzero means that pointer maps are kept
    header[67] = 1; // incremental vacuum
    header
}
