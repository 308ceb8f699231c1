//! Comparing the copies of a range: digests of their state by intervals of hashes, and what follows from them.
//!
//! The copies agree on a place in their log by an entry that asks for digests
//! ([`super::command::Command::Digest`]). Each looks at its state exactly there, however far it has come when it
//! does so, and digests it in parts: [`INTERVALS`] neighbouring intervals of hashes, and one part more for what belongs to no
//! item. Applying is the same everywhere, so equal copies give equal digests.
//!
//! # What follows
//! In each part the digest of a majority of **all** voters is taken for right, and who gave another one for damaged. A copy
//! that gave none is neither good nor damaged. Damaged copies are given up only if those that are right in every part
//! are a majority of the voters by themselves: then whatever is made anew is made from what a majority has, and no
//! copy is lost that somebody may still need. Else people are told and nothing is done. So of two copies that differ
//! neither is touched, for nobody knows which is right.
//!
//! What the next author must keep: the number and order of parts is the same in two releases that share a group, or
//! copies of different releases differ in all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::hash::HashRange;
use crate::domain::ids::ReplicaId;

/// Intervals of hashes that are digested each for itself, where the range has so many hashes.
pub const INTERVALS: u32 = 64;

/// A digest of one part: SHA-256.
pub type Sum = [u8; 32];

/// The intervals of a range, in the order in which they are digested.
pub fn intervals(hashes: &HashRange) -> Vec<HashRange> {
    hashes.split(INTERVALS)
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Who differs from the majority, and in which parts.
    pub damaged: BTreeMap<ReplicaId, BTreeSet<u16>>,
    /// Parts for which no majority of the voters gave the same digest, though there were different ones.
    pub undecided: BTreeSet<u16>,
    /// Who is right in every part.
    pub good: BTreeSet<ReplicaId>,
    /// Whether the damaged may be given up.
    pub may_replace: bool,
}

impl Comparison {
    /// Whether all copies that gave digests are equal.
    pub fn is_equal(&self) -> bool {
        self.damaged.is_empty() && self.undecided.is_empty()
    }
}

/// Compares what voters told. Who told another number of parts than the others differs in those that it lacks.
pub fn compare(voters: &BTreeSet<ReplicaId>, told: &BTreeMap<ReplicaId, Vec<Sum>>) -> Comparison {
    let told: BTreeMap<&ReplicaId, &Vec<Sum>> = told.iter().filter(|(voter, _)| voters.contains(voter)).collect();
    let majority = voters.len() / 2 + 1;
    let mut damaged: BTreeMap<ReplicaId, BTreeSet<u16>> = BTreeMap::new();
    let mut undecided = BTreeSet::new();
    let parts = told.values().map(|sums| sums.len()).max().unwrap_or(0);
    for part in 0..parts {
        let mut by_sum: BTreeMap<Option<&Sum>, Vec<ReplicaId>> = BTreeMap::new();
        for (voter, sums) in &told {
            by_sum.entry(sums.get(part)).or_default().push(**voter);
        }
        if by_sum.len() <= 1 {
            continue;
        }
        if by_sum.values().all(|voters| voters.len() < majority) {
            undecided.insert(part as u16);
            continue;
        }
        for voter in by_sum.into_values().filter(|voters| voters.len() < majority).flatten() {
            damaged.entry(voter).or_default().insert(part as u16);
        }
    }
    let good: BTreeSet<ReplicaId> = match undecided.is_empty() {
        true => told.keys().map(|voter| **voter).filter(|voter| !damaged.contains_key(voter)).collect(),
        false => BTreeSet::new(),
    };
    let may_replace = !damaged.is_empty() && good.len() >= majority;
    Comparison { damaged, undecided, good, may_replace }
}

/// Whether a copy may be given up, so that it votes no more: the other voters that are there and sound have to be a
/// majority of all, so that the range goes on without it and there is somebody to make a new copy from.
pub fn may_give_up(own: ReplicaId, voters: &BTreeSet<ReplicaId>, sound: &BTreeSet<ReplicaId>) -> bool {
    let others = voters.intersection(sound).filter(|voter| **voter != own).count();
    others > voters.len() / 2
}

