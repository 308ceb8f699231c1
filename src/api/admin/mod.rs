//! The admin API, `/admin/v1/…`: everything that control can do, as JSON over HTTP. Its own listener, in a
//! network that no client reaches; the client listener answers 404 for these paths.
//!
//! Every route needs a bearer token. A principal of the whole cluster may ask all of them, an admin of a tenant those
//! about its tenant's own resources (`permissions.rs`). Secrets are answered once, where they are made (invitations,
//! access keys, tokens); no route reads one back, and none shows a byte of a key. What needs the control key itself
//! (`init`, `recovery`) is no route: it runs on control's own machine.
//!
//! | file | routes |
//! |---|---|
//! | `routes.rs` | the table |
//! | `permissions.rs` | (none) who may ask them |
//! | `resources.rs` | status, tenants, tables, history, notices |
//! | `ranges.rs` | ranges, and upgrades of the formats |
//! | `members.rs` | invitations, nodes, proxies, reporters, keys |
//! | `access.rs` | principals, access keys, tokens |
//! | `log_level.rs` | how much all processes log |
//! | `usage.rs` | what was used |

mod access;
mod log_level;
mod members;
mod permissions;
mod ranges;
mod resources;
mod routes;
#[cfg(test)]
mod tests;
mod usage;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::auth;
use super::calls;
use crate::services::control::ControlPlane;
use crate::services::ports::{Authenticator, Caller};

pub use access::{AccessKeyAnswer, TokenAnswer, TokenRequest};
pub use log_level::LogLevelRequest;
pub use members::{InvitationAnswer, InvitationRequest, NodeStatusRequest};
pub use permissions::{AdminNeed, Target};
pub use ranges::{MoveLeaderRequest, MoveReplicaRequest, SplitRequest};
pub use resources::{StatusAnswer, UndeleteRequest};
pub use routes::ROUTES;

/// What the admin API stands on.
pub struct AdminState {
    /// The control plane.
    pub plane: Arc<ControlPlane>,
    /// Who is asking.
    pub authenticator: Arc<dyn Authenticator>,
}

/// A request to this API that has been let in.
pub(super) type AdminCall = calls::Call<Arc<Caller>>;

/// The function that answers requests, for [`crate::api::server::start`].
pub fn surface(
    state: Arc<AdminState>,
) -> impl Fn(HttpRequest, Payload) -> Pin<Box<dyn Future<Output = HttpResponse>>> + Clone {
    move |request, payload| {
        let state = state.clone();
        Box::pin(async move {
            let plane = state.plane.clone();
            let admit = async |need: &AdminNeed, request: &HttpRequest, given: &[(&'static str, String)]| {
                let caller = auth::authenticate(&*state.authenticator, request).await?;
                let tenant = given.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value.as_str());
                permissions::admit(&caller, *need, tenant)?;
                Ok(caller)
            };
            let permit = async |plane: &Arc<ControlPlane>, need: &AdminNeed, call: &AdminCall| {
                permissions::permit(plane, *need, call).await
            };
            calls::answer_permitted(ROUTES, plane, admit, permit, request, payload).await
        })
    }
}
