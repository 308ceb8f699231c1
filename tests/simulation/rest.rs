//! What must be so when all is well again and nobody asks for anything: every range is served by the copies that its group has,
//! and they are equal.

use std::collections::BTreeMap;

use dstore::domain::hash::HashRange;
use dstore::domain::ids::RangeId;
use dstore::services::engine::StateDigest;

use crate::world::World;

/// What is not so.
pub fn differences(world: &World) -> Vec<String> {
    let mut states: BTreeMap<RangeId, Vec<(usize, StateDigest)>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for node in &world.nodes {
        let Some(running) = node.running() else { continue };
        for replica in running.engine.replicas() {
            let range = replica.name.range;
            if let Some(damage) = replica.damage() {
                wrong.push(format!("range {range} is out of service at {}: {damage}", node.place));
                continue;
            }
            match replica.digest(&HashRange::FULL) {
                Ok(state) => states.entry(range).or_default().push((node.place, state)),
                Err(error) => wrong.push(format!("range {range} cannot be read at {}: {error}", node.place)),
            }
        }
    }
    for (range, states) in states {
        let Some((first_place, first)) = states.first() else { continue };
        for (place, state) in &states[1..] {
            if state != first {
                wrong.push(format!("range {range}: {first:?} at {first_place}, but {state:?} at {place}"));
            }
        }
    }
    wrong
}
