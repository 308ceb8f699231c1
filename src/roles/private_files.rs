//! Files that only their owner may read: written whole or not at all, and never by halves seen after a crash.
//!
//! Everything goes to a file beside first, is synced, and takes its place by renaming; then the folder is synced,
//! since a name that is not durable is no file. A leftover `NAME.new` of a process that was killed is overwritten.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Writes `content` to `path` in place of whatever is there, mode 0600.
///
/// # Errors
/// Those of the file system; then the old file is still there.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::rename(written_beside(path, content, 0o600)?, path)?;
    sync_folder(path)
}

/// Writes `content` to `path`, which must not be there yet.
///
/// # Errors
/// `AlreadyExists`, and those of the file system.
pub fn create(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::from(ErrorKind::AlreadyExists));
    }
    let beside = written_beside(path, content, mode)?;
    let renamed = match renameat_with(CWD, &beside, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that cannot refuse by itself: it was looked at a moment ago.
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(&beside, path),
        done => done.map_err(Error::from),
    };
    if renamed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    renamed?;
    sync_folder(path)
}

/// Makes a folder that only its owner may enter, and those above it; one that is there stays as it is.
///
/// # Errors
/// Those of the file system.
pub fn create_folder(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn written_beside(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(beside)
}

/// Writes over what is in a file that is there, synced, without taking another block of the disk as long as what is written is not
/// much longer: for a disk that is full. A crash in the middle may leave parts of both.
pub fn overwrite(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) => File::open(".")?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_replaced_or_made_anew_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/secret.key");
        create_folder(path.parent().unwrap()).unwrap();
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        // What a killed process left behind does not matter, whatever its mode.
        std::fs::write(path.with_file_name("secret.key.new"), "half").unwrap();
        create(&path, b"one", 0o600).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(create(&path, b"two", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        for content in ["three", "4"] {
            overwrite(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content.as_bytes());
        }
        assert!(overwrite(&path.with_file_name("other"), b"").is_err());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
