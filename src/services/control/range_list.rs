//! Ranges of a table for people: where each is, who serves it, and what its nodes say of it.
//!
//! Where a range is stands in the coordinator; how much it holds only its nodes know. They are asked all at once,
//! each for all of its ranges of the table, and none is waited for longer than [`ANSWER_MS`]: a node that does not
//! answer leaves gaps, never an error, because a list is wanted most when something is down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::coordination::layout::RouteKey;
use crate::coordination::values::Route;
use crate::domain::ids::{NodeId, RangeId, TableId};
use crate::domain::{Refusal, TableName, TenantName};
use crate::services::range_reports::{RangeReport, RangeReports};

use super::plane::ControlPlane;
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
        let routes = self.routes_of(tenant, table, definition.id).await?;
        let nodes: BTreeSet<NodeId> = routes.iter().flat_map(|(_, _, route)| holders(route)).collect();
        let reports = self.reports_of(nodes, definition.id).await;
        Ok(routes.into_iter().map(|(_, key, route)| describe(&key, route, &reports)).collect())
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

fn describe(key: &RouteKey, route: Route, reports: &Reports) -> RangeDescription {
    let said = |node: NodeId| reports.get(&(node, route.range));
    RangeDescription {
        range: route.range,
        table_uuid: route.table_uuid,
        low_hash: key.low_hash,
        high_hash: route.high_hash,
        epoch: route.epoch,
        leader: route.node,
        quantity: said(route.node).map(|report| report.quantity),
        replicas: route
            .replicas
            .iter()
            .map(|replica| ReplicaDescription {
                node: replica.node,
                uri: replica.uri.clone(),
                state: replica.state,
                table: said(replica.node).cloned(),
            })
            .collect(),
    }
}
