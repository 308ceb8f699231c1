//! Who may ask what of the admin API, decided here and nowhere else, before a handler runs.
//!
//! | who | its own tenant's resources | another tenant's, or none's | the cluster's |
//! |---|---|---|---|
//! | root | everything | everything | everything |
//! | principal of a tenant with `admin` | yes | 404 | 403 |
//! | any other principal of a tenant | 403 | 404 where the path names the tenant, else 403 | 403 |
//! | no valid credential | 401 | 401 | 401 |
//!
//! A tenant's resources are its tables with their ranges and histories, its principals, and their access keys and
//! tokens. The tenant itself is made and removed by root. What is of another tenant is refused in the words for what
//! is not there, so that nobody learns what others have.
//!
//! A principal passes on what it has, never more: the capabilities of a principal that it makes, or makes a token or an
//! access key for, are among its own. So an admin that may not read makes no reader and becomes none.
//!
//! Some routes name what they are about in the query or the body. [`admit`] looks at the path before anything else is
//! read, [`permit`] at the rest; both run in front of every handler. Lists are not refused but cut to what is the
//! caller's ([`Seen`]).

use std::collections::BTreeSet;

use crate::api::auth::{self, Need};
use crate::domain::ids::{PrincipalId, SessionId, TenantId};
use crate::domain::{Refusal, RefusalKind, TenantName};
use crate::services::control::records::PrincipalRecord;
use crate::services::control::{ControlPlane, PrincipalRequest, no_access_key, no_history, no_principal, no_session};
use crate::services::ports::{Caller, Capability, Catalog};

use super::AdminCall;
use super::access::Beneficiary;

/// Who may ask a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminNeed {
    /// A principal of the whole cluster.
    Root,
    /// Root, or an admin of the tenant that owns the target.
    Admin(Target),
}

/// By what a route tells whose resource it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing: it answers with what is the caller's.
    Own,
    /// The tenant in the path.
    Tenant,
    /// The tenant in the query; none is the caller's own.
    QueriedTenant,
    /// The principal in the path.
    Principal,
    /// The principal in the query; none is all of the caller's own.
    QueriedPrincipal,
    /// The principal that the body describes, which is to be made.
    NewPrincipal,
    /// The principal that the body names, which is to get a credential.
    Grant,
    /// The access key in the path.
    AccessKey,
    /// The session in the path.
    Session,
    /// The resource in the query.
    Resource,
}

/// Checks what can be told by the path alone.
///
/// # Errors
/// `NotFound` for another tenant's path, else `Denied`.
pub fn admit(caller: &Caller, need: AdminNeed, tenant: Option<&str>) -> Result<(), Refusal> {
    let need = match need {
        AdminNeed::Root => Need::Root,
        AdminNeed::Admin(_) => Need::AnyOf(&[Capability::Admin]),
    };
    auth::authorise(caller, need, tenant)
}

/// Checks what query and body name, after [`admit`].
///
/// # Errors
/// `NotFound` for what is another tenant's, `Denied` for what is the cluster's or would grant more than the caller
/// has.
pub(super) async fn permit(plane: &ControlPlane, need: AdminNeed, call: &AdminCall) -> Result<(), Refusal> {
    let (AdminNeed::Admin(target), Some((own, name))) = (need, &call.caller.tenant) else { return Ok(()) };
    let own = *own;
    match target {
        Target::Own => Ok(()),
        Target::Tenant => match plane.tenant(name) {
            Some(there) => auth::own_tenant(&call.caller, there.id, name.as_str()),
            None => Err(auth::no_tenant(name.as_str())),
        },
        Target::QueriedTenant => match call.query("tenant") {
            Some(asked) if asked != name.as_str() => Err(auth::no_tenant(asked)),
            _ => Ok(()),
        },
        Target::Principal => principal(plane, own, call.parameter("principal")?).await.map(drop),
        Target::QueriedPrincipal => match call.query_parsed("principal")? {
            Some(id) => principal(plane, own, id).await.map(drop),
            None => Ok(()),
        },
        Target::NewPrincipal => new_principal(&call.caller, name, &call.body()?),
        Target::Grant => {
            let asked: Beneficiary = call.body()?;
            let owner = principal(plane, own, asked.principal).await?;
            passes_on(&call.caller, &owner.capabilities)
        }
        Target::AccessKey => access_key(plane, own, call.text("id")).await,
        Target::Session => session(plane, own, call.parameter("session")?).await,
        Target::Resource => match call.query("resource") {
            Some(resource) => self::resource(plane, own, name, resource).await,
            None => Ok(()),
        },
    }
}

