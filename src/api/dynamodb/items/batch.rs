//! What both batches have in common: their parts run side by side, so many at a time, within the one task of the call, so that
//! those that reach a node together are forced to its disk together. A part that cannot be served now does not fail
//! the others: it comes back as unprocessed, and the client asks again for it. Where nothing could be served, the call
//! fails as its first part did, which every SDK takes as a reason to wait.

use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{Constraints, RawList, RawMap};
use crate::domain::{Refusal, RefusalKind};

/// Parts of one call that are under way at a time.
pub(super) const PARALLEL_MAX: usize = 32;
/// Tables and items that BatchGetItem takes at most.
pub(super) const READS_MAX: usize = 100;
/// Tables and items that BatchWriteItem takes at most.
pub(super) const WRITES_MAX: usize = 25;
/// Bytes of items that BatchGetItem answers at most.
pub(super) const READ_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Whether a part that was refused like this may be asked for again.
pub(super) fn is_passing(refusal: &Refusal) -> bool {
    match refusal.kind {
        RefusalKind::Throttled
        | RefusalKind::Unavailable
        | RefusalKind::WrongNode
        | RefusalKind::TooSlow
        // A put or delete without condition that was done may be done again.
        | RefusalKind::OutcomeUnknown => true,
        RefusalKind::BadInput
        | RefusalKind::Unauthenticated
        | RefusalKind::Denied
        | RefusalKind::NotFound
        | RefusalKind::Conflict
        | RefusalKind::PreconditionFailed
        | RefusalKind::TooLarge
        | RefusalKind::UnsupportedMediaType
        | RefusalKind::RequestIdReused
        | RefusalKind::StorageFull
        | RefusalKind::Damaged
        | RefusalKind::Internal => false,
    }
}

/// How the parts of a call went.
#[derive(Default)]
pub(super) struct Progress {
    served: usize,
    refused: Option<Refusal>,
}

impl Progress {
    /// One more was served.
    pub(super) fn serve(&mut self) {
        self.served += 1;
    }

    /// One more was refused.
    ///
    /// # Errors
    /// Where that is for good: the whole call fails with it.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> Result<(), Failure> {
        if !is_passing(&refusal) {
            return Err(refusal.into());
        }
        self.refused.get_or_insert(refusal);
        Ok(())
    }

    /// The end.
    ///
    /// # Errors
    /// Where none was served.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.refused {
            Some(refusal) if self.served == 0 => Err(refusal.into()),
            _ => Ok(()),
        }
    }
}

/// Notes tables that are not given, none or too many.
pub(super) fn check_tables(constraints: &mut Constraints, tables: &RawMap<'_>, most: usize) {
    match &tables.0 {
        None => constraints.missing("requestItems"),
        Some(tables) => {
            check_count(constraints, "requestItems", ("{}", "{...}"), tables.len(), most);
            // Names as long as an ARN may be.
            for (name, _) in tables.iter().filter(|(name, _)| name.is_empty() || name.chars().count() > 1024) {
                let rule = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1]";
                constraints.broken(format_args!("{{{name}=...}}"), "requestItems", rule);
            }
        }
    }
}

/// Notes a list that is not given, empty or too long.
pub(super) fn check_list(constraints: &mut Constraints, place: &str, list: &RawList<'_>, most: usize) {
    match &list.0 {
        None => constraints.missing(place),
        Some(list) => check_count(constraints, place, ("[]", "[...]"), list.len(), most),
    }
}

fn check_count(constraints: &mut Constraints, place: &str, shown: (&str, &str), count: usize, most: usize) {
    if count == 0 {
        constraints.broken(shown.0, place, "Member must have length greater than or equal to 1");
    } else if count > most {
        constraints.broken(shown.1, place, &format!("Member must have length less than or equal to {most}"));
    }
}

/// Appends a JSON object; `write` appends one name and its value.
pub(super) fn write_map<T>(json: &mut Vec<u8>, entries: impl Iterator<Item = T>, write: impl Fn(T, &mut Vec<u8>)) {
    json.push(b'{');
    for (index, entry) in entries.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write(entry, json);
    }
    json.push(b'}');
}

/// What AWS says of a key that stands in a batch twice.
pub(super) fn duplicates() -> Failure {
    Failure::validation("Provided list of item keys contains duplicates")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: RefusalKind) -> Refusal {
        Refusal::new(kind, "why")
    }

    #[test]
    fn one_part_that_was_served_saves_the_call() {
        let mut progress = Progress::default();
        progress.refuse(refusal(RefusalKind::Throttled)).unwrap();
        progress.refuse(refusal(RefusalKind::Unavailable)).unwrap();
        progress.serve();
        assert!(progress.finish().is_ok());
    }

    #[test]
    fn a_call_of_which_nothing_was_served_fails_as_its_first_part() {
        let mut progress = Progress::default();
        progress.refuse(refusal(RefusalKind::Throttled)).unwrap();
        progress.refuse(refusal(RefusalKind::Unavailable)).unwrap();
        assert_eq!(progress.finish().unwrap_err().name(), "ProvisionedThroughputExceededException");
        assert!(Progress::default().finish().is_ok());
    }

    #[test]
    fn what_is_refused_for_good_fails_the_call() {
        let mut progress = Progress::default();
        progress.serve();
        assert!(progress.refuse(refusal(RefusalKind::Damaged)).is_err());
    }
}
