//! What must be so when all is well again and nobody asks for anything: every range is served by the copies that its group has,
//! and they are equal.

use std::collections::BTreeMap;

use dstore::domain::hash::HashRange;
use dstore::domain::ids::RangeId;
use dstore::services::engine::StateDigest;
use dstore::services::engine::replica::Replica;

use crate::world::World;

/// Nearly all hashes: of all of them the digest has more in it than the items.
const ITEMS: HashRange = HashRange { low: 0, high: u32::MAX - 1 };

/// A copy as it stands.
struct Standing {
    place: usize,
    applied: u64,
    /// All that its file holds.
    whole: StateDigest,
    /// The items alone.
    items: StateDigest,
}

impl Standing {
    fn of(place: usize, replica: &Replica) -> Result<Standing, String> {
        if let Some(damage) = replica.damage() {
            return Err(format!("is out of service: {damage}"));
        }
        let digest = |hashes| replica.digest(hashes).map_err(|error| format!("cannot be read: {error}"));
        let (whole, items) = (digest(&HashRange::FULL)?, digest(&ITEMS)?);
        Ok(Standing { place, applied: replica.applied_index(), whole, items })
    }

    /// Whether both hold the same. A file may not tell yet that entries were applied which changed nothing in it; then
    /// what stands beside the items cannot be compared.
    fn is_as(&self, other: &Standing) -> bool {
        let is_same_place = self.whole.place == other.whole.place;
        let rest = !is_same_place || self.whole == other.whole;
        self.applied == other.applied && self.items.sum == other.items.sum && rest
    }
}

/// What is not so.
pub fn differences(world: &World) -> Vec<String> {
    let mut all: BTreeMap<RangeId, Vec<Standing>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for node in &world.nodes {
        let Some(running) = node.running() else { continue };
        for replica in running.engine.replicas() {
            let range = replica.name.range;
            match Standing::of(node.place, &replica) {
                Ok(standing) => all.entry(range).or_default().push(standing),
                Err(what) => wrong.push(format!("range {range} {what}, at {}", node.place)),
            }
        }
    }
    for (range, copies) in all {
        let Some(first) = copies.first() else { continue };
        for copy in copies.iter().filter(|copy| !copy.is_as(first)) {
            let [one, other] = [first, copy].map(|copy| format!("{} {:?}", copy.applied, copy.whole));
            wrong.push(format!("range {range}: {one} at {}, but {other} at {}", first.place, copy.place));
        }
    }
    wrong
}
