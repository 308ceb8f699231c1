//! Principals, access keys and tokens. A secret is answered once, by the route that makes it.

use serde::{Deserialize, Serialize};

use crate::api::calls::{Answer, nothing, ok};
use crate::domain::TenantName;
use crate::domain::ids::PrincipalId;
use crate::services::control::records::SessionRecord;
use crate::services::control::{ControlPlane, PrincipalRequest, SessionStart};

use super::AdminCall;
use super::permissions::Seen;

/// Who is to get a credential, whatever else a body says; what it says beyond is the handler's to check.
#[derive(Debug, Deserialize)]
pub(super) struct Beneficiary {
    /// The principal.
    pub(super) principal: PrincipalId,
}

/// An access key, shown once.
#[derive(Serialize, Deserialize)]
pub struct AccessKeyAnswer {
    /// The public part.
    pub access_key_id: String,
    /// The secret part.
    pub secret_access_key: String,
}

/// Whose access key to make.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessKeyRequest {
    principal: PrincipalId,
}

/// Whose token to make, and for how long.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The principal.
    pub principal: PrincipalId,
    /// What it is for.
    #[serde(default)]
    pub note: String,
    /// How long it is good, in seconds.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// A token, shown once.
#[derive(Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The token.
    pub token: String,
    /// Its session.
    #[serde(flatten)]
    pub session: SessionRecord,
}

pub(super) async fn principal_list(plane: &ControlPlane, call: AdminCall) -> Answer {
    let tenant = call.query("tenant").map(TenantName::new).transpose()?;
    let seen = Seen::by(plane, &call.caller).await?;
    let mut principals = plane.principal_list(tenant.as_ref()).await?;
    principals.retain(|principal| seen.has(principal.id));
    ok(&principals)
}

pub(super) async fn principal_create(plane: &ControlPlane, call: AdminCall) -> Answer {
    let asked: PrincipalRequest = call.body()?;
    let made = plane.principal_create(&call.caller, asked).await?;
    Ok((201, ok(&made)?.1))
}

pub(super) async fn principal_revoke(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.principal_revoke(&call.caller, call.parameter("principal")?).await?;
    nothing()
}

pub(super) async fn access_key_list(plane: &ControlPlane, call: AdminCall) -> Answer {
    let seen = Seen::by(plane, &call.caller).await?;
    let keys = plane.access_key_list(call.query_parsed("principal")?).await?;
    let shown = keys.iter().filter(|key| seen.has(key.principal)).map(|key| {
        serde_json::json!({
            "access_key_id": key.access_key_id,
            "principal": key.principal,
            "created_at": key.created_at,
            "revoked_at": key.revoked_at,
        })
    });
    ok(&shown.collect::<Vec<_>>())
}

pub(super) async fn access_key_create(plane: &ControlPlane, call: AdminCall) -> Answer {
    let asked: AccessKeyRequest = call.body()?;
    let made = plane.access_key_create(&call.caller, asked.principal).await?;
    let answer = AccessKeyAnswer {
        access_key_id: made.access_key_id,
        secret_access_key: made.secret_access_key.as_str().to_owned(),
    };
    Ok((201, ok(&answer)?.1))
}

pub(super) async fn access_key_revoke(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.access_key_revoke(&call.caller, call.text("id")).await?;
    nothing()
}

pub(super) async fn token_list(plane: &ControlPlane, call: AdminCall) -> Answer {
    let seen = Seen::by(plane, &call.caller).await?;
    let mut sessions = plane.session_list(call.query_parsed("principal")?).await?;
    sessions.retain(|session| seen.has(session.principal));
    ok(&sessions)
}

pub(super) async fn token_create(plane: &ControlPlane, call: AdminCall) -> Answer {
    let asked: TokenRequest = call.body()?;
    let start = SessionStart { note: asked.note, seconds: asked.seconds };
    let made = plane.session_start(&call.caller, asked.principal, start).await?;
    let answer = TokenAnswer { token: made.token.as_str().to_owned(), session: made.session };
    Ok((201, ok(&answer)?.1))
}

pub(super) async fn token_revoke(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.session_revoke(&call.caller, call.parameter("session")?).await?;
    nothing()
}
