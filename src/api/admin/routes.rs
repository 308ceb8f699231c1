//! The table of the admin API. Who may ask stands beside each route; `permissions.rs` says what it means.

use std::sync::Arc;

use crate::api::calls::Route;
use crate::services::control::ControlPlane;
use crate::services::ports::Caller;

use super::permissions::{AdminNeed, AdminNeed::Admin, AdminNeed::Root, Target};
use super::{access, log_level, members, ranges, resources, usage};

pub(super) type AdminRoute = Route<Arc<ControlPlane>, Arc<Caller>, AdminNeed>;

macro_rules! route {
    ($method:literal $path:literal $query:expr, $need:expr => $($handler:ident)::+) => {
        AdminRoute {
            method: $method,
            path: concat!("/admin/v1/", $path),
            need: $need,
            query: &$query,
            handler: |plane, call| Box::pin(async move { $($handler)::+(&plane, call).await }),
        }
    };
}

/// All routes.
pub static ROUTES: &[AdminRoute] = &[
    route!("GET" "status" [], Root => resources::status),
    route!("GET" "tenant" ["after", "limit"], Admin(Target::Own) => resources::tenant_list),
    route!("GET" "tenant/{tenant}" [], Admin(Target::Tenant) => resources::tenant_show),
    route!("PUT" "tenant/{tenant}" [], Root => resources::tenant_create),
    route!("POST" "tenant/{tenant}" [], Root => resources::tenant_limits),
    route!("DELETE" "tenant/{tenant}" ["recursive"], Root => resources::tenant_delete),
    route!("GET" "tenant/{tenant}/table" ["after", "limit"], Admin(Target::Tenant) => resources::table_list),
    route!("GET" "tenant/{tenant}/deleted-table" [], Admin(Target::Tenant) => resources::deleted_table_list),
    route!("GET" "tenant/{tenant}/table/{table}" [], Admin(Target::Tenant) => resources::table_show),
    route!("PUT" "tenant/{tenant}/table/{table}" [], Admin(Target::Tenant) => resources::table_create),
    route!("POST" "tenant/{tenant}/table/{table}" [], Admin(Target::Tenant) => resources::table_change),
    route!("DELETE" "tenant/{tenant}/table/{table}" [], Admin(Target::Tenant) => resources::table_delete),
    route!("POST" "tenant/{tenant}/table/{table}/undelete" [], Admin(Target::Tenant) => resources::table_undelete),
    route!("GET" "tenant/{tenant}/table/{table}/range" [], Admin(Target::Tenant) => ranges::list),
    route!("GET" "tenant/{tenant}/table/{table}/range/{range}" [], Admin(Target::Tenant) => ranges::show),
    route!("POST" "tenant/{tenant}/table/{table}/range/{range}/move-leader" [], Root => ranges::move_leader),
    route!("POST" "tenant/{tenant}/table/{table}/range/{range}/move-replica" [], Root => ranges::move_replica),
    route!("POST" "tenant/{tenant}/table/{table}/range/{range}/split" [], Root => ranges::split),
    route!("GET" "history" ["resource", "before", "limit"], Admin(Target::Resource) => resources::history),
    route!("GET" "notice" ["component"], Root => resources::notice_list),
    route!("POST" "notice/{component}/acknowledge" ["up_to"], Root => resources::notice_acknowledge),
    route!("GET" "usage" ["tenant", "table", "from", "to", "last", "step", "by"], Admin(Target::QueriedTenant) => usage::usage),
    route!("POST" "invitation" [], Root => members::invite),
    route!("GET" "node" [], Root => members::node_list),
    route!("GET" "node/{node}" [], Root => members::node_show),
    route!("POST" "node/{node}/status" [], Root => members::node_status),
    route!("POST" "node/{node}/drain" [], Root => members::node_drain),
    route!("POST" "node/{node}/hand-over" [], Root => members::node_hand_over),
    route!("DELETE" "node/{node}" [], Root => members::node_remove),
    route!("GET" "proxy" [], Root => members::proxy_list),
    route!("DELETE" "proxy/{id}" [], Root => members::proxy_remove),
    route!("GET" "reporter" [], Root => members::reporter_list),
    route!("DELETE" "reporter/{id}" [], Root => members::reporter_remove),
    route!("GET" "upgrade" [], Root => ranges::upgrade_status),
    route!("POST" "upgrade/finish" [], Root => ranges::upgrade_finish),
    route!("GET" "log-level" [], Root => log_level::show),
    route!("PUT" "log-level" [], Root => log_level::set),
    route!("DELETE" "log-level" [], Root => log_level::reset),
    route!("GET" "key" [], Root => members::key_list),
    route!("POST" "key/{kind}/rotate" ["owner"], Root => members::key_rotate),
    route!("GET" "principal" ["tenant"], Admin(Target::QueriedTenant) => access::principal_list),
    route!("POST" "principal" [], Admin(Target::NewPrincipal) => access::principal_create),
    route!("DELETE" "principal/{principal}" [], Admin(Target::Principal) => access::principal_revoke),
    route!("GET" "access-key" ["principal"], Admin(Target::QueriedPrincipal) => access::access_key_list),
    route!("POST" "access-key" [], Admin(Target::Grant) => access::access_key_create),
    route!("DELETE" "access-key/{id}" [], Admin(Target::AccessKey) => access::access_key_revoke),
    route!("GET" "token" ["principal"], Admin(Target::QueriedPrincipal) => access::token_list),
    route!("POST" "token" [], Admin(Target::Grant) => access::token_create),
    route!("DELETE" "token/{session}" [], Admin(Target::Session) => access::token_revoke),
];
