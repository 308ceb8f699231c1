//! SQLite's own file below ours, as calls that take slices. Locks, shared memory and error numbers stay
//! SQLite's business; this only keeps the unsafe calls in one place.

use rusqlite::ffi;
use std::os::raw::c_int;

/// An open file of SQLite's `unix-excl` VFS.
#[derive(Clone, Copy)]
pub(super) struct Inner(*mut ffi::sqlite3_file);

/// How much of a read was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// The file ended before; the rest is zero.
    Short,
}

impl Inner {
    /// # Safety
    /// `file` was opened by SQLite's VFS and stays open as long as this value is used.
    pub(super) unsafe fn new(file: *mut ffi::sqlite3_file) -> Self {
        Self(file)
    }

    pub(super) fn raw(self) -> *mut ffi::sqlite3_file {
        self.0
    }

    /// The methods of the file below.
    pub(super) fn methods(self) -> &'static ffi::sqlite3_io_methods {
        // SAFETY: an open file has methods, and SQLite's tables of methods are static.
        unsafe { &*(*self.0).pMethods }
    }

    pub(super) fn read(self, buffer: &mut [u8], offset: u64) -> Result<Extent, c_int> {
        let Some(read) = self.methods().xRead else { return Err(ffi::SQLITE_IOERR_READ) };
        // SAFETY: the buffer is as long as told, and the file is open.
        match unsafe { read(self.0, buffer.as_mut_ptr().cast(), buffer.len() as c_int, offset as i64) } {
            ffi::SQLITE_OK => Ok(Extent::Whole),
            ffi::SQLITE_IOERR_SHORT_READ => Ok(Extent::Short),
            code => Err(code),
        }
    }

    pub(super) fn write(self, buffer: &[u8], offset: u64) -> Result<(), c_int> {
        let Some(write) = self.methods().xWrite else { return Err(ffi::SQLITE_IOERR_WRITE) };
        // SAFETY: the buffer is as long as told, and the file is open.
        done(unsafe { write(self.0, buffer.as_ptr().cast(), buffer.len() as c_int, offset as i64) })
    }

    pub(super) fn truncate(self, size: u64) -> Result<(), c_int> {
        let Some(truncate) = self.methods().xTruncate else { return Err(ffi::SQLITE_IOERR_TRUNCATE) };
        // SAFETY: the file is open.
        done(unsafe { truncate(self.0, size as i64) })
    }

    pub(super) fn size(self) -> Result<u64, c_int> {
        let Some(file_size) = self.methods().xFileSize else { return Err(ffi::SQLITE_IOERR_FSTAT) };
        let mut size = 0;
        // SAFETY: the file is open and the size has a place to go.
        done(unsafe { file_size(self.0, &mut size) })?;
        Ok(size.max(0) as u64)
    }

    pub(super) fn sync(self, flags: c_int) -> Result<(), c_int> {
        let Some(sync) = self.methods().xSync else { return Err(ffi::SQLITE_IOERR_FSYNC) };
        // SAFETY: the file is open.
        done(unsafe { sync(self.0, flags) })
    }

    pub(super) fn close(self) -> c_int {
        // SAFETY: the file is open; the caller does not use it again.
        self.methods().xClose.map_or(ffi::SQLITE_OK, |close| unsafe { close(self.0) })
    }
}

fn done(code: c_int) -> Result<(), c_int> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
}
