//! What is to change about the copies of ranges, so that each has as many as it shall have, on nodes that are there.
//!
//! Three descriptions of a range meet here. Its *members* are what its leader last published: who votes, who is being
//! filled. Its *wanted* copies are what control wrote down last, and what the leader is working towards. And its
//! *factor* is what its table asks for. A range whose members are exactly the wanted copies, all of them voting, is
//! *settled*; every other one is in change.
//!
//! # What is planned
//! * A copy that its node reported lost is replaced at once. The new copy is another replica: whoever lost what it had
//!   acknowledged must not vote as if it still had it.
//! * A copy on a node that is gone (given up, no longer known, or silent for longer than a delay) is replaced, and so is
//!   one on a node that is being drained.
//! * A range with too few copies gets one more; one with too many loses one.
//!
//! # What is never planned
//! * Two changes of one range at once. The next step is planned when the one before has been published. The one
//!   exception is a copy that was to come and never will, because its node went away before it voted.
//! * A change of a range of which no majority answers. Nothing could come of it, and the copies that are silent may be
//!   all that there is.
//! * To take away a copy that is needed: what stays must have a majority that answers.
//! * A second copy on a node.
//! * Anything at all while more than half of the nodes are silent: then it is the coordinator's fault, or the network's
//!   around control, and moving data because of it would make it worse.
//! * Moves that only even out the load. Filling what is short is urgent, evening out is not.
//!
//! An even number of copies is passed through and not stayed at, since four bear the loss of no more nodes than three.
//! Two are the exception: where there are only two nodes, one copy survives the loss of a disk. But two stop when either
//! fails, so a range goes from one copy to three in a single step: both new ones are filled, and then vote together.
//!
//! The same input gives the same plan; ties are broken by ids. Limits bound how many copies are being filled at the same
//! time, in all and at one node. Ranges that cannot go on are not counted, or they would stop the repair of all others.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::{NodeId, RangeId, ReplicaId};

mod leads;
mod load;
#[cfg(test)]
mod tests;

use load::Load;

/// What an operator, or the node itself, has said of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It serves.
    Okay,
    /// It was stopped as planned, and is expected back.
    Stopped,
    /// It is being emptied.
    Draining,
    /// It was given up.
    GivenUp,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepairNode {
    /// Its id.
    pub node: NodeId,
    /// Its zone; nodes that name none share the empty one.
    pub zone: String,
    /// What was said of it.
    pub standing: Standing,
    /// For how many seconds it has given no sign of life; none while it lives.
    pub silent_seconds: Option<u64>,
    /// What it can carry in comparison with others. Zero counts as one.
    pub capacity: u64,
    /// Whether its disk has room for another copy.
    pub has_room: bool,
    /// Whether it may be given leaderships.
    pub may_lead: bool,
}

impl RepairNode {
    /// Whether it is heard.
    pub fn is_alive(&self) -> bool {
        self.silent_seconds.is_none()
    }

    /// Whether it may be given a copy.
    pub fn takes_copies(&self) -> bool {
        self.standing == Standing::Okay && self.is_alive() && self.has_room
    }

    fn is_gone(&self, limits: &RepairLimits) -> bool {
        self.standing == Standing::GivenUp
            || self.silent_seconds.is_some_and(|silent| silent >= limits.lost_after_seconds)
    }
}

/// A copy of a range on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacedCopy {
    /// Its node.
    pub node: NodeId,
    /// The copy.
    pub replica: ReplicaId,
}

/// A range as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepairRange {
    /// The range.
    pub range: RangeId,
    /// How many copies its table asks for.
    pub factor: usize,
    /// Whether a leader has ever published it. Until then it has no data, and its first copies have to meet.
    pub is_served: bool,
    /// The node that leads it, as published.
    pub leader: NodeId,
    /// Who votes, as published.
    pub voters: Vec<PlacedCopy>,
    /// Who is being filled, as published.
    pub learners: Vec<PlacedCopy>,
    /// The copies that control last wanted.
    pub wanted: Vec<PlacedCopy>,
    /// The node that control last wanted to lead it.
    pub wished_leader: Option<NodeId>,
    /// Copies that their nodes reported lost.
    pub lost: BTreeSet<ReplicaId>,
}

/// How a range stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeHealth {
    /// No majority of it answers: it cannot be written.
    Unavailable,
    /// Fewer copies answer than its table asks for.
    UnderReplicated,
    /// All copies answer, and some are on their way in or out.
    Changing,
    /// As it shall be.
    Good,
}

/// One step of one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A new copy on this node.
    Add(NodeId),
    /// New copies on these nodes, which come to vote together.
    AddTwo(NodeId, NodeId),
    /// A new copy on the node, and this one goes.
    Replace(ReplicaId, NodeId),
    /// This copy goes.
    Remove(ReplicaId),
    /// Nothing but the wish for another leader.
    Lead,
}

/// A change of what control wants of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RepairMove {
    /// The range.
    pub range: RangeId,
    /// What changes about its copies.
    pub step: Step,
    /// The node that is to lead it from now on, where any is preferred.
    pub leader: Option<NodeId>,
}

