//! The boot numbers of a node's folder, in the file `boots` beside its incarnation: see [`crate::replication::boots`].

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::domain::{Clock, Random};
use crate::replication::boots::Boots;
use crate::services::rolled_back::{OwnBoots, seconds};

use super::node_parts::StartError;
use super::private_files;

/// A start over a node's folder at one control plane: the new number is on the disk when this returns. To be asked before
/// anything else in the folder is opened or made: one that lacks its database or its log is another folder, and starts
/// over.
///
/// # Errors
/// Where the file cannot be read or written, or holds something else.
pub fn begin(folder: &Path, clock: &dyn Clock, random: &dyn Random) -> Result<Arc<OwnBoots>, StartError> {
    let path = folder.join("boots");
    let failed = |error: std::io::Error| StartError(format!("{}: {error}", path.display()));
    let mut boots = match std::fs::read_to_string(&path) {
        Ok(text) => Boots::parse(&text).map_err(|error| {
            StartError(format!(
                "{}: {error}. Restore the file from a copy; or remove it, and the node gives up its copies of ranges that have others",
                path.display()
            ))
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => Boots::default(),
        Err(error) => return Err(failed(error)),
    };
    let mut dice = [0; 4];
    random.fill(&mut dice);
    let (now, dice) = (seconds(clock.now()), u32::from_be_bytes(dice));
    match folder.join("node.db").exists() && folder.join("log").exists() {
        true => boots.begin(now, dice),
        false => boots.start_over(0, now, dice),
    };
    let kept = path.clone();
    let keep = Box::new(move |text: &str| match private_files::replace(&kept, text.as_bytes()) {
        // A node must start on a full disk, too: how else would anybody delete something from it?
        Err(error) if error.kind() == ErrorKind::StorageFull => private_files::overwrite(&kept, text.as_bytes()),
        kept => kept,
    });
    OwnBoots::new(boots, keep).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::ambient;

    #[test]
    fn each_start_has_a_number_of_its_own_and_an_older_copy_does_not_know_the_later_ones() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || begin(folder.path(), &*ambient::clock(), &*ambient::random());
        let path = folder.path().join("boots");
        let first = begin().unwrap();
        assert!(!first.has_forgotten(first.present() - (5 << 32)), "what was before the folder was made is another's");
        std::fs::create_dir(folder.path().join("log")).unwrap();
        std::fs::write(folder.path().join("node.db"), "a database").unwrap();
        let copy = std::fs::read(&path).unwrap();
        let second = begin().unwrap();
        assert!(second.present() > first.present() && !second.has_forgotten(first.present()));
        second.settle();
        std::fs::write(&path, copy).unwrap();
        let restored = begin().unwrap();
        assert!(restored.has_forgotten(second.present()) && !restored.has_forgotten(first.present()));
        restored.start_over(second.present(), ambient::clock().now(), &*ambient::random()).unwrap();
        assert!(!begin().unwrap().has_forgotten(second.present()));
        std::fs::remove_file(&path).unwrap();
        assert!(begin().unwrap().has_forgotten(second.present()), "a folder without its list");
        std::fs::write(&path, "5\n").unwrap();
        assert!(begin().is_err_and(|error| error.to_string().contains("boots")));
    }
}
