//! Histories of which is known whether they can be explained, each small enough to be checked by hand.

use crate::history::{Action, Answer, Condition, Document, NEVER, Operation, Patch, Stored};
use crate::{Violation, check_key};

fn operation(from: u64, to: u64, action: Action, answer: Answer) -> Operation {
    Operation { client: from, action, condition: Condition::Always, asked: from, answered: to, answer }
}

fn document(number: u64) -> Document {
    Document::of(&[("a", number)])
}

fn put(from: u64, to: u64, number: u64, answer: Answer) -> Operation {
    operation(from, to, Action::Put(document(number)), answer)
}

fn lost(from: u64, number: u64) -> Operation {
    put(from, NEVER, number, Answer::Unknown)
}

fn read(from: u64, to: u64, version: u64, number: u64) -> Operation {
    operation(from, to, Action::Read, Answer::Item(Some(Stored { version, document: document(number) })))
}

fn none(from: u64, to: u64) -> Operation {
    operation(from, to, Action::Read, Answer::Item(None))
}

fn delete(from: u64, to: u64, answer: Answer) -> Operation {
    operation(from, to, Action::Delete, answer)
}

fn merge(from: u64, to: u64, field: &str, number: u64, answer: Answer) -> Operation {
    let patch = Patch([(field.to_owned(), Some(number))].into());
    operation(from, to, Action::Merge(patch), answer)
}

fn when(condition: Condition, operation: Operation) -> Operation {
    Operation { condition, ..operation }
}

fn passes(history: &[Operation]) {
    if let Err(violation) = check_key(history) {
        panic!("{violation}");
    }
}

fn fails(history: &[Operation]) -> Violation {
    check_key(history).expect_err("it cannot be explained")
}

#[test]
fn nothing_and_one_after_the_other_are_explained() {
    passes(&[]);
    passes(&[none(0, 1), put(2, 3, 1, Answer::Created(5)), read(4, 5, 5, 1), put(6, 7, 2, Answer::Updated(6))]);
    passes(&[
        put(0, 1, 1, Answer::Created(1)),
        delete(2, 3, Answer::Deleted),
        none(4, 5),
        delete(6, 7, Answer::NotFound),
    ]);
}

#[test]
fn operations_at_the_same_time_come_in_either_order() {
    let write = put(0, 10, 1, Answer::Created(1));
    passes(&[write.clone(), none(1, 2), read(3, 4, 1, 1)]);
    passes(&[write.clone(), read(1, 2, 1, 1), read(3, 4, 1, 1)]);
    fails(&[write, read(1, 2, 1, 1), none(3, 4)]);
}

#[test]
fn a_stale_read_is_found_and_named() {
    let history = [
        put(0, 1, 1, Answer::Created(1)),
        put(2, 3, 2, Answer::Updated(2)),
        read(4, 5, 2, 2),
        read(6, 7, 1, 1),
        read(8, 9, 2, 2),
    ];
    let violation = fails(&history);
    assert_eq!(violation.culprit, Some(3));
    for part in ["client 6", "3 of 4 answered operations", "after which the item is {a:2} v2"] {
        assert!(violation.explanation.contains(part), "{part} in {violation}");
    }
}

#[test]
fn a_lost_write_is_found() {
    fails(&[put(0, 1, 1, Answer::Created(1)), none(2, 3)]);
    fails(&[put(0, 1, 1, Answer::Created(1)), put(2, 3, 2, Answer::Updated(2)), read(4, 5, 1, 1)]);
    // Lost without a read: the next write would have replaced something.
    fails(&[put(0, 1, 1, Answer::Created(1)), put(2, 3, 2, Answer::Created(2))]);
}

#[test]
fn a_deletion_that_is_undone_is_found() {
    fails(&[put(0, 1, 1, Answer::Created(1)), delete(2, 3, Answer::Deleted), read(4, 5, 1, 1)]);
}

#[test]
fn versions_grow_and_never_come_back() {
    fails(&[put(0, 1, 1, Answer::Created(5)), put(2, 3, 2, Answer::Updated(5))]);
    fails(&[put(0, 1, 1, Answer::Created(5)), put(2, 3, 2, Answer::Updated(4))]);
    fails(&[put(0, 1, 1, Answer::Created(5)), delete(2, 3, Answer::Deleted), put(4, 5, 2, Answer::Created(3))]);
    fails(&[put(0, 1, 1, Answer::Created(5)), read(2, 3, 6, 1)]);
}

#[test]
fn an_unanswered_write_happens_once_at_any_later_time_or_never() {
    let before = put(0, 1, 1, Answer::Created(1));
    passes(&[before.clone(), lost(2, 9), read(10, 11, 1, 1)]);
    passes(&[before.clone(), lost(2, 9), read(10, 11, 1, 1), read(12, 13, 2, 9)]);
    passes(&[before.clone(), lost(2, 9), read(10, 11, 2, 9), put(12, 13, 3, Answer::Updated(3)), read(14, 15, 3, 3)]);
    // Seen, gone, and seen again: it would have happened twice.
    fails(&[before.clone(), lost(2, 9), read(10, 11, 2, 9), put(12, 13, 3, Answer::Updated(3)), read(14, 15, 4, 9)]);
    // Seen before it was asked.
    fails(&[before.clone(), read(2, 3, 2, 9), lost(4, 9)]);
    // What was refused for good is never seen.
    fails(&[before, put(2, 3, 9, Answer::NotDone), read(10, 11, 2, 9)]);
}

