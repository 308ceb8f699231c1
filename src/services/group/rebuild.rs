//! What a group's log is after a start, from what the commit log shows of it and from where the replica's file stands.
//!
//! The file is right: what is applied in it was committed. Of the log
//!
//! - entries above the applied place must follow it without a gap, or the replica has lost something and is out of service;
//! - entries at or below it are kept for followers that lag, as far as they reach up to it without a gap, and only if
//!   they lead to the very entry that is applied: if the one at its index has another term, a snapshot took the place of
//!   all of them, and those behind it are void too (they were never committed, since the snapshot's entry was);
//! - the last entry purged is the one before the first that is kept. Where its term is not known the first one goes too,
//!   and is it.
//!
//! A replica that never voted and has entries applied is a child of a split, which begins in the term of its parent
//! ([`first_vote`]): it must not elect in an earlier one.
//!
//! Pure, and tested as such.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::domain::ids::ReplicaId;
use crate::replication::machine_state::{LogPlace, MachineState};

use super::convert::{entry_from, vote_from};
use super::kept_log::{TAIL_BYTES, TAIL_ENTRIES};
use super::types::{Entry, Vote};

/// What the commit log shows of a range.
#[derive(Debug, Default)]
pub struct ReplayedGroup {
    /// Entries by index: term and payload.
    pub entries: BTreeMap<u64, (u64, Bytes)>,
    /// The last vote: term and payload.
    pub vote: Option<(u64, Bytes)>,
    /// The last purge.
    pub purge: Option<LogPlace>,
}

impl ReplayedGroup {
    /// Drops entries that are surely in the file and more than the tail.
    pub fn trim(&mut self, durable: u64) {
        let above = self.entries.split_off(&durable.saturating_add(1));
        let mut bytes = 0;
        let mut first = None;
        for (index, (_, payload)) in self.entries.iter().rev().take(TAIL_ENTRIES) {
            bytes += payload.len();
            if bytes > TAIL_BYTES {
                break;
            }
            first = Some(*index);
        }
        let mut tail = first.map_or_else(BTreeMap::new, |first| self.entries.split_off(&first));
        tail.extend(above);
        self.entries = tail;
    }
}

/// What a log is after a start.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// The vote.
    pub vote: Option<Vote>,
    /// The last entry that is not there any more.
    pub purged: Option<LogPlace>,
    /// The entries that are kept, without a gap.
    pub entries: Vec<Entry>,
    /// Entries from here on are on disk and void.
    pub void_from: Option<u64>,
}

/// See the module's essay. `applied`: where the file stands; none where nothing was ever applied to it.
///
/// # Errors
/// Why the replica cannot serve.
pub fn rebuild(found: ReplayedGroup, applied: Option<LogPlace>) -> Result<Rebuilt, String> {
    let vote = found.vote.map(|(term, bytes)| vote_from(term, &bytes).ok_or("the vote makes no sense")).transpose()?;
    let mut entries = found.entries;
    let mut void_from = None;
    let floor = applied.max(found.purge.filter(|_| applied.is_none()));
    let mut kept = match floor {
        None => std::mem::take(&mut entries),
        Some(floor) => {
            let mut above = entries.split_off(&floor.index.saturating_add(1));
            let is_other = |term: &u64| *term != floor.term;
            let conflicts = entries.get(&floor.index).is_some_and(|(term, _)| is_other(term))
                || above.first_key_value().is_some_and(|(_, (term, _))| *term < floor.term);
            if conflicts {
                void_from = entries.keys().chain(above.keys()).next().copied();
                above.clear();
                entries.clear();
            }
            if let Some(first) = above.keys().next().filter(|first| **first != floor.index + 1) {
                return Err(format!("entries {} to {} are missing from the commit log", floor.index + 1, first - 1));
            }
            let tail = take_tail(&mut entries, floor.index);
            tail.into_iter().chain(above).collect()
        }
    };
    let is_behind_purge = |index: &u64| found.purge.is_none_or(|purge| *index > purge.index);
    kept.retain(|index, _| is_behind_purge(index));
    check_order(&kept)?;
    let known = |index: u64| [floor, found.purge].into_iter().flatten().find(|place| place.index == index);
    let purged = match kept.first_key_value().map(|(index, _)| *index) {
        None => floor.max(found.purge.filter(|purge| floor.is_none_or(|floor| purge.index > floor.index))),
        Some(0) => None,
        Some(first) => {
            match known(first - 1).or_else(|| entries.get(&(first - 1)).map(|(term, _)| place(*term, first - 1))) {
                Some(before) => Some(before),
                None if floor.is_none() => None,
                None => kept.pop_first().map(|(index, (term, _))| place(term, index)),
            }
        }
    };
    let mut whole = Vec::with_capacity(kept.len());
    for (index, (term, bytes)) in kept {
        whole.push(entry_from(place(term, index), bytes).ok_or(format!("entry {index} makes no sense"))?);
    }
    Ok(Rebuilt { vote, purged, entries: whole, void_from })
}

