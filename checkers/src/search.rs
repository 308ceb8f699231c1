//! The search for an order that explains a history: Wing and Gong's, with Lowe's memory of the configurations that were
//! tried ("Testing for linearizability", 2017).
//!
//! An operation may come next where every answered operation that ended before it was asked has its place already. The
//! search places one that fits the item as it stands, goes on from there, and takes it back where nothing fits any more. What was
//! tried is kept as (first answered operation without a place, others that have one, the item), so that it is not tried
//! again. With few clients at a time few operations may come next, and a history of many thousand takes a few
//! steps each.
//!
//! Operations without an answer are what makes it hard: each may come at any later time, or never. They are tried after the
//! answered ones, only where they change something, and not where the next operation would have led to the same
//! item without them: whatever such an order explains, the one without it explains, too.
//!
//! A configuration is left, too, where the same answered operations led to the same item with fewer of the others: what is left
//! over can do no harm. Without that rule a few dozen lost answers make the search endless.
//!
//! Two more things keep the rest small. An answered operation that fits and changes nothing, such as a read, is placed as soon as it
//! may be, and no other place is tried for it: in any order that explains the history it can be moved to there. And
//! versions grow: where one is reached that is above what an answer without a place tells of, or whose document is not the one that was read
//! under it, nothing explains that answer any more.
//!
//! And what nobody read makes no difference: numbers that no read shows are all made the same beforehand ([`likeness`]), and of several
//! operations without an answer that are alike, only the one that was asked first is tried.
//!
//! What the next author must keep: that an order without some operation without an answer is as good holds only because
//! such an operation may always be left out. And moving a read forward must not carry it across an operation that had to come before
//! it: hence the look at those without an answer that have a last moment.

mod likeness;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{Answer, Document, NEVER, Operation};
use crate::model::State;

/// How a search ended.
pub(crate) enum Ended {
    /// Every answered operation has a place.
    Explained,
    /// There is no order.
    Stuck(Best),
    /// The places to try were used up.
    GivenUp(Best),
}

/// The longest order that was found.
#[derive(Default)]
pub(crate) struct Best {
    /// Its operations, as indices.
    pub(crate) order: Vec<usize>,
    /// The item after it.
    pub(crate) state: State,
    /// What might have come next.
    pub(crate) next: Vec<usize>,
    answered_left: Option<usize>,
}

/// How thorough a search is.
pub(crate) struct Effort {
    /// Counted down with each place that is tried.
    pub(crate) places: u64,
    /// Whether an order is left as soon as the versions tell that it leads nowhere. Else it goes on until nothing fits,
    /// which takes longer and shows better why.
    pub(crate) foresees: bool,
}

/// Where the search stands: what is placed is a set; the order lies in the frames.
struct Search<'a> {
    /// Sorted by when they were asked.
    operations: &'a [Operation],
    placed: Vec<bool>,
    /// Those without an answer that are placed.
    placed_optional: BTreeSet<usize>,
    /// The first answered operation that is not placed.
    low: usize,
    /// One above the last that is placed.
    high: usize,
    /// When the last asked of those that are placed was asked.
    latest: u64,
    answered_left: usize,
    optional: Vec<usize>,
    /// For each of them the kind that it is of: those of one kind can take each other's place.
    kinds: Vec<usize>,
    /// Those of them that have a last moment.
    with_last_moment: Vec<usize>,
    /// The versions that answered operations without a place tell of.
    told: BTreeSet<(u64, usize)>,
    /// The documents that were read under versions.
    documents: HashMap<u64, &'a Document>,
    /// With which operations without an answer a configuration was tried.
    tried: HashMap<Configuration, Vec<BTreeSet<usize>>>,
}

/// The first answered operation without a place, later ones that have one, and the item.
type Configuration = (usize, Vec<usize>, State);

