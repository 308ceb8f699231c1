//! Invitations, nodes, proxies, reporters, and keys (never their bytes).

use serde::{Deserialize, Serialize};

use crate::api::calls::{Answer, nothing, ok};
use crate::coordination::values::NodeStatus;
use crate::domain::ids::{NodeId, Role};
use crate::domain::{Refusal, Timestamp};
use crate::services::control::{ControlPlane, RemoveNode, SecretName};

use super::AdminCall;

/// Whom to invite.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvitationRequest {
    /// `node`, `proxy` or `reporting`.
    pub role: Role,
    /// The name that it will have.
    #[serde(default)]
    pub name: Option<String>,
    /// How long the token is good, in seconds.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// An invitation, shown once.
#[derive(Serialize, Deserialize)]
pub struct InvitationAnswer {
    /// The token.
    pub token: String,
    /// What it lets in.
    pub role: Role,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What a node is said to be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStatusRequest {
    /// `okay`, `draining` or `down`.
    pub status: NodeStatus,
}

pub(super) async fn invite(plane: &ControlPlane, call: AdminCall) -> Answer {
    let asked: InvitationRequest = call.body()?;
    let made = plane.invite(&call.caller, asked.role, asked.name, asked.seconds).await?;
    let answer =
        InvitationAnswer { token: made.token.as_str().to_owned(), role: made.role, expires_at: made.expires_at };
    Ok((201, ok(&answer)?.1))
}

pub(super) async fn node_list(plane: &ControlPlane, _call: AdminCall) -> Answer {
    ok(&plane.node_list().await?)
}

pub(super) async fn node_show(plane: &ControlPlane, call: AdminCall) -> Answer {
    let id: NodeId = call.parameter("node")?;
    let found = plane.node_list().await?.into_iter().find(|node| node.id == id);
    let found = found.ok_or_else(|| Refusal::not_found(format!("there is no node {id}")))?;
    let held = plane.node_ranges(id).await?;
    let mut json = ok(&found)?.1;
    json["leads_shared"] = plane.node_leads_shared(id).await?.into();
    if found.status == NodeStatus::Draining {
        json["stuck"] = plane.node_stuck(id).await?.into();
    }
    json["held"] = held.iter().map(|(tenant, table, low)| format!("{tenant}/{table}/{low:010}")).collect();
    Ok((200, json))
}

pub(super) async fn node_status(plane: &ControlPlane, call: AdminCall) -> Answer {
    let asked: NodeStatusRequest = call.body()?;
    plane.node_status_set(&call.caller, call.parameter("node")?, asked.status).await?;
    nothing()
}

pub(super) async fn node_drain(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.node_drain(&call.caller, call.parameter("node")?).await?;
    nothing()
}

pub(super) async fn node_hand_over(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.node_hand_over(&call.caller, call.parameter("node")?).await?;
    nothing()
}

pub(super) async fn node_remove(plane: &ControlPlane, call: AdminCall) -> Answer {
    let how: RemoveNode = call.body()?;
    plane.node_remove(&call.caller, call.parameter("node")?, how).await?;
    nothing()
}

pub(super) async fn proxy_list(plane: &ControlPlane, _call: AdminCall) -> Answer {
    ok(&plane.member_list(Role::Proxy).await?)
}

pub(super) async fn proxy_remove(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.member_remove(&call.caller, Role::Proxy, call.parameter("id")?).await?;
    nothing()
}

pub(super) async fn reporter_list(plane: &ControlPlane, _call: AdminCall) -> Answer {
    ok(&plane.member_list(Role::Reporting).await?)
}

pub(super) async fn reporter_remove(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.member_remove(&call.caller, Role::Reporting, call.parameter("id")?).await?;
    nothing()
}

pub(super) async fn key_list(plane: &ControlPlane, _call: AdminCall) -> Answer {
    ok(&plane.key_list().await?)
}

pub(super) async fn key_rotate(plane: &ControlPlane, call: AdminCall) -> Answer {
    let name = SecretName::from_parts(call.text("kind"), call.query_parsed("owner")?).ok_or_else(|| {
        Refusal::bad_input("name a kind (token, node, proxy, reporting, tenant) and, but for token, its owner")
    })?;
    let version = plane.key_rotate(&call.caller, name).await?;
    ok(&serde_json::json!({ "version": version }))
}
