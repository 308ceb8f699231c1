//! Sums that need no search: one pass over the operations of a key, one sentence where something is wrong.
//!
//! Both suppose that each write holds a number of its own, so that a document tells which write it comes from.

use std::collections::BTreeMap;

use crate::history::{Action, Answer, Document, Operation, Stored};

/// Whether each version is one write's and each write has one version: a write that is applied twice shows itself with the
/// same document under two versions.
///
/// # Errors
/// What was seen twice.
pub fn check_versions(history: &[Operation]) -> Result<(), String> {
    let mut documents: BTreeMap<u64, &Document> = BTreeMap::new();
    let mut versions: BTreeMap<&Document, u64> = BTreeMap::new();
    let mut writers: BTreeMap<u64, &Operation> = BTreeMap::new();
    for operation in history {
        if let Answer::Item(Some(Stored { version, document })) = &operation.answer {
            let known = *documents.entry(*version).or_insert(document);
            if known != document {
                return Err(format!("v{version} is {known} and {document}: {operation}"));
            }
            let known = *versions.entry(document).or_insert(*version);
            if known != *version {
                return Err(format!("{document} is v{known} and v{version}, so it was applied twice: {operation}"));
            }
        }
        if let Some(version) = operation.acknowledged_version()
            && let Some(other) = writers.insert(version, operation)
        {
            return Err(format!("v{version} was given to two writes:\n    {other}\n    {operation}"));
        }
    }
    for (version, writer) in &writers {
        let Some(document) = documents.get(version) else { continue };
        let is_written = match &writer.action {
            Action::Put(written) => written == *document,
            Action::Merge(patch) => document.merged(patch) == **document,
            Action::Delete | Action::Read => false,
        };
        if !is_written {
            return Err(format!("v{version} was read as {document}, but was given to: {writer}"));
        }
    }
    Ok(())
}

/// Whether the item that is there when everything has ended holds what was acknowledged.
///
/// # Errors
/// The acknowledged write that is missing, or the acknowledged deletion that is undone.
pub fn check_end(history: &[Operation], last: Option<&Stored>) -> Result<(), String> {
    let happened = |operation: &&Operation| operation.answer != Answer::NotDone;
    let found = last.map_or("no item".to_owned(), |item| format!("{} v{}", item.document, item.version));
    let deletions: Vec<&Operation> =
        history.iter().filter(happened).filter(|operation| operation.action == Action::Delete).collect();
    for write in history {
        let Some(version) = write.acknowledged_version() else { continue };
        let is_there = match last {
            Some(item) => item.version >= version,
            None => deletions.iter().any(|deletion| {
                !deletion.is_before(write) && matches!(deletion.answer, Answer::Deleted | Answer::Unknown)
            }),
        };
        if !is_there {
            return Err(format!("an acknowledged write is lost: {write}; at the end there is {found}"));
        }
    }
    let Some(item) = last else { return Ok(()) };
    for deletion in deletions.iter().filter(|deletion| deletion.answer == Answer::Deleted) {
        let later = history.iter().filter(happened).any(|write| {
            let puts = matches!(write.action, Action::Put(_));
            let succeeded = write.acknowledged_version().is_some() || write.answer == Answer::Unknown;
            puts && succeeded && !write.is_before(deletion)
        });
        let before = history
            .iter()
            .find(|write| write.acknowledged_version() == Some(item.version) && write.is_before(deletion));
        if !later || before.is_some() {
            return Err(format!("an acknowledged deletion is undone: {deletion}; at the end there is {found}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Condition;

    fn operation(asked: u64, action: Action, answer: Answer) -> Operation {
        Operation { client: 1, action, condition: Condition::Always, asked, answered: asked + 5, answer }
    }

    fn put(asked: u64, number: u64, answer: Answer) -> Operation {
        operation(asked, Action::Put(Document::of(&[("a", number)])), answer)
    }

    fn stored(version: u64, number: u64) -> Stored {
        Stored { version, document: Document::of(&[("a", number)]) }
    }

    fn read(asked: u64, item: Option<Stored>) -> Operation {
        operation(asked, Action::Read, Answer::Item(item))
    }

    #[test]
    fn a_write_seen_under_two_versions_was_applied_twice() {
        let write = put(0, 1, Answer::Unknown);
        assert_eq!(check_versions(&[write.clone(), read(10, Some(stored(1, 1)))]), Ok(()));
        let twice = [write, read(10, Some(stored(1, 1))), read(20, Some(stored(2, 1)))];
        assert!(check_versions(&twice).unwrap_err().contains("applied twice"));
    }

    #[test]
    fn a_version_is_one_writes() {
        let both = [put(0, 1, Answer::Created(1)), put(10, 2, Answer::Updated(1))];
        assert!(check_versions(&both).unwrap_err().contains("two writes"));
        let other = [put(0, 1, Answer::Created(1)), read(10, Some(stored(1, 2)))];
        assert!(check_versions(&other).unwrap_err().contains("was given to"));
        let changed = [read(0, Some(stored(1, 1))), read(10, Some(stored(1, 2)))];
        assert!(check_versions(&changed).unwrap_err().contains("v1 is"));
    }

    #[test]
    fn what_was_acknowledged_is_there_at_the_end() {
        let writes = [put(0, 1, Answer::Created(1)), put(10, 2, Answer::Updated(2))];
        assert_eq!(check_end(&writes, Some(&stored(2, 2))), Ok(()));
        assert_eq!(check_end(&writes, Some(&stored(3, 3))), Ok(()), "somebody unknown wrote later");
        assert!(check_end(&writes, Some(&stored(1, 1))).unwrap_err().contains("lost"));
        assert!(check_end(&writes, None).unwrap_err().contains("lost"));
        let unknown = operation(5, Action::Delete, Answer::Unknown);
        assert_eq!(check_end(&[writes[0].clone(), unknown], None), Ok(()));
    }

    #[test]
    fn what_was_deleted_stays_away() {
        let (write, deletion) = (put(0, 1, Answer::Created(1)), operation(10, Action::Delete, Answer::Deleted));
        assert_eq!(check_end(&[write.clone(), deletion.clone()], None), Ok(()));
        let back = check_end(&[write.clone(), deletion.clone()], Some(&stored(1, 1)));
        assert!(back.unwrap_err().contains("undone"));
        let again = [write.clone(), deletion.clone(), put(20, 2, Answer::Unknown)];
        assert_eq!(check_end(&again, Some(&stored(3, 2))), Ok(()));
        assert!(check_end(&again, Some(&stored(1, 1))).unwrap_err().contains("undone"));
        let refused = [write, deletion, put(20, 2, Answer::NotDone)];
        assert!(check_end(&refused, Some(&stored(3, 2))).unwrap_err().contains("undone"));
    }
}
