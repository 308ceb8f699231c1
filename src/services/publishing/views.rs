//! A route as it stands in the coordinator, and as [`crate::replication::publish`] sees it.

use crate::coordination::values::{ReplicaState, Route, RouteReplica};
use crate::domain::hash::HashRange;
use crate::replication::publish::{Address, CopyState, RouteCopy, RouteView};

/// The view of a route whose key names this first hash.
pub(in crate::services) fn view_of(low: u32, route: &Route) -> RouteView {
    let copy = |copy: &RouteReplica| RouteCopy {
        node: copy.node,
        replica: copy.replica,
        state: match copy.state {
            ReplicaState::Voter => CopyState::Voter,
            ReplicaState::Learner | ReplicaState::Unknown => CopyState::Learner,
        },
        address: Address { uri: copy.uri.clone(), inside_uri: copy.inside_uri.clone() },
    };
    RouteView {
        range: route.range,
        table: route.table_uuid,
        hashes: HashRange { low, high: route.high_hash },
        epoch: route.epoch,
        leader: route.node,
        address: Address { uri: route.uri.clone(), inside_uri: route.inside_uri.clone() },
        copies: route.replicas.iter().map(copy).collect(),
        split_from: route.split_from,
    }
}

/// The route that a view stands for.
pub(super) fn route_from(view: &RouteView) -> Route {
    let copy = |copy: &RouteCopy| RouteReplica {
        node: copy.node,
        uri: copy.address.uri.clone(),
        inside_uri: copy.address.inside_uri.clone(),
        state: match copy.state {
            CopyState::Voter => ReplicaState::Voter,
            CopyState::Learner => ReplicaState::Learner,
        },
        replica: copy.replica,
    };
    Route {
        node: view.leader,
        uri: view.address.uri.clone(),
        inside_uri: view.address.inside_uri.clone(),
        high_hash: view.hashes.high,
        range: view.range,
        epoch: view.epoch,
        table_uuid: view.table,
        replicas: view.copies.iter().map(copy).collect(),
        split_from: view.split_from,
    }
}