/// The vote of a child of a split that has not voted: in the term in which it begins, in which nobody can be elected, for
/// the member that is to ask the others first in the next one; `first`, or the voter with the least id. None where nothing
/// was applied, or nobody votes.
pub fn first_vote(machine: &MachineState, first: Option<ReplicaId>) -> Option<Vote> {
    let voters = machine.membership.voters.first().filter(|_| machine.applied.term > 0)?;
    let first = first.filter(|first| voters.contains(first)).or_else(|| voters.first().copied())?;
    Some(Vote::new(machine.applied.term, first))
}

fn place(term: u64, index: u64) -> LogPlace {
    LogPlace { term, index }
}

type Raw = BTreeMap<u64, (u64, Bytes)>;

/// The entries that lead up to `last` without a gap.
fn take_tail(entries: &mut Raw, last: u64) -> Raw {
    let mut first = last.saturating_add(1);
    while let Some(before) = first.checked_sub(1).filter(|before| entries.contains_key(before)) {
        first = before;
    }
    entries.split_off(&first)
}

fn check_order(entries: &Raw) -> Result<(), String> {
    let places: Vec<_> = entries.iter().map(|(index, (term, _))| (*index, *term)).collect();
    match places.windows(2).find(|pair| pair[1].0 != pair[0].0 + 1 || pair[1].1 < pair[0].1) {
        Some(pair) => Err(format!("entry {} of the commit log does not follow entry {}", pair[1].0, pair[0].0)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::command::Command;
    use openraft::entry::RaftEntry;

    fn found(entries: &[(u64, u64)]) -> ReplayedGroup {
        let blank = |(term, index): &(u64, u64)| (*index, (*term, Command::Blank.encode()));
        ReplayedGroup { entries: entries.iter().map(blank).collect(), ..ReplayedGroup::default() }
    }

    fn indexes(rebuilt: &Rebuilt) -> Vec<u64> {
        rebuilt.entries.iter().map(RaftEntry::index).collect()
    }

    #[test]
    fn what_follows_the_file_is_kept_and_what_leads_to_it() {
        let rebuilt = rebuild(found(&[(1, 3), (1, 5), (1, 6), (2, 7), (2, 8)]), Some(place(2, 7))).unwrap();
        assert_eq!((rebuilt.purged, indexes(&rebuilt)), (Some(place(1, 5)), vec![6, 7, 8]));
        let rebuilt = rebuild(found(&[(2, 8)]), Some(place(2, 7))).unwrap();
        assert_eq!((rebuilt.purged, indexes(&rebuilt)), (Some(place(2, 7)), vec![8]));
        let rebuilt = rebuild(found(&[(1, 3)]), Some(place(2, 7))).unwrap();
        assert_eq!((rebuilt.purged, indexes(&rebuilt), rebuilt.void_from), (Some(place(2, 7)), vec![], None));
    }

    #[test]
    fn a_purge_is_kept_to() {
        let purged = ReplayedGroup { purge: Some(place(1, 5)), ..found(&[(1, 4), (1, 5), (1, 6), (1, 7)]) };
        let rebuilt = rebuild(purged, Some(place(1, 6))).unwrap();
        assert_eq!((rebuilt.purged, indexes(&rebuilt)), (Some(place(1, 5)), vec![6, 7]));
    }

    #[test]
    fn a_gap_above_the_file_is_an_error() {
        assert!(rebuild(found(&[(1, 9)]), Some(place(1, 7))).is_err());
        assert!(rebuild(found(&[(1, 8), (1, 10)]), Some(place(1, 7))).is_err());
    }

    #[test]
    fn what_a_snapshot_contradicts_is_void() {
        let rebuilt = rebuild(found(&[(2, 6), (2, 7), (2, 8)]), Some(place(3, 7))).unwrap();
        assert_eq!((rebuilt.purged, indexes(&rebuilt), rebuilt.void_from), (Some(place(3, 7)), vec![], Some(6)));
        let rebuilt = rebuild(found(&[(2, 8)]), Some(place(3, 7))).unwrap();
        assert_eq!((indexes(&rebuilt), rebuilt.void_from), (vec![], Some(8)));
    }

    #[test]
    fn a_log_without_a_file_starts_where_it_starts() {
        let rebuilt = rebuild(found(&[(0, 0), (1, 1)]), None).unwrap();
        assert_eq!((rebuilt.purged, indexes(&rebuilt)), (None, vec![0, 1]));
        let rebuilt = rebuild(found(&[]), None).unwrap();
        assert_eq!((rebuilt.purged, indexes(&rebuilt)), (None, vec![]));
        let founding = rebuild(found(&[(1, 1)]), Some(place(0, 0))).unwrap();
        assert_eq!((founding.purged, indexes(&founding)), (Some(place(0, 0)), vec![1]));
    }

    #[test]
    fn what_is_in_the_file_is_trimmed_to_the_tail() {
        let mut replayed = found(&(1..=TAIL_ENTRIES as u64 + 20).map(|index| (1, index)).collect::<Vec<_>>());
        replayed.trim(TAIL_ENTRIES as u64 + 10);
        assert_eq!(replayed.entries.first_key_value().map(|(index, _)| *index), Some(11));
        assert_eq!(replayed.entries.len(), TAIL_ENTRIES + 10);
    }
}
