//! The real disk: the operating system's files.
//!
//! `fdatasync` and not `fsync`: on Linux it also writes the metadata needed to read the data back (length, block
//! map), and spares the rest. `fallocate` makes the blocks, so that a later write cannot run out of space on file
//! systems that overwrite in place. No `O_DIRECT`: groups are small and a page cache that holds the head makes
//! copying and replay cheap.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};

/// The operating system's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.make_folder(parent)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_folder(parent.unwrap_or(Path::new(".")))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(create).mode(0o600).open(path)?;
        Ok(Box::new(SystemFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let status = rustix::fs::statvfs(folder)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn total_bytes(&self, folder: &Path) -> io::Result<u64> {
        let status = rustix::fs::statvfs(folder)?;
        Ok(status.f_blocks.saturating_mul(status.f_frsize))
    }
}

struct SystemFile(File);

impl DiskFile for SystemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes) {
                Err(rustix::io::Errno::INTR) => {}
                // Some file systems cannot: then only the length is made, and a full disk shows when writing.
                Err(rustix::io::Errno::OPNOTSUPP) => return self.0.set_len(bytes),
                result => return Ok(result?),
            }
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_disk_does_what_the_trait_says() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        SystemDisk.make_folder(&deep).unwrap();
        SystemDisk.make_folder(&deep).unwrap();
        let path = deep.join("file");
        assert!(SystemDisk.open(&path, false).is_err());
        let file = SystemDisk.open(&path, true).unwrap();
        assert!(SystemDisk.open(&path, true).is_err(), "create must not open what exists");
        file.allocate(10_000).unwrap();
        assert_eq!(file.length().unwrap(), 10_000);
        file.write_at(b"hello", 9_997).unwrap();
        let mut buffer = [1; 8];
        assert_eq!(file.read_at(&mut buffer, 9_995).unwrap(), 7);
        assert_eq!(&buffer, b"\0\0hello\x01");
        file.sync_data().unwrap();
        assert!(file.lock().unwrap());
        assert!(!SystemDisk.open(&path, false).unwrap().lock().unwrap(), "locked twice");
        SystemDisk.rename(&path, &deep.join("other")).unwrap();
        SystemDisk.sync_folder(&deep).unwrap();
        assert_eq!(SystemDisk.list(&deep).unwrap(), [deep.join("other")]);
        let free = SystemDisk.free_bytes(&deep).unwrap();
        assert!(free > 0 && free <= SystemDisk.total_bytes(&deep).unwrap());
        SystemDisk.remove(&deep.join("other")).unwrap();
        assert_eq!(SystemDisk.list(&deep).unwrap().len(), 0);
    }
}
