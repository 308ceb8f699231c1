//! Reads that may lag: they need not show the last write, and have no place in the order of the others. But whatever they show
//! was written, by a write that was asked for before they were answered and that did not end as one that did nothing.

use std::collections::BTreeMap;

use crate::history::{Action, Answer, Document, Operation};

/// The writes of one key, by each name and number that they set.
type Writes<'a> = BTreeMap<(&'a str, u64), Vec<&'a Operation>>;

/// Whether reads of one key that may lag show only what writes in the history have, or may have, written.
///
/// # Errors
/// What was shown, to which read, and the write that did nothing, where there is one.
pub fn check_shown(history: &[Operation], reads: &[Operation]) -> Result<(), String> {
    let writes = writes_of(history);
    for read in reads {
        let Answer::Item(Some(item)) = &read.answer else { continue };
        check_read(&writes, read, &item.document)?;
    }
    Ok(())
}

fn check_read(writes: &Writes<'_>, read: &Operation, shown: &Document) -> Result<(), String> {
    for (name, number) in &shown.0 {
        let writers = writes.get(&(name.as_str(), *number)).map(Vec::as_slice).unwrap_or_default();
        if writers.iter().any(|write| may_have_happened(write) && !read.is_before(write)) {
            continue;
        }
        let why = match writers {
            [] => "nobody wrote it".to_owned(),
            [write, ..] if may_have_happened(write) => format!("it was written only later: {write}"),
            [write, ..] => format!("it was not done: {write}"),
        };
        return Err(format!("a read shows {name}:{number}, but {why}; the read: {read}"));
    }
    Ok(())
}

fn writes_of(history: &[Operation]) -> Writes<'_> {
    let mut writes = Writes::new();
    for write in history {
        let fields: Vec<(&str, u64)> = match &write.action {
            Action::Put(document) => document.0.iter().map(|(name, number)| (name.as_str(), *number)).collect(),
            Action::Merge(patch) => {
                patch.0.iter().filter_map(|(name, number)| Some((name.as_str(), (*number)?))).collect()
            }
            Action::Delete | Action::Read => Vec::new(),
        };
        for field in fields {
            writes.entry(field).or_default().push(write);
        }
    }
    writes
}

/// Whether the write has, or may have, changed something.
fn may_have_happened(write: &Operation) -> bool {
    !matches!(write.answer, Answer::NotDone | Answer::PreconditionFailed | Answer::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Condition, NEVER, Patch, Stored};

    fn operation(asked: u64, action: Action, answer: Answer) -> Operation {
        let answered = if answer == Answer::Unknown { NEVER } else { asked + 5 };
        Operation { client: 1, action, condition: Condition::Always, asked, answered, answer }
    }

    fn put(asked: u64, number: u64, answer: Answer) -> Operation {
        operation(asked, Action::Put(Document::of(&[("a", number)])), answer)
    }

    fn merge(asked: u64, number: u64, answer: Answer) -> Operation {
        operation(asked, Action::Merge(Patch([("b".to_owned(), Some(number))].into())), answer)
    }

    fn read(asked: u64, fields: &[(&str, u64)]) -> Operation {
        let item = Stored { version: 1, document: Document::of(fields) };
        operation(asked, Action::Read, Answer::Item(Some(item)))
    }

    #[test]
    fn an_old_item_may_be_shown_and_so_may_one_that_nobody_was_told_of() {
        let history = [put(0, 1, Answer::Created(1)), put(10, 2, Answer::Updated(2)), put(20, 3, Answer::Unknown)];
        let nothing = operation(60, Action::Read, Answer::Item(None));
        let reads = [read(30, &[("a", 1)]), read(40, &[("a", 3)]), read(50, &[("a", 2)]), nothing];
        assert_eq!(check_shown(&history, &reads), Ok(()));
        // One that is under way when the read is answered may be seen already.
        assert_eq!(check_shown(&[put(4, 1, Answer::Created(1))], &[read(0, &[("a", 1)])]), Ok(()));
    }

    #[test]
    fn what_was_answered_as_not_done_is_never_shown() {
        for answer in [Answer::NotDone, Answer::PreconditionFailed] {
            let history = [put(0, 1, Answer::Created(1)), put(10, 2, answer)];
            assert_eq!(check_shown(&history, &[read(20, &[("a", 1)])]), Ok(()));
            let found = check_shown(&history, &[read(20, &[("a", 1)]), read(30, &[("a", 2)])]);
            assert!(found.unwrap_err().contains("a:2, but it was not done"));
        }
        // A part of the item is enough.
        let history = [put(0, 1, Answer::Created(1)), merge(10, 2, Answer::NotFound)];
        assert!(check_shown(&history, &[read(20, &[("a", 1), ("b", 2)])]).unwrap_err().contains("b:2, but it was not"));
    }

    #[test]
    fn what_nobody_wrote_is_never_shown() {
        let history = [put(0, 1, Answer::Created(1)), merge(10, 2, Answer::Updated(2))];
        assert_eq!(check_shown(&history, &[read(20, &[("a", 1), ("b", 2)])]), Ok(()));
        for shown in [&[("a", 2)][..], &[("b", 1)], &[("a", 1), ("c", 2)]] {
            assert!(check_shown(&history, &[read(20, shown)]).unwrap_err().contains("nobody wrote it"));
        }
        assert!(check_shown(&[], &[read(20, &[("a", 1)])]).unwrap_err().contains("nobody wrote it"));
    }

    #[test]
    fn nothing_is_shown_before_it_was_asked_for() {
        let history = [put(20, 1, Answer::Created(1))];
        assert!(check_shown(&history, &[read(10, &[("a", 1)])]).unwrap_err().contains("only later"));
    }
}
