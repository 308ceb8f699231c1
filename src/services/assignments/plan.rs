//! What a node was given and what it has said, as far as it has read: pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::coordination::values::{AssignedRange, AssignedReplica, TableAtNode, from_json};
use crate::coordination::{EventKind, Listing, Revision, WatchBatch, layout};
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReplicaId, TableId};
use crate::domain::table::TableDefinition;
use crate::domain::{TableName, TenantName};
use crate::services::publishing::ServedRange;

/// All copies of a table at this node can be used.
pub(super) const OKAY: &str = "okay";
/// Some copies of it are gone.
pub(in crate::services) const LOST: &str = "lost";

/// What the node was given, as far as it has read.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) wanted: HashMap<String, AssignedRange>,
    /// What was said of tables, by the key where it was said.
    pub(super) said: HashMap<String, TableAtNode>,
    /// Held, and not named in the reading before.
    pub(super) missing: HashSet<RangeId>,
    /// The highest revision that was read.
    pub(super) newest: Revision,
    /// Changes up to this revision are in it. Below `newest` where the coordinator was set back.
    pub(super) known_through: Revision,
    /// Why the last reading was not obeyed, so that it is said once.
    pub(super) distrust: Option<&'static str>,
    /// The copies that were given since the process began; none before the first reading.
    seen: Option<HashSet<ReplicaId>>,
    /// Those of them that were not in the first reading, and whether they were given with a new range.
    fresh: HashMap<ReplicaId, bool>,
}

/// How a given copy stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyStanding {
    /// It can be used.
    Ready,
    /// Not yet.
    Absent,
    /// It was here, and its data is gone or of no use.
    Lost,
}

impl Plan {
    /// Takes in a whole reading. What an older one than was read before says is not obeyed; what it adds is made.
    pub(super) fn take_listing(&mut self, listing: &Listing) {
        self.known_through = listing.revision;
        if listing.revision < self.newest {
            for (key, assigned) in read_listing(listing) {
                self.wanted.entry(key).or_insert(assigned);
            }
            self.note_seen();
            return;
        }
        self.newest = listing.revision;
        self.wanted = read_listing(listing);
        self.said = read_said(listing);
        self.note_seen();
    }

    /// Notes which copies were given while this process followed: of those it knows that they never began before.
    pub(super) fn note_seen(&mut self) {
        let given = self.wanted.values().filter_map(|assigned| Some((assigned.replica?, assigned.is_new)));
        match &mut self.seen {
            None => self.seen = Some(given.map(|(copy, _)| copy).collect()),
            Some(seen) => self.fresh.extend(given.filter(|(copy, _)| seen.insert(*copy))),
        }
    }

    /// Whether a copy that is not here never was: it was given for the first time while this process followed, and either with a new
    /// range, or without a vote.
    pub(super) fn is_fresh(&self, copy: ReplicaId, only_learns: bool) -> bool {
        self.fresh.get(&copy).is_some_and(|with_new_range| *with_new_range || only_learns)
    }

    /// The copy is here from now on.
    pub(super) fn note_made(&mut self, copy: ReplicaId) {
        self.fresh.remove(&copy);
    }

    /// Takes in changes. Those that a reading has brought already are passed over, for they would undo what came after
    /// them: a copy that was taken back would be made once more, under its old id and empty.
    pub(super) fn take_changes(&mut self, batch: WatchBatch) {
        let news = batch.events.into_iter().filter(|event| event.revision > self.known_through);
        news.collect::<Vec<_>>().into_iter().for_each(|event| self.take_event(event.kind));
        self.known_through = self.known_through.max(batch.revision);
        self.newest = self.newest.max(batch.revision);
    }

    fn take_event(&mut self, event: EventKind) {
        match event {
            EventKind::Put(entry) => {
                if let Some(assigned) = parse_range(&entry.key, &entry.value) {
                    self.wanted.insert(entry.key, assigned);
                    self.note_seen();
                } else if let Some(said) = parse_said(&entry.key, &entry.value) {
                    self.said.insert(entry.key, said);
                }
            }
            EventKind::Delete { key } => {
                self.wanted.remove(&key);
                self.said.remove(&key);
            }
        }
    }

    /// Whether the node has said that this copy is lost.
    pub(super) fn was_said_lost(&self, node: NodeId, tenant: &TenantName, table: &TableName, copy: ReplicaId) -> bool {
        let key = layout::node_table_details(node, tenant, table);
        self.said.get(&key).is_some_and(|said| said.lost.contains(&copy))
    }

