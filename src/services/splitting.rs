//! The leaders on this node split their ranges where control wishes for it (`control/range/{uuid}`).
//!
//! The wish names all ids, so whoever leads proposes the same split, and one that is proposed twice is carried out once.
//! Whether it may be carried out is decided when it is applied. Where it may not, because the range's members are others by
//! now, this leader says so in its log and goes on; control sees the members in the route, and wishes anew with
//! fresh ids.
//!
//! A range with one copy and no group gets a group of one first: a split is an entry of a group's log.
//!
//! Wishes are looked at when they change, when a range's leader changes, and now and then while one of them is not done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::coordination::values::{RangeWish, from_json};
use crate::coordination::{Coordinator, EventKind, Reflected, Reflector, ReflectorOptions, layout};
use crate::domain::Refusal;
use crate::domain::ids::RangeId;

use super::group::ports::{GroupOperations, SplitOperations};
use super::reconfiguring::Surroundings;

/// The pause before a wish that is not done is looked at again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// See the module's essay.
pub struct Splitting {
    coordinator: Arc<dyn Coordinator>,
    groups: Arc<dyn GroupOperations>,
    splits: Arc<dyn SplitOperations>,
    surroundings: Arc<dyn Surroundings>,
    changes: broadcast::Receiver<RangeId>,
    wishes: BTreeMap<RangeId, RangeWish>,
    /// Wishes of which this node has carried out its part.
    done: BTreeSet<RangeId>,
    under_way: BTreeSet<RangeId>,
    steps: JoinSet<(RangeId, Result<bool, Refusal>)>,
}

impl Splitting {
    /// What carries out the wishes for ranges that are led here.
    pub fn new(
        coordinator: Arc<dyn Coordinator>,
        groups: Arc<dyn GroupOperations>,
        splits: Arc<dyn SplitOperations>,
        surroundings: Arc<dyn Surroundings>,
    ) -> Self {
        let changes = groups.changes();
        Self {
            coordinator,
            groups,
            splits,
            surroundings,
            changes,
            wishes: BTreeMap::new(),
            done: BTreeSet::new(),
            under_way: BTreeSet::new(),
            steps: JoinSet::new(),
        }
    }

    /// Carries out wishes until dropped.
    pub async fn follow(mut self) {
        let (prefix, options) = (layout::CONTROL_RANGES.to_owned(), ReflectorOptions::default());
        let mut reflector = Reflector::start(Arc::clone(&self.coordinator), prefix, options);
        let mut again_at = Instant::now();
        loop {
            let is_left = self.wishes.keys().any(|range| !self.done.contains(range) && !self.under_way.contains(range));
            tokio::select! {
                biased;
                told = reflector.next() => match told {
                    None => return,
                    Some(told) => self.take(told),
                },
                Some(ended) = self.steps.join_next(), if !self.steps.is_empty() => {
                    if let Ok((range, outcome)) = ended {
                        self.ended(range, outcome);
                    }
                    // What failed is not tried again at once.
                    continue;
                }
                changed = self.changes.recv(), if !self.wishes.is_empty() => if changed == Err(RecvError::Closed) { return },
                () = tokio::time::sleep_until(again_at), if is_left => {}
            }
            if Instant::now() >= again_at || is_left {
                again_at = Instant::now() + RETRY_PAUSE;
            }
            self.look();
        }
    }

    /// Takes in what was read.
    fn take(&mut self, told: Reflected) {
        match told {
            Reflected::Snapshot(listing) => {
                let wishes = listing.entries.iter().filter_map(|entry| wish_in(&entry.key, &entry.value));
                self.wishes = wishes.collect();
            }
            Reflected::Changes(batch) => {
                for event in batch.events {
                    match event.kind {
                        EventKind::Put(entry) => self.wishes.extend(wish_in(&entry.key, &entry.value)),
                        EventKind::Delete { key } => {
                            if let Some(range) = layout::parse_control_range(&key) {
                                self.wishes.remove(&range);
                            }
                        }
                    }
                }
            }
            Reflected::Lost(_) | Reflected::Resumed(_) => {}
        }
        // One that was changed is another wish.
        self.done.clear();
    }

    fn look(&mut self) {
        let left =
            self.wishes.iter().filter(|(range, _)| !self.done.contains(range) && !self.under_way.contains(range));
        let mut begun = Vec::new();
        for (range, wish) in left {
            let (range, split) = (*range, wish.split.split());
            let status = self.groups.status(range);
            let is_alone = status.is_none() && self.surroundings.is_alone(range);
            // Where nobody leads it is woken: it finds out who does.
            let may_lead = status.is_some_and(|status| status.is_leader || status.leader.is_none());
            if !is_alone && !may_lead {
                continue;
            }
            let (splits, surroundings) = (Arc::clone(&self.splits), Arc::clone(&self.surroundings));
            begun.push(range);
            self.steps.spawn(async move {
                let outcome = match is_alone {
                    true => surroundings.begin_group(range).await.map(|()| false),
                    false => splits.split(range, split).await.map(|()| true),
                };
                (range, outcome)
            });
        }
        self.under_way.extend(begun);
    }

    fn ended(&mut self, range: RangeId, outcome: Result<bool, Refusal>) {
        self.under_way.remove(&range);
        match outcome {
            Ok(true) => drop(self.done.insert(range)),
            Ok(false) => {}
            Err(refusal) => tracing::warn!(%range, %refusal, "a range was not split yet"),
        }
    }
}

fn wish_in(key: &str, value: &[u8]) -> Option<(RangeId, RangeWish)> {
    Some((layout::parse_control_range(key)?, from_json(value).ok()?))
}

#[cfg(test)]
mod tests;
