//! The table of the admin API.

use std::sync::Arc;

use crate::api::auth::Need;
use crate::api::calls::Route;
use crate::services::control::ControlPlane;
use crate::services::ports::Caller;

use super::{access, members, resources};

type AdminRoute = Route<Arc<ControlPlane>, Arc<Caller>, Need>;

macro_rules! route {
    ($method:literal $path:literal $query:expr => $($handler:ident)::+) => {
        AdminRoute {
            method: $method,
            path: concat!("/admin/v1/", $path),
            need: Need::Root,
            query: &$query,
            handler: |plane, call| Box::pin(async move { $($handler)::+(&plane, call).await }),
        }
    };
}

/// All routes.
pub static ROUTES: &[AdminRoute] = &[
    route!("GET" "status" [] => resources::status),
    route!("GET" "tenant" ["after", "limit"] => resources::tenant_list),
    route!("GET" "tenant/{tenant}" [] => resources::tenant_show),
    route!("PUT" "tenant/{tenant}" [] => resources::tenant_create),
    route!("DELETE" "tenant/{tenant}" ["recursive"] => resources::tenant_delete),
    route!("GET" "tenant/{tenant}/table" ["after", "limit"] => resources::table_list),
    route!("GET" "tenant/{tenant}/deleted-table" [] => resources::deleted_table_list),
    route!("GET" "tenant/{tenant}/table/{table}" [] => resources::table_show),
    route!("PUT" "tenant/{tenant}/table/{table}" [] => resources::table_create),
    route!("DELETE" "tenant/{tenant}/table/{table}" [] => resources::table_delete),
    route!("POST" "tenant/{tenant}/table/{table}/undelete" [] => resources::table_undelete),
    route!("GET" "tenant/{tenant}/table/{table}/range" [] => resources::range_list),
    route!("GET" "history" ["resource", "before", "limit"] => resources::history),
    route!("GET" "notice" ["component"] => resources::notice_list),
    route!("POST" "notice/{component}/acknowledge" ["up_to"] => resources::notice_acknowledge),
    route!("POST" "invitation" [] => members::invite),
    route!("GET" "node" [] => members::node_list),
    route!("GET" "node/{node}" [] => members::node_show),
    route!("POST" "node/{node}/status" [] => members::node_status),
    route!("DELETE" "node/{node}" [] => members::node_remove),
    route!("GET" "proxy" [] => members::proxy_list),
    route!("DELETE" "proxy/{id}" [] => members::proxy_remove),
    route!("GET" "reporter" [] => members::reporter_list),
    route!("DELETE" "reporter/{id}" [] => members::reporter_remove),
    route!("GET" "key" [] => members::key_list),
    route!("POST" "key/{kind}/rotate" ["owner"] => members::key_rotate),
    route!("GET" "principal" ["tenant"] => access::principal_list),
    route!("POST" "principal" [] => access::principal_create),
    route!("DELETE" "principal/{principal}" [] => access::principal_revoke),
    route!("GET" "access-key" ["principal"] => access::access_key_list),
    route!("POST" "access-key" [] => access::access_key_create),
    route!("DELETE" "access-key/{id}" [] => access::access_key_revoke),
    route!("GET" "token" ["principal"] => access::token_list),
    route!("POST" "token" [] => access::token_create),
    route!("DELETE" "token/{session}" [] => access::token_revoke),
];