    /// What is to be said of tables and was not yet: the keys, and what goes there. Tables of which copies are still to
    /// be made, and none is lost, are left as they are.
    pub(super) fn unsaid(
        &self,
        node: NodeId,
        standing: impl Fn(&ServedRange) -> CopyStanding,
    ) -> Vec<(String, TableAtNode)> {
        let mut tables: BTreeMap<(String, TableId), (bool, Vec<ReplicaId>)> = BTreeMap::new();
        for given in self.wanted.iter().filter_map(|(key, assigned)| given_range(key, assigned)) {
            let key = layout::node_table_details(node, &given.tenant, &given.table);
            let (complete, lost) = tables.entry((key, given.table_id)).or_insert((true, Vec::new()));
            match standing(&given) {
                CopyStanding::Ready => {}
                CopyStanding::Absent => *complete = false,
                CopyStanding::Lost => lost.push(given.replica),
            }
        }
        let word = |((key, table), (complete, mut lost)): ((String, TableId), (bool, Vec<ReplicaId>))| {
            lost.sort_unstable();
            let status = match (lost.is_empty(), complete) {
                (false, _) => LOST,
                (true, true) => OKAY,
                (true, false) => return None,
            };
            Some((key, TableAtNode { status: status.to_owned(), lost, table_uuid: Some(table) }))
        };
        let words = tables.into_iter().filter_map(word);
        words.filter(|(key, word)| self.said.get(key) != Some(word)).collect()
    }
}

/// A range that this node was given, as its leader goes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenRange {
    /// The node's own copy.
    pub replica: ReplicaId,
    /// The copies that control wants it to have; none where control said nothing about it.
    pub wanted: Vec<AssignedReplica>,
    /// The node that is to lead.
    pub leader: Option<NodeId>,
}

/// All ranges that the node was given.
pub type Given = BTreeMap<RangeId, GivenRange>;

impl Plan {
    /// What the node's leaders go by.
    pub(super) fn given(&self) -> Given {
        let given = |assigned: &AssignedRange| {
            let (wanted, leader) = (assigned.replicas.clone(), assigned.leader);
            Some((assigned.range?, GivenRange { replica: assigned.replica?, wanted, leader }))
        };
        self.wanted.values().filter_map(given).collect()
    }
}

/// Whether an assignment is of the table as the node knows it by name.
pub(super) fn is_of_table(key: &str, table: &TableDefinition) -> bool {
    match layout::NodeKey::parse(key) {
        Some(layout::NodeKey::Range(_, route)) => route.tenant == table.tenant && route.table == table.name,
        _ => false,
    }
}

/// The assignments in a listing, by their keys.
pub(super) fn read_listing(listing: &Listing) -> HashMap<String, AssignedRange> {
    let ranges =
        listing.entries.iter().filter_map(|entry| Some((entry.key.clone(), parse_range(&entry.key, &entry.value)?)));
    ranges.collect()
}

/// What a listing says of tables, by the keys.
pub(super) fn read_said(listing: &Listing) -> HashMap<String, TableAtNode> {
    let said =
        listing.entries.iter().filter_map(|entry| Some((entry.key.clone(), parse_said(&entry.key, &entry.value)?)));
    said.collect()
}

fn parse_range(key: &str, value: &[u8]) -> Option<AssignedRange> {
    match layout::NodeKey::parse(key)? {
        layout::NodeKey::Range(..) => serde_json::from_slice(value).ok(),
        _ => None,
    }
}

fn parse_said(key: &str, value: &[u8]) -> Option<TableAtNode> {
    match layout::NodeKey::parse(key)? {
        layout::NodeKey::Table(..) => from_json(value).ok(),
        _ => None,
    }
}

/// The copy that an assignment gives; none where its key or value lacks something.
pub(super) fn given_range(key: &str, assigned: &AssignedRange) -> Option<ServedRange> {
    let Some(layout::NodeKey::Range(_, route)) = layout::NodeKey::parse(key) else { return None };
    Some(ServedRange {
        tenant: route.tenant,
        table: route.table,
        table_id: assigned.table_uuid?,
        range: assigned.range?,
        hashes: HashRange { low: assigned.low_hash, high: assigned.high_hash },
        replica: assigned.replica?,
    })
}

#[cfg(test)]
mod tests;
