//! How a node and the ranges led from it are, for its batches of usage.
//!
//! A node may lead ten thousand ranges, most of which nobody uses. So a batch tells of no more than [`RANGES_MAX`]: first those that
//! have changed since they were told or were not told for an hour, then the others, those first that were told the longest time ago.
//! With few ranges that is all of them each time. What a range holds is known without its file as soon as it was read once; of
//! those that nobody has used since the start only a few are read at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::ids::RangeId;
use crate::domain::usage::{NodeGauge, RangeGauge};
use crate::services::engine::Engine;
use crate::services::engine::replica::Replica;
use crate::services::group::host::Groups;
use crate::services::group::standing::Led;
use crate::services::usage::{Gauges, Looked};
use crate::storage::vfs;

/// Ranges that are told of in one batch, at most.
const RANGES_MAX: usize = 256;
/// Files that are read for it in one look, at most.
const READS_MAX: usize = 64;
/// Looks after which a range is told of before others: an hour.
const LOOKS_OLD: u64 = 360;

/// See the module's essay.
pub struct NodeGauges {
    engine: Arc<Engine>,
    groups: Arc<Groups>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    looks: u64,
    /// What was told of each range, and in which look.
    ranges: HashMap<RangeId, (Changing, u64)>,
}

/// What of a gauge costs nothing to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Changing {
    items: u64,
    stored_bytes: u64,
    log_bytes: u64,
    lag_entries: u64,
}

impl Told {
    /// Those of the ranges that are told of in this look. Forgets the ranges that are not among them any more.
    fn choose<R>(&mut self, ranges: Vec<(RangeId, Changing, R)>) -> Vec<(RangeId, Changing, R)> {
        self.looks += 1;
        let before = std::mem::take(&mut self.ranges);
        let mut waiting: Vec<_> = ranges
            .into_iter()
            .map(|(range, now, rest)| {
                let known = before.get(&range).copied();
                self.ranges.extend(known.map(|known| (range, known)));
                let last = known.map_or(0, |(_, look)| look);
                let is_fresh = known.is_some_and(|(told, look)| told == now && self.looks - look < LOOKS_OLD);
                ((is_fresh, last), (range, now, rest))
            })
            .collect();
        waiting.sort_by_key(|(turn, (range, ..))| (*turn, *range));
        waiting.truncate(RANGES_MAX);
        let chosen: Vec<_> = waiting.into_iter().map(|(_, range)| range).collect();
        self.ranges.extend(chosen.iter().map(|(range, now, _)| (*range, (*now, self.looks))));
        chosen
    }
}

impl NodeGauges {
    /// Of the node with this engine and these groups.
    pub fn new(engine: Arc<Engine>, groups: Arc<Groups>) -> Self {
        Self { engine, groups, told: Mutex::default() }
    }

    /// The ranges led from here: of groups, and those of which the copy here is the only one.
    fn led(&self) -> Vec<(Arc<Replica>, Led)> {
        let of_group = |led: Led| Some((self.engine.replica_of(led.range)?, led));
        let alone = self.engine.replicas().into_iter().filter(|replica| !replica.is_grouped());
        let alone = alone.map(|replica| {
            let led = Led { range: replica.name.range, lag_max: 0, lag_sum: 0 };
            (replica, led)
        });
        let led = self.groups.led().into_iter().filter_map(of_group).chain(alone);
        led.filter(|(replica, _)| replica.damage().is_none()).collect()
    }

    fn node(&self, led: &[(Arc<Replica>, Led)]) -> NodeGauge {
        let (log, files) = (self.engine.log().counters(), vfs::counters_total());
        let (disk_free_bytes, disk_bytes) = self.engine.disk_bytes().unwrap_or_default();
        NodeGauge {
            cache_hits: files.cache_hits,
            cache_misses: files.cache_misses,
            queue_age_us: log.queue_age_us,
            rejections: self.engine.writes_refused(),
            syncs: log.syncs,
            sync_us: log.sync_us,
            log_bytes: log.bytes_total,
            disk_free_bytes,
            disk_bytes,
            lag_entries: led.iter().map(|(_, led)| led.lag_sum).sum(),
        }
    }
}

impl Gauges for NodeGauges {
    fn look(&self) -> Looked {
        let led = self.led();
        let node = self.node(&led);
        let mut reads = 0;
        let known = led.into_iter().filter_map(|(replica, led)| {
            let stored = replica.stored_known().or_else(|| {
                reads += 1;
                if reads > READS_MAX { None } else { replica.stored().ok() }
            })?;
            let now = Changing {
                items: stored.items,
                stored_bytes: stored.bytes,
                log_bytes: replica.memory_bytes() as u64,
                lag_entries: led.lag_max,
            };
            Some((led.range, now, replica))
        });
        let chosen = self.told.lock().choose(known.collect());
        let mut names = BTreeMap::new();
        let gauge = |(range, now, replica): (RangeId, Changing, Arc<Replica>)| {
            let table = replica.table();
            let (tenant, id) = (replica.name.tenant, replica.name.table);
            names.entry(tenant.0).or_insert_with(|| table.tenant.to_string());
            names.entry(id.0).or_insert_with(|| table.name.to_string());
            RangeGauge {
                range,
                table: id,
                tenant,
                items: now.items,
                stored_bytes: now.stored_bytes,
                file_bytes: replica.file_bytes(),
                log_bytes: now.log_bytes,
                lag_entries: now.lag_entries,
            }
        };
        let ranges = chosen.into_iter().map(gauge).collect();
        Looked { node, ranges, names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(count: u16, items: impl Fn(u16) -> u64) -> Vec<(RangeId, Changing, ())> {
        let range = |number: u16| RangeId(uuid::Uuid::from_u128(number.into()));
        let changing = |items| Changing { items, stored_bytes: 0, log_bytes: 0, lag_entries: 0 };
        (0..count).map(|number| (range(number), changing(items(number)), ())).collect()
    }

    fn numbers(chosen: &[(RangeId, Changing, ())]) -> Vec<u128> {
        let mut numbers: Vec<u128> = chosen.iter().map(|(range, ..)| range.0.as_u128()).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn few_are_told_each_time_and_many_in_turn() {
        let mut told = Told::default();
        for _ in 0..3 {
            assert_eq!(told.choose(ranges(200, |_| 1)).len(), 200);
        }
        let mut told = Told::default();
        let mut all = Vec::new();
        for _ in 0..4 {
            all.extend(numbers(&told.choose(ranges(1_000, |_| 1))));
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1_000, "after four looks each was told of");
        let chosen = numbers(&told.choose(ranges(1_000, |number| if number >= 995 { 2 } else { 1 })));
        assert!(
            chosen.ends_with(&[995, 996, 997, 998, 999]) && chosen.len() == RANGES_MAX,
            "what has changed comes first"
        );
        told.choose(ranges(3, |_| 1));
        assert_eq!(told.ranges.len(), 3, "what is led elsewhere is forgotten");
    }

    #[test]
    fn those_that_change_all_the_time_do_not_keep_the_others_out_for_ever() {
        let mut told = Told::default();
        let mut when = HashMap::new();
        for look in 0..3 * LOOKS_OLD {
            // More than there is room for change with each look.
            let chosen = told.choose(ranges(400, |number| if number < 300 { look } else { 0 }));
            assert_eq!(chosen.len(), RANGES_MAX);
            for number in numbers(&chosen) {
                let last = when.insert(number, look).unwrap_or(0);
                assert!(look - last <= LOOKS_OLD + 2, "{number} waited from {last} to {look}");
            }
        }
        assert_eq!(when.len(), 400);
    }
}