/// Bounds of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairLimits {
    /// After how many seconds of silence a node counts as gone.
    pub lost_after_seconds: u64,
    /// Copies being filled at once, at most.
    pub fills_max: usize,
    /// Copies being filled at once on one node, at most.
    pub fills_per_node_max: usize,
    /// Changes of leaderships alone in one plan, at most.
    pub leads_max: usize,
}

impl Default for RepairLimits {
    fn default() -> Self {
        Self { lost_after_seconds: 600, fills_max: 64, fills_per_node_max: 8, leads_max: 64 }
    }
}

/// The moves to make now: what is urgent first.
pub fn repair(nodes: &[RepairNode], ranges: &[RepairRange], limits: &RepairLimits) -> Vec<RepairMove> {
    let nodes: BTreeMap<NodeId, &RepairNode> = nodes.iter().map(|node| (node.node, node)).collect();
    if is_outage(&nodes) {
        return Vec::new();
    }
    let view = View { nodes: &nodes, limits };
    let mut load = Load::of(&view, ranges);
    let mut ordered: Vec<&RepairRange> = ranges.iter().collect();
    ordered.sort_by_key(|range| (view.spare(range), range.range));
    let mut moves = Vec::new();
    let mut moved = BTreeSet::new();
    for range in ordered {
        if let Some(step) = view.step(range, &load) {
            let leader = view.leader_after(range, step, &load);
            load.count(range, step, leader);
            moved.insert(range.range);
            moves.push(RepairMove { range: range.range, step, leader });
        }
    }
    moves.extend(leads::spread(&view, ranges, &moved, &mut load));
    moves
}

/// How a range stands.
pub fn health(nodes: &[RepairNode], range: &RepairRange, limits: &RepairLimits) -> RangeHealth {
    let nodes: BTreeMap<NodeId, &RepairNode> = nodes.iter().map(|node| (node.node, node)).collect();
    let view = View { nodes: &nodes, limits };
    let answering = view.answering(range);
    if answering < majority(range.voters.len()) {
        RangeHealth::Unavailable
    } else if answering < range.factor {
        RangeHealth::UnderReplicated
    } else if !range.is_settled() || answering < range.voters.len() {
        RangeHealth::Changing
    } else {
        RangeHealth::Good
    }
}

/// For each range with a copy on `node` whether another node could take that copy: those that no node can take.
pub fn without_refuge(nodes: &[RepairNode], ranges: &[RepairRange], node: NodeId) -> Vec<RangeId> {
    let held = ranges.iter().filter(|range| range.wanted.iter().any(|copy| copy.node == node));
    let stuck = held.filter(|range| {
        let holds = |other: &RepairNode| range.wanted.iter().any(|copy| copy.node == other.node);
        let is_one_too_many = range.wanted.len() > factor_odd(range.factor);
        !is_one_too_many && !nodes.iter().any(|other| other.node != node && other.takes_copies() && !holds(other))
    });
    stuck.map(|range| range.range).collect()
}

/// Whether more than half of the nodes that are expected to live are silent. Those that were given up are not expected.
fn is_outage(nodes: &BTreeMap<NodeId, &RepairNode>) -> bool {
    let expected = nodes.values().filter(|node| node.standing != Standing::GivenUp);
    let (silent, all) =
        expected.fold((0, 0), |(silent, all), node| (silent + usize::from(!node.is_alive()), all + 1usize));
    silent * 2 > all
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// What a factor comes to: tables of earlier versions may ask for an even number.
fn factor_odd(factor: usize) -> usize {
    factor.max(1) | 1
}

impl RepairRange {
    /// Whether the members are the wanted copies, all voting.
    pub fn is_settled(&self) -> bool {
        let wanted: BTreeSet<ReplicaId> = self.wanted.iter().map(|copy| copy.replica).collect();
        let voters: BTreeSet<ReplicaId> = self.voters.iter().map(|copy| copy.replica).collect();
        self.learners.is_empty() && wanted == voters
    }
}

/// The nodes as the plan looks at them.
struct View<'a> {
    nodes: &'a BTreeMap<NodeId, &'a RepairNode>,
    limits: &'a RepairLimits,
}

