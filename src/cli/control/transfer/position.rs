//! How far a command is, in a small file of JSON that is replaced in one step. It names the server, the table and the file that it is about,
//! so that a position is never taken for that of another work.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::call::Failure;
use super::{at, beside};

/// What a position belongs to. Where any of it differs it is another work.
pub(super) trait Position: Serialize + DeserializeOwned {
    /// Whether `self`, which was kept, is about the same work as `other`, which is about to begin.
    fn is_of(&self, other: &Self) -> bool;
}

/// The position that is kept at this path; none where there is none.
pub(super) fn load<P: Position>(path: &Path, beginning: &P) -> Result<Option<P>, Failure> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let again = "give the command that it is of, or delete it to begin anew";
    let kept: P = serde_json::from_slice(&text)
        .map_err(|_| Failure::from(format!("{} is not understood; {again}", path.display())))?;
    if !kept.is_of(beginning) {
        return Err(Failure::from(format!("{} belongs to another work; {again}", path.display())));
    }
    Ok(Some(kept))
}

/// Keeps a position: a new file, for its owner only since it may hold a key, synced and then put in the place of the old one.
pub(super) fn save<P: Position>(path: &Path, position: &P) -> Result<(), Failure> {
    let text = serde_json::to_vec(position).map_err(|problem| Failure::from(problem.to_string()))?;
    let new = beside(path, "new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new).map_err(at(&new))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(at(&new))?;
    std::fs::rename(&new, path).map_err(at(path))
}

/// Forgets a position: all is done.
pub(super) fn forget(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Example {
        of: String,
        at: u64,
    }

    impl Position for Example {
        fn is_of(&self, other: &Self) -> bool {
            self.of == other.of
        }
    }

    #[test]
    fn positions_are_kept_for_their_own_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.position");
        let example = |of: &str, at| Example { of: of.to_owned(), at };
        assert_eq!(load(&path, &example("a", 0)).unwrap(), None);
        save(&path, &example("a", 1)).unwrap();
        save(&path, &example("a", 7)).unwrap();
        assert_eq!(load(&path, &example("a", 0)).unwrap(), Some(example("a", 7)));
        assert!(load(&path, &example("b", 0)).is_err());
        std::fs::write(&path, "{").unwrap();
        assert!(load(&path, &example("a", 0)).is_err());
        forget(&path).unwrap();
        forget(&path).unwrap();
        assert_eq!(load(&path, &example("a", 0)).unwrap(), None);
    }
}
