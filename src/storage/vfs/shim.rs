//! The C boundary: SQLite's tables of function pointers, filled with functions that find our file behind
//! SQLite's pointer, call [`super::file`] with slices, and answer with SQLite's codes. No decision
//! about formats is taken here.
//!
//! A file as SQLite sees it is one block of `szOsFile` bytes, in which SQLite's own file is embedded:
//!
//! | offset | what |
//! |---|---|
//! | 0 | `sqlite3_file`: pointer to our methods |
//! | 8 | pointer to our [`OpenFile`] |
//! | 16 | the `unix-excl` VFS's own file, `szOsFile` of that VFS |
//!
//! What is passed through: locks, shared memory (which `unix-excl` keeps on the heap, shared by
//! all connections of the process, so that no `-shm` file shows page numbers) and most file controls.
//! What is withheld:
//!
//! * memory mapping: the methods are of version 2, which has no `xFetch`, and `mmap_size` stays 0;
//! * reads of parts of pages and atomic writes: only `POWERSAFE_OVERWRITE` is claimed. That one must stay:
//!   without it SQLite pads the log and splits its writes at sector boundaries. The claim is as true as it
//!   is for a plain file: we never rewrite a neighbour to write a record;
//! * preallocation in chunks, which would leave zero pages that were never sealed;
//! * every kind of file but databases and logs: no temporary file and no rollback journal can
//!   come to rest in clear.
//!
//! The recovery lock (slot 2 of the shared memory's locks) is taken exclusively only by SQLite's log recovery;
//! watching it go by tells the log's reader that a bad frame ends the log.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::Ordering;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_vfs};

use super::error::{DamageKind, VfsError};
use super::file::{Fault, OpenFile};
use super::inner::Inner;
use super::pages::FileKind;
use super::registry::{FileRef, REGISTRY};

/// The name under which SQLite knows this VFS.
pub(super) const VFS_NAME: &CStr = c"dstore";
const INNER_VFS_NAME: &CStr = c"unix-excl";
/// Slot of the lock that log recovery takes (`WAL_RECOVER_LOCK` in SQLite's source).
const RECOVER_LOCK: c_int = 2;

#[repr(C)]
struct ShimFile {
    base: sqlite3_file,
    open: *mut OpenFile,
}

const INNER_OFFSET: usize = size_of::<ShimFile>().next_multiple_of(16);

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes the VFS known to SQLite, not as the default one. Called once per process.
pub(super) fn register() -> Result<(), VfsError> {
    // SAFETY: the structure below lives for ever, and so does the VFS that it stands on.
    unsafe {
        let inner = ffi::sqlite3_vfs_find(INNER_VFS_NAME.as_ptr());
        if inner.is_null() {
            return Err(VfsError::NotRegistered);
        }
        let vfs = Box::leak(Box::new(sqlite3_vfs {
            iVersion: 2,
            szOsFile: INNER_OFFSET as c_int + (*inner).szOsFile,
            pNext: ptr::null_mut(),
            zName: VFS_NAME.as_ptr(),
            pAppData: inner.cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: Some(dl_open),
            xDlError: Some(dl_error),
            xDlSym: Some(dl_sym),
            xDlClose: Some(dl_close),
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xGetLastError: Some(get_last_error),
            ..*inner
        }));
        match ffi::sqlite3_vfs_register(vfs, 0) {
            ffi::SQLITE_OK => Ok(()),
            _ => Err(VfsError::NotRegistered),
        }
    }
}

/// The VFS below.
///
/// # Safety
/// `vfs` is ours.
unsafe fn below(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    unsafe { (*vfs).pAppData.cast() }
}

/// Our file and the one embedded in it.
///
/// # Safety
/// `file` was opened by [`open`] and not closed since.
unsafe fn parts<'open>(file: *mut sqlite3_file) -> (&'open OpenFile, Inner) {
    unsafe { (&*(*file.cast::<ShimFile>()).open, Inner::new(file.byte_add(INNER_OFFSET))) }
}