impl View<'_> {
    fn is_alive(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.is_alive())
    }

    fn is_gone(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_none_or(|node| node.is_gone(self.limits))
    }

    fn is_draining(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.standing == Standing::Draining)
    }

    fn may_lead(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.may_lead && node.is_alive() && node.standing == Standing::Okay)
    }

    fn answers(&self, range: &RepairRange, copy: &PlacedCopy) -> bool {
        self.is_alive(copy.node) && !range.lost.contains(&copy.replica)
    }

    /// How many voters answer.
    fn answering(&self, range: &RepairRange) -> usize {
        range.voters.iter().filter(|copy| self.answers(range, copy)).count()
    }

    /// How many of the voters that answer could fail before the range does; less than none where it has failed.
    fn spare(&self, range: &RepairRange) -> i64 {
        self.answering(range) as i64 - majority(range.voters.len()) as i64
    }

    /// Whether a change of the range can come to an end.
    fn can_change(&self, range: &RepairRange) -> bool {
        range.is_served && self.spare(range) >= 0
    }

    /// Copies that are wanted and do not vote yet.
    fn incoming<'r>(&self, range: &'r RepairRange) -> impl Iterator<Item = &'r PlacedCopy> {
        range.wanted.iter().filter(|copy| range.voters.iter().all(|voter| voter.replica != copy.replica))
    }

    /// Whether a copy will not do its work any more.
    fn is_dead(&self, range: &RepairRange, copy: &PlacedCopy) -> bool {
        range.lost.contains(&copy.replica) || self.is_gone(copy.node)
    }

    /// The next step of a range, if there is one to make now.
    fn step(&self, range: &RepairRange, load: &Load<'_>) -> Option<Step> {
        if !self.can_change(range) {
            return None;
        }
        if !range.is_settled() {
            // Only what will never come is given another place, or is given up where nothing leaves for it.
            let dead = self.incoming(range).find(|copy| self.is_dead(range, copy))?;
            if let Some(node) = load.place(self, range, Some(dead), None) {
                return Some(Step::Replace(dead.replica, node));
            }
            let stays = |voter: &PlacedCopy| range.wanted.iter().any(|copy| copy.replica == voter.replica);
            return range.voters.iter().all(stays).then_some(Step::Remove(dead.replica));
        }
        let factor = factor_odd(range.factor);
        if range.wanted.len() > factor {
            return self.victim(range, load).map(|copy| Step::Remove(copy.replica));
        }
        let lost = range.wanted.iter().find(|copy| range.lost.contains(&copy.replica));
        let gone = || range.wanted.iter().find(|copy| self.is_gone(copy.node));
        if let Some(bad) = lost.or_else(gone)
            && let Some(node) = load.place(self, range, Some(bad), None)
        {
            return Some(Step::Replace(bad.replica, node));
        }
        let reachable = self.reachable(range, factor);
        if range.wanted.len() < reachable
            && let Some(node) = load.place(self, range, None, None)
        {
            if range.wanted.len() > 1 || reachable < 3 {
                return Some(Step::Add(node));
            }
            if let Some(other) = load.place(self, range, None, Some(node)) {
                return Some(Step::AddTwo(node, other));
            }
        }
        let leaving = range.wanted.iter().find(|copy| self.is_draining(copy.node))?;
        load.place(self, range, Some(leaving), None).map(|node| Step::Replace(leaving.replica, node))
    }

    /// How many copies the range can come to with the nodes that there are.
    fn reachable(&self, range: &RepairRange, factor: usize) -> usize {
        let holds = |node: NodeId| range.wanted.iter().any(|copy| copy.node == node);
        let others = self.nodes.values().filter(|node| node.takes_copies() && !holds(node.node)).count();
        match factor.min(range.wanted.len() + others) {
            4 => 3,
            reachable => reachable,
        }
    }

    /// The copy that goes where there is one too many: the worst one, if the others can do without it.
    fn victim<'r>(&self, range: &'r RepairRange, load: &Load<'_>) -> Option<&'r PlacedCopy> {
        let zone_of = |copy: &PlacedCopy| self.nodes.get(&copy.node).map_or("", |node| node.zone.as_str());
        let badness = |copy: &PlacedCopy| {
            let dead = self.is_dead(range, copy);
            let in_zone = range.wanted.iter().filter(|other| zone_of(other) == zone_of(copy)).count();
            (dead, self.is_draining(copy.node), !self.is_alive(copy.node), in_zone, copy.node != range.leader)
        };
        let spared = |copy: &&PlacedCopy| {
            let answering = self.answering(range) - usize::from(self.answers(range, copy));
            answering >= majority(range.voters.len() - 1)
        };
        range.wanted.iter().filter(spared).max_by(|left, right| {
            let busier = || load.compare(self, left.node, right.node).then(left.node.cmp(&right.node));
            badness(left).cmp(&badness(right)).then_with(busier)
        })
    }

    /// The leader to wish for after a step: the one wished for before, where it may lead and stays a voter; else, where the
    /// copy that goes leads, the one of the others that leads least.
    fn leader_after(&self, range: &RepairRange, step: Step, load: &Load<'_>) -> Option<NodeId> {
        let going = match step {
            Step::Replace(replica, _) | Step::Remove(replica) => Some(replica),
            Step::Add(_) | Step::AddTwo(..) | Step::Lead => None,
        };
        let staying = |copy: &&PlacedCopy| {
            Some(copy.replica) != going && range.wanted.iter().any(|wanted| wanted.replica == copy.replica)
        };
        let stays = |node: NodeId| range.voters.iter().filter(staying).any(|copy| copy.node == node);
        if let Some(wished) = range.wished_leader.filter(|wished| stays(*wished) && self.may_lead(*wished)) {
            return Some(wished);
        }
        if stays(range.leader) && self.may_lead(range.leader) {
            return None;
        }
        let able = range.voters.iter().filter(staying).filter(|copy| self.may_lead(copy.node));
        able.map(|copy| copy.node).min_by_key(|node| (load.leads(*node), *node))
    }
}
