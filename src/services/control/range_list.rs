//! Ranges of a table for people: where each is, who serves it, and what its nodes say of it.
//!
//! Where a range is stands in the coordinator; how much it holds only its nodes know. They are asked all at once,
//! each for all of its ranges of the table, and none is waited for longer than [`ANSWER_MS`]: a node that does not
//! answer leaves gaps, never an error, because a list is wanted most when something is down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::coordination::values::{AssignedReplica, RouteReplica};
use crate::domain::ids::{NodeId, RangeId, TableId};
use crate::domain::{Refusal, TableName, TenantName};
use crate::placement::repair::{RangeHealth, health};
use crate::services::range_reports::{RangeReport, RangeReports};

use super::plane::ControlPlane;
use super::range_map::RangeRow;
use super::ranges::{RangeDescription, ReplicaDescription, holders};
use super::tenants::no_tenant;

/// How long a node is waited for, in milliseconds.
const ANSWER_MS: u64 = 2_000;

type Reports = BTreeMap<(NodeId, RangeId), RangeReport>;

impl ControlPlane {
    /// Says how nodes are asked what they hold. Without it, nothing is known of any.
    pub fn ask_nodes_through(&self, reports: Arc<dyn RangeReports>) {
        self.range_reports.store(Some(Arc::new(reports)));
    }

    /// The ranges of a table, for people, in order of hashes.
    ///
    /// # Errors
    /// `NotFound` where there is no such tenant or table.
    pub async fn range_list(&self, tenant: &TenantName, table: &TableName) -> Result<Vec<RangeDescription>, Refusal> {
        if self.tenant_read(tenant).await?.is_none() {
            return Err(no_tenant(tenant));
        }
        let Some((definition, _)) = self.table_read(tenant, table).await? else {
            return Err(super::tables::no_table(tenant, table));
        };
        let map = self.range_map().await?;
        let nodes_known = self.repair_nodes_now(&map);
        let limits = self.repair_limits();
        let rows: Vec<&RangeRow> = map.ranges.iter().filter(|row| row.route.table_uuid == definition.id).collect();
        let nodes: BTreeSet<NodeId> = rows.iter().flat_map(|row| holders(&row.route)).collect();
        let reports = self.reports_of(nodes, definition.id).await;
        let describe = |row: &RangeRow| {
            let standing = row.repair_range().map(|range| health(&nodes_known, &range, &limits));
            // One that is about to be split, or was just now, is changing, whatever its copies are.
            let standing = standing.filter(|_| row.split_at.is_none());
            describe(row, standing.unwrap_or(RangeHealth::Changing), &reports)
        };
        Ok(rows.into_iter().map(describe).collect())
    }

    /// One range of a table.
    ///
    /// # Errors
    /// `NotFound` where there is no such tenant, table or range.
    pub async fn range_show(
        &self,
        tenant: &TenantName,
        table: &TableName,
        range: RangeId,
    ) -> Result<RangeDescription, Refusal> {
        let found = self.range_list(tenant, table).await?.into_iter().find(|description| description.range == range);
        found.ok_or_else(|| Refusal::not_found(format!("the table {table} of {tenant} has no range {range}")))
    }

    /// What these nodes say of a table, as far as they answer.
    async fn reports_of(&self, nodes: BTreeSet<NodeId>, table: TableId) -> Reports {
        let Some(asked) = self.range_reports.load_full() else { return Reports::new() };
        let answers = nodes.into_iter().map(|node| {
            let asked = asked.clone();
            async move {
                let answer = tokio::time::timeout(Duration::from_millis(ANSWER_MS), asked.of_table(node, table)).await;
                let said = match answer {
                    Ok(Ok(said)) => said,
                    Ok(Err(refusal)) => {
                        tracing::warn!(%node, %refusal, "a node does not say what it holds");
                        Vec::new()
                    }
                    Err(_) => {
                        tracing::warn!(%node, "a node does not say in time what it holds");
                        Vec::new()
                    }
                };
                said.into_iter().map(move |report| ((node, report.range), report))
            }
        });
        join_all(answers).await.into_iter().flatten().collect()
    }
}

fn describe(row: &RangeRow, health: RangeHealth, reports: &Reports) -> RangeDescription {
    let route = &row.route;
    let said = |node: NodeId| reports.get(&(node, route.range));
    let committed = said(route.node).and_then(|report| report.group.as_ref()).map(|group| group.committed);
    let wanted = row.wanted();
    let replica_of = |member: &RouteReplica| {
        let assigned = row.assigned.get(&member.node);
        member.replica.or_else(|| assigned.and_then(|(_, assigned)| assigned.replica))
    };
    let describe = |member: &RouteReplica| {
        let (replica, table) = (replica_of(member), said(member.node));
        let applied = table.and_then(|report| report.group.as_ref()).map(|group| group.applied);
        ReplicaDescription {
            node: member.node,
            uri: member.uri.clone(),
            state: member.state,
            is_leaving: replica.is_some_and(|replica| wanted.iter().all(|copy| copy.replica != replica)),
            replica,
            lag: committed.zip(applied).map(|(committed, applied)| committed.saturating_sub(applied)),
            table: table.cloned(),
        }
    };
    let replicas: Vec<ReplicaDescription> = route.replicas.iter().map(describe).collect();
    let is_member =
        |copy: &AssignedReplica| replicas.iter().any(|member| member.replica.is_none_or(|known| known == copy.replica));
    RangeDescription {
        range: route.range,
        table_uuid: route.table_uuid,
        low_hash: row.key.low_hash,
        high_hash: route.high_hash,
        epoch: route.epoch,
        leader: route.node,
        wished_leader: row.wished_leader().filter(|wished| *wished != route.node),
        health,
        coming: wanted.iter().filter(|copy| !is_member(copy)).copied().collect(),
        quantity: said(route.node).map(|report| report.quantity),
        replicas,
        split_at: row.split_at,
        split_from: route.split_from,
    }
}
