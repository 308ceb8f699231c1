//! The admin API, `/admin/v1/…`: everything that control can do, as JSON over HTTP. Its own listener, in a
//! network that no client reaches; the client listener answers 404 for these paths.
//!
//! Every route but none needs a bearer token of a principal of the whole cluster. Secrets are answered once, where
//! they are made (invitations, access keys, tokens); no route reads one back, and none shows a byte of a
//! key. What needs the control key itself (`init`, `recovery`) is no route: it runs on control's own machine.
//!
//! | file | routes |
//! |---|---|
//! | `routes.rs` | the table |
//! | `resources.rs` | status, tenants, tables, ranges, history, notices |
//! | `members.rs` | invitations, nodes, proxies, reporters, keys |
//! | `access.rs` | principals, access keys, tokens |

mod access;
mod members;
mod resources;
mod routes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::auth::{self, Need};
use super::calls;
use crate::services::control::ControlPlane;
use crate::services::ports::{Authenticator, Caller};

pub use access::{AccessKeyAnswer, TokenAnswer, TokenRequest};
pub use members::{InvitationAnswer, InvitationRequest, NodeStatusRequest};
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
            let admit = async |need: &Need, request: &HttpRequest, _: &[(&'static str, String)]| {
                let caller = auth::authenticate(&*state.authenticator, request).await?;
                auth::authorise(&caller, *need, None)?;
                Ok(caller)
            };
            calls::answer(ROUTES, plane, admit, request, payload).await
        })
    }
}
