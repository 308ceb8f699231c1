//! Ranges: listed, shown, moved, split; and the version of the formats that all nodes share.

use serde::{Deserialize, Serialize};

use crate::api::calls::{Answer, nothing, ok};
use crate::domain::ids::NodeId;
use crate::services::control::ControlPlane;

use super::AdminCall;
use super::resources::table;

/// Which node is to lead.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveLeaderRequest {
    /// A node with a copy that votes.
    pub to: NodeId,
}

/// Which copy goes where.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveReplicaRequest {
    /// The node with the copy that goes.
    pub from: NodeId,
    /// The node that gets one.
    pub to: NodeId,
}

/// Where a range is split.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRequest {
    /// The first hash of the upper part; none for the middle.
    #[serde(default)]
    pub at: Option<u32>,
}

pub(super) async fn list(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    ok(&plane.range_list(&tenant, &table).await?)
}

pub(super) async fn show(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    ok(&plane.range_show(&tenant, &table, call.parameter("range")?).await?)
}

pub(super) async fn move_leader(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    let asked: MoveLeaderRequest = call.body()?;
    plane.range_lead(&call.caller, &tenant, &table, call.parameter("range")?, asked.to).await?;
    nothing()
}

pub(super) async fn move_replica(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    let asked: MoveReplicaRequest = call.body()?;
    plane.range_move(&call.caller, &tenant, &table, call.parameter("range")?, asked.from, asked.to).await?;
    nothing()
}

pub(super) async fn split(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    let asked: SplitRequest = call.body()?;
    ok(&plane.range_split(&call.caller, &tenant, &table, call.parameter("range")?, asked.at).await?)
}

pub(super) async fn upgrade_status(plane: &ControlPlane, _call: AdminCall) -> Answer {
    ok(&plane.upgrade_status().await?)
}

pub(super) async fn upgrade_finish(plane: &ControlPlane, call: AdminCall) -> Answer {
    ok(&plane.upgrade_finish(&call.caller).await?)
}
