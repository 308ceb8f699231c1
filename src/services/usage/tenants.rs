//! Counters by tenant for `/metrics`, of which there are never more than so many, however many tenants there are: those that ask
//! the most have counters of their own, all others share one.
//!
//! A counter must never fall, so a tenant is not told under its own name with what was counted under `other` before: its
//! counters begin at nothing when it gets a place. Who has a place loses it only to one that asks more than
//! twice as much, looked at once a minute; so the names in a graph stay while the load does. What everybody used exactly is in
//! the batches.

use std::collections::HashMap;

use crate::domain::ids::TenantId;
use crate::domain::usage::UsageCounts;

/// Intervals between two looks at who has a place.
const LOOK_INTERVALS: u32 = 60;

/// What a tenant used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantTotals {
    /// Requests.
    pub requests: u64,
    /// Read capacity in half units.
    pub read_half_units: u64,
    /// Write capacity in units.
    pub write_units: u64,
    /// Bytes of items that were read.
    pub read_bytes: u64,
    /// Bytes of items that were written.
    pub written_bytes: u64,
}

impl TenantTotals {
    fn add(&mut self, counts: &UsageCounts) {
        self.requests += counts.requests;
        self.read_half_units += counts.read_half_units;
        self.write_units += counts.write_units;
        self.read_bytes += counts.read_bytes;
        self.written_bytes += counts.written_bytes;
    }
}

struct Place {
    name: String,
    totals: TenantTotals,
    recent: u64,
}

/// See the module's essay.
pub struct TopTenants {
    max: usize,
    places: HashMap<TenantId, Place>,
    /// Requests of those without a place since the last look, and their names.
    others: HashMap<TenantId, (u64, String)>,
    other: TenantTotals,
    intervals: u32,
}

impl TopTenants {
    /// At most `max` places.
    pub fn new(max: usize) -> Self {
        Self { max, places: HashMap::new(), others: HashMap::new(), other: TenantTotals::default(), intervals: 0 }
    }

    /// Takes in what was counted in an interval.
    pub fn add<'a>(
        &mut self,
        counts: impl Iterator<Item = (TenantId, &'a UsageCounts)>,
        name: impl Fn(TenantId) -> String,
    ) {
        for (tenant, counts) in counts {
            if !self.places.contains_key(&tenant) && self.places.len() < self.max {
                self.give_place(tenant, name(tenant), 0);
            }
            match self.places.get_mut(&tenant) {
                Some(place) => {
                    place.totals.add(counts);
                    place.recent += counts.requests;
                }
                None => {
                    self.other.add(counts);
                    self.others.entry(tenant).or_insert_with(|| (0, name(tenant))).0 += counts.requests;
                }
            }
        }
        self.intervals += 1;
        if self.intervals >= LOOK_INTERVALS {
            self.intervals = 0;
            self.change_places();
        }
    }

    fn give_place(&mut self, tenant: TenantId, name: String, recent: u64) {
        self.places.insert(tenant, Place { name, totals: TenantTotals::default(), recent });
    }

    fn change_places(&mut self) {
        let mut waiting: Vec<_> = self.others.drain().collect();
        waiting.sort_unstable_by_key(|(tenant, (recent, _))| (std::cmp::Reverse(*recent), *tenant));
        for (tenant, (recent, name)) in waiting {
            let least = self.places.iter().map(|(tenant, place)| (place.recent, *tenant)).min();
            let Some((least, loser)) = least.filter(|(least, _)| recent > 2 * least) else { break };
            tracing::debug!(%tenant, %loser, recent, least, "a tenant has counters of its own now");
            self.places.remove(&loser);
            // Not to be taken away again in this look.
            self.give_place(tenant, name, recent);
        }
        self.places.values_mut().for_each(|place| place.recent = 0);
    }

    /// Those with a place, by name, and what all others used together.
    pub fn totals(&self) -> (Vec<(String, TenantTotals)>, TenantTotals) {
        let mut named: Vec<_> = self.places.values().map(|place| (place.name.clone(), place.totals)).collect();
        named.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        (named, self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn tenant(number: u8) -> TenantId {
        TenantId::from_bytes([number; 16])
    }

    fn requests(requests: u64) -> UsageCounts {
        UsageCounts { requests, read_bytes: 10 * requests, ..UsageCounts::default() }
    }

    fn add(top: &mut TopTenants, counted: &[(u8, u64)]) {
        let counts: Vec<_> = counted.iter().map(|(number, count)| (tenant(*number), requests(*count))).collect();
        top.add(counts.iter().map(|(tenant, counts)| (*tenant, counts)), |tenant| tenant.0.as_bytes()[0].to_string());
    }

    proptest! {
        /// Never more names than places, nothing is counted twice or lost while nobody loses a place, and no counter ever falls.
        #[test]
        fn counters_only_grow_and_names_are_few(
            intervals in prop::collection::vec(prop::collection::vec((0u8..12, 1u64..100), 0..8), 1..200),
            max in 0usize..4,
        ) {
            let mut top = TopTenants::new(max);
            let mut before: BTreeMap<String, TenantTotals> = BTreeMap::new();
            let (mut other_before, mut total) = (TenantTotals::default(), 0);
            let mut is_anyone_gone = false;
            for counted in &intervals {
                add(&mut top, counted);
                total += counted.iter().map(|(_, count)| count).sum::<u64>();
                let (named, other) = top.totals();
                prop_assert!(named.len() <= max);
                prop_assert!(other.requests >= other_before.requests && other.read_bytes == 10 * other.requests);
                let named: BTreeMap<_, _> = named.into_iter().collect();
                is_anyone_gone |= before.keys().any(|name| !named.contains_key(name));
                for (name, totals) in &named {
                    // One that lost its place and got it again began anew, which a change of places shows.
                    let is_less = before.get(name).is_some_and(|before| totals.requests < before.requests);
                    prop_assert!(!is_less);
                }
                if !is_anyone_gone {
                    let sum = named.values().map(|totals| totals.requests).sum::<u64>() + other.requests;
                    prop_assert_eq!(sum, total);
                }
                (before, other_before) = (named, other);
            }
        }
    }

    #[test]
    fn who_asks_much_more_gets_a_place_within_a_minute() {
        let mut top = TopTenants::new(1);
        for _ in 0..LOOK_INTERVALS {
            add(&mut top, &[(1, 10), (2, 15)]);
        }
        assert_eq!(top.totals().0[0].0, "1", "half as much more is not worth a change");
        for _ in 0..LOOK_INTERVALS {
            add(&mut top, &[(1, 10), (2, 21)]);
        }
        let (named, other) = top.totals();
        assert_eq!((named[0].0.as_str(), named[0].1.requests), ("2", 0), "its own counter begins");
        assert_eq!(other.requests, u64::from(LOOK_INTERVALS) * (15 + 21), "and what it used before stays where it was");
        add(&mut top, &[(2, 5)]);
        assert_eq!(top.totals().0[0].1.requests, 5);
    }
}