/// One placed operation, and how to take it back.
struct Frame {
    index: usize,
    before: State,
    low: usize,
    high: usize,
    latest: u64,
    choices: Choices,
}

/// What may come next, the best last.
struct Choices {
    left: Vec<usize>,
    with_optional: bool,
}

/// Searches. Operations are sorted by when they were asked.
pub(crate) fn search(operations: &[&Operation], effort: &mut Effort) -> Ended {
    let operations = match effort.foresees {
        true => likeness::without_unread(operations),
        false => operations.iter().map(|operation| (*operation).clone()).collect(),
    };
    let mut search = Search::new(&operations);
    let mut state = State::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut choices = search.choices(&state);
    let mut best = Best::default();
    while search.answered_left > 0 {
        if choices.left.is_empty() && !choices.with_optional {
            choices = Choices { left: search.optional_choices(), with_optional: true };
        }
        let Some(index) = choices.left.pop() else {
            search.keep_best(&mut best, &frames, &state);
            let Some(frame) = frames.pop() else { return Ended::Stuck(best) };
            search.take_back(&frame);
            (state, choices) = (frame.before, frame.choices);
            continue;
        };
        if effort.places == 0 {
            search.keep_best(&mut best, &frames, &state);
            return Ended::GivenUp(best);
        }
        effort.places -= 1;
        let Some(next) = state.after(&operations[index]) else { continue };
        if search.is_pointless(index, &state, &next, frames.last()) {
            continue;
        }
        let frame = search.place(index, state.clone());
        if (effort.foresees && search.leads_nowhere(&next)) || search.was_tried(&next) {
            search.take_back(&frame);
            continue;
        }
        frames.push(Frame { choices, ..frame });
        state = next;
        choices = search.choices(&state);
    }
    Ended::Explained
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let optional: Vec<usize> = (0..operations.len()).filter(|index| operations[*index].is_optional()).collect();
        let mut search = Self {
            operations,
            placed: vec![false; operations.len()],
            placed_optional: BTreeSet::new(),
            low: 0,
            high: 0,
            latest: 0,
            answered_left: operations.len() - optional.len(),
            with_last_moment: optional.iter().copied().filter(|index| operations[*index].answered != NEVER).collect(),
            kinds: likeness::kinds(operations, &optional),
            optional,
            told: (0..operations.len()).filter_map(|index| Some((told_version(&operations[index])?, index))).collect(),
            documents: operations.iter().filter_map(read_document).collect(),
            tried: HashMap::new(),
        };
        search.raise_low();
        search
    }

    fn raise_low(&mut self) {
        while self.low < self.operations.len() && (self.placed[self.low] || self.operations[self.low].is_optional()) {
            self.low += 1;
        }
    }

    /// When the first of the answered operations without a place was answered: what was asked later cannot come next.
    /// With it, those that can.
    fn answered_choices(&self) -> (u64, Vec<usize>) {
        let (mut bound, mut found) = (u64::MAX, Vec::new());
        for (index, operation) in self.operations.iter().enumerate().skip(self.low) {
            if operation.asked > bound {
                break;
            }
            if !self.placed[index] && !operation.is_optional() {
                bound = bound.min(operation.answered);
                found.push(index);
            }
        }
        found.retain(|index| self.operations[*index].asked <= bound);
        (bound, found)
    }

    fn keep_best(&self, best: &mut Best, frames: &[Frame], state: &State) {
        if best.answered_left.is_none_or(|least| self.answered_left < least) {
            let order = frames.iter().map(|frame| frame.index).collect();
            let (_, next) = self.answered_choices();
            *best = Best { order, state: state.clone(), next, answered_left: Some(self.answered_left) };
        }
    }

    /// True where nothing that may still happen has to happen before this operation.
    fn may_be_moved_forward(&self, operation: &Operation) -> bool {
        let before = |index: &usize| !self.placed[*index] && self.operations[*index].is_before(operation);
        !self.with_last_moment.iter().any(before)
    }

    /// The answered operations that may come next: one alone where it changes nothing, else all, and those answered first are tried
    /// first.
    fn choices(&self, state: &State) -> Choices {
        let (_, mut left) = self.answered_choices();
        let calm = left.iter().copied().find(|index| {
            let operation = &self.operations[*index];
            state.after(operation).as_ref() == Some(state) && self.may_be_moved_forward(operation)
        });
        if let Some(index) = calm {
            return Choices { left: vec![index], with_optional: true };
        }
        left.sort_by_key(|index| std::cmp::Reverse(self.operations[*index].answered));
        Choices { left, with_optional: self.optional.is_empty() }
    }

    /// The others that may: of each kind the one that was asked first.
    fn optional_choices(&self) -> Vec<usize> {
        let (bound, _) = self.answered_choices();
        let mut first: BTreeMap<usize, usize> = BTreeMap::new();
        for (index, kind) in self.optional.iter().zip(&self.kinds) {
            let operation = &self.operations[*index];
            if !self.placed[*index] && operation.asked <= bound && operation.answered >= self.latest {
                first.entry(*kind).or_insert(*index);
            }
        }
        first.into_values().collect()
    }

    fn is_pointless(&self, index: usize, state: &State, next: &State, last: Option<&Frame>) -> bool {
        let operation = &self.operations[index];
        if operation.is_optional() && next == state {
            return true;
        }
        last.is_some_and(|last| {
            self.operations[last.index].is_optional() && last.before.after(operation).as_ref() == Some(next)
        })
    }

    fn place(&mut self, index: usize, before: State) -> Frame {
        let choices = Choices { left: Vec::new(), with_optional: true };
        let frame = Frame { index, before, low: self.low, high: self.high, latest: self.latest, choices };
        self.placed[index] = true;
        self.high = self.high.max(index + 1);
        self.latest = self.latest.max(self.operations[index].asked);
        if self.operations[index].is_optional() {
            self.placed_optional.insert(index);
        } else {
            self.answered_left -= 1;
            self.raise_low();
            if let Some(version) = told_version(&self.operations[index]) {
                self.told.remove(&(version, index));
            }
        }
        frame
    }

    fn take_back(&mut self, frame: &Frame) {
        self.placed[frame.index] = false;
        (self.low, self.high, self.latest) = (frame.low, frame.high, frame.latest);
        if self.operations[frame.index].is_optional() {
            self.placed_optional.remove(&frame.index);
        } else {
            self.answered_left += 1;
            self.told.extend(told_version(&self.operations[frame.index]).map(|version| (version, frame.index)));
        }
    }

    fn leads_nowhere(&self, state: &State) -> bool {
        let is_other = |(version, document)| self.documents.get(&version).is_some_and(|read| *read != document);
        self.told.first().is_some_and(|told| told.0 < state.highest()) || state.versioned().is_some_and(is_other)
    }

    /// Whether this was tried, or the same with fewer operations without an answer. It is from now on.
    fn was_tried(&mut self, state: &State) -> bool {
        let beyond =
            (self.low..self.high).filter(|index| self.placed[*index] && !self.operations[*index].is_optional());
        let with = self.tried.entry((self.low, beyond.collect(), state.clone())).or_default();
        if with.iter().any(|fewer| fewer.is_subset(&self.placed_optional)) {
            return true;
        }
        with.push(self.placed_optional.clone());
        false
    }
}

/// The version that its answer tells of: no higher one may be given before it has its place.
fn told_version(operation: &Operation) -> Option<u64> {
    match &operation.answer {
        Answer::Item(Some(item)) => Some(item.version),
        _ => operation.acknowledged_version(),
    }
}

fn read_document(operation: &Operation) -> Option<(u64, &Document)> {
    match &operation.answer {
        Answer::Item(Some(item)) => Some((item.version, &item.document)),
        _ => None,
    }
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;