#[test]
fn an_unanswered_write_explains_what_only_follows_from_it() {
    // Updated, because somebody must have created it; the version of what was never read is not known.
    passes(&[lost(0, 9), put(2, 3, 1, Answer::Updated(7))]);
    fails(&[put(2, 3, 1, Answer::Updated(7))]);
    let unknown = delete(2, NEVER, Answer::Unknown);
    passes(&[put(0, 1, 1, Answer::Created(1)), unknown.clone(), put(4, 5, 2, Answer::Created(4))]);
    passes(&[put(0, 1, 1, Answer::Created(1)), unknown, read(4, 5, 1, 1), none(6, 7)]);
}

#[test]
fn an_unanswered_write_may_have_a_last_moment() {
    let queued = Operation { answered: 5, ..lost(2, 9) };
    let before = put(0, 1, 1, Answer::Created(1));
    passes(&[before.clone(), queued.clone(), read(6, 7, 2, 9)]);
    passes(&[before.clone(), queued.clone(), read(6, 7, 1, 1)]);
    fails(&[before, queued, read(6, 7, 1, 1), read(8, 9, 2, 9)]);
}

#[test]
fn merges_keep_what_they_do_not_name() {
    let both = Stored { version: 2, document: Document::of(&[("a", 1), ("b", 2)]) };
    let seen = |item: &Stored| operation(4, 5, Action::Read, Answer::Item(Some(item.clone())));
    let history = [put(0, 1, 1, Answer::Created(1)), merge(2, 3, "b", 2, Answer::Updated(2))];
    passes(&[history[0].clone(), history[1].clone(), seen(&both)]);
    let replaced = Stored { document: Document::of(&[("b", 2)]), ..both };
    fails(&[history[0].clone(), history[1].clone(), seen(&replaced)]);
    passes(&[merge(0, 1, "b", 2, Answer::NotFound)]);
    fails(&[history[0].clone(), merge(2, 3, "b", 2, Answer::NotFound)]);
    let removed = operation(2, 3, Action::Merge(Patch([("a".to_owned(), None)].into())), Answer::Updated(2));
    let empty = Stored { version: 2, document: Document::default() };
    passes(&[history[0].clone(), removed, seen(&empty)]);
}

#[test]
fn conditions_hold_for_the_version_that_is_there() {
    let first = put(0, 1, 1, Answer::Created(1));
    let given = |version| Condition::IfVersion(version);
    passes(&[first.clone(), when(given(1), put(2, 3, 2, Answer::Updated(2)))]);
    fails(&[first.clone(), when(given(1), put(2, 3, 2, Answer::PreconditionFailed))]);
    fails(&[first.clone(), put(2, 3, 2, Answer::Updated(2)), when(given(1), put(4, 5, 3, Answer::Updated(3)))]);
    passes(&[
        first.clone(),
        put(2, 3, 2, Answer::Updated(2)),
        when(given(1), delete(4, 5, Answer::PreconditionFailed)),
    ]);
    passes(&[when(given(1), delete(0, 1, Answer::PreconditionFailed))]);
    passes(&[when(Condition::IfAbsent, first.clone())]);
    fails(&[first.clone(), when(Condition::IfAbsent, put(2, 3, 2, Answer::Updated(2)))]);
    passes(&[first.clone(), when(Condition::IfAbsent, put(2, 3, 2, Answer::PreconditionFailed))]);
    // Two that saw the same version cannot both succeed.
    let one = when(given(1), put(2, 9, 2, Answer::Updated(2)));
    let other = when(given(1), put(2, 9, 3, Answer::Updated(3)));
    fails(&[first.clone(), one.clone(), other.clone()]);
    passes(&[first.clone(), one, Operation { answer: Answer::PreconditionFailed, ..other }]);
    // A version that a read has shown fails only if somebody changed the item since.
    passes(&[first.clone(), lost(2, 9), when(given(1), put(4, 5, 2, Answer::PreconditionFailed))]);
    passes(&[first, lost(2, 9), read(4, 5, 2, 9), when(given(2), put(6, 7, 2, Answer::Updated(3)))]);
}

#[test]
fn many_unanswered_writes_do_not_stall_a_bad_history() {
    let mut history = vec![put(0, 1, 1, Answer::Created(1))];
    history.extend((0..200).map(|number| lost(2 + number, 1000 + number)));
    for number in 0..300 {
        history.push(put(300 + 4 * number, 301 + 4 * number, 2 + number, Answer::Updated(2 + number)));
        history.push(read(302 + 4 * number, 303 + 4 * number, 2 + number, 2 + number));
    }
    passes(&history);
    history.push(read(9000, 9001, 2, 2));
    let violation = fails(&history);
    assert_eq!(violation.culprit, Some(history.len() - 1), "{violation}");
}
