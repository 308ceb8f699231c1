//! Raising the version of the formats that a cluster's members share: records in the coordinator, the commit log, files of
//! ranges, and what members say to each other.
//!
//! New programs read what old ones wrote, and write it so, until every node runs a new one. Only then a person raises the
//! cluster's version (`upgrade finish`), and from then on new things may be written that an old program would not
//! understand, or worse, would understand wrongly. So an old program must not come back: one that joins is refused by
//! control, and one that starts reads the cluster's record and refuses by itself ([`check_cluster_format`]).
//!
//! Version 1 means all that 0.1.0 writes, and so nothing asks for it; the next new record, or whatever else 0.1.0 would
//! not understand, gets a version of its own ([`RECORDS_FORMAT`]), and whoever writes it must ask first whether the
//! cluster has come to that.
//!
//! Nodes say in their details what they know. One that is silent counts, too: it may come back as it was. One that was
//! given up does not.

use crate::coordination::values::{from_json, to_json};
use crate::coordination::{Compare, Coordinator, KeyValue, Operation, layout};
use crate::domain::Refusal;
use crate::domain::ids::NodeId;
use crate::placement::repair::Standing;
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::records::{ClusterRecord, RECORDS_FORMAT};
use super::sealed::unreadable;
use super::tenants::json;

/// How far an upgrade is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UpgradeStatus {
    /// The version of the cluster's formats.
    pub format: u32,
    /// The version that the answering instance of control knows: what `finish` raises it to.
    pub program_format: u32,
    /// The version of the answering instance's program.
    pub program: String,
    /// Whether `finish` has something to do, and may.
    pub can_finish: bool,
    /// All nodes.
    pub nodes: Vec<NodeUpgrade>,
}

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeUpgrade {
    /// The node.
    pub id: NodeId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version of its program, as it last said.
    pub program: Option<String>,
    /// The highest version of the formats that it knows, as it last said.
    pub format: u32,
    /// Whether it is heard.
    pub alive: bool,
    /// Whether `finish` waits for it.
    pub is_awaited: bool,
}

impl ControlPlane {
    /// The cluster's record as it stands now.
    pub(super) async fn cluster_read(&self) -> Result<(ClusterRecord, KeyValue), Refusal> {
        let entry = self.coordinator.get(layout::CONTROL_CLUSTER).await.map_err(refusal)?;
        let entry = entry.ok_or_else(|| Refusal::internal("the cluster's record is gone from the coordinator"))?;
        let record = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
        Ok((record, entry))
    }

    /// How far an upgrade is.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn upgrade_status(&self) -> Result<UpgradeStatus, Refusal> {
        let (cluster, _) = self.cluster_read().await?;
        let names: Vec<_> = self.member_records(crate::domain::ids::Role::Node).await?;
        let target = self.options.program_format;
        let nodes: Vec<NodeUpgrade> = self
            .node_rows()
            .await?
            .into_iter()
            .map(|(id, row)| {
                let format = row.details.format.unwrap_or(1);
                NodeUpgrade {
                    id,
                    name: names.iter().find(|member| member.id == id.0).and_then(|member| member.name.clone()),
                    is_awaited: format < target && row.standing() != Standing::GivenUp,
                    program: row.details.version,
                    format,
                    alive: row.alive,
                }
            })
            .collect();
        Ok(UpgradeStatus {
            format: cluster.format,
            program_format: target,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            can_finish: cluster.format < target && !nodes.iter().any(|node| node.is_awaited),
            nodes,
        })
    }

    /// Raises the cluster's version to what this program knows. Done already, it does nothing.
    ///
    /// # Errors
    /// `Conflict` where a node runs a program that does not know it.
    pub async fn upgrade_finish(&self, caller: &Caller) -> Result<UpgradeStatus, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let (before, entry) = self.cluster_read().await?;
            let status = self.upgrade_status().await?;
            if before.format >= status.program_format {
                return Ok(status);
            }
            let awaited: Vec<String> = status
                .nodes
                .iter()
                .filter(|node| node.is_awaited)
                .map(|node| node.name.clone().unwrap_or_else(|| node.id.to_string()))
                .collect();
            if !awaited.is_empty() {
                return Err(Refusal::conflict(format!(
                    "these nodes run a program that does not know version {} of the formats: {}. Update and start them, or remove those that will not come back",
                    status.program_format,
                    awaited.join(", ")
                )));
            }
            let after = ClusterRecord { format: status.program_format, ..before.clone() };
            let done = self
                .commit(Change {
                    resource: "cluster".to_owned(),
                    who: &caller.name,
                    before: Some(json(&before)),
                    after: Some(json(&after)),
                    compares: vec![Compare::unchanged(&entry.key, Some(&entry))],
                    operations: vec![Operation::put(&entry.key, to_json(&after))],
                })
                .await?;
            if done {
                return self.upgrade_status().await;
            }
        }
        Err(contended())
    }
}

/// Whether a program that knows formats up to `known` may be part of a cluster of this version.
///
/// # Errors
/// `Conflict` where it is too old.
pub(super) fn check_format(cluster: u32, known: u32) -> Result<(), Refusal> {
    if cluster <= known {
        return Ok(());
    }
    Err(Refusal::conflict(format!(
        "the cluster uses version {cluster} of the formats, and this program knows them up to {known} only: install a newer dstore here"
    )))
}

/// Whether this program may serve the cluster that the coordinator holds. One that cannot be read says nothing: members
/// start without the coordinator, too.
///
/// # Errors
/// `Conflict` where the cluster's formats are newer than this program.
pub async fn check_cluster_format(coordinator: &dyn Coordinator) -> Result<(), Refusal> {
    let Ok(Some(entry)) = coordinator.get(layout::CONTROL_CLUSTER).await else { return Ok(()) };
    match from_json::<ClusterRecord>(&entry.value) {
        Ok(cluster) => check_format(cluster.format, RECORDS_FORMAT),
        Err(_) => Ok(()),
    }
}