/// A principal of this tenant; any other is not there.
async fn principal(plane: &ControlPlane, own: TenantId, id: PrincipalId) -> Result<PrincipalRecord, Refusal> {
    let record = plane.principal(id).await?;
    match &record.tenant {
        Some((tenant, _)) if *tenant == own => Ok(record),
        _ => Err(no_principal(id)),
    }
}

fn new_principal(caller: &Caller, own: &TenantName, asked: &PrincipalRequest) -> Result<(), Refusal> {
    match &asked.tenant {
        Some(tenant) if tenant == own => passes_on(caller, &asked.capabilities),
        Some(tenant) => Err(auth::no_tenant(tenant.as_str())),
        None => Err(denied("only a principal of the whole cluster makes another; name your tenant".to_owned())),
    }
}

/// That the caller has all of these itself.
fn passes_on(caller: &Caller, granted: &[Capability]) -> Result<(), Refusal> {
    match granted.iter().find(|capability| !caller.capabilities.contains(capability)) {
        Some(more) => Err(denied(format!(
            "a principal passes on what it has, never more; this one does not have {}",
            auth::capability_name(*more)
        ))),
        None => Ok(()),
    }
}

async fn access_key(plane: &ControlPlane, own: TenantId, id: &str) -> Result<(), Refusal> {
    let keys = plane.access_key_list(None).await?;
    let key = keys.iter().find(|key| key.access_key_id == id).ok_or_else(|| no_access_key(id))?;
    principal(plane, own, key.principal).await.map(drop).map_err(|refusal| hidden(refusal, || no_access_key(id)))
}

async fn session(plane: &ControlPlane, own: TenantId, id: SessionId) -> Result<(), Refusal> {
    let found = plane.session(id).await?;
    principal(plane, own, found.principal).await.map(drop).map_err(|refusal| hidden(refusal, || no_session(id)))
}

/// What has a history: by its first part, the tenant in its second, or the principal that the history itself names.
async fn resource(plane: &ControlPlane, own: TenantId, name: &TenantName, resource: &str) -> Result<(), Refusal> {
    let missing = || no_history(resource);
    let (kind, rest) = resource.split_once('/').unwrap_or((resource, ""));
    match kind {
        "tenant" | "table" => match rest.split('/').next() {
            Some(tenant) if tenant == name.as_str() => Ok(()),
            _ => Err(missing()),
        },
        "principal" => match rest.split('/').next() {
            Some(tenant) if tenant == name.as_str() => Ok(()),
            Some("-") => Err(clusters()),
            _ => Err(missing()),
        },
        "token" | "access-key" => {
            let newest = plane.history(resource, None, 1).await?.versions;
            let named = |value: &Option<serde_json::Value>| value.as_ref()?["principal"].as_str()?.parse().ok();
            let id = newest.first().and_then(|version| named(&version.after).or_else(|| named(&version.before)));
            let id: PrincipalId = id.ok_or_else(missing)?;
            principal(plane, own, id).await.map(drop).map_err(|refusal| hidden(refusal, missing))
        }
        _ => Err(clusters()),
    }
}

/// What is not there is told in the words of the route; everything else as it is.
fn hidden(refusal: Refusal, missing: impl FnOnce() -> Refusal) -> Refusal {
    if refusal.kind == RefusalKind::NotFound { missing() } else { refusal }
}

fn clusters() -> Refusal {
    denied("this is of the whole cluster; only a principal of the whole cluster may see it".to_owned())
}

fn denied(message: String) -> Refusal {
    Refusal::new(RefusalKind::Denied, message)
}

/// What a caller sees of a list.
pub(super) enum Seen {
    /// All of it.
    Everything,
    /// What belongs to these principals.
    Of(BTreeSet<PrincipalId>),
}

impl Seen {
    /// What this caller sees.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub(super) async fn by(plane: &ControlPlane, caller: &Caller) -> Result<Self, Refusal> {
        let Some((own, _)) = caller.tenant.as_ref() else { return Ok(Seen::Everything) };
        let principals = plane.principal_list(None).await?;
        let of_tenant = principals.into_iter().filter(|record| record.tenant.as_ref().is_some_and(|(id, _)| id == own));
        Ok(Seen::Of(of_tenant.map(|record| record.id).collect()))
    }

    /// Whether what belongs to this principal is seen.
    pub(super) fn has(&self, principal: PrincipalId) -> bool {
        match self {
            Seen::Everything => true,
            Seen::Of(principals) => principals.contains(&principal),
        }
    }
}
