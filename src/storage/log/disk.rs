//! The few things the log asks of a disk, behind a trait, so that tests can bring one that loses power, fails a
//! sync, or is full.

use std::io;
use std::path::{Path, PathBuf};

/// A folder of files on a disk. Calls block.
pub trait Disk: Send + Sync + 'static {
    /// Makes the folder where it is missing, parents too, and syncs each parent that got a new one.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;
    /// Opens a file for reading and writing; with `create` it must not exist and is made. Not synced.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file over nothing or over another. Not synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Not synced.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The paths of the files in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes creations, renames and removals in the folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that can still be allocated on the folder's file system.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
    /// Bytes of the folder's whole file system.
    fn total_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Reads up to the buffer's length at `offset`; fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents durable, with whatever metadata is needed to read them back.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the file `bytes` long with all blocks allocated; what is new reads as zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Takes the lock that keeps other processes out, until the file is closed; `false`: another has it.
    fn lock(&self) -> io::Result<bool>;
}
