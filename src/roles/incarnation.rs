//! A data folder's incarnation: a random id in the file `incarnation` beside the node's database.
//!
//! It stands for everything that must be there together: the database, which says what the node has, and the commit log,
//! which says what it has promised. Where one of them is missing, the folder is another one, whatever the file says.

use std::io::ErrorKind;
use std::path::Path;

use uuid::Uuid;

use crate::domain::Random;
use crate::domain::ambient::random_uuid;

use super::node_parts::StartError;
use super::private_files;

/// The incarnation of a node's folder at one control plane, made where there is none. To be asked before anything else in
/// the folder is opened or made.
///
/// # Errors
/// Where the file cannot be read or written, or holds something else.
pub fn read_or_make(folder: &Path, random: &dyn Random) -> Result<Uuid, StartError> {
    let path = folder.join("incarnation");
    let failed = |error: std::io::Error| StartError(format!("{}: {error}", path.display()));
    let is_whole = folder.join("node.db").exists() && folder.join("log").exists();
    match std::fs::read_to_string(&path) {
        Ok(text) if is_whole => {
            return text
                .trim()
                .parse()
                .map_err(|_| StartError(format!("{} holds no UUID: restore it from a copy", path.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let incarnation = random_uuid(random);
    private_files::replace(&path, format!("{incarnation}\n").as_bytes()).map_err(failed)?;
    Ok(incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::ambient;

    #[test]
    fn a_folder_keeps_its_incarnation_as_long_as_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let ask = || read_or_make(folder.path(), &*ambient::random());
        let before = ask().unwrap();
        // Killed before anything was made: nothing rests on it.
        let first = ask().unwrap();
        assert_ne!(before, first);
        std::fs::create_dir(folder.path().join("log")).unwrap();
        std::fs::write(folder.path().join("node.db"), "a database").unwrap();
        assert_eq!((ask().unwrap(), ask().unwrap()), (first, first));
        std::fs::remove_dir(folder.path().join("log")).unwrap();
        let without_log = ask().unwrap();
        assert_ne!(without_log, first, "without its promises it is another one");
        std::fs::create_dir(folder.path().join("log")).unwrap();
        std::fs::write(folder.path().join("incarnation"), "half").unwrap();
        assert!(ask().unwrap_err().to_string().contains("restore"));
    }
}
