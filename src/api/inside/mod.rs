//! The inside API, `/inside/v1/…`: what members ask of control ([`control_surface`]), and of a node
//! ([`node_surface`]), and reporting of nodes and proxies ([`usage_surface`]), over mutual TLS.
//!
//! Who is asking is who the certificate names; no header and no body can say otherwise. Each route lists the
//! roles that may ask it, and services check further that a peer asks for its own. `join` alone is open to one
//! without a certificate: it needs an invitation.

mod control;
mod frames;
mod node;
mod reporting;
mod usage;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::calls;
use super::server::Peer;
use crate::domain::ids::{PlaneId, Role};
use crate::domain::{Refusal, RefusalKind};
use crate::services::control::{ControlPlane, KeyOwner};
use crate::transport::pki::PeerIdentity;

pub use control::CONTROL_ROUTES;
pub use frames::FRAMES_NEED;
pub use node::{NODE_ROUTES, NodeInside, RANGE_NEED, node_surface};
pub use reporting::{REPORTING_ROUTES, reporting_surface};
pub use usage::{USAGE_PATH, USAGE_ROUTES, usage_surface};

/// Who may ask a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsideNeed {
    /// Anybody, also without a certificate.
    Anybody,
    /// A peer of one of these roles.
    Roles(&'static [Role]),
}

/// The peer of this request, as its certificate names it.
///
/// # Errors
/// `Unauthenticated` without a certificate, `Denied` for one of another control plane.
pub fn peer_of(request: &HttpRequest, plane: PlaneId) -> Result<PeerIdentity, Refusal> {
    let Peer(peer) = request.conn_data::<Peer>().ok_or_else(|| {
        Refusal::new(RefusalKind::Unauthenticated, "this is for members of the cluster, who show a certificate")
    })?;
    let denied = |message: &str| Refusal::new(RefusalKind::Denied, message);
    let peer = peer.ok_or_else(|| denied("the certificate names no member"))?;
    if peer.plane == plane { Ok(peer) } else { Err(denied("the certificate is of another control plane")) }
}

/// Checks that a peer may ask a route.
///
/// # Errors
/// `Denied` where its role is none of those needed.
pub fn admit(need: InsideNeed, peer: Result<PeerIdentity, Refusal>) -> Result<Option<KeyOwner>, Refusal> {
    match need {
        InsideNeed::Anybody => Ok(None),
        InsideNeed::Roles(roles) => {
            let peer = peer?;
            if !roles.contains(&peer.role) {
                return Err(Refusal::new(RefusalKind::Denied, format!("this is not for the role {}", peer.role)));
            }
            Ok(Some(KeyOwner { role: peer.role, id: peer.id }))
        }
    }
}

/// The function that answers control's inside requests, for [`crate::api::server::start`].
pub fn control_surface(
    plane: Arc<ControlPlane>,
) -> impl Fn(HttpRequest, Payload) -> Pin<Box<dyn Future<Output = HttpResponse>>> + Clone {
    move |request, payload| {
        let plane = plane.clone();
        Box::pin(async move {
            let id = plane.plane();
            let admit = async |need: &InsideNeed, request: &HttpRequest, _: &[(&'static str, String)]| {
                admit(*need, peer_of(request, id))
            };
            calls::answer(CONTROL_ROUTES, plane, admit, request, payload).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::ranges::wire::RANGE_PATH;
    use crate::transport::frame_client::FRAMES_PATH;
    use uuid::Uuid;

    const ROLES: [Role; 4] = [Role::Control, Role::Node, Role::Proxy, Role::Reporting];

    /// Who may ask what: a changed line here is a changed permission.
    #[test]
    fn the_permissions_are_pinned() {
        let mut table = String::new();
        let bodies = [("POST", RANGE_PATH, RANGE_NEED), ("POST", FRAMES_PATH, FRAMES_NEED)];
        let control = CONTROL_ROUTES.iter().map(|route| (route.method, route.path, route.need));
        let node = NODE_ROUTES.iter().map(|route| (route.method, route.path, route.need)).chain(bodies);
        let usage = USAGE_ROUTES.iter().map(|route| (route.method, route.path, route.need));
        let reporting = REPORTING_ROUTES.iter().map(|route| (route.method, route.path, route.need));
        let routes = control.chain(node).chain(usage).chain(reporting);
        for (method, path, need) in routes {
            let let_in = |role: Role| {
                let peer = PeerIdentity { plane: PlaneId::from_bytes([1; 16]), role, id: Uuid::from_bytes([2; 16]) };
                admit(need, Ok(peer)).is_ok()
            };
            let roles: Vec<String> =
                ROLES.into_iter().filter(|role| let_in(*role)).map(|role| role.to_string()).collect();
            let nobody = admit(need, Err(Refusal::new(RefusalKind::Unauthenticated, ""))).is_ok();
            let nobody = if nobody { " nobody" } else { "" };
            table.push_str(&format!("{} {}: {}{nobody}\n", method, path, roles.join(" ")));
        }
        let expected = "\
            POST /inside/v1/join: control node proxy reporting nobody\n\
            GET /inside/v1/key-parts: node proxy reporting\n\
            GET /inside/v1/tenant-key/{tenant}: node\n\
            POST /inside/v1/key-in-use: node proxy reporting\n\
            POST /inside/v1/certificate: node proxy reporting\n\
            GET /inside/v1/access: node proxy\n\
            GET /inside/v1/log-level: node proxy reporting\n\
            POST /inside/v1/catalog: node proxy\n\
            GET /inside/v1/members: reporting\n\
            POST /inside/v1/address: reporting\n\
            GET /inside/v1/events: reporting\n\
            GET /inside/v1/table/{table}/range: control\n\
            POST /inside/v1/range: node proxy\n\
            POST /inside/v1/frames: node\n\
            POST /inside/v1/usage: reporting\n\
            GET /inside/v1/usage: control\n";
        assert_eq!(table, expected);
    }
}
