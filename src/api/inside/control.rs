//! The routes that members ask of control.

use std::sync::Arc;

use super::InsideNeed;
use crate::api::auth::{Need, authorise};
use crate::api::calls::{Answer, Call, Route, nothing, ok};
use crate::domain::ids::Role;
use crate::domain::{Refusal, RefusalKind, Timestamp};
use crate::services::control::wire::{
    WireAccess, WireAddress, WireCatalogChange, WireCertificate, WireCertificateRequest, WireChange, WireKeyInUse,
    WireMade, WirePart, WireParts,
};
use crate::services::control::{ControlPlane, KeyOwner, SecretName};
use crate::services::ports::{Capability, Catalog, Creation};
use crate::services::reporting::events::EventFeed;

type InsideCall = Call<Option<KeyOwner>>;
type InsideRoute = Route<Arc<ControlPlane>, Option<KeyOwner>, InsideNeed>;

const MEMBERS: InsideNeed = InsideNeed::Roles(&[Role::Node, Role::Proxy, Role::Reporting]);
const SERVING: InsideNeed = InsideNeed::Roles(&[Role::Node, Role::Proxy]);
const REPORTING: InsideNeed = InsideNeed::Roles(&[Role::Reporting]);

macro_rules! route {
    ($method:literal $path:literal $need:expr => $handler:ident) => {
        route!($method $path [], $need => $handler)
    };
    ($method:literal $path:literal $query:expr, $need:expr => $handler:ident) => {
        InsideRoute {
            method: $method,
            path: concat!("/inside/v1/", $path),
            need: $need,
            query: &$query,
            handler: |plane, call| Box::pin(async move { $handler(&plane, call).await }),
        }
    };
}

/// All routes.
pub static CONTROL_ROUTES: &[InsideRoute] = &[
    route!("POST" "join" InsideNeed::Anybody => join),
    route!("GET" "key-parts" MEMBERS => key_parts),
    route!("GET" "tenant-key/{tenant}" InsideNeed::Roles(&[Role::Node]) => tenant_key),
    route!("POST" "key-in-use" MEMBERS => key_in_use),
    route!("POST" "certificate" MEMBERS => certificate),
    route!("GET" "access" SERVING => access),
    route!("GET" "log-level" MEMBERS => log_level),
    route!("POST" "catalog" SERVING => catalog),
    route!("GET" "members" REPORTING => members),
    route!("POST" "address" REPORTING => address),
    route!("GET" "events" ["after"], REPORTING => events),
];

fn peer(call: &InsideCall) -> Result<KeyOwner, Refusal> {
    call.caller.ok_or_else(|| Refusal::new(RefusalKind::Unauthenticated, "this is for members of the cluster"))
}

async fn join(plane: &ControlPlane, call: InsideCall) -> Answer {
    Ok((201, ok(&plane.join(call.body()?).await?)?.1))
}

async fn key_parts(plane: &ControlPlane, call: InsideCall) -> Answer {
    ok(&WireParts::new(&plane.key_parts(peer(&call)?).await?))
}

async fn tenant_key(plane: &ControlPlane, call: InsideCall) -> Answer {
    let parts = plane.tenant_key_parts(peer(&call)?, call.parameter("tenant")?).await?;
    ok(&parts.iter().map(WirePart::new).collect::<Vec<_>>())
}

async fn key_in_use(plane: &ControlPlane, call: InsideCall) -> Answer {
    let said: WireKeyInUse = call.body()?;
    let name = SecretName::from_parts(&said.kind, said.owner)
        .ok_or_else(|| Refusal::bad_input("there is no key of that kind and owner"))?;
    ok(&plane.key_in_use(peer(&call)?, name, said.version_min).await?)
}

async fn certificate(plane: &ControlPlane, call: InsideCall) -> Answer {
    let asked: WireCertificateRequest = call.body()?;
    let certificate_pem = plane.certificate_renew(peer(&call)?, &asked.certificate_request_pem).await?;
    ok(&WireCertificate { certificate_pem })
}

async fn access(plane: &ControlPlane, call: InsideCall) -> Answer {
    ok(&WireAccess::new(&plane.access_for(peer(&call)?).await?))
}

async fn members(plane: &ControlPlane, call: InsideCall) -> Answer {
    ok(&plane.inside_members(peer(&call)?).await?)
}

async fn log_level(plane: &ControlPlane, call: InsideCall) -> Answer {
    plane.member_confirm(peer(&call)?).await?;
    ok(&plane.log_level().await?)
}

async fn address(plane: &ControlPlane, call: InsideCall) -> Answer {
    let WireAddress { inside_url } = call.body()?;
    plane.member_address_set(peer(&call)?, inside_url).await?;
    nothing()
}

async fn events(plane: &ControlPlane, call: InsideCall) -> Answer {
    plane.member_confirm(peer(&call)?).await?;
    ok(&plane.events_since(Timestamp(call.query_parsed("after")?.unwrap_or(0))).await?)
}

async fn catalog(plane: &ControlPlane, call: InsideCall) -> Answer {
    plane.member_confirm(peer(&call)?).await?;
    let asked: WireChange = call.body()?;
    let caller = plane.caller(asked.principal).await?;
    let need = match &asked.change {
        WireCatalogChange::CreateTenant | WireCatalogChange::DeleteTenant { .. } => Need::Root,
        _ => Need::AnyOf(&[Capability::Admin]),
    };
    authorise(&caller, need, Some(asked.tenant.as_str()))?;
    let tenant = &asked.tenant;
    if let (Some((own, _)), Some(there)) = (&caller.tenant, plane.tenant(tenant))
        && *own != there.id
    {
        return Err(crate::api::auth::no_tenant(tenant.as_str()));
    }
    match asked.change {
        WireCatalogChange::CreateTenant => {
            let (made, creation) = plane.create_tenant(&caller, tenant).await?;
            ok(&WireMade { created: creation == Creation::Created, made })
        }
        WireCatalogChange::DeleteTenant { recursive } => {
            plane.delete_tenant(&caller, tenant, recursive).await?;
            nothing()
        }
        WireCatalogChange::CreateTable { table, specification } => {
            let (made, creation) = plane.create_table(&caller, tenant, &table, specification).await?;
            ok(&WireMade { created: creation == Creation::Created, made })
        }
        WireCatalogChange::ChangeTable { table, change } => {
            let made = plane.change_table(&caller, tenant, &table, change).await?;
            ok(&WireMade { created: false, made })
        }
        WireCatalogChange::DeleteTable { table } => {
            plane.delete_table(&caller, tenant, &table).await?;
            nothing()
        }
    }
}