/// Names parts for people: intervals of hashes, and what is beside the items.
pub fn name_parts(hashes: &HashRange, parts: &BTreeSet<u16>) -> String {
    let intervals = intervals(hashes);
    let name = |part: &u16| match intervals.get(usize::from(*part)) {
        Some(interval) => format!("hashes {} to {}", interval.low, interval.high),
        None => "what it remembers beside items".to_owned(),
    };
    const NAMED_MAX: usize = 3;
    let mut named: Vec<String> = parts.iter().take(NAMED_MAX).map(name).collect();
    if parts.len() > NAMED_MAX {
        named.push(format!("{} parts more", parts.len() - NAMED_MAX));
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> ReplicaId {
        ReplicaId::from_bytes([number; 16])
    }

    fn voters(count: u8) -> BTreeSet<ReplicaId> {
        (1..=count).map(id).collect()
    }

    /// What voters told, a number for each part.
    fn told(all: &[(u8, &[u8])]) -> BTreeMap<ReplicaId, Vec<Sum>> {
        all.iter().map(|(voter, sums)| (id(*voter), sums.iter().map(|sum| [*sum; 32]).collect())).collect()
    }

    #[test]
    fn the_one_that_differs_from_two_is_damaged_where_it_differs() {
        let found = compare(&voters(3), &told(&[(1, &[1, 2, 3]), (2, &[1, 9, 3]), (3, &[1, 2, 3])]));
        assert_eq!(found.damaged, [(id(2), [1].into())].into());
        assert_eq!((found.good, found.may_replace), ([id(1), id(3)].into(), true));
        let equal = compare(&voters(3), &told(&[(1, &[1, 2]), (2, &[1, 2]), (3, &[1, 2])]));
        assert!(equal.is_equal() && !equal.may_replace && equal.good.len() == 3);
    }

    #[test]
    fn without_a_majority_nobody_is_blamed() {
        for all in [
            told(&[(1, &[1]), (2, &[2]), (3, &[3])]),
            // The third says nothing: two of three are no majority against one another.
            told(&[(1, &[1]), (2, &[2])]),
        ] {
            let found = compare(&voters(3), &all);
            assert_eq!((found.damaged.len(), found.undecided.len(), found.may_replace), (0, 1, false));
        }
        let two = compare(&voters(2), &told(&[(1, &[1, 5]), (2, &[1, 6])]));
        assert_eq!((two.undecided, two.may_replace), ([1].into(), false));
    }

    #[test]
    fn two_that_are_damaged_in_different_parts_are_told_of_and_left() {
        let found = compare(&voters(3), &told(&[(1, &[9, 2]), (2, &[1, 9]), (3, &[1, 2])]));
        assert_eq!(found.damaged.len(), 2);
        assert!(!found.may_replace, "the third alone is no majority");
        // Of five, three are.
        let five = compare(&voters(5), &told(&[(1, &[9, 2]), (2, &[1, 9]), (3, &[1, 2]), (4, &[1, 2]), (5, &[1, 2])]));
        assert!(five.may_replace && five.good.len() == 3);
    }

    #[test]
    fn who_is_no_voter_counts_for_nothing() {
        let found = compare(&voters(3), &told(&[(1, &[1]), (2, &[2]), (7, &[2]), (8, &[2])]));
        assert_eq!((found.damaged.len(), found.undecided.len()), (0, 1));
    }

    #[test]
    fn a_copy_is_given_up_only_where_the_others_are_a_majority() {
        let sound = |all: &[u8]| all.iter().map(|number| id(*number)).collect::<BTreeSet<_>>();
        assert!(may_give_up(id(1), &voters(3), &sound(&[2, 3])));
        assert!(may_give_up(id(1), &voters(3), &sound(&[1, 2, 3])));
        assert!(!may_give_up(id(1), &voters(3), &sound(&[1, 2])), "another is given up already");
        assert!(!may_give_up(id(1), &voters(2), &sound(&[1, 2])), "the change needs both");
        assert!(!may_give_up(id(1), &voters(1), &sound(&[1])));
        assert!(may_give_up(id(9), &voters(3), &sound(&[1, 2])), "a learner");
    }

    #[test]
    fn parts_are_named_by_their_hashes() {
        assert_eq!(intervals(&HashRange::FULL).len(), 64);
        let range = HashRange { low: 0, high: 127 };
        assert_eq!(name_parts(&range, &[1, 64].into()), "hashes 2 to 3, what it remembers beside items");
        assert_eq!(name_parts(&range, &(0..9).collect()), "hashes 0 to 1, hashes 2 to 3, hashes 4 to 5, 6 parts more");
    }

    proptest! {
        /// Whatever is told: who is good and who is damaged are different copies, and what is made anew is made from
        /// what a majority has.
        #[test]
        fn the_good_are_a_majority_wherever_something_is_replaced(
            count in 1u8..6,
            all in proptest::collection::btree_map(1u8..6, proptest::collection::vec(0u8..3, 0..4), 0..6),
        ) {
            let all: BTreeMap<_, _> =
                all.into_iter().map(|(voter, sums)| (id(voter), sums.into_iter().map(|sum| [sum; 32]).collect())).collect();
            let found = compare(&voters(count), &all);
            prop_assert!(found.good.iter().all(|good| !found.damaged.contains_key(good)));
            if found.may_replace {
                prop_assert!(found.good.len() * 2 > usize::from(count));
                let sums: BTreeSet<_> = found.good.iter().map(|good| &all[good]).collect();
                prop_assert_eq!(sums.len(), 1, "they are equal");
            }
        }
    }
}
