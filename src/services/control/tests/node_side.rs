//! The nodes of a cluster, as far as placement sees them: they obey assignments, keep groups, and publish routes. Each
//! step of a group is a step of its own, so that control looks at everything in between.
//!
//! After each step it is checked that control has kept its part: whoever is a member of a group has an assignment, for
//! without one a node would take the copy out of service while others count on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordination::values::{
    AssignedRange, AssignedReplica, ReplicaState, Route, RouteReplica, TableAtNode, from_json, to_json,
};
use crate::coordination::{Compare, Operation, layout};
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::domain::{TableName, TenantName};
use crate::services::control::testing::Cluster;

#[derive(Debug, Clone, Default)]
struct Group {
    voters: Vec<AssignedReplica>,
    learners: Vec<AssignedReplica>,
    leader: Option<NodeId>,
    epoch: u64,
}

/// See the module's text.
pub(super) struct NodeSide<'a> {
    cluster: &'a Cluster,
    groups: BTreeMap<RangeId, Group>,
    silent: BTreeSet<NodeId>,
    lost: BTreeSet<ReplicaId>,
}

impl<'a> NodeSide<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, groups: BTreeMap::new(), silent: BTreeSet::new(), lost: BTreeSet::new() }
    }

    pub(super) async fn fall_silent(&mut self, node: NodeId) {
        self.silent.insert(node);
        self.cluster.alive(node, false).await;
    }

    pub(super) async fn come_back(&mut self, node: NodeId) {
        self.silent.remove(&node);
        self.cluster.alive(node, true).await;
    }

    /// The node finds that it has lost its copy of the table's range at `low_hash`, and says so.
    pub(super) async fn lose(
        &mut self,
        node: NodeId,
        tenant: &TenantName,
        table: &TableName,
        low_hash: u32,
    ) -> ReplicaId {
        let key = layout::node_range(node, tenant, table, low_hash);
        let entry = self.cluster.coordinator.get(&key).await.unwrap().unwrap();
        let assigned: AssignedRange = from_json(&entry.value).unwrap();
        let replica = assigned.replica.unwrap();
        self.lost.insert(replica);
        let said = TableAtNode { status: "damaged".to_owned(), lost: vec![replica], table_uuid: assigned.table_uuid };
        let key = layout::node_table_details(node, tenant, table);
        self.cluster.coordinator.put(&key, to_json(&said), None).await.unwrap();
        replica
    }

    fn answers(&self, copy: &AssignedReplica) -> bool {
        !self.silent.contains(&copy.node) && !self.lost.contains(&copy.replica)
    }

    /// One step of each group. Whether any had one to make.
    pub(super) async fn step(&mut self) -> bool {
        let mut moved = false;
        for entry in self.cluster.coordinator.list(layout::ROUTES).await.unwrap().entries {
            let key = layout::RouteKey::parse(&entry.key).unwrap();
            let route: Route = from_json(&entry.value).unwrap();
            let assigned = self.assigned(&key, route.range).await;
            let before = self.groups.get(&route.range).cloned().unwrap_or_else(|| founding(&route));
            let mut group = before.clone();
            self.step_one(&mut group, &assigned);
            if group.epoch != before.epoch {
                moved = true;
                let new = published(&route, &group);
                let compares = vec![Compare::unchanged(&entry.key, Some(&entry))];
                let operations = vec![Operation::put(&entry.key, to_json(&new))];
                assert!(self.cluster.coordinator.transact(compares, operations).await.unwrap().succeeded);
            }
            for copy in group.voters.iter().chain(&group.learners).filter(|copy| self.answers(copy)) {
                let has = assigned.get(&copy.node).and_then(|assigned| assigned.replica);
                assert_eq!(has, Some(copy.replica), "a member of {} has no assignment", route.range);
            }
            self.groups.insert(route.range, group);
        }
        moved
    }

    fn step_one(&self, group: &mut Group, assigned: &BTreeMap<NodeId, AssignedRange>) {
        let answering: Vec<AssignedReplica> = group.voters.iter().filter(|copy| self.answers(copy)).copied().collect();
        if answering.len() < group.voters.len() / 2 + 1 {
            return;
        }
        if !group.leader.is_some_and(|leader| answering.iter().any(|copy| copy.node == leader)) {
            group.leader = answering.first().map(|copy| copy.node);
            group.epoch += 1 << 40;
            return;
        }
        let Some(list) = group.leader.and_then(|leader| assigned.get(&leader)) else { return };
        let wanted = &list.replicas;
        let is_member = |copy: &&AssignedReplica| group.voters.contains(copy) || group.learners.contains(copy);
        let wished = list.leader.filter(|node| answering.iter().any(|copy| copy.node == *node));
        if let Some(unwanted) = group.learners.iter().position(|copy| !wanted.contains(copy)) {
            group.learners.remove(unwanted);
        } else if let Some(new) = wanted.iter().find(|copy| !is_member(copy)) {
            group.learners.push(*new);
        } else if group.voters.iter().collect::<BTreeSet<_>>() != wanted.iter().collect::<BTreeSet<_>>()
            && wanted.iter().all(|copy| group.voters.contains(copy) || self.answers(copy))
        {
            assert!(!wanted.is_empty());
            group.voters = wanted.clone();
            group.learners.clear();
        } else if wished.is_some_and(|wished| group.leader != Some(wished)) {
            group.leader = wished;
            group.epoch += 1 << 40;
            return;
        } else if group.epoch > 0 {
            return;
        }
        group.epoch = (group.epoch + 1).max((1 << 40) | 1);
    }

    async fn assigned(&self, key: &layout::RouteKey, range: RangeId) -> BTreeMap<NodeId, AssignedRange> {
        let mut all = BTreeMap::new();
        for entry in self.cluster.coordinator.list(layout::NODES).await.unwrap().entries {
            if let Some(layout::NodeKey::Range(node, of)) = layout::NodeKey::parse(&entry.key)
                && of == *key
            {
                let assigned: AssignedRange = from_json(&entry.value).unwrap();
                assert_eq!(assigned.range, Some(range));
                all.insert(node, assigned);
            }
        }
        let lists: BTreeSet<_> = all.values().map(|assigned| (assigned.replicas.clone(), assigned.leader)).collect();
        assert!(lists.len() <= 1, "every node of a range sees the same list: {all:?}");
        all
    }
}

fn founding(route: &Route) -> Group {
    let copy = |copy: &RouteReplica| AssignedReplica { node: copy.node, replica: copy.replica.unwrap() };
    let voters: Vec<AssignedReplica> = route.replicas.iter().map(copy).collect();
    Group { leader: Some(route.node), voters, learners: Vec::new(), epoch: route.epoch }
}

fn published(route: &Route, group: &Group) -> Route {
    let one = |state: ReplicaState| {
        move |copy: &AssignedReplica| RouteReplica {
            node: copy.node,
            uri: format!("http://{}/", copy.node),
            inside_uri: None,
            state,
            replica: Some(copy.replica),
        }
    };
    let voters = group.voters.iter().map(one(ReplicaState::Voter));
    Route {
        node: group.leader.unwrap(),
        epoch: group.epoch,
        replicas: voters.chain(group.learners.iter().map(one(ReplicaState::Learner))).collect(),
        ..route.clone()
    }
}