fn code(result: Result<(), Fault>) -> c_int {
    result.map_or_else(Fault::code, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands over `szOsFile` bytes for the file and a name that ends with a zero byte, or none.
    unsafe {
        (*file).pMethods = ptr::null();
        let Some((state, kind)) = find_state(name, flags) else { return ffi::SQLITE_CANTOPEN };
        let flags = if kind == FileKind::Database { flags & !ffi::SQLITE_OPEN_CREATE } else { flags };
        let inner = file.byte_add(INNER_OFFSET);
        let below = below(vfs);
        let Some(inner_open) = (*below).xOpen else { return ffi::SQLITE_CANTOPEN };
        let result = inner_open(below, name, inner, flags, out_flags);
        if result != ffi::SQLITE_OK {
            if !(*inner).pMethods.is_null() {
                Inner::new(inner).close();
            }
            return result;
        }
        if kind == FileKind::Log && state.log.get().is_none() {
            match File::open(path_of(name)) {
                // Another connection may have been faster; both descriptors are of the same file.
                Ok(log) => drop(state.log.set(log)),
                Err(_) => {
                    Inner::new(inner).close();
                    return ffi::SQLITE_CANTOPEN;
                }
            }
        }
        (*file.cast::<ShimFile>()).open = Box::into_raw(Box::new(OpenFile { state, kind }));
        (*file).pMethods = &METHODS;
        ffi::SQLITE_OK
    }
}

/// Whose file SQLite wants to open, if it is of a kind that may be.
///
/// # Safety
/// As for [`open`].
unsafe fn find_state(name: *const c_char, flags: c_int) -> Option<(FileRef, FileKind)> {
    if name.is_null() {
        return None;
    }
    if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        return Some((REGISTRY.find(&unsafe { path_of(name) })?, FileKind::Database));
    }
    if flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) == 0 {
        return None;
    }
    // SAFETY: for these two kinds SQLite's name leads to the database, which this VFS opened.
    let (database, _) = unsafe { parts(ffi::sqlite3_database_file_object(name)) };
    if flags & ffi::SQLITE_OPEN_WAL == 0 {
        database.state.note(0, DamageKind::Journal);
        return None;
    }
    Some((database.state.share(), FileKind::Log))
}

