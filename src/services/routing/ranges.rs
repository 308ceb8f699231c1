//! The ranges of one table, in order of their first hash.
//!
//! They stand in pieces of a few hundred behind shared pointers, under a list of each piece's first
//! hash. A look-up searches that list and then one piece: for a million ranges some twenty comparisons in two
//! small arrays. A change copies one piece and the list, not a million ranges. One sorted vector was
//! rejected for the cost of a change, a tree of nodes for the cost of a look-up.
//!
//! Invariants: no piece is empty; ranges ascend by `low`, no two alike; `firsts[i]` is the `low` of the
//! first range of `pieces[i]`. Ranges may overlap or leave holes while a plan changes; a hash is served by
//! the range with the highest `low` not above it, if that range reaches it.

use std::sync::Arc;

use crate::domain::ids::{RangeId, TableId};
use crate::services::items::{NodeAddress, RangeReplica};

/// Ranges in a piece after a split; a piece is split at twice as many.
const PIECE_RANGES: usize = 256;

/// Who serves the hashes from `low` to `high`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRoute {
    /// The first hash.
    pub low: u32,
    /// The last hash, inclusive.
    pub high: u32,
    /// The range.
    pub range: RangeId,
    /// The table; one deleted and made again under its name has another.
    pub table: TableId,
    /// The number of this configuration.
    pub epoch: u64,
    /// The leader.
    pub leader: Arc<NodeAddress>,
    /// Every copy, the leader's included.
    pub replicas: Arc<[RangeReplica]>,
}

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableRoutes {
    firsts: Vec<u32>,
    pieces: Vec<Arc<Vec<RangeRoute>>>,
}

impl TableRoutes {
    /// The range that serves this hash.
    pub fn get(&self, hash: u32) -> Option<&RangeRoute> {
        let piece = self.pieces.get(self.piece_of(hash)?)?;
        let index = piece.partition_point(|route| route.low <= hash).checked_sub(1)?;
        piece.get(index).filter(|route| hash <= route.high)
    }

    /// The range that begins at this hash.
    pub fn get_at(&self, low: u32) -> Option<&RangeRoute> {
        let piece = self.pieces.get(self.piece_of(low)?)?;
        let index = piece.binary_search_by_key(&low, |route| route.low).ok()?;
        piece.get(index)
    }