/// # Safety
/// `name` ends with a zero byte.
unsafe fn path_of(name: *const c_char) -> PathBuf {
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes())).to_owned()
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once; what `open` boxed is taken back.
    unsafe {
        let open = Box::from_raw((*file.cast::<ShimFile>()).open);
        let inner = Inner::new(file.byte_add(INNER_OFFSET));
        (*file).pMethods = ptr::null();
        open.state.release_after(|| inner.close())
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, buffer: *mut c_void, length: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: SQLite's buffer holds `length` bytes; all of them are written.
    unsafe {
        let (open, inner) = parts(file);
        let buffer = std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length as usize);
        code(open.read(inner, buffer, offset as u64))
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    buffer: *const c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite's buffer holds `length` bytes.
    unsafe {
        let (open, inner) = parts(file);
        let buffer = std::slice::from_raw_parts(buffer.cast::<u8>(), length as usize);
        code(open.write(inner, buffer, offset as u64))
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let (open, inner) = unsafe { parts(file) };
    code(open.truncate(inner, size as u64))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    let (open, inner) = unsafe { parts(file) };
    code(open.sync(inner, flags))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    let (open, inner) = unsafe { parts(file) };
    match open.size(inner) {
        Ok(found) => {
            unsafe { *size = found as sqlite3_int64 };
            ffi::SQLITE_OK
        }
        Err(fault) => fault.code(),
    }
}

/// Calls a method of the file below with the same arguments, or answers `$missing`.
macro_rules! pass_through {
    ($file:ident, $method:ident, $missing:expr $(, $argument:expr)*) => {{
        // SAFETY: the file is open, and the arguments are SQLite's own for the same method.
        let inner = unsafe { parts($file).1 };
        inner.methods().$method.map_or($missing, |method| unsafe { method(inner.raw() $(, $argument)*) })
    }};
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass_through!(file, xLock, ffi::SQLITE_IOERR_LOCK, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass_through!(file, xUnlock, ffi::SQLITE_IOERR_UNLOCK, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, reserved: *mut c_int) -> c_int {
    pass_through!(file, xCheckReservedLock, ffi::SQLITE_IOERR_CHECKRESERVEDLOCK, reserved)
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    match operation {
        ffi::SQLITE_FCNTL_MMAP_SIZE => {
            // SAFETY: the argument of this operation is a 64-bit number.
            unsafe { *argument.cast::<sqlite3_int64>() = 0 };
            ffi::SQLITE_OK
        }
        ffi::SQLITE_FCNTL_SIZE_HINT | ffi::SQLITE_FCNTL_CHUNK_SIZE => ffi::SQLITE_OK,
        ffi::SQLITE_FCNTL_BEGIN_ATOMIC_WRITE
        | ffi::SQLITE_FCNTL_COMMIT_ATOMIC_WRITE
        | ffi::SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE
        | ffi::SQLITE_FCNTL_POWERSAFE_OVERWRITE => ffi::SQLITE_NOTFOUND,
        ffi::SQLITE_FCNTL_VFSNAME => {
            // SAFETY: the argument is a place for a string from SQLite's allocator.
            unsafe { *argument.cast::<*mut c_char>() = ffi::sqlite3_mprintf(c"%s".as_ptr(), VFS_NAME.as_ptr()) };
            ffi::SQLITE_OK
        }
        _ => pass_through!(file, xFileControl, ffi::SQLITE_NOTFOUND, operation, argument),
    }
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    pass_through!(file, xSectorSize, 4096)
}

unsafe extern "C" fn device_characteristics(_file: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    memory: *mut *mut c_void,
) -> c_int {
    pass_through!(file, xShmMap, ffi::SQLITE_IOERR_SHMMAP, region, size, extend, memory)
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    let result = pass_through!(file, xShmLock, ffi::SQLITE_IOERR_SHMLOCK, offset, count, flags);
    let is_recovery = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0 && (offset..offset + count).contains(&RECOVER_LOCK);
    if is_recovery && result == ffi::SQLITE_OK {
        let (open, _) = unsafe { parts(file) };
        open.state.recovering.store(flags & ffi::SQLITE_SHM_LOCK != 0, Ordering::Release);
    }
    result
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    pass_through!(file, xShmBarrier, ())
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    pass_through!(file, xShmUnmap, ffi::SQLITE_OK, delete)
}

/// Calls a function of the VFS below with the same arguments, or answers `$missing`.
macro_rules! pass_below {
    ($vfs:ident, $function:ident, $missing:expr $(, $argument:expr)*) => {
        // SAFETY: the VFS below lives for ever, and the arguments are SQLite's own for the same function.
        unsafe {
            let inner = below($vfs);
            (*inner).$function.map_or($missing, |function| function(inner $(, $argument)*))
        }
    };
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    pass_below!(vfs, xDelete, ffi::SQLITE_IOERR_DELETE, name, sync_folder)
}

unsafe extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, flags: c_int, found: *mut c_int) -> c_int {
    pass_below!(vfs, xAccess, ffi::SQLITE_IOERR_ACCESS, name, flags, found)
}

unsafe extern "C" fn full_pathname(vfs: *mut sqlite3_vfs, name: *const c_char, size: c_int, out: *mut c_char) -> c_int {
    pass_below!(vfs, xFullPathname, ffi::SQLITE_CANTOPEN, name, size, out)
}

unsafe extern "C" fn randomness(vfs: *mut sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    pass_below!(vfs, xRandomness, 0, length, out)
}

unsafe extern "C" fn sleep(vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    pass_below!(vfs, xSleep, 0, microseconds)
}

unsafe extern "C" fn get_last_error(vfs: *mut sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    pass_below!(vfs, xGetLastError, 0, length, out)
}

/// Extensions are not loaded through this VFS.
unsafe extern "C" fn dl_open(_vfs: *mut sqlite3_vfs, _name: *const c_char) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "C" fn dl_error(_vfs: *mut sqlite3_vfs, length: c_int, out: *mut c_char) {
    if length > 0 {
        // SAFETY: there is room for at least one byte.
        unsafe { *out = 0 };
    }
}

unsafe extern "C" fn dl_sym(
    _vfs: *mut sqlite3_vfs,
    _library: *mut c_void,
    _symbol: *const c_char,
) -> Option<unsafe extern "C" fn(*mut sqlite3_vfs, *mut c_void, *const c_char)> {
    None
}

unsafe extern "C" fn dl_close(_vfs: *mut sqlite3_vfs, _library: *mut c_void) {}