    /// All ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &RangeRoute> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// The ranges that serve hashes from `low` on, ascending: what a listing walks.
    pub fn iter_from(&self, low: u32) -> impl Iterator<Item = &RangeRoute> {
        let first = self.piece_of(low).unwrap_or(0);
        self.pieces.iter().skip(first).flat_map(|piece| piece.iter()).skip_while(move |route| route.high < low)
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The piece in which a range that serves this hash would be; `None` before the first.
    fn piece_of(&self, hash: u32) -> Option<usize> {
        self.firsts.partition_point(|first| *first <= hash).checked_sub(1)
    }

    /// Puts a range in, in place of one that begins at the same hash.
    pub fn insert(&mut self, route: RangeRoute) {
        if self.pieces.is_empty() {
            self.firsts.push(route.low);
            self.pieces.push(Arc::new(vec![route]));
            return;
        }
        let at = self.piece_of(route.low).unwrap_or(0);
        let piece = Arc::make_mut(&mut self.pieces[at]);
        match piece.binary_search_by_key(&route.low, |route| route.low) {
            Ok(index) => piece[index] = route,
            Err(index) => piece.insert(index, route),
        }
        if piece.len() >= 2 * PIECE_RANGES {
            let upper = piece.split_off(PIECE_RANGES);
            self.firsts.insert(at + 1, upper[0].low);
            self.pieces.insert(at + 1, Arc::new(upper));
        }
        self.firsts[at] = self.pieces[at][0].low;
    }

    /// Takes the range away that begins at this hash; gives it.
    pub fn remove(&mut self, low: u32) -> Option<RangeRoute> {
        let at = self.piece_of(low)?;
        let index = self.pieces[at].binary_search_by_key(&low, |route| route.low).ok()?;
        let piece = Arc::make_mut(&mut self.pieces[at]);
        let removed = piece.remove(index);
        match piece.first() {
            Some(first) => self.firsts[at] = first.low,
            None => {
                self.firsts.remove(at);
                self.pieces.remove(at);
            }
        }
        Some(removed)
    }
}

/// Ranges in ascending order of `low`, no two alike, make a table at once; others are put in one by one.
impl FromIterator<RangeRoute> for TableRoutes {
    fn from_iter<I: IntoIterator<Item = RangeRoute>>(routes: I) -> Self {
        let mut table = TableRoutes::default();
        let mut last: Option<u32> = None;
        for route in routes {
            let low = route.low;
            match table.pieces.last_mut() {
                Some(piece) if last.is_some_and(|last| last < low) && piece.len() < PIECE_RANGES => {
                    Arc::make_mut(piece).push(route);
                }
                Some(_) if last.is_some_and(|last| last < low) => {
                    table.firsts.push(low);
                    table.pieces.push(Arc::new(vec![route]));
                }
                _ => table.insert(route),
            }
            last = Some(last.unwrap_or(0).max(low));
        }
        table
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::coordination::values::ReplicaState;
    use crate::domain::ids::NodeId;

    pub(crate) fn address(number: u8) -> Arc<NodeAddress> {
        // Those of every other node are the same for clients and for components.
        let inside_uri = number.is_multiple_of(2).then(|| format!("https://node-{number}:8081/"));
        let uri = format!("https://node-{number}:8080/");
        Arc::new(NodeAddress { node: NodeId::from_bytes([number; 16]), uri, inside_uri })
    }

    pub(crate) fn route(low: u32, high: u32, epoch: u64) -> RangeRoute {
        let replica = |number| RangeReplica { address: address(number), state: ReplicaState::Voter };
        RangeRoute {
            low,
            high,
            range: RangeId(uuid::Uuid::from_u128(u128::from(low))),
            table: TableId::from_bytes([9; 16]),
            epoch,
            leader: address(1),
            replicas: [replica(1), replica(2), replica(3)].into(),
        }
    }

    fn check(table: &TableRoutes) {
        assert_eq!(table.firsts.len(), table.pieces.len());
        for (first, piece) in table.firsts.iter().zip(&table.pieces) {
            assert_eq!(piece.first().map(|route| route.low), Some(*first));
            assert!(piece.len() < 2 * PIECE_RANGES);
        }
        let lows: Vec<u32> = table.iter().map(|route| route.low).collect();
        assert!(lows.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(table.len(), lows.len());
    }

    #[test]
    fn a_full_table_serves_every_hash_and_a_hole_none() {
        let width = 1 << 20;
        let table: TableRoutes =
            (0..4096u32).map(|number| route(number * width, number * width + (width - 1), 1)).collect();
        check(&table);
        for hash in [0, 1, width - 1, width, 1_234_567_890, u32::MAX] {
            let found = table.get(hash).unwrap();
            assert!(found.low <= hash && hash <= found.high);
        }
        let mut holed = table.clone();
        assert_eq!(holed.remove(width).map(|route| route.low), Some(width));
        assert_eq!(holed.get(width + 5), None);
        assert_eq!(holed.iter_from(width + 5).next().map(|route| route.low), Some(2 * width));
        assert_eq!(table.iter_from(width + 5).next().map(|route| route.low), Some(width));
        assert_eq!(table.len(), 4096, "a copy changes alone");
        assert_eq!(TableRoutes::default().get(7), None);
    }

    #[test]
    fn a_change_copies_one_piece() {
        let table: TableRoutes = (0..100_000u32).map(|number| route(number * 10, number * 10 + 9, 1)).collect();
        let mut next = table.clone();
        next.insert(route(500, 509, 2));
        let shared = table.pieces.iter().filter(|piece| next.pieces.iter().any(|other| Arc::ptr_eq(piece, other)));
        assert_eq!(shared.count(), table.pieces.len() - 1);
        assert_eq!((table.get(505).unwrap().epoch, next.get(505).unwrap().epoch), (1, 2));
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(
            start in proptest::collection::vec(0u32..2_000, 0..1_500),
            steps in proptest::collection::vec((any::<bool>(), 0u32..2_000, 0u32..20), 0..300),
        ) {
            let mut table: TableRoutes = start.iter().map(|low| route(*low, *low, 0)).collect();
            let mut model: BTreeMap<u32, RangeRoute> = start.iter().map(|low| (*low, route(*low, *low, 0))).collect();
            for (step, (put, low, width)) in steps.into_iter().enumerate() {
                let new = route(low, low + width, step as u64);
                if put {
                    table.insert(new.clone());
                    model.insert(low, new);
                } else {
                    prop_assert_eq!(table.remove(low), model.remove(&low));
                }
                let expected = model.range(..=low).next_back().map(|(_, route)| route).filter(|route| low <= route.high);
                prop_assert_eq!(table.get(low), expected);
                prop_assert_eq!(table.get_at(low), model.get(&low));
            }
            check(&table);
            prop_assert!(table.iter().eq(model.values()));
        }
    }
}
